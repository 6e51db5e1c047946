"""Writes the blocks and their weights that the decoding of every format is held to.

The weights come from the tables of the `gguf` package, those of FP8 from `ml_dtypes` (`pip
install gguf ml_dtypes numpy`; written with gguf 0.19.0, ml_dtypes 0.6.0, numpy 2.4.6), which share
no code with the project. Blocks of 4-bit integers in groups are ours; their formula is here.

For each format `<name>.bin` holds blocks one after another, then the f32 weights of all of
them, little-endian. The test knows the number of blocks from the file's length.

`int4.json` holds linear layers as GPTQ and AWQ checkpoints pack them, and their weights.

    python make.py
"""

import json

from pathlib import Path

import ml_dtypes
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

# Formats, and where in a block its 16-bit floats start.
HALVES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}
# Zero, the least subnormal, the greatest and the least normal number, one, both signs.
EXTREMES = [0x0000, 0x8000, 0x0001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x3C00, 0xBC00]
N_RANDOM = 3
N_FLOATS = 512


def quantised_blocks(rng: np.random.Generator, name: str) -> np.ndarray:
    _, size = GGML_QUANT_SIZES[GGMLQuantizationType[name]]
    n = N_RANDOM + len(EXTREMES)
    blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for where in HALVES[name]:
        scales = rng.normal(0, 0.02, n).astype("<f2").view("<u2")
        scales[N_RANDOM:] = rng.permutation(EXTREMES)
        blocks[:, where : where + 2] = scales.view(np.uint8).reshape(n, 2)
    return blocks


def float_blocks(rng: np.random.Generator, name: str) -> np.ndarray:
    size = {"F32": 4, "F16": 2, "BF16": 2}[name]
    exponent = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}[name]
    bits = rng.integers(0, 1 << (8 * size), N_FLOATS, dtype=np.uint64)
    # Infinities are values; a NaN has no one bit pattern to compare.
    bits[(bits & exponent) == exponent] = exponent
    bits = bits.astype(f"<u{size}")
    return bits.view(np.uint8).reshape(N_FLOATS, size)


def mxfp4_blocks(rng: np.random.Generator) -> np.ndarray:
    blocks = rng.integers(0, 256, (32, 17), dtype=np.uint8)
    # The least scales (two are subnormal), one, the greatest whose weights are all finite.
    blocks[:, 0] = np.concatenate([rng.integers(100, 150, 22), [0, 1, 2, 3, 4, 126, 127, 128, 251, 252]])
    return blocks


def int4_blocks(rng: np.random.Generator, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Scale, zero point, then 16 bytes for each 32 weights: low nibbles first, then high ones."""
    n = 24
    scales = rng.normal(0, 0.02, n).astype("<f2")
    scales[:4] = [0.0, 6e-8, 65504, -65504]
    zeros = rng.integers(0, 17, n, dtype=np.uint8)
    q = rng.integers(0, 16, (n, group), dtype=np.uint8)
    q[5, :17], zeros[5], zeros[6] = 15, 0, 16
    runs = q.reshape(n, group // 32, 2, 16)
    packed = (runs[:, :, 0] | runs[:, :, 1] << 4).reshape(n, group // 2)
    blocks = np.concatenate([scales.view(np.uint8).reshape(n, 2), zeros[:, None], packed], axis=1)
    weights = scales.astype(np.float64)[:, None] * (q.astype(int) - zeros.astype(int)[:, None])
    return blocks, (weights + 0.0).astype("<f4")


def pack_eight(q: np.ndarray, order: list[int]) -> list[int]:
    """Words of the last axis, eight integers each: nibble i holds number order[i]."""
    q = q.reshape(-1, 8).astype(np.uint32)
    words = np.zeros(len(q), np.uint32)
    for place, index in enumerate(order):
        words |= q[:, index] << np.uint32(4 * place)
    return words.view(np.int32).tolist()


def int4_layers(rng: np.random.Generator) -> list[dict]:
    """Layers as AutoGPTQ and AutoAWQ store them: x · W with W [inputs, outputs]."""
    layers = []
    all_shapes = {
        "gptq": [(16, 64, 32), (8, 128, 64), (8, 256, 128), (8, 256, 256)],
        "gptq_v2": [(16, 64, 32)],
        "awq": [(16, 64, 32), (24, 128, 128)],
    }
    for packing, shapes in all_shapes.items():
        for rows, cols, group in shapes:
            in_order = list(range(8))
            order = [0, 2, 4, 6, 1, 3, 5, 7] if packing == "awq" else in_order
            scales = rng.uniform(0.001, 0.03, (cols // group, rows)).astype("<f2")
            zeros = rng.integers(0, 16, (cols // group, rows))
            q = rng.integers(0, 16, (cols, rows))
            # GPTQ packs eight inputs of an output into a word, AWQ eight outputs of an input.
            by_word = q if packing == "awq" else q.reshape(cols // 8, 8, rows).transpose(0, 2, 1)
            offset = 1 if packing == "gptq" else 0
            whole = np.repeat(zeros + offset, group, axis=0)
            weights = np.repeat(scales.astype(np.float64), group, axis=0) * (q - whole)
            layers.append(
                {
                    "packing": packing,
                    "rows": rows,
                    "cols": cols,
                    "group": group,
                    "qweight": pack_eight(by_word, order),
                    "qzeros": pack_eight(zeros, order),
                    "scales": scales.view("<u2").ravel().tolist(),
                    "weights": [float(f"{x:.9g}") for x in weights.T.astype(np.float32).ravel() + 0.0],
                }
            )
    return layers


def write(name: str, blocks: np.ndarray, weights: np.ndarray) -> None:
    assert not np.isnan(weights).any(), name
    path = Path(__file__).parent / f"{name}.bin"
    path.write_bytes(blocks.tobytes() + weights.tobytes())


def main() -> None:
    rng = np.random.default_rng(20)
    for name in ["F32", "F16", "BF16", *HALVES]:
        blocks = (quantised_blocks if name in HALVES else float_blocks)(rng, name)
        weights = dequantize(blocks, GGMLQuantizationType[name]).astype("<f4")
        write(name, blocks, weights)

    blocks = mxfp4_blocks(rng)
    write("MXFP4", blocks, dequantize(blocks, GGMLQuantizationType.MXFP4).astype("<f4"))
    # Every number but the two that are NaN.
    blocks = np.array([b for b in range(256) if b & 0x7F != 0x7F], np.uint8)
    write("F8_E4M3", blocks, blocks.view(ml_dtypes.float8_e4m3fn).astype("<f4"))
    for group in [32, 128]:
        write(f"INT4_G{group}", *int4_blocks(rng, group))
    layers = json.dumps(int4_layers(rng), separators=(",", ":")).replace("},{", "},\n{")
    (Path(__file__).parent / "int4.json").write_text(layers + "\n")


main()

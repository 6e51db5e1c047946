"""Writes the blocks and their weights that the decoding of every format is held to.

The weights come from the tables of the `gguf` package (`pip install gguf numpy`; written with
gguf 0.19.0, numpy 2.4.6), which share no code with the project.

For each format `<name>.bin` holds blocks one after another, then the f32 weights of all of
them, little-endian. The test knows the number of blocks from the file's length.

    python make.py
"""

from pathlib import Path

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


def main() -> None:
    rng = np.random.default_rng(20)
    for name in ["F32", "F16", "BF16", *HALVES]:
        blocks = (quantised_blocks if name in HALVES else float_blocks)(rng, name)
        weights = dequantize(blocks, GGMLQuantizationType[name]).astype("<f4")
        assert not np.isnan(weights).any(), name
        path = Path(__file__).parent / f"{name}.bin"
        path.write_bytes(blocks.tobytes() + weights.tobytes())


main()

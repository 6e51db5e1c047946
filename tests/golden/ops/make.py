"""Writes what each operation should give for small arguments, from its formula in float64.

Written from the published formulas with numpy (2.4.6), sharing no code with the project.
Arguments are not stored: `values(n, seed)` is computed alike here and in the test.

    python make.py        writes expected.json beside this file
"""

import json
from pathlib import Path

import numpy as np


def values(n: int, seed: int) -> np.ndarray:
    i = np.arange(n)
    return (((i * 7919 + seed * 104729) % 2003) / 1001.5 - 1).astype(np.float32).astype(np.float64)


def rms_norm(x, weight, epsilon):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon) * weight


def rotate(x, position, frequencies, factor, adjacent):
    """x: [heads, head_dim]; the pairs as complex numbers, each turned by its angle."""
    n = len(frequencies)
    first = np.arange(n) * 2 if adjacent else np.arange(n)
    second = first + (1 if adjacent else n)
    turned = (x[:, first] + 1j * x[:, second]) * np.exp(1j * position * frequencies) * factor
    out = x.copy()
    out[:, first], out[:, second] = turned.real, turned.imag
    return out


def attend(q, k, v, scale, window, cap, block):
    """q [t, heads, d], k and v [t, kv_heads, d] of one whole sequence."""
    t, heads, _ = q.shape
    group = heads // k.shape[1]
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    scores = scale * np.einsum("qhd,khd->hqk", q, k)
    if cap:
        scores = cap * np.tanh(scores / cap)
    row, column = np.arange(t)[:, None], np.arange(t)[None, :]
    last = row // block * block + block - 1
    scores[:, (column > last) | (column <= row - window)] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("hqk,khd->qhd", weights, v)


N_HEADS, N_KV_HEADS, HEAD_DIM = 4, 2, 8
LENGTHS = [35, 3]
FREQUENCIES = np.array([1.0, 0.25, 0.03125])
FACTOR = 1.25


def attention_layer(adjacent, norm, window, cap, block=1):
    """Rotated queries and attention of two sequences, all rows."""
    width = (N_HEADS + 2 * N_KV_HEADS) * HEAD_DIM
    qkv = values(sum(LENGTHS) * width, 20).reshape(-1, N_HEADS + 2 * N_KV_HEADS, HEAD_DIM)
    queries, outputs, start = [], [], 0
    for length in LENGTHS:
        rows = qkv[start : start + length]
        start += length
        q, k, v = np.split(rows, [N_HEADS, N_HEADS + N_KV_HEADS], axis=1)
        if norm:
            q = rms_norm(q, values(HEAD_DIM, 21), 1e-3)
            k = rms_norm(k, values(HEAD_DIM, 22), 1e-3)
        q, k = (
            np.stack([rotate(x[p], p, FREQUENCIES, FACTOR, adjacent) for p in range(length)])
            for x in (q, k)
        )
        queries.append(q)
        outputs.append(attend(q, k, v, 0.7, window, cap, block))
    return {
        "queries": np.concatenate(queries).ravel(),
        "attention": np.concatenate(outputs).ravel(),
    }


def main() -> None:
    x = values(3 * 37, 1).reshape(3, 37)
    out = values(3 * 37, 2).reshape(3, 37)
    norm = rms_norm(x, values(37, 3), 1e-2)

    weight = values(11 * 37, 4).reshape(11, 37)
    bias, residual = values(11, 5), values(3 * 11, 6).reshape(3, 11)
    product = x @ weight.T

    gate, up = np.split(4 * values(2 * 26, 7).reshape(2, 26), 2, axis=1)
    gelu = 0.5 * gate * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3)))

    capped = 0.8 * np.tanh((norm @ weight[:10].T + bias[:10]) / 0.8)
    gated = capped[:, :5] / (1 + np.exp(-capped[:, :5])) * capped[:, 5:]

    logits = 0.3 * product[[2, 0]]
    expected = {
        "embed": 1.5 * weight[[10, 0, 3]],
        "rms_norm": norm,
        "rms_norm_accumulate": out + norm,
        "matmul": product,
        "matmul_bias_accumulate": residual + product + bias,
        "matmul_norm_cap": capped,
        "matmul_norm_cap_gate_accumulate": residual.ravel()[:15].reshape(3, 5) + gated,
        "gated_silu": gate / (1 + np.exp(-gate)) * up,
        "gated_gelu_tanh": gelu * up,
        "logits": logits,
        "logits_soft_cap": 2.0 * np.tanh(logits / 2.0),
    }
    layers = {
        "halves_causal": attention_layer(False, False, 1000, None),
        "adjacent_norm_window": attention_layer(True, True, 7, None),
        "halves_soft_cap": attention_layer(False, False, 33, 0.5),
        "halves_blocks": attention_layer(False, False, 1000, None, 4),
    }
    for name, layer in layers.items():
        expected |= {f"{name}_{part}": array for part, array in layer.items()}
    rounded = {name: [float(f"{x:.8g}") for x in np.ravel(a)] for name, a in expected.items()}
    text = json.dumps(rounded, separators=(",", ":")).replace('],"', '],\n"')
    (Path(__file__).parent / "expected.json").write_text(text + "\n")


main()

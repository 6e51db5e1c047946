"""Writes llama/embedding.json: the direction of the mean hidden state, in float64.

Written with numpy from the formulas of LlamaModel in transformers, sharing no code with the
project. Before anything is written, the log-probabilities of the same pass are held to those in
expected.json, which transformers gave.

    python embedding.py
"""

import json
import struct
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "llama"
CONFIG = json.loads((FOLDER / "config.json").read_text())
HEADS, KV_HEADS = CONFIG["num_attention_heads"], CONFIG["num_key_value_heads"]
WIDTH = CONFIG["head_dim"]


def tensors():
    data = (FOLDER / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    for name, entry in header.items():
        assert entry["dtype"] == "BF16"
        start, end = (8 + length + at for at in entry["data_offsets"])
        bits = np.frombuffer(data[start:end], "<u2").astype(np.uint32) << 16
        yield name, bits.view(np.float32).reshape(entry["shape"]).astype(np.float64)


def norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + CONFIG["rms_norm_eps"]) * weight


def rotate(x):
    """x: [positions, heads, WIDTH]; pairs lie half a head apart."""
    half = WIDTH // 2
    frequencies = CONFIG["rope_parameters"]["rope_theta"] ** (-np.arange(half) / half)
    angles = np.arange(len(x))[:, None, None] * frequencies
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], -1)


def attention(x, w, prefix):
    n = len(x)
    q, k, v = (
        (x @ w[f"{prefix}.{name}_proj.weight"].T).reshape(n, heads, WIDTH)
        for name, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS))
    )
    q, k = rotate(q), rotate(k)
    k, v = (np.repeat(kv, HEADS // KV_HEADS, axis=1) for kv in (k, v))
    scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(WIDTH)
    scores = np.where(np.tri(n, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("hij,jhd->ihd", weights, v).reshape(n, -1)
    return mixed @ w[f"{prefix}.o_proj.weight"].T


def hidden(ids, w):
    x = w["model.embed_tokens.weight"][ids]
    for layer in range(CONFIG["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        x = x + attention(norm(x, w[f"{at}.input_layernorm.weight"]), w, f"{at}.self_attn")
        y = norm(x, w[f"{at}.post_attention_layernorm.weight"])
        gate, up = (y @ w[f"{at}.mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w[f"{at}.mlp.down_proj.weight"].T
    return norm(x, w["model.norm.weight"])


def main():
    w = dict(tensors())
    expected = json.loads((FOLDER / "expected.json").read_text())
    states = hidden(np.array(expected["ids"]), w)
    logits = states @ w["lm_head.weight"].T
    for position, logprobs in expected["positions"].items():
        row = logits[int(position)]
        row = row - row.max() - np.log(np.exp(row - row.max()).sum())
        assert np.abs(row - logprobs).max() < 1e-4, position
    mean = states.mean(0)
    vector = mean / np.linalg.norm(mean)
    golden = {"ids": expected["ids"], "vector": [round(float(x), 7) for x in vector]}
    (FOLDER / "embedding.json").write_text(json.dumps(golden) + "\n")


main()

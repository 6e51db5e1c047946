"""Writes what a layer of experts should give for small arguments, in float64.

Written with numpy (2.4.6) from the formulas of the models' reference implementations (the
routers of Mixtral, Qwen2-MoE, gpt-oss, DeepSeek-V2 and DeepSeek-V3 in transformers), sharing no
code with the project. Arguments are not stored: `values(n, seed)` is computed alike here and in
the test.

    python make.py        writes expected.json beside this file
"""

import json
from pathlib import Path

import numpy as np

N_ROWS = 7


def values(n: int, seed: int) -> np.ndarray:
    i = np.arange(n)
    return (((i * 7919 + seed * 104729) % 2003) / 1001.5 - 1).astype(np.float32).astype(np.float64)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def topk(x, k):
    """Like torch.topk: values and indices in descending order."""
    indices = np.argsort(-x, axis=-1, kind="stable")[:, :k]
    return np.take_along_axis(x, indices, -1), indices


def mixtral(logits, k):
    weights, experts = topk(softmax(logits), k)
    return experts, weights / weights.sum(-1, keepdims=True)


def qwen2_moe(logits, k):
    weights, experts = topk(softmax(logits), k)
    return experts, weights


def gpt_oss(logits, k):
    chosen, experts = topk(logits, k)
    return experts, softmax(chosen)


def in_groups(scores, group_scores, n_chosen):
    """Scores with those of all groups but the best set to zero."""
    rows, n_groups = group_scores.shape
    _, groups = topk(group_scores, n_chosen)
    mask = np.zeros((rows, n_groups))
    np.put_along_axis(mask, groups, 1, -1)
    return np.where(np.repeat(mask, scores.shape[1] // n_groups, axis=1) > 0, scores, 0.0)


def deepseek_v2(logits, k, n_groups, n_chosen, scale):
    scores = softmax(logits)
    best = scores.reshape(len(scores), n_groups, -1).max(-1)
    weights, experts = topk(in_groups(scores, best, n_chosen), k)
    return experts, weights * scale


def deepseek_v3(logits, bias, k, n_groups, n_chosen, scale):
    scores = 1 / (1 + np.exp(-logits))
    choice = scores + bias
    two_best = np.sort(choice.reshape(len(scores), n_groups, -1), axis=-1)[:, :, -2:].sum(-1)
    _, experts = topk(in_groups(choice, two_best, n_chosen), k)
    weights = np.take_along_axis(scores, experts, -1)
    return experts, weights / (weights.sum(-1, keepdims=True) + 1e-20) * scale


def layer(logits):
    """Mixtral's block of 6 experts, 2 a row, over 10 features and an inner width of 7."""
    x, residual = values(N_ROWS * 10, 3).reshape(-1, 10), values(N_ROWS * 10, 4).reshape(-1, 10)
    gate_up = values(6 * 14 * 10, 5).reshape(6, 14, 10)
    gate_up_bias = values(6 * 14, 6).reshape(6, 14)
    down = values(6 * 10 * 7, 7).reshape(6, 10, 7)
    experts, weights = mixtral(logits, 2)
    out = residual.copy()
    for row in range(N_ROWS):
        for expert, weight in zip(experts[row], weights[row]):
            gate, up = np.split(gate_up[expert] @ x[row] + gate_up_bias[expert], 2)
            out[row] += weight * (down[expert] @ (gate / (1 + np.exp(-gate)) * up))
    return out


def main() -> None:
    def logits(n_experts, seed):
        return 4 * values(N_ROWS * n_experts, seed).reshape(N_ROWS, n_experts)

    routed = {
        "mixtral": mixtral(logits(8, 10), 2),
        "qwen2_moe": qwen2_moe(logits(60, 11), 4),
        "gpt_oss": gpt_oss(logits(32, 12), 4),
        "deepseek_v2": deepseek_v2(logits(160, 13), 6, 8, 3, 16.0),
        # Above zero, so that the experts that are masked by zero are never chosen.
        "deepseek_v3": deepseek_v3(logits(256, 14), 0.1 * (values(256, 15) + 1), 8, 8, 4, 2.5),
    }
    expected = {
        name: {"experts": experts.ravel().tolist(), "weights": weights.ravel().tolist()}
        for name, (experts, weights) in routed.items()
    }
    text = json.dumps({"routes": expected, "layer": layer(logits(6, 16)).ravel().tolist()})
    (Path(__file__).parent / "expected.json").write_text(text.replace("], ", "],\n") + "\n")


main()

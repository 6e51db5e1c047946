"""Writes cases.json: sampling by its textbook formulas in 60 decimal digits.

Run with any Python 3, no packages: python3 make.py > cases.json

Logits are multiples of 1/256 and parameters are dyadic, so both are exact in f32. Draws are
listed only where the noise is further than 1e-4 of the mass from the edge of a token's share,
and no case is written whose cuts a relative error of 1e-4 could move, ties excepted.
"""

import json
import random
from decimal import Decimal, getcontext

getcontext().prec = 60
MASK = 0xFFFFFFFF


def philox(counter, key):
    """Philox4x32-10 (Salmon et al. 2011)."""
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b >> 32 ^ c[1] ^ k[0], b & MASK, a >> 32 ^ c[3] ^ k[1], a & MASK]
        k = [k[0] + 0x9E3779B9 & MASK, k[1] + 0xBB67AE85 & MASK]
    return c


def uniform(seed, position):
    """The noise of a position as a number in 0..1."""
    x = philox([position & MASK, position >> 32, 0, 0], [seed & MASK, seed >> 32])
    return Decimal(x[0] + (x[1] << 32)) / Decimal(1 << 64)


def clear(a, b):
    """Fails where a comparison would be too close to call."""
    assert a == b or abs(a - b) > Decimal("1e-4") * max(abs(a), abs(b)), (a, b)


def adjusted(logits, p, history):
    """Logits after penalties and biases."""
    out = list(logits)
    window = history[-p["repeat_last_n"] :] if p["repeat_last_n"] else []
    for token in set(window):
        count = window.count(token)
        factor = Decimal(p["repeat_penalty"])
        out[token] = out[token] / factor if out[token] > 0 else out[token] * factor
        out[token] -= count * Decimal(p["frequency_penalty"]) + Decimal(p["presence_penalty"])
    for token, bias in p["logit_bias"]:
        out[token] += Decimal(bias)
    return out


def kept(logits, p):
    """(probabilities of the tokens that can be drawn by rank, lengths after each cut)."""
    order = sorted(range(len(logits)), key=lambda t: (-logits[t], t))
    temperature = Decimal(p["temperature"])
    mass = [((l - logits[order[0]]) / temperature).exp() for l in logits]
    top_k = order[: p["top_k"] or None]
    if len(top_k) < len(order):
        clear(logits[order[len(top_k) - 1]], logits[order[len(top_k)]])
    target = Decimal(p["top_p"]) * sum(mass[t] for t in top_k)
    nucleus, reached = [], Decimal(0)
    for token in top_k:
        if nucleus and p["top_p"] < 1:
            clear(reached, target)
            if reached >= target:
                break
        nucleus.append(token)
        reached += mass[token]
    for token in nucleus:
        clear(mass[token], Decimal(p["min_p"]))
    left = [t for t in nucleus if mass[t] >= Decimal(p["min_p"])]
    total = sum(mass[t] for t in left)
    return [(t, mass[t] / total) for t in left], [len(top_k), len(nucleus), len(left)]


def draws(distribution, seed):
    """(position, token) for the first positions whose noise is clear of every edge."""
    out, position = [], 0
    by_id = sorted(distribution)
    while len(out) < 40:
        point, edge = uniform(seed, position), Decimal(0)
        for token, p in by_id:
            if point < edge + p:
                if len(by_id) == 1 or min(point - edge, edge + p - point) > Decimal("1e-4"):
                    out.append([position, token])
                break
            edge += p
        position = position * 5 + 1 if position < 1 << 40 else position + 1
    return out


def case(name, logits, history=(), seed=0, **changes):
    """One case; parameters that are not given are off."""
    p = dict(temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, repeat_penalty=1.0)
    p.update(repeat_last_n=64, frequency_penalty=0.0, presence_penalty=0.0, logit_bias=[])
    p.update(changes)
    exact = [Decimal(l) / 256 for l in logits]
    distribution, lengths = kept(adjusted(exact, p, list(history)), p)
    log_sum = sum(l.exp() for l in exact).ln()
    ranked = sorted(range(len(exact)), key=lambda t: (-exact[t], t))[:5]
    return {
        "name": name,
        "logits_256": logits,
        "history": list(history),
        "params": dict(p, seed=seed),
        "lengths": lengths,
        "kept": [[t, float(q)] for t, q in distribution],
        "top": [[t, float(exact[t] - log_sum)] for t in ranked],
        "draws": draws(distribution, seed),
    }


def main():
    rng = random.Random(20240229)
    normal = lambda n, spread: [round(rng.gauss(0, spread) * 256) for _ in range(n)]
    small, middle, large = normal(40, 2), normal(300, 3), normal(700, 1.5)
    ties = [round(l / 512) * 512 for l in normal(200, 2)]
    history = [3, 5, 8, 5, 5, 13, 21, 3, 30]
    wide = 0xDEADBEEF12345678
    cases = [
        case("one token", [-700]),
        case("two tokens", [100, 300], temperature=0.5, seed=3),
        case("plain", small, seed=1),
        case("hot", small, temperature=2.0, seed=wide),
        case("cold", middle, temperature=0.25, seed=4),
        case("top-k", middle, temperature=1.25, top_k=9, seed=5),
        case("top-p", middle, temperature=0.75, top_p=0.875, seed=6),
        case("min-p", middle, temperature=1.5, min_p=0.03125, seed=7),
        case("all cuts", large, temperature=1.25, top_k=50, top_p=0.9375, min_p=0.125, seed=8),
        case("ties in the nucleus", ties, top_p=0.53125, seed=9),
        case("repetition", small, history, repeat_penalty=1.5, repeat_last_n=6, seed=10),
        case(
            "frequency, presence and bias",
            small,
            history,
            frequency_penalty=0.5,
            presence_penalty=-0.25,
            logit_bias=[[7, 2.5], [0, -1.0], [7, 0.5]],
            top_p=0.96875,
            seed=11,
        ),
        case(
            "everything",
            large,
            history,
            temperature=0.875,
            top_k=60,
            top_p=0.984375,
            min_p=0.015625,
            repeat_penalty=1.25,
            frequency_penalty=0.125,
            presence_penalty=0.375,
            logit_bias=[[30, 1.5]],
            seed=12,
        ),
    ]
    print("[")
    print(",\n".join(json.dumps(c, separators=(",", ":")) for c in cases))
    print("]")


main()

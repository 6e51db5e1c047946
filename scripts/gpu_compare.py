#!/usr/bin/env python3
"""What PyTorch and transformers make of the same: sections of gpu.py, one JSON object a line.

    python3 gpu_compare.py --programs DIR [--device cuda|emulated] [--quick] cublas|logits
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

#: Matrices of a layer of Llama 3.1 8B, and its head: outputs, inputs.
MATRICES = [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336), (128256, 4096)]
TOKENS = [1, 8, 64, 512, 2048]
ROTATED = 400 << 20
#: What a model in bf16 may differ from the same in f32: KL divergence in nats.
MEAN_KL, P99_KL = 0.0003, 0.002


def cublas(args):
    """Times x · Wᵀ in bf16, weights in turn so that none comes from the second-level cache."""
    import torch

    for rows, cols in MATRICES:
        n_inputs = max(2, ROTATED // (2 * rows * cols))
        weights = [torch.randn(rows, cols, dtype=torch.bfloat16, device="cuda") for _ in range(n_inputs)]
        for tokens in TOKENS:
            if rows > 100_000 and tokens > 64:
                continue
            x = torch.randn(tokens, cols, dtype=torch.bfloat16, device="cuda")
            out = torch.full((tokens, rows), math.nan, dtype=torch.bfloat16, device="cuda")
            times = time_graph(torch, lambda: [torch.mm(x, w.T, out=out) for w in weights])
            if not torch.isfinite(out).all():
                sys.exit("cublas: outputs are missing")
            times = [ms * 1e3 / n_inputs for ms in times]
            say("cublas", times, rows=rows, cols=cols, tokens=tokens, flops=2 * tokens * rows * cols,
                bytes=2 * (rows * cols + tokens * (rows + cols)))


def time_graph(torch, work, repeats=20):
    """Milliseconds of `work`, recorded as a graph as our own kernels are."""
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        work()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    graph.replay()
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return times


def say(kind, values, unit="us", **what):
    line = {"kind": kind, "unit": unit, "value": statistics.median(values), "min": min(values),
            "max": max(values), "repeats": len(values), **what}
    print(json.dumps(line), flush=True)


def logits(args):
    """Holds the log-probabilities of a random model of the shape of Llama 3.2 1B to transformers'
    in f32. The head is made larger than it is trained to be, so that the model is sure of things."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    n = 40 if args.quick else 512
    sizes = dict(vocab_size=512, hidden_size=256, intermediate_size=512, num_hidden_layers=2) if args.quick else dict(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16)
    config = LlamaConfig(**sizes, num_attention_heads=sizes["hidden_size"] // 64,
                         num_key_value_heads=sizes["hidden_size"] // 256, head_dim=64, rope_theta=500000.0,
                         max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
                         rms_norm_eps=1e-5)
    model = LlamaForCausalLM(config).to(torch.bfloat16).eval()
    with torch.no_grad():
        # Logits of a deviation of about two.
        model.model.embed_tokens.weight.normal_(0, 2 / math.sqrt(sizes["hidden_size"]))
    ids = torch.randint(3, sizes["vocab_size"], (1, n))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model.save_pretrained(folder / "model", safe_serialization=True, max_shard_size="100GB")
        write_tokenizer(folder / "model", sizes["vocab_size"])
        (folder / "ids.json").write_text(json.dumps(ids[0].tolist()))
        command = [str(args.programs / "onward-gpu"), "--device", args.device, "logits", "--model", str(folder / "model"),
                   "--ids", str(folder / "ids.json"), "--output", str(folder / "logits.bin")]
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode != 0:
            sys.exit("logits: onward-gpu failed, see above")
        data = bytearray((folder / "logits.bin").read_bytes())
    ours = torch.frombuffer(data, dtype=torch.float32).view(n, sizes["vocab_size"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = False
    with torch.no_grad():
        theirs = model.to(device=device, dtype=torch.float32)(ids.to(device)).logits[0].log_softmax(-1).cpu()
    kl = (theirs.exp() * (theirs - ours)).double().sum(-1).clamp(min=0).sort().values
    mean, p99 = kl.mean().item(), kl[min(n - 1, int(0.99 * n))].item()
    say("logits", kl.tolist(), "nats", name="KL divergence of a position")
    say("logits", [mean], "nats", name=f"mean, {MEAN_KL:g} at most")
    say("logits", [p99], "nats", name=f"99th percentile, {P99_KL:g} at most")
    if not (mean <= MEAN_KL and p99 <= P99_KL):
        sys.exit(f"logits: the mean KL divergence is {mean:.2g} ({MEAN_KL:g} at most), the 99th percentile {p99:.2g} ({P99_KL:g} at most)")


def write_tokenizer(folder, vocab):
    """A vocabulary for a model that no text is put into: a word a token."""
    words = {f"w{token}": token for token in range(vocab)}
    model = {"type": "BPE", "vocab": words, "merges": [], "dropout": None, "unk_token": None,
             "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
                 "pre_tokenizer": byte_level, "post_processor": None, "decoder": byte_level, "model": model}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--programs", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("what", choices=["cublas", "logits"])
    args = parser.parse_args()
    {"cublas": cublas, "logits": logits}[args.what](args)


if __name__ == "__main__":
    main()

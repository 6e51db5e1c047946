"""What gpu.py found, as report.json and report.md."""

import json

#: What a measurement of this kind is called, and what sets it apart from its neighbours.
KINDS = {
    "bandwidth": ("Memory", ["name"]),
    "cublas": ("cuBLAS through PyTorch, bf16", ["rows", "cols", "tokens"]),
    "op": ("Operations", ["op", "case"]),
    "draw": ("Drawing tokens", ["batch", "vocab"]),
    "decode": ("Steps of decoding", ["model", "precision", "launch", "batch"]),
    "idle": ("Share of the time that the GPU waits between steps", ["model", "precision", "launch", "batch"]),
    "prefill": ("Prompts", ["model", "precision", "kernels", "tokens"]),
    "logits": ("Log-probabilities beside transformers", ["name"]),
}


def write(folder, about, results, missing):
    """Writes both files; `missing` are sections that are yet to run."""
    found = [m for result in results for m in result["measurements"] if "value" in m]
    for measurement in found:
        derive(measurement, found)
    report = {"machine": about, "sections": results, "missing": missing}
    put(folder / "report.json", json.dumps(report, indent=1, allow_nan=False) + "\n")
    put(folder / "report.md", markdown(about, results, found, missing))


def put(path, text):
    """Whole or not at all."""
    fresh = path.with_suffix(".part")
    fresh.write_text(text)
    fresh.replace(path)


def derive(m, found):
    """Adds rates, and how they compare with what this machine can do."""
    if m["unit"] != "us" or m["value"] <= 0:
        return
    seconds = m["value"] / 1e6
    if m.get("bytes"):
        m["gb_per_s"] = m["bytes"] / seconds / 1e9
    if m.get("flops"):
        m["tflop_per_s"] = m["flops"] / seconds / 1e12
    read = next((b for b in found if b["kind"] == "bandwidth" and b["name"] == "read"), None)
    if read and m["kind"] in ("op", "decode", "draw") and m.get("bytes") and read["value"] > 0:
        m["of_read_bandwidth"] = m["gb_per_s"] / (read["bytes"] / read["value"] * 1e6 / 1e9)
    same = lambda b: all(b[key] == m.get(key) for key in ("rows", "cols", "tokens"))
    cublas = next((b for b in found if b["kind"] == "cublas" and same(b)), None)
    if cublas and m["kind"] == "op":
        m["of_cublas"] = cublas["value"] / m["value"]
    best = max((b["flops"] / b["value"] for b in found if b["kind"] == "cublas"), default=None)
    if best and m["kind"] == "prefill":
        m["of_best_cublas"] = m["flops"] / m["value"] / best
    if m["kind"] == "decode":
        m["tokens_per_s"] = m["batch"] / seconds
        drawing = next((d for d in found if d["kind"] == "draw" and d["batch"] == m["batch"]), None)
        if drawing:
            m["drawing_share"] = drawing["value"] / m["value"]
    if m["kind"] == "prefill":
        m["tokens_per_s"] = m["tokens"] / seconds


def markdown(about, results, found, missing):
    emulated = about["device"] == "emulated"
    lines = [f"# {about['gpu']}", ""]
    if emulated:
        lines += ["**Times of an emulated device: they say nothing of a GPU.**", ""]
    lines += [f"- {key.replace('_', ' ')}: {value}" for key, value in about.items() if key != "gpu"]
    lines += ["", "| section | what | result | s |", "|---|---|---|---|"]
    for result in results:
        said = result["status"] + (f": {result['reason']}" if "reason" in result else "")
        lines.append(f"| {result['name']} | {result['what']} | {said} | {result.get('seconds', '')} |")
    lines += [f"| {name} | | not run yet | |" for name in missing]
    lines += tables(found)
    for result in results:
        if result["status"] in ("failed", "out of time"):
            lines += ["", f"## {result['name']}: {result['status']}", "", f"`{result['command']}`", ""]
            lines += ["```", *result.get("tail", []), "```"]
    return "\n".join(lines) + "\n"


def tables(found):
    """A table for each kind of measurement: medians, their spread, and what follows from them."""
    lines = []
    derived = ["gb_per_s", "tflop_per_s", "of_read_bandwidth", "of_cublas", "of_best_cublas", "tokens_per_s", "drawing_share"]
    for kind, (title, keys) in KINDS.items():
        rows = [m for m in found if m["kind"] == kind]
        if not rows:
            continue
        unit = rows[0]["unit"]
        shown = [key for key in derived if any(key in m for m in rows)]
        head = [*keys, f"median ({unit})", "min", "max", "repeats", *(key.replace("_", " ") for key in shown)]
        lines += ["", f"## {title}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for m in rows:
            cells = [str(m.get(key, "")) for key in keys]
            cells += [number(m["value"]), number(m["min"]), number(m["max"]), str(m["repeats"])]
            cells += [number(m[key]) if key in m else "" for key in shown]
            lines.append("| " + " | ".join(cells) + " |")
        if any(m.get("recorded") is False for m in rows):
            names = {m["op"] for m in rows if m.get("recorded") is False}
            lines += ["", f"Launched one by one, the host's calls included: {', '.join(sorted(names))}."]
    return lines


def number(value):
    return f"{value:.4g}"

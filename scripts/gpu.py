#!/usr/bin/env python3
"""Runs the kernels on this machine's GPU: are they right, and how fast are they?

    python3 gpu.py [--out DIR] [--sections conformance,ops,...] [--minutes 30]

Runs from the bundle that `make gpu-bundle` packs, or from the repository. Leaves report.json and
report.md in DIR ($OUT, or results named after the GPU). Every section is in the report: passed,
failed with the end of what it said, or skipped and why. The exit code is 1 if one failed.

`--device emulated --quick` runs the same on the emulated device, with little of everything; the
times it gives are those of an emulated device and never go to bench/results.
"""

import argparse
import ctypes
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import gpu_report

HERE = Path(__file__).resolve().parent
IS_BUNDLE = (HERE / "bundle.json").is_file()
ROOT = HERE if IS_BUNDLE else HERE.parent
RESULTS = HERE / "results" if IS_BUNDLE else ROOT / "bench" / "results"
MODELS = ["llama-3.2-1b", "qwen3-4b", "llama-3.1-8b"]
PRECISIONS = ["bf16", "q4_k"]
TAIL_LINES = 30


class Section:
    """Something to run: a command, whether it judges or measures, and its seconds."""

    def __init__(self, name, what, command, seconds, judges=False, env=None, unless=None):
        self.name, self.what, self.command = name, what, [str(part) for part in command]
        self.seconds, self.judges, self.env, self.unless = seconds, judges, env or {}, unless


def sections(args, programs):
    """All sections, in their order."""
    quick, gpu = args.quick, args.device == "cuda"
    test_env = {"ONWARD_TEST_GPU": "1"} if gpu else {}
    small_env = {**test_env, "ONWARD_TEST_SMALL": "1"}
    ours = [programs / "onward-gpu", "--device", args.device, *(["--quick"] if quick else [])]
    python = [sys.executable, HERE / "gpu_compare.py", "--programs", programs, "--device", args.device]
    python += ["--quick"] if quick else []
    operations = ["agrees::rms_norm"] if quick else ["agrees::", "has_the_same_bits_in_any_company", "has_the_bits_of"]
    engine = ["breaking_off"] if quick else ["bits::", "loops::", "breaking_off"]
    yield Section("conformance", "each wrapper of an instruction against the instruction set",
                  [programs / "conformance", "every_wrapper_does"], 120, True, test_env)
    yield Section("ops", "every operation against its reference, over all cases",
                  [programs / "emulated", *operations], 420, True, test_env)
    for tool in ("memcheck", "racecheck"):
        sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
        missing = None if Path(sanitizer).is_file() else "compute-sanitizer is not on this machine"
        yield Section(tool, f"compute-sanitizer's {tool} over the small cases",
                      [sanitizer, "--tool", tool, "--error-exitcode", "1", programs / "emulated",
                       operations[0], "--test-threads", "1"], 300, True, small_env,
                      missing if gpu else "the emulated device has checks of its own")
    yield Section("bits", "the same bits looped, recorded or launched, alone or together, whole or in chunks",
                  [programs / "cuda_engine", *engine], 180, True, test_env)
    yield Section("hopper", "the kernels for Hopper give the bits of the others",
                  [programs / "hopper"], 240, True, test_env,
                  "takes minutes on the emulated device" if quick and not gpu else None)
    yield Section("logits", "log-probabilities beside transformers, on random weights",
                  [*python, "logits"], 240, True, None, no_python("torch", "transformers"))
    yield Section("bandwidth", "copying and reading memory", [*ours, "bandwidth"], 60)
    yield Section("cublas", "the same products by cuBLAS, through PyTorch", [*python, "cublas"], 120,
                  False, None, no_python("torch") if gpu else "cuBLAS needs a GPU")
    yield Section("timings", "every operation at the shapes of a large model", [*ours, "ops"], 300)
    yield Section("draw", "drawing tokens", [*ours, "draw"], 60)
    models = ["tiny"] if quick else MODELS
    for model in models:
        for precision in PRECISIONS:
            yield Section(f"{model} {precision}", "decoding in a loop, with graphs and without, and a prompt",
                          [*ours, "model", "--shape", model, "--precision", precision], 300)


def no_python(*modules):
    """Why a section that needs these modules is skipped, if one is missing."""
    test = "import importlib.util as u, sys; sys.exit(' '.join(m for m in sys.argv[1:] if not u.find_spec(m)))"
    done = subprocess.run([sys.executable, "-c", test, *modules], stderr=subprocess.PIPE, text=True)
    return f"this Python has no {done.stderr.strip()}" if done.returncode else None


def run(section, seconds, folder):
    """Runs a section; what is to be said of it."""
    result = {"name": section.name, "what": section.what, "judges": section.judges,
              "command": " ".join(section.command), "measurements": []}
    if section.unless:
        return {**result, "status": "skipped", "reason": section.unless}
    if seconds < 1:
        return {**result, "status": "skipped", "reason": "the time for all sections was used up"}
    environment = {**os.environ, "RUST_BACKTRACE": "0", **section.env}
    if (folder / "golden").is_dir():
        environment["ONWARD_GOLDEN"] = str(folder / "golden")
    start = time.monotonic()
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(section.command, stdout=output, stderr=subprocess.STDOUT,
                                       env=environment, start_new_session=True)
        except OSError as error:
            return {**result, "status": "failed", "reason": f"cannot be run: {error.strerror}"}
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # What it started goes with it, also when this program is interrupted.
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        output.seek(0)
        text = output.read().decode(errors="replace")
    result["seconds"] = round(time.monotonic() - start, 1)
    lines = text.splitlines()
    result["measurements"], unusable = measurements(lines)
    result["tail"] = [line for line in lines if not line.startswith("{")][-TAIL_LINES:]
    return {**result, **verdict(section, code, seconds, result["measurements"], unusable, text)}


def verdict(section, code, seconds, found, unusable, text):
    if code is None:
        reason = f"was not done after {seconds:.0f} s"
        return {"status": "failed" if section.judges else "out of time", "reason": reason}
    if code != 0:
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        return {"status": "failed", "reason": how}
    if unusable:
        return {"status": "failed", "reason": f"a number is not finite: {unusable}"}
    if not section.judges and not found:
        return {"status": "failed", "reason": "nothing was measured"}
    if re.search(r"^test result: \w+\. 0 passed", text, re.MULTILINE):
        return {"status": "failed", "reason": "no test was run"}
    return {"status": "passed"}


def measurements(lines):
    """The JSON objects among the lines, and the first of them that holds no finite number."""
    found, unusable = [], None
    for line in lines:
        if not line.startswith("{"):
            continue
        try:
            value = json.loads(line)
        except ValueError:
            continue
        numbers = [n for n in value.values() if isinstance(n, (int, float))]
        if all(math.isfinite(n) for n in numbers) and value.get("value", 0) is not None:
            found.append(value)
        else:
            unusable = unusable or line
    return found, unusable


def gpu_missing():
    """Why there is no GPU to run on, if there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "its driver, libcuda.so.1, is not there"
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return "its driver does not start"
    return None if count.value else "the driver shows none"


def find_programs(args):
    if args.programs:
        return args.programs.resolve()
    if IS_BUNDLE:
        return HERE
    folder = ROOT / "target" / "gpu-bundle"
    if not (folder / "bundle.json").is_file():
        if not shutil.which(os.environ.get("CARGO") or "cargo"):
            sys.exit("gpu: there is neither target/gpu-bundle nor Rust to make it: run `make gpu-bundle` elsewhere")
        if subprocess.run([sys.executable, str(HERE / "gpu_bundle.py")]).returncode != 0:
            sys.exit("gpu: the bundle could not be made, see above")
    return folder


def machine(args, programs):
    """The machine, its driver, and the commit."""
    command = [str(programs / "onward-gpu"), "--device", args.device, "machine"]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        sys.exit(f"gpu: the GPU cannot be asked what it is: {error}")
    if done.returncode != 0:
        sys.exit(f"gpu: the GPU cannot be asked what it is: {done.stderr.strip()}")
    found = json.loads(done.stdout)
    bundle = programs / "bundle.json"
    found["commit"] = json.loads(bundle.read_text())["commit"] if bundle.is_file() else "unknown"
    found["device"] = args.device
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    if args.device == "cuda" and shutil.which(query[0]):
        said = subprocess.run(query, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        found["driver"] = said[0].strip() if said else "unknown"
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "emulated"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, and little of everything")
    parser.add_argument("--programs", type=Path, help="the folder with the programs")
    parser.add_argument("--out", type=Path, default=os.environ.get("OUT") or None)
    parser.add_argument("--sections", help="only these, separated by commas")
    parser.add_argument("--minutes", type=float, default=30, help="for all sections together")
    args = parser.parse_args()
    emulated = args.device == "emulated"
    if not emulated and (why := gpu_missing()):
        sys.exit(f"gpu: this machine has no NVIDIA GPU to run on: {why}")
    if emulated and (not args.out or RESULTS in [args.out.resolve(), *args.out.resolve().parents]):
        sys.exit("gpu: times of an emulated device are no results: name another folder by --out")
    programs = find_programs(args)
    about = machine(args, programs)
    name = "-".join(about["gpu"].lower().split())
    out = Path(args.out) if args.out else RESULTS / name
    out.mkdir(parents=True, exist_ok=True)
    wanted = args.sections.split(",") if args.sections else None
    all_sections = list(sections(args, programs))
    if unknown := set(wanted or []) - {section.name for section in all_sections}:
        sys.exit(f"gpu: there is no section {', '.join(sorted(unknown))}")
    end = time.monotonic() + args.minutes * 60
    results = []
    for section in all_sections:
        if wanted is not None and section.name not in wanted:
            section.unless = "was not asked for"
        result = run(section, min(section.seconds, end - time.monotonic()), programs)
        results.append(result)
        print(f"gpu: {section.name}: {result['status']}" + (f", {result['reason']}" if "reason" in result else ""), flush=True)
        # Written anew each time: what was found is there whatever comes next.
        gpu_report.write(out, about, results, [later.name for later in all_sections[len(results):]])
    failed = [result["name"] for result in results if result["status"] == "failed"]
    print(f"gpu: {out / 'report.md'}")
    if failed:
        sys.exit(f"gpu: {len(failed)} of {len(results)} sections failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()

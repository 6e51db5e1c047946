#!/usr/bin/env python3
"""Packs what `make gpu` needs into target/gpu-bundle and target/gpu-bundle.tar.xz.

    python3 scripts/gpu_bundle.py [--profile release] [--limit-mb 60]

A Linux x86-64 machine with an NVIDIA GPU needs nothing but Python 3 beside it: the programs are
stripped, hold the kernels of every architecture, and find their golden data in the folder.

    onward, onward-gpu                            the command line tool, the measurements
    conformance, emulated, cuda_engine, hopper    test programs, which take the GPU where
                                                  ONWARD_TEST_GPU is set
    golden/                                       the tiny checkpoints that these read
    gpu.py, bundle.json                           the driver, and what was packed
"""

import argparse
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
CARGO = os.environ.get("CARGO") or "cargo"

BINARIES = ["onward", "onward-gpu"]
TESTS = ["conformance", "emulated", "cuda_engine", "hopper"]
GOLDEN = ["families/llama", "families/qwen3", "families/gemma3"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="release")
    parser.add_argument("--limit-mb", type=float, default=60, help="the most the archive may take")
    args = parser.parse_args()
    programs = build(args.profile)
    folder = ROOT / "target" / "gpu-bundle"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, path in programs.items():
        pack(path, folder / name)
    for name in GOLDEN:
        shutil.copytree(ROOT / "tests" / "golden" / name, folder / "golden" / name)
    for name in ("gpu.py", "gpu_report.py", "gpu_compare.py"):
        shutil.copy2(ROOT / "scripts" / name, folder)
    (folder / "bundle.json").write_text(json.dumps({"commit": commit()}) + "\n")
    archive = folder.with_suffix(".tar.xz")
    # The programs hold the same kernels: a window as large as all of them finds them again.
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 256 << 20}]
    write_archive(folder, archive, filters)
    size = archive.stat().st_size / 1e6
    if size > args.limit_mb:
        archive.unlink()
        sys.exit(f"gpu-bundle: the archive takes {size:.1f} MB, where {args.limit_mb:g} are allowed")
    print(f"gpu-bundle: {archive.relative_to(ROOT)}, {size:.1f} MB; on the machine with the GPU")
    print(f"    tar xf {archive.name} && python3 {folder.name}/gpu.py")


def build(profile):
    """Builds the programs; where each is."""
    common = ["--profile", "dev" if profile == "debug" else profile, "--message-format=json-render-diagnostics"]
    packages = [argument for name in ("onward", "onward-bench") for argument in ("--package", name)]
    binaries = [argument for name in BINARIES for argument in ("--bin", name)]
    tests = [argument for name in TESTS for argument in ("--test", name)]
    found = cargo(["build", *packages, *binaries, *common], BINARIES)
    found.update(cargo(["test", "--no-run", "--package", "onward-tests", *tests, *common], TESTS))
    return found


def cargo(arguments, names):
    """The executables that cargo made, by their targets' names."""
    done = subprocess.run([CARGO, *arguments], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if done.returncode != 0:
        sys.exit("gpu-bundle: the programs do not build, see above")
    found = {}
    for line in done.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message["target"]["name"] in names:
            found[message["target"]["name"]] = Path(message["executable"])
    if missing := [name for name in names if name not in found]:
        sys.exit(f"gpu-bundle: cargo made no {', '.join(missing)}")
    return found


def pack(source, destination):
    """Copies a program without its symbols."""
    try:
        done = subprocess.run(["strip", "-o", str(destination), str(source)])
    except FileNotFoundError:
        sys.exit("gpu-bundle: there is no `strip` here, which comes with a C compiler")
    if done.returncode != 0:
        sys.exit(f"gpu-bundle: {source} cannot be stripped, see above")


def write_archive(folder, archive, filters):
    with lzma.open(archive, "w", filters=filters) as compressed:
        with tarfile.open(fileobj=compressed, mode="w") as tar:
            tar.add(folder, arcname=folder.name)


def commit():
    def git(*arguments):
        done = subprocess.run(["git", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    name = git("rev-parse", "HEAD") or "unknown"
    return name + (" with changes" if git("status", "--porcelain", "--untracked-files=no") else "")


if __name__ == "__main__":
    main()

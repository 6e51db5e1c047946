#!/usr/bin/env python3
"""Tests the page of `onward serve` in a headless browser.

    python3 scripts/web.py            # provides the tools, then runs tests/web/browser
    python3 scripts/web.py --tools    # only provides them

Node comes from PATH, else as a Python wheel (scripts/toolchain.py); playwright-core, which drives
the browser, from npm into target/toolchain/web. A browser of the Chromium family has to be there:
CHROMIUM names one, else PATH is searched. On Debian, root is given one by apt-get.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from toolchain import ROOT, TOOLCHAIN, provide_node

TOOLS = TOOLCHAIN / "web"
PLAYWRIGHT = "1.65.1"
BROWSERS = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge"]


def main():
    node = provide_node()
    chromium = provide_chromium()
    provide_playwright(node)
    if sys.argv[1:] == ["--tools"]:
        return
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    environment = {
        **os.environ,
        "CHROMIUM": chromium,
        "ONWARD_WEB_TOOLS": str(TOOLS),
        "ONWARD_BIN": os.environ.get("ONWARD_BIN") or str(target.resolve() / "debug" / "onward"),
    }
    tests = sorted(str(path) for path in (ROOT / "tests/web/browser").glob("*.test.mjs"))
    # One file at a time: each has a model of its own.
    command = [node, "--test", "--test-concurrency=1", *tests]
    sys.exit(subprocess.run(command, env=environment, cwd=ROOT).returncode)


def provide_chromium():
    """A browser's path."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if found:
        return found
    if os.geteuid() == 0 and shutil.which("apt-get"):
        say("chromium: installing Debian's")
        for step in (["update"], ["install", "--yes", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", "--quiet", *step], stdout=sys.stderr, check=False)
        if found := shutil.which("chromium"):
            return found
    sys.exit("web: there is no Chromium here: install one, or name it with CHROMIUM=/path/to/it")


def provide_playwright(node):
    """Puts playwright-core where the tests look for it, unless this version is there."""
    package = TOOLS / "node_modules" / "playwright-core" / "package.json"
    if package.is_file() and json.loads(package.read_text())["version"] == PLAYWRIGHT:
        return
    say(f"playwright-core: installing {PLAYWRIGHT}")
    TOOLS.mkdir(parents=True, exist_ok=True)
    command = [*npm(node), "install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund"]
    command += ["--prefix", str(TOOLS), f"playwright-core@{PLAYWRIGHT}"]
    if subprocess.run(command, stdout=sys.stderr).returncode != 0:
        sys.exit(f"web: npm could not install playwright-core@{PLAYWRIGHT}")


def npm(node):
    """npm as it comes with this node."""
    beside = Path(node).resolve().parent.parent / "lib/node_modules/npm/bin/npm-cli.js"
    return [node, str(beside)] if beside.is_file() else ["npm"]


def say(line):
    print(f"web: {line}", file=sys.stderr)


if __name__ == "__main__":
    main()

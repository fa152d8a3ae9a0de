"""Plain WebSockets of rsockd, driven by other people's clients; and clients of rsock.json.v1.

Standard library only, and the packages of package-lock.json and requirements.txt. Debian: chromium nodejs npm python3-venv.
"""

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "interop"))

from peers import Missing, cached, install, need, version_of  # noqa: E402
from programs import Broken, node_tests, say  # noqa: E402

IN_CI = os.environ.get("CI") == "true"
LIMIT = 110


def node_packages(cache, work):
    """The tests beside the packages that they import, as nothing is to be installed inside the repository."""
    node, npm = need("node", "nodejs"), need("npm")
    inputs = [HERE / "package.json", HERE / "package-lock.json"]
    with cached(cache, "plain", inputs, version_of([node, "--version"])) as (folder, empty):
        if empty:
            for path in inputs:
                shutil.copy(path, folder)
            words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            install(words, folder, "npm ci for plain WebSockets")
    for path in HERE.glob("*.mjs"):
        shutil.copy(path, work)
    (work / "node_modules").symlink_to(folder / "node_modules")
    return node


def python_packages(cache):
    requirements = HERE / "requirements.txt"
    made_for = f"{sys.executable} {sys.version}"
    with cached(cache, "plain-py", [requirements], made_for) as (folder, empty):
        if empty:
            probe = [sys.executable, "-c", "import ensurepip, venv"]
            if subprocess.run(probe, stderr=subprocess.DEVNULL).returncode != 0:
                raise Missing("python3 HERE CANNOT MAKE A venv (Debian: python3-venv)")
            install([sys.executable, "-m", "venv", str(folder / "venv")], folder, "venv")
            pip = [str(folder / "venv/bin/python"), "-m", "pip", "install"]
            pip += ["--quiet", "--disable-pip-version-check", "-r", str(requirements)]
            install(pip, folder, "pip install for plain WebSockets")
    return folder / "venv/bin/python"


def run(node, files, work, settings):
    """Runs the tests, shows what they say, and counts."""
    words = [node, "--test", "--test-reporter=spec", "--test-timeout=60000", *map(str, files)]
    environment = os.environ | {"PLAIN_TESTS": json.dumps(settings)}
    return node_tests(words, LIMIT, work, environment)


def main():
    parser = argparse.ArgumentParser(prog="run", description="Plain WebSockets of rsockd, and clients of rsock.json.v1.")
    parser.add_argument("--rsockd", type=Path, metavar="PATH", help="the service to start")
    parser.add_argument("--client", metavar="COMMAND", help="a client of rsock.json.v1 to try, and nothing else")
    parser.add_argument("tests", nargs="*", metavar="TEST", help="files, as echo or json; all")
    options = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    rsockd = (options.rsockd or target / "debug" / "rsockd").absolute()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("RSOCK_INTEROP_CACHE") or Path(home) / "rsock-interop").absolute()
    passed, failed, skipped = 0, 0, 0
    missing = []
    try:
        if not options.client and not os.access(rsockd, os.X_OK):
            raise Broken(f"no program at {rsockd}; `cargo build` makes it")
        with tempfile.TemporaryDirectory(prefix="rsock-plain-") as folder:
            work = Path(folder)
            node = node_packages(cache, work)
            python, chromium = None, None
            if not options.client:
                try:
                    python = str(python_packages(cache))
                except Missing as error:
                    missing.append(str(error))
                names = ("chromium", "chromium-browser", "google-chrome")
                chromium = next(filter(None, map(shutil.which, names)), None)
                if chromium is None:
                    missing.append("NO chromium HERE (Debian: chromium)")
            settings = {"rsockd": str(rsockd), "python": python, "chromium": chromium, "here": str(HERE)}
            settings["client"] = shlex.split(options.client) if options.client else None
            wanted = ["conformance"] if options.client else options.tests
            wanted = wanted or sorted(path.name.removesuffix(".test.mjs") for path in HERE.glob("*.test.mjs"))
            files = [work / f"{name}.test.mjs" for name in wanted]
            passed, failed, skipped = run(node, files, work, settings)
    except Missing as error:
        missing.append(str(error))
    except Broken as error:
        print(f"FAIL start: {error}", flush=True)
        failed += 1
    for what in missing:
        say(what)
        print(f"{'FAIL' if IN_CI else 'skip'} {what}", flush=True)
    failed, skipped = failed + len(missing) * IN_CI, skipped + len(missing) * (not IN_CI)
    print(f"plain: {passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())

"""The console in Chromium: installs what the cases need, and runs them with Node.js.

Standard library only, and the packages of package-lock.json. Debian: chromium npm.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "interop"))

from peers import Missing, cached, install, need, version_of  # noqa: E402
from programs import Broken  # noqa: E402

IN_CI = os.environ.get("CI") == "true"


def packages(cache):
    """The folder of the packages."""
    npm, node = need("npm", "npm"), need("node", "nodejs")
    inputs = [HERE / "package.json", HERE / "package-lock.json"]
    with cached(cache, "console", inputs, version_of([node, "--version"])) as (folder, empty):
        if empty:
            for path in inputs:
                shutil.copy(path, folder)
            words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            install(words, folder, "npm ci for the console")
    return node, folder / "node_modules"


def main():
    parser = argparse.ArgumentParser(prog="run", description="The console in Chromium against rsockd.")
    parser.add_argument("--rsockd", type=Path, metavar="PATH", help="the service to start")
    parser.add_argument("--web", type=Path, metavar="DIR", help="files to serve in the place of those in the program")
    parser.add_argument("--only", metavar="WORD", default="", help="cases with this in their names")
    options = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    rsockd = (options.rsockd or target / "debug" / "rsockd").absolute()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("RSOCK_INTEROP_CACHE") or Path(home) / "rsock-interop").absolute()
    try:
        names = ("chromium", "chromium-browser", "google-chrome")
        browser = next(filter(None, map(shutil.which, names)), None) or need(names[0], names[0])
        node, modules = packages(cache)
    except Missing as error:
        print(f"{'FAIL' if IN_CI else 'skip'} chromium: {error}", flush=True)
        print(f"console: 0 passed, {int(IN_CI)} failed, {int(not IN_CI)} skipped", flush=True)
        return int(IN_CI)
    except Broken as error:
        print(f"FAIL start: {error}\nconsole: 0 passed, 1 failed, 0 skipped", flush=True)
        return 1
    # Modules are looked for beside the file that imports them, and nothing is to be installed inside the repository.
    with tempfile.TemporaryDirectory(prefix="rsock-console-") as work:
        folder = Path(work) / "console"
        shutil.copytree(HERE, folder)
        (folder / "node_modules").symlink_to(modules)
        shots = ROOT / "target" / "console"
        shots.mkdir(parents=True, exist_ok=True)
        words = [node, folder / "main.mjs", "--rsockd", rsockd, "--browser", browser, "--shots", shots]
        words += ["--source", ROOT / "server" / "web", "--work", work, "--only", options.only]
        if options.web:
            words += ["--web", options.web.absolute()]
        return subprocess.run(list(map(str, words))).returncode


if __name__ == "__main__":
    sys.exit(main())

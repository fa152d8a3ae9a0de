"""rsocket.mjs in Node.js and in Chromium, against services of several makers.

Standard library only, and the packages of package-lock.json. Debian: chromium nodejs npm; for rsocket-java a JDK and Maven.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "interop"))

from peers import PEERS, Missing, cached, install, need, version_of  # noqa: E402
from programs import Broken, node_tests, say  # noqa: E402

IN_CI = os.environ.get("CI") == "true"
LIMIT = 180
# The peers whose servers it is tried against.
SERVERS = ("java", "js1")


def packages(cache, work):
    """The tests beside the packages that they import, as nothing is to be installed inside the repository."""
    node, npm = need("node", "nodejs"), need("npm")
    inputs = [HERE / "package.json", HERE / "package-lock.json"]
    with cached(cache, "module", inputs, version_of([node, "--version"])) as (folder, empty):
        if empty:
            for path in inputs:
                shutil.copy(path, folder)
            words = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            install(words, folder, "npm ci for the module")
    for path in [*HERE.glob("*.mjs"), *HERE.glob("*.html"), *HERE.glob("*.mts")]:
        shutil.copy(path, work)
    (work / "node_modules").symlink_to(folder / "node_modules")
    return node


def servers(cache, work):
    """The commands of the peers' servers, and which cannot be tried here."""
    commands, missing = {}, []
    for name in SERVERS:
        try:
            PEERS[name].prepare(cache, work)
            commands[name] = PEERS[name].command("server")
        except Missing as error:
            missing.append(f"{name}: {error}")
    return commands, missing


def run(node, files, work, environment):
    """Runs the tests, shows what they say, and counts."""
    words = [node, "--test", "--test-reporter=spec", "--test-timeout=60000", "--test-concurrency=2", *map(str, files)]
    return node_tests(words, LIMIT, work, environment)


def main():
    parser = argparse.ArgumentParser(prog="run", description="rsocket.mjs against services of several makers.")
    parser.add_argument("--rsockd", type=Path, metavar="PATH", help="the service to start")
    parser.add_argument("tests", nargs="*", metavar="TEST", help="files, as topics or frames; all")
    options = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    rsockd = (options.rsockd or target / "debug" / "rsockd").absolute()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("RSOCK_INTEROP_CACHE") or Path(home) / "rsock-interop").absolute()
    passed, failed, skipped = 0, 0, 0
    missing = []
    try:
        if not os.access(rsockd, os.X_OK):
            raise Broken(f"no program at {rsockd}; `cargo build` makes it")
        with tempfile.TemporaryDirectory(prefix="rsock-module-") as folder:
            work = Path(folder)
            node = packages(cache, work)
            commands, missing = servers(cache, work)
            names = ("chromium", "chromium-browser", "google-chrome")
            chromium = next(filter(None, map(shutil.which, names)), None)
            if chromium is None:
                missing.append("chromium: NO chromium HERE (Debian: chromium)")
            settings = {"rsockd": str(rsockd), "servers": commands, "chromium": chromium}
            settings |= {"web": str(ROOT / "server/web"), "root": str(ROOT)}
            wanted = options.tests or sorted(path.name.removesuffix(".test.mjs") for path in HERE.glob("*.test.mjs"))
            files = [work / f"{name}.test.mjs" for name in wanted]
            environment = os.environ | {"MODULE_TESTS": json.dumps(settings)}
            passed, failed, skipped = run(node, files, work, environment)
    except Missing as error:
        missing.append(str(error))
    except Broken as error:
        print(f"FAIL start: {error}", flush=True)
        failed += 1
    for what in missing:
        say(what)
        print(f"{'FAIL' if IN_CI else 'skip'} {what}", flush=True)
    failed, skipped = failed + len(missing) * IN_CI, skipped + len(missing) * (not IN_CI)
    print(f"module: {passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())

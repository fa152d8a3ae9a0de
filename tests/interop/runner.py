"""Runs the pinned real peers against rsockd, over TCP and over WebSocket.

Standard library only; start it through `run` beside it. README.md has the use.
"""

import argparse
import contextlib
import fcntl
import hashlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
IN_CI = os.environ.get("CI") == "true"

INSTALL_LIMIT = 600
READY_LIMIT = 30
CLIENT_LIMIT = 240
QUICKSTART_LIMIT = 30
STOP_LIMIT = 10

CASE_LINE = re.compile(r"(ok|skip|FAIL) ([\w-]+)(?:: .*)?$")
QUICKSTART_OUTPUT = ["echo: hello", "range: 0 1 2 3 4 5 6 7 8 9"]


class Missing(Exception):
    """A toolchain that is not here."""


class Broken(Exception):
    """Something that had to work before any case could run."""


class Tally:
    def __init__(self):
        self.counts = {"ok": 0, "FAIL": 0, "skip": 0}

    def line(self, where, word, name, rest=""):
        self.counts[word] += 1
        print(f"{where} {word} {name}{rest}", flush=True)

    def summary(self):
        ok, failed, skipped = (self.counts[word] for word in ("ok", "FAIL", "skip"))
        return f"interop: {ok} passed, {failed} failed, {skipped} skipped"


def say(text):
    print(f"interop: {text}", file=sys.stderr, flush=True)


# Peers ---------------------------------------------------------------------


def need(tool):
    path = shutil.which(tool)
    if path is None:
        raise Missing(f"NO {tool} HERE")
    return path


def install(arguments, cwd, what):
    try:
        done = subprocess.run(
            arguments,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=INSTALL_LIMIT,
        )
    except subprocess.TimeoutExpired:
        raise Broken(f"{what}: no end after {INSTALL_LIMIT} s") from None
    if done.returncode != 0:
        raise Broken(f"{what} failed:\n{done.stdout.rstrip()}")


@contextlib.contextmanager
def cached(cache, peer, inputs, made_for):
    """The peer's folder in the cache, named after what is installed in it.

    Gives the folder and whether it still has to be filled; only one runner at
    a time may look or fill.
    """
    digest = hashlib.sha256(made_for.encode())
    for path in inputs:
        digest.update(path.read_bytes())
    folder = cache / f"{peer}-{digest.hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{peer}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        complete = folder / "complete"
        if complete.exists():
            say(f"{peer}: packages are up to date in {folder}")
            yield folder, False
        else:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            yield folder, True
            complete.touch()


class Node:
    """A peer in JavaScript: its folder has client.mjs, package.json and a lockfile."""

    def __init__(self, name):
        self.name = name
        self.source = HERE / name

    def prepare(self, cache, work):
        self.node, npm = need("node"), need("npm")
        version = subprocess.run(
            [self.node, "--version"], stdout=subprocess.PIPE, text=True, check=True
        ).stdout.strip()
        inputs = [self.source / "package.json", self.source / "package-lock.json"]
        with cached(cache, self.name, inputs, version) as (folder, empty):
            if empty:
                say(f"{self.name}: npm ci, node {version}, into {folder}")
                for path in inputs:
                    shutil.copy(path, folder)
                command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
                install(command, folder, f"npm ci for {self.name}")
        # Modules are looked for beside the file that imports them, and nothing
        # is to be installed inside the repository: so the sources are copied.
        shutil.copytree(HERE / "lib", work / "lib", dirs_exist_ok=True)
        self.folder = work / self.name
        self.folder.mkdir()
        for path in self.source.glob("*.mjs"):
            shutil.copy(path, self.folder)
        (self.folder / "node_modules").symlink_to(folder / "node_modules")

    def command(self, script):
        return [self.node, str(self.folder / f"{script}.mjs")]

    def has(self, script):
        return (self.source / f"{script}.mjs").exists()


class Python:
    """A peer in Python: its folder has client.py and requirements.txt."""

    def __init__(self, name):
        self.name = name
        self.source = HERE / name

    def prepare(self, cache, work):
        requirements = self.source / "requirements.txt"
        made_for = f"{sys.executable} {sys.version}"
        with cached(cache, self.name, [requirements], made_for) as (folder, empty):
            if empty:
                version = ".".join(map(str, sys.version_info[:3]))
                say(f"{self.name}: a venv of Python {version} and pip install, into {folder}")
                probe = [sys.executable, "-c", "import ensurepip, venv"]
                if subprocess.run(probe, stderr=subprocess.DEVNULL).returncode != 0:
                    raise Missing("python3 HERE CANNOT MAKE A venv (Debian: python3-venv)")
                install([sys.executable, "-m", "venv", str(folder / "venv")], folder, "venv")
                pip = [str(folder / "venv/bin/python"), "-m", "pip", "install"]
                pip += ["--quiet", "--disable-pip-version-check", "-r", str(requirements)]
                install(pip, folder, f"pip install for {self.name}")
        self.python = folder / "venv/bin/python"

    def command(self, script):
        return [str(self.python), "-B", str(self.source / f"{script}.py")]

    def has(self, script):
        return (self.source / f"{script}.py").exists()


PEERS = {peer.name: peer for peer in (Node("js0"), Node("js1"), Python("py"))}


# Processes -----------------------------------------------------------------


def lines_of(stream, into):
    """Puts the stream's lines on a queue, then None."""

    def read():
        for line in stream:
            into.put(line.rstrip("\n"))
        into.put(None)

    threading.Thread(target=read, daemon=True).start()


def end(process):
    """Ends a process of ours and whatever it started in its own group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run_client(arguments, limit, each_line):
    """Runs a client; gives its exit code (None: ended at the limit) and stderr."""
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        output = queue.Queue()
        lines_of(process.stdout, output)
        deadline = time.monotonic() + limit
        code = None
        try:
            while True:
                line = output.get(timeout=max(0, deadline - time.monotonic()))
                if line is None:
                    break
                each_line(line)
            code = process.wait(timeout=max(0.1, deadline - time.monotonic()))
        except (queue.Empty, subprocess.TimeoutExpired):
            pass
        finally:
            end(process)
        errors.seek(0)
        return code, errors.read()


class Service:
    """rsockd on free ports, for as long as the peers run."""

    def __init__(self, path, work):
        self.path = path
        self.log = work / "rsockd.log"

    def __enter__(self):
        arguments = [str(self.path)]
        for uri in ("tcp://127.0.0.1:0", "ws://127.0.0.1:0/rsocket"):
            arguments += ["--listen", uri]
        say(f"starting {' '.join(arguments)}")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        try:
            self.uris = self.wait_until_ready()
        except BaseException:
            end(self.process)
            raise
        return self

    def wait_until_ready(self):
        output = queue.Queue()
        lines_of(self.process.stdout, output)
        deadline = time.monotonic() + READY_LIMIT
        uris = {}
        while len(uris) < 2:
            try:
                line = output.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise Broken(
                    f"rsockd did not say within {READY_LIMIT} s where it listens "
                    f"(said so far: {sorted(uris)})\n{self.last_words()}"
                ) from None
            if line is None:
                code = self.process.wait()
                raise Broken(f"rsockd ended with {code}\n{self.last_words()}")
            found = re.match(r"listening on ((tcp|ws)://\S+)$", line)
            if found:
                uris[found[2]] = found[1]
        return uris

    def last_words(self):
        lines = self.log.read_text(errors="replace").splitlines()[-30:]
        return "\n".join(f"rsockd # {line}" for line in lines or ["(it logged nothing)"])

    def is_running(self):
        return self.process.poll() is None

    def __exit__(self, *_):
        if self.is_running():
            self.process.terminate()
            try:
                self.process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                say(f"rsockd was still there {STOP_LIMIT} s after SIGTERM and was killed")
        end(self.process)


# The run -------------------------------------------------------------------


def run_peer(peer, transport, uri, tally):
    where = f"{peer.name} {transport}"
    failed_before = tally.counts["FAIL"]
    seen = 0

    def case_line(line):
        nonlocal seen
        found = CASE_LINE.match(line)
        if found is None:
            print(f"{where} # {line}", flush=True)
            return
        seen += 1
        tally.line(where, found[1], found[2], line[found.end(2) :])

    code, errors = run_client([*peer.command("client"), uri], CLIENT_LIMIT, case_line)
    reported = tally.counts["FAIL"] - failed_before
    if code is None:
        tally.line(where, "FAIL", "client", f": no end after {CLIENT_LIMIT} s")
    elif code != 0 and reported == 0:
        tally.line(where, "FAIL", "client", f": exit code {code} without a failed case")
    elif seen == 0:
        tally.line(where, "FAIL", "client", ": it ran no case")
    show_errors(where, errors, tally.counts["FAIL"] > failed_before)

    if transport == "tcp" and peer.has("quickstart"):
        output = []
        code, errors = run_client(
            [*peer.command("quickstart"), uri], QUICKSTART_LIMIT, output.append
        )
        if code == 0 and output == QUICKSTART_OUTPUT:
            tally.line(where, "ok", "quickstart")
        else:
            how = f"no end after {QUICKSTART_LIMIT} s" if code is None else f"exit code {code}"
            tally.line(where, "FAIL", "quickstart", f": {how}, it said {output}")
            show_errors(where, errors, True)


def show_errors(where, errors, wanted):
    if wanted:
        for line in errors.splitlines()[-40:]:
            print(f"{where} # {line}", flush=True)


def default_rsockd(release):
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    return target / ("release" if release else "debug") / "rsockd"


def main():
    parser = argparse.ArgumentParser(prog="run", description="Runs real peers against rsockd.")
    parser.add_argument("--rsockd", type=Path, metavar="PATH", help="the service to start")
    parser.add_argument("--release", action="store_true", help="the one from target/release")
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)}; all")
    options = parser.parse_args()
    unknown = [name for name in options.peers if name not in PEERS]
    if unknown:
        parser.error(f"no peer is called {unknown[0]}; there are {', '.join(PEERS)}")
    peers = [PEERS[name] for name in dict.fromkeys(options.peers or PEERS)]
    rsockd = (options.rsockd or default_rsockd(options.release)).absolute()
    if not os.access(rsockd, os.X_OK) or rsockd.is_dir():
        parser.error(f"no program at {rsockd}; build it with `cargo build` or give --rsockd PATH")
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("RSOCK_INTEROP_CACHE") or Path(home) / "rsock-interop")

    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="rsock-interop-") as work:
        try:
            run_all(peers, rsockd, cache.absolute(), Path(work), tally)
        except Broken as error:
            say(str(error))
            tally.line("rsockd", "FAIL", "start")
    print(tally.summary(), flush=True)
    return 1 if tally.counts["FAIL"] else 0


def run_all(peers, rsockd, cache, work, tally):
    ready = []
    for peer in peers:
        try:
            peer.prepare(cache, work)
            ready.append(peer)
        except Missing as error:
            say(f"{error}, so {peer.name} DOES NOT RUN")
            tally.line(peer.name, "FAIL" if IN_CI else "skip", "toolchain", f": {error}")
        except Broken as error:
            say(str(error))
            tally.line(peer.name, "FAIL", "install")
    if not ready:
        return
    with Service(rsockd, work) as service:
        for peer in ready:
            for transport, uri in sorted(service.uris.items()):
                failed_before = tally.counts["FAIL"]
                run_peer(peer, transport, uri, tally)
                if not service.is_running():
                    code = service.process.wait()
                    tally.line("rsockd", "FAIL", "alive", f": it ended with {code}")
                    print(service.last_words(), flush=True)
                    return
                if tally.counts["FAIL"] > failed_before:
                    print(service.last_words(), flush=True)


if __name__ == "__main__":
    # An interrupted run still ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())

"""Processes of ours: clients that run to their end, and services that are ended."""

import contextlib
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time

READY_LIMIT = 30
STOP_LIMIT = 10


class Broken(Exception):
    """Something that had to work before any case could run."""


def say(text):
    print(f"interop: {text}", file=sys.stderr, flush=True)


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


def run_client(arguments, limit, each_line, typed="", environment=None):
    """Runs a client with these lines as stdin; gives its exit code (None: ended at the limit) and stderr."""
    with contextlib.ExitStack() as files:
        errors = files.enter_context(tempfile.TemporaryFile("w+", errors="replace"))
        stdin = files.enter_context(tempfile.TemporaryFile("w+"))
        stdin.write(typed)
        stdin.seek(0)
        process = subprocess.Popen(
            arguments,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
            start_new_session=True,
            env=environment,
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
    """A program that says `listening on URI` for each of its URIs; use it in a `with`.

    `uris` has them by scheme. It ends by SIGTERM, and by the end of its stdin.
    """

    def __init__(self, name, arguments, schemes, work):
        self.name = name
        self.arguments = [str(argument) for argument in arguments]
        self.schemes = set(schemes)
        self.log = work / f"{name}.log"

    def __enter__(self):
        say(f"starting {' '.join(self.arguments)}")
        if not os.access(self.arguments[0], os.X_OK):
            raise Broken(f"no program at {self.arguments[0]}; `cargo build` makes it")
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                self.arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        self.output = queue.Queue()
        lines_of(self.process.stdout, self.output)
        try:
            self.uris = self.wait_until_ready()
        except BaseException:
            end(self.process)
            raise
        return self

    def line(self, deadline):
        """The next line of stdout; None at its end or when it does not come in time."""
        try:
            return self.output.get(timeout=max(0, deadline - time.monotonic()))
        except queue.Empty:
            return None

    def wait_for(self, wanted, limit):
        """Whether it says this line within so many seconds; others are passed over."""
        deadline = time.monotonic() + limit
        while (line := self.line(deadline)) is not None:
            if line == wanted:
                return True
        return False

    def wait_until_ready(self):
        deadline = time.monotonic() + READY_LIMIT
        uris = {}
        while set(uris) != self.schemes:
            line = self.line(deadline)
            if line is None and not self.is_running():
                code = self.process.wait()
                raise Broken(f"{self.name} ended with {code}\n{self.last_words()}")
            if line is None:
                raise Broken(
                    f"{self.name} did not say within {READY_LIMIT} s where it listens "
                    f"(said so far: {sorted(uris)})\n{self.last_words()}"
                )
            found = re.match(r"listening on ((\w+)://\S+)$", line)
            if found:
                uris[found[2]] = found[1]
        return uris

    def last_words(self):
        lines = self.log.read_text(errors="replace").splitlines()[-30:]
        return "\n".join(f"{self.name} # {line}" for line in lines or ["(it logged nothing)"])

    def is_running(self):
        return self.process.poll() is None

    def __exit__(self, *_):
        if self.is_running():
            self.process.terminate()
            try:
                self.process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                say(f"{self.name} was still there {STOP_LIMIT} s after SIGTERM and was killed")
        end(self.process)


def node_tests(words, limit, work, environment):
    """Runs tests of node:test, shows what they say, and counts those that passed, failed and were skipped."""
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=work, env=environment, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        end(process)
        output, _ = process.communicate()
        output += f"\nno end after {limit} s\nℹ fail 1\n"
    finally:
        end(process)
    print(output, flush=True)
    count = {name: int(n) for name, n in re.findall(r"^ℹ (pass|fail|cancelled|skipped) (\d+)$", output, re.M)}
    failed = count.get("fail", 0) + count.get("cancelled", 0)
    if process.returncode != 0 and failed == 0:
        failed = 1
    return count.get("pass", 0), failed, count.get("skipped", 0)

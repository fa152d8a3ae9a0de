"""Our `rsock` against the peers' servers: what it must show, and where a peer is known to differ."""

import re
import subprocess
import tempfile

LIMIT = 20

# Cases that fail against a peer, and what it does. Each is run all the same: one
# that passes has to go from here.
DIFFERENCES = {
    ("js0", "request-metadata"): "its server never sends the metadata of an answer",
    ("js1", "push"): "its server closes the connection over METADATA_PUSH",
}


class Run:
    """One run of `rsock`, to its end."""

    def __init__(self, rsock, uri, words, stdin=b""):
        command, *rest = words
        arguments = [str(rsock), command, uri, "--timeout", f"{LIMIT}s", *rest]
        self.done = subprocess.run(
            arguments, input=stdin, capture_output=True, timeout=2 * LIMIT, check=False
        )
        self.out = self.done.stdout
        self.err = self.done.stderr.decode(errors="replace")

    def check(self, condition, otherwise):
        if not condition:
            err = " ".join(self.err.split())[-300:]
            code = self.done.returncode
            raise AssertionError(f"{otherwise}; exit code {code}, stderr: {err}")

    def ends_well(self, out):
        self.check(self.done.returncode == 0, "it failed")
        shown = self.out if len(self.out) < 200 else f"{len(self.out)} bytes"
        self.check(self.out == out, f"stdout is {shown}")


def lines(items):
    return "".join(f"{item}\n" for item in items).encode()


def request(run, _):
    run("request", "-r", "echo", "-d", "hello, wörld").ends_well("hello, wörld\n".encode())


def request_metadata(run, _):
    words = ["-r", "echo", "-d", "x", "-m", "text=comes back", "--show", "metadata"]
    done = run("request", *words)
    done.ends_well(b"x\n")
    done.check("text/plain: comes back" in done.err, "the metadata did not come back")


def request_empty(run, _):
    run("request", "-r", "echo", "-d", "").ends_well(b"\n")


def request_1mib(run, _):
    data = bytes((i * 31 + (i >> 8)) & 0xFF for i in range(1 << 20))
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        for mtu in ("65536", "1024"):
            words = ["-r", "echo", "-d", f"@{file.name}", "--out", "raw", "--mtu", mtu]
            run("request", *words).ends_well(data)


def request_fails(run, _):
    done = run("request", "-r", "fail", "-d", "no tea left")
    done.check(done.done.returncode == 71, "expected 71, APPLICATION_ERROR")
    done.check("no tea left" in done.err, "the error's text is missing")


def stream(run, _):
    """Items come under credit: never more than 4 outstanding."""
    words = ["-r", "range", "-d", '{"from":0,"to":50}', "--request-n", "4", "--refill", "100", "-vv"]
    done = run("stream", *words)
    done.ends_well(lines(range(50)))
    credit = items = 0
    for line in done.err.splitlines():
        if asked := re.match(r"→ REQUEST_(?:STREAM|N) stream=\d+ .*?n=(\d+)", line):
            credit += int(asked[1])
        elif re.match(r"← PAYLOAD stream=\d+ \[N", line):
            items += 1
            done.check(items <= credit, f"{items} items came, {credit} were asked for")
    done.check(items == 50, f"the log of frames has {items} items")


def stream_cancelled(run, _):
    words = ["-r", "range", "-d", '{"from":0,"to":1000000}', "--take", "5"]
    run("stream", *words).ends_well(lines(range(5)))


def stream_fails(run, _):
    done = run("stream", "-r", "fail", "-d", "no tea left")
    done.check(done.done.returncode == 71, "expected 71, APPLICATION_ERROR")
    done.check(done.out == b"one\n", f"stdout is {done.out}")
    done.check("no tea left" in done.err, "the error's text is missing")


def channel(run, _):
    items = lines(f"item {i}" for i in range(40))
    words = ["-r", "echo", "-d", "-", "--request-n", "4"]
    run("channel", *words, stdin=items).ends_well(items)


def fnf(run, service):
    done = run("fnf", "-r", "echo", "-d", "forget me")
    done.ends_well(b"")
    done.check(service.wait_for("got fnf forget me", LIMIT), "it did not arrive")


def push(run, service):
    done = run("push", "--metadata-mime", "text/plain", "-m", "a push")
    done.ends_well(b"")
    done.check(service.wait_for("got push a push", LIMIT), "it did not arrive")


def setup_rejected(run, _):
    done = run("request", "-r", "echo", "-d", "x", "--setup-data", "reject")
    done.check(done.done.returncode == 67, "expected 67, REJECTED_SETUP")
    done.check("not you" in done.err, "the error's text is missing")


def keepalive(run, _):
    """Longer than the lifetime: both sides' KEEPALIVE frames are answered."""
    words = ["-r", "clock", "--take", "75", "--keepalive", "200ms/800ms", "--out", "none"]
    run("stream", *words).ends_well(b"")


CASES = {
    case.__name__.replace("_", "-"): case
    for case in (
        request,
        request_metadata,
        request_empty,
        request_1mib,
        request_fails,
        stream,
        stream_cancelled,
        stream_fails,
        channel,
        fnf,
        push,
        setup_rejected,
        keepalive,
    )
}


def run_cases(rsock, peer, transport, service, tally):
    """Runs all cases against one server of a peer."""
    where = f"rsock {peer} {transport}"

    def run(*words, stdin=b""):
        return Run(rsock, service.uris[transport], words, stdin)

    for name, case in CASES.items():
        known = DIFFERENCES.get((peer, name))
        try:
            case(run, service)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            if known:
                tally.line(where, "skip", name, f": {known} (expected difference)")
            else:
                tally.line(where, "FAIL", name, f": {error}")
        else:
            if known:
                tally.line(where, "FAIL", name, f": it passes, and is listed as: {known}")
            else:
                tally.line(where, "ok", name)
        if not service.is_running():
            tally.line(where, "FAIL", "alive", f": {service.name} ended")
            return

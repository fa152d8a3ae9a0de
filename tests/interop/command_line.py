"""Our `rsock` against the peers' servers: what it must show, and where one is known to differ."""

import re
import subprocess
import tempfile
from random import Random
from urllib.parse import urlsplit

from cutting import CUTS, CUTS_IN_STREAMS, CuttingProxy

LIMIT = 20

# Cases that fail against a peer, and what it does. Each is run all the same: one
# that passes has to go from here.
DIFFERENCES = {
    ("go", "reassembled"): "its server sets COMPLETE on the first fragment, which ends the answer",
    ("go", "request-20mib"): "its server sets COMPLETE on the first fragment, which ends the answer",
    ("js0", "request-metadata"): "its server never sends the metadata of an answer",
    ("js0", "request-20mib"): "it answers without fragments, and this is longer than a frame may be",
    ("spring", "request-metadata"): "its handlers have no way to give an answer metadata",
    ("spring", "fnf"): "its routes answer requests or take fire-and-forget, not both",
    ("spring", "stream-fails"): "an error discards the items that it has not yet written",
    ("spring", "greet-cbor-for-one-request"): "it reads all data as of the type that SETUP named",
    ("spring", "push"): "its security reads all metadata as composite, and drops what is not",
    ("js1", "push"): "its server closes the connection over METADATA_PUSH",
    ("js1", "request-20mib"): "it answers without fragments, and this is longer than a frame may be",
    ("rust", "request-20mib"): "its server sets COMPLETE on the first fragment, which ends the answer",
    ("rust", "reassembled"): "its server sets COMPLETE on the first fragment, which ends the answer",
}

# Cases that fail against a peer when it is faster than we are.
RACES = {
    ("rust", "stream"): "its server sends all items without being asked, and rsock fails the stream",
    ("rust", "channel"): "its server sends all items without being asked, and rsock fails the channel",
    ("rust", "reconnected"): "its server sends all items without being asked, and rsock fails the stream",
    ("rust", "reconnected-without-resume"): "the same",
}


class Run:
    """One run of `rsock`, to its end."""

    def __init__(self, rsock, uri, words, limit, stdin=b""):
        command, *rest = words
        arguments = [str(rsock), command, uri, "--timeout", f"{limit}s", *rest]
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


def request_metadata_only(run, _):
    """A request that ends with its metadata."""
    done = run("request", "-r", "echo", "-m", "text=alone", "-d", "", "--show", "metadata")
    done.ends_well(b"\n")
    if (run.peer, "request-metadata") not in DIFFERENCES:
        done.check("text/plain: alone" in done.err, "the metadata did not come back")


def request_20mib(run, _):
    """More than the longest frame: both ways in fragments."""
    data = Random(20).randbytes(20 << 20)
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        done = run("request", "-r", "echo", "-d", f"@{file.name}", "--out", "raw")
        done.ends_well(data)


def request_fails(run, _):
    done = run("request", "-r", "fail", "-d", "no tea left")
    done.check(done.done.returncode == 71, "expected 71, APPLICATION_ERROR")
    done.check("no tea left" in done.err, "the error's text is missing")


def stream(run, _):
    """Items come under credit: never more than 4 outstanding."""
    words = ["-r", "range", "-d", '{"from":0,"to":50}', "--request-n", "4", "--refill", "100"]
    done = run("stream", *words, "-vv")
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
    done.check(service.wait_for("got fnf forget me", run.patience), "it did not arrive")


def push(run, service):
    done = run("push", "--metadata-mime", "text/plain", "-m", "a push")
    done.ends_well(b"")
    done.check(service.wait_for("got push a push", run.patience), "it did not arrive")


def setup_rejected(run, _):
    done = run("request", "-r", "echo", "-d", "x", "--setup-data", "reject")
    done.check(done.done.returncode == 67, "expected 67, REJECTED_SETUP")
    done.check("not you" in done.err, "the error's text is missing")


def keepalive(run, _):
    """Longer than the lifetime: both sides' KEEPALIVE frames are answered."""
    words = ["-r", "clock", "--take", "75", "--keepalive", "200ms/800ms", "--out", "none"]
    run("stream", *words).ends_well(b"")


def resumed(run, _):
    """Items and requests for more, of a session that goes on over lost connections."""
    cuts = CAPABLE["--resume"][run.peer]
    with CuttingProxy(*run.address, cuts) as proxy:
        words = ["-r", "range", "-d", '{"from":0,"to":20000}', "--request-n", "64", "--resume=30s"]
        done = run.by("{}:{}".format(*proxy.address))("stream", *words, "--keepalive", "100ms/30s")
        done.ends_well(lines(range(20_000)))
        done.check(proxy.cut == len(cuts), f"{proxy.cut} cuts of {len(cuts)}")


def begun_anew(run, cuts, *flags):
    """A stream whose connection is lost twice, without resume: it begins anew each time."""
    with CuttingProxy(*run.address, cuts) as proxy:
        words = ["-r", "range", "-d", '{"from":0,"to":3000}', "--request-n", "64", *flags]
        done = run.by("{}:{}".format(*proxy.address))("stream", *words)
        done.check(done.done.returncode == 0, "it failed")
        done.check(done.out.endswith(lines(range(3_000))), "the last stream is not whole")
        done.check(proxy.cut == 2, f"{proxy.cut} cuts")
        begun = done.err.count("the stream begins anew")
        done.check(begun == 2, f"it began anew {begun} times")


def reconnected(run, _):
    begun_anew(run, [("down", 10_007), ("down", 13_331)], "--reconnect")


def reconnected_without_resume(run, _):
    """The server does not have resume: it is asked for, and then done without."""
    # One connection more, on which SETUP with a token, or RESUME, is refused.
    cuts = [("down", 10_007), ("down", 13_331), ("down", 11_003)]
    begun_anew(run, cuts, "--reconnect", "--resume=1s")


def leased(run, _):
    run("request", "-r", "echo", "-d", "x", "--lease").ends_well(b"x\n")


def reassembled(run, _):
    """The answer comes in fragments."""
    data = "0123456789" * 500
    done = run("request", "-r", "echo", "-d", data, "-vv")
    done.ends_well(f"{data}\n".encode())
    done.check(done.err.count("← PAYLOAD") > 1, "it came in one frame")


def named(*cases):
    return {case.__name__.replace("_", "-"): case for case in cases}


# What runs against servers started with these flags.
GROUPS = [
    (
        [],
        named(
            request,
            request_metadata,
            request_empty,
            request_1mib,
            request_metadata_only,
            request_fails,
            stream,
            stream_cancelled,
            stream_fails,
            channel,
            fnf,
            push,
            setup_rejected,
            keepalive,
            reconnected,
            reconnected_without_resume,
        ),
    ),
    (["--mtu", "256"], named(reassembled)),
    (["--mtu", "65536"], named(request_20mib)),
    (["--resume"], named(resumed)),
    (["--lease", "8/100"], named(leased)),
]

# Which peers' servers do these; for resume, the cuts they stand. The process of
# rsocket-js 1.0 alpha ends when a connection ends within its first frame.
CAPABLE = {
    "--mtu 256": {"go", "java", "py", "rust"},
    "--mtu 65536": {"go", "java", "js0", "js1", "py", "rust", "spring"},
    "--resume": {"java": CUTS, "js1": CUTS_IN_STREAMS},
    "--lease 8/100": {"go", "java", "js0", "py"},
}


def skips(peer, flags):
    return bool(flags) and peer not in CAPABLE[" ".join(flags)]


class Runner:
    """Runs `rsock` against one URI of a peer."""

    def __init__(self, rsock, peer, uri):
        self.rsock = rsock
        self.peer = peer
        self.parts = urlsplit(uri)
        self.address = (self.parts.hostname, self.parts.port)
        self.patience = LIMIT

    def __call__(self, *words, stdin=b""):
        return Run(self.rsock, self.parts.geturl(), words, self.patience, stdin)

    def by(self, address):
        """The same over another address."""
        return Runner(self.rsock, self.peer, self.parts._replace(netloc=address).geturl())


def run_cases(rsock, peer, transport, cases, service, tally):
    """Runs cases against one server of a peer."""
    where = f"rsock {peer} {transport}"
    run = Runner(rsock, peer, service.uris[transport])
    for name, case in cases.items():
        race = RACES.get((peer, name))
        known = DIFFERENCES.get((peer, name), race)
        # What is not expected to come is not waited for long.
        run.patience = 2 if known else LIMIT
        try:
            case(run, service)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            if known:
                tally.line(where, "skip", name, f": {known} (expected difference)")
            else:
                tally.line(where, "FAIL", name, f": {error}")
        else:
            if known and not race:
                tally.line(where, "FAIL", name, f": it passes, and is listed as: {known}")
            else:
                tally.line(where, "ok", name)
        if not service.is_running():
            return

"""Writes the .hex files beside it anew: frames that other implementations really send.

    python3 tests/vectors/capture.py [WRITER ...]

The peers of tests/interop talk to each other through a proxy that looks on; of
every kind of frame the first one is kept. What it says is written above its
bytes by the decoder below, which shares nothing with ours.
"""

import os
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "interop"))

from cutting import CUTS_IN_STREAMS, CuttingProxy  # noqa: E402
from peers import PEERS  # noqa: E402
from programs import Service  # noqa: E402

LEASE = ["--lease", "80/30000"]
CUTS = CUTS_IN_STREAMS[:2]

# For each file: who writes it, and the conversations, as client, server, its
# flags, the client's case, and the cuts of its line.
CAPTURES = {
    "rsocket-go": (
        "rsocket-go 0.8.16",
        "go",
        [
            ("go", "go", ["--mtu", "64", *LEASE], "frames", []),
            ("go", "go", ["--resume"], "frames-resumable", CUTS[:1]),
            ("go", "go", [], "frames-rejected", []),
        ],
    ),
    "rsocket-java": (
        "rsocket-java 1.1.5",
        "java",
        [
            ("java", "java", ["--mtu", "64", *LEASE], "frames", []),
            ("java", "java", ["--resume"], "resume-stream", CUTS),
            ("java", "java", [], "frames-rejected", []),
        ],
    ),
    "rsocket-js-0": (
        "rsocket-js 0.0.27",
        "js0",
        [
            ("js0", "js0", LEASE, "frames", []),
            ("js0", "java", ["--resume"], "resume-stream", CUTS),
            ("js0", "js0", [], "frames-rejected", []),
        ],
    ),
    "rsocket-js-1": (
        "rsocket-js 1.0.0-alpha.3",
        "js1",
        [
            ("js1", "js1", [], "frames-without-lease", []),
            ("js1", "java", LEASE, "frames", []),
            ("js1", "js1", ["--resume"], "resume-stream", CUTS),
            ("js1", "js1", [], "frames-rejected", []),
        ],
    ),
    "rsocket-rust": (
        "rsocket_rust 0.7.5",
        "rust",
        [("rust", "go", [], "frames", [])],
    ),
    "rsocket-py": (
        "rsocket-py 0.4.20",
        "py",
        [
            ("py", "py", LEASE, "frames", []),
            ("py", "py", [], "frames-rejected", []),
        ],
    ),
}

# Longer ones show nothing more.
LONGEST = 300

NAMES = {
    0x01: "SETUP",
    0x02: "LEASE",
    0x03: "KEEPALIVE",
    0x04: "REQUEST_RESPONSE",
    0x05: "REQUEST_FNF",
    0x06: "REQUEST_STREAM",
    0x07: "REQUEST_CHANNEL",
    0x08: "REQUEST_N",
    0x09: "CANCEL",
    0x0A: "PAYLOAD",
    0x0B: "ERROR",
    0x0C: "METADATA_PUSH",
    0x0D: "RESUME",
    0x0E: "RESUME_OK",
}
ON_CONNECTION = {"SETUP", "LEASE", "KEEPALIVE", "METADATA_PUSH", "RESUME", "RESUME_OK"}

METADATA = 0x100
# The flags a type has, in the order in which they are told.
FLAGS = {
    "SETUP": {0x040: "lease"},
    "KEEPALIVE": {0x080: "respond"},
    "REQUEST_RESPONSE": {0x080: "follows"},
    "REQUEST_FNF": {0x080: "follows"},
    "REQUEST_STREAM": {0x080: "follows"},
    "REQUEST_CHANNEL": {0x080: "follows", 0x040: "complete"},
    "PAYLOAD": {0x080: "follows", 0x020: "next", 0x040: "complete"},
}
WITHOUT_REST = {"LEASE", "REQUEST_N", "CANCEL", "RESUME", "RESUME_OK"}
WITH_METADATA = {*FLAGS, "LEASE", "METADATA_PUSH"} - {"KEEPALIVE"}


class Fields:
    """Takes fields off the front of a frame."""

    def __init__(self, frame):
        self.rest = frame

    def take(self, count):
        taken, self.rest = self.rest[:count], self.rest[count:]
        if len(taken) < count:
            raise ValueError("the frame is too short")
        return taken

    def number(self, width):
        return int.from_bytes(self.take(width), "big")


def value(data):
    """Bytes in words: text where all of it is printable, hexadecimal digits otherwise."""
    if all(0x20 <= byte < 0x7F for byte in data):
        text = data.decode("ascii").replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'
    return f"0x{data.hex()}"


def describe(frame):
    """What a frame says, and what keeps its encoding from being the only one."""
    fields = Fields(frame)
    stream = fields.number(4)
    word = fields.number(2)
    name, flags = NAMES[word >> 10], word & 0x3FF
    if name in ON_CONNECTION and stream != 0:
        return f"{name} on stream {stream}, where it has no meaning", "never sent"
    said = [f"{name} on stream {stream}"]
    odd = ""
    known = FLAGS.get(name, {})
    unknown = flags & ~sum(known)
    if name in WITH_METADATA:
        unknown &= ~METADATA
    if name == "SETUP":
        unknown &= ~0x080
    if unknown:
        odd = f"the flags 0x{unknown:03x} mean nothing here"
    told = [text for bit, text in known.items() if flags & bit]
    if name == "SETUP":
        said.append(f"version {fields.number(2)}.{fields.number(2)}")
        said.append(f"keepalive {fields.number(4)} ms")
        said.append(f"lifetime {fields.number(4)} ms")
        if flags & 0x080:
            said.append(f"resume token {value(fields.take(fields.number(2)))}")
        said += told
        said.append(f"metadata MIME {value(fields.take(fields.number(1)))}")
        said.append(f"data MIME {value(fields.take(fields.number(1)))}")
    elif name == "LEASE":
        said += [f"ttl {fields.number(4)} ms", f"requests {fields.number(4)}"]
    elif name == "KEEPALIVE":
        said += [*told, f"position {fields.number(8)}"]
    elif name in ("REQUEST_STREAM", "REQUEST_CHANNEL"):
        said += [*told, f"initial n {fields.number(4)}"]
    elif name == "REQUEST_N":
        said.append(f"n {fields.number(4)}")
    elif name == "ERROR":
        said.append(f"code 0x{fields.number(4):08x}")
    elif name == "RESUME":
        said.append(f"version {fields.number(2)}.{fields.number(2)}")
        said.append(f"token {value(fields.take(fields.number(2)))}")
        said.append(f"last received server position {fields.number(8)}")
        said.append(f"first available client position {fields.number(8)}")
    elif name == "RESUME_OK":
        said.append(f"last received client position {fields.number(8)}")
    else:
        said += told
    if name == "METADATA_PUSH":
        said.append(f"metadata {value(fields.take(len(fields.rest)))}")
        if not flags & METADATA:
            odd = "the metadata flag is missing"
    elif name == "LEASE" and flags & METADATA:
        said.append(f"metadata {value(fields.take(len(fields.rest)))}")
    elif name in WITH_METADATA and flags & METADATA:
        said.append(f"metadata {value(fields.take(fields.number(3)))}")
    if fields.rest and name in WITHOUT_REST:
        odd = f"{len(fields.rest)} bytes follow its end"
    elif fields.rest:
        what = "message" if name == "ERROR" else "data"
        said.append(f"{what} {value(fields.rest)}")
    if name == "PAYLOAD" and not flags & 0x060:
        odd = "neither next nor complete"
    return "; ".join(said), odd


def kind(frame):
    """Of frames of one kind, one is kept."""
    fields = Fields(frame)
    stream, word = fields.number(4), fields.number(2)
    name = NAMES.get(word >> 10)
    if name == "KEEPALIVE":
        return word, fields.number(8) > 0
    if name == "ERROR":
        return word, stream > 0, fields.number(4)
    if name == "PAYLOAD":
        return word, len(frame) > 6
    return word, stream > 0


class Recorder:
    """Takes the frames out of what passes a proxy; those of one side of a conversation."""

    def __init__(self):
        self.frames = []
        self._pending = {}
        self._lock = threading.Lock()

    def tap(self, connection, direction, chunk):
        with self._lock:
            pending = self._pending.setdefault((connection, direction), bytearray())
            pending += chunk
            while len(pending) >= 3:
                length = int.from_bytes(pending[:3], "big")
                if len(pending) < 3 + length:
                    break
                self.frames.append((direction, bytes(pending[3 : 3 + length])))
                del pending[: 3 + length]


def converse(client, server, flags, case, cuts, work):
    """The frames of one conversation, each with the side that wrote it."""
    recorder = Recorder()
    command = [*PEERS[server].command("server"), *flags, "tcp://127.0.0.1:0"]
    with Service(f"{server}-server", command, ["tcp"], work) as service:
        host, port = service.uris["tcp"].removeprefix("tcp://").split(":")
        with CuttingProxy(host, int(port), cuts, recorder.tap) as proxy:
            uri = "tcp://{}:{}".format(*proxy.address)
            done = subprocess.run(
                [*PEERS[client].command("client"), uri, case],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                check=False,
            )
    print(f"{client} with {server}: {done.stdout.strip()}", file=sys.stderr)
    return recorder.frames


def capture(writer, conversations, work):
    """What one implementation wrote, in blocks of lines."""
    seen = set()
    blocks = []
    for client, server, *rest in conversations:
        for direction, frame in converse(client, server, *rest, work):
            role, peer = ("client", client) if direction == "up" else ("server", server)
            if peer != writer or len(frame) > LONGEST or (role, kind(frame)) in seen:
                continue
            seen.add((role, kind(frame)))
            words, odd = describe(frame)
            lines = [f"{role}: {words}"]
            if odd:
                lines.append(f"not canonical: {odd}")
            digits = frame.hex()
            lines += [digits[i : i + 80] for i in range(0, len(digits), 80)]
            blocks.append("\n".join(lines))
    return blocks


def main(names):
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    cache = Path(os.environ.get("RSOCK_INTEROP_CACHE") or Path(home) / "rsock-interop")
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rsock-vectors-")))
        wanted = {name: CAPTURES[name] for name in names or CAPTURES}
        peers = {peer for _, _, talks in wanted.values() for talk in talks for peer in talk[:2]}
        for peer in sorted(peers):
            PEERS[peer].prepare(cache.absolute(), work)
        for name, (version, writer, conversations) in wanted.items():
            blocks = capture(writer, conversations, work)
            head = f"# Written by {version}, over TCP, without the length prefix; see capture.py."
            (HERE / f"{name}.hex").write_text("\n\n".join([head, *blocks]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])

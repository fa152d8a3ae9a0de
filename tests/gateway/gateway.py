"""rsockd's gateway, as clients of HTTP meet it.

Standard library only. Debian: chromium (for one of the cases).
"""

import argparse
import asyncio
import contextlib
import json
import os
import queue
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "interop"))

from peers import Missing, need  # noqa: E402
from programs import Broken, Service, end  # noqa: E402

IN_CI = os.environ.get("CI") == "true"
LIMIT = 60
KIB = 1024
# How far who makes the items may be ahead of who reads them.
AHEAD = 256 * KIB


class Failed(Exception):
    """A case that did not hold."""


def check(condition, otherwise):
    if not condition:
        raise Failed(otherwise)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Setting:
    def __init__(self, rsockd, work, has_many):
        self.rsockd, self.work, self.has_many = rsockd, work, has_many
        self.certs = work / "certs"
        words = [rsockd.with_name("rsock"), "cert", "dev", "--dir", self.certs]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)

    def service(self, *flags, port=0, scheme="ws"):
        words = [self.rsockd, "--listen", f"{scheme}://127.0.0.1:{port}/rsocket", "--log", "warn"]
        if scheme == "wss":
            words += ["--tls-cert", self.certs / "cert.pem", "--tls-key", self.certs / "key.pem"]
        words += ["--drain-limit", "1s", "--drain-spread", "200ms"]
        return Service("rsockd", [*words, *flags], {scheme}, self.work)

    def trust(self):
        return ssl.create_default_context(cafile=str(self.certs / "ca.pem"))


def port_of(service):
    return int(next(iter(service.uris.values())).split(":")[2].split("/")[0])


async def ask(port, method, path, headers=(), body=b"", timeout=LIMIT):
    """One request on a connection of its own: the status, the headers and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers]
        writer.write("\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body)
        await writer.drain()
        answer = await asyncio.wait_for(reader.read(), timeout)
    finally:
        writer.close()
    head, _, rest = answer.partition(b"\r\n\r\n")
    if not head:
        raise ConnectionError("no answer")
    first, *lines = head.decode().split("\r\n")
    named = dict(line.lower().split(": ", 1) for line in lines)
    return int(first.split()[1]), named, rest


async def publish(port, topic, data):
    """Publishes a message once, however often the service is not there."""
    headers = [("Idempotency-Key", uuid.uuid4().hex)]
    deadline = time.monotonic() + LIMIT
    while True:
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            status, _, body = await ask(port, "POST", f"/api/topics/{topic}", headers, data.encode())
            if status == 200:
                return json.loads(body)
            check(status == 503, f"a publish was answered with {status}: {body}")
        check(time.monotonic() < deadline, "a publish was not acknowledged")
        await asyncio.sleep(0.02)


class Events:
    """A client of events as browsers have it: it comes again, with the last id that it was told."""

    def __init__(self, port, path):
        self.port, self.path = port, path
        self.last, self.retry, self.connections = "", 3.0, 0

    async def __aiter__(self):
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                async for event in self.once():
                    yield event
            # Sooner than it is told, so that this ends soon.
            await asyncio.sleep(self.retry / 20)

    async def once(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            lines = [f"GET {self.path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", "Accept: text/event-stream"]
            lines += [f"Last-Event-ID: {self.last}"] if self.last else []
            writer.write("\r\n".join([*lines, "", ""]).encode())
            check(b" 200 " in await reader.readline(), "no events")
            while (await reader.readline()).strip():
                pass
            self.connections += 1
            name, data = "message", []
            text = b""
            while True:
                length = int(await reader.readline() or b"0", 16)
                if not length:
                    return
                text += await reader.readexactly(length)
                await reader.readline()
                *whole, text = text.split(b"\n")
                for line in whole:
                    field, _, value = line.decode().partition(": ")
                    if field == "id":
                        self.last = value
                    elif field == "event":
                        name = value
                    elif field == "data":
                        data.append(value)
                    elif field == "retry":
                        self.retry = int(value) / 1000
                    elif not field:
                        if data:
                            yield name, self.last, "\n".join(data)
                        name, data = "message", []
        finally:
            writer.close()


class Page:
    """A page in Chromium that tells here what its events are."""

    def __init__(self, program, url):
        self.told = queue.Queue()
        told = self.told

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = (HERE / "page.html").read_bytes() if self.path == "/page" else b""
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.program, self.url = program, url

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.profile = tempfile.TemporaryDirectory(prefix="rsock-chromium-")
        page = f"http://localhost:{self.server.server_address[1]}/page"
        words = [self.program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
        words += ["--disable-dev-shm-usage", "--disable-background-networking"]
        words += ["--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests"]
        words += [f"--user-data-dir={self.profile.name}", f"{page}#{quote(json.dumps({'url': self.url}))}"]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(words, stdout=quiet, stderr=quiet, start_new_session=True)
        return self

    def __exit__(self, *_):
        end(self.process)
        self.server.shutdown()
        self.server.server_close()
        with contextlib.suppress(OSError):
            self.profile.cleanup()

    def next(self):
        try:
            return self.told.get(timeout=LIMIT)
        except queue.Empty:
            raise Failed("the page was told nothing more") from None


def kill(service):
    os.killpg(service.process.pid, signal.SIGKILL)
    service.process.wait()


ROUNDS, EACH = 3, 20


async def through_restarts(setting, port, flags):
    """Publishes through so many kill -9; a client of events sees each message once."""
    seen = []

    async def read():
        async for name, last, data in Events(port, "/api/topics/feed?from=start"):
            if name == "message":
                seen.append((last, data))

    reading = asyncio.create_task(read())
    acknowledged = []
    for round_ in range(ROUNDS + 1):
        with setting.service(*flags, port=port) as service:
            for n in range(EACH):
                text = f"{round_}.{n}"
                acknowledged.append((await publish(port, "feed", text), text))
            if round_ < ROUNDS:
                kill(service)
                continue
            deadline = time.monotonic() + LIMIT
            while len(seen) < len(acknowledged) and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
    reading.cancel()
    expected = [(f"{ack['epoch']}:{ack['offset']}", text) for ack, text in acknowledged]
    check(seen == expected, f"{len(seen)} of {len(expected)} came, in another order or twice: {seen[-3:]}")
    offsets = [ack["offset"] for ack, _ in acknowledged]
    check(offsets == sorted(set(offsets)), f"offsets {offsets}")
    return expected


def restarts(setting):
    """EventSource through three kill -9: each message once, by a reader of ours and in Chromium."""
    port = free_port()
    flags = ["--topic", "feed=durable", "--data", setting.work / "data"]
    asyncio.run(through_restarts(setting, port, flags))


def browser(setting):
    """The same in Chromium, whose EventSource it is."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None) or need(names[0], names[0])
    port = free_port()
    flags = ["--topic", "feed=durable", "--data", setting.work / "data-browser"]
    with Page(program, f"http://127.0.0.1:{port}/api/topics/feed?from=start") as page:
        expected = asyncio.run(through_restarts(setting, port, flags))
        with setting.service(*flags, port=port):
            seen = [page.next() for _ in expected]
    check(seen == [{"id": last, "data": data} for last, data in expected], f"the page has {seen[-3:]}")


def reset(setting):
    """A topic in memory ends with its process: that is told, and what follows comes."""
    port = free_port()

    async def work():
        events = aiter(Events(port, "/api/topics/feed"))
        with setting.service(port=port):
            first = asyncio.create_task(anext(events))
            while not first.done():
                await publish(port, "feed", "before")
                await asyncio.sleep(0.02)
            check((await first)[2] == "before", "the first message")
        with setting.service(port=port):
            ack = await publish(port, "feed", "after")
            while (event := await asyncio.wait_for(anext(events), LIMIT))[0] == "message":
                pass
            while event[0] == "drain":
                event = await asyncio.wait_for(anext(events), LIMIT)
            check(event[0] == "gap" and json.loads(event[2])["epoch"] == ack["epoch"], f"it was told {event}")
            event = await asyncio.wait_for(anext(events), LIMIT)
            check(event[2] == "after", f"behind the gap came {event}")

    asyncio.run(work())


def polls(setting):
    """Clients that poll in a loop miss nothing between two polls."""
    clients, messages = (1_000, 100) if setting.has_many else (100, 50)
    flags = ["--max-http-connections", "4000", "--max-http-connections-per-address", "4000"]

    async def client(port, position):
        texts = []
        while len(texts) < messages:
            path = f"/api/topics/feed?poll=20s&after={position}"
            status, headers, body = await ask(port, "GET", path)
            check(status in (200, 204), f"a poll was answered with {status}")
            texts += [item["data"] for item in json.loads(body)["items"]] if status == 200 else []
            position = headers["rsock-next"]
        return texts

    async def work(port):
        _, headers, _ = await ask(port, "GET", "/api/topics/feed?poll=0")
        waiting = [asyncio.create_task(client(port, headers["rsock-next"])) for _ in range(clients)]
        for n in range(messages):
            await publish(port, "feed", str(n))
            await asyncio.sleep(0.02)
        for texts in await asyncio.wait_for(asyncio.gather(*waiting), LIMIT):
            check(texts == list(range(messages)), f"a client has {texts}")

    with setting.service(*flags) as service:
        asyncio.run(work(port_of(service)))


def drained(reader, already):
    """All that is on its way when nothing more is made, with what has been read."""
    count = already
    reader.settimeout(2)
    with contextlib.suppress(TimeoutError, ssl.SSLWantReadError):
        while part := reader.recv(1 << 20):
            count += len(part)
    return count


def slow(setting, scheme):
    """A reader of 1 KiB/s on an endless stream: who makes the items is not far ahead of it."""
    with setting.service(scheme=scheme) as service:
        port = port_of(service)
        plain = socket.create_connection(("127.0.0.1", port))
        reader = plain
        if scheme == "wss":
            reader = setting.trust().wrap_socket(plain, server_hostname="localhost")
        path = "/api/stream/range?data=" + quote('{"size":1024}')
        reader.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        read = 0
        for _ in range(4):
            read += len(reader.recv(KIB))
            time.sleep(1)
        # From here on it makes nothing more, and what is on its way comes to an end.
        os.killpg(service.process.pid, signal.SIGSTOP)
        try:
            ahead = drained(reader, 0)
        finally:
            os.killpg(service.process.pid, signal.SIGCONT)
            plain.close()
    # What is in buffers of its own is on no way: hyper's, a part of the body, and a record of TLS.
    own = (16 + 8 + (32 if scheme == "wss" else 0)) * KIB
    print(f"   {scheme}: {ahead // KIB} KiB on their way, {own // KIB} KiB at most before that", flush=True)
    check(read >= 4 * KIB and ahead + own <= AHEAD, f"{(ahead + own) // KIB} KiB ahead")


def resident(pid):
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


def idle(setting):
    """Readers of events to whom nothing happens: what each takes, and that all are told."""
    readers = 10_000 if setting.has_many else 1_000
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    check(most > readers + 100, f"{most} files may be open here")
    limit = str(readers + 1_000)
    # The files that may be open are shared with connections of RSocket.
    flags = ["--max-http-connections", limit, "--max-http-connections-per-address", limit, "--max-connections", "100"]

    async def work(service):
        port, pid = port_of(service), service.process.pid
        await publish(port, "feed", "warm")
        before = resident(pid)
        head = (f"GET /api/topics/feed HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                "Accept: text/event-stream\r\n\r\n").encode()
        connections = []
        for at in range(readers):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2 * KIB)
            writer.write(head)
            connections.append((reader, writer))
            # Some at a time, so that no more wait to be accepted than may.
            if at % 100 == 99:
                last = connections[-100:]
                try:
                    await asyncio.wait_for(asyncio.gather(*(reader.readuntil(b"id: ") for reader, _ in last)), LIMIT)
                except asyncio.IncompleteReadError as error:
                    raise Failed(f"reader {at} was answered {error.partial}") from None
        each = (resident(pid) - before) / readers
        print(f"   {readers} idle readers: {each:.1f} KiB each", flush=True)
        await publish(port, "feed", "news")
        await asyncio.wait_for(asyncio.gather(*(reader.readuntil(b"data: news") for reader, _ in connections)), LIMIT)
        for _, writer in connections:
            writer.close()
        check(each < 40, f"{each:.1f} KiB each")

    with setting.service(*flags) as service:
        asyncio.run(work(service))


def old(setting):
    """A client of HTTP/1.0: the body ends with the connection, and nothing is in chunks."""
    with setting.service() as service, socket.create_connection(("127.0.0.1", port_of(service))) as reader:
        reader.sendall(b"GET /api/stream/range?take=3 HTTP/1.0\r\n\r\n")
        answer = b""
        while part := reader.recv(KIB):
            answer += part
    head, _, body = answer.partition(b"\r\n\r\n")
    check(b"chunked" not in head.lower() and body == b"0\n1\n2\n", f"it was answered {answer}")


CASES = {
    "restarts": restarts,
    "browser": browser,
    "reset": reset,
    "polls": polls,
    "slow": lambda setting: slow(setting, "ws"),
    "slow-tls": lambda setting: slow(setting, "wss"),
    "idle": idle,
    "old": old,
}


def main():
    parser = argparse.ArgumentParser(prog="run", description="rsockd's gateway for clients of HTTP.")
    parser.add_argument("--rsockd", type=Path, metavar="PATH", help="the service to start")
    parser.add_argument("--many", action="store_true", help="1,000 pollers, and 10,000 idle readers")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; all")
    options = parser.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    rsockd = (options.rsockd or target / "debug" / "rsockd").absolute()
    counts = {"ok": 0, "FAIL": 0, "skip": 0}

    def line(word, text):
        counts[word] += 1
        print(f"{word} {text}", flush=True)

    with tempfile.TemporaryDirectory(prefix="rsock-gateway-") as work:
        setting = Setting(rsockd, Path(work), options.many)
        for name in options.cases or CASES:
            try:
                CASES[name](setting)
                line("ok", name)
            except Missing as error:
                print(f"gateway: {error}", file=sys.stderr)
                line("FAIL" if IN_CI else "skip", f"{name}: {error}")
            except (Failed, Broken, OSError, asyncio.TimeoutError) as error:
                line("FAIL", f"{name}: {type(error).__name__} {' '.join(str(error).split())[:400]}")
    print("gateway: {ok} passed, {FAIL} failed, {skip} skipped".format(**counts), flush=True)
    return 1 if counts["FAIL"] else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())

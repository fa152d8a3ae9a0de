"""Readers and publishers of a topic, one class for each way in, all in one thread and with as little code as it takes.

Each counts what goes through its socket, and finds messages by the mark that they have in their text, whatever is around it.
"""

import base64
import os
import re
import socket
import struct

MARK = re.compile(rb"@(\d{20})@")
# A mark and what may stand before its end: so much of what was read is looked at again with what comes next.
MARK_LEN = 22
TOPIC = "room.1"
# What Chromium sends with a page's requests to the page's own service.
BROWSER = (
    "Connection: keep-alive\r\n"
    'sec-ch-ua-platform: "Linux"\r\n'
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36\r\n"
    'sec-ch-ua: "Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"\r\n'
    "sec-ch-ua-mobile: ?0\r\n"
    "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\nAccept-Language: en-US,en;q=0.9\r\n"
)


class Broken(Exception):
    """What ends the measurement."""


def mark(nanos):
    return b"@%020d@" % nanos


class Client:
    """A connection that is read when there is something to read."""

    def __init__(self, address, clock):
        host, _, port = address.rpartition(":")
        self.host = address
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.clock = clock
        self.sent = self.received = 0
        self.data = b""
        self.tail = b""
        # When the messages were published that have come, and how long each took.
        self.marks, self.took = [], []
        self.greet()
        self.socket.setblocking(False)

    def greet(self):
        """What goes before the first message."""

    def fileno(self):
        return self.socket.fileno()

    def send(self, data):
        # It is less than a socket's buffer takes, and waits for nobody.
        self.socket.sendall(data)
        self.sent += len(data)

    def readable(self):
        try:
            data = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        now = self.clock()
        if not data:
            raise Broken(f"{type(self).__name__}: the service has closed the connection behind {self.data[-200:]!r}")
        self.received += len(data)
        looked = self.tail + data
        found, end = [], 0
        for one in MARK.finditer(looked):
            found.append(int(one[1]))
            end = one.end()
        self.marks.extend(found)
        self.took.extend(now - at for at in found)
        self.tail = looked[max(end, len(looked) - MARK_LEN + 1):]
        self.data += data
        self.take(len(found))

    def take(self, messages):
        """Takes what has been read from `data`, in which there were so many messages."""
        self.data = b""

    def has_published(self, received):
        """Whether its first message is in the topic: it is answered, behind so many bytes."""
        return self.received > received

    def packets(self):
        """Segments of TCP, in both directions, those that only acknowledge among them."""
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 144)
        return sum(struct.unpack_from("=II", info, 136))

    def close(self):
        self.socket.close()


def read_head(client):
    """The head of an answer of HTTP, byte by byte: nothing behind it is read."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = client.socket.recv(1)
        if not part:
            raise Broken(f"no answer of HTTP, but {head!r}")
        head += part
        client.received += 1
    return head.decode("latin-1")


class Http(Client):
    """Requests on one connection, as a page makes them."""

    headers = BROWSER

    def ask(self, method, target, more="", body=b""):
        length = f"Content-Length: {len(body)}\r\n" if method == "POST" else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: {self.host}\r\n{self.headers}{more}{length}\r\n"
        self.send(head.encode() + body)

    def take(self, messages):
        while True:
            head, end, rest = self.data.partition(b"\r\n\r\n")
            if not end:
                return
            status = int(head.split(b" ", 2)[1])
            length = re.search(rb"content-length: (\d+)", head, re.I)
            length = int(length[1]) if length else 0
            if len(rest) < length:
                return
            self.data = rest[length:]
            self.answered(status, head, rest[:length])


class HttpPublisher(Http):
    """`POST /api/topics/{t}`"""

    def publish(self, text):
        self.ask("POST", f"/api/topics/{TOPIC}", "Accept: */*\r\nContent-Type: text/plain\r\n", text)

    def answered(self, status, _head, body):
        if status != 200:
            raise Broken(f"publishing is answered with {status}: {body!r}")


class Poller(Http):
    """`GET /api/topics/{t}?poll=…`, behind what the answer before had."""

    wait = "0"

    def greet(self):
        self.position = None
        self.is_waiting = False

    def poll(self):
        if self.is_waiting:
            return
        self.is_waiting = True
        # The first answer has the last message, and says from where on.
        where = f"{self.wait}&after={self.position}" if self.position else "0&from=last:1"
        self.ask("GET", f"/api/topics/{TOPIC}?poll={where}", "Accept: */*\r\n")

    def answered(self, status, head, body):
        self.is_waiting = False
        if status not in (200, 204):
            raise Broken(f"a poll is answered with {status}: {body!r}")
        self.position = re.search(rb"rsock-next: (\S+)", head, re.I)[1].decode()


class LongPoller(Poller):
    """The same, asked again at once, and held by the service until there is a message."""

    wait = "25s"

    def answered(self, status, head, body):
        super().answered(status, head, body)
        self.poll()


class Events(Http):
    """`GET /api/topics/{t}` as server-sent events, which is what EventSource does."""

    def greet(self):
        self.ask("GET", f"/api/topics/{TOPIC}?from=last:1", "Accept: text/event-stream\r\nCache-Control: no-cache\r\n")
        head = read_head(self)
        if " 200 " not in head:
            raise Broken(head)

    def take(self, messages):
        self.data = b""


# -- WebSocket --

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Socket(Client):
    """A WebSocket. Masks are zero, which costs this side nothing and the other as much as any."""

    path, protocol = "", ""

    def greet(self):
        key = base64.b64encode(os.urandom(16)).decode()
        self.send(
            f"GET {self.path} HTTP/1.1\r\nHost: {self.host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{self.protocol}\r\n".encode()
        )
        head = read_head(self)
        if " 101 " not in head:
            raise Broken(head.splitlines()[0])
        self.begin()

    def begin(self):
        pass

    def send_frame(self, opcode, data):
        length = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack(">BH", 0x80 | 126, len(data))
        self.send(bytes([0x80 | opcode]) + length + bytes(4) + data)

    def take(self, messages):
        data, at = self.data, 0
        while len(data) - at >= 2:
            opcode, length, head = data[at] & 0x0F, data[at + 1] & 0x7F, 2
            if length >= 126:
                size = 2 if length == 126 else 8
                if len(data) - at < 2 + size:
                    break
                length, head = int.from_bytes(data[at + 2:at + 2 + size], "big"), 2 + size
            if len(data) - at < head + length:
                break
            body = data[at + head:at + head + length]
            at += head + length
            if opcode == PING:
                self.send_frame(PONG, body)
            elif opcode == CLOSE:
                raise Broken(f"the WebSocket is closed: {body!r}")
            else:
                self.took_frame(body)
        self.data = data[at:]

    def took_frame(self, body):
        pass


class Plain(Socket):
    """`/ws/topics/{t}` with what is needed to go on after a break."""

    path = f"/ws/topics/{TOPIC}?last=1&envelope=json"

    def publish(self, text):
        self.send_frame(TEXT, text)

    def has_published(self, received):
        # It comes back; what is told at the beginning is no answer.
        return bool(self.marks)


class PlainText(Socket):
    """`/ws/topics/{t}`: the text of messages alone."""

    path = f"/ws/topics/{TOPIC}?last=1"


# -- RSocket --

SETUP, KEEPALIVE, REQUEST_RESPONSE, REQUEST_STREAM, REQUEST_N, ERROR = 0x01, 0x03, 0x04, 0x06, 0x08, 0x0B
METADATA, RESPOND = 0x100, 0x80
WINDOW = 32


def frame(stream, kind, flags, body):
    return struct.pack(">IH", stream, kind << 10 | flags) + body


def mime(name):
    return bytes([len(name)]) + name


def u24(number):
    return number.to_bytes(3, "big")


def entry(known, data):
    """An entry of composite metadata of a well-known type."""
    return bytes([0x80 | known]) + u24(len(data)) + data


ROUTE = entry(0x7E, mime(f"topic.{TOPIC}".encode()))


class Rsocket:
    """What RSocket does over any transport: it asks for items as it takes them."""

    def begin(self):
        self.asked, self.taken, self.stream = WINDOW, 0, 1
        types = mime(b"message/x.rsocket.composite-metadata.v0") + mime(b"application/json")
        self.send_rsocket(frame(0, SETUP, 0, struct.pack(">HHII", 1, 0, 20_000, 90_000) + types))

    def subscribe(self):
        data = b'{"from":{"last":1},"start":true}'
        self.send_rsocket(frame(1, REQUEST_STREAM, METADATA, struct.pack(">I", WINDOW) + u24(len(ROUTE)) + ROUTE + data))

    def publish(self, text):
        self.stream += 2
        self.send_rsocket(frame(self.stream, REQUEST_RESPONSE, METADATA, u24(len(ROUTE)) + ROUTE + text))

    def keepalive(self):
        self.send_rsocket(frame(0, KEEPALIVE, RESPOND, bytes(8)))

    def took_frame(self, body):
        kind, flags = divmod(int.from_bytes(body[4:6], "big"), 1 << 10)
        if kind == ERROR:
            raise Broken(body[10:].decode())
        if kind == KEEPALIVE and flags & RESPOND:
            self.send_rsocket(frame(0, KEEPALIVE, 0, bytes(8)))

    def refill(self, messages):
        """Asks for as many as it has taken, when half of what it asked for has come."""
        self.taken += messages
        if self.taken >= WINDOW // 2:
            self.send_rsocket(frame(1, REQUEST_N, 0, struct.pack(">I", self.taken)))
            self.taken = 0


class RsocketTcp(Rsocket, Client):
    """RSocket over TCP."""

    def greet(self):
        self.begin()

    def send_rsocket(self, data):
        self.send(u24(len(data)) + data)

    def take(self, messages):
        data, at = self.data, 0
        while len(data) - at >= 3:
            length = int.from_bytes(data[at:at + 3], "big")
            if len(data) - at < 3 + length:
                break
            self.took_frame(data[at + 3:at + 3 + length])
            at += 3 + length
        self.data = data[at:]
        self.refill(messages)


class RsocketWebSocket(Rsocket, Socket):
    """RSocket over WebSocket."""

    path, protocol = "/rsocket", "Sec-WebSocket-Protocol: rsocket\r\n"

    def send_rsocket(self, data):
        self.send_frame(BINARY, data)

    def take(self, messages):
        super().take(messages)
        self.refill(messages)

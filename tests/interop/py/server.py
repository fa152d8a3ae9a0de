"""rsocket-py 0.4.20 as the peer that serves. Usage: python server.py [FLAGS] URI...

Says `listening on URI` for each, `got fnf TEXT` and `got push TEXT` for what
has no answer, and ends when its stdin does.
"""

import argparse
import asyncio
import json
import logging
import sys
from datetime import timedelta
from itertools import count
from urllib.parse import urlsplit

from aiohttp import web
from reactivestreams.publisher import Publisher
from reactivestreams.subscriber import Subscriber
from reactivestreams.subscription import Subscription
from rsocket.extensions.composite_metadata import CompositeMetadata
from rsocket.extensions.mimetypes import WellKnownMimeTypes
from rsocket.helpers import create_future
from rsocket.lease import DefinedLease
from rsocket.payload import Payload
from rsocket.request_handler import BaseRequestHandler
from rsocket.rsocket_server import RSocketServer
from rsocket.transports.aiohttp_websocket import websocket_handler_factory
from rsocket.transports.tcp import TransportTCP


def say(line):
    print(line, flush=True)


def text(data):
    return bytes(data or b"").decode(errors="replace")


def route_of(payload):
    if not payload.metadata:
        return "echo"
    composite = CompositeMetadata()
    composite.parse(payload.metadata)
    for item in composite.items:
        if item.encoding == WellKnownMimeTypes.MESSAGE_RSOCKET_ROUTING.value.name:
            return item.tags[0].decode()
    return "echo"


def items_of(payload):
    route = route_of(payload)
    if route == "fail":
        yield b"one"
        raise RuntimeError(text(payload.data))
    if route == "clock":
        wanted = {"from": 0}
    elif route == "range":
        wanted = json.loads(text(payload.data))
    else:
        raise RuntimeError(f"no route {route}")
    for i in count(wanted["from"]):
        if i == wanted.get("to"):
            return
        yield b"%d" % i


class Items(Publisher, Subscription):
    """The items of a stream, given out under credit."""

    def __init__(self, payload):
        self._items = items_of(payload)
        self._pause = 0.02 if route_of(payload) == "clock" else 0
        self._credit = 0
        self._wake = asyncio.Event()

    def subscribe(self, subscriber):
        subscriber.on_subscribe(self)
        self._task = asyncio.ensure_future(self._give(subscriber))

    def request(self, n):
        self._credit += n
        self._wake.set()

    def cancel(self):
        self._task.cancel()

    async def _give(self, subscriber):
        while True:
            while self._credit == 0:
                self._wake.clear()
                await self._wake.wait()
            try:
                item = next(self._items)
            except StopIteration:
                subscriber.on_complete()
                return
            except RuntimeError as error:
                subscriber.on_error(error)
                return
            self._credit -= 1
            subscriber.on_next(Payload(item))
            await asyncio.sleep(self._pause)


class Echo(Publisher, Subscription, Subscriber):
    """Gives back what came, under the credit of both sides."""

    def __init__(self, first):
        self._items = [first]
        self._credit = 0
        self._ended = False
        self._out = self._in = None

    def subscribe(self, subscriber):
        self._out = subscriber
        subscriber.on_subscribe(self)

    def request(self, n):
        self._credit += n
        self._give()

    def cancel(self):
        self._items.clear()
        self._out = None

    def on_subscribe(self, subscription):
        self._in = subscription
        subscription.request(4)

    def on_next(self, value, is_complete=False):
        self._items.append(Payload(bytes(value.data or b"")))
        self._in.request(1)
        self._ended = self._ended or is_complete
        self._give()

    def on_complete(self):
        self._ended = True
        self._give()

    def on_error(self, exception):
        self.cancel()

    def _give(self):
        while self._out and self._items and self._credit:
            self._credit -= 1
            self._out.on_next(self._items.pop(0))
        if self._out and self._ended and not self._items:
            out, self._out = self._out, None
            out.on_complete()


class Handler(BaseRequestHandler):
    async def on_setup(self, data_encoding, metadata_encoding, payload):
        if text(payload.data) == "reject":
            raise RuntimeError("not you")

    async def request_response(self, payload):
        route = route_of(payload)
        if route == "echo":
            return create_future(Payload(payload.data, payload.metadata))
        raise RuntimeError(text(payload.data) if route == "fail" else f"no route {route}")

    async def request_stream(self, payload):
        return Items(payload)

    async def request_channel(self, payload):
        echo = Echo(Payload(payload.data))
        return echo, echo

    async def request_fire_and_forget(self, payload):
        say(f"got fnf {text(payload.data)}")

    async def on_metadata_push(self, payload):
        say(f"got push {text(payload.metadata)}")


class Leases(Publisher):
    """A lease at once, and another whenever one is over."""

    def __init__(self, requests, milliseconds):
        self._requests = requests
        self._ttl = timedelta(milliseconds=milliseconds)
        self._tasks = []

    def subscribe(self, subscriber):
        async def give():
            while True:
                subscriber.on_next(DefinedLease(self._requests, self._ttl))
                await asyncio.sleep(self._ttl.total_seconds())

        self._tasks.append(asyncio.ensure_future(give()))


async def listen(uri, lease, mtu):
    address = urlsplit(uri)
    options = {"handler_factory": Handler, "fragment_size_bytes": mtu}
    if lease:
        options |= {"lease_publisher": Leases(*lease), "fragment_size_bytes": 64}
    if address.scheme == "ws":
        application = web.Application()
        handler = websocket_handler_factory(**options)
        application.router.add_get(address.path, handler)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, address.hostname, 0)
        await site.start()
        server = site._server
    else:
        connections = set()

        def accept(reader, writer):
            transport = TransportTCP(reader, writer, read_buffer_size=65536)
            connections.add(RSocketServer(transport, **options))

        server = await asyncio.start_server(accept, address.hostname, 0)
    port = server.sockets[0].getsockname()[1]
    say(f"listening on {address.scheme}://{address.hostname}:{port}{address.path}")
    return server


async def main(uris, lease, mtu):
    servers = [await listen(uri, lease, mtu) for uri in uris]
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    return servers


if __name__ == "__main__":
    logging.getLogger("pyrsocket").setLevel(logging.CRITICAL)
    parser = argparse.ArgumentParser()
    parser.add_argument("--lease", metavar="REQUESTS/MILLISECONDS", help="give them")
    parser.add_argument("--mtu", metavar="BYTES", type=int, help="of a frame, 64 or more")
    parser.add_argument("uris", nargs="*")
    flags = parser.parse_args()
    wanted = flags.lease and tuple(map(int, flags.lease.split("/")))
    asyncio.run(main(flags.uris, wanted, flags.mtu))

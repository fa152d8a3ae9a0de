"""rsocket-py 0.4.20 as a peer of rsockd. Usage: python client.py URI [CASE ...]

The same cases as lib/cases.mjs, one line a case on stdout: `ok NAME`,
`FAIL NAME: reason` or `skip NAME: why (expected difference)`. Exit code 1
when a case failed.
"""

import asyncio
import json
import logging
import os
import ssl
import sys
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from urllib.parse import urlsplit

import aiohttp
from rsocket.error_codes import ErrorCode
from rsocket.exceptions import RSocketProtocolError
from rsocket.extensions.helpers import (
    authenticate_bearer,
    authenticate_simple,
    composite,
    metadata_item,
)
from rsocket.extensions.mimetypes import WellKnownMimeTypes
from rsocket.frame import MAX_REQUEST_N
from rsocket.helpers import single_transport_provider
from rsocket.payload import Payload
from rsocket.request_handler import BaseRequestHandler
from rsocket.rsocket_client import RSocketClient
from rsocket.transports.aiohttp_websocket import TransportAioHttpClient
from rsocket.transports.tcp import TransportTCP
from streams import BATCH, Connection, Inbox, Items, Skip, check, routed
from topics import TOPIC_CASES

CASE_LIMIT = 10


async def rr_echo(connection):
    data = "hello, wörld".encode()
    answer = await connection.request("echo", data)
    check(answer == data, f"echo answered {answer!r}")


async def rr_metadata(connection):
    metadata = routed("echo", metadata_item(b"metadata comes back", WellKnownMimeTypes.TEXT_PLAIN))
    answer = await connection.client.request_response(Payload(b"data", metadata))
    check(bytes(answer.data) == b"data", f"the data is {answer.data!r}")
    check(answer.metadata is not None, "no metadata came back")
    check(bytes(answer.metadata) == metadata, f"the metadata is {bytes(answer.metadata)!r}")


async def rr_1mib(connection):
    data = bytes((i * 31 + (i >> 8)) & 0xFF for i in range(1 << 20))
    answer = await connection.request("echo", data)
    check(len(answer) == len(data), f"{len(answer)} bytes came back")
    check(answer == data, "the bytes of the answer differ")


async def rr_metadata_only(connection):
    # The frame ends with its metadata.
    metadata = routed("echo", metadata_item(b"all there is", WellKnownMimeTypes.TEXT_PLAIN))
    answer = await connection.client.request_response(Payload(None, metadata))
    check(not answer.data, f"the data is {answer.data!r}")
    check(answer.metadata is not None, "no metadata came back")
    check(bytes(answer.metadata) == metadata, f"the metadata is {bytes(answer.metadata)!r}")


async def rr_empty(connection):
    answer = await connection.request("echo", b"")
    check(answer == b"", f"echo answered {answer!r}")


async def rr_empty_no_route(connection):
    answer = await connection.client.request_response(Payload(b""))
    check(not answer.data and not answer.metadata, f"the answer is {answer!r}")


async def rs_range(connection):
    inbox = Inbox()
    payload = Payload(b'{"from":0,"to":100}', routed("range"))
    connection.client.request_stream(payload).initial_request_n(BATCH).subscribe(inbox)
    await connection.drain_in_batches(inbox, BATCH)
    numbers = [json.loads(item) for item in inbox.items]
    check(numbers == list(range(100)), f"the items are {numbers}")


async def rs_cancel(connection):
    # Unlimited credit and no end: after the cancel the line must fall silent,
    # which shows as 20 round trips in a row with next to nothing in between.
    inbox = Inbox(cancel_after=10)
    payload = Payload(b'{"from":0}', routed("range"))
    connection.client.request_stream(payload).initial_request_n(MAX_REQUEST_N).subscribe(inbox)
    await inbox.has(10)
    await connection.round_trip()
    before, quiet, trips = connection.bytes_in(), 0, 0
    while quiet < 20:
        check(trips < 200, "items still come 200 round trips after the cancel")
        await connection.round_trip()
        trips += 1
        quiet = quiet + 1 if connection.bytes_in() - before <= 256 else 0
        before = connection.bytes_in()
    check(not inbox.done, "the stream ended by itself")
    numbers = [json.loads(item) for item in inbox.items]
    check(numbers == list(range(10)), f"the items are {numbers}")


async def rc_echo(connection):
    items = [b"item %d" % i for i in range(50)]
    inbox = Inbox()
    # The first item rides on the request and needs no credit.
    rest = Items(items[1:])
    payload = Payload(items[0], routed("echo"))
    connection.client.request_channel(payload, rest).initial_request_n(BATCH).subscribe(inbox)
    await connection.drain_in_batches(inbox, BATCH)
    check(rest.granted > 0, "the service never gave credit")
    check(inbox.items == items, f"the items are {inbox.items}")


async def fnf(connection):
    await connection.client.fire_and_forget(Payload(b"forget me", routed("echo")))
    await connection.round_trip()


async def metadata_push(connection):
    await connection.client.metadata_push(routed("echo"))
    await connection.round_trip()


async def unknown_route(connection):
    name = "no.such.route"
    try:
        await connection.request(name, b"x")
    except RSocketProtocolError as error:
        text = str(error.data)
        check(error.error_code == ErrorCode.REJECTED, f"the error is {error}")
        check(name in text, f'the error does not name the route: "{text}"')
    else:
        raise AssertionError("an unknown route was answered")
    await connection.round_trip()


async def keepalive(connection):
    # The one case where time is the point.
    await connection.round_trip()
    before = connection.bytes_in()
    await asyncio.sleep(1.5)
    answered = connection.bytes_in() - before
    check(answered >= 3 * 14, f"only {answered} bytes came in 1.5 s of silence")
    check(connection.client.is_server_alive(), "the library thinks the server is gone")
    await connection.round_trip()


async def status(connection):
    answer = await connection.request("status")
    figures = json.loads(answer)
    check(isinstance(figures, dict) and "version" in figures, f"status answered {answer!r}")


async def routes(connection):
    answer = await connection.request("routes")
    for name in (b"echo", b"range"):
        check(name in answer, f"routes does not list {name.decode()}: {answer!r}")


async def lease(connection):
    # More requests than a lease allows; the library holds back what it has none for.
    answers = await asyncio.gather(*(connection.request("echo", b"%d" % i) for i in range(100)))
    check(answers == [b"%d" % i for i in range(100)], f"the answers are {answers}")


async def rs_20mib(connection):
    # Larger than the longest frame, so it comes in fragments.
    size = 20 << 20
    inbox = Inbox()
    payload = Payload(b'{"from":0,"to":1,"size":%d}' % size, routed("range"))
    connection.client.request_stream(payload).initial_request_n(BATCH).subscribe(inbox)
    await inbox.has(2)
    check(len(inbox.items) == 1, f"{len(inbox.items)} items came")
    check(len(inbox.items[0]) == size, f"the item has {len(inbox.items[0])} bytes")
    check(inbox.items[0] == b"0".ljust(size), "the bytes of the item differ")


async def setup_rejected(connection):
    await is_rejected(connection, "no entry")


async def setup_refused(connection):
    # The credentials in SETUP are wrong.
    await is_rejected(connection, "authentication failed")


async def is_rejected(connection, text):
    # A request fails as the connection does, and does not wait for an answer.
    request = asyncio.ensure_future(connection.request("whoami", b"x"))
    reason = await connection.closed
    check(text in str(reason), f"the server's text is missing: {reason}")
    if connection.is_websocket:
        request.cancel()
        raise Skip("requests wait on when a WebSocket has ended")
    with suppress(RSocketProtocolError, RuntimeError):
        answer = await request
        raise AssertionError(f"a rejected connection answered {answer!r}")


async def frames(connection):
    """Makes the library write a frame of every kind, for whoever records them."""
    text = metadata_item(b"a text", WellKnownMimeTypes.TEXT_PLAIN)
    await connection.client.request_response(Payload(b"hello", routed("echo", text)))
    await connection.request("echo", b"0123456789" * 15)
    inbox = Inbox(cancel_after=5)
    payload = Payload(b'{"from":0}', routed("range"))
    connection.client.request_stream(payload).initial_request_n(2).subscribe(inbox)
    await inbox.has(2)
    inbox.subscription.request(3)
    await inbox.has(5)
    whole = Inbox()
    payload = Payload(b'{"from":0,"to":2}', routed("range"))
    connection.client.request_stream(payload).initial_request_n(10).subscribe(whole)
    await whole.has(3)
    echoed = Inbox()
    rest = Items([b"second"])
    payload = Payload(b"first", routed("echo"))
    connection.client.request_channel(payload, rest).initial_request_n(3).subscribe(echoed)
    await echoed.has(3)
    await connection.client.fire_and_forget(Payload(b"forget me", routed("echo")))
    with suppress(RSocketProtocolError, RuntimeError):
        await connection.request("fail", b"no tea left")
    await connection.client.metadata_push(routed("echo"))
    await asyncio.sleep(0.7)
    await connection.round_trip()


async def frames_rejected(connection):
    with suppress(RSocketProtocolError, RuntimeError):
        await connection.round_trip()


CASES = {
    case.__name__.replace("_", "-"): case
    for case in (
        rr_echo,
        rr_metadata,
        rr_1mib,
        rr_metadata_only,
        rr_empty,
        rr_empty_no_route,
        rs_range,
        rs_cancel,
        rc_echo,
        fnf,
        metadata_push,
        unknown_route,
        keepalive,
        status,
        routes,
        *TOPIC_CASES,
    )
}

# For services started for them, and by name only: what the library is told.
SPECIAL = {
    "lease": (lease, {"honor_lease": True, "request_queue_size": 256}),
    "rs-20mib": (rs_20mib, {}),
    "setup-rejected": (setup_rejected, {"setup_payload": Payload(b"reject")}),
    "setup-refused": (setup_refused, {}),
    "frames": (
        frames,
        {
            "honor_lease": True,
            "request_queue_size": 256,
            "fragment_size_bytes": 64,
            "setup_payload": Payload(b"setup", routed("setup")),
        },
    ),
    "frames-rejected": (frames_rejected, {"setup_payload": Payload(b"reject")}),
}


SCHEMES = ("tcp", "ws", "tls", "wss")


@asynccontextmanager
async def open_transport(uri):
    address = urlsplit(uri)
    tls = None
    if address.scheme in ("tls", "wss"):
        # Without a file it trusts those that the system does.
        tls = ssl.create_default_context(cafile=os.environ.get("INTEROP_CA"))
    if address.scheme in ("ws", "wss"):
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(uri, ssl=tls or True) as websocket:
                yield TransportAioHttpClient(websocket=websocket)
    else:
        streams = await asyncio.open_connection(address.hostname, address.port, ssl=tls)
        yield TransportTCP(*streams, read_buffer_size=65536)


def introduced():
    """What is told to the library, so that SETUP says who it is, if the runner asks for it."""
    kind, *parts = os.environ.get("INTEROP_AUTH", "").split(":")
    if not kind:
        return {}
    make = {"simple": authenticate_simple, "bearer": authenticate_bearer}[kind]
    return {"setup_payload": Payload(metadata=composite(make(*parts)))}


def count_bytes(transport):
    """Counts what comes in, at the one place both transports pass through."""
    counter = [0]
    receive = transport._frame_parser.receive_data

    def counting(data, *args):
        counter[0] += len(data)
        return receive(data, *args)

    transport._frame_parser.receive_data = counting
    return counter


@asynccontextmanager
async def connect(uri, keep_alive, lifetime, options):
    closed = asyncio.get_running_loop().create_future()

    def close(reason):
        if not closed.done():
            closed.set_result(reason)

    class Handler(BaseRequestHandler):
        async def on_close(self, rsocket, exception=None):
            close(exception or "without an error")

        async def on_error(self, error_code, payload):
            close(f"{error_code.name}: {bytes(payload.data or b'').decode()}")

        async def on_keepalive_timeout(self, time_since_last_keepalive, rsocket):
            close(f"no keepalive for {time_since_last_keepalive}")

    async with open_transport(uri) as transport:
        counter = count_bytes(transport)
        async with RSocketClient(
            single_transport_provider(transport),
            handler_factory=Handler,
            data_encoding=WellKnownMimeTypes.APPLICATION_OCTET_STREAM,
            metadata_encoding=WellKnownMimeTypes.MESSAGE_RSOCKET_COMPOSITE_METADATA,
            keep_alive_period=keep_alive,
            max_lifetime_period=lifetime,
            **(introduced() | options),
        ) as client:
            is_websocket = isinstance(transport, TransportAioHttpClient)
            if is_websocket:
                # A WebSocket that ends is never reported to the client above it.
                transport._message_handler.add_done_callback(
                    lambda _: close("the WebSocket ended")
                )
            yield Connection(client, counter, closed, is_websocket)


async def run_case(uri, name):
    keep_alive, lifetime = timedelta(seconds=5), timedelta(seconds=30)
    if name in ("keepalive", "frames"):
        # SETUP will say 400 ms: the library adds the sub-second part twice.
        keep_alive, lifetime = timedelta(milliseconds=200), timedelta(seconds=1)
    body, options = SPECIAL.get(name) or (CASES[name], {})
    async with connect(uri, keep_alive, lifetime, options) as connection:
        case = asyncio.ensure_future(body(connection))
        # Whatever the case waits for, it will not come over a closed connection.
        rejected = name in ("setup-rejected", "setup-refused")
        ends = {case} if rejected else {case, connection.closed}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not case.done():
            case.cancel()
            await asyncio.wait({case})
            raise AssertionError(f"the connection was closed: {connection.closed.result()}")
        case.result()


async def main(uri, names):
    failed = False
    for name in names or CASES:
        try:
            await asyncio.wait_for(run_case(uri, name), CASE_LIMIT)
        except asyncio.TimeoutError:
            reason = f"no end after {CASE_LIMIT} s"
        except Skip as skip:
            print(f"skip {name}: {skip} (expected difference)", flush=True)
            continue
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            if len(reason) > 300:
                reason = reason[:300] + " ..."
        else:
            print(f"ok {name}", flush=True)
            continue
        failed = True
        print(f"FAIL {name}: {reason}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 2 or urlsplit(sys.argv[1]).scheme not in SCHEMES:
        forms = "tcp://HOST:PORT|ws://HOST:PORT/PATH|tls://HOST:PORT|wss://HOST:PORT/PATH"
        sys.exit(f"usage: client.py {forms} [CASE ...]")
    # Frames of a cancelled stream still on their way are no news.
    logging.getLogger("pyrsocket").setLevel(logging.ERROR)
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2:])))

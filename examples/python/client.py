"""A client of rsockd with rsocket-py: python client.py [tcp://HOST:PORT]"""

import asyncio
import sys
from datetime import timedelta
from urllib.parse import urlsplit

from rsocket.awaitable.awaitable_rsocket import AwaitableRSocket
from rsocket.extensions.helpers import authenticate_simple, composite, route
from rsocket.extensions.mimetypes import WellKnownMimeTypes
from rsocket.helpers import single_transport_provider
from rsocket.payload import Payload
from rsocket.rsocket_client import RSocketClient
from rsocket.streams.stream_from_generator import StreamFromGenerator
from rsocket.transports.tcp import TransportTCP

BATCH = 4


async def main(uri):
    address = urlsplit(uri)
    try:
        connection = await asyncio.open_connection(address.hostname, address.port)
    except OSError as error:
        sys.exit(f"cannot connect to {uri}: {error}\nis rsockd running?")
    transport = TransportTCP(*connection)

    async with RSocketClient(
        single_transport_provider(transport),
        data_encoding=WellKnownMimeTypes.APPLICATION_JSON,
        metadata_encoding=WellKnownMimeTypes.MESSAGE_RSOCKET_COMPOSITE_METADATA,
        keep_alive_period=timedelta(seconds=20),
        max_lifetime_period=timedelta(seconds=90),
        # rsockd lets everyone in; a server made with the library checks what SETUP says.
        setup_payload=Payload(metadata=composite(authenticate_simple("user", "pass"))),
    ) as client:
        rsocket = AwaitableRSocket(client)

        answer = await rsocket.request_response(Payload(b"hello", composite(route("echo"))))
        print("echo:", text(answer))

        # Asks for the next batch when one is there.
        numbers = await rsocket.request_stream(
            Payload(b'{"from":0,"to":10}', composite(route("range"))), limit_rate=BATCH
        )
        print("range:", *map(text, numbers))

        # The first line opens the channel; the others go out as the service asks for them.
        echoed = await rsocket.request_channel(
            Payload(b"one", composite(route("echo"))),
            StreamFromGenerator(more_lines),
            limit_rate=BATCH,
        )
        print("channel:", *map(text, echoed))


def more_lines():
    """Each with whether it is the last."""
    yield Payload(b"two"), False
    yield Payload(b"three"), True


def text(payload):
    return payload.data.decode()


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7878"))

# pip install rsocket==0.4.20
# python quickstart.py [tcp://HOST:PORT]

import asyncio
import sys
from datetime import timedelta
from urllib.parse import urlsplit

from rsocket.awaitable.awaitable_rsocket import AwaitableRSocket
from rsocket.extensions.helpers import composite, route
from rsocket.extensions.mimetypes import WellKnownMimeTypes
from rsocket.helpers import single_transport_provider
from rsocket.payload import Payload
from rsocket.rsocket_client import RSocketClient
from rsocket.transports.tcp import TransportTCP


async def main(uri):
    address = urlsplit(uri)
    transport = TransportTCP(*await asyncio.open_connection(address.hostname, address.port))

    async with RSocketClient(
        single_transport_provider(transport),
        data_encoding=WellKnownMimeTypes.APPLICATION_JSON,
        metadata_encoding=WellKnownMimeTypes.MESSAGE_RSOCKET_COMPOSITE_METADATA,
        keep_alive_period=timedelta(seconds=20),
        max_lifetime_period=timedelta(seconds=90),
    ) as client:
        # One request, one answer.
        answer = await client.request_response(Payload(b"hello", composite(route("echo"))))
        print("echo:", answer.data.decode())

        # A stream, four items at a time: the service sends no more than was asked for.
        items = await AwaitableRSocket(client).request_stream(
            Payload(b'{"from":0,"to":10}', composite(route("range"))), limit_rate=4
        )
        print("range:", *(int(item.data) for item in items))


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:7878"))

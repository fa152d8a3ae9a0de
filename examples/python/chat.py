"""A chat in the room.lobby of rsockd, with rsocket-py: python chat.py NAME [tcp://HOST:PORT]

Lines that are typed are published, and those of others shown; Ctrl-D leaves. When the connection is lost another
one goes on where this one ended: what was missed comes, and what was not answered is sent again.
"""

import asyncio
import json
import logging
import sys
import threading
import uuid
from datetime import timedelta
from urllib.parse import urlsplit

from reactivestreams.publisher import Publisher
from reactivestreams.subscriber import Subscriber
from reactivestreams.subscription import Subscription
from rsocket.exceptions import RSocketError
from rsocket.extensions.composite_metadata import CompositeMetadata
from rsocket.extensions.helpers import composite, metadata_item, route
from rsocket.extensions.mimetypes import WellKnownMimeTypes
from rsocket.helpers import single_transport_provider
from rsocket.payload import Payload
from rsocket.request_handler import BaseRequestHandler
from rsocket.rsocket_client import RSocketClient
from rsocket.transports.tcp import TransportTCP

ROOM = "room.lobby"
BATCH = 16
JSON = WellKnownMimeTypes.APPLICATION_JSON
PRESENCE = {"here": "is here", "join": "joins", "leave": "leaves"}


def encoded(value):
    return json.dumps(value).encode()


def beside(item):
    """What the service says beside an item."""
    entries = CompositeMetadata().parse(item.metadata or b"").find_by_mimetype(JSON)
    return json.loads(entries[0].content) if entries else {}


class Chat:
    """What lasts longer than a connection."""

    def __init__(self, name):
        self.name = name
        self.start = {"last": 10}  # then the position behind the last message that was shown
        self.outbox = []  # what was typed and is not answered yet: ids and texts
        self.is_over = False  # whether the input has ended

    def show(self, item):
        """Shows an item; whether it answers the first of what has been sent."""
        said = beside(item)
        if "gap" in said:
            gap = said["gap"]
            lost = f"messages {gap['from']} to {gap.get('to')} are not kept any more"
            print("*", lost if "to" in gap else "the room began anew", flush=True)
        elif "start" in said:
            # A position is there before the first message is.
            self.start = {"epoch": said["start"]["epoch"], "after": said["start"]["next"] - 1}
        elif "refused" in said:
            print("* not published:", said["refused"]["reason"], flush=True)
        elif "offset" in said and "own" not in said:
            print(f"{said.get('from', 'somebody')}: {item.data.decode()}", flush=True)
        if "offset" in said:
            self.start = {"epoch": said["epoch"], "after": said["offset"]}
        # The answers come in the order of what we have sent: the message itself, or that it was known or refused.
        answer = said if "own" in said else said.get("ack") or said.get("refused") or {}
        is_answer = bool(self.outbox) and answer.get("id") == self.outbox[0][0]
        if is_answer:
            self.outbox.pop(0)
        return is_answer


class Room(Publisher, Subscription, Subscriber):
    """A channel: what we send, under the service's credit, and what we receive, under ours."""

    def __init__(self, chat, ended):
        self.chat = chat
        self.ended = ended
        self.incoming = self.outgoing = None
        self.credit = self.sent = 0
        self.is_live = False

    def send(self):
        while self.credit > 0 and self.sent < len(self.chat.outbox):
            key, text = self.chat.outbox[self.sent]
            metadata = composite(metadata_item(encoded({"id": key}), JSON))
            self.outgoing.on_next(Payload(text.encode(), metadata))
            self.credit -= 1
            self.sent += 1

    def leave_if_done(self):
        if self.chat.is_over and self.is_live and not self.chat.outbox and not self.ended.done():
            self.incoming.cancel()
            self.ended.set_result(None)

    def subscribe(self, subscriber):
        self.outgoing = subscriber
        subscriber.on_subscribe(self)

    def request(self, n):
        self.credit += n
        self.send()

    def cancel(self):
        self.credit = 0

    def on_subscribe(self, subscription):
        self.incoming = subscription

    def on_next(self, value, is_complete=False):
        self.is_live = self.is_live or "live" in beside(value)
        if self.chat.show(value):
            self.sent -= 1
        # One for each that is handled: the service sends no more than we can take.
        self.incoming.request(1)
        self.leave_if_done()

    def on_complete(self):
        end(self.ended, None)

    def on_error(self, exception):
        end(self.ended, exception)


class Members(Subscriber):
    """Who is here, comes and goes."""

    def __init__(self, chat, ended):
        self.chat = chat
        self.ended = ended

    def on_subscribe(self, subscription):
        self.subscription = subscription

    def on_next(self, value, is_complete=False):
        said = beside(value)
        if said["event"] in PRESENCE and said["name"] != self.chat.name:
            print("*", said["name"], PRESENCE[said["event"]], flush=True)
        self.subscription.request(1)

    def on_complete(self):
        end(self.ended, None)

    def on_error(self, exception):
        end(self.ended, exception)


def end(ended, error):
    if not ended.done():
        ended.set_exception(error) if error else ended.set_result(None)


async def talk(chat, uri, typed):
    """Talks until the connection ends, or we leave."""
    address = urlsplit(uri)
    ended = asyncio.get_running_loop().create_future()

    class Handler(BaseRequestHandler):
        async def on_close(self, rsocket, exception=None):
            end(ended, exception or ConnectionError("the connection is lost"))

        async def on_keepalive_timeout(self, time_since_last_keepalive, rsocket):
            end(ended, ConnectionError("the service is silent"))

    transport = TransportTCP(*await asyncio.open_connection(address.hostname, address.port))
    async with RSocketClient(
        single_transport_provider(transport),
        handler_factory=Handler,
        data_encoding=WellKnownMimeTypes.APPLICATION_OCTET_STREAM,
        metadata_encoding=WellKnownMimeTypes.MESSAGE_RSOCKET_COMPOSITE_METADATA,
        keep_alive_period=timedelta(seconds=10),
        max_lifetime_period=timedelta(seconds=30),
    ) as client:
        options = {"name": chat.name, "from": chat.start, "receive": "both"}
        request = Payload(
            encoded({**options, "start": True, "live": True}), composite(route(f"topic.{ROOM}"))
        )
        room = Room(chat, ended)
        client.request_channel(request, room).initial_request_n(BATCH).subscribe(room)
        request = Payload(b"", composite(route(f"presence.{ROOM}")))
        client.request_stream(request).initial_request_n(BATCH).subscribe(Members(chat, ended))
        while not ended.done():
            line = asyncio.ensure_future(typed.get())
            await asyncio.wait({line, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not line.done():
                line.cancel()
            elif line.result() is None:
                chat.is_over = True
            else:
                chat.outbox.append((str(uuid.uuid4()), line.result()))
            room.send()
            room.leave_if_done()
        await ended


def read_lines(loop, typed):
    """Puts what is typed on a queue, and waits where it is full; then None."""
    for line in sys.stdin:
        asyncio.run_coroutine_threadsafe(typed.put(line.rstrip("\n")), loop).result()
    asyncio.run_coroutine_threadsafe(typed.put(None), loop).result()


async def main(name, uri):
    chat, typed = Chat(name), asyncio.Queue(16)
    arguments = (asyncio.get_running_loop(), typed)
    threading.Thread(target=read_lines, args=arguments, daemon=True).start()
    while True:
        try:
            return await talk(chat, uri, typed)
        except (OSError, RSocketError) as error:
            print(f"* {error}; once more in a second", file=sys.stderr, flush=True)
            await asyncio.sleep(1)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python chat.py NAME [tcp://HOST:PORT]")
    logging.getLogger("pyrsocket").setLevel(logging.CRITICAL)
    asyncio.run(main(sys.argv[1], (*sys.argv, "tcp://127.0.0.1:7878")[2]))

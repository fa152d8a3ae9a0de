"""What arrives on a stream, what is sent on one, and how a case waits."""

import asyncio

from reactivestreams.publisher import Publisher
from reactivestreams.subscriber import Subscriber
from reactivestreams.subscription import Subscription
from rsocket.extensions.helpers import composite, route
from rsocket.payload import Payload

BATCH = 4


class Skip(Exception):
    """What this peer cannot do."""


class Inbox(Subscriber):
    """What arrived on a stream, and how it ended."""

    def __init__(self, cancel_after=None):
        self.items = []
        self.metadata = []
        self.done = False
        self.error = None
        self.subscription = None
        self._cancel_after = cancel_after
        self._changed = asyncio.Event()

    def on_subscribe(self, subscription):
        # Asking for items here would send REQUEST_N ahead of the request.
        self.subscription = subscription

    def on_next(self, value, is_complete=False):
        if self.done:
            self.error = self.error or AssertionError("an item after the end of the stream")
        self.items.append(bytes(value.data or b""))
        self.metadata.append(bytes(value.metadata or b""))
        if len(self.items) == self._cancel_after:
            self.subscription.cancel()
        if is_complete:
            self.done = True
        self._changed.set()

    def on_complete(self):
        self.done = True
        self._changed.set()

    def on_error(self, exception):
        self.error = self.error or exception
        self.done = True
        self._changed.set()

    async def has(self, count):
        while not self.done and len(self.items) < count:
            self._changed.clear()
            await self._changed.wait()
        if self.error is not None:
            raise self.error


class Items(Publisher, Subscription):
    """Our half of a channel: sends no more than the service gave credit for."""

    def __init__(self, items):
        self._items = list(items)
        self._subscriber = None
        self.granted = 0

    def subscribe(self, subscriber):
        self._subscriber = subscriber
        subscriber.on_subscribe(self)

    def request(self, n):
        self.granted += n
        for _ in range(min(n, len(self._items))):
            item = self._items.pop(0)
            self._subscriber.on_next(Payload(item), is_complete=not self._items)

    def cancel(self):
        self._items.clear()


class Connection:
    """A client, what came over its line, and whether it was closed."""

    def __init__(self, client, counter, closed, is_websocket):
        self.client = client
        self.closed = closed
        self.is_websocket = is_websocket
        self._counter = counter

    def bytes_in(self):
        return self._counter[0]

    async def request(self, path, data=b""):
        answer = await self.client.request_response(Payload(data, routed(path)))
        return bytes(answer.data or b"")

    async def round_trip(self):
        """A barrier: what the service had to say before has been said by then."""
        answer = await self.request("echo", b"round trip")
        check(answer == b"round trip", f"echo answered {answer!r}")

    async def drain_in_batches(self, inbox, asked):
        """Takes a stream to its end, asking for BATCH at a time and only after
        all that was asked for has come and a round trip has shown that no
        more did."""
        while True:
            await inbox.has(asked)
            await self.round_trip()
            check(
                len(inbox.items) <= asked,
                f"{len(inbox.items)} items came, {asked} were asked for",
            )
            if inbox.error is not None:
                raise inbox.error
            if inbox.done:
                return
            asked += BATCH
            inbox.subscription.request(BATCH)


def check(condition, otherwise):
    if not condition:
        raise AssertionError(otherwise)


def routed(path, *more):
    return composite(route(path), *more)

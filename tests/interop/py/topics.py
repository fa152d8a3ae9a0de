"""The cases of topics, as in lib/topics.mjs; each has a topic of its own."""

import json
import re
import uuid

from reactivestreams.publisher import Publisher
from reactivestreams.subscription import Subscription
from rsocket.error_codes import ErrorCode
from rsocket.exceptions import RSocketProtocolError
from rsocket.extensions.composite_metadata import CompositeMetadata
from rsocket.extensions.helpers import composite, metadata_item
from rsocket.extensions.mimetypes import WellKnownMimeTypes
from rsocket.payload import Payload
from streams import Inbox, check, routed

BATCH = 3
JSON_TYPE = WellKnownMimeTypes.APPLICATION_JSON
NOWHERE = "0000000000000000"


class Payloads(Publisher, Subscription):
    """Our half of a room: one payload after the other, as the case says; `granted` is told by the service."""

    def __init__(self):
        self.granted = 0
        self.subscriber = None

    def subscribe(self, subscriber):
        self.subscriber = subscriber
        subscriber.on_subscribe(self)

    def request(self, n):
        self.granted += n

    def cancel(self):
        self.granted = 0


def new_topic():
    return f"interop.{uuid.uuid4()}"


def encoded(value):
    return json.dumps(value).encode()


def options_entry(options):
    return metadata_item(encoded(options), JSON_TYPE)


async def ask(connection, path, data):
    return json.loads(await connection.request(path, encoded(data)))


async def publish(connection, topic, data, **options):
    """The acknowledgement of a message."""
    metadata = routed(f"topic.{topic}", options_entry(options))
    answer = await connection.client.request_response(Payload(data, metadata))
    return json.loads(answer.data)


def open_stream(connection, path, options, n):
    inbox = Inbox()
    payload = Payload(encoded(options), routed(path))
    connection.client.request_stream(payload).initial_request_n(n).subscribe(inbox)
    return inbox


def said_beside(inbox):
    """What the service says beside each item."""
    said = []
    for metadata in inbox.metadata:
        entries = CompositeMetadata().parse(metadata).find_by_mimetype(JSON_TYPE)
        check(len(entries) == 1, f"not one entry of JSON in the metadata {metadata!r}")
        said.append(json.loads(entries[0].content))
    return said


def same(actual, expected, what):
    check(actual == expected, f"{what}: got {actual!r}")


def is_message(said, topic, offset, sender):
    check(said["time"] > 1.7e12, f"the time is {said['time']}")
    same((said["topic"], said["offset"], said.get("from")), (topic, offset, sender), "a message")


async def topic_publish(connection):
    # With an id a message is published once, and both acknowledgements say where it is.
    topic = new_topic()
    first = await publish(connection, topic, b"once", **{"id": "m-1", "from": "ann"})
    same(first["topic"], topic, "the topic")
    check(re.fullmatch("[0-9a-f]{16}", first["epoch"]), f"the epoch is {first['epoch']}")
    again = await publish(connection, topic, b"once", **{"id": "m-1", "from": "ann"})
    same(again, {**first, "duplicate": True}, "the second acknowledgement")
    second = await publish(connection, topic, b"twice", id="m-2", expect=first["offset"])
    same(second["offset"], first["offset"] + 1, "the offset of another message")
    try:
        await publish(connection, topic, b"late", expect=first["offset"])
    except RSocketProtocolError as error:
        same(error.error_code, ErrorCode.REJECTED, "the code of the error")
        check(str(error.data).startswith("conflict:"), f"the error is {error}")
    else:
        raise AssertionError("what was not expected was published")
    page = await ask(connection, f"history.{topic}", {"limit": 10})
    same(
        [(message["offset"], message.get("from"), message["text"]) for message in page["messages"]],
        [(first["offset"], "ann", "once"), (second["offset"], None, "twice")],
        "the history",
    )


async def topic_subscribe(connection):
    # Nothing comes beyond what was asked for, also of the items that are the service's own: a start,
    # fifteen messages and in between the word that these are live.
    topic = new_topic()
    first = await publish(connection, topic, b"message 0", **{"from": "ann"})
    base, epoch = first["offset"], first["epoch"]
    for i in range(1, 12):
        await publish(connection, topic, b"message %d" % i, **{"from": "ann"})
    witness = open_stream(connection, f"topic.{topic}", {"start": True}, 100)
    await witness.has(1)
    options = {"from": "start", "start": True, "live": True}
    inbox = open_stream(connection, f"topic.{topic}", options, BATCH)
    for asked in range(BATCH, 16, BATCH):
        here = min(asked, 14)
        await inbox.has(here)
        await connection.round_trip()
        same(len(inbox.items), here, f"the number of items, of {asked} asked for")
        if asked < 15:
            inbox.subscription.request(BATCH)
    # One more is asked for.
    for i in range(12, 15):
        await publish(connection, topic, b"message %d" % i, **{"from": "bob"})
    await witness.has(4)
    await connection.round_trip()
    same(len(inbox.items), 15, "the number of items behind three more messages")
    inbox.subscription.request(BATCH)
    await inbox.has(17)
    inbox.subscription.cancel()
    witness.subscription.cancel()

    said = said_beside(inbox)
    head = base + 11
    start = {"start": {"epoch": epoch, "next": base, "base": base, "head": head}}
    same(said.pop(0), start, "the start")
    same(said.pop(12), {"live": {"epoch": epoch, "offset": head}}, "the item that says live")
    same((inbox.items.pop(0), inbox.items.pop(12)), (b"", b""), "the data of own items")
    same(inbox.items, [b"message %d" % i for i in range(15)], "the messages")
    for i, beside in enumerate(said):
        is_message(beside, topic, base + i, "ann" if i < 12 else "bob")


async def topic_gap(connection):
    # What is not kept any more is told, and also that a position belongs to another life of the topic.
    topic = new_topic()
    lost = await publish(connection, topic, b"lost")
    first, epoch = lost["offset"], lost["epoch"]
    await publish(connection, topic, b"lost too")
    await ask(connection, "topics", {"purge": topic})
    kept = (await publish(connection, topic, b"kept"))["offset"]
    position = {"from": {"epoch": epoch, "after": first - 1}}
    behind = open_stream(connection, f"topic.{topic}", position, 2)
    await behind.has(2)
    gap, message = said_beside(behind)
    same(gap, {"gap": {"from": first, "to": kept - 1}, "epoch": epoch}, "the gap")
    is_message(message, topic, kept, None)
    position = {"from": {"epoch": NOWHERE, "after": 7}}
    other = open_stream(connection, f"topic.{topic}", position, 2)
    await other.has(2)
    reset, oldest = said_beside(other)
    expected = {"gap": {"epoch": NOWHERE, "from": 8}, "epoch": epoch, "base": kept}
    same(reset, expected, "the reset")
    is_message(oldest, topic, kept, None)
    behind.subscription.cancel()
    other.subscription.cancel()


async def topic_join(connection):
    # A member publishes and receives on one channel, and others see it come and go.
    topic = new_topic()
    watch = open_stream(connection, f"presence.{topic}", {}, 100)
    await watch.has(1)
    options = {"name": "ann", "receive": "both", "start": True, "info": {"avatar": 3}}
    payload = Payload(encoded(options), routed(f"topic.{topic}"))
    outgoing, inbox = Payloads(), Inbox()
    channel = connection.client.request_channel(payload, outgoing)
    channel.initial_request_n(BATCH).subscribe(inbox)
    await inbox.has(1)
    await connection.round_trip()
    check(outgoing.granted > 0, "the service never gave credit")
    outgoing.subscriber.on_next(Payload(b"hi", composite(options_entry({"id": "m-1"}))))
    await inbox.has(2)
    answer = await publish(connection, topic, b"hello, ann", **{"from": "bob"})
    offset = answer["offset"]
    await inbox.has(3)
    # There is no credit left for it.
    await publish(connection, topic, b"are you there?", **{"from": "bob"})
    await connection.round_trip()
    same(len(inbox.items), BATCH, "the number of items")
    inbox.subscription.request(BATCH)
    await inbox.has(4)
    same(inbox.items, [b"", b"hi", b"hello, ann", b"are you there?"], "the data")
    start, own, from_bob, _ = said_beside(inbox)
    check("start" in start, f"the start is {start}")
    is_message(own, topic, offset - 1, "ann")
    same((own.get("own"), own.get("id")), (True, "m-1"), "what one has published oneself")
    is_message(from_bob, topic, offset, "bob")
    check("own" not in from_bob, "what another has published is told as own")

    members = await ask(connection, f"presence.{topic}", {})
    shown = [(member["name"], member["sessions"], member["info"]) for member in members["members"]]
    same((members["total"], shown), (1, [("ann", 1, {"avatar": 3})]), "the members")
    outgoing.subscriber.on_complete()
    inbox.subscription.cancel()
    await watch.has(3)
    watch.subscription.cancel()
    events = [(event["event"], event.get("name", event.get("total"))) for event in said_beside(watch)]
    same(events, [("all", 0), ("join", "ann"), ("leave", "ann")], "the events")


TOPIC_CASES = (topic_publish, topic_subscribe, topic_gap, topic_join)

// The cases of topics: what is published, who subscribes in batches, who joins. Each has a topic of its own.

import { strict as assert } from "node:assert";
import { randomUUID } from "node:crypto";
import { bytes, Inbox, json, roundTrip, same, Signal, text } from "./streams.mjs";

const BATCH = 3;
const REJECTED = 0x202;
const JSON_TYPE = "application/json";
const NOWHERE = "0000000000000000";

const newTopic = () => `interop.${randomUUID()}`;

async function ask(connection, route, data) {
  const request = { data: json(data), metadata: connection.metadata(route) };
  return JSON.parse(text((await connection.requestResponse(request)).data));
}

/** The acknowledgement of a message. */
async function publish(connection, topic, data, options) {
  const metadata = connection.metadata(`topic.${topic}`, [JSON_TYPE, json(options)]);
  return JSON.parse(text((await connection.requestResponse({ data: bytes(data), metadata })).data));
}

/** What the service says beside an item. */
function beside(connection, item) {
  const entry = item.metadata && connection.entryOf(item.metadata, JSON_TYPE);
  assert.ok(entry, `no JSON in the metadata ${item.metadata?.toString("hex")}`);
  return JSON.parse(text(entry));
}

function open(connection, route, options, n) {
  const inbox = new Inbox();
  const request = { data: json(options), metadata: connection.metadata(route) };
  return { inbox, stream: connection.requestStream(request, n, inbox) };
}

function isMessage(item, topic, offset, from) {
  const { time, ...rest } = item;
  assert.ok(time > 1.7e12, `the time is ${time}`);
  same([rest.topic, rest.offset, rest.from], [topic, offset, from], "a message");
}

export const topicCases = {
  // With an id a message is published once, and both acknowledgements say where it is.
  async "topic-publish"(connection) {
    const topic = newTopic();
    const first = await publish(connection, topic, "once", { id: "m-1", from: "ann" });
    assert.equal(first.topic, topic);
    assert.ok(/^[0-9a-f]{16}$/.test(first.epoch), `the epoch is ${first.epoch}`);
    const again = await publish(connection, topic, "once", { id: "m-1", from: "ann" });
    same(again, { ...first, duplicate: true }, "the second acknowledgement");
    const { offset } = await publish(connection, topic, "twice", { id: "m-2", expect: first.offset });
    assert.equal(offset, first.offset + 1, "the offset of another message");
    const error = await publish(connection, topic, "late", { expect: first.offset }).then(
      () => assert.fail("what was not expected was published"),
      connection.describe,
    );
    assert.equal(error.code, REJECTED, `the code of the error "${error.text}"`);
    assert.ok(error.text.startsWith("conflict:"), `the error is "${error.text}"`);
    const page = await ask(connection, `history.${topic}`, { limit: 10 });
    same(
      page.messages.map((message) => [message.offset, message.from, message.text]),
      [
        [first.offset, "ann", "once"],
        [offset, undefined, "twice"],
      ],
      "the history",
    );
  },

  // Nothing comes beyond what was asked for, also of the items that are the service's own: a start, fifteen
  // messages and in between the word that these are live.
  async "topic-subscribe"(connection) {
    const topic = newTopic();
    const { offset: base, epoch } = await publish(connection, topic, "message 0", { from: "ann" });
    for (let i = 1; i < 12; i++) await publish(connection, topic, `message ${i}`, { from: "ann" });
    const witness = open(connection, `topic.${topic}`, { start: true }, 100);
    await witness.inbox.has(1);
    const options = { from: "start", start: true, live: true };
    const { inbox, stream } = open(connection, `topic.${topic}`, options, BATCH);
    let asked = BATCH;
    for (; ; asked += BATCH) {
      const here = Math.min(asked, 14);
      await inbox.has(here);
      await roundTrip(connection);
      assert.equal(inbox.items.length, here, `the number of items, of ${asked} asked for`);
      if (asked > 14) break;
      stream.request(BATCH);
    }
    // One more is asked for.
    for (let i = 12; i < 15; i++) await publish(connection, topic, `message ${i}`, { from: "bob" });
    await witness.inbox.has(4);
    await roundTrip(connection);
    assert.equal(inbox.items.length, asked, "the number of items behind three more messages");
    stream.request(BATCH);
    await inbox.has(17);
    assert.equal(connection.violations.length, 0, "items that the library dropped");
    stream.cancel();
    witness.stream.cancel();

    const said = inbox.items.map((item) => beside(connection, item));
    const head = base + 11;
    same(said[0], { start: { epoch, next: base, base, head } }, "the start");
    same(said[13], { live: { epoch, offset: head } }, "the item that says live");
    for (const at of [0, 13]) same(text(inbox.items[at].data), "", "the data of an own item");
    for (let i = 0; i < 15; i++) {
      const at = i < 12 ? i + 1 : i + 2;
      isMessage(said[at], topic, base + i, i < 12 ? "ann" : "bob");
      assert.equal(text(inbox.items[at].data), `message ${i}`);
    }
  },

  // What is not kept any more is told, and also that a position belongs to another life of the topic.
  async "topic-gap"(connection) {
    const topic = newTopic();
    const { offset: first, epoch } = await publish(connection, topic, "lost", {});
    await publish(connection, topic, "lost too", {});
    await ask(connection, "topics", { purge: topic });
    const { offset: kept } = await publish(connection, topic, "kept", {});
    const behind = open(connection, `topic.${topic}`, { from: { epoch, after: first - 1 } }, 2);
    await behind.inbox.has(2);
    const [gap, message] = behind.inbox.items.map((item) => beside(connection, item));
    same(gap, { gap: { from: first, to: kept - 1 }, epoch }, "the gap");
    isMessage(message, topic, kept, undefined);
    const other = open(connection, `topic.${topic}`, { from: { epoch: NOWHERE, after: 7 } }, 2);
    await other.inbox.has(2);
    const [reset, oldest] = other.inbox.items.map((item) => beside(connection, item));
    same(reset, { gap: { epoch: NOWHERE, from: 8 }, epoch, base: kept }, "the reset");
    isMessage(oldest, topic, kept, undefined);
    behind.stream.cancel();
    other.stream.cancel();
  },

  // A member publishes and receives on one channel, and others see it come and go.
  async "topic-join"(connection) {
    const topic = newTopic();
    const watch = open(connection, `presence.${topic}`, {}, 100);
    await watch.inbox.has(1);
    const inbox = new Inbox();
    const credit = new Signal();
    let granted = 0;
    const room = connection.requestChannel(
      {
        data: json({ name: "ann", receive: "both", start: true, info: { avatar: 3 } }),
        metadata: connection.metadata(`topic.${topic}`),
      },
      BATCH,
      {
        onNext: (payload) => inbox.onNext(payload),
        onComplete: () => inbox.onComplete(),
        onError: (error) => inbox.onError(error),
        onCancel: () => inbox.onError(new Error("the service cancelled our half")),
        onCredit(n) {
          granted += n;
          credit.wake();
        },
      },
    );
    await inbox.has(1);
    await credit.until(() => granted > 0);
    room.next({ data: bytes("hi"), metadata: connection.entries([JSON_TYPE, json({ id: "m-1" })]) });
    await inbox.has(2);
    const { offset } = await publish(connection, topic, "hello, ann", { from: "bob" });
    await inbox.has(3);
    // There is no credit left for it.
    await publish(connection, topic, "are you there?", { from: "bob" });
    await roundTrip(connection);
    assert.equal(inbox.items.length, BATCH, "the number of items");
    room.request(BATCH);
    await inbox.has(4);
    same(
      inbox.items.map((item) => text(item.data)),
      ["", "hi", "hello, ann", "are you there?"],
      "the data",
    );
    const [start, own, fromBob] = inbox.items.map((item) => beside(connection, item));
    assert.ok(start.start, `the start is ${JSON.stringify(start)}`);
    isMessage(own, topic, offset - 1, "ann");
    same([own.own, own.id], [true, "m-1"], "what one has published oneself");
    isMessage(fromBob, topic, offset, "bob");
    assert.equal(fromBob.own, undefined, "what another has published");

    const { members, total } = await ask(connection, `presence.${topic}`, {});
    same(
      [total, members.map(({ name, sessions, info }) => [name, sessions, info])],
      [1, [["ann", 1, { avatar: 3 }]]],
      "the members",
    );
    room.complete();
    room.cancel();
    await watch.inbox.has(3);
    watch.stream.cancel();
    same(
      watch.inbox.items.map((item) => beside(connection, item)).map((e) => [e.event, e.name, e.total]),
      [
        ["all", undefined, 0],
        ["join", "ann", undefined],
        ["leave", "ann", undefined],
      ],
      "the events",
    );
  },
};

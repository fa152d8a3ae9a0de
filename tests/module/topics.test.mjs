// Topics of rsockd, across everything that may happen to a line and to a service.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { Line, Script, Service, connect, folder, frame, until } from "./lib.mjs";

const RECONNECT = { first: 5, longest: 50 };
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function ready(t, url, options = {}) {
  const client = await connect(url, { reconnect: RECONNECT, ...options });
  t.after(() => client.close());
  return client;
}

/** Reads a subscription to its end; what it gave is here meanwhile. */
function collect(subscription) {
  const seen = [];
  seen.end = (async () => {
    for await (const message of subscription) seen.push(message);
  })();
  seen.end.catch(() => {});
  return seen;
}
const texts = (seen) => seen.filter(({ offset }) => offset !== null).map((message) => message.text());

test("what is published is read, with all that is said beside it", async (t) => {
  const service = await Service.rsockd(t);
  const client = await ready(t, service.url);
  const topic = client.topic("room.1");
  const all = collect(topic.subscribe({ from: "start", live: true }));
  await until(() => all.length === 1);
  assert.equal(all[0].offset, null);
  assert.deepEqual(all[0].live.offset, 0);
  const first = await topic.publish("hello", { from: "ann", key: "k", headers: { type: "greeting" } });
  assert.deepEqual([first.topic, first.offset], ["room.1", 1]);
  await topic.publish({ x: 2 });
  await topic.publish(Uint8Array.of(0, 255));
  await until(() => all.length === 4);
  const [, hello, json, bytes] = all;
  assert.deepEqual([hello.text(), hello.from, hello.key, hello.headers], ["hello", "ann", "k", { type: "greeting" }]);
  assert.deepEqual([hello.epoch, hello.offset, typeof hello.time], [first.epoch, 1, "number"]);
  assert.deepEqual([json.json(), json.offset, [...bytes.data]], [{ x: 2 }, 2, [0, 255]]);
  const page = await topic.history({ limit: 2, reverse: true });
  assert.deepEqual(page.messages.map(({ offset }) => offset), [3, 2]);
  const behind = await topic.history({ after: `${first.epoch}:1` });
  assert.deepEqual(behind.messages.map(({ offset }) => offset), [2, 3]);
  const before = await topic.history({ before: { epoch: first.epoch, offset: 3 }, limit: 1 });
  assert.deepEqual(before.messages.map(({ offset }) => offset), [2]);
});

test("a subscription begins where it is told, and its position is that of what was given out", async (t) => {
  const service = await Service.rsockd(t);
  const client = await ready(t, service.url);
  const topic = client.topic("room.1");
  const { epoch } = await topic.publish("1");
  for (const text of ["2", "3", "4"]) await topic.publish(text);
  const subscription = topic.subscribe({ from: { last: 3 } });
  assert.equal(subscription.position, null);
  await subscription.started();
  assert.equal(subscription.position, `${epoch}:1`);
  assert.equal((await subscription.next()).value.text(), "2");
  assert.equal(subscription.position, `${epoch}:2`);
  subscription.cancel();
  assert.equal((await subscription.next()).done, true);
  for (const after of [subscription.position, { epoch, offset: 2 }, { epoch, after: 2 }]) {
    for await (const message of topic.subscribe({ after })) {
      assert.equal(message.text(), "3");
      break;
    }
  }
  const started = topic.subscribe();
  await started.started();
  assert.equal(started.position, `${epoch}:4`);
  const controller = new AbortController();
  const left = collect(topic.subscribe({ signal: controller.signal }));
  controller.abort();
  await left.end;
});

test("a message with an id is published once", async (t) => {
  const service = await Service.rsockd(t);
  const client = await ready(t, service.url);
  const topic = client.topic("room.1");
  const first = await topic.publish("once", { id: "m-1" });
  const second = await topic.publish("once", { id: "m-1" });
  assert.deepEqual([second.offset, second.duplicate], [first.offset, true]);
  await assert.rejects(topic.publish("x", { expect: 7 }), { code: "REJECTED", message: /^conflict/ });
  await assert.rejects(topic.publish("x", { colour: "red" }), { code: "INVALID" });
  await assert.rejects(client.topic("no good").publish("x"), { code: "INVALID" });
  await assert.rejects(client.topic("no good").subscribe().next(), { code: "INVALID" });
});

test("gaps are told", async (t) => {
  const service = await Service.rsockd(t, "--topic", "small.>=memory,messages=4");
  const client = await ready(t, service.url);
  const topic = client.topic("room.1");
  const { epoch } = await topic.publish("1");
  await topic.publish("2");
  await client.request("topics", { purge: "room.1" });
  await topic.publish("3");
  const seen = collect(topic.subscribe({ after: `${epoch}:0` }));
  await until(() => seen.length === 2);
  assert.deepEqual([seen[0].gap.from, seen[0].gap.to, seen[0].gap.reset], [1, 2, false]);
  assert.equal(seen[1].text(), "3");
  const anew = collect(topic.subscribe({ after: "00000000deadbeef:7" }));
  await until(() => anew.length === 2);
  assert.deepEqual([anew[0].gap.reset, anew[0].epoch, anew[1].text()], [true, epoch, "3"]);
});

test("who is in a room is seen, and what is said there is heard by all in one order", async (t) => {
  const service = await Service.rsockd(t);
  const [one, two] = [await ready(t, service.url), await ready(t, service.url)];
  const watched = [];
  const controller = new AbortController();
  const watching = (async () => {
    for await (const event of one.topic("room.1").presence({ signal: controller.signal })) watched.push(event);
  })();
  await until(() => watched.length === 1);
  const ann = await one.topic("room.1").join({ name: "ann", info: { avatar: 1 }, from: "start" });
  const bob = await two.topic("room.1").join({ name: "bob", from: "start" });
  const [heard, seen] = [collect(ann), collect(bob)];
  await Promise.all([ann.send("from ann"), bob.send("from bob"), ann.send("again")]);
  await until(() => heard.length === 3 && seen.length === 3);
  assert.deepEqual(texts(heard), texts(seen));
  assert.deepEqual(heard.map(({ from }) => from).sort(), ["ann", "ann", "bob"]);
  one.topic("room.1").signal("typing", { from: "ann" });
  await until(() => seen.length === 4);
  assert.deepEqual([seen[3].ephemeral, seen[3].offset, seen[3].text()], [true, null, "typing"]);
  await ann.update({ avatar: 2 });
  const { members, total } = await two.topic("room.1").members();
  assert.deepEqual([members.map(({ name }) => name), total], [["ann", "bob"], 2]);
  await until(() => watched.some(({ event }) => event === "update"));
  bob.leave();
  await seen.end;
  await until(() => watched.some(({ event, name }) => event === "leave" && name === "bob"));
  const told = watched.map(({ event, name, info }) => [event, name, info?.avatar].filter(Boolean).join(" "));
  assert.deepEqual(told, ["all", "join ann 1", "join bob", "update ann 2", "leave bob"]);
  controller.abort(Object.assign(new Error("enough"), { name: "Enough" }));
  await assert.rejects(watching, { name: "Enough" });
});

for (const resume of [false, true]) {
  test(`a line that is cut again and again loses and doubles nothing, ${resume ? "with" : "without"} resume`, async (t) => {
    const service = await Service.rsockd(t);
    const line = await Line.to(t, service.url);
    line.cuts = Array.from({ length: 25 }, (_, i) => 900 + 433 * i);
    const [writer, reader] = [await ready(t, line.url, { resume }), await ready(t, line.url, { resume })];
    const seen = collect(reader.topic("room.1").subscribe({ from: "start", window: 8 }));
    const topic = writer.topic("room.1");
    const acks = [];
    for (let i = 0; i < 400; i++) {
      acks.push(topic.publish(`message ${i}`));
      if (i % 10 === 0) await sleep(1);
    }
    const offsets = (await Promise.all(acks)).map(({ offset }) => offset);
    await until(() => seen.length >= 400);
    assert.ok(line.connections > 10, `${line.connections} connections`);
    assert.deepEqual(texts(seen), Array.from({ length: 400 }, (_, i) => `message ${i}`));
    assert.deepEqual(offsets, Array.from({ length: 400 }, (_, i) => i + 1));
  });
}

/** Publishes all the time, while a service is killed and started again three times. */
async function throughRestarts(t, service, name) {
  const client = await ready(t, service.url);
  const topic = client.topic(name);
  const seen = collect(topic.subscribe({ from: "start" }));
  const acks = [];
  let isOver = false;
  const publishing = (async () => {
    for (let i = 0; !isOver; i++) {
      const text = `message ${i}`;
      acks.push(topic.publish(text).then((ack) => ({ ...ack, text })));
      await sleep(2);
    }
  })();
  for (let i = 0; i < 3; i++) {
    const before = seen.length;
    await until(() => seen.length > before + 20);
    await service.restart();
  }
  const before = seen.length;
  await until(() => seen.length > before + 20);
  isOver = true;
  await publishing;
  const published = await Promise.all(acks);
  const last = published.at(-1).text;
  await until(() => texts(seen).includes(last));
  const all = texts(seen);
  assert.equal(new Set(all).size, all.length, "nothing twice");
  return { published, seen, all: new Set(all) };
}

test("three deaths of the service lose nothing of a durable topic, and double nothing", async (t) => {
  const args = ["--data", folder(t), "--topic", "d.>=durable"];
  const service = await Service.rsockd(t, ...args);
  const { published, seen, all } = await throughRestarts(t, service, "d.1");
  assert.deepEqual(published.filter(({ text }) => !all.has(text)), []);
  assert.deepEqual(seen.filter(({ gap }) => gap), []);
  const offsets = seen.map(({ offset }) => offset);
  assert.deepEqual(offsets, [...offsets].sort((a, b) => a - b));
  assert.equal(new Set(published.map(({ epoch }) => epoch)).size, 1);
});

test("three deaths of the service are told as gaps of a topic in memory, which has what is lost in them", async (t) => {
  const service = await Service.rsockd(t);
  const { published, seen, all } = await throughRestarts(t, service, "room.1");
  const resets = seen.filter(({ gap }) => gap?.reset).map(({ gap }) => gap);
  assert.equal(resets.length, 3);
  for (const { epoch, offset, text } of published.filter(({ text }) => !all.has(text))) {
    const told = resets.find((gap) => gap.epoch === epoch);
    assert.ok(told && told.from <= offset, `${text} is missing, and nobody has said so`);
  }
});

test("a member is in the room again when the service is back", async (t) => {
  const service = await Service.rsockd(t);
  const client = await ready(t, service.url);
  const watched = [];
  const watching = (async () => {
    for await (const event of client.topic("room.1").presence()) watched.push(event);
  })();
  watching.catch(() => {});
  // Nobody reads it: it is there all the same.
  const room = await client.topic("room.1").join({ name: "ann" });
  await until(() => watched.some(({ name }) => name === "ann"));
  await service.restart();
  const isHere = async () => (await client.topic("room.1").members().catch(() => null))?.total === 1;
  await until(isHere);
  assert.ok(watched.some(({ event }) => event === "reset"));
  await room.send("still here");
  client.close();
  await watching;
});

test("what is refused for now is sent again, and one at a time keeps its order", async (t) => {
  const config = path.join(folder(t), "rsockd.toml");
  writeFileSync(config, "[[topic]]\npattern = 'slow.>'\nrate = { per_second = 100, burst = 10 }\n");
  const service = await Service.rsockd(t, "--config", config);
  const client = await ready(t, service.url);
  for (const inFlight of [64, 1]) {
    const topic = client.topic(`slow.${inFlight}`);
    topic.outbox.inFlight = inFlight;
    const acks = await Promise.all(Array.from({ length: 40 }, (_, i) => topic.publish(String(i))));
    const offsets = acks.map(({ offset }) => offset);
    const inOrder = inFlight === 1 ? offsets : [...offsets].sort((a, b) => a - b);
    assert.deepEqual(inOrder, acks.map((_, i) => i + 1));
  }
});

test("the outbox has a limit, and says so", async (t) => {
  const script = await Script.start(t);
  const client = await connect(script.url, { reconnect: RECONNECT });
  const topic = client.topic("room.1");
  Object.assign(topic.outbox, { messages: 3, bytes: 1_000 });
  const published = [1, 2, 3].map((n) => topic.publish(`message ${n}`));
  await assert.rejects(topic.publish("4"), { code: "FULL", message: /^outbox full: 3 messages, 27 bytes/ });
  assert.equal(topic.waiting, 3);
  await script.take("SETUP");
  for (const id of [1, 3, 5]) assert.equal((await script.take("REQUEST_RESPONSE")).stream, id);
  const answer = (id, offset) => frame(id, 0x2860, JSON.stringify({ topic: "room.1", epoch: "e", offset }));
  script.send(answer(1, 1), answer(3, 2), answer(5, 3));
  assert.deepEqual((await Promise.all(published)).map(({ offset }) => offset), [1, 2, 3]);
  await assert.rejects(topic.publish("x".repeat(1_001)), { code: "FULL" });
  const left = topic.publish("never acknowledged");
  await script.take("REQUEST_RESPONSE");
  client.close();
  await assert.rejects(left, { code: "CLOSED" });
  await assert.rejects(topic.publish("later"), { code: "CLOSED" });
});

test("what was not acknowledged is sent again with its id, before what came later", async (t) => {
  const script = await Script.start(t);
  const client = await ready(t, script.url, { reconnect: { first: 1, longest: 1 } });
  const topic = client.topic("room.1");
  const published = ["a", "b", "c"].map((text) => topic.publish(text, { id: `id-${text}` }));
  const take = async () => {
    const { body, metadata } = await script.take("REQUEST_RESPONSE");
    return [body.toString(), /"id":"(id-.)"/.exec(metadata.toString())[1]];
  };
  await script.take("SETUP");
  const sent = [await take(), await take(), await take()];
  published.push(topic.publish("d", { id: "id-d" }));
  script.socket.terminate();
  await script.take("closed");
  await script.take("SETUP");
  const again = [await take(), await take(), await take(), await take()];
  assert.deepEqual(again, [...sent, ["d", "id-d"]]);
  script.send(...[1, 3, 5, 7].map((id) => frame(id, 0x2860, JSON.stringify({ epoch: "e", offset: id }))));
  await Promise.all(published);
});

test("a subscription goes elsewhere when the service is to close, behind what was given out", async (t) => {
  const item = (id, value, data = "") => {
    const text = JSON.stringify(value);
    const metadata = frame(0, 0, [0x85, 1], [text.length, 3], text).subarray(6);
    return frame(id, 0x2920, [metadata.length, 3], metadata, data);
  };
  const script = await Script.start(t);
  const client = await ready(t, script.url, { reconnect: { first: 1, longest: 1 } });
  const subscription = client.topic("room.1").subscribe({ window: 4 });
  await script.take("SETUP");
  assert.deepEqual(JSON.parse((await script.take("REQUEST_STREAM")).body), { from: "new", start: true });
  script.send(item(1, { start: { epoch: "e", next: 8 } }), item(1, { epoch: "e", offset: 8 }, "8"));
  script.send(item(1, { epoch: "e", offset: 9 }, "9"));
  assert.equal((await subscription.next()).value.text(), "8");
  await script.fence();
  script.send(frame(0, 0x2c00, [0x102, 4], "closing"));
  await script.take("CANCEL");
  await script.take("closed");
  await script.take("SETUP");
  assert.deepEqual(JSON.parse((await script.take("REQUEST_STREAM")).body).from, { epoch: "e", after: 8 });
  script.send(item(1, { start: { epoch: "e", next: 9 } }), item(1, { epoch: "e", offset: 8 }, "again"));
  script.send(item(1, { epoch: "e", offset: 9 }, "9"));
  assert.equal((await subscription.next()).value.text(), "9");
  assert.equal(subscription.position, "e:9");
});

test("a subscription that breaks off as soon as it begins is asked for again", async (t) => {
  const text = JSON.stringify({ start: { epoch: "e", next: 8 } });
  const metadata = frame(0, 0, [0x85, 1], [text.length, 3], text).subarray(6);
  const script = await Script.start(t);
  const client = await ready(t, script.url);
  const subscription = client.topic("room.1").subscribe();
  await script.take("SETUP");
  for (const id of [1, 3, 5]) {
    await script.take("REQUEST_STREAM");
    script.socket._socket.cork(); // so that both come at once
    script.send(frame(id, 0x2920, [metadata.length, 3], metadata), frame(id, 0x2c00, [0x202, 4], "too many subscriptions"));
    script.socket._socket.uncork();
    if (id === 1) subscription.next().catch(() => {});
  }
  await script.take("REQUEST_STREAM");
  subscription.cancel();
});

test("what a service says that is no topic's ends the subscription with an error", async (t) => {
  const json = (value) => {
    const text = JSON.stringify(value);
    return frame(0, 0, [0x85, 1], [text.length, 3], text).subarray(6);
  };
  const item = (id, metadata) => frame(id, 0x2920, [metadata.length, 3], metadata);
  const script = await Script.start(t);
  const client = await ready(t, script.url);
  await script.take("SETUP");
  for (const first of [json({ offset: 1 }), json(null), Buffer.from("fe0000ff", "hex"), Buffer.from("850000017b", "hex")]) {
    const seen = collect(client.topic("room.1").subscribe());
    const { stream } = await script.take("REQUEST_STREAM");
    script.send(item(stream, first));
    await assert.rejects(seen.end);
    await script.take("CANCEL");
  }
  const seen = collect(client.topic("room.1").subscribe());
  const { stream } = await script.take("REQUEST_STREAM");
  script.send(item(stream, json({ start: { epoch: "e", next: 1 } })), item(stream, Buffer.from("850000017b", "hex")));
  await assert.rejects(seen.end, { name: "SyntaxError" });
  await script.take("CANCEL");
  assert.equal(client.state, "connected");
});

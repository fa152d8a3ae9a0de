// What goes over the wire, against a service that does as it is told: bytes, credit, fragments, sessions, leases,
// requests of the service's, and what a hostile one sends.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Script, connect, frame, hex, moduleAt, rsocket, until } from "./lib.mjs";

const { Payload, RSocketError } = rsocket;
const nothing = Buffer.alloc(0);
const [N, C, F, M] = [0x20, 0x40, 0x80, 0x100];
const payload = (stream, flags, ...rest) => frame(stream, 0x2800 | flags, ...rest);
const requestN = (stream, n) => frame(stream, 0x2000, [n, 4]);
const error = (stream, code, text) => frame(stream, 0x2c00, [code, 4], text);
const COMPOSITE = "message/x.rsocket.composite-metadata.v0";

/** A script, and a client that it has accepted. */
async function pair(t, options = {}) {
  const script = await Script.start(t);
  const client = await connect(script.url, options);
  t.after(() => client.close());
  const setup = await script.take("SETUP");
  return { script, client, setup };
}

test("SETUP says what was asked for, in these bytes", async (t) => {
  const auth = { user: "u", password: "pw" };
  const options = { keepalive: 20_000, lifetime: 90_000, dataMime: "c/d", auth, setup: { data: "\x02\x03" } };
  const { setup } = await pair(t, options);
  const metadata = hex("fc 000006 80 0001 75 7077");
  const fixed = hex("00000000 0500 0001 0000 00004e20 00015f90");
  const lengths = [[COMPOSITE.length, 1], COMPOSITE, [3, 1], "c/d", [metadata.length, 3], metadata, hex("0203")];
  assert.deepEqual(setup.all, Buffer.concat([fixed, frame(0, 0, ...lengths).subarray(6)]));
});

test("requests have these bytes", async (t) => {
  const { script, client } = await pair(t);
  client.fireAndForget("a/one", "d", { metadata: { "x/y": hex("0102") }, auth: { bearer: "tok" } });
  const entries = hex("fe000006 05 612f6f6e65 fc000004 81 746f6b 02 782f79 000002 0102");
  assert.deepEqual((await script.take()).all, frame(1, 0x1500, [entries.length, 3], entries, "d"));
  client.request(null, "d", { metadata: hex("6d") }).catch(() => {});
  assert.deepEqual((await script.take()).all, hex("00000003 1100 000001 6d 64"));
  const stream = client.stream(null, "", { n: Infinity });
  assert.deepEqual((await script.take()).all, hex("00000005 1800 7fffffff"));
  stream.cancel();
  assert.deepEqual((await script.take()).all, hex("00000005 2400"));
  client.channel(null, "d", { n: 1, last: true });
  assert.deepEqual((await script.take()).all, hex("00000007 1c40 00000001 64"));
  client.push("m");
  assert.deepEqual((await script.take()).all, hex("00000000 3100 6d"));
});

test("a payload is data as well, and brings its metadata where no others are said", async (t) => {
  const { script, client } = await pair(t);
  const payload = new Payload("d", hex("6d"));
  client.fireAndForget(null, payload);
  assert.deepEqual((await script.take()).all, hex("00000001 1500 000001 6d 64"));
  client.fireAndForget("r", payload);
  assert.deepEqual((await script.take()).all, hex("00000003 1500 000006 fe000002 0172 64"));
  assert.throws(() => client.fireAndForget("r", "", { metadata: { ["x".repeat(129)]: "" } }), { code: "INVALID" });
  assert.throws(() => client.fireAndForget("r".repeat(256), ""), { code: "INVALID" });
  assert.deepEqual(await script.fence(), []);
});

test("what comes is read as it was meant", async (t) => {
  const { script, client } = await pair(t);
  const answer = client.request(null, "x");
  await script.take();
  script.send(hex("00000001 2960 000012 00 78 000001 79 85 000008 7b2261223a317d20 64"));
  assert.equal((await answer).text(), "d");
  assert.deepEqual((await answer).entries().map(([mime]) => mime), ["x", "application/json"]);
  assert.deepEqual((await answer).meta(), { a: 1 });
  const empty = client.request(null, "x");
  await script.take();
  script.send(hex("00000003 2840"));
  assert.equal(await empty, null);
  const custom = client.request(null, "x");
  await script.take();
  script.send(error(5, 0x301, "mine"));
  await assert.rejects(custom, { code: "0x301", message: "mine" });
  assert.throws(() => new Payload("", hex("fe0000ff")).entries(), { code: "INVALID" });
});

test("items come under the credit that was given, and no others", async (t) => {
  const { script, client } = await pair(t);
  const stream = client.stream(null, "x", { n: 2 });
  assert.equal((await script.take("REQUEST_STREAM")).n, 2);
  for (let i = 0; i < 5; i++) script.send(payload(1, N, String(i)));
  const seen = [];
  await assert.rejects(
    async () => {
      for await (const item of stream) seen.push(item.text());
    },
    { code: "INVALID", message: /more came than the 2/ },
  );
  assert.deepEqual(seen, ["0", "1"]);
  const behind = await script.fence();
  assert.deepEqual(behind.map(({ type, stream }) => [type, stream]), [["CANCEL", 1]]);
});

test("automatic credit is given by halves of the window, and for what was taken", async (t) => {
  const { script, client } = await pair(t);
  const stream = client.stream(null, "x", { window: 4 });
  assert.equal((await script.take()).n, 4);
  for (let i = 0; i < 4; i++) script.send(payload(1, N, String(i)));
  assert.deepEqual(await script.fence(), []);
  await stream.next();
  assert.deepEqual(await script.fence(), []);
  await stream.next();
  assert.deepEqual((await script.fence()).map(({ type, n }) => [type, n]), [["REQUEST_N", 2]]);
});

test("a channel sends what it has credit for", async (t) => {
  const { script, client } = await pair(t);
  const channel = client.channel(null, "0", { n: 1 });
  const calls = [];
  channel.onsendable = ({ sendable }) => calls.push(sendable);
  await script.take("REQUEST_CHANNEL");
  assert.equal(channel.sendable, 0);
  assert.throws(() => channel.send("early"), { code: "FULL" });
  script.send(requestN(1, 2), requestN(1, 0x80000001));
  assert.deepEqual(await script.fence(), []);
  assert.deepEqual([channel.sendable, calls], [2, [2]]);
  channel.send("1");
  channel.send("2", { metadata: hex("6d") });
  assert.throws(() => channel.send("3"), { code: "FULL" });
  assert.deepEqual((await script.fence()).map(({ all }) => all), [hex("00000001 2820 31"), hex("00000001 2920 0000016d 32")]);
  script.send(frame(1, 0x2400), payload(1, N, "still"));
  assert.equal((await channel.next()).value.text(), "still");
  assert.equal(await channel.ready(), false);
  script.send(payload(1, C));
  assert.equal((await channel.next()).done, true);
});

test("what the WebSocket does not get rid of is not sent", async (t) => {
  const { script, client } = await pair(t);
  const channel = client.channel(null, "0", { n: 1 });
  await script.take("REQUEST_CHANNEL");
  script.send(requestN(1, 0x7fffffff));
  await until(() => channel.sendable > 0);
  script.socket.pause();
  const part = new Uint8Array(100_000);
  let sent = 0;
  while (channel.sendable > 0) {
    channel.send(part);
    sent += 1;
    // What goes into the system's own buffers is gone.
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.ok(sent < 500, `${sent} of 100 kB`);
  const waits = client.request(null, "x");
  waits.catch(() => {});
  let isReady = false;
  channel.ready().then(() => (isReady = true));
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(isReady, false);
  script.socket.resume();
  await until(() => isReady);
  const fragments = (await script.fence()).filter(({ type }) => type === "PAYLOAD");
  assert.equal(fragments.reduce((all, { body }) => all + body.length, 0), sent * part.length);
});

test("fragments are cut as the specification has it", async (t) => {
  const { script, client } = await pair(t);
  const metadata = Buffer.alloc(100_000, "m");
  const data = Buffer.alloc(150_000, "d");
  client.channel(null, data, { metadata, last: true, n: 3 });
  const frames = await script.fence();
  assert.deepEqual(frames.map(({ type }) => type), ["REQUEST_CHANNEL", "PAYLOAD", "PAYLOAD", "PAYLOAD"]);
  assert.ok(frames.every(({ all }) => all.length <= 65_536));
  assert.deepEqual(frames.map(({ flags }) => flags), [M | F, M | F | N, F | N, C | N]);
  assert.deepEqual(Buffer.concat(frames.map((one) => one.metadata ?? nothing)), metadata);
  assert.deepEqual(Buffer.concat(frames.map(({ body }) => body)), data);
  client.fireAndForget(null, data, { metadata: nothing });
  const behind = await script.fence();
  assert.deepEqual(behind.map(({ flags }) => flags), [M | F, F | N, N]);
});

test("fragments are put together, whatever comes between them", async (t) => {
  const { script, client } = await pair(t);
  const [one, two] = [client.request(null, "x"), client.request(null, "y")];
  await script.fence();
  script.send(payload(1, M | F | N, [1, 3], "a", ""), payload(3, F, "A"), payload(1, M | F | N, [1, 3], "b", "c"));
  script.send(requestN(1, 5), frame(0, 0x0c00, [0, 8]), payload(3, N | C, "B"), payload(1, F | C, "d"));
  const answer = await one;
  assert.deepEqual([Buffer.from(answer.metadata).toString(), answer.text(), (await two).text()], ["ab", "cd", "AB"]);
  const stream = client.stream(null, "x", { n: 1 });
  await script.fence();
  script.send(payload(5, F | N, "1"), payload(5, F | N, "2"), payload(5, C, "3"));
  assert.equal((await stream.next()).value.text(), "123");
  assert.equal((await stream.next()).done, true);
  const cut = client.request(null, "x");
  await script.fence();
  script.send(payload(7, F | N, "1"), frame(7, 0x2400));
  await assert.rejects(cut, { code: "CANCELED" });
});

test("a payload in fragments has a bound, of bytes and of fragments", async (t) => {
  const { script, client } = await pair(t, { maxPayload: 200_000 });
  for (const part of [Buffer.alloc(60_000), nothing]) {
    const answer = client.request(null, "x");
    const { stream } = await script.take();
    for (let i = 0; i < (part.length ? 5 : 5_000); i++) script.send(payload(stream, F | N, part));
    await assert.rejects(answer, { code: "CANCELED", message: /more than 200000 bytes/ });
    assert.deepEqual((await script.fence()).map(({ type }) => type), ["CANCEL"]);
  }
  const mixed = client.request(null, "x");
  const { stream } = await script.take();
  script.send(payload(stream, F | N, "d"), payload(stream, M | C, [1, 3], "m"));
  await assert.rejects(mixed, { code: "CANCELED", message: /metadata behind data/ });
  assert.deepEqual((await script.fence()).map(({ type }) => type), ["CANCEL"]);
  assert.equal(client.state, "connected");
});

test("requests of the service's are answered", async (t) => {
  const heard = [];
  const responder = {
    request: async (asked) => (asked.text() === "none" ? null : new Payload(`re: ${asked.text()}`, hex("6d"))),
    fireAndForget: (told) => heard.push(told.text()),
    *stream(asked) {
      for (let i = 0; i < 3; i++) yield asked.text() + i;
    },
    async *channel(first, items) {
      for await (const item of items) yield `${item.text()}!`;
    },
    push: (metadata) => heard.push(Buffer.from(metadata).toString()),
  };
  const { script } = await pair(t, { responder });
  script.send(frame(2, 0x1000, "a"), frame(4, 0x1000, "none"), frame(6, 0x1400, "told"), frame(0, 0x3100, "pushed"));
  const answers = new Map((await script.fence()).map((one) => [one.stream, one]));
  while (answers.size < 2) await script.take().then((one) => answers.set(one.stream, one));
  assert.deepEqual(answers.get(2).all, hex("00000002 2960 0000016d 72653a2061"));
  assert.deepEqual(answers.get(4).all, hex("00000004 2840"));
  await until(() => heard.length === 2);
  assert.deepEqual(heard.sort(), ["pushed", "told"]);

  script.send(frame(8, 0x1800, [1, 4], "s"));
  assert.equal((await script.take("PAYLOAD")).body.toString(), "s0");
  assert.deepEqual(await script.fence(), []);
  script.send(requestN(8, 9));
  assert.equal((await script.take("PAYLOAD")).body.toString(), "s1");
  assert.equal((await script.take("PAYLOAD")).body.toString(), "s2");
  assert.deepEqual((await script.take()).all, hex("00000008 2840"));

  script.send(frame(10, 0x1c00, [9, 4], "c"));
  const { n } = await script.take("REQUEST_N");
  assert.equal((await script.take("PAYLOAD")).body.toString(), "c!");
  script.send(payload(10, N, "d"), payload(10, C));
  assert.equal((await script.take("PAYLOAD")).body.toString(), "d!");
  assert.deepEqual((await script.take()).all, hex("0000000a 2840"));
  script.send(frame(12, 0x1c00, [9, 4], "c"));
  await script.take("REQUEST_N");
  await script.take("PAYLOAD");
  for (let i = 0; i <= n; i++) script.send(payload(12, N, "d"));
  script.send(frame(12, 0x2400));
  assert.ok((await script.fence()).every(({ type }) => ["PAYLOAD", "REQUEST_N", "ERROR"].includes(type)));
});

test("what a responder does not do is refused, and what it fails at is told", async (t) => {
  const never = new Promise(() => {});
  const request = ({ data }) => {
    if (data.length === 0) return never;
    throw data[0] === 120 ? new RSocketError("0x302", "mine") : new TypeError("by mistake");
  };
  const { script } = await pair(t, { responder: { request }, maxServed: 3 });
  script.send(frame(2, 0x1000, "x"));
  assert.deepEqual((await script.take()).all, error(2, 0x302, "mine"));
  script.send(frame(4, 0x1000, "y"));
  assert.deepEqual((await script.take()).all, error(4, 0x201, "by mistake"));
  script.send(frame(6, 0x1800, [1, 4]));
  assert.equal((await script.take("ERROR")).n, 0x202);
  script.send(frame(8, 0x1800, [0x80000000, 4]));
  assert.equal((await script.take("ERROR")).n, 0x202);
  for (let id = 10; id <= 16; id += 2) script.send(frame(id, 0x1000));
  assert.match((await script.take("ERROR")).body.toString(), /too many/);
  script.send(frame(10, 0x2400), frame(18, 0x1000, "x"));
  assert.equal((await script.take("ERROR")).stream, 18);
});

test("KEEPALIVE is sent and answered, and who is silent is lost", async (t) => {
  const script = await Script.start(t, { answersKeepalive: false });
  const states = [];
  const connecting = connect(script.url, { keepalive: 30, lifetime: 100, onstate: (...told) => states.push(told) });
  await script.take("SETUP");
  assert.deepEqual((await script.take("KEEPALIVE")).all, hex("00000000 0c80 0000000000000000"));
  script.send(frame(0, 0x0c00, [0, 8]));
  const client = await connecting;
  for (let i = 0; i < 10; i++) {
    await script.take("KEEPALIVE");
    script.send(frame(0, 0x0c80, [258, 8], "hi"));
    assert.deepEqual((await script.take("KEEPALIVE")).all, hex("00000000 0c00 0000000000000000 6869"));
  }
  assert.equal(client.state, "connected");
  assert.match((await client.closed).message, /no sign of life/);
  assert.deepEqual(states.map(([state]) => state), ["connected", "closed"]);
});

// Each ends the connection, with an error at both sides; with I set, those that can be skipped are.
const hostile = {
  "a frame of nothing": nothing,
  "a frame of five bytes": hex("00000001 28"),
  "a stream's number with its first bit set": hex("80000001 2820 61"),
  "metadata that are longer than their frame": hex("00000001 2920 000099 6d"),
  "metadata without a whole length": hex("00000001 2920 0000"),
  "a REQUEST_N of two bytes": hex("00000001 2000 0001"),
  "an ERROR without a code": hex("00000001 2c00 0001"),
  "a KEEPALIVE without a position": hex("00000000 0c80 00000000"),
  "a LEASE of four bytes": hex("00000000 0800 00000001"),
  "an unknown type": hex("00000000 8000 00"),
  "an unknown type on a stream": hex("00000001 8000 00"),
  "the type 0": hex("00000000 0000"),
  "an extension": hex("00000000 fc00 00000001"),
  "a text": "text",
  "a frame of more than 16 MiB": Buffer.concat([hex("00000001 2820"), Buffer.alloc(0xffffff)]),
};
test("what cannot be read ends the connection with an error, and nothing else", async (t) => {
  for (const [what, bytes] of Object.entries(hostile)) {
    await t.test(what, async (t) => {
      const { script, client } = await pair(t);
      const [answer, stream] = [client.request(null, "x"), client.stream(null, "y")];
      await script.fence();
      script.send(bytes);
      await assert.rejects(answer, { code: "LOST" });
      await assert.rejects(stream.next(), { code: "LOST" });
      const told = await script.take("ERROR");
      assert.deepEqual([told.stream, told.n], [0, 0x101]);
      await script.take("closed");
      assert.equal((await client.closed).code, "CONNECTION_ERROR");
    });
  }
});

/** Numbers that are the same each time. */
function random(seed) {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}
/** A frame of some type, on some stream, with some flags, and as often as not cut off or with a bit turned. */
function arbitrary(pick) {
  const bytes = Buffer.alloc(6 + pick(30), pick(3) ? 0 : 255);
  bytes.writeUInt32BE(pick(20) ? pick(6) : pick(2 ** 32), 0);
  const types = [2, 3, 4, 5, 6, 7, 8, 9, 10, 10, 10, 11, 12, 14, 63, pick(64)];
  bytes.writeUInt16BE((types[pick(types.length)] << 10) | (pick(2) ? pick(1_024) : pick(8) << 5), 4);
  for (let i = 6; i < bytes.length; i++) if (pick(2)) bytes[i] = pick(3) ? pick(4) : pick(256);
  return pick(8) ? bytes : bytes.subarray(0, pick(bytes.length));
}

test("arbitrary bytes are a frame or an error", async () => {
  const { decode } = await import(moduleAt("rsocket-base.mjs"));
  const pick = random(1);
  let frames = 0;
  for (let i = 0; i < 100_000; i++) {
    try {
      frames += decode(new Uint8Array(arbitrary(pick))).size > 0;
    } catch (error) {
      assert.equal(error.constructor, Error);
    }
  }
  assert.ok(frames > 10_000 && frames < 90_000, `${frames}`);
});

test("a service that sends arbitrary frames is at worst left, with an error", async (t) => {
  const script = await Script.start(t);
  for (let seed = 1; seed <= 150; seed++) {
    const pick = random(seed);
    const responder = { request: (asked) => asked, stream: (asked) => [asked, asked], channel: (_, items) => items };
    const client = await connect(script.url, { responder, resume: seed % 2 === 0, lease: seed % 3 === 0, maxPayload: 500 });
    const ended = (promise) => promise.then(() => {}, (error) => assert.ok(error instanceof RSocketError, `${error.stack}`));
    const all = async (stream) => {
      for await (const item of stream) item.text();
    };
    const channel = client.channel(null, "c");
    const open = [ended(client.request(null, "r")), ended(all(client.stream(null, "s", { window: 2 }))), ended(all(channel))];
    const pumped = ended(channel.pump(Array(20).fill("more")));
    for (let i = 0; i < 60; i++) script.send(arbitrary(pick));
    const seen = await script.fence();
    if (seen.at(-1)?.type !== "closed") client.close();
    const why = await client.closed;
    assert.ok(["CONNECTION_ERROR", "CLOSED", "LOST"].includes(why.code), why.message);
    await Promise.all([...open, pumped]);
    script.frames.length = 0;
  }
});

test("what can be ignored is", async (t) => {
  const pushed = [];
  const { script, client } = await pair(t, { responder: { push: (metadata) => pushed.push(metadata) } });
  const stream = client.stream(null, "x", { n: 2 });
  await script.take();
  const ignored = [
    ...Object.values(hostile).filter((bytes) => bytes.length > 5 && bytes.length < 100 && bytes !== "text" && bytes[0] < 0x80),
  ].map((bytes) => Buffer.concat([bytes.subarray(0, 4), Buffer.from([bytes[4] | 0x02]), bytes.subarray(5)]));
  ignored.push(
    ...[1, 7, 8].flatMap((id) => [frame(id, 0x0400), frame(id, 0x0800, [9, 4], [9, 4]), frame(id, 0x0c80, [0, 8])]),
    ...[7, 8].flatMap((id) => [payload(id, N), payload(id, F), frame(id, 0x2400), error(id, 0x201, ""), requestN(id, 1)]),
    ...[1, 3].flatMap((id) => [frame(id, 0x1000, "x"), frame(id, 0x1800, [1, 4]), frame(id, 0x1400, "x")]),
    frame(1, 0x2400), requestN(1, 5), requestN(0, 1), frame(0, 0x2400), payload(0, N), frame(0, 0x1000, "x"),
    frame(1, 0x3100, "m"), frame(0, 0x3800, [5, 8]), frame(0, 0x0800, [9, 4], [9, 4]), error(0, 0x003, ""), error(0, 0x201, ""),
    frame(0, 0x0500, "short"), frame(0, 0x3400),
  );
  script.send(...ignored, payload(1, N, "a"), payload(1, N | C, "b"));
  assert.deepEqual([(await stream.next()).value.text(), (await stream.next()).value.text()], ["a", "b"]);
  assert.deepEqual(await script.fence(), []);
  assert.deepEqual([client.state, pushed], ["connected", []]);
});

test("answers to KEEPALIVE do not queue up behind what is not read", async (t) => {
  const { script, client } = await pair(t);
  let most = 0;
  const channel = client.channel(null, "x");
  await script.take();
  script.send(requestN(1, 0x7fffffff));
  await until(() => channel.sendable > 0);
  script.socket.pause();
  while (channel.sendable > 0) {
    channel.send(new Uint8Array(60_000));
    await new Promise((resolve) => setImmediate(resolve));
  }
  for (let i = 0; i < 200; i++) script.send(frame(0, 0x0c80, [0, 8], Buffer.alloc(50_000)));
  script.send(payload(1, N, "behind them"));
  await channel.next();
  script.socket.resume();
  await channel.ready();
  for (const { type } of await script.fence()) most += type === "KEEPALIVE";
  assert.ok(most < 20, `${most} answers`);
});

test("requests wait for a lease, within it, and are as many as it says", async (t) => {
  const { script, client, setup } = await pair(t, { lease: true });
  assert.equal(setup.flags & 0x40, 0x40);
  assert.deepEqual((await script.take()).all, hex("00000000 0800 7fffffff 7fffffff"));
  const answers = [1, 2, 3].map((n) => client.request(null, n));
  const left = client.request(null, 4, { timeout: 1 });
  await assert.rejects(left, { code: "TIMEOUT" });
  assert.deepEqual(await script.fence(), []);
  script.send(frame(0, 0x0800, [60_000, 4], [2, 4]));
  assert.deepEqual((await script.fence()).map(({ body }) => body.toString()), ["1", "2"]);
  script.send(frame(0, 0x0800, [0, 4], [5, 4]));
  assert.deepEqual(await script.fence(), []);
  script.send(frame(0, 0x0800, [60_000, 4], [0x80000005, 4]), frame(0, 0x0800, [60_000, 4], [1, 4]));
  assert.deepEqual((await script.fence()).map(({ body }) => body.toString()), ["3"]);
  for (const id of [1, 3, 5]) script.send(payload(id, N | C, "ok"));
  await Promise.all(answers);
});

test("as many requests wait as may, and no more", async (t) => {
  const { client } = await pair(t, { lease: true, maxWaiting: 2 });
  client.request(null, 1).catch(() => {});
  const stream = client.stream(null, 2, { n: 1 });
  stream.request(1); // it waits already
  assert.equal(stream.granted, 2);
  await assert.rejects(client.request(null, 3), { code: "FULL", message: /2 requests wait/ });
  assert.throws(() => client.fireAndForget(null, 3), { code: "FULL" });
});

test("a session goes on with the bytes where it was cut", async (t) => {
  const { script, client, setup } = await pair(t, { resume: true, reconnect: { first: 1, longest: 1 } });
  assert.equal(setup.flags & 0x80, 0x80);
  const token = setup.all.subarray(20, 36);
  assert.equal(setup.all.readUInt16BE(18), 16);
  const answer = client.request(null, "abc"); // 9 bytes
  const stream = client.stream(null, "x", { n: 5 }); // 11 bytes
  await script.fence();
  script.send(payload(3, N, "1234")); // 10 bytes
  assert.equal((await stream.next()).value.text(), "1234");
  script.send(frame(0, 0x0c00, [9, 8])); // it has the first
  await script.fence();
  script.socket.terminate();
  await script.take("closed");
  stream.request(2); // while there is no connection
  const resume = (await script.take("RESUME")).all;
  assert.deepEqual(resume, frame(0, 0x3400, [1, 2], [0, 2], [16, 2], token, [10, 8], [9, 8]));
  script.send(frame(0, 0x3800, [9, 8]));
  assert.deepEqual((await script.fence()).map(({ all }) => all), [hex("00000003 1800 00000005 78"), requestN(3, 2)]);
  script.send(payload(3, N, "5"), payload(1, N | C, "ok"));
  assert.equal((await stream.next()).value.text(), "5");
  assert.equal((await answer).text(), "ok");
  script.socket.terminate();
  await script.take("closed");
  assert.equal((await script.take("RESUME")).all.readBigUInt64BE(28), 25n);
  script.send(frame(0, 0x3800, [30, 8]));
  await script.fence();
  assert.equal(client.state, "connected");
});

test("a session that the service does not have is begun anew, and what was open is lost", async (t) => {
  const { script, client } = await pair(t, { resume: true, reconnect: { first: 1, longest: 1 } });
  const answer = client.request(null, "abc");
  await script.fence();
  script.socket.terminate();
  await script.take("closed");
  await script.take("RESUME");
  script.send(error(0, 0x004, "who?"));
  await assert.rejects(answer, { code: "LOST" });
  await script.take("closed");
  await script.take("SETUP");
  await client.ready();
  const next = client.request(null, "abc");
  assert.equal((await script.take("REQUEST_RESPONSE")).stream, 1);
  script.send(payload(1, N | C, "ok"));
  assert.equal((await next).text(), "ok");
});

test("a position that cannot be ends the session", async (t) => {
  for (const position of [4, 8, 100]) {
    const { script, client } = await pair(t, { resume: true });
    const answer = client.request(null, "abc");
    await script.fence();
    script.socket.terminate();
    await script.take("closed");
    await script.take("RESUME");
    script.send(frame(0, 0x3800, [position, 8]));
    await assert.rejects(answer, { code: "LOST" });
    assert.equal((await script.take("ERROR")).n, 0x101);
    assert.equal((await client.closed).code, "CONNECTION_ERROR");
  }
});

test("what a session keeps has a bound, and is let go when the service has it", async (t) => {
  const { script, client } = await pair(t, { resume: { bytes: 100_000 } });
  const channel = client.channel(null, "x", { n: 1 });
  await script.take();
  script.send(requestN(1, 0x7fffffff));
  await until(() => channel.sendable > 0);
  let sent = 0;
  while (channel.sendable > 0) {
    channel.send(new Uint8Array(10_000));
    sent += 1;
  }
  assert.equal(sent, 10);
  const bytes = (await script.fence()).reduce((all, one) => all + one.all.length, 11);
  script.send(frame(0, 0x0c00, [bytes, 8]));
  assert.equal(await channel.ready(), true);
});

test("a window that is over ends the session, and without reconnect the client", async (t) => {
  const { script, client } = await pair(t, { resume: { window: 50 } });
  const answer = client.request(null, "abc");
  await script.fence();
  script.end();
  await assert.rejects(answer, { code: "LOST" });
  assert.equal((await client.closed).code, "LOST");
});

test("it connects again with growing pauses that differ, and says when", async (t) => {
  const script = await Script.start(t);
  const states = [];
  const onstate = (state, why, at) => states.push([state, why?.message, at && at - Date.now()]);
  const client = await connect(script.url, { reconnect: { first: 2, longest: 20 }, onstate });
  t.after(() => client.close());
  const pending = client.request(null, "pending");
  script.server.on("connection", (socket) => script.connections < 12 && socket.terminate());
  script.socket.terminate();
  await assert.rejects(pending, { code: "LOST" });
  const later = client.request(null, "later"); // waits for the next connection
  await until(() => script.frames.some(({ body }) => body?.toString() === "later"));
  assert.deepEqual(states.map(([state]) => state), ["connected", ...Array(11).fill("reconnecting"), "connected"]);
  const pauses = states.filter(([state]) => state === "reconnecting").map(([, , pause]) => pause);
  assert.ok(pauses.every((pause) => pause <= 20) && new Set(pauses).size > 2, pauses.join());
  script.send(payload(1, N | C, "ok"));
  assert.equal((await later).text(), "ok");
});

test("credentials are asked for anew with each connection", async (t) => {
  const script = await Script.start(t);
  let count = 0;
  const auth = async () => ({ bearer: `t${++count}` });
  const client = await connect(script.url, { auth, reconnect: { first: 1, longest: 1 } });
  t.after(() => client.close());
  assert.match((await script.take("SETUP")).all.toString("latin1"), /\x81t1$/);
  script.socket.terminate();
  await script.take("closed");
  assert.match((await script.take("SETUP")).all.toString("latin1"), /\x81t2$/);
});

test("a service that closes is left when what is open has ended", async (t) => {
  const { script, client } = await pair(t, { reconnect: { first: 1, longest: 1 } });
  const answer = client.request(null, "x");
  await script.fence();
  script.send(error(0, 0x102, "closing"));
  await script.fence();
  const later = client.request(null, "later");
  assert.deepEqual(await script.fence(), []);
  script.send(payload(1, N | C, "ok"));
  assert.equal((await answer).text(), "ok");
  await script.take("closed");
  await script.take("SETUP");
  assert.equal((await script.take("REQUEST_RESPONSE")).body.toString(), "later");
  script.send(payload(1, N | C, "ok"));
  await later;
});

test("connecting fails where nobody is, where nobody answers, and when it is given up", async (t) => {
  const script = await Script.start(t, { answersKeepalive: false });
  await assert.rejects(connect(script.url, { connectTimeout: 50 }), { code: "LOST", message: /no answer within 50 ms/ });
  const signal = AbortSignal.timeout(50);
  await assert.rejects(connect(script.url, { reconnect: true, signal }), { name: "TimeoutError" });
  script.end();
  await assert.rejects(connect(script.url), { code: "LOST" });
  await assert.rejects(connect("not a url"), { name: "TypeError" });
});

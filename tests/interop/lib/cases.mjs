// The cases every JavaScript peer runs against rsockd. A peer is an adapter
// (js0/client.mjs, js1/client.mjs) with one function, connect(), that gives a
// connection with the same few methods whatever the library underneath.
//
// One line a case on stdout: `ok NAME`, `FAIL NAME: reason`, or
// `skip NAME: why (expected difference)`. Exit code 1 when a case failed.
//
// A special case needs a service started for it, and runs by name only.

import { strict as assert } from "node:assert";
import { bytes, Inbox, json, roundTrip, same, sizeOf, text } from "./streams.mjs";
import { topicCases } from "./topics.mjs";

const CASE_LIMIT_MS = 10_000;
const BATCH = 4;
const MAX_REQUEST_N = 0x7fffffff;
const REJECTED = 0x202;

export const COMPOSITE = "message/x.rsocket.composite-metadata.v0";
export const OCTETS = "application/octet-stream";

/** Thrown by an adapter or a case for what this peer cannot do. */
export class Skip extends Error {}

/**
 * Takes a stream to its end, asking for BATCH at a time and only after all
 * that was asked for has come and a round trip has shown that no more did.
 */
async function drainInBatches(connection, inbox, asked, request) {
  for (;;) {
    await inbox.has(asked);
    await roundTrip(connection);
    assert.ok(
      inbox.items.length <= asked,
      `${inbox.items.length} items came, ${asked} were asked for`,
    );
    assert.equal(connection.violations.length, 0, `the library dropped items beyond ${asked}`);
    if (inbox.error) throw inbox.error;
    if (inbox.done) return;
    asked += BATCH;
    request(BATCH);
  }
}

const numbers = (inbox) => inbox.items.map((item) => JSON.parse(text(item.data)));
const upTo = (end) => Array.from({ length: end }, (_, i) => i);

// A request fails as the connection does, and does not wait for an answer.
async function isRejected(connection, text) {
  const request = { data: bytes("x"), metadata: connection.metadata("whoami") };
  const error = await connection
    .requestResponse(request)
    .then(() => assert.fail("a rejected connection was answered"), connection.describe);
  const closing = inOneLine(await connection.closed);
  const said = `${error.text} / ${closing}`;
  assert.ok(said.includes(text), `the server's text is missing: ${said}`);
}

// Makes the peer write a frame of every kind, for whoever records them.
async function frames(connection) {
  const routed = (route, data, ...more) => ({
    data: bytes(data),
    metadata: connection.metadata(route, ...more),
  });
  await connection.permit();
  await connection.requestResponse(routed("echo", "hello", ["text/plain", bytes("a text")]));
  await connection.requestResponse(routed("echo", "0123456789".repeat(15)));
  const inbox = new Inbox();
  const stream = connection.requestStream(routed("range", '{"from":0}'), 2, inbox);
  await inbox.has(2);
  stream.request(3);
  await inbox.has(5);
  stream.cancel();
  const whole = new Inbox();
  connection.requestStream(routed("range", '{"from":0,"to":2}'), 10, whole);
  await whole.has(3);
  const echoed = new Inbox();
  let sent = 0;
  const channel = connection.requestChannel(routed("echo", "first"), 3, {
    onNext: (payload) => echoed.onNext(payload),
    onComplete: () => echoed.onComplete(),
    onError: (error) => echoed.onError(error),
    onCancel() {},
    onCredit: () =>
      queueMicrotask(() => {
        if (sent++ > 0) return;
        channel.next({ data: bytes("second") });
        channel.complete();
      }),
  });
  await echoed.has(3);
  connection.fireAndForget(routed("echo", "forget me"));
  await connection.requestResponse(routed("fail", "no tea left")).catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 700));
  connection.metadataPush(connection.metadata("echo"));
  await roundTrip(connection);
}

const FRAMES = { keepAlive: 300, lifetime: 3_000, mtu: 64, setup: true };
const PATIENT = { keepAlive: 5_000, lifetime: 30_000 };

const cases = {
  async "rr-echo"(connection) {
    const answer = await connection.requestResponse({
      data: bytes("hello, wörld"),
      metadata: connection.metadata("echo"),
    });
    assert.equal(text(answer.data), "hello, wörld");
  },

  async "rr-metadata"(connection) {
    const metadata = connection.metadata("echo", ["text/plain", bytes("metadata comes back")]);
    const answer = await connection.requestResponse({ data: bytes("data"), metadata });
    assert.equal(text(answer.data), "data");
    assert.equal(
      answer.metadata?.toString("hex"),
      metadata.toString("hex"),
      "the metadata of the answer",
    );
  },

  async "rr-1mib"(connection) {
    const data = Buffer.alloc(1 << 20);
    for (let i = 0; i < data.length; i++) data[i] = (i * 31 + (i >> 8)) & 0xff;
    const answer = await connection.requestResponse({
      data,
      metadata: connection.metadata("echo"),
    });
    assert.equal(sizeOf(answer.data), data.length, "the size of the answer");
    assert.ok(data.equals(answer.data), "the bytes of the answer differ");
  },

  // The frame ends with its metadata.
  async "rr-metadata-only"(connection) {
    const metadata = connection.metadata("echo", ["text/plain", bytes("all there is")]);
    const answer = await connection.requestResponse({ metadata });
    assert.equal(sizeOf(answer.data), 0, "the size of the answer");
    assert.equal(
      answer.metadata?.toString("hex"),
      metadata.toString("hex"),
      "the metadata of the answer",
    );
  },

  async "rr-empty"(connection) {
    const answer = await connection.requestResponse({
      data: Buffer.alloc(0),
      metadata: connection.metadata("echo"),
    });
    assert.equal(sizeOf(answer.data), 0);
  },

  // No route, no data: the default route is `echo`, and the answer is wholly
  // empty. rsocket-js 0.0.27 waits for ever if it comes as COMPLETE alone.
  async "rr-empty-no-route"(connection) {
    const answer = await connection.requestResponse({ data: Buffer.alloc(0) });
    assert.equal(sizeOf(answer.data), 0);
    assert.equal(sizeOf(answer.metadata), 0);
  },

  async "rs-range"(connection) {
    const inbox = new Inbox();
    const stream = connection.requestStream(
      { data: json({ from: 0, to: 100 }), metadata: connection.metadata("range") },
      BATCH,
      inbox,
    );
    await drainInBatches(connection, inbox, BATCH, (n) => stream.request(n));
    same(numbers(inbox), upTo(100), "the items");
  },

  // Unlimited credit and no end: after the cancel the line must fall silent,
  // which shows as 20 round trips in a row with next to nothing in between.
  async "rs-cancel"(connection) {
    const inbox = new Inbox();
    let counted;
    const stream = connection.requestStream(
      { data: json({ from: 0 }), metadata: connection.metadata("range") },
      MAX_REQUEST_N,
      {
        onNext(payload) {
          inbox.onNext(payload);
          if (inbox.items.length === 10) {
            counted = inbox.items.length;
            stream.cancel();
          }
        },
        onComplete: () => inbox.onComplete(),
        onError: (error) => inbox.onError(error),
      },
    );
    await inbox.has(10);
    await roundTrip(connection);
    const ROUND_TRIP_BYTES = 256;
    let before = connection.bytesIn();
    for (let trips = 0, quiet = 0; quiet < 20; trips++) {
      assert.ok(trips < 200, "items still come 200 round trips after the cancel");
      await roundTrip(connection);
      quiet = connection.bytesIn() - before <= ROUND_TRIP_BYTES ? quiet + 1 : 0;
      before = connection.bytesIn();
    }
    assert.equal(inbox.items.length, counted, "items delivered after the cancel");
    assert.ok(!inbox.done, "the stream ended by itself");
    same(numbers(inbox), upTo(10), "the items");
  },

  async "rc-echo"(connection) {
    const ITEMS = 50;
    const inbox = new Inbox();
    let sent = 1; // the first rides on the request and needs no credit
    let granted = 0;
    const channel = connection.requestChannel(
      { data: bytes("item 0"), metadata: connection.metadata("echo") },
      BATCH,
      {
        onNext: (payload) => inbox.onNext(payload),
        onComplete: () => inbox.onComplete(),
        onError: (error) => inbox.onError(error),
        onCancel: () => inbox.onError(new Error("the service cancelled our half")),
        // Never sent from here at once: the library may call this while it is
        // still opening the channel.
        onCredit(n) {
          granted += n;
          queueMicrotask(send);
        },
      },
    );
    function send() {
      if (sent === ITEMS) return;
      while (sent < ITEMS && sent - 1 < granted) {
        channel.next({ data: bytes(`item ${sent++}`) });
      }
      if (sent === ITEMS) channel.complete();
    }
    await drainInBatches(connection, inbox, BATCH, (n) => channel.request(n));
    assert.ok(granted > 0, "the service never gave credit");
    same(
      inbox.items.map((item) => text(item.data)),
      upTo(ITEMS).map((i) => `item ${i}`),
      "the items",
    );
  },

  async fnf(connection) {
    connection.fireAndForget({ data: bytes("forget me"), metadata: connection.metadata("echo") });
    await roundTrip(connection);
  },

  async "metadata-push"(connection) {
    connection.metadataPush(connection.metadata("echo"));
    await roundTrip(connection);
  },

  async "unknown-route"(connection) {
    const route = "no.such.route";
    const error = await connection
      .requestResponse({ data: bytes("x"), metadata: connection.metadata(route) })
      .then(() => assert.fail("an unknown route was answered"), connection.describe);
    assert.equal(error.code, REJECTED, `the code of the error "${error.text}"`);
    assert.ok(error.text.includes(route), `the error does not name the route: "${error.text}"`);
    await roundTrip(connection);
  },

  // The one case where time is the point.
  keepalive: {
    options: { keepAlive: 200, lifetime: 1000 },
    async run(connection) {
      await roundTrip(connection);
      const before = connection.bytesIn();
      await new Promise((resolve) => setTimeout(resolve, 1500));
      const answered = connection.bytesIn() - before;
      const KEEPALIVE_BYTES = 14;
      assert.ok(answered >= 3 * KEEPALIVE_BYTES, `only ${answered} bytes came in 1.5 s of silence`);
      await roundTrip(connection);
    },
  },

  async status(connection) {
    const answer = await connection.requestResponse({
      data: Buffer.alloc(0),
      metadata: connection.metadata("status"),
    });
    const status = JSON.parse(text(answer.data));
    assert.ok(status !== null && typeof status === "object", "status is a JSON object");
    assert.ok("version" in status, `no version in ${text(answer.data)}`);
  },

  async routes(connection) {
    const answer = await connection.requestResponse({
      data: Buffer.alloc(0),
      metadata: connection.metadata("routes"),
    });
    for (const route of ["echo", "range"]) {
      assert.ok(text(answer.data).includes(route), `routes does not list ${route}`);
    }
  },

  ...topicCases,

  // Both directions have frames to lose: items come under credit, 256 at a
  // time, and requests go out one after the other meanwhile. Whoever starts
  // this cuts the line under it.
  "resume-stream": {
    special: true,
    options: { ...PATIENT, keepAlive: 100, resume: true },
    async run(connection) {
      const ITEMS = 20_000;
      const WINDOW = 256;
      let next = 0;
      const items = new Promise((resolve, reject) => {
        const stream = connection.requestStream(
          { data: json({ from: 0, to: ITEMS }), metadata: connection.metadata("range") },
          WINDOW,
          {
            onNext({ data }) {
              if (text(data) !== String(next)) reject(new Error(`${data} came, ${next} was next`));
              if (++next % (WINDOW / 2) === 0) stream.request(WINDOW / 2);
            },
            onComplete: resolve,
            onError: reject,
          },
        );
      });
      const echoes = async () => {
        for (let i = 0; i < 200; i++) {
          const data = bytes(`request ${i}`);
          const answer = await connection.requestResponse({
            data,
            metadata: connection.metadata("echo"),
          });
          assert.equal(text(answer.data), text(data));
        }
      };
      await Promise.all([items, echoes()]);
      assert.equal(next, ITEMS, "the number of items");
      await roundTrip(connection);
    },
  },

  // More requests than a lease allows: all are answered, over several leases.
  lease: {
    special: true,
    options: { ...PATIENT, lease: true },
    async run(connection) {
      const request = async (i) => {
        await connection.permit();
        const answer = await connection.requestResponse({
          data: json(i),
          metadata: connection.metadata("echo"),
        });
        return Number(text(answer.data));
      };
      same(await Promise.all(upTo(100).map(request)), upTo(100), "the answers");
    },
  },

  // Larger than the longest frame, so it comes in fragments.
  "rs-20mib": {
    special: true,
    async run(connection) {
      const SIZE = 20 * (1 << 20);
      const inbox = new Inbox();
      connection.requestStream(
        { data: json({ from: 0, to: 1, size: SIZE }), metadata: connection.metadata("range") },
        BATCH,
        inbox,
      );
      await inbox.has(2);
      assert.equal(inbox.items.length, 1, "the number of items");
      const { data } = inbox.items[0];
      assert.equal(sizeOf(data), SIZE, "the size of the item");
      const wanted = Buffer.alloc(SIZE, " ");
      wanted.write("0");
      assert.ok(wanted.equals(data), "the bytes of the item differ");
    },
  },

  "setup-rejected": {
    special: true,
    options: { ...PATIENT, setup: "reject" },
    closes: true,
    run: (connection) => isRejected(connection, "no entry"),
  },

  // The credentials in SETUP are wrong.
  "setup-refused": {
    special: true,
    closes: true,
    run: (connection) => isRejected(connection, "authentication failed"),
  },

  // Recorded, and not to be judged.
  frames: { special: true, options: { ...FRAMES, lease: true }, run: frames },
  "frames-without-lease": { special: true, options: FRAMES, run: frames },

  "frames-rejected": {
    special: true,
    options: { ...PATIENT, setup: "reject" },
    async run(connection) {
      await roundTrip(connection).catch(() => {});
    },
  },
};

const plainCases = Object.keys(cases).filter((name) => !cases[name].special);

function inOneLine(error) {
  const line = String(error?.message ?? error).replace(/\s*\n\s*/g, " ");
  return line.length > 300 ? `${line.slice(0, 300)} ...` : line;
}

async function runCase(peer, uri, name) {
  const options = cases[name].options ?? PATIENT;
  const run = cases[name].run ?? cases[name];
  let connection;
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`no end after ${CASE_LIMIT_MS / 1000} s`)),
      CASE_LIMIT_MS,
    );
  });
  let closing = false;
  const whole = async () => {
    connection = await peer.connect(uri, options);
    // Whatever the case waits for, it will not come over a closed connection.
    const closed = connection.closed.then((error) => {
      if (closing || cases[name].closes) return;
      throw new Error(`the connection was closed: ${inOneLine(error)}`);
    });
    await Promise.race([run(connection), closed.then(() => new Promise(() => {}))]);
  };
  try {
    await Promise.race([whole(), limit]);
    console.log(`ok ${name}`);
    return true;
  } catch (error) {
    if (error instanceof Skip) {
      console.log(`skip ${name}: ${error.message} (expected difference)`);
      return true;
    }
    console.log(`FAIL ${name}: ${inOneLine(error)}`);
    return false;
  } finally {
    clearTimeout(timer);
    closing = true;
    connection?.close();
  }
}

export async function main(peer) {
  const [uri, ...only] = process.argv.slice(2);
  if (!/^(tcp|tls|wss?):\/\//.test(uri ?? "")) {
    const forms = "tcp://HOST:PORT|ws://HOST:PORT/PATH|tls://HOST:PORT|wss://HOST:PORT/PATH";
    console.error(`usage: node client.mjs ${forms} [CASE ...]`);
    process.exit(2);
  }
  let current = "start";
  const fatal = (error) => {
    console.log(`FAIL ${current}: uncaught in the peer: ${inOneLine(error)}`);
    console.error(error);
    process.exit(1);
  };
  process.on("uncaughtException", fatal);
  process.on("unhandledRejection", fatal);

  let failed = false;
  for (const name of only.length > 0 ? only : plainCases) {
    current = name;
    if (!(await runCase(peer, uri, name))) failed = true;
  }
  process.exit(failed ? 1 : 0);
}

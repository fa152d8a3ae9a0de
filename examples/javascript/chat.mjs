// A chat in the room.lobby of rsockd, with rsocket-js: node chat.mjs NAME [tcp://HOST:PORT]
//
// Lines that are typed are published, and those of others shown; Ctrl-D leaves. When the connection is lost
// another one goes on where this one ended: what was missed comes, and what was not answered is sent again.

import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import composite from "rsocket-composite-metadata";
import core from "rsocket-core";
import tcp from "rsocket-tcp-client";

const { decodeCompositeMetadata, encodeCompositeMetadata, encodeRoute } = composite;
const { APPLICATION_JSON, MESSAGE_RSOCKET_ROUTING } = composite.WellKnownMimeType;

const ROOM = "room.lobby";
const OUTBOX = 100;
const [name, uri = "tcp://127.0.0.1:7878"] = process.argv.slice(2);
if (!name) {
  console.error("usage: node chat.mjs NAME [tcp://HOST:PORT]");
  process.exit(2);
}

let from = { last: 10 }; // then the position behind the last message that was shown
let isLive = false; // whether all that was there before us has been shown
let isOver = false; // whether the input has ended
const outbox = []; // what was typed and is not answered yet
let send = () => {};
let leave = () => {};

const input = createInterface({ input: process.stdin });
input.on("line", (text) => {
  outbox.push({ id: randomUUID(), text });
  if (outbox.length === OUTBOX) input.pause();
  send();
});
input.on("close", () => {
  isOver = true;
  leaveIfDone();
});

function leaveIfDone() {
  if (isOver && isLive && outbox.length === 0) leave();
}

const json = (value) => Buffer.from(JSON.stringify(value));

function request(route, options) {
  const metadata = encodeCompositeMetadata([[MESSAGE_RSOCKET_ROUTING, encodeRoute(route)]]);
  return { data: json(options), metadata };
}

/** What the service says beside an item. */
function beside(item) {
  for (const { mimeType, content } of decodeCompositeMetadata(item.metadata)) {
    if (mimeType === "application/json") return JSON.parse(content);
  }
  return {};
}

function show(item) {
  const said = beside(item);
  if (said.gap) {
    const { from: first, to } = said.gap;
    console.log(to ? `* messages ${first} to ${to} are not kept any more` : "* the room began anew");
  } else if (said.start) {
    // A position is there before the first message is.
    from = { epoch: said.start.epoch, after: said.start.next - 1 };
  } else if (said.live) {
    isLive = true;
  } else if (said.refused) {
    console.log(`* not published: ${said.refused.reason}`);
  } else if (said.offset && !said.own) {
    console.log(`${said.from ?? "somebody"}: ${item.data}`);
  }
  if (said.offset) from = { epoch: said.epoch, after: said.offset };
  // The answers to what we have sent come in its order: the message itself, or that it was known or refused.
  const answered = (said.own && said.id) || said.ack?.id || said.refused?.id;
  if (answered && answered === outbox[0]?.id) {
    outbox.shift();
    input.resume();
    return true;
  }
  return false;
}

function showPresence(item) {
  const said = beside(item);
  const does = { here: "is here", join: "joins", leave: "leaves" }[said.event];
  if (does && said.name !== name) console.log(`* ${said.name} ${does}`);
}

/** Talks until the connection ends, or we leave. */
async function talk() {
  const { hostname: host, port } = new URL(uri);
  const rsocket = await new core.RSocketConnector({
    transport: new tcp.TcpClientTransport({ connectionOptions: { host, port: Number(port) } }),
    setup: {
      dataMimeType: "application/octet-stream",
      metadataMimeType: "message/x.rsocket.composite-metadata.v0",
      keepAlive: 10_000,
      lifetime: 30_000,
    },
  }).connect();
  return new Promise((resolve, reject) => {
    const ends = { onComplete: resolve, onError: reject, onExtension() {} };
    rsocket.onClose(() => reject(new Error("the connection is lost")));

    let credit = 0;
    let sent = 0; // how much of the outbox is on its way
    const options = { name, from, receive: "both", start: true, live: true };
    const room = rsocket.requestChannel(request(`topic.${ROOM}`, options), 16, false, {
      ...ends,
      onNext(item) {
        if (show(item)) sent--;
        // One for each that is handled: the service sends no more than we can take.
        room.request(1);
        leaveIfDone();
      },
      request(n) {
        credit += n;
        send();
      },
      cancel() {},
    });
    send = () => {
      for (; credit > 0 && sent < outbox.length; credit--) {
        const { id, text } = outbox[sent++];
        const metadata = encodeCompositeMetadata([[APPLICATION_JSON, json({ id })]]);
        room.onNext({ data: Buffer.from(text), metadata }, false);
      }
    };
    leave = () => {
      room.cancel();
      resolve();
    };
    const watch = rsocket.requestStream(request(`presence.${ROOM}`, {}), 16, {
      ...ends,
      onNext(item) {
        showPresence(item);
        watch.request(1);
      },
    });
  }).finally(() => {
    send = leave = () => {};
    isLive = false;
    rsocket.close();
  });
}

for (let isDone = false; !isDone; ) {
  try {
    await talk();
    isDone = true;
  } catch (error) {
    console.error(`* ${error.message}; once more in a second`);
    await sleep(1000);
  }
}
input.close();

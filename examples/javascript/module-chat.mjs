// A chat in the room.lobby of rsockd, with its own module: node module-chat.mjs NAME [ws://HOST:PORT/rsocket]
//
// Lines that are typed are published, and those of others shown; Ctrl-D leaves. When the connection is lost
// another one goes on where this one ended: what was missed comes, and what was not answered is sent again.

import { createInterface } from "node:readline";
import WebSocket from "ws";
import { connect } from "../../server/web/rsocket.mjs";

const [name, uri = "ws://127.0.0.1:7879/rsocket"] = process.argv.slice(2);
if (!name) {
  console.error("usage: node module-chat.mjs NAME [ws://HOST:PORT/rsocket]");
  process.exit(2);
}

const onstate = (state, why) => why && state !== "closed" && console.error(`* ${why.message}; once more`);
const client = await connect(uri, { WebSocket, reconnect: true, onstate });
const topic = client.topic("room.lobby");
const room = await topic.join({ name, from: { last: 10 } });

async function show() {
  for await (const message of room) {
    const { gap, from } = message;
    if (gap) console.log(gap.reset ? "* the room began anew" : `* messages ${gap.from} to ${gap.to} are not kept any more`);
    else if (from !== name) console.log(`${from ?? "somebody"}: ${message.text()}`);
  }
}

async function watch() {
  for await (const { event, name: who } of topic.presence()) {
    const does = { here: "is here", join: "joins", leave: "leaves" }[event];
    if (does && who !== name) console.log(`* ${who} ${does}`);
  }
}

async function send() {
  const published = [];
  for await (const line of createInterface({ input: process.stdin })) {
    published.push(room.send(line).catch((error) => console.log(`* not published: ${error.message}`)));
  }
  await Promise.all(published);
  room.leave();
  client.close();
}

await Promise.all([show(), watch(), send()]);

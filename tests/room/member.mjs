// A member of a room by rsocket.mjs: says what comes on stdin, and tells what it reads, a line of JSON each.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { WebSocket } from "ws";

const [module, url, name, topic] = process.argv.slice(2);
const { connect } = await import(pathToFileURL(module));
const tell = (it) => console.log(JSON.stringify(it));
const client = await connect(`${url}/rsocket`, { WebSocket, resume: true, reconnect: { first: 50, longest: 500 } });
const room = await client.topic(topic).join({ name, from: "start" });
tell({ joined: true });
const input = createInterface({ input: process.stdin });
input.on("line", (text) => room.send(text).catch(({ message }) => tell({ broken: message })));
input.on("close", () => (room.leave(), client.close()));
for await (const message of room) {
  const { epoch, offset, gap } = message;
  if (gap) tell({ epoch, gap });
  else if (offset !== null) tell({ epoch, offset, text: message.text() });
}

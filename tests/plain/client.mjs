// A client of rsock.json.v1 that does what it is told, line by line: the least that docs/websocket.md asks of one, and
// what `tests/plain/run --client` asks of yours.

import { createInterface } from "node:readline";
import { WebSocket } from "ws";

const [url, token] = process.argv.slice(2);
const socket = new WebSocket(url, "rsock.json.v1");
const say = (message) => socket.send(JSON.stringify(message));
const tell = (...words) => console.log(words.join(" "));
const data = (json) => (json === undefined ? {} : { data: JSON.parse(json) });
const credit = new Map(); // of channels: how much may be sent, and what waits for it

function flush(id) {
  const channel = credit.get(id);
  while (channel.n > 0 && channel.waiting.length) {
    channel.n--;
    say({ id, next: channel.waiting.shift() });
  }
  if (channel.ends && !channel.waiting.length) {
    channel.ends = false;
    say({ id, complete: true });
  }
}

socket.on("open", () => {
  if (token) say({ auth: token });
  tell("open");
  createInterface({ input: process.stdin }).on("line", (line) => {
    const [verb, id, ...rest] = line.split(" ");
    const [id_, route, json, n] = [Number(id), rest[0], rest[1], rest[2]];
    if (verb === "request") say({ id: id_, request: route, ...data(json) });
    else if (verb === "stream") say({ id: id_, stream: route, ...data(json), ...(n ? { n: Number(n) } : {}) });
    else if (verb === "channel") {
      credit.set(id_, { n: 0, waiting: [] });
      say({ id: id_, channel: route, ...data(json) });
    } else if (verb === "send") {
      credit.get(id_).waiting.push(JSON.parse(rest[0]));
      flush(id_);
    } else if (verb === "end") {
      credit.get(id_).ends = true;
      flush(id_);
    } else if (verb === "more") say({ id: id_, n: Number(rest[0]) });
    else if (verb === "cancel") say({ id: id_, cancel: true });
    else if (verb === "forget") say({ fnf: id, ...data(rest[0]) });
    else if (verb === "ping") say({ ping: Number(id) });
    else if (verb === "close") socket.close(1000);
  });
});

socket.on("message", (text) => {
  const message = JSON.parse(text);
  const { id } = message;
  if ("next" in message) tell("next", id, JSON.stringify(message.next));
  if ("text" in message) tell("text", id, JSON.stringify(message.text));
  if ("base64" in message) tell("base64", id, message.base64);
  if (message.complete) tell("complete", id);
  if (message.error) tell("error", id, message.error.code);
  if ("pong" in message) tell("pong", message.pong);
  if ("drain" in message) tell("drain", message.drain);
  if (message.n && credit.has(id)) {
    credit.get(id).n += message.n;
    flush(id);
  }
});
socket.on("close", (code) => (tell("closed", code), process.exit()));
socket.on("error", ({ message }) => tell("failed", message));

// Checked by the compiler, and never run: what the types say is what the module takes.

import { CODES, Client, Payload, RSocketError, Room, Stream, Subscription, connect } from "./rsocket.mjs";
import type { ConnectOptions, Frame, Message, Position, Published, Responder, State } from "./rsocket.mjs";

const responder: Responder = {
  request: (asked) => asked.text().toUpperCase(),
  fireAndForget: (told) => void told.json(),
  async *stream(asked, stream) {
    yield { route: asked.route(), granted: stream.granted };
  },
  async *channel(first, stream) {
    for await (const item of stream) yield item.data;
  },
  push: (metadata) => void metadata.length,
};

const options: ConnectOptions = {
  auth: async () => ({ bearer: "token" }),
  keepalive: 20_000,
  reconnect: { first: 100, longest: 15_000 },
  resume: { window: 60_000, bytes: 1 << 20 },
  lease: true,
  responder,
  setup: { data: { x: 1 }, metadata: { "text/plain": "hello" } },
  onstate: (state: State, why, nextTryAt) => void [state === "reconnecting", why?.message, nextTryAt?.toFixed()],
  onframe: (direction, frame: Frame) => void [direction === "in", frame.type, frame.n ?? 0, frame.size],
  signal: AbortSignal.timeout(10_000),
};

const client: Client = await connect("wss://example.org/rsocket", options);
const answer: Payload | null = await client.request("echo", { any: ["json"] }, { timeout: 1_000, auth: { user: "u" } });
const text: string | undefined = answer?.text();
client.fireAndForget("echo", new Uint8Array());
client.push({ "application/json": { a: 1 } });

const stream: Stream = client.stream("range", { from: 0 }, { n: 3, next: (item) => item.json(), complete() {}, error(why) {} });
stream.on({ credit: ({ granted, received }) => granted - received }).request(2);
for await (const item of client.stream("range", {}, { window: 8 })) item.meta()?.offset;
const channel = client.channel("echo", "first", { metadata: new Uint8Array() });
channel.onsendable = ({ sendable }) => sendable > 0 && channel.send("more", { metadata: { "text/plain": "x" } });
if (await channel.ready()) await channel.pump(["a", { b: 1 }, new Payload("c")]);
channel.fail(new RSocketError(CODES.INVALID, "wrong"));

const topic = client.topic("room.1");
topic.outbox.messages = 10;
const published: Published = await topic.publish("hello", { id: "1", headers: { type: "greeting" } });
const subscription: Subscription = topic.subscribe({ after: localStorage.getItem("position"), lag: "latest", maxLag: 10 });
for await (const message of subscription) {
  const told: Message = message;
  if (told.gap) told.gap.reset ? told.gap.epoch : told.gap.to;
  else if (told.offset !== null) localStorage.setItem("position", subscription.position ?? "");
}
const room: Room = await topic.join({ name: "ann", info: { avatar: 3 }, from: { last: 10 } });
await room.send("hi");
await room.update({ avatar: 4 });
for await (const { event, name } of topic.presence({ away: true })) if (event === "join") name?.length;
const position: Position = { epoch: published.epoch, offset: published.offset };
(await topic.history({ before: position, limit: 10 })).messages[0]?.text;
(await topic.members()).members.map(({ name }) => name);

const why: Error = await client.close();
if (why instanceof RSocketError) why.code === "CLOSED";

// @ts-expect-error: credit is a number
stream.request("all");
// @ts-expect-error: there is no such option
topic.subscribe({ form: "start" });
// @ts-expect-error: nobody makes a stream but a client
new Stream();
// @ts-expect-error: a member has a name
topic.join({});

declare const localStorage: { getItem(key: string): string | null; setItem(key: string, value: string): void };
export { text };

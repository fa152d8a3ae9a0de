// A client of rsockd with its own module, rsocket.mjs: node module.mjs [ws://HOST:PORT/rsocket]

import WebSocket from "ws";
import { connect } from "../../server/web/rsocket.mjs";

const uri = process.argv[2] ?? "ws://127.0.0.1:7879/rsocket";
// rsockd lets everyone in; a server made with the library checks what SETUP says.
const auth = { user: "user", password: "pass" };
const client = await connect(uri, { WebSocket, auth }).catch((error) => {
  console.error(`cannot connect to ${uri}: is rsockd running? (${error.message})`);
  process.exit(1);
});

const answer = await client.request("echo", "hello");
console.log("echo:", answer.text());

// Four items at a time are asked for.
const numbers = [];
for await (const item of client.stream("range", { from: 0, to: 10 }, { window: 4 })) numbers.push(item.json());
console.log("range:", ...numbers);

// The first line opens the channel; the others go out as the service asks for them.
const channel = client.channel("echo", "one", { window: 4 });
channel.pump(["two", "three"]);
const echoed = [];
for await (const item of channel) echoed.push(item.text());
console.log("channel:", ...echoed);

client.close();

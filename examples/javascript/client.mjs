// A client of rsockd with rsocket-js: node client.mjs [tcp://HOST:PORT]

import composite from "rsocket-composite-metadata";
import core from "rsocket-core";
import tcp from "rsocket-tcp-client";

const { encodeCompositeMetadata, encodeRoute, encodeSimpleAuthMetadata } = composite;
const { MESSAGE_RSOCKET_AUTHENTICATION, MESSAGE_RSOCKET_ROUTING } = composite.WellKnownMimeType;

const BATCH = 4;
const uri = process.argv[2] ?? "tcp://127.0.0.1:7878";
const { hostname: host, port } = new URL(uri);

process.on("uncaughtException", (error) => {
  const refused = error.code === "ECONNREFUSED";
  console.error(refused ? `cannot connect to ${uri}: is rsockd running?` : error);
  process.exit(1);
});

// rsockd lets everyone in; a server made with the library checks what SETUP says.
const credentials = encodeCompositeMetadata([
  [MESSAGE_RSOCKET_AUTHENTICATION, encodeSimpleAuthMetadata("user", "pass")],
]);

const rsocket = await new core.RSocketConnector({
  transport: new tcp.TcpClientTransport({ connectionOptions: { host, port: Number(port) } }),
  setup: {
    dataMimeType: "application/json",
    metadataMimeType: "message/x.rsocket.composite-metadata.v0",
    keepAlive: 20_000,
    lifetime: 90_000,
    payload: { data: null, metadata: credentials },
  },
}).connect();

function request(route, data) {
  const metadata = encodeCompositeMetadata([[MESSAGE_RSOCKET_ROUTING, encodeRoute(route)]]);
  return { data: Buffer.from(data), metadata };
}

/** Collects the items of what `open` opens, and asks for the next batch when one is there. */
function inBatches(open) {
  return new Promise((resolve, reject) => {
    const items = [];
    const stream = open({
      onNext(item, isComplete) {
        items.push(item.data.toString());
        if (isComplete) resolve(items);
        else if (items.length % BATCH === 0) stream.request(BATCH);
      },
      onComplete: () => resolve(items),
      onError: reject,
      onExtension() {},
    });
  });
}

const answer = await new Promise((resolve, reject) => {
  const subscriber = { onNext: resolve, onError: reject, onComplete() {}, onExtension() {} };
  rsocket.requestResponse(request("echo", "hello"), subscriber);
});
console.log("echo:", answer.data.toString());

const numbers = await inBatches((subscriber) =>
  rsocket.requestStream(request("range", '{"from":0,"to":10}'), BATCH, subscriber),
);
console.log("range:", ...numbers);

// The first line opens the channel; the others go out as the service asks for them.
const lines = ["two", "three"];
const echoed = await inBatches((subscriber) => {
  const channel = rsocket.requestChannel(request("echo", "one"), BATCH, false, {
    ...subscriber,
    request(n) {
      for (; n > 0 && lines.length > 0; n--) {
        channel.onNext({ data: Buffer.from(lines.shift()) }, lines.length === 0);
      }
    },
    cancel() {
      lines.length = 0;
    },
  });
  return channel;
});
console.log("channel:", ...echoed);

rsocket.close();

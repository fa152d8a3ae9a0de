// npm install rsocket-core@1.0.0-alpha.3 rsocket-tcp-client@1.0.0-alpha.3 rsocket-composite-metadata@1.0.0-alpha.3
// node quickstart.mjs [tcp://HOST:PORT]

import core from "rsocket-core";
import tcp from "rsocket-tcp-client";
import composite from "rsocket-composite-metadata";

const { hostname: host, port } = new URL(process.argv[2] ?? "tcp://127.0.0.1:7878");

const route = (name) =>
  composite.encodeCompositeMetadata([
    [composite.WellKnownMimeType.MESSAGE_RSOCKET_ROUTING, composite.encodeRoute(name)],
  ]);

const rsocket = await new core.RSocketConnector({
  transport: new tcp.TcpClientTransport({ connectionOptions: { host, port: Number(port) } }),
  setup: {
    dataMimeType: "application/json",
    metadataMimeType: "message/x.rsocket.composite-metadata.v0",
    keepAlive: 20_000,
    lifetime: 90_000,
  },
}).connect();

// One request, one answer.
const answer = await new Promise((resolve, reject) => {
  rsocket.requestResponse(
    { data: Buffer.from("hello"), metadata: route("echo") },
    { onNext: resolve, onError: reject, onComplete() {}, onExtension() {} },
  );
});
console.log("echo:", answer.data.toString());

// A stream, four items at a time: the service sends no more than was asked for.
const numbers = [];
await new Promise((resolve, reject) => {
  const stream = rsocket.requestStream(
    { data: Buffer.from('{"from":0,"to":10}'), metadata: route("range") },
    4,
    {
      onNext(item, isComplete) {
        numbers.push(JSON.parse(item.data.toString()));
        if (isComplete) resolve();
        else if (numbers.length % 4 === 0) stream.request(4);
      },
      onComplete: resolve,
      onError: reject,
      onExtension() {},
    },
  );
});
console.log("range:", ...numbers);

rsocket.close();

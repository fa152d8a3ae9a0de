// rsocket-js 0.0.27 as a peer of rsockd. Usage: node client.mjs URI [CASE ...]

import rsocketCore from "rsocket-core";
import rsocketFlowable from "rsocket-flowable";
import tcpClient from "rsocket-tcp-client";
import websocketClient from "rsocket-websocket-client";
import WebSocket from "ws";
import { COMPOSITE, main, OCTETS } from "../lib/cases.mjs";

const { BufferEncoders, encodeCompositeMetadata, encodeRoute } = rsocketCore;
const { MESSAGE_RSOCKET_ROUTING, RSocketClient, WellKnownMimeType } = rsocketCore;
const { Flowable } = rsocketFlowable;
const RSocketTcpClient = tcpClient.default;
const RSocketWebSocketClient = websocketClient.default;

// Items beyond the credit are dropped by the library with a warning, so the
// warnings are where a violation shows.
let violations = [];
const warn = console.warn;
console.warn = (...args) => {
  if (String(args[0]).includes("request()ed values")) violations.push(String(args[0]));
  warn(...args);
};

function metadata(route, ...more) {
  return encodeCompositeMetadata([
    [MESSAGE_RSOCKET_ROUTING, encodeRoute(route)],
    ...more.map(([type, content]) => [WellKnownMimeType.fromString(type), content]),
  ]);
}

function makeTransport(uri, counter) {
  const { protocol, hostname, port } = new URL(uri);
  if (protocol === "ws:") {
    return new RSocketWebSocketClient(
      {
        url: uri,
        wsCreator(url) {
          const socket = new WebSocket(url);
          socket.on("message", (data) => (counter.bytes += data.byteLength));
          return socket;
        },
      },
      BufferEncoders,
    );
  }
  const transport = new RSocketTcpClient({ host: hostname, port: Number(port) }, BufferEncoders);
  const setupSocket = transport.setupSocket;
  transport.setupSocket = function (socket) {
    socket.on("data", (data) => (counter.bytes += data.length));
    setupSocket.call(this, socket);
  };
  return transport;
}

/** Subscribes and gives the subscription, which the library passes synchronously. */
function subscribe(flowable, n, to) {
  let subscription;
  flowable.subscribe({
    onSubscribe(given) {
      subscription = given;
      given.request(n);
    },
    onNext: (payload) => to.onNext(payload),
    onComplete: () => to.onComplete(),
    onError: (error) => to.onError(error),
  });
  return subscription;
}

const promise = (single) =>
  new Promise((resolve, reject) => {
    single.subscribe({ onComplete: resolve, onError: reject });
  });

async function connect(uri, { keepAlive, lifetime }) {
  const counter = { bytes: 0 };
  violations = [];
  const client = new RSocketClient({
    setup: { keepAlive, lifetime, dataMimeType: OCTETS, metadataMimeType: COMPOSITE },
    transport: makeTransport(uri, counter),
  });
  const rsocket = await promise(client.connect());

  return {
    metadata,
    violations,
    bytesIn: () => counter.bytes,
    // `message` alone wraps what the service said in the library's own words.
    describe: (error) => ({ code: error.source?.code, text: error.source?.message ?? error.message }),
    closed: new Promise((resolve) => {
      rsocket.connectionStatus().subscribe({
        onSubscribe: (subscription) => subscription.request(Number.MAX_SAFE_INTEGER),
        onNext(status) {
          if (status.kind === "CLOSED" || status.kind === "ERROR") {
            resolve(status.error ?? "without an error");
          }
        },
      });
    }),
    close: () => rsocket.close(),

    requestResponse: (payload) => promise(rsocket.requestResponse(payload)),

    requestStream: (payload, n, to) => subscribe(rsocket.requestStream(payload), n, to),

    requestChannel(first, n, to) {
      let outbound;
      let opened = false;
      const source = new Flowable((given) => {
        outbound = given;
        given.onSubscribe({
          // The first call is the library's own, for the payload that opens
          // the channel; all others are the credit the service gives.
          request(credit) {
            if (opened) {
              to.onCredit(credit);
              return;
            }
            opened = true;
            given.onNext(first);
          },
          cancel: () => to.onCancel(),
        });
      });
      const inbound = subscribe(rsocket.requestChannel(source), n, to);
      return {
        next: (payload) => outbound.onNext(payload),
        complete: () => outbound.onComplete(),
        request: (credit) => inbound.request(credit),
        cancel: () => inbound.cancel(),
      };
    },

    fireAndForget: (payload) => rsocket.fireAndForget(payload),

    metadataPush(pushed) {
      rsocket.metadataPush({ metadata: pushed }).subscribe();
    },
  };
}

await main({ connect });

// rsocket-js 0.0.27 as a peer of rsockd. Usage: node client.mjs URI [CASE ...]

import rsocketCore from "rsocket-core";
import rsocketFlowable from "rsocket-flowable";
import tcpClient from "rsocket-tcp-client";
import websocketClient from "rsocket-websocket-client";
import WebSocket from "ws";
import { COMPOSITE, main, OCTETS } from "../lib/cases.mjs";
import { authority, credentials, isSecure, isWebSocket } from "../lib/secured.mjs";

const { BufferEncoders, decodeCompositeMetadata, encodeCompositeMetadata } = rsocketCore;
const { Leases, MESSAGE_RSOCKET_ROUTING, RSocketClient, RSocketResumableTransport } = rsocketCore;
const { encodeBearerAuthMetadata, encodeRoute, encodeSimpleAuthMetadata } = rsocketCore;
const { MESSAGE_RSOCKET_AUTHENTICATION, WellKnownMimeType } = rsocketCore;
const { Flowable } = rsocketFlowable;
const RSocketTcpClient = tcpClient.default;
const { RSocketTlsClient } = tcpClient;
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
    ...typed(more),
  ]);
}

/** Composite metadata without a route. */
const entries = (...wanted) => encodeCompositeMetadata(typed(wanted));

const typed = (wanted) =>
  wanted.map(([type, content]) => [WellKnownMimeType.fromString(type), content]);

/** The content of the first entry of a type. */
function entryOf(composite, type) {
  for (const entry of decodeCompositeMetadata(composite)) {
    if (entry.mimeType === type) return entry.content;
  }
}

/** The entries of SETUP: who it is, if the runner says so. */
function introduced() {
  if (!credentials) return [];
  const [kind, ...parts] = credentials;
  const encode = kind === "simple" ? encodeSimpleAuthMetadata : encodeBearerAuthMetadata;
  return [[MESSAGE_RSOCKET_AUTHENTICATION, encode(...parts)]];
}

function makeTransport(uri, counter) {
  const { hostname, port } = new URL(uri);
  if (isWebSocket(uri)) {
    return new RSocketWebSocketClient(
      {
        url: uri,
        wsCreator(url) {
          const socket = new WebSocket(url, { ca: authority });
          socket.on("message", (data) => (counter.bytes += data.byteLength));
          return socket;
        },
      },
      BufferEncoders,
    );
  }
  const Transport = isSecure(uri) ? RSocketTlsClient : RSocketTcpClient;
  const options = { host: hostname, port: Number(port), ca: authority };
  const transport = new Transport(options, BufferEncoders);
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

/** A transport whose connections the library replaces; it has to be told to. */
function makeResumable(uri, counter) {
  const transport = new RSocketResumableTransport(
    () => makeTransport(uri, counter),
    {
      bufferSize: 1 << 20,
      resumeToken: Buffer.from(`interop-${process.pid}-${Date.now()}`),
      sessionDurationSeconds: 30,
    },
    BufferEncoders,
  );
  transport.connectionStatus().subscribe({
    onSubscribe: (subscription) => subscription.request(Number.MAX_SAFE_INTEGER),
    onNext({ kind }) {
      if (kind === "NOT_CONNECTED" && counter.bytes > 0) setTimeout(() => transport.connect(), 10);
    },
  });
  return transport;
}

/** Permits as leases bring them: the library fails what it has none for. */
class Permits {
  #count = 0;
  #waiting = [];

  receive(leases) {
    leases.subscribe({
      onSubscribe: (subscription) => subscription.request(Number.MAX_SAFE_INTEGER),
      onNext: ({ allowedRequests }) => {
        this.#count = allowedRequests;
        while (this.#count > 0 && this.#waiting.length > 0) {
          this.#count--;
          this.#waiting.shift()();
        }
      },
    });
  }

  async take() {
    if (this.#count > 0) this.#count--;
    else await new Promise((resolve) => this.#waiting.push(resolve));
  }
}

async function connect(uri, { keepAlive, lifetime, resume, lease, setup }) {
  const counter = { bytes: 0 };
  violations = [];
  const permits = new Permits();
  const payload = (setup || credentials) && {
    data: Buffer.from(setup === true ? "setup" : (setup ?? "")),
    metadata: setup ? metadata("setup") : encodeCompositeMetadata(introduced()),
  };
  const client = new RSocketClient({
    setup: { keepAlive, lifetime, dataMimeType: OCTETS, metadataMimeType: COMPOSITE, payload },
    transport: resume ? makeResumable(uri, counter) : makeTransport(uri, counter),
    ...(lease && { leases: () => new Leases().receiver((leases) => permits.receive(leases)) }),
  });
  const rsocket = await promise(client.connect());

  return {
    metadata,
    entries,
    entryOf,
    violations,
    permit: () => (lease ? permits.take() : undefined),
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

// rsocket-js 1.0 alpha as a peer of rsockd. Usage: node client.mjs URI [CASE ...]

import net from "node:net";
import tls from "node:tls";
import compositeMetadata from "rsocket-composite-metadata";
import rsocketCore from "rsocket-core";
import tcpClient from "rsocket-tcp-client";
import websocketClient from "rsocket-websocket-client";
import WebSocket from "ws";
import { COMPOSITE, main, OCTETS, Skip } from "../lib/cases.mjs";
import { authority, credentials, isSecure, isWebSocket } from "../lib/secured.mjs";

const { decodeCompositeMetadata, encodeCompositeMetadata, encodeRoute } = compositeMetadata;
const { encodeBearerAuthMetadata, encodeSimpleAuthMetadata, WellKnownMimeType } = compositeMetadata;

function metadata(route, ...more) {
  return encodeCompositeMetadata([
    [WellKnownMimeType.MESSAGE_RSOCKET_ROUTING, encodeRoute(route)],
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
  return [[WellKnownMimeType.MESSAGE_RSOCKET_AUTHENTICATION, encode(...parts)]];
}

function makeTransport(uri, counter) {
  const { hostname, port } = new URL(uri);
  if (isWebSocket(uri)) {
    return new websocketClient.WebsocketClientTransport({
      url: uri,
      wsCreator(url) {
        const socket = new WebSocket(url, { ca: authority });
        socket.on("message", (data) => (counter.bytes += data.byteLength));
        return socket;
      },
    });
  }
  return new tcpClient.TcpClientTransport({
    connectionOptions: { host: hostname, port: Number(port), ca: authority },
    socketCreator(options) {
      const socket = isSecure(uri) ? tls.connect(options) : net.connect(options);
      socket.on("data", (data) => (counter.bytes += data.length));
      return socket;
    },
  });
}

/** The library says "completed" in onNext or in onComplete; the cases want the latter. */
function subscriber(to) {
  return {
    onNext(payload, isComplete) {
      to.onNext(payload);
      if (isComplete) to.onComplete();
    },
    onComplete: () => to.onComplete(),
    onError: (error) => to.onError(error),
    onExtension() {},
  };
}

async function connect(uri, { keepAlive, lifetime, resume, lease, setup, mtu }) {
  const counter = { bytes: 0 };
  const payload = (setup || credentials) && {
    data: Buffer.from(setup === true ? "setup" : (setup ?? "")),
    metadata: setup ? metadata("setup") : encodeCompositeMetadata(introduced()),
  };
  const rsocket = await new rsocketCore.RSocketConnector({
    setup: { keepAlive, lifetime, dataMimeType: OCTETS, metadataMimeType: COMPOSITE, payload },
    transport: makeTransport(uri, counter),
    ...(mtu && { fragmentation: { maxOutboundFragmentSize: mtu } }),
    ...(lease && { lease: { maxPendingRequests: 256 } }),
    ...(resume && {
      resume: {
        tokenGenerator: () => Buffer.from(`interop-${process.pid}-${Date.now()}`),
        reconnectFunction: () => new Promise((resolve) => setTimeout(resolve, 10)),
      },
    }),
  }).connect();
  let isClosed = false;

  return {
    metadata,
    entries,
    entryOf,
    violations: [],
    // The library itself holds requests back.
    async permit() {},
    bytesIn: () => counter.bytes,
    describe: (error) => ({ code: error.code, text: error.message }),
    closed: new Promise((resolve) => {
      rsocket.onClose((error) => {
        isClosed = true;
        // Said of every transport, also of one that will be replaced.
        if (!resume) resolve(error ?? "without an error");
      });
    }),
    close() {
      if (!isClosed) rsocket.close();
    },

    requestResponse(payload) {
      return new Promise((resolve, reject) => {
        rsocket.requestResponse(payload, {
          onNext: (answer) => resolve(answer),
          onComplete: () => resolve({}),
          onError: reject,
          onExtension() {},
        });
      });
    },

    requestStream(payload, n, to) {
      return rsocket.requestStream(payload, n, subscriber(to));
    },

    requestChannel(first, n, to) {
      const channel = rsocket.requestChannel(first, n, false, {
        ...subscriber(to),
        request: (credit) => to.onCredit(credit),
        cancel: () => to.onCancel(),
      });
      return {
        next: (payload) => channel.onNext(payload, false),
        complete: () => channel.onComplete(),
        request: (credit) => channel.request(credit),
        cancel: () => channel.cancel(),
      };
    },

    fireAndForget(payload) {
      rsocket.fireAndForget(payload, { onComplete() {}, onError() {} });
    },

    metadataPush() {
      throw new Skip("rsocket-js 1.0 alpha does not implement metadata push");
    },
  };
}

await main({ connect });

// rsocket-js 1.0 alpha as the peer that serves. Usage: node server.mjs URI...

import net from "node:net";
import compositeMetadata from "rsocket-composite-metadata";
import rsocketCore from "rsocket-core";
import tcpServer from "rsocket-tcp-server";
import websocketServer from "rsocket-websocket-server";
import { WebSocketServer } from "ws";
import { answer, checkSetup, got, isEcho, main, Source } from "../lib/serve.mjs";

const { decodeCompositeMetadata, decodeRoutes, WellKnownMimeType } = compositeMetadata;
const { ErrorCodes, RSocketError, RSocketServer } = rsocketCore;

// Nobody listens to the errors of its duplex: a write to a client that has just gone would end the process.
process.on("uncaughtException", (error) => {
  if (error.code === "EPIPE" || error.code === "ECONNRESET") return;
  console.error(error);
  process.exit(1);
});

function routeOf(payload) {
  const metadata = payload.metadata ?? Buffer.alloc(0);
  for (const { mimeType, content } of decodeCompositeMetadata(metadata)) {
    if (mimeType === WellKnownMimeType.MESSAGE_RSOCKET_ROUTING.string) {
      return decodeRoutes(content).next().value;
    }
  }
}

const failure = (error) => new RSocketError(ErrorCodes.APPLICATION_ERROR, error.message);

/** Gives back what came, under the credit of both sides. */
function echo(first, n, isComplete, to) {
  const queue = [first];
  let credit = n;
  let isDone = isComplete;
  let isOver = false;
  function give() {
    while (!isOver && queue.length > 0 && credit > 0) {
      credit--;
      to.onNext(queue.shift(), false);
      if (!isDone) to.request(1);
    }
    if (!isOver && isDone && queue.length === 0) {
      isOver = true;
      to.onComplete();
    }
  }
  setImmediate(give);
  return {
    onNext(payload, last) {
      queue.push(payload);
      isDone ||= last;
      give();
    },
    onComplete() {
      isDone = true;
      give();
    },
    onError: () => (isOver = true),
    onExtension() {},
    request(more) {
      credit += more;
      give();
    },
    cancel: () => (isOver = true),
  };
}

const handlers = {
  requestResponse(payload, to) {
    try {
      to.onNext(answer(routeOf(payload), payload), true);
    } catch (error) {
      to.onError(failure(error));
    }
    return { cancel() {}, onExtension() {} };
  },

  requestStream(payload, n, to) {
    const source = new Source(routeOf(payload), payload, {
      onNext: (item) => to.onNext(item, false),
      onComplete: () => to.onComplete(),
      onError: (error) => to.onError(failure(error)),
    });
    source.request(n);
    return {
      request: (more) => source.request(more),
      cancel: () => source.cancel(),
      onExtension() {},
    };
  },

  requestChannel(first, n, isComplete, to) {
    if (!isEcho(routeOf(first))) {
      setImmediate(() => to.onError(failure(new Error("no such route"))));
    }
    return echo(first, n, isComplete, to);
  },

  fireAndForget(payload) {
    got("fnf", payload.data);
    return { cancel() {}, onExtension() {} };
  },

  metadataPush: (metadata) => got("push", metadata),
};

await main(async ({ protocol, host, path }, { resume, lease }) => {
  let server;
  const transport =
    protocol === "ws:"
      ? new websocketServer.WebsocketServerTransport({
          wsCreator: () => (server = new WebSocketServer({ host, port: 0, path })),
        })
      : new tcpServer.TcpServerTransport({
          listenOptions: { host, port: 0 },
          socketCreator: (options) => (server = net.createServer(options)),
        });
  await new RSocketServer({
    transport,
    ...(resume && { resume: { sessionTimeout: 30_000 } }),
    // It takes clients that wait for leases, and gives none.
    ...(lease && { lease: { maxPendingRequests: 256 } }),
    acceptor: {
      async accept(setup) {
        checkSetup(setup.data);
        return handlers;
      },
    },
  }).bind();
  return server.address().port;
});

// rsocket-js 0.0.27 as the peer that serves. Usage: node server.mjs URI...

import net from "node:net";
import rsocketCore from "rsocket-core";
import rsocketFlowable from "rsocket-flowable";
import tcpServer from "rsocket-tcp-server";
import websocketServer from "rsocket-websocket-server";
import { WebSocketServer } from "ws";
import { answer, checkSetup, got, listening, main, Source } from "../lib/serve.mjs";

const { BufferEncoders, CompositeMetadata, MESSAGE_RSOCKET_ROUTING, RoutingMetadata } = rsocketCore;
const { Lease, Leases, RSocketServer } = rsocketCore;
const { Flowable, Single } = rsocketFlowable;

function routeOf(payload) {
  for (const entry of new CompositeMetadata(payload.metadata ?? Buffer.alloc(0))) {
    if (entry.mimeType === MESSAGE_RSOCKET_ROUTING.string) {
      return new RoutingMetadata(entry.content).iterator().next().value;
    }
  }
}

const done = () =>
  new Single((subscriber) => {
    subscriber.onSubscribe();
    subscriber.onComplete();
  });

/** A lease at once, and another whenever one is over. */
const every = ({ requests, ttl }) =>
  new Flowable((subscriber) => {
    let timer;
    const give = () => subscriber.onNext(new Lease(ttl, requests, Buffer.from("a lease")));
    subscriber.onSubscribe({
      request() {
        give();
        timer = setInterval(give, ttl);
      },
      cancel: () => clearInterval(timer),
    });
  });

const handlers = {
  requestResponse(payload) {
    try {
      return Single.of(answer(routeOf(payload), payload));
    } catch (error) {
      return Single.error(error);
    }
  },

  requestStream: (payload) =>
    new Flowable((subscriber) =>
      subscriber.onSubscribe(new Source(routeOf(payload), payload, subscriber)),
    ),

  // Passes the credit of the one side on to the other.
  requestChannel: (payloads) => payloads.map((payload) => payload),

  fireAndForget: (payload) => got("fnf", payload.data),

  metadataPush(payload) {
    got("push", payload.metadata);
    return done();
  },
};

await main(async ({ protocol, host, path }, { lease }) => {
  let server;
  const transport =
    protocol === "ws:"
      ? new websocketServer.default(
          {},
          BufferEncoders,
          () => (server = new WebSocketServer({ host, port: 0, path })),
        )
      : new tcpServer.default(
          {
            host,
            port: 0,
            serverFactory: (onConnection) => (server = net.createServer(onConnection)),
          },
          BufferEncoders,
        );
  new RSocketServer({
    transport,
    ...(lease && { leases: () => new Leases().sender(() => every(lease)) }),
    getRequestHandler(_, setup) {
      checkSetup(setup.data);
      return handlers;
    },
  }).start();
  return listening(server);
});

// A room over WebSocket: what one says all hear. Text joins the room, and is answered; anything else is said.

const ROOM = "room.lobby";

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: 0,
  fetch(request, server) {
    if (!server.upgrade(request)) {
      return new Response("no WebSocket", { status: 400 });
    }
  },
  websocket: {
    perMessageDeflate: false,
    // Nobody is left out for being behind.
    backpressureLimit: 64 << 20,
    message(socket, message) {
      if (typeof message === "string") {
        socket.subscribe(ROOM);
        socket.sendText("joined");
      } else {
        server.publish(ROOM, message);
      }
    },
  },
});

console.log(`${process.pid} 127.0.0.1:${server.port}`);
// Whoever started this never writes: it ends when that has.
process.stdin.on("end", () => process.exit(0));
process.stdin.resume();

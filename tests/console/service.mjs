// rsockd as a process of ours, and a tap before it: what the page is served comes through it, and it sees the frames both ways.
import { spawn } from "node:child_process";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import path from "node:path";
import readline from "node:readline";

const KINDS = { html: "text/html; charset=utf-8", css: "text/css; charset=utf-8" };
const TYPES = {
  0x01: "SETUP",
  0x02: "LEASE",
  0x03: "KEEPALIVE",
  0x04: "REQUEST_RESPONSE",
  0x05: "REQUEST_FNF",
  0x06: "REQUEST_STREAM",
  0x07: "REQUEST_CHANNEL",
  0x08: "REQUEST_N",
  0x09: "CANCEL",
  0x0a: "PAYLOAD",
  0x0b: "ERROR",
  0x0c: "METADATA_PUSH",
};

/** Starts rsockd; gives its addresses, and what ends it. */
export async function start(program, flags = []) {
  const words = ["--listen", "tcp://127.0.0.1:0", "--listen", "ws://127.0.0.1:0/rsocket", ...flags];
  const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"] });
  const log = [];
  const uris = {};
  const ready = new Promise((resolve, reject) => {
    const line = (text) => {
      log.push(text);
      const [, uri] = /^listening on (\S+)$/.exec(text) ?? [];
      if (uri) uris[uri.split(":")[0]] = uri;
      if (uris.tcp && uris.ws) resolve();
    };
    for (const stream of [child.stdout, child.stderr]) readline.createInterface(stream).on("line", line);
    child.on("error", reject);
    child.on("exit", () => reject(new Error(`rsockd ended:\n${log.join("\n")}`)));
  });
  await ready;
  const ended = new Promise((resolve) => child.on("exit", resolve));
  return { uris, log, ended, port: Number(new URL(uris.ws).port), signal: (name) => child.kill(name), stop: () => (child.kill("SIGKILL"), ended) };
}

/** The frames of RSocket in one direction of a WebSocket, as its bytes pass. */
class Frames {
  #bytes = Buffer.alloc(0);
  #isOpen = false; // the HTTP before it is over
  #message = [];

  constructor(take) {
    this.take = take;
  }
  feed(bytes) {
    this.#bytes = Buffer.concat([this.#bytes, bytes]);
    if (!this.#isOpen) {
      const end = this.#bytes.indexOf("\r\n\r\n");
      if (end < 0) return;
      this.#isOpen = true;
      this.#bytes = this.#bytes.subarray(end + 4);
    }
    while (this.#one());
  }
  #one() {
    const all = this.#bytes;
    if (all.length < 2) return false;
    let [length, at] = [all[1] & 0x7f, 2];
    if (length > 125) at += length === 126 ? 2 : 8;
    if (all.length < at) return false;
    if (length === 126) length = all.readUInt16BE(2);
    else if (length === 127) length = Number(all.readBigUInt64BE(2));
    const mask = all[1] & 0x80 ? all.subarray(at, (at += 4)) : null;
    if (all.length < at + length) return false;
    const body = Buffer.from(all.subarray(at, at + length));
    if (mask) body.forEach((byte, i) => (body[i] = byte ^ mask[i & 3]));
    this.#bytes = all.subarray(at + length);
    if ((all[0] & 0x0f) > 2) return true;
    this.#message.push(body);
    if (!(all[0] & 0x80)) return true;
    const frame = Buffer.concat(this.#message);
    this.#message = [];
    const word = frame.readUInt16BE(4);
    const type = TYPES[word >> 10] ?? word >> 10;
    const n = { REQUEST_N: 6, REQUEST_STREAM: 6, REQUEST_CHANNEL: 6 }[type];
    this.take({ type, stream: frame.readUInt32BE(0), flags: word & 0x3ff, n: n && frame.readUInt32BE(n), text: frame.subarray(6).toString("latin1") });
    return true;
  }
}

/** A tap before a port: { origin, connections: [{ frames: [{ direction, type, stream, flags, n }] }], cut(), refuse, close() }. */
export async function tap(service, web) {
  const state = { connections: [], isRefusing: false, requests: [] };
  const sockets = new Set();
  const own = () => `127.0.0.1:${service.port}`;
  const server = http.createServer((request, response) => {
    state.requests.push(`${request.method} ${request.url}`);
    const [name] = request.url.split("?");
    const isPage = name === "/console" || (name === "/" && request.headers.accept?.includes("text/html"));
    const file = web && path.join(web, isPage ? "console/index.html" : name);
    const headers = { ...request.headers, host: own() };
    if (headers.origin) headers.origin = `http://${own()}`;
    // Its headers are the service's, whoever has the file.
    const from = { port: service.port, path: request.url, method: request.method, headers };
    const passed = http.request(from, (answer) => {
      if (!file || !fs.existsSync(file) || !fs.statSync(file).isFile()) {
        response.writeHead(answer.statusCode, answer.headers);
        return answer.pipe(response);
      }
      answer.resume();
      const { "content-length": _, "content-encoding": __, etag, ...kept } = answer.headers;
      const kind = KINDS[file.split(".").pop()] ?? "text/javascript; charset=utf-8";
      response.writeHead(200, { ...kept, "content-type": kind, ...(state.policy && { "content-security-policy": state.policy }) });
      response.end(fs.readFileSync(file));
    });
    passed.on("error", () => response.destroy());
    request.pipe(passed);
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    if (state.isRefusing) socket.destroy();
  });
  server.on("upgrade", (request, near, head) => {
    const connection = { frames: [] };
    state.connections.push(connection);
    const far = net.connect(service.port, "127.0.0.1");
    const lines = [`GET ${request.url} HTTP/1.1`];
    for (let i = 0; i < request.rawHeaders.length; i += 2) {
      const name = request.rawHeaders[i];
      const value = { host: own(), origin: `http://${own()}` }[name.toLowerCase()] ?? request.rawHeaders[i + 1];
      // What is compressed would not be seen.
      if (!/^sec-websocket-extensions$/i.test(name)) lines.push(`${name}: ${value}`);
    }
    const seen = (direction) => new Frames((frame) => connection.frames.push({ direction, ...frame }));
    const [out, into] = [seen("out"), seen("in")];
    out.feed(Buffer.from("\r\n\r\n"));
    far.write(`${lines.join("\r\n")}\r\n\r\n`);
    far.write(head);
    near.on("data", (bytes) => (out.feed(bytes), far.write(bytes) || near.pause()));
    far.on("data", (bytes) => (into.feed(bytes), near.write(bytes) || far.pause()));
    far.on("drain", () => near.resume());
    near.on("drain", () => far.resume());
    for (const [one, other] of [[near, far], [far, near]]) one.on("error", () => other.destroy()).on("close", () => other.destroy());
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { headers } = await fetch(`http://127.0.0.1:${service.port}/console`);
  state.policy = headers.get("content-security-policy");
  return Object.assign(state, {
    origin: `http://127.0.0.1:${server.address().port}`,
    /** Ends what there is, and takes nothing more until mend(). */
    cut() {
      state.isRefusing = true;
      for (const socket of sockets) socket.destroy();
    },
    mend() {
      state.isRefusing = false;
    },
    close() {
      state.cut();
      server.close();
    },
  });
}

/** Of the frames of one request, what was granted and what came, counted as the specification has it. */
export function counted(frames, stream, direction = "in") {
  const ours = frames.filter((frame) => frame.stream === stream);
  const grants = ours.filter((frame) => frame.n !== undefined && (frame.direction === "out") === (direction === "in") && (direction === "in" || frame.type === "REQUEST_N"));
  const items = ours.filter((frame) => frame.type === "PAYLOAD" && frame.direction === direction && frame.flags & 0x20 && !(frame.flags & 0x80));
  return { granted: grants.reduce((sum, frame) => sum + frame.n, 0), done: items.length };
}

// What the tests stand on: services that are started, a service that does as it is told, and a line that is cut.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";
import { WebSocket, WebSocketServer } from "ws";

export const settings = JSON.parse(process.env.MODULE_TESTS);
export const moduleAt = (name) => pathToFileURL(path.join(settings.web, name)).href;
export const rsocket = await import(moduleAt("rsocket.mjs"));

/** Connects from Node.js, which has no WebSocket of its own yet. */
export const connect = (url, options) => rsocket.connect(url, { WebSocket, ...options });

/** A folder for as long as the test runs. */
export function folder(t) {
  const made = mkdtempSync(path.join(os.tmpdir(), "rsock-module-"));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** A service as a process, which says where it listens. */
export class Service {
  static async start(t, command, args) {
    const service = new Service(command, args);
    t.after(() => service.kill());
    await service.start();
    return service;
  }

  static rsockd(t, ...args) {
    return Service.start(t, settings.rsockd, ["--listen", "ws://127.0.0.1:0/rsocket", ...args]);
  }

  constructor(command, args) {
    Object.assign(this, { command, args, heard: [] });
  }

  async start() {
    const child = (this.child = spawn(this.command, this.args, { stdio: ["pipe", "pipe", "pipe"] }));
    this.exited = once(child, "exit");
    let errors = "";
    child.stderr.setEncoding("utf8").on("data", (text) => (errors = (errors + text).slice(-4_000)));
    const lines = createInterface({ input: child.stdout });
    lines.on("line", (line) => this.heard.push(line));
    this.url = await new Promise((resolve, reject) => {
      lines.on("line", (line) => line.startsWith("listening on ws") && resolve(line.split(" ")[2]));
      this.exited.then(([code]) => reject(new Error(`${this.command} ended with ${code}\n${errors}`)));
    });
    // The next one is to be found where this one was.
    const { port } = new URL(this.url);
    this.args = this.args.map((arg) => arg.replace(/^(ws:\/\/127\.0\.0\.1):0\b/, `$1:${port}`));
  }

  async kill(signal = "SIGKILL") {
    this.child.kill(signal);
    await this.exited;
  }

  async restart() {
    await this.kill();
    await this.start();
  }
}

/** A line to a service, which can be cut, or held so that nothing passes. */
export class Line {
  static async to(t, url) {
    const line = new Line(url);
    t.after(() => line.end());
    await once(line.server.listen(0, "127.0.0.1"), "listening");
    const { port } = line.server.address();
    line.url = url.replace(/:\d+\//, `:${port}/`);
    return line;
  }

  connections = 0;
  cuts = []; // of each connection, after how many bytes down it is cut
  sockets = new Set();

  constructor(url) {
    const { port } = new URL(url);
    this.server = net.createServer((near) => {
      const far = net.connect(port, "127.0.0.1");
      let left = this.cuts[this.connections++] ?? Infinity;
      const pair = [near, far];
      for (const socket of pair) {
        this.sockets.add(socket);
        socket.on("error", () => {}).on("close", () => {
          this.sockets.delete(socket);
          pair.forEach((one) => one.destroy());
        });
      }
      near.pipe(far);
      far.on("data", (chunk) => {
        near.write(chunk.subarray(0, left));
        left -= chunk.length;
        if (left <= 0) near.end(() => pair.forEach((one) => one.destroy()));
      });
    });
  }

  cut() {
    for (const socket of this.sockets) socket.destroy();
  }

  end() {
    this.server.close();
    this.cut();
  }
}

// Frames, written and read without anything of the module.

const bytes = (value, width) => {
  const made = Buffer.alloc(width);
  if (width === 8) made.writeBigUInt64BE(BigInt(value));
  else made.writeUIntBE(value, 0, width);
  return made;
};
/** A frame: its stream, its first word, and the rest, as numbers with a width, texts and bytes. */
export const frame = (stream, word, ...rest) =>
  Buffer.concat([bytes(stream, 4), bytes(word, 2), ...rest.map((part) => (Array.isArray(part) ? bytes(...part) : Buffer.from(part)))]);
export const hex = (text) => Buffer.from(text.replaceAll(" ", ""), "hex");

const NAMES = ["?", "SETUP", "LEASE", "KEEPALIVE", "REQUEST_RESPONSE", "REQUEST_FNF", "REQUEST_STREAM", "REQUEST_CHANNEL"];
NAMES.push("REQUEST_N", "CANCEL", "PAYLOAD", "ERROR", "METADATA_PUSH", "RESUME", "RESUME_OK");
/** What of a frame the tests look at. */
export function read(data) {
  const word = data.readUInt16BE(4);
  const [type, flags] = [NAMES[word >> 10], word & 0x3ff];
  const hasN = ["REQUEST_N", "REQUEST_STREAM", "REQUEST_CHANNEL", "ERROR"].includes(type);
  let body = data.subarray(hasN ? 10 : 6);
  let metadata = null;
  const holds = ["REQUEST_RESPONSE", "REQUEST_FNF", "REQUEST_STREAM", "REQUEST_CHANNEL", "PAYLOAD"].includes(type);
  if (holds && flags & 0x100) {
    metadata = body.subarray(3, 3 + body.readUIntBE(0, 3));
    body = body.subarray(3 + metadata.length);
  }
  return { type, flags, stream: data.readUInt32BE(0), n: hasN ? data.readUInt32BE(6) : undefined, metadata, body, all: data };
}

/** A service that does as the test tells it, frame by frame. */
export class Script {
  static async start(t, options = {}) {
    const script = new Script(options);
    t.after(() => script.end());
    await once(script.server, "listening");
    script.url = `ws://127.0.0.1:${script.server.address().port}/`;
    return script;
  }

  frames = []; // that came and were not taken
  connections = 0;
  #taker = null;

  constructor({ answersKeepalive = true } = {}) {
    this.server = new WebSocketServer({ host: "127.0.0.1", port: 0 });
    this.server.on("connection", (socket) => {
      this.connections += 1;
      this.socket = socket;
      socket.on("error", () => {});
      socket.on("close", () => this.#put({ type: "closed" }));
      socket.on("message", (data) => {
        const seen = read(data);
        const asks = seen.type === "KEEPALIVE" && seen.flags & 0x80;
        if (asks && answersKeepalive) return this.send(frame(0, 0x0c00, [0, 8], seen.all.subarray(14)));
        this.#put(seen);
      });
    });
  }

  #put(seen) {
    this.frames.push(seen);
    this.#taker?.();
  }

  send(...frames) {
    for (const one of frames) this.socket.send(one);
  }

  /** The next frame. */
  async take(type) {
    while (this.frames.length === 0) await new Promise((resolve) => (this.#taker = resolve));
    const seen = this.frames.shift();
    if (type) assert.equal(seen.type, type);
    return seen;
  }

  /** Waits until the client has dealt with all that was sent: its answer comes behind. Gives what came before. */
  async fence() {
    const nonce = String(Math.random());
    this.send(frame(0, 0x0c80, [0, 8], nonce));
    const before = [];
    for (;;) {
      const seen = await this.take();
      if (seen.type === "KEEPALIVE" && seen.all.subarray(14).toString() === nonce) return before;
      before.push(seen);
      if (seen.type === "closed") return before;
    }
  }

  end() {
    for (const socket of this.server.clients) socket.terminate();
    this.server.close();
  }
}

/** Waits until it holds: for what nothing tells of. */
export async function until(holds, limit = 20_000) {
  for (const end = Date.now() + limit; !(await holds()); ) {
    assert.ok(Date.now() < end, `it did not come true within ${limit} ms: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

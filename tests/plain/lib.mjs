// Services that are started, and WebSockets whose messages wait until they are looked at.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { WebSocket } from "ws";

export const settings = JSON.parse(process.env.PLAIN_TESTS);

/** rsockd on a free port; the beginning of its addresses, as `ws://127.0.0.1:1234`. */
export async function rsockd(t, ...args) {
  const child = spawn(settings.rsockd, ["--listen", "ws://127.0.0.1:0/rsocket", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  const exited = once(child, "exit");
  t.after(async () => {
    child.kill("SIGKILL");
    await exited;
  });
  let errors = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (errors = (errors + text).slice(-4_000)));
  const lines = createInterface({ input: child.stdout });
  const url = await new Promise((resolve, reject) => {
    const wanted = args.some((arg) => arg.startsWith("wss:")) ? "listening on wss:" : "listening on ws:";
    lines.on("line", (line) => line.startsWith(wanted) && resolve(line.split(" ")[2]));
    exited.then(([code]) => reject(new Error(`rsockd ended with ${code}\n${errors}`)));
  });
  return { url: url.replace(/\/rsocket$/, ""), child, exited };
}

/** A WebSocket whose messages are taken one by one: text as it is, bytes as a Buffer, the end as `{ code, reason }`. */
export class Socket {
  #heard = [];
  #waiting = [];

  static async open(t, url, options = {}) {
    const { protocols = [], ...rest } = options;
    const socket = new Socket(new WebSocket(url, protocols, { perMessageDeflate: false, ...rest }));
    t.after(() => socket.ws.terminate());
    await once(socket.ws, "open");
    return socket;
  }

  constructor(ws) {
    this.ws = ws;
    ws.on("error", () => {});
    ws.on("message", (data, isBinary) => this.#put(isBinary ? data : data.toString()));
    ws.on("close", (code, reason) => this.#put({ code, reason: reason.toString() }));
  }

  #put(item) {
    const next = this.#waiting.shift();
    if (next) next(item);
    else this.#heard.push(item);
  }

  next(limit = 10_000) {
    if (this.#heard.length) return Promise.resolve(this.#heard.shift());
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`nothing came for ${limit} ms`)), limit);
      this.#waiting.push((item) => (clearTimeout(late), resolve(item)));
    });
  }

  /** The next message as JSON. */
  async json() {
    const item = await this.next();
    if (typeof item !== "string") throw new Error(`no JSON: ${JSON.stringify(item)}`);
    return JSON.parse(item);
  }

  say(value) {
    this.ws.send(typeof value === "string" || Buffer.isBuffer(value) ? value : JSON.stringify(value));
  }

  /** Whether nothing comes for so long. */
  async isSilent(time = 300) {
    await new Promise((resolve) => setTimeout(resolve, time));
    return this.#heard.length === 0;
  }
}

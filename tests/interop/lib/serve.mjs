// What every JavaScript peer serves: the routes of rsockd that rsock is tried
// against, and `fail`, which does. A peer is an adapter (js0/server.mjs,
// js1/server.mjs) with one function, listen(), for one URI.

import { parseArgs } from "node:util";

/** The route of rsockd that gives its requests back. */
export const isEcho = (route) => route === undefined || route === "echo";

/** The answer to a request, or throws why there is none. */
export function answer(route, payload) {
  if (isEcho(route)) return payload;
  if (route === "fail") throw new Error(payload.data.toString());
  throw new Error(`no route ${route}`);
}

function* range(data) {
  const { from, to = Infinity } = JSON.parse(data);
  for (let i = from; i < to; i++) yield { data: Buffer.from(String(i)) };
}

function* failing(data) {
  yield { data: Buffer.from("one") };
  throw new Error(data);
}

/** The items of a stream, given out under credit until it ends or is cancelled. */
export class Source {
  #credit = 0;
  #isDone = false;
  #isScheduled = false;

  constructor(route, payload, to) {
    const data = payload.data?.toString() ?? "";
    this.to = to;
    if (route === "clock") {
      this.items = range('{"from":0}');
      this.pace = (then) => setTimeout(then, 20);
      this.batch = 1;
    } else {
      const reason = route === "fail" ? data : `no route ${route}`;
      this.items = route === "range" ? range(data) : failing(reason);
      this.pace = setImmediate;
      this.batch = 64;
    }
  }

  request(n) {
    this.#credit += n;
    this.#schedule();
  }

  cancel() {
    this.#isDone = true;
  }

  // Never at once: the library may still be on its way to know the stream.
  #schedule() {
    if (this.#isScheduled || this.#isDone) return;
    this.#isScheduled = true;
    this.pace(() => {
      this.#isScheduled = false;
      try {
        for (let i = 0; i < this.batch && this.#credit > 0 && !this.#isDone; i++) this.#give();
      } catch (error) {
        this.#isDone = true;
        this.to.onError(error);
      }
      if (this.#credit > 0) this.#schedule();
    });
  }

  #give() {
    const { value, done } = this.items.next();
    if (done) {
      this.#isDone = true;
      this.to.onComplete();
    } else {
      this.#credit--;
      this.to.onNext(value);
    }
  }
}

/** For what has no answer: whoever started this reads it. */
export function got(what, bytes) {
  console.log(`got ${what} ${bytes?.toString() ?? ""}`);
}

export function checkSetup(data) {
  if (data?.toString() === "reject") throw new Error("not you");
}

/** Resolves when the server, of node's net or of ws, listens; gives its port. */
export function listening(server) {
  return new Promise((resolve, reject) => {
    server.once("listening", () => resolve(server.address().port));
    server.once("error", reject);
  });
}

/**
 * listen({ protocol, host, path }, { resume, lease }) starts to serve and gives
 * the port. The flags are --resume, --lease REQUESTS/MILLISECONDS and --mtu BYTES,
 * which changes nothing: no version has a way to send answers in fragments.
 */
export async function main(listen) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      resume: { type: "boolean" },
      lease: { type: "string" },
      mtu: { type: "string" },
    },
  });
  const [requests, ttl] = values.lease?.split("/").map(Number) ?? [];
  const options = { resume: values.resume, lease: values.lease && { requests, ttl } };
  for (const uri of positionals) {
    const { protocol, hostname: host, pathname: path } = new URL(uri);
    const port = await listen({ protocol, host, path }, options);
    console.log(`listening on ${protocol}//${host}:${port}${protocol === "ws:" ? path : ""}`);
  }
  process.stdin.on("end", () => process.exit(0)).resume();
}

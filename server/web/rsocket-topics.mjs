// Topics, for rsocket.mjs: publishing once, and reading without a gap that is not told, across connections.

import { RSocketError, bytesOf, deferred, pause, unless } from "./rsocket-base.mjs";

const OUTBOX = { messages: 1_024, bytes: 4 << 20, inFlight: 64, patience: 60_000 };
const JSON_MIME = "application/json";

/** Waits until something may be asked for again, after so many failures; throws the error where that would not help. */
async function again(client, error, failures, signal) {
  if (isFinal(error)) throw error;
  const wait = error.code === "LOST" ? 0 : pause(failures);
  await unless(signal, new Promise((resolve) => setTimeout(resolve, wait)));
  await client.ready(signal);
}

function isFinal({ code, message }) {
  const words = /^(no topic|no disk|not permitted|permission ended|conflict|closed|overrun|began anew)/;
  const mayPass = ["LOST", "FULL", "TIMEOUT", "APPLICATION_ERROR", "CANCELED"].includes(code);
  return !mayPass && (code !== "REJECTED" || words.test(message));
}

/** A position, "EPOCH:OFFSET" or its parts, as it goes over the wire. */
function positionOf(at) {
  const [epoch, offset] = typeof at === "string" ? at.split(":") : [at?.epoch, at?.offset ?? at?.after];
  return epoch && { epoch, after: Number(offset) };
}

/** 128 random bits, in hexadecimal digits. */
function randomId() {
  const words = crypto.getRandomValues(new Uint32Array(4));
  return Array.from(words, (word) => word.toString(16).padStart(8, "0")).join("");
}

export class Topic {
  outbox = { ...OUTBOX };
  #client;
  #entries = new Set(); #bytes = 0; // what is published and not acknowledged, in order
  #inFlight = 0; #problem = null; #failures = 0; // how many are on their way, and why those that were are not

  constructor(client, name) {
    this.#client = client;
    this.name = name;
  }

  get waiting() { return this.#entries.size; }

  /** Publishes once, whatever becomes of connections: it waits in the outbox until it is acknowledged. */
  async publish(data, { id = randomId(), ...options } = {}) {
    const metadata = { [JSON_MIME]: { id, ...options } };
    const one = { data: bytesOf(data).slice(), metadata, answer: deferred(), isSent: false, refusedAt: Infinity };
    if (this.#entries.size >= this.outbox.messages || this.#bytes + one.data.length > this.outbox.bytes) {
      const full = `outbox full: ${this.#entries.size} messages, ${this.#bytes} bytes wait for their acknowledgement`;
      throw new RSocketError("FULL", full);
    }
    this.#entries.add(one);
    this.#bytes += one.data.length;
    this.#sendMore();
    return one.answer.promise;
  }

  /** Sends what waits, in order; nothing while those that have failed are to be the first again. */
  #sendMore() {
    for (const one of this.#entries) {
      if (this.#problem || this.#inFlight >= this.outbox.inFlight) return;
      if (!one.isSent) this.#send(one);
    }
  }

  async #send(one) {
    one.isSent = true;
    this.#inFlight += 1;
    try {
      const answer = await this.#client.request(`topic.${this.name}`, one.data, { metadata: one.metadata });
      this.#settle(one, "resolve", answer.json());
      this.#failures = 0;
    } catch (error) {
      one.isSent = false;
      if (error.code !== "LOST") one.refusedAt = Math.min(one.refusedAt, performance.now());
      const isPatient = !(performance.now() - one.refusedAt > this.outbox.patience);
      if (isFinal(error) || !isPatient) this.#settle(one, "reject", error);
      else this.#problem ??= error;
    }
    this.#inFlight -= 1;
    if (this.#problem && this.#inFlight === 0) await this.#recover();
    this.#sendMore();
  }

  /** Waits until it is time to send again; where that will never be, it is the end of all that waits. */
  async #recover() {
    const end = await again(this.#client, this.#problem, (this.#failures += 1)).catch((error) => error);
    this.#problem = null;
    if (end) for (const one of [...this.#entries]) this.#settle(one, "reject", end);
  }

  #settle(one, how, outcome) {
    this.#entries.delete(one);
    this.#bytes -= one.data.length;
    one.answer[how](outcome);
  }

  /** An event of the moment: it is kept nowhere, and lost where there is no connection. */
  signal(data, options) {
    const metadata = { [JSON_MIME]: { ...options, ephemeral: true } };
    if (this.#client.state === "connected") this.#client.fireAndForget(`topic.${this.name}`, data, { metadata });
  }

  subscribe(options = {}) { return new Subscription(this.#client, this, options); }
  async join(options) {
    const room = new Room(this.#client, this, { receive: "messages", ...options });
    await room.started();
    return room;
  }

  async members(options = {}) { return (await this.#client.request(`presence.${this.name}`, options)).json(); }
  async history({ after, before, ...options } = {}) {
    const { epoch, after: offset } = positionOf(after ?? before) ?? {};
    const page = { ...options, epoch, [after ? "after" : "before"]: offset };
    return (await this.#client.request(`history.${this.name}`, page)).json();
  }

  /** Who is there, and then who comes and goes; after a break `{ event: "reset" }`, and all of them again. */
  async *presence({ signal, ...options } = {}) {
    for (let failures = 1; ; failures += 1) {
      try {
        await this.#client.ready(signal);
        for await (const item of this.#client.stream(`presence.${this.name}`, options, { signal, isMovable: true })) {
          yield item.meta();
          failures = 1;
        }
        return;
      } catch (error) {
        if (error.code === "CLOSED") return;
        await again(this.#client, error, failures, signal);
        yield { event: "reset" };
      }
    }
  }
}

/** The messages of a topic. Its position moves when one is given out, and behind that it goes on after every break. */
export class Subscription {
  #client; #route; #options; #flow;
  #position; #epoch;
  #stream; #failures = 0; // a promise of the stream: it is opened again after each break
  #leaving = new AbortController();

  constructor(client, topic, { from = "new", after, window, maxLag, signal, ...options }) {
    this.#client = client;
    this.#route = `topic.${topic.name}`;
    this.#options = { ...options, from, max_lag: maxLag, start: true };
    this.#flow = { window, signal: this.#leaving.signal, isMovable: true };
    this.#position = positionOf(after);
    signal?.addEventListener("abort", () => this.cancel(), { signal: this.#flow.signal });
    if (signal?.aborted) this.cancel();
    this.#reopen();
  }

  /** All that has to be kept to go on another day; null before the service has answered. */
  get position() { return this.#position ? `${this.#position.epoch}:${this.#position.after}` : null; }
  async started() { await this.#stream; }
  cancel() { this.#leaving.abort(new RSocketError("CLOSED", "the subscription was cancelled")); }
  async return() { return this.cancel(), { value: undefined, done: true }; }
  [Symbol.asyncIterator]() { return this; }

  #reopen(error) {
    this.#stream = this.#open(error);
    this.#stream.catch(() => {});
  }

  async #open(problem) {
    const { signal } = this.#flow;
    for (let error = problem; ; ) {
      if (error) await again(this.#client, error, (this.#failures += 1), signal);
      await this.#client.ready(signal);
      const options = { ...this.#options, from: this.#position ?? this.#options.from };
      const how = options.receive ? "channel" : "stream";
      const stream = this.#client[how](this.#route, options, this.#flow);
      try {
        const start = (await stream.next()).value?.meta()?.start;
        if (!start) throw new RSocketError("INVALID", "the first item does not say where the topic stands");
        this.#epoch = start.epoch;
        // Of what was dropped since a time a gap tells, behind this.
        if (!this.#options.from.since) this.#position ??= { epoch: start.epoch, after: start.next - 1 };
        return stream.on({ error: (reason) => isFinal(reason) || this.#reopen(reason) });
      } catch (reason) {
        stream.cancel();
        error = reason;
      }
    }
  }

  async next() {
    while (!this.#leaving.signal.aborted) {
      const opened = this.#stream;
      try {
        const { value, done } = await (await opened).next();
        const message = done ? null : this.#receive(value);
        if (message) return { value: message, done };
        if (done) this.cancel();
      } catch (error) {
        if (opened !== this.#stream) continue; // it is opened again
        this.cancel();
        if (error.code !== "CLOSED") throw error;
      }
    }
    return { value: undefined, done: true };
  }

  /** The message, or what is told between messages; nothing if it was given out before. */
  #receive(item) {
    const message = Object.assign(item, { epoch: this.#epoch, offset: null }, item.meta());
    const { gap, epoch, offset, base } = message;
    this.#failures = 0;
    this.#epoch = epoch;
    if (gap) gap.reset = gap.to === undefined;
    if (offset !== null && this.#position?.epoch === epoch && this.#position.after >= offset) return null;
    const after = gap ? (gap.to ?? base - 1) : offset;
    if (after !== null) this.#position = { epoch, after };
    return message;
  }

  async _change(options) {
    Object.assign(this.#options, options);
    const stream = await this.#stream;
    if (await stream.ready()) stream.send(null, { metadata: { [JSON_MIME]: options } });
  }
}

/** A member of a topic: its messages, and the way to publish under its name. */
export class Room extends Subscription {
  #topic;

  constructor(client, topic, options) {
    super(client, topic, options);
    this.#topic = topic;
    this.name = options.name;
  }

  send(data, options) { return this.#topic.publish(data, { from: this.name, ...options }); }
  update(info = null) { return this._change({ info }); }
  leave() { this.cancel(); }
}

// RSocket 1.0 over WebSocket, for browsers and Node.js: as it is served, without a build step or a dependency.
//
//   import { connect } from "http://127.0.0.1:7879/rsocket.mjs";
//   const client = await connect("ws://127.0.0.1:7879/rsocket");
//   console.log((await client.request("echo", "hello")).text());
//
// Nothing here grows without a bound: what arrives and is not read, by the credit that was given for it; what is sent,
// by the buffer of the WebSocket; what waits for a connection or to be resumed, by limits that can be set.
// rsocket.d.ts has what is for others; names with _ in front are for these files alone.

import {
  CODES, FRAMES, Fragments, MAX_N, Payload, RSocketError,
  bytesOf, call, counted, cut, decode, deferred, encode, isTracked, lost, pause, payloadOf, uint, unless,
} from "./rsocket-base.mjs";
import { Room, Subscription, Topic } from "./rsocket-topics.mjs";

export { CODES, Payload, RSocketError, Room, Subscription, Topic };

const HIGH_WATER = 256 * 1024; // bytes in the WebSocket's buffer above which nothing more is put there
const STABLE_AFTER = 10_000; // ms after which a connection that is lost was a good one
const RESUME = { window: 60_000, bytes: 1 << 20 };
const DEFAULTS = {
  keepalive: 20_000, lifetime: 90_000, connectTimeout: 10_000, maxPayload: 16 << 20, maxWaiting: 1_024, maxServed: 256,
  dataMime: "application/json", metadataMime: "message/x.rsocket.composite-metadata.v0",
};

// ---- Streams

const DONE = { value: undefined, done: true };

/**
 * One interaction, seen from either side: a half that reads, under the credit that it gives, and one that writes, under
 * the credit that it has. It iterates over what it reads.
 */
export class Stream {
  id = 0; // none before the request has left
  isOver = false;
  granted = 0;
  received = 0;
  onsendable = null;
  #client; #handlers = {}; #stop;
  #window; #taken = 0; // automatic credit, unless it is 0, and how much of what was received is done with
  #items = []; #pull = null; #outcome = null; // what was received, who waits for it, and how it ended
  #credit = 0; #waiters = []; #source = null; // what may be sent, who waits for that, and what sends

  constructor(client, kind, { n, window = 32, signal, timeout, ...handlers } = {}) {
    Object.assign(this, kind); // type, opening, isRequester, isReading, isWriting, isMovable
    this.#client = client;
    this.#window = n === undefined ? window : 0;
    this.on(handlers);
    const late = () => this.cancel(new RSocketError("TIMEOUT", `no end within ${timeout} ms`));
    const timer = timeout && setTimeout(late, timeout);
    const abort = () => this.cancel(signal.reason);
    signal?.addEventListener("abort", abort);
    this.#stop = () => (clearTimeout(timer), signal?.removeEventListener("abort", abort));
  }

  /** Sets handlers; they are told of what has come already. */
  on(handlers) {
    Object.assign(this.#handlers, handlers);
    while (this.#handlers.next && this.#items.length > 0) this.#give(this.#items.shift());
    if (this.#outcome) this.#tellOutcome(handlers);
    return this;
  }

  request(n) {
    if (!(n >= 1) || !this.isReading) return;
    const more = Math.min(Math.floor(n), this.id === 0 ? MAX_N - this.granted : MAX_N);
    this.granted += more;
    if (this.id === 0) this.#client._enter(this);
    else this.#write({ type: "REQUEST_N", n: more });
    call(this.#handlers.credit, this);
  }

  async next() {
    if (this.#items.length > 0) return { value: this.#take(this.#items.shift()), done: false };
    if (this.isReading) return new Promise((resolve, reject) => (this.#pull = { resolve, reject }));
    const { error } = this.#outcome;
    this.#outcome = { error: null }; // it is thrown once
    if (error) throw error;
    return DONE;
  }
  async return() { return this.cancel(), DONE; }
  [Symbol.asyncIterator]() { return this; }

  #give(item) {
    const handled = call(this.#handlers.next, item, this);
    if (handled?.then) handled.then(() => this.#take());
    else this.#take();
  }
  #take(item) {
    const open = this.granted - ++this.#taken;
    if (this.#window > 0 && open <= this.#window / 2) this.request(this.#window - open);
    return item;
  }

  #write(frame) { if (this.id !== 0) this.#client._write({ stream: this.id, ...frame }); }
  get sendable() { return this.isWriting && this.id !== 0 && this.#client._isWritable ? this.#credit : 0; }
  /** Waits until something may be sent; false if nothing may any more. */
  async ready() {
    while (this.isWriting && this.sendable < 1) await new Promise((resolve) => this.#waiters.push(resolve));
    return this.isWriting;
  }
  send(data, options) {
    if (this.sendable < 1) throw new RSocketError("FULL", "nothing may be sent now: wait for ready()");
    this.#emit(payloadOf(data, options));
  }
  #emit({ data, metadata }, complete = false) {
    this.#credit -= 1;
    this.#write({ type: "PAYLOAD", next: true, complete, data, metadata });
    if (complete) this._end(null, "isWriting");
  }
  complete() {
    if (!this.isWriting) return;
    if (this.id === 0) this.opening.complete = true;
    this.#write({ type: "PAYLOAD", complete: true });
    this._end(null, "isWriting");
  }

  /** Ends both halves: an error is what its reader is told, who otherwise has left, and is told nothing. */
  cancel(error = null) {
    if (!this.isRequester) return this.fail(error ?? new RSocketError("CANCELED", "cancelled"));
    if (this.isReading || this.isWriting) this.#write({ type: "CANCEL" });
    if (!error) [this.#handlers, this.#items] = [{}, []];
    this._end(error);
  }
  fail(error) {
    const code = CODES[error?.code] ?? (Number(error?.code) || CODES.APPLICATION_ERROR);
    const data = bytesOf(String(error?.message ?? error));
    if (this.isReading || this.isWriting) this.#write({ type: "ERROR", code, data });
    this._end(error);
  }

  /** Sends what there is, each item when there is credit for it, and completes. */
  async pump(items) {
    this.#source = items[Symbol.asyncIterator]?.() ?? items[Symbol.iterator]();
    while (await this.ready()) {
      const { value, done } = await this.#source.next();
      if (done) return this.complete();
      if (await this.ready()) this.#emit(payloadOf(value));
    }
  }

  /** Answers a request of the other side's. */
  async _answer(handler, payload, credit) {
    this.#credit = credit;
    try {
      const answer = await handler(payload, this);
      if (answer == null) this.complete();
      else if (this.type !== "REQUEST_RESPONSE") await this.pump(answer);
      else if (await this.ready()) this.#emit(payloadOf(answer), true);
    } catch (error) {
      this.fail(error);
    }
  }

  _receive({ type, next, complete, data, metadata, n, code, text, isCut }) {
    const isChannel = this.type === "REQUEST_CHANNEL";
    if (type === "ERROR") this._end(new RSocketError(code, text));
    if (type === "PAYLOAD" && this.isReading) {
      if (next || !complete) this.#deliver(new Payload(data, metadata));
      if (complete || this.type === "REQUEST_RESPONSE") this._end(null, "isReading");
    }
    if (type === "REQUEST_N" && n <= MAX_N) this._wake(n);
    if (type === "CANCEL" && (!this.isRequester || (isCut && !isChannel))) {
      this._end(new RSocketError("CANCELED", "the other side has cancelled"));
    } else if (type === "CANCEL" && isChannel) {
      call(this.#handlers.cancelled, this);
      this._end(null, "isWriting");
    }
  }

  #deliver(item) {
    if (this.received >= this.granted) {
      return this.cancel(new RSocketError("INVALID", `more came than the ${this.granted} that were asked for`));
    }
    this.received += 1;
    const pull = this.#pull;
    this.#pull = null;
    if (this.#handlers.next) this.#give(item);
    else if (pull) pull.resolve({ value: this.#take(item), done: false });
    else this.#items.push(item);
    call(this.#handlers.credit, this);
  }

  /** Something may be sent, under so much more credit, or nothing any more. */
  _wake(credit = 0) {
    this.#credit += credit;
    if (this.isWriting && this.sendable < 1) return;
    for (const resolve of this.#waiters.splice(0)) resolve();
    call(this.onsendable ?? this.#handlers.onsendable, this);
  }

  /** Ends both halves, or one. */
  _end(error, ...halves) {
    const ended = (halves.length > 0 ? halves : ["isReading", "isWriting"]).filter((half) => this[half]);
    for (const half of ended) this[half] = false;
    if (!this.isReading && !this.isWriting && !this.isOver) {
      this.isOver = true;
      this.#stop();
      this.#client._leave(this);
    }
    if (ended.includes("isReading")) this.#endReading(error);
    if (!ended.includes("isWriting")) return;
    this.#source?.return?.();
    this._wake();
  }
  #endReading(error) {
    this.#outcome = { error };
    this.#tellOutcome(this.#handlers);
    if (this.#pull) this.#pull.resolve(this.next());
  }
  #tellOutcome(handlers) {
    const { error } = this.#outcome;
    if (error) call(handlers.error, error);
    else call(handlers.complete);
  }
}

// ---- The connection

/** A client of a service, which outlives its connections where it may. */
export class Client {
  state = "connecting";
  #options; #socket = null; #ticker; #timer; #watching = null;
  #isAccepted = false; #isDraining = false; // whether the service has answered on this connection, and is to close it
  #wasConnected = false; #connectedAt = 0; #failures = 0;
  #silence = 0; #isAsking = false; // ms for which nothing has come; whether a KEEPALIVE is to be answered
  #session = null; // what is kept so that a lost connection can be gone on with
  #lease = null; // how many requests may leave, and until when; null if any may
  #streams = new Map(); #lastId = -1;
  #waiting = new Set(); // requests that have not left
  #fragments; // of which more are to come
  #told = 0; // how many handlers run whose request has no answer
  #connected = deferred(); #closed = deferred();

  constructor(url, options) {
    this.url = String(new URL(url, globalThis.location?.href));
    this.#options = { ...DEFAULTS, WebSocket: globalThis.WebSocket, ...options };
    this.#fragments = new Fragments(this.#options.maxPayload);
    this.closed = this.#closed.promise;
    this.#dial();
  }

  ready(signal) { return unless(signal, this.#connected.promise); }
  async request(route, data, options) {
    const { value = null } = await this.#open("REQUEST_RESPONSE", route, data, { ...options, n: 1 }).next();
    return value;
  }
  fireAndForget(route, data, options) { this.#open("REQUEST_FNF", route, data, options); }
  stream(route, data, options) { return this.#open("REQUEST_STREAM", route, data, options); }
  channel(route, first, options) { return this.#open("REQUEST_CHANNEL", route, first, options); }
  topic(name) { return new Topic(this, name); }
  push(metadata) {
    if (!this._isWritable) throw new RSocketError("FULL", "the connection takes nothing now");
    const all = typeof metadata === "string" ? bytesOf(metadata) : metadata;
    this.#say("METADATA_PUSH", payloadOf(null, { metadata: all }));
  }

  close(why = new RSocketError("CLOSED", "the client was closed")) {
    if (this.state === "closed") return this.closed;
    if (this.#isAccepted) this.#say("ERROR", { code: CODES.CONNECTION_CLOSE, data: bytesOf("the client is closed") });
    this.#hangUp(true);
    this.#tell("closed", why);
    this.#connected.reject(why);
    this.#closed.resolve(why);
    this.#end([...this.#streams.values(), ...this.#waiting], why);
    return this.closed;
  }

  // What is sent: requests leave when there is a connection, a lease where there are leases, and room in the buffer.

  #open(type, route, data, { last = false, isMovable, ...options } = {}) {
    if (this.state === "closed") throw new RSocketError("CLOSED", "the client is closed");
    options.signal?.throwIfAborted();
    const isChannel = type === "REQUEST_CHANNEL";
    const opening = { ...payloadOf(data, options, route), complete: isChannel && last };
    const halves = { isReading: type !== "REQUEST_FNF", isWriting: isChannel && !last };
    const stream = new Stream(this, { type, opening, isMovable, isRequester: true, ...halves }, options);
    if (stream.isReading) stream.request(options.n ?? options.window ?? 32);
    else this._enter(stream);
    return stream;
  }

  _enter(stream) {
    if (this.#waiting.has(stream)) return;
    const { size } = this.#waiting;
    if (size >= this.#options.maxWaiting) throw new RSocketError("FULL", `${size} requests wait already`);
    this.#waiting.add(stream);
    this.#release();
  }

  _leave(stream) {
    this.#waiting.delete(stream);
    if (this.#streams.get(stream.id) !== stream) return;
    this.#streams.delete(stream.id);
    this.#fragments.drop(stream.id);
    if (this.#isDraining && this.#streams.size === 0) this.#lost(lost("the service has closed"));
  }

  get #hasRoom() { return this.#isAccepted && this.#socket.bufferedAmount < HIGH_WATER; }
  get _isWritable() { return this.#hasRoom && !(this.#session?.bytes >= this.#session?.limit); }

  /** Sends requests that wait, as far as they may leave. */
  #release() {
    for (const stream of this.#waiting) {
      const isLeased = !this.#lease || (this.#lease.n > 0 && performance.now() < this.#lease.until);
      if (this.#isDraining || !this._isWritable || !isLeased) return;
      if (this.#lease) this.#lease.n -= 1;
      this.#waiting.delete(stream);
      do this.#lastId = this.#lastId >= MAX_N ? 1 : this.#lastId + 2;
      while (this.#streams.has(this.#lastId));
      stream.id = this.#lastId;
      if (stream.isReading) this.#streams.set(stream.id, stream);
      const credit = FRAMES[stream.type].fields && { n: stream.granted };
      this._write({ type: stream.type, stream: stream.id, ...credit, ...stream.opening });
      stream.opening = null;
      if (!stream.isReading) stream._end(null);
    }
  }

  /** There is room again, or a connection. */
  #goOn() {
    this.#release();
    if (this._isWritable) for (const stream of [...this.#streams.values()]) stream._wake();
  }

  _write(frame) {
    for (const part of FRAMES[frame.type].metadata === "counted" ? cut(frame) : [frame]) this.#send(part);
    if (this.#isAccepted && !this.#isAsking && this.#session?.bytes > this.#session?.limit / 2) this.#keepAlive();
    if (this.#watching || this._isWritable) return;
    // A WebSocket does not say when its buffer has emptied.
    this.#watching = setInterval(() => {
      if (this.#isAccepted && !this._isWritable) return;
      clearInterval(this.#watching);
      this.#watching = null;
      this.#goOn();
    }, 5);
  }

  #say(type, fields) { this.#send({ type, stream: 0, ...fields }); }
  /** Asks for a sign of life, which says what of a session the other side has. */
  #keepAlive() {
    this.#isAsking = true;
    this.#say("KEEPALIVE", { respond: true, position: this.#session?.received ?? 0 });
  }
  #send(frame) {
    const bytes = encode(frame);
    call(this.#options.onframe, "out", frame);
    if (isTracked(frame) && this.#session) {
      this.#session.frames.push(bytes);
      this.#session.bytes += bytes.length;
      this.#session.sent += bytes.length;
    }
    const isOpen = this.#socket?.readyState === 1;
    if (isOpen && (this.#isAccepted || !isTracked(frame))) this.#socket.send(bytes);
  }

  /** Lets go of what the other side has; false if it cannot have just that. */
  #acknowledge(position) {
    const { frames, sent, bytes } = this.#session;
    let [at, count] = [sent - bytes, 0];
    while (at < position && count < frames.length) at += frames[count++].length;
    if (at !== position) return false;
    frames.splice(0, count);
    this.#session.bytes = sent - position;
    return true;
  }

  // A connection's life.

  async #dial() {
    const { WebSocket, auth, connectTimeout } = this.#options;
    let problem = "the connection is lost";
    try {
      const identity = typeof auth === "function" ? await auth() : auth;
      if (this.state === "closed") return;
      const socket = (this.#socket = new WebSocket(this.url));
      const ifMine = (act) => (event) => socket === this.#socket && act(event);
      socket.binaryType = "arraybuffer";
      socket.onopen = ifMine(() => this.#begin(identity));
      socket.onmessage = ifMine(({ data }) => this.#receive(data));
      socket.onerror = ({ message }) => (problem = message ?? `no connection to ${this.url}`);
      socket.onclose = ifMine(({ reason }) => this.#lost(lost(reason || problem)));
      this.#timer = setTimeout(() => this.#lost(lost(`no answer within ${connectTimeout} ms`)), connectTimeout);
    } catch (error) {
      this.#lost(lost(error.message));
    }
  }

  #begin(auth) {
    const { keepalive, lifetime, dataMime, metadataMime, setup = {}, resume, lease } = this.#options;
    const version = [uint(1, 2), uint(0, 2)];
    if (this.#session) {
      const { token, received, sent, bytes } = this.#session;
      return this.#say("RESUME", { head: [...version, counted(2, token), uint(received, 8), uint(sent - bytes, 8)] });
    }
    const token = crypto.getRandomValues(new Uint8Array(16));
    if (resume) {
      const { bytes: limit, window } = { ...RESUME, ...resume };
      this.#session = { token, limit, window, sent: 0, received: 0, frames: [], bytes: 0, deadline: Infinity };
    }
    const head = [...version, uint(keepalive, 4), uint(lifetime, 4), ...(resume ? [counted(2, token)] : [])];
    head.push(counted(1, bytesOf(metadataMime)), counted(1, bytesOf(dataMime)));
    this.#say("SETUP", { head, resume, lease, ...payloadOf(setup.data, { ...setup, auth }) });
    this.#keepAlive(); // the answer to this says that SETUP is accepted
  }

  /** The first frame of a connection. */
  #accept(frame) {
    const { keepalive, lifetime, lease } = this.#options;
    const session = this.#session;
    if (session?.isAccepted && frame.type !== "RESUME_OK") return;
    const isKnown = !session?.isAccepted || this.#acknowledge(frame.position);
    if (!isKnown) return this.#violated(`RESUME_OK of ${frame.position}, where nothing begins`);
    if (session) Object.assign(session, { isAccepted: true, deadline: Infinity });
    this.#isAccepted = this.#wasConnected = true;
    this.#connectedAt = performance.now();
    clearTimeout(this.#timer);
    // Time is counted here, and not by a clock: a machine that slept has not been left alone meanwhile.
    this.#ticker = setInterval(() => {
      this.#silence += keepalive;
      if (this.#silence > Math.max(lifetime, keepalive)) this.#lost(lost("no sign of life"));
      else this.#keepAlive();
    }, keepalive);
    this.#lease = lease ? { n: 0, until: 0 } : null;
    for (const bytes of session?.frames ?? []) this.#socket.send(bytes); // before anything else is asked
    if (lease) this.#say("LEASE", { ttl: MAX_N, n: MAX_N });
    this.#tell("connected");
    this.#connected.resolve();
    this.#goOn();
  }

  #violated(problem) {
    this.#say("ERROR", { code: CODES.CONNECTION_ERROR, data: bytesOf(problem) });
    this.#session = null;
    this.#lost(new RSocketError("CONNECTION_ERROR", `the service sends ${problem}`));
  }

  #hangUp(isPatient = false) {
    const socket = this.#socket;
    this.#socket = null;
    this.#isAccepted = this.#isDraining = this.#isAsking = false;
    clearInterval(this.#ticker);
    clearTimeout(this.#timer);
    if (!isPatient || socket?.readyState !== 0) return socket?.close();
    // Browsers complain of one that is closed before it is open.
    const late = setTimeout(() => socket.close(), this.#options.connectTimeout);
    socket.onopen = () => socket.close();
    socket.onclose = () => clearTimeout(late);
  }

  #lost(why) {
    const { reconnect } = this.#options;
    const session = this.#session;
    if (this.state === "closed") return;
    const wasGood = this.#isAccepted && performance.now() - this.#connectedAt > STABLE_AFTER;
    this.#hangUp();
    if (session) session.deadline = Math.min(session.deadline, performance.now() + session.window);
    if (!session?.isAccepted || why.code === "REJECTED_RESUME" || performance.now() > session.deadline) {
      this.#session = null;
      this.#end([...this.#streams.values()], lost(why.message));
      if (this.state === "closed") return; // somebody who was told has closed it
    }
    const isRefused = /_SETUP$/.test(why.code);
    if (isRefused && session && !session.isAccepted) {
      this.#options.resume = false; // a service that does not resume: without, then
      return this.#dial();
    }
    const isRejected = why.code === "REJECTED_SETUP";
    const isFinal = isRefused && !(isRejected && this.#wasConnected);
    if (isFinal || !(reconnect || this.#session)) return this.close(why);
    this.#failures = wasGood ? 0 : this.#failures + 1;
    const wait = wasGood ? 0 : Math.max(isRejected ? 1_000 : 0, pause(this.#failures, reconnect));
    if (this.state === "connected") this.#connected = deferred();
    this.#tell(this.#wasConnected ? "reconnecting" : "connecting", why, Date.now() + wait);
    this.#timer = setTimeout(() => this.#dial(), wait);
  }

  #tell(state, why = null, nextTryAt = null) {
    this.state = state;
    call(this.#options.onstate, state, why, nextTryAt);
  }

  #end(streams, error) {
    this.#fragments.clear();
    this.#lastId = -1;
    for (const stream of streams) stream._end(error);
  }

  // What comes.

  #receive(message) {
    let frame;
    try {
      if (typeof message === "string") throw new Error("a text");
      frame = decode(new Uint8Array(message));
    } catch (error) {
      return this.#violated(error.message);
    }
    this.#silence = 0;
    call(this.#options.onframe, "in", frame);
    const { type, stream: id, n, ttl, position, respond, data } = frame;
    if (type === "ERROR" && id === 0) return this.#refused(frame);
    if (!this.#isAccepted) this.#accept(frame);
    if (!this.#isAccepted) return;
    if (this.#session && isTracked(frame)) this.#session.received += frame.size;
    if (id !== 0) return this.#dispatch(frame);
    if (type === "METADATA_PUSH") this.#serve(frame);
    if (type === "LEASE" && this.#lease && ttl <= MAX_N && n <= MAX_N) {
      this.#lease = { n, until: performance.now() + ttl };
      this.#release();
    }
    if (type !== "KEEPALIVE") return;
    this.#isAsking &&= respond;
    if (this.#session) this.#acknowledge(position);
    // Answers do not queue up behind what the service does not read.
    if (respond && this.#hasRoom) this.#say(type, { position: this.#session?.received ?? 0, data });
  }

  #refused({ code, text }) {
    if (code === CODES.CONNECTION_ERROR || (code <= CODES.REJECTED_RESUME && !this.#isAccepted)) {
      if (this.#isAccepted) this.#session = null;
      this.#lost(new RSocketError(code, text));
    } else if (code === CODES.CONNECTION_CLOSE) {
      // What can go on elsewhere does, and what cannot is let end.
      this.#isDraining = true;
      const movable = [...this.#streams.values()].filter((stream) => stream.isMovable);
      for (const stream of movable) stream.cancel(lost("the service is closing"));
      if (this.#isDraining && this.#streams.size === 0) this.#lost(lost("the service has closed"));
    }
  }

  #dispatch(frame) {
    const { type, stream: id } = frame;
    const isKnown = this.#streams.has(id) || this.#fragments.has(id);
    if (FRAMES[type]?.handler ? isKnown || id % 2 === 1 : !isKnown) return;
    if (type === "CANCEL" || type === "ERROR") frame.isCut = this.#fragments.drop(id);
    let whole = frame;
    try {
      if (FRAMES[type]?.metadata === "counted") whole = this.#fragments.add(frame);
    } catch (error) {
      if (this.#streams.has(id)) return this.#streams.get(id).cancel(error);
      return this._write({ type: "ERROR", stream: id, code: CODES[error.code], data: bytesOf(error.message) });
    }
    if (whole && this.#streams.has(id)) this.#streams.get(id)._receive(whole);
    else if (FRAMES[whole?.type]?.handler) this.#serve(whole);
  }

  #serve({ type, stream: id, n = 1, complete, data, metadata }) {
    const { responder, maxServed } = this.#options;
    const handler = responder?.[FRAMES[type].handler]?.bind(responder);
    const payload = new Payload(data, metadata);
    const told = { REQUEST_FNF: payload, METADATA_PUSH: metadata }[type];
    if (told && this.#told < maxServed) {
      this.#told += 1;
      Promise.resolve(told).then(handler).catch(console.error).finally(() => (this.#told -= 1));
    }
    if (told) return;
    const isReading = type === "REQUEST_CHANNEL";
    const stream = new Stream(this, { type, id, isRequester: false, isReading, isWriting: true });
    this.#streams.set(id, stream);
    if (!handler) return stream.fail(new RSocketError("REJECTED", "nothing is answered here"));
    if (this.#streams.size > maxServed) return stream.fail(new RSocketError("REJECTED", "too many requests"));
    if (n > MAX_N) return stream.fail(new RSocketError("INVALID", "a request for too many"));
    if (isReading) {
      stream.granted = 1; // the first comes without having been asked for
      stream._receive({ type: "PAYLOAD", next: true, complete, data, metadata });
      stream.request(32);
    }
    stream._answer(handler, payload, n);
  }
}

/** Connects. The service has accepted then; with `reconnect` that may take any number of attempts. */
export async function connect(url, options = {}) {
  const client = new Client(url, options);
  await client.ready(options.signal).catch((error) => {
    client.close(error);
    throw error;
  });
  return client;
}

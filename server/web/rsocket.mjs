// RSocket 1.0 over WebSocket, for browsers and Node.js: one file, without a build step and without a dependency.
//
//   import { connect } from "http://127.0.0.1:7879/rsocket.mjs";
//   const client = await connect("ws://127.0.0.1:7879/rsocket");
//   console.log((await client.request("echo", "hello")).text());
//
// Nothing here grows without a bound: what arrives and is not read, by the credit that was given for it; what is sent,
// by the buffer of the WebSocket; what waits for a connection, for its acknowledgement or to be resumed, by limits that
// can be set. Names that begin with _ are for this file alone; rsocket.d.ts has all that is for others.

const MAX_FRAME = 0xffffff;
const FRAGMENT = 64 * 1024; // bytes of a frame that is sent: larger payloads are cut
const MAX_N = 0x7fffffff;
const HIGH_WATER = 256 * 1024; // bytes in the buffer of the WebSocket above which nothing more is put there
const STABLE_AFTER = 10_000; // ms after which a connection that is lost was a good one
const METADATA = 0x100;
const IGNORE = 0x200;

const DEFAULTS = {
  keepalive: 20_000,
  lifetime: 90_000,
  dataMime: "application/json",
  connectTimeout: 10_000,
  maxPayload: 16 << 20,
  maxWaiting: 1_024,
  maxServed: 256,
};
const RECONNECT = { first: 100, longest: 15_000 };
const RESUME = { window: 60_000, bytes: 1 << 20 };
const OUTBOX = { messages: 1_024, bytes: 4 << 20, inFlight: 64, patience: 60_000 };

export const CODES = {
  INVALID_SETUP: 0x001,
  UNSUPPORTED_SETUP: 0x002,
  REJECTED_SETUP: 0x003,
  REJECTED_RESUME: 0x004,
  CONNECTION_ERROR: 0x101,
  CONNECTION_CLOSE: 0x102,
  APPLICATION_ERROR: 0x201,
  REJECTED: 0x202,
  CANCELED: 0x203,
  INVALID: 0x204,
};
const nameOf = (table, value) => Object.keys(table).find((name) => table[name] === value);
const hex = (number) => `0x${number.toString(16)}`;

export class RSocketError extends Error {
  name = "RSocketError";

  /** The code is one of CODES by its name, "0x301" for one of an application, or LOST, CLOSED, TIMEOUT or FULL. */
  constructor(code, message) {
    super(message);
    this.code = typeof code === "number" ? (nameOf(CODES, code) ?? hex(code)) : code;
  }
}

// ---- Bytes, payloads and metadata

const encoder = new TextEncoder();
const decoder = new TextDecoder();

function bytesOf(data) {
  if (data === undefined || data === null) return new Uint8Array();
  if (typeof data === "string") return encoder.encode(data);
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return encoder.encode(JSON.stringify(data));
}

const uint = (value, width) => Uint8Array.from({ length: width }, (_, i) => value / 256 ** (width - 1 - i));

function concat(parts) {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** Bytes behind a length of so many bytes. */
function counted(width, bytes) {
  if (bytes.length >= 256 ** width) throw new RSocketError("INVALID", `too long: ${bytes.length} bytes`);
  return concat([uint(bytes.length, width), bytes]);
}

const JSON_MIME = "application/json";
const ROUTING = "message/x.rsocket.routing.v0";
const AUTHENTICATION = "message/x.rsocket.authentication.v0";
const COMPOSITE = "message/x.rsocket.composite-metadata.v0";
const MIMES = { [JSON_MIME]: 0x05, "application/octet-stream": 0x06, "text/plain": 0x21 };
Object.assign(MIMES, { [AUTHENTICATION]: 0x7c, [ROUTING]: 0x7e, [COMPOSITE]: 0x7f });

function entry(mime, value) {
  const name = encoder.encode(mime);
  const head = MIMES[mime] ? [uint(0x80 | MIMES[mime], 1)] : [uint(name.length - 1, 1), name];
  return concat([...head, counted(3, bytesOf(value))]);
}

function authentication({ bearer, user, password = "" }) {
  if (bearer !== undefined) return concat([uint(0x81, 1), bytesOf(bearer)]);
  return concat([uint(0x80, 1), counted(2, bytesOf(user)), bytesOf(password)]);
}

/** The metadata of a request: as they are if they are bytes, else composite ones with the route before the rest. */
function metadataOf(route, { metadata, auth }) {
  if (metadata instanceof Uint8Array) return metadata;
  const entries = Object.entries(metadata ?? {}).map(([mime, value]) => entry(mime, value));
  if (auth) entries.unshift(entry(AUTHENTICATION, authentication(auth)));
  if (route) entries.unshift(entry(ROUTING, counted(1, bytesOf(route))));
  return entries.length > 0 ? concat(entries) : null;
}

export class Payload {
  constructor(data, metadata = null) {
    this.data = bytesOf(data);
    this.metadata = metadata;
  }

  text() {
    return decoder.decode(this.data);
  }

  json() {
    return JSON.parse(this.text());
  }

  /** The entries of composite metadata, as pairs of a MIME type and bytes. */
  entries() {
    const bytes = this.metadata ?? new Uint8Array();
    const found = [];
    for (let at = 0; at < bytes.length; ) {
      const id = bytes[at] & 0x7f;
      const nameEnd = at + 1 + (bytes[at] & 0x80 ? 0 : id + 1);
      const mime = bytes[at] & 0x80 ? (nameOf(MIMES, id) ?? hex(id)) : decoder.decode(bytes.subarray(at + 1, nameEnd));
      const start = nameEnd + 3;
      const end = start + ((bytes[nameEnd] << 16) | (bytes[nameEnd + 1] << 8) | bytes[nameEnd + 2]);
      if (start > bytes.length || end > bytes.length) throw new RSocketError("INVALID", "the metadata are cut off");
      found.push([mime, bytes.subarray(start, end)]);
      at = end;
    }
    return found;
  }

  /** The value of the JSON entry of composite metadata, or null. */
  meta() {
    const found = this.entries().find(([mime]) => mime === JSON_MIME);
    return found ? JSON.parse(decoder.decode(found[1])) : null;
  }

  /** The route of a request, or null. */
  route() {
    const found = this.entries().find(([mime]) => mime === ROUTING);
    return found ? decoder.decode(found[1].subarray(1, 1 + found[1][0])) : null;
  }
}

const payloadOf = (data, options = {}) =>
  data instanceof Payload ? data : new Payload(data, metadataOf(null, options));

// ---- Frames

/** The types: their code, their flags from 0x80 down, the fields behind the header, and where metadata have their place. */
const FRAMES = {
  SETUP: { code: 0x01, flags: ["resume", "lease"], metadata: "counted" },
  LEASE: { code: 0x02, fields: ["ttl", "n"], metadata: "rest" },
  KEEPALIVE: { code: 0x03, flags: ["respond"], fields: ["position"] },
  REQUEST_RESPONSE: { code: 0x04, flags: ["follows"], metadata: "counted", isTracked: true },
  REQUEST_FNF: { code: 0x05, flags: ["follows"], metadata: "counted", isTracked: true },
  REQUEST_STREAM: { code: 0x06, flags: ["follows"], fields: ["n"], metadata: "counted", isTracked: true },
  REQUEST_CHANNEL: { code: 0x07, flags: ["follows", "complete"], fields: ["n"], metadata: "counted", isTracked: true },
  REQUEST_N: { code: 0x08, fields: ["n"], isTracked: true },
  CANCEL: { code: 0x09, isTracked: true },
  PAYLOAD: { code: 0x0a, flags: ["follows", "complete", "next"], metadata: "counted", isTracked: true },
  ERROR: { code: 0x0b, fields: ["code"], isTracked: true },
  METADATA_PUSH: { code: 0x0c, metadata: "rest" },
  RESUME: { code: 0x0d },
  RESUME_OK: { code: 0x0e, fields: ["position"] },
};
const TYPES = Object.keys(FRAMES);

function encode(frame) {
  const { code, flags = [], fields = [], metadata: place } = FRAMES[frame.type];
  const bits = flags.map((name, i) => (frame[name] ? 0x80 >> i : 0)).reduce((all, bit) => all | bit, 0);
  const word = (code << 10) | bits | (frame.metadata ? METADATA : 0);
  const parts = [uint(frame.stream, 4), uint(word, 2)];
  for (const name of fields) parts.push(uint(frame[name], name === "position" ? 8 : 4));
  if (frame.head) parts.push(...frame.head);
  if (frame.metadata) parts.push(place === "counted" ? counted(3, frame.metadata) : frame.metadata);
  if (frame.data) parts.push(frame.data);
  return concat(parts);
}

/** A frame that came; throws where the connection cannot go on with it. */
function decode(bytes) {
  if (bytes.length < 6 || bytes.length > MAX_FRAME) throw new Error(`a frame of ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const word = view.getUint16(4);
  const type = TYPES.find((name) => FRAMES[name].code === word >> 10) ?? hex(word >> 10);
  const frame = { type, stream: view.getUint32(0), flags: word & 0x3ff, size: bytes.length, metadata: null };
  if (frame.stream > MAX_N) throw new Error("a stream's number with its first bit set");
  try {
    if (!FRAMES[type]) throw new RangeError("nobody knows it");
    readBody(frame, view, bytes);
  } catch (error) {
    if (!(frame.flags & IGNORE)) throw new Error(`a frame ${type} that cannot be read: ${error.message}`);
    frame.type = "IGNORED";
  }
  return frame;
}

function readBody(frame, view, bytes) {
  const { flags = [], fields = [], metadata: place } = FRAMES[frame.type];
  flags.forEach((name, i) => (frame[name] = (frame.flags & (0x80 >> i)) !== 0));
  if (frame.type === "SETUP" || frame.type === "RESUME") return; // no server sends one
  let at = 6;
  // Outside of the bytes the view throws.
  for (const name of fields) {
    frame[name] = name === "position" ? Number(view.getBigUint64(at)) : view.getUint32(at);
    at += name === "position" ? 8 : 4;
  }
  if (place === "rest") {
    frame.metadata = frame.flags & METADATA || frame.type === "METADATA_PUSH" ? bytes.subarray(at) : null;
    return;
  }
  if (place && frame.flags & METADATA) {
    const end = at + 3 + ((view.getUint16(at) << 8) | view.getUint8(at + 2));
    if (end > bytes.length) throw new RangeError("its metadata are longer than it is");
    frame.metadata = bytes.subarray(at + 3, end);
    at = end;
  }
  frame.data = bytes.subarray(at);
  if (frame.type === "ERROR") frame.text = decoder.decode(frame.data);
}

/** A frame in as many as its payload needs: all metadata before any data, and its end on the last. */
function* cut(frame) {
  const { metadata, data = new Uint8Array(), complete, ...opening } = frame;
  const split = metadata?.length ?? 0;
  const room = FRAGMENT - 13; // behind the longest header
  for (let at = 0, follows = true; follows; at += room) {
    follows = at + room < split + data.length;
    const part = { data: data.subarray(Math.max(0, at - split), Math.max(0, at + room - split)), follows };
    if (metadata && (at === 0 || at < split)) part.metadata = metadata.subarray(at, at + room);
    if (complete && !follows) part.complete = true;
    yield { ...(at === 0 ? opening : { type: "PAYLOAD", stream: frame.stream, next: true }), ...part };
  }
}

/** What is kept so that a lost connection can be gone on with: positions, and the frames that may have to go again. */
class Session {
  token = crypto.getRandomValues(new Uint8Array(16));
  sent = 0;
  received = 0;
  isAccepted = false;
  deadline = null; // when it is given up; null while there is a connection
  #frames = [];
  #bytes = 0;

  constructor(settings) {
    this.settings = { ...RESUME, ...settings };
  }

  get first() {
    return this.sent - this.#bytes;
  }

  isFull(share = 1) {
    return this.#bytes >= this.settings.bytes * share;
  }

  keep(bytes) {
    this.#frames.push(bytes);
    this.#bytes += bytes.length;
    this.sent += bytes.length;
  }

  /** Lets go of what the other side has; false if it cannot have just that. */
  acknowledge(position) {
    let at = this.first;
    let count = 0;
    while (at < position && count < this.#frames.length) at += this.#frames[count++].length;
    if (at !== position) return false;
    this.#frames.splice(0, count);
    this.#bytes = this.sent - position;
    return true;
  }

  frames() {
    return this.#frames;
  }
}

// ---- Streams

/**
 * One interaction, seen from either side, of two halves: what it reads under the credit that it gives, and what it
 * writes under the credit that it has. It iterates over what it reads.
 */
export class Stream {
  id = 0; // none before the request leaves
  granted = 0;
  received = 0;
  onsendable = null;
  #client;
  #handlers = {};
  #window; // 0 if credit is given by hand
  #taken = 0;
  #items = [];
  #error = null;
  #pull = null; // who waits for the next item
  #credit = 0;
  #waiters = []; // who waits for credit
  #source = null;
  #stop = () => {};

  constructor(client, { type, opening, isRequester, isReading, isWriting, isMovable = false }, options) {
    Object.assign(this, { type, opening, isRequester, isReading, isWriting, isMovable });
    this.#client = client;
    this.#window = options.n === undefined ? (options.window ?? 32) : 0;
    this.on(options);
    const { signal, timeout } = options;
    const late = () => this.cancel(new RSocketError("TIMEOUT", `no answer within ${timeout} ms`));
    const timer = timeout && setTimeout(late, timeout);
    const abort = () => this.cancel(signal.reason);
    signal?.addEventListener("abort", abort);
    this.#stop = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    };
  }

  /** Handlers, of which each replaces the one there was; items that have come already are given to `next`. */
  on({ next, complete, error, credit, cancelled, onsendable }) {
    for (const [name, handler] of Object.entries({ next, complete, error, credit, cancelled })) {
      if (handler) this.#handlers[name] = handler;
    }
    if (onsendable) this.onsendable = onsendable;
    while (this.#handlers.next && this.#items.length > 0) this.#give(this.#items.shift());
    return this;
  }

  // What it reads.

  request(n) {
    if (!(n >= 1) || !this.isReading) return;
    const more = Math.min(Math.floor(n), this.id === 0 ? MAX_N - this.granted : MAX_N);
    this.granted += more;
    if (this.id === 0) this.#client._enter(this);
    else this.#client._write({ type: "REQUEST_N", stream: this.id, n: more });
    this.#handlers.credit?.(this);
  }

  /** Ends it at both sides; with an error, that is what its reader is told. */
  cancel(error = null) {
    if (!this.isReading && !this.isWriting) return;
    if (!this.isRequester) return this.fail(error ?? new RSocketError("CANCELED", "it was cancelled"));
    if (this.id !== 0) this.#client._write({ type: "CANCEL", stream: this.id });
    this._end(error);
  }

  next() {
    if (this.#items.length > 0) {
      const value = this.#items.shift();
      this.#took();
      return Promise.resolve({ value, done: false });
    }
    if (this.isReading) return new Promise((resolve, reject) => (this.#pull = { resolve, reject }));
    const error = this.#error;
    this.#error = null;
    return error ? Promise.reject(error) : Promise.resolve({ value: undefined, done: true });
  }

  return() {
    this.cancel();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  #give(item) {
    const done = this.#handlers.next(item, this);
    if (typeof done?.then === "function") done.then(() => this.#took());
    else this.#took();
  }

  #took() {
    this.#taken += 1;
    const open = this.granted - this.#taken;
    if (this.#window > 0 && open <= this.#window / 2) this.request(this.#window - open);
  }

  // What it writes.

  get sendable() {
    return this.isWriting && this.id !== 0 && this.#client._isWritable ? this.#credit : 0;
  }

  /** Waits until there is something to send under: false if nothing can be sent any more. */
  ready() {
    if (!this.isWriting || this.sendable > 0) return Promise.resolve(this.isWriting);
    return new Promise((resolve) => this.#waiters.push(resolve));
  }

  send(data, options) {
    if (this.sendable < 1) throw new RSocketError("FULL", "there is no credit for it now: wait for ready()");
    this.#emit(payloadOf(data, options), false);
  }

  complete() {
    if (!this.isWriting) return;
    if (this.id === 0) this.opening.complete = true;
    else this.#client._write({ type: "PAYLOAD", stream: this.id, complete: true });
    this.#finishWriting();
  }

  fail(error) {
    if (!this.isReading && !this.isWriting) return;
    const code = CODES[error.code] ?? (Number(error.code) || CODES.APPLICATION_ERROR);
    const data = encoder.encode(String(error.message ?? error));
    if (this.id !== 0) this.#client._write({ type: "ERROR", stream: this.id, code, data });
    this._end(error);
  }

  #emit({ data, metadata }, complete) {
    this.#credit -= 1;
    this.#client._write({ type: "PAYLOAD", stream: this.id, next: true, complete, data, metadata });
    if (complete) this.#finishWriting();
  }

  /** Sends the items of an iterable: each is asked for when there is credit for it. */
  async pump(items) {
    this.#source = items[Symbol.asyncIterator]?.() ?? items[Symbol.iterator]();
    while (await this.ready()) {
      const { value, done } = await this.#source.next();
      if (done) return this.complete();
      if (await this.ready()) this.#emit(payloadOf(value), false);
    }
  }

  /** Answers as a responder: with a value, or what an iterable gives. */
  async _answer(handler, payload) {
    try {
      const answer = await handler(payload, this);
      const isSingle = this.type === "REQUEST_RESPONSE";
      if (!isSingle && answer) await this.pump(answer);
      else if ((await this.ready()) && isSingle && answer !== undefined) this.#emit(payloadOf(answer), true);
      else this.complete();
    } catch (error) {
      this.fail(error);
    }
  }

  // What the connection tells it.

  _receive(frame) {
    if (frame.type === "ERROR") return this._end(new RSocketError(frame.code, frame.text));
    if (frame.type === "PAYLOAD" && this.isReading) {
      if (frame.next || !frame.complete) this._deliver(new Payload(frame.data, frame.metadata));
      if (frame.complete || this.type === "REQUEST_RESPONSE") this.#finishReading(null);
    } else if (frame.type === "REQUEST_N" && this.isWriting && frame.n <= MAX_N) {
      this.#credit += frame.n;
      this._wake();
    } else if (frame.type === "CANCEL" && !this.isRequester) {
      this._end(new RSocketError("CANCELED", "the other side has cancelled it"));
    } else if (frame.type === "CANCEL" && this.type === "REQUEST_CHANNEL") {
      this.#handlers.cancelled?.(this);
      this.#finishWriting();
    }
  }

  _deliver(item) {
    if (this.received >= this.granted) {
      return this.cancel(new RSocketError("INVALID", `more came than the ${this.granted} that were asked for`));
    }
    this.received += 1;
    if (this.#handlers.next) {
      this.#give(item);
    } else if (this.#pull) {
      this.#pull.resolve({ value: item, done: false });
      this.#pull = null;
      this.#took();
    } else {
      this.#items.push(item);
    }
    this.#handlers.credit?.(this);
  }

  _credit(n) {
    this.#credit += n;
  }

  /** Something may be sent again. */
  _wake() {
    if (this.isWriting && this.sendable < 1) return;
    for (const resolve of this.#waiters.splice(0)) resolve(this.isWriting);
    if (this.isWriting) this.onsendable?.(this);
  }

  _end(error) {
    this.#finishReading(error);
    this.#finishWriting();
  }

  #finishReading(error) {
    if (!this.isReading) return;
    this.isReading = false;
    this.#settle();
    if (error) this.#handlers.error?.(error);
    else this.#handlers.complete?.();
    if (!this.#pull) this.#error = error;
    else if (error) this.#pull.reject(error);
    else this.#pull.resolve({ value: undefined, done: true });
    this.#pull = null;
  }

  #finishWriting() {
    if (!this.isWriting) return;
    this.isWriting = false;
    this.#source?.return?.();
    this._wake();
    this.#settle();
  }

  #settle() {
    if (this.isReading || this.isWriting) return;
    this.#stop();
    this.#client._leave(this);
  }
}

// ---- The connection

const REQUESTS = {
  REQUEST_RESPONSE: "request",
  REQUEST_FNF: "fireAndForget",
  REQUEST_STREAM: "stream",
  REQUEST_CHANNEL: "channel",
};

function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  made.promise.catch(() => {}); // nobody need wait for it
  return made;
}

/** The promise, unless the signal comes first. */
async function unless(signal, promise) {
  signal?.throwIfAborted();
  const aborted = deferred();
  const abort = () => aborted.reject(signal.reason);
  signal?.addEventListener("abort", abort);
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal?.removeEventListener("abort", abort);
  }
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
/** Somewhere below a bound that doubles with each failure: many clients do not come at once. */
const pause = (failures, { first, longest } = RECONNECT) =>
  Math.random() * Math.min(longest, first * 2 ** (failures - 1));

/** A client of one service, which outlives its connections if it is to. */
export class Client {
  state = "connecting";
  #url;
  #options;
  #socket = null;
  #isAccepted = false; // whether the service has answered on this connection
  #wasConnected = false;
  #isDraining = false;
  #connectedAt = 0;
  #failures = 0;
  #silence = 0; // ms for which nothing has come
  #ticker;
  #redial;
  #drain = null;
  #session = null;
  #lease = null; // how many requests may leave, and until when; null if there are none
  #nextId = 1;
  #streams = new Map();
  #waiting = new Set(); // requests that have not left yet
  #partials = new Map(); // by stream: fragments, of which more are to come
  #assembling = 0;
  #connected = deferred();
  #closed = deferred();

  constructor(url, options) {
    this.#url = url;
    this.#options = { ...DEFAULTS, WebSocket: globalThis.WebSocket, ...options };
    this.closed = this.#closed.promise;
    if (!this.#options.WebSocket)
      throw new RSocketError("INVALID", "no WebSocket here: give one, as { WebSocket } of ws");
    this.#dial();
  }

  /** Waits for a connection; rejects when there will be none. */
  ready(signal) {
    return unless(signal, this.#connected.promise);
  }

  async request(route, data, options = {}) {
    const { value } = await this.#open("REQUEST_RESPONSE", route, data, { ...options, n: 1 }).next();
    return value ?? null;
  }

  fireAndForget(route, data, options = {}) {
    this.#open("REQUEST_FNF", route, data, { ...options, n: 1 });
  }

  stream(route, data, options = {}) {
    return this.#open("REQUEST_STREAM", route, data, options);
  }

  channel(route, first, options = {}) {
    return this.#open("REQUEST_CHANNEL", route, first, options);
  }

  push(metadata) {
    if (!this._isWritable) throw new RSocketError("FULL", "the connection takes nothing more now");
    this._write({ type: "METADATA_PUSH", stream: 0, metadata: bytesOf(metadata) });
  }

  topic(name) {
    return new Topic(this, name);
  }

  close(why = new RSocketError("CLOSED", "the client was closed")) {
    if (this.state === "closed") return this.closed;
    this.#tellPeer("ERROR", { code: CODES.CONNECTION_CLOSE, data: encoder.encode("the client is closed") });
    this.#hangUp();
    clearTimeout(this.#redial);
    this.#session = null;
    this.#tell("closed", why);
    this.#failStreams(why);
    this.#connected.reject(why);
    this.#closed.resolve(why);
    return this.closed;
  }

  // Requests leave when there is a connection, a lease if there are leases, and room in the WebSocket's buffer.

  #open(type, route, data, options) {
    const opening =
      data instanceof Payload ? { ...data } : { data: bytesOf(data), metadata: metadataOf(route, options) };
    const isChannel = type === "REQUEST_CHANNEL";
    const halves = { isRequester: true, isReading: type !== "REQUEST_FNF", isWriting: isChannel && !options.complete };
    opening.complete = isChannel && options.complete === true;
    options.signal?.throwIfAborted();
    const stream = new Stream(this, { type, opening, isMovable: options.isMovable, ...halves }, options);
    if (type === "REQUEST_FNF") this._enter(stream);
    else stream.request(options.n ?? options.window ?? 32);
    return stream;
  }

  _enter(stream) {
    if (this.state === "closed") throw new RSocketError("CLOSED", "the client is closed");
    if (this.#waiting.size >= this.#options.maxWaiting) {
      throw new RSocketError("FULL", `${this.#waiting.size} requests wait to be sent already`);
    }
    this.#waiting.add(stream);
    this.#release();
  }

  #release() {
    for (const stream of this.#waiting) {
      if (this.#isDraining || !this._isWritable) break;
      if (this.#lease && (this.#lease.n < 1 || performance.now() > this.#lease.until)) break;
      if (this.#lease) this.#lease.n -= 1;
      this.#waiting.delete(stream);
      do {
        stream.id = this.#nextId;
        this.#nextId = this.#nextId >= MAX_N ? 1 : this.#nextId + 2;
      } while (this.#streams.has(stream.id));
      if (stream.type !== "REQUEST_FNF") this.#streams.set(stream.id, stream);
      this._write({ type: stream.type, stream: stream.id, n: stream.granted, ...stream.opening });
      stream.opening = null;
    }
    this.#watch();
  }

  _leave(stream) {
    this.#waiting.delete(stream);
    if (this.#streams.get(stream.id) === stream) this.#streams.delete(stream.id);
    this.#drop(stream.id);
    if (this.#isDraining && this.#streams.size === 0) this.#lost(new RSocketError("LOST", "the service has closed"));
  }

  get _isWritable() {
    return this.#isAccepted && this.#socket.bufferedAmount < HIGH_WATER && !this.#session?.isFull();
  }

  /** A WebSocket does not say when its buffer has emptied: it is looked at. */
  #watch() {
    if (this.#drain || !this.#isAccepted || this._isWritable) return;
    this.#drain = setTimeout(() => {
      this.#drain = null;
      this.#release();
      if (this._isWritable) for (const stream of [...this.#streams.values()]) stream._wake();
    }, 5);
  }

  _write(frame) {
    const parts = FRAMES[frame.type].metadata === "counted" ? cut(frame) : [frame];
    for (const part of parts) this.#send(part);
    if (this.#session?.isFull(0.5)) this.#askPosition();
    this.#watch();
  }

  #send(frame) {
    const bytes = encode(frame);
    this.#options.onframe?.("out", { flags: ((bytes[4] << 8) | bytes[5]) & 0x3ff, ...frame, size: bytes.length });
    const isTracked = FRAMES[frame.type].isTracked && frame.stream !== 0;
    if (isTracked) this.#session?.keep(bytes);
    if (this.#socket && (this.#isAccepted || !isTracked)) this.#socket.send(bytes);
  }

  #tellPeer(type, fields) {
    if (this.#socket?.readyState === 1) this.#send({ type, stream: 0, ...fields });
  }

  #askPosition() {
    this.#tellPeer("KEEPALIVE", { respond: true, position: this.#session?.received ?? 0 });
  }

  // A connection's life.

  async #dial() {
    const { WebSocket, connectTimeout, auth } = this.#options;
    this.#isAccepted = false;
    let credentials;
    try {
      credentials = typeof auth === "function" ? await auth() : auth;
    } catch (error) {
      return this.#lost(error);
    }
    if (this.state === "closed") return;
    const socket = (this.#socket = new WebSocket(this.#url));
    const mine = (act) => (event) => this.#socket === socket && act(event);
    let problem = "the connection is lost";
    socket.binaryType = "arraybuffer";
    socket.onopen = mine(() => this.#begin(credentials));
    socket.onmessage = mine(({ data }) => this.#receive(data));
    socket.onerror = (event) => (problem = event.message || `no connection to ${this.#url}`);
    socket.onclose = mine(({ reason }) => this.#lost(new RSocketError("LOST", reason || problem)));
    const late = mine(() => this.#isAccepted || this.#lost(new RSocketError("LOST", "no answer to SETUP")));
    setTimeout(late, connectTimeout);
  }

  #begin(auth) {
    const { keepalive, lifetime, dataMime, metadataMime = COMPOSITE, setup = {}, resume, lease } = this.#options;
    const version = [uint(1, 2), uint(0, 2)];
    if (this.#session) {
      const { token, received, first } = this.#session;
      return this.#tellPeer("RESUME", { head: [...version, counted(2, token), uint(received, 8), uint(first, 8)] });
    }
    this.#session = resume ? new Session(resume) : null;
    const head = [...version, uint(keepalive, 4), uint(lifetime, 4)];
    if (resume) head.push(counted(2, this.#session.token));
    head.push(counted(1, bytesOf(metadataMime)), counted(1, bytesOf(dataMime)));
    const payload = { data: bytesOf(setup.data), metadata: metadataOf(null, { ...setup, auth }) };
    this.#tellPeer("SETUP", { head, ...payload, resume: Boolean(resume), lease: Boolean(lease) });
    // There is no answer to SETUP itself.
    this.#askPosition();
  }

  #accept(frame) {
    const session = this.#session;
    if (session?.isAccepted) {
      if (frame.type !== "RESUME_OK") return;
      if (!session.acknowledge(frame.position)) return this.#violated(`there is no position ${frame.position}`);
    }
    if (session) Object.assign(session, { isAccepted: true, deadline: null });
    this.#isAccepted = this.#wasConnected = true;
    this.#connectedAt = performance.now();
    this.#silence = 0;
    const { keepalive, lifetime, lease } = this.#options;
    this.#lease = lease ? { n: 0, until: 0 } : null;
    if (lease) this.#tellPeer("LEASE", { ttl: MAX_N, n: MAX_N });
    for (const bytes of session?.frames() ?? []) this.#socket.send(bytes);
    // Counted by itself, and not by a clock: a machine that sleeps has not been left alone.
    this.#ticker = setInterval(() => {
      this.#silence += keepalive;
      if (this.#silence > Math.max(lifetime, keepalive)) return this.#lost(new RSocketError("LOST", "no sign of life"));
      this.#askPosition();
    }, keepalive);
    this.#tell("connected");
    this.#connected.resolve();
    this.#release();
    for (const stream of [...this.#streams.values()]) stream._wake();
  }

  #violated(problem) {
    this.#tellPeer("ERROR", { code: CODES.CONNECTION_ERROR, data: encoder.encode(problem) });
    this.#session = null;
    this.#lost(new RSocketError("CONNECTION_ERROR", `the service sends ${problem}`));
  }

  #hangUp() {
    clearInterval(this.#ticker);
    const socket = this.#socket;
    this.#socket = null;
    this.#isAccepted = this.#isDraining = false;
    if (socket) socket.close();
  }

  #lost(why) {
    const { reconnect, resume } = this.#options;
    const wasGood = this.#isAccepted && performance.now() - this.#connectedAt > STABLE_AFTER;
    const isFirstTry = this.state === "connected";
    this.#hangUp();
    const session = this.#session;
    if (session) session.deadline ??= performance.now() + session.settings.window;
    if (!session?.isAccepted || why.code === "REJECTED_RESUME" || performance.now() > session.deadline) {
      this.#session = null;
      this.#failStreams(new RSocketError("LOST", why.message), true);
    }
    const isRefused =
      why.code === "REJECTED_SETUP" ? !this.#wasConnected : /^(INVALID|UNSUPPORTED)_SETUP$/.test(why.code);
    if (isRefused || !(reconnect || this.#session)) return this.close(why);
    this.#failures = wasGood ? 0 : this.#failures + 1;
    const least = why.code === "REJECTED_SETUP" ? 1_000 : 0;
    const settings = { ...RECONNECT, ...(typeof reconnect === "object" ? reconnect : {}) };
    const wait = isFirstTry && wasGood ? 0 : Math.max(least, pause(this.#failures, settings));
    if (isFirstTry) this.#connected = deferred();
    this.#tell(this.#wasConnected ? "reconnecting" : "connecting", why, Date.now() + wait);
    this.#redial = setTimeout(() => this.#dial(), wait);
  }

  #tell(state, why = null, nextTryAt = null) {
    this.state = state;
    this.#options.onstate?.(state, why, nextTryAt);
  }

  #failStreams(error, isLost = false) {
    const streams = [...this.#streams.values(), ...(isLost ? [] : this.#waiting)];
    this.#partials.clear();
    this.#assembling = 0;
    this.#nextId = 1;
    for (const stream of streams) stream._end(error);
  }

  // What comes.

  #receive(data) {
    let frame;
    try {
      if (typeof data === "string") throw new Error("a text");
      frame = decode(new Uint8Array(data));
    } catch (error) {
      return this.#violated(error.message);
    }
    this.#silence = 0;
    this.#options.onframe?.("in", frame);
    if (frame.type === "ERROR" && frame.stream === 0) return this.#refused(frame);
    if (!this.#isAccepted) this.#accept(frame);
    if (!this.#isAccepted) return;
    if (this.#session && FRAMES[frame.type]?.isTracked && frame.stream !== 0) this.#session.received += frame.size;
    if (frame.stream !== 0) this.#dispatch(frame);
    else if (frame.type === "KEEPALIVE") this.#keptAlive(frame);
    else if (frame.type === "LEASE" && this.#lease && frame.ttl <= MAX_N && frame.n <= MAX_N) {
      this.#lease = { n: frame.n, until: performance.now() + frame.ttl };
      this.#release();
    } else if (frame.type === "METADATA_PUSH") this.#options.responder?.push?.(frame.metadata);
  }

  #refused({ code, text }) {
    const isSetup = code <= CODES.REJECTED_RESUME;
    if (isSetup === this.#isAccepted && code !== CODES.CONNECTION_ERROR) {
      if (code === CODES.CONNECTION_CLOSE) this.#beginDraining();
      return;
    }
    if (this.#isAccepted && this.#session) this.#session = null;
    this.#lost(new RSocketError(code, text));
  }

  /** The service is to close: what can go on elsewhere does, and what cannot is let end. */
  #beginDraining() {
    this.#isDraining = true;
    for (const stream of [...this.#streams.values()]) {
      if (stream.isMovable) stream.cancel(new RSocketError("LOST", "the service is closing"));
    }
    if (this.#streams.size === 0) this.#lost(new RSocketError("LOST", "the service has closed"));
  }

  #keptAlive({ respond, position, data }) {
    this.#session?.acknowledge(position);
    // Answers do not queue behind what the service does not read.
    if (respond && this._isWritable) this.#tellPeer("KEEPALIVE", { position: this.#session?.received ?? 0, data });
    this.#watch();
  }

  #dispatch(frame) {
    const id = frame.stream;
    const isRequest = REQUESTS[frame.type] !== undefined;
    const isKnown = this.#streams.has(id) || this.#partials.has(id);
    if (isRequest ? isKnown || id % 2 === 1 : !isKnown) return;
    if (frame.type === "CANCEL" || frame.type === "ERROR") this.#drop(id);
    const whole = frame.data && frame.type !== "ERROR" ? this.#assemble(frame) : frame;
    if (!whole) return;
    if (this.#streams.has(id)) this.#streams.get(id)._receive(whole);
    else if (REQUESTS[whole.type]) this.#serve(whole);
  }

  /** The whole frame, or nothing as long as there is more of it to come. */
  #assemble(frame) {
    const isLast = !frame.follows || (frame.type === "PAYLOAD" && frame.complete);
    const known = this.#partials.get(frame.stream);
    if (isLast && !known) return frame;
    const partial = known ?? { opening: frame, metadata: [], data: [], size: 0 };
    this.#partials.set(frame.stream, partial);
    const size = Math.max(64, frame.size); // those with nothing in them count as well
    partial.size += size;
    this.#assembling += size;
    const { maxPayload } = this.#options;
    const isMixed = frame.metadata && partial.data.some((part) => part.length > 0);
    if (isMixed || partial.size > maxPayload || this.#assembling > 4 * maxPayload) {
      this.#giveUp(frame.stream, isMixed ? "metadata behind data" : `more than ${maxPayload} bytes in one payload`);
      return null;
    }
    if (frame.metadata) partial.metadata.push(frame.metadata);
    partial.data.push(frame.data);
    if (!isLast) return null;
    this.#drop(frame.stream);
    const complete = frame.complete || partial.opening.complete;
    const metadata = partial.metadata.length > 0 ? concat(partial.metadata) : null;
    return { ...partial.opening, next: true, complete, metadata, data: concat(partial.data) };
  }

  #drop(id) {
    this.#assembling -= this.#partials.get(id)?.size ?? 0;
    this.#partials.delete(id);
  }

  #giveUp(id, problem) {
    const error = new RSocketError("CANCELED", problem);
    this.#drop(id);
    const stream = this.#streams.get(id);
    if (stream) stream.cancel(error);
    else this._write({ type: "ERROR", stream: id, code: CODES.CANCELED, data: encoder.encode(problem) });
  }

  /** Answers a request of the service's. */
  #serve({ type, stream: id, n, complete, data, metadata }) {
    const handler = this.#options.responder?.[REQUESTS[type]];
    const payload = new Payload(data, metadata);
    if (type === "REQUEST_FNF") {
      Promise.resolve(payload).then(handler).catch(console.error);
      return;
    }
    const isChannel = type === "REQUEST_CHANNEL";
    const halves = { isRequester: false, isReading: isChannel, isWriting: true };
    const stream = new Stream(this, { type, ...halves }, {});
    stream.id = id;
    this.#streams.set(id, stream);
    if (!handler) return stream.fail(new RSocketError("REJECTED", "nothing is answered here"));
    if (this.#streams.size > this.#options.maxServed)
      return stream.fail(new RSocketError("REJECTED", "too many requests"));
    if (n > MAX_N) return stream.fail(new RSocketError("INVALID", "a request for too many"));
    stream._credit(n ?? 1);
    if (isChannel) {
      stream.granted = 1;
      stream._deliver(payload);
      if (complete) stream._receive({ type: "PAYLOAD", complete });
      else stream.request(32);
    }
    stream._answer(handler, payload);
  }
}

/** Connects; the promise is kept when the service has accepted, which with `reconnect` may take any number of attempts. */
export async function connect(url, options = {}) {
  const client = new Client(url, options);
  try {
    await client.ready(options.signal);
  } catch (error) {
    client.close(error);
    throw error;
  }
  return client;
}

// ---- Topics

/** Whether asking again would not help. */
function isFinal(error) {
  const { code, message } = error;
  if (!(error instanceof RSocketError) || code === "INVALID" || code === "CLOSED") return true;
  const final = /^(no topic|no disk|not permitted|permission ended|conflict|closed|overrun|began anew)/;
  return code === "REJECTED" && final.test(message);
}

/** Waits until something may be asked for again, after so many failures; throws the error where that would not help. */
async function again(client, error, failures, signal) {
  if (isFinal(error)) throw error;
  if (error.code !== "LOST") await unless(signal, sleep(pause(failures)));
  await client.ready(signal);
}

const randomId = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** A message of a topic, or what the service says between them: a gap, or that all there was has been sent. */
class Message extends Payload {
  constructor(payload, epoch) {
    super(payload.data, payload.metadata);
    Object.assign(this, { epoch, offset: null }, payload.meta());
    const { gap } = this;
    if (gap && gap.to === undefined) this.gap = { ...gap, reset: true };
  }
}

class Topic {
  #client;
  #entries = new Set(); // published and not acknowledged, in order
  #bytes = 0;
  #inFlight = 0;
  #isHalted = false;
  #failures = 0;

  constructor(client, name) {
    this.#client = client;
    this.name = name;
    this.outbox = { ...OUTBOX };
  }

  get waiting() {
    return this.#entries.size;
  }

  /** Publishes once, whatever becomes of connections: it waits in the outbox until it is acknowledged. */
  publish(data, { id = randomId(), ...options } = {}) {
    const payload = new Payload(data);
    const metadata = { [JSON_MIME]: { id, ...options } };
    const answer = deferred();
    const { messages, bytes } = this.outbox;
    if (this.#entries.size >= messages || this.#bytes + payload.data.length > bytes) {
      const full = `outbox full: ${this.#entries.size} messages, ${this.#bytes} bytes wait for their acknowledgement`;
      return Promise.reject(new RSocketError("FULL", full));
    }
    this.#bytes += payload.data.length;
    this.#entries.add({ data: payload.data, metadata, answer, isSent: false, since: null });
    this.#advance();
    return answer.promise;
  }

  /** An event of the moment: it is kept nowhere, and lost where there is no connection. */
  signal(data, options) {
    if (this.#client.state !== "connected") return;
    this.#client.fireAndForget(`topic.${this.name}`, data, {
      metadata: { [JSON_MIME]: { ...options, ephemeral: true } },
    });
  }

  #advance() {
    for (const entry of this.#entries) {
      if (this.#isHalted || this.#inFlight >= this.outbox.inFlight) return;
      if (!entry.isSent) this.#send(entry);
    }
  }

  async #send(entry) {
    entry.isSent = true;
    this.#inFlight += 1;
    let problem = null;
    try {
      const { data, metadata } = entry;
      const answer = await this.#client.request(`topic.${this.name}`, data, { metadata });
      this.#resolve(entry, () => entry.answer.resolve(answer.json()));
      this.#failures = 0;
    } catch (error) {
      problem = error;
      entry.isSent = false;
      if (error.code !== "LOST") entry.since ??= performance.now();
      const isOver = entry.since !== null && performance.now() - entry.since > this.outbox.patience;
      if (isFinal(error) || isOver) this.#resolve(entry, () => entry.answer.reject(error));
      else this.#isHalted = true;
    }
    this.#inFlight -= 1;
    if (this.#isHalted && this.#inFlight === 0) this.#resume(problem);
    this.#advance();
  }

  #resolve(entry, settle) {
    this.#entries.delete(entry);
    this.#bytes -= entry.data.length;
    settle();
  }

  /** Goes on in order, when all that were on their way have their outcome and it is time to. */
  async #resume(problem) {
    try {
      await again(this.#client, problem ?? new RSocketError("LOST", ""), (this.#failures += 1));
      this.#isHalted = false;
      this.#advance();
    } catch (error) {
      this.#isHalted = false;
      for (const entry of [...this.#entries]) this.#resolve(entry, () => entry.answer.reject(error));
    }
  }

  subscribe(options = {}) {
    return new Subscription(this.#client, this.name, options);
  }

  async join({ name, ...options }) {
    const room = new Room(this.#client, this, { name, receive: "messages", ...options });
    await room.started();
    return room;
  }

  async members(options = {}) {
    return (await this.#client.request(`presence.${this.name}`, options)).json();
  }

  async history({ after, before, ...options } = {}) {
    const at = positionOf(after ?? before);
    const side = at && (after ? { after: at.after } : { before: at.after });
    return (await this.#client.request(`history.${this.name}`, { ...options, epoch: at?.epoch, ...side })).json();
  }

  /** Who is there, and then who comes and goes; after a break `{ event: "reset" }`, and all of them again. */
  async *presence({ signal, ...options } = {}) {
    for (let failures = 1; ; failures += 1) {
      try {
        await this.#client.ready(signal);
        const events = this.#client.stream(`presence.${this.name}`, options, { signal, isMovable: true });
        for await (const event of events) {
          failures = 1;
          yield event.meta();
        }
        return;
      } catch (error) {
        await again(this.#client, error, failures, signal);
        yield { event: "reset" };
      }
    }
  }
}

/** A position as "EPOCH:OFFSET", or { epoch, offset }, as it goes over the wire. */
function positionOf(at) {
  if (at === undefined || at === null) return undefined;
  if (typeof at !== "string") return { epoch: at.epoch, after: at.offset ?? at.after };
  const [epoch, offset] = at.split(":");
  return { epoch, after: Number(offset) };
}

/** The messages of a topic, behind a position that moves when one is given out; it goes on there after every break. */
export class Subscription {
  #client;
  #name;
  #options;
  #window;
  #position;
  #epoch = null;
  #stream = null; // a promise of the stream that is read
  #failures = 0;
  #leaving = new AbortController();

  constructor(client, name, { from = "new", after, window, maxLag, signal, ...options }) {
    this.#client = client;
    this.#name = name;
    this.#position = positionOf(after);
    this.#options = { ...options, from, max_lag: maxLag, start: true };
    this.#window = window;
    signal?.addEventListener("abort", () => this.cancel());
    this.#reopen(null);
  }

  /** All that has to be kept to go on another day, as "EPOCH:OFFSET"; null before the service has answered. */
  get position() {
    return this.#position ? `${this.#position.epoch}:${this.#position.after}` : null;
  }

  started() {
    return this.#stream;
  }

  cancel() {
    this.#leaving.abort(new RSocketError("CLOSED", "the subscription was cancelled"));
  }

  #reopen(error) {
    this.#stream = this.#open(error);
    this.#stream.catch(() => {});
  }

  async #open(problem) {
    const { signal } = this.#leaving;
    for (let error = problem; ; ) {
      if (error) await again(this.#client, error, (this.#failures += 1), signal);
      else await this.#client.ready(signal);
      try {
        const options = { ...this.#options, from: this.#position ?? this.#options.from };
        const flow = { window: this.#window, signal, isMovable: true };
        const isJoin = options.receive !== undefined;
        const open = isJoin ? this.#client.channel : this.#client.stream;
        const stream = open.call(this.#client, `topic.${this.#name}`, options, flow);
        const { value } = await stream.next();
        const start = value?.meta()?.start;
        if (!start) throw new RSocketError("INVALID", "the first item does not say where the topic stands");
        this.#epoch = start.epoch;
        // Of what was dropped since a time a gap tells, behind this.
        if (!this.#options.from.since) this.#position ??= { epoch: start.epoch, after: start.next - 1 };
        stream.on({ error: (reason) => isFinal(reason) || this.#reopen(reason) });
        return stream;
      } catch (reason) {
        error = reason;
      }
    }
  }

  async next() {
    while (!this.#leaving.signal.aborted) {
      const opened = this.#stream;
      try {
        const { value, done } = await (await opened).next();
        if (done) break;
        const message = this.#receive(value);
        if (message) return { value: message, done: false };
      } catch (error) {
        if (this.#leaving.signal.aborted || error.code === "CLOSED") break;
        if (opened === this.#stream) throw error; // it was not opened again
      }
    }
    return { value: undefined, done: true };
  }

  return() {
    this.cancel();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  /** The message, unless it was given out before. */
  #receive(item) {
    const message = new Message(item, this.#epoch);
    this.#failures = 0;
    const { gap, epoch, offset } = message;
    if (gap?.reset) this.#moveTo(epoch, message.base - 1);
    else if (gap) this.#moveTo(epoch, gap.to);
    else if (offset !== null) {
      if (this.#position?.epoch === epoch && this.#position.after >= offset) return null;
      this.#moveTo(epoch, offset);
    }
    return message;
  }

  #moveTo(epoch, after) {
    this.#epoch = epoch;
    this.#position = { epoch, after };
  }

  async _say(metadata) {
    const stream = await this.#stream;
    if (await stream.ready()) stream.send(null, { metadata });
  }

  _change(options) {
    Object.assign(this.#options, options);
  }
}

/** A member of a topic under a name: its messages, and the way to publish there. */
export class Room extends Subscription {
  #topic;

  constructor(client, topic, options) {
    super(client, topic.name, options);
    this.#topic = topic;
    this.name = options.name;
  }

  send(data, options) {
    return this.#topic.publish(data, { from: this.name, ...options });
  }

  /** Says this of itself from now on, in presence. */
  update(info) {
    this._change({ info: info ?? undefined });
    return this._say({ [JSON_MIME]: { info } });
  }

  leave() {
    this.cancel();
  }
}

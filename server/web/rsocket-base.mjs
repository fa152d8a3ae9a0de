// What rsocket.mjs and its topics stand on: errors, bytes, metadata, payloads, frames, and waiting.

export const MAX_N = 0x7fffffff;
const FRAGMENT = 64 * 1024; // bytes of a frame that is sent: larger payloads are cut

export const CODES = {
  INVALID_SETUP: 0x001, UNSUPPORTED_SETUP: 0x002, REJECTED_SETUP: 0x003, REJECTED_RESUME: 0x004,
  CONNECTION_ERROR: 0x101, CONNECTION_CLOSE: 0x102,
  APPLICATION_ERROR: 0x201, REJECTED: 0x202, CANCELED: 0x203, INVALID: 0x204,
};
const nameIn = (table, value) => Object.keys(table).find((name) => table[name] === value) ?? `0x${value.toString(16)}`;

export class RSocketError extends Error {
  name = "RSocketError";

  /** The code is one of CODES by its name, "0x301" for one of an application, or LOST, CLOSED, TIMEOUT or FULL. */
  constructor(code, message) {
    super(message);
    this.code = typeof code === "number" ? nameIn(CODES, code) : code;
  }
}
export const lost = (why) => new RSocketError("LOST", why);

// ---- Bytes, metadata and payloads

const [encoder, decoder] = [new TextEncoder(), new TextDecoder()];
const utf8 = (bytes) => decoder.decode(bytes);
export const uint = (value, width) => Uint8Array.from({ length: width }, (_, i) => value / 256 ** (width - 1 - i));

export function bytesOf(data) {
  if (ArrayBuffer.isView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  if (data instanceof ArrayBuffer) return new Uint8Array(data);
  if (data instanceof Payload) return data.data;
  return encoder.encode(typeof data === "string" ? data : data == null ? "" : JSON.stringify(data));
}

function concat(parts) {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}

/** Bytes behind their length, which has so many bytes itself. */
export function counted(width, bytes) {
  if (bytes.length >= 256 ** width) throw new RSocketError("INVALID", `${bytes.length} bytes are too many here`);
  return concat([uint(bytes.length, width), bytes]);
}

const [ROUTING, AUTHENTICATION] = ["message/x.rsocket.routing.v0", "message/x.rsocket.authentication.v0"];
/** Of the types with a number of their own those that one meets; others are numbers here, as "0x1". */
const MIMES = {
  "application/cbor": 0x01, "application/json": 0x05, "application/octet-stream": 0x06, "text/plain": 0x21,
  "message/x.rsocket.mime-type.v0": 0x7a, "message/x.rsocket.accept-mime-types.v0": 0x7b, [AUTHENTICATION]: 0x7c,
  "message/x.rsocket.tracing-zipkin.v0": 0x7d, [ROUTING]: 0x7e, "message/x.rsocket.composite-metadata.v0": 0x7f,
};

function entry(mime, value) {
  const name = bytesOf(mime);
  if (name.length < 1 || name.length > 128) throw new RSocketError("INVALID", `"${mime}" is no type of 1 to 128 bytes`);
  const head = MIMES[mime] ? [uint(0x80 | MIMES[mime], 1)] : [uint(name.length - 1, 1), name];
  return concat([...head, counted(3, bytesOf(value))]);
}

function credentials({ bearer, user, password }) {
  if (bearer !== undefined) return concat([uint(0x81, 1), bytesOf(bearer)]);
  return concat([uint(0x80, 1), counted(2, bytesOf(user)), bytesOf(password)]);
}

/** A payload of data and metadata: all bytes of these, or entries of composite metadata, the route first. */
export function payloadOf(data, { metadata, auth } = {}, route = null) {
  if (data instanceof Payload && !metadata && !auth && !route) return data;
  if (metadata instanceof Uint8Array) return new Payload(data, metadata);
  const entries = Object.entries(metadata ?? {}).map(([mime, value]) => entry(mime, value));
  if (auth) entries.unshift(entry(AUTHENTICATION, credentials(auth)));
  if (route) entries.unshift(entry(ROUTING, counted(1, bytesOf(route))));
  return new Payload(data, entries.length > 0 ? concat(entries) : null);
}

export class Payload {
  constructor(data, metadata = null) {
    this.data = bytesOf(data);
    this.metadata = metadata;
  }

  text() { return utf8(this.data); }
  json() { return JSON.parse(this.text()); }
  /** The value of the JSON entry of composite metadata, or null. */
  meta() { return JSON.parse(utf8(this.#entry("application/json") ?? bytesOf("null"))); }
  /** The route of a request, or null. */
  route() {
    const tags = this.#entry(ROUTING);
    return tags ? utf8(tags.subarray(1, 1 + tags[0])) : null;
  }
  #entry(mime) { return this.entries().find(([name]) => name === mime)?.[1]; }

  /** The entries of composite metadata, as pairs of a MIME type and bytes. */
  entries() {
    const bytes = this.metadata ?? new Uint8Array();
    const found = [];
    for (let at = 0; at < bytes.length; ) {
      const [head, name] = [bytes[at], at + 1];
      const length = head & 0x80 ? name : name + head + 1;
      const start = length + 3;
      at = start + (bytes[length] << 16 | bytes[length + 1] << 8 | bytes[length + 2]);
      if (start > bytes.length || at > bytes.length) throw new RSocketError("INVALID", "the metadata are cut off");
      const mime = head & 0x80 ? nameIn(MIMES, head & 0x7f) : utf8(bytes.subarray(name, length));
      found.push([mime, bytes.subarray(start, at)]);
    }
    return found;
  }
}

// ---- Frames

/** The types: their codes, their flags from 0x80 down, the fields behind the header, and how long metadata are. */
export const FRAMES = {
  SETUP: { code: 0x01, flags: ["resume", "lease"], metadata: "counted" },
  LEASE: { code: 0x02, fields: ["ttl", "n"] },
  KEEPALIVE: { code: 0x03, flags: ["respond"], fields: ["position"] },
  REQUEST_RESPONSE: { code: 0x04, flags: ["follows"], metadata: "counted", handler: "request" },
  REQUEST_FNF: { code: 0x05, flags: ["follows"], metadata: "counted", handler: "fireAndForget" },
  REQUEST_STREAM: { code: 0x06, flags: ["follows"], fields: ["n"], metadata: "counted", handler: "stream" },
  REQUEST_CHANNEL: {
    code: 0x07, flags: ["follows", "complete"], fields: ["n"], metadata: "counted", handler: "channel",
  },
  REQUEST_N: { code: 0x08, fields: ["n"] },
  CANCEL: { code: 0x09 },
  PAYLOAD: { code: 0x0a, flags: ["follows", "complete", "next"], metadata: "counted" },
  ERROR: { code: 0x0b, fields: ["code"] },
  METADATA_PUSH: { code: 0x0c, metadata: "rest", handler: "push" },
  RESUME: { code: 0x0d },
  RESUME_OK: { code: 0x0e, fields: ["position"] },
};
const TYPES = [];
for (const [name, { code }] of Object.entries(FRAMES)) TYPES[code] = name;
const widthOf = (field) => (field === "position" ? 8 : 4);
/** Whether a frame counts for the positions of a session. */
export const isTracked = ({ type, stream }) => stream !== 0 && FRAMES[type]?.code >= 0x04 && FRAMES[type].code <= 0x0b;

/** The bytes of a frame, which is told its flags and its size. */
export function encode(frame) {
  const { code, flags = [], fields = [], metadata: place } = FRAMES[frame.type];
  frame.flags = flags.reduce((all, name, i) => (frame[name] ? all | 0x80 >> i : all), frame.metadata ? 0x100 : 0);
  const parts = [uint(frame.stream, 4), uint(code << 10 | frame.flags, 2), ...(frame.head ?? [])];
  for (const name of fields) parts.push(uint(frame[name], widthOf(name)));
  if (frame.metadata) parts.push(place === "counted" ? counted(3, frame.metadata) : frame.metadata);
  const bytes = concat([...parts, frame.data ?? new Uint8Array()]);
  frame.size = bytes.length;
  return bytes;
}

/** The frame of these bytes. Throws where a connection cannot go on with it. */
export function decode(bytes) {
  if (bytes.length < 6 || bytes.length > 0xffffff) throw new Error(`a frame of ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const [stream, word] = [view.getUint32(0), view.getUint16(4)];
  if (stream > MAX_N) throw new Error("a stream's number with its first bit set");
  const type = TYPES[word >> 10] ?? `0x${(word >> 10).toString(16)}`;
  const frame = { type, stream, flags: word & 0x3ff, size: bytes.length, metadata: null };
  try {
    return readBody(frame, view, bytes);
  } catch (error) {
    if (frame.flags & 0x200) return { ...frame, type: "IGNORED" };
    throw new Error(`a frame ${type} that cannot be read: ${error.message}`);
  }
}

function readBody(frame, view, bytes) {
  const { flags = [], fields = [], metadata: place } = FRAMES[frame.type]; // throws where the type is unknown
  if (frame.type === "SETUP") return frame; // no service sends one
  flags.forEach((name, i) => (frame[name] = (frame.flags & 0x80 >> i) !== 0));
  let at = 6;
  for (const name of fields) {
    frame[name] = widthOf(name) === 8 ? Number(view.getBigUint64(at)) : view.getUint32(at); // throws behind the end
    at += widthOf(name);
  }
  if (place === "counted" && frame.flags & 0x100) {
    const start = at + 3;
    at = start + (view.getUint16(at) << 8 | view.getUint8(at + 2));
    if (at > bytes.length) throw new RangeError("its metadata are longer than it is");
    frame.metadata = bytes.subarray(start, at);
  }
  frame[place === "rest" ? "metadata" : "data"] = bytes.subarray(at);
  if (frame.type === "ERROR") frame.text = utf8(frame.data);
  return frame;
}

/** A frame as as many as its payload needs: all metadata before any data, and completion with the last. */
export function* cut({ metadata, data = new Uint8Array(), complete, ...opening }) {
  const split = metadata?.length ?? 0;
  const room = FRAGMENT - 13; // behind the longest header
  for (let at = 0, follows = true; follows; at += room) {
    follows = at + room < split + data.length;
    const part = at === 0 ? opening : { type: "PAYLOAD", stream: opening.stream, next: true };
    const isBehind = !metadata || (at > 0 && at >= split);
    yield {
      ...part, follows, complete: complete && !follows, metadata: isBehind ? null : metadata.subarray(at, at + room),
      data: data.subarray(Math.max(0, at - split), Math.max(0, at + room - split)),
    };
  }
}

/** Puts together what `cut` cuts, within bounds for each payload and for all of a connection. */
export class Fragments {
  #partials = new Map(); #size = 0; // by stream, and the bytes of all

  constructor(maxPayload) {
    this.maxPayload = maxPayload;
  }

  has(id) { return this.#partials.has(id); }
  drop(id) {
    this.#size -= this.#partials.get(id)?.size ?? 0;
    return this.#partials.delete(id);
  }
  clear() {
    this.#partials.clear();
    this.#size = 0;
  }

  /** The whole of which this is the last fragment; null as long as there is more to come. Throws beyond a bound. */
  add(frame) {
    const { stream: id, metadata, data, type, follows, complete } = frame;
    const isLast = !follows || (type === "PAYLOAD" && complete);
    const known = this.#partials.get(id);
    if (isLast && !known) return frame;
    const partial = known ?? { opening: frame, metadata: [], data: [], size: 0 };
    const size = Math.max(known ? 64 : 1_024, frame.size); // those with nothing in them count as well
    const isMixed = metadata && partial.data.some((part) => part.length > 0);
    if (isMixed || partial.size + size > this.maxPayload || this.#size + size > 4 * this.maxPayload) {
      this.drop(id);
      const problem = isMixed ? "metadata behind data" : `a payload of more than ${this.maxPayload} bytes`;
      throw new RSocketError("CANCELED", problem);
    }
    this.#partials.set(id, partial);
    this.#size += size;
    partial.size += size;
    partial.data.push(data);
    if (metadata) partial.metadata.push(metadata);
    if (!isLast) return null;
    this.drop(id);
    const all = { data: concat(partial.data), metadata: partial.metadata.length > 0 ? concat(partial.metadata) : null };
    return { ...partial.opening, ...all, next: true, complete: complete || partial.opening.complete };
  }
}

// ---- Waiting, and what is not ours

/** Calls what was given by an application: what that throws is reported as not caught, and stops nothing here. */
export function call(given, ...args) {
  try {
    return given?.(...args);
  } catch (error) {
    return void Promise.reject(error);
  }
}

/** A promise, and what settles it. */
export function deferred() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  made.promise.catch(() => {}); // nobody need wait for it
  return made;
}

/** The promise, unless the signal comes first. */
export function unless(signal, promise) {
  const aborted = deferred();
  const abort = () => aborted.reject(signal.reason);
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort);
  return Promise.race([aborted.promise, promise]).finally(() => signal?.removeEventListener("abort", abort));
}

/** Milliseconds, at most a bound that doubles with each failure, so that many clients do not come at once. */
export function pause(failures, { first = 100, longest = 15_000 } = {}) {
  return Math.random() * Math.min(longest, first * 2 ** (failures - 1));
}

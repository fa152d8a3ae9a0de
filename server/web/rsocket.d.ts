// The types of rsocket.mjs; the compiler wants them beside it as rsocket.d.mts. docs/javascript.md says how it is used.

/** What a message may be: text, bytes, nothing, or anything that JSON can say. */
export type Data =
  | string
  | Uint8Array
  | ArrayBuffer
  | ArrayBufferView
  | Payload
  | object
  | number
  | boolean
  | null
  | undefined;

/** Metadata of a request: entries of composite metadata by their MIME type, or all of the bytes. */
export type Metadata = Uint8Array | { [mime: string]: Data };

export type Credentials = { bearer: string } | { user: string; password?: string };

/** The codes of the wire by their names. */
export const CODES: { readonly [name: string]: number };

export class RSocketError extends Error {
  constructor(code: string | number, message: string);
  /**
   * The name of a code of the wire (`REJECTED`, `APPLICATION_ERROR`, `INVALID`, `CANCELED`, `REJECTED_SETUP`, …), of an
   * application as `0x301`, or one of this module: `LOST` (the connection was lost; the other side may have done it),
   * `CLOSED` (the client was closed), `TIMEOUT`, `FULL` (a limit of this side).
   */
  readonly code: string;
}

export class Payload {
  constructor(data: Data, metadata?: Uint8Array | null);
  readonly data: Uint8Array;
  readonly metadata: Uint8Array | null;
  text(): string;
  json(): any;
  /** The JSON entry of composite metadata, or null. */
  meta(): any;
  /** The route of a request that came, or null. */
  route(): string | null;
  /** The entries of composite metadata: a MIME type, and bytes. */
  entries(): [mime: string, value: Uint8Array][];
}

/** A frame as `onframe` is told of it. Fields that a type does not have are not there. */
export interface Frame {
  /** As the specification writes it: `REQUEST_STREAM`, `PAYLOAD`, …; `IGNORED` if it may be ignored and is. */
  readonly type: string;
  /** The stream, 0 for the connection. */
  readonly stream: number;
  /** The ten bits of flags. */
  readonly flags: number;
  /** Bytes, header included. */
  readonly size: number;
  /** Of REQUEST_N, REQUEST_STREAM, REQUEST_CHANNEL and LEASE. */
  readonly n?: number;
  /** Of LEASE, in milliseconds. */
  readonly ttl?: number;
  readonly data?: Uint8Array;
  readonly metadata?: Uint8Array | null;
  /** Of ERROR. */
  readonly code?: number;
  readonly text?: string;
  /** Of KEEPALIVE and RESUME_OK. */
  readonly position?: number;
  readonly respond?: boolean;
  readonly follows?: boolean;
  readonly complete?: boolean;
  readonly next?: boolean;
}

export type State = "connecting" | "connected" | "reconnecting" | "closed";

/** Answers to what the other side asks. What is thrown is told as an error; an RSocketError keeps its code. */
export interface Responder {
  request?(payload: Payload, stream: Stream): Data | Promise<Data>;
  fireAndForget?(payload: Payload): void | Promise<void>;
  stream?(payload: Payload, stream: Stream): Iterable<Data> | AsyncIterable<Data> | Promise<AsyncIterable<Data>>;
  /** The stream gives what comes, the first payload included. */
  channel?(
    first: Payload,
    stream: Stream,
  ): Iterable<Data> | AsyncIterable<Data> | Promise<AsyncIterable<Data> | void> | void;
  push?(metadata: Uint8Array): void;
}

export interface ConnectOptions {
  /** Who one is; a function is asked anew for each connection. */
  auth?: Credentials | (() => Credentials | Promise<Credentials>);
  /** Milliseconds between KEEPALIVEs; 20,000. */
  keepalive?: number;
  /** Milliseconds of silence after which the connection is lost; 90,000. */
  lifetime?: number;
  /** Milliseconds that an attempt may take; 10,000. */
  connectTimeout?: number;
  /** `application/json`. */
  dataMime?: string;
  /** Composite metadata. */
  metadataMime?: string;
  /** Goes with SETUP. */
  setup?: { data?: Data; metadata?: Metadata };
  /** Connects again when the connection is lost; pauses in milliseconds, by default 100 at first and 15,000 at most. */
  reconnect?: boolean | { first?: number; longest?: number };
  /** Resumes sessions: keeps so many bytes (1 MiB) for so many milliseconds (60,000). */
  resume?: boolean | { window?: number; bytes?: number };
  /** Sends requests under leases alone. */
  lease?: boolean;
  responder?: Responder;
  onstate?(state: State, why: Error | null, nextTryAt: number | null): void;
  onframe?(direction: "in" | "out", frame: Frame): void;
  /** Gives up connecting. */
  signal?: AbortSignal;
  /** The class WebSocket: of the package `ws`, in Node.js before 22. */
  WebSocket?: any;
  /** Bytes of a payload that comes in fragments; 16 MiB. */
  maxPayload?: number;
  /** Requests that may wait for a connection, a lease or room in the buffer; 1,024. */
  maxWaiting?: number;
  /** Streams above which requests of the other side are rejected; 256. */
  maxServed?: number;
}

export interface RequestOptions {
  metadata?: Metadata;
  auth?: Credentials;
  signal?: AbortSignal;
  /** Milliseconds until it is cancelled. */
  timeout?: number;
}

export interface StreamHandlers {
  /** An item. Where credit is automatic, a promise that is returned is waited for before more is asked for. */
  next?(item: Payload, stream: Stream): unknown;
  complete?(): void;
  error?(error: Error): void;
  /** `granted` or `received` has changed. */
  credit?(stream: Stream): void;
  /** The other side does not want more of what is sent. */
  cancelled?(stream: Stream): void;
  /** `sendable` has risen. */
  onsendable?(stream: Stream): void;
}

export interface StreamOptions extends RequestOptions, StreamHandlers {
  /** So many items at first, and then as many as `request` says: credit by hand. 0 begins with the first `request`. */
  n?: number;
  /** Automatic credit: at most so many items have been asked for and not been taken; 32. */
  window?: number;
}

/** A stream or a channel. It iterates over what it receives, once. */
export class Stream implements AsyncIterableIterator<Payload> {
  private constructor();
  /** Its number on the wire; 0 before it has left. */
  readonly id: number;
  /** Items that have been asked for, in all. */
  readonly granted: number;
  /** Items that have come. */
  readonly received: number;
  on(handlers: StreamHandlers): this;
  request(n: number): void;
  cancel(error?: Error): void;
  next(): Promise<IteratorResult<Payload>>;
  return(): Promise<IteratorResult<Payload>>;
  [Symbol.asyncIterator](): this;

  // Of channels.
  /** How many items may be sent now. */
  readonly sendable: number;
  onsendable: ((stream: Stream) => void) | null;
  /** Waits until something may be sent; false if nothing can be any more. */
  ready(): Promise<boolean>;
  /** Throws `FULL` if nothing is `sendable`. */
  send(data: Data, options?: { metadata?: Metadata }): void;
  /** Sends all of these, each when there is credit for it, and completes. */
  pump(items: Iterable<Data> | AsyncIterable<Data>): Promise<void>;
  complete(): void;
  fail(error: Error): void;
}

/** `"EPOCH:OFFSET"`, as `position` gives it, or its parts. */
export type Position = string | { epoch: string; offset: number } | { epoch: string; after: number };

export interface Published {
  topic: string;
  epoch: string;
  offset: number;
  /** It had been published already, under the same id. */
  duplicate?: boolean;
  synced?: boolean;
}

export interface PublishOptions {
  /** An idempotency key; by default a random one. */
  id?: string;
  from?: string;
  key?: string;
  delete?: boolean;
  expect?: number;
  close?: boolean;
  headers?: { [name: string]: unknown };
}

export interface SubscribeOptions {
  from?: "new" | "start" | { last: number } | { since: string } | { epoch: string; after: number };
  /** Behind this position; counts before `from`. */
  after?: Position | null;
  lag?: "gap" | "latest" | "close" | "conflate";
  maxLag?: number;
  /** `false`: without what the same connection has published. */
  echo?: boolean;
  /** Says with `{ live }` that all there was has been sent. */
  live?: boolean;
  meta?: "full" | "offset";
  token?: string;
  window?: number;
  signal?: AbortSignal;
}

export interface JoinOptions extends SubscribeOptions {
  name: string;
  /** JSON that presence shows. */
  info?: unknown;
  presence?: boolean;
}

/** A message, or something that is told between messages: then `offset` is null. */
export interface Message extends Payload {
  readonly epoch: string;
  readonly offset: number | null;
  /** Milliseconds since 1970. */
  readonly time?: number;
  readonly from?: string;
  readonly key?: string;
  readonly headers?: { [name: string]: unknown };
  readonly deleted?: boolean;
  /** Messages that were passed over, with `lag: "conflate"`. */
  readonly skipped?: number;
  readonly ephemeral?: boolean;
  readonly live?: { offset: number };
  /** Messages that are lost: those from `from` to `to`; with `reset`, all behind `from` of `gap.epoch`. */
  readonly gap?: { from: number; to?: number; exact?: boolean; reset?: boolean; epoch?: string };
}

/** The messages of a topic, across connections: after a break it goes on behind the last one that was given out. */
export class Subscription implements AsyncIterableIterator<Message> {
  /** `"EPOCH:OFFSET"` of the last message that was given out: `after` of the next subscription. */
  readonly position: string | null;
  /** Waits until the service has it. */
  started(): Promise<unknown>;
  cancel(): void;
  next(): Promise<IteratorResult<Message>>;
  return(): Promise<IteratorResult<Message>>;
  [Symbol.asyncIterator](): this;
}

export class Room extends Subscription {
  readonly name: string;
  /** Publishes under its name, as `Topic.publish` does. */
  send(data: Data, options?: PublishOptions): Promise<Published>;
  /** Says this of itself from now on, in presence. */
  update(info: unknown): Promise<void>;
  leave(): void;
}

export interface Member {
  name: string;
  sessions: number;
  since?: number;
  info?: unknown;
  away?: boolean;
}

export interface PresenceEvent extends Partial<Member> {
  /** `reset`: all are told again. */
  event: "reset" | "here" | "all" | "join" | "leave" | "update" | "away" | "back" | (string & {});
  total?: number;
}

export interface HistoryPage {
  topic?: string;
  epoch: string;
  base: number;
  head: number;
  messages: {
    offset: number;
    time?: number;
    from?: string;
    key?: string;
    headers?: { [name: string]: unknown };
    deleted?: boolean;
    /** Of these, that which the message is. */
    data?: any;
    text?: string;
    base64?: string;
  }[];
  /** Where the next page begins, if there is more. */
  next?: { epoch: string; before?: number; after?: number };
  gap?: { from: number; to: number };
}

export class Topic {
  private constructor();
  readonly name: string;
  /** The limits of its outbox; a publish beyond them fails with `FULL`. */
  outbox: { messages: number; bytes: number; inFlight: number; patience: number };
  /** Messages that are published and not acknowledged. */
  readonly waiting: number;
  publish(data: Data, options?: PublishOptions): Promise<Published>;
  /** An event of the moment, which is kept nowhere. */
  signal(data: Data, options?: { from?: string; key?: string; headers?: { [name: string]: unknown } }): void;
  subscribe(options?: SubscribeOptions): Subscription;
  join(options: JoinOptions): Promise<Room>;
  /** Who is there, and then who comes and goes, across connections. */
  presence(options?: { away?: boolean; each?: boolean; signal?: AbortSignal }): AsyncGenerator<PresenceEvent, void>;
  /** A page of who is there now. */
  members(options?: { limit?: number; after?: string; count?: boolean }): Promise<{
    members: Member[];
    total: number;
    next?: string;
  }>;
  history(options?: {
    after?: Position;
    before?: Position;
    limit?: number;
    max_bytes?: number;
    reverse?: boolean;
  }): Promise<HistoryPage>;
}

export class Client {
  constructor(url: string, options?: ConnectOptions);
  readonly url: string;
  readonly state: State;
  /** Kept when the client is closed, with the reason. */
  readonly closed: Promise<Error>;
  /** Waits for a connection; rejects when there will be none. */
  ready(signal?: AbortSignal): Promise<void>;
  request(route: string | null, data?: Data, options?: RequestOptions): Promise<Payload | null>;
  fireAndForget(route: string | null, data?: Data, options?: RequestOptions): void;
  /** METADATA_PUSH: all of the bytes, a text, or entries of composite metadata. */
  push(metadata: Metadata | string): void;
  stream(route: string | null, data?: Data, options?: StreamOptions): Stream;
  /** With `last`, nothing but the first is sent. */
  channel(route: string | null, first?: Data, options?: StreamOptions & { last?: boolean }): Stream;
  topic(name: string): Topic;
  close(why?: Error): Promise<Error>;
}

/** Connects; kept when the service has accepted, which with `reconnect` may take any number of attempts. */
export function connect(url: string, options?: ConnectOptions): Promise<Client>;

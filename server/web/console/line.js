// The line to the service: one connection that all screens share, who signed in on it, and the figures that come by it each second.
// What is asked over it goes by `line.peer` (a connection of rsocket.mjs); a screen that needs one of its own calls `dial`.
import { connect } from "/rsocket.mjs";

/** Seconds of figures that are kept. */
const KEPT = 900;
/** Milliseconds until what was refused at once is asked again. */
const PAUSE = 5000;

export const line = {
  /** connecting · connected · reconnecting · closed */
  state: "connecting",
  /** Why it is not connected, in the words of whoever said so. */
  why: "",
  /** When it is tried again, and since when it is lost. */
  retryAt: 0,
  lostAt: 0,
  peer: null,
  /** { user, password } or { bearer }; here and nowhere else. */
  auth: null,
  /** The user as the service names them, and what that one may do with it as a whole: console, metrics, admin. */
  subject: "",
  may: new Set(),
  /** The service wants to know who this is. */
  asks: false,
  /** Milliseconds of the last KEEPALIVE there and back. */
  roundTrip: null,
  /** The latest answer of the route `status`, those before as {time, status}, and what was said instead of it. */
  status: null,
  samples: [],
  refusal: null,
  /** { from, until } while the service drains. */
  drain: null,
  /** The addresses that the service listens on. */
  addresses: [],
};
const hearers = new Set();
let url,
  attempt = 0,
  isFollowed = false;

/** Calls f whenever something of the line has changed: "state", "status" or "drain". Gives what ends that. */
export function hear(f) {
  hearers.add(f);
  return () => hearers.delete(f);
}
function tell(what) {
  for (const f of [...hearers]) f(what);
}

/** The shared connection, as soon as it stands. */
export const ready = () =>
  new Promise((resolve) => {
    const stands = () => line.state === "connected" && line.peer && (off(), resolve(line.peer));
    const off = hear(stands);
    stands();
  });
/** Another connection to the service, with the credentials of this page. */
export const dial = (options = {}) =>
  connect(url, { auth: line.auth ?? undefined, reconnect: true, keepalive: 10_000, lifetime: 30_000, ...options });
export const address = () => url;

/** An answer over HTTP, with the credentials of this page: a text; an Error with the service's words where it refuses. */
export async function ask(path, init = {}) {
  const { auth } = line;
  const headers = { accept: "application/json", ...init.headers };
  if (auth?.bearer) headers.authorization = `Bearer ${auth.bearer}`;
  else if (auth) headers.authorization = `Basic ${base64(`${auth.user}:${auth.password}`)}`;
  if (init.method === "POST") headers["content-type"] ??= "application/json";
  // The page asks for a password itself, and no browser for it.
  const response = await fetch(path, { credentials: "omit", cache: "no-store", ...init, headers });
  const text = await response.text();
  if (response.ok) return text;
  let why = text.trim() || `HTTP ${response.status}`;
  try {
    const { error } = JSON.parse(text);
    why = `${error.code}: ${error.message}`;
  } catch {} // It is text then.
  throw Object.assign(new Error(why), { status: response.status });
}
/** The same below /api, as JSON. */
export async function api(path, init) {
  const text = await ask(`/api${path}`, init);
  return text && JSON.parse(text);
}
const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

/** Connects, and again whenever that is lost: as somebody else, if it is said as whom. */
export async function open(auth = line.auth) {
  const mine = ++attempt;
  line.peer?.close();
  isFollowed = false;
  const state = line.lostAt ? "reconnecting" : "connecting";
  Object.assign(line, { auth, state, asks: false, why: "", peer: null, drain: null, retryAt: 0 });
  tell("state");
  const isMine = () => mine === attempt;
  try {
    const about = await api("/console");
    if (!isMine()) return;
    Object.assign(line, { subject: about.subject ?? "", may: new Set(about.may) });
    url = `${location.protocol.replace("http", "ws")}//${location.host}${about.websockets[0] ?? "/rsocket"}`;
    if (!line.addresses.length) listening();
    const peer = await dial({
      setup: { metadata: { "message/x.rsock.features.v0": "drain" } },
      onstate: (...news) => isMine() && changed(...news),
      onframe: (...frame) => isMine() && seen(...frame),
    });
    if (!isMine()) return peer.close();
    line.peer = peer;
    changed(peer.state);
  } catch (error) {
    if (isMine()) changed("closed", error);
  }
}

/** Asks where the service listens: it says so on "/" to those who are no browsers. */
async function listening() {
  const response = await fetch("/", { headers: { accept: "text/plain" }, credentials: "omit" }).catch(() => null);
  const found = (await response?.text())?.match(/\b(?:(?:tcp|tls|wss?):\/\/|unix:)[^\s,"<>]+/g) ?? [];
  line.addresses = [...new Set(found.map((uri) => uri.replace(/\.$/, "")))];
  tell("state");
}

function changed(state, why, retryAt) {
  const was = line.state;
  line.state = state;
  line.why = why?.message ?? "";
  line.retryAt = retryAt ?? 0;
  if (state === "connected") {
    line.lostAt = 0;
    if (was !== state) line.drain = null;
    // It is told of before the connection is there; then this is called once more.
    if (line.peer && !isFollowed) follow(line.peer);
  } else {
    isFollowed = false;
    line.lostAt ||= Date.now();
    line.roundTrip = null;
    line.asks = [401, 403].includes(why?.status) || (why?.code === "REJECTED_SETUP" && /authentication/.test(line.why));
    // What was refused at once is asked again by us: the service may have been full, or not there yet.
    if (state === "closed" && !line.asks) {
      const mine = attempt;
      line.retryAt = Date.now() + PAUSE;
      setTimeout(() => mine === attempt && open(), PAUSE);
    }
  }
  tell("state");
}

/** Takes the figures that come each second. */
async function follow(peer) {
  isFollowed = true;
  line.refusal = null;
  try {
    for await (const item of peer.stream("status", { interval_ms: 1000 }, { window: 4 })) {
      if (peer !== line.peer) return;
      line.status = item.json();
      line.samples.push({ time: Date.now(), status: line.status });
      if (line.samples.length > KEPT) line.samples.shift();
      tell("status");
    }
  } catch (error) {
    if (peer !== line.peer || line.state !== "connected") return;
    line.refusal = error;
    tell("status");
  }
}

let asked = 0;
function seen(direction, frame) {
  if (frame.type === "KEEPALIVE") {
    if (direction === "out") asked = performance.now();
    else if (asked) {
      line.roundTrip = performance.now() - asked;
      asked = 0;
      tell("state");
    }
  } else if (frame.type === "METADATA_PUSH" && direction === "in") {
    const times = /requests (\d+) streams (\d+)/.exec(new TextDecoder().decode(frame.metadata));
    if (!times) return;
    line.drain = { from: Date.now(), until: Date.now() + Number(times[2]) };
    tell("drain");
  }
}

// The line to the service: one connection that all screens share, who signed in on it, and the figures that come by it each second.
// What is asked over it goes by `line.peer` (a connection of rsocket.mjs); a screen that needs one of its own calls `dial`.
import { connect } from "/rsocket.mjs";

/** Seconds of figures that are kept. */
const KEPT = 900;

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
  auth: undefined,
  subject: "",
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
  connect(url, { auth: line.auth, reconnect: true, keepalive: 10_000, lifetime: 30_000, ...options });
export const address = () => url;

/** What HTTP answers, with the credentials of this page: a text; an Error with the service's words where it refuses. */
export async function ask(path, init = {}) {
  const { auth } = line,
    headers = { accept: "application/json", ...init.headers };
  if (auth?.bearer) headers.authorization = `Bearer ${auth.bearer}`;
  else if (auth)
    headers.authorization = `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode(`${auth.user}:${auth.password}`)))}`;
  if (init.method === "POST") headers["content-type"] ??= "application/json";
  const response = await fetch(path, { ...init, headers });
  const text = await response.text();
  if (response.ok) return text;
  let why = text.trim() || response.statusText;
  try {
    const { error } = JSON.parse(text);
    why = error?.code ? `${error.code}: ${error.message}` : (error ?? why);
  } catch {} // It is text then.
  throw Object.assign(new Error(why), { status: response.status });
}
/** The same below /api, as JSON. */
export async function api(path, init) {
  const text = await ask(`/api${path}`, init);
  return text && JSON.parse(text);
}

/** Who a token says its bearer is; the service alone checks it. */
function named(auth) {
  if (!auth) return "";
  if (auth.user) return auth.user;
  try {
    return String(JSON.parse(atob(auth.bearer.split(".")[1].replace(/-/g, "+").replace(/_/g, "/"))).sub ?? "");
  } catch {
    return "";
  }
}

export async function open(auth = line.auth) {
  const mine = ++attempt;
  line.peer?.close();
  isFollowed = false;
  Object.assign(line, {
    auth,
    subject: named(auth),
    state: line.lostAt ? "reconnecting" : "connecting",
    why: "",
    peer: null,
    drain: null,
    retryAt: 0,
  });
  tell("state");
  url ??= await where();
  if (mine !== attempt) return;
  try {
    line.peer = await dial({
      onstate: (...news) => mine === attempt && changed(mine, ...news),
      onframe: (...frame) => mine === attempt && seen(...frame),
    });
    if (mine !== attempt) line.peer.close();
    else changed(mine, line.peer.state);
  } catch (error) {
    if (mine === attempt) changed(mine, "closed", error);
  }
}

/** Where RSocket is on this port: the service says it in what it tells programs on "/". */
async function where() {
  const here = `${location.protocol.replace("http", "ws")}//${location.host}`;
  const text = await fetch("/", { headers: { accept: "text/plain" } }).then(
    (response) => response.text(),
    () => "",
  );
  line.addresses = [...new Set(text.match(/\b(?:tcp|tls|wss?):\/\/[^\s,"<>]+|\bunix:[^\s,"<>]+/g) ?? [])].map((uri) =>
    uri.replace(/\.$/, ""),
  );
  const paths = line.addresses.filter((uri) => uri.startsWith("ws")).map((uri) => new URL(uri));
  const own = paths.find((uri) => uri.port === location.port) ?? paths[0];
  return here + (own?.pathname ?? "/rsocket");
}

function changed(mine, state, why, retryAt) {
  const was = line.state;
  line.state = state;
  line.why = String(why?.message ?? why ?? "");
  line.retryAt = retryAt ? Number(retryAt) : 0;
  if (state === "connected") {
    line.lostAt = 0;
    if (was !== state) line.drain = null;
    // It is told of before it is there; then this is called once more.
    if (line.peer && !isFollowed) follow(mine);
  } else {
    isFollowed = false;
    line.lostAt ||= Date.now();
    line.roundTrip = null;
    // What was refused at once is asked again by us: the service may have been full, or not there yet.
    if (state === "closed" && !asksWho()) {
      line.retryAt = Date.now() + 5000;
      setTimeout(() => mine === attempt && open(), 5000);
    }
  }
  tell("state");
}
/** Whether the service wants to know who this is. */
export const asksWho = () => line.state === "closed" && /authentication|credentials/.test(line.why);

/** Takes the figures that come each second. */
async function follow(mine) {
  isFollowed = true;
  line.refusal = null;
  try {
    for await (const item of line.peer.stream("status", { interval_ms: 1000 }, { window: 4 })) {
      if (mine !== attempt) return;
      line.status = item.json();
      line.samples.push({ time: Date.now(), status: line.status });
      if (line.samples.length > KEPT) line.samples.shift();
      tell("status");
    }
  } catch (error) {
    if (mine !== attempt || line.state !== "connected") return;
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

// The credit gauge: granted = delivered + outstanding. Above, the arithmetic, which knows frames alone and nothing of a page;
// below, how it is drawn.
import { t } from "./i18n.js";
import { fill, h, num, put, say, span, still } from "./ui.js";

/** The n of a REQUEST_N that takes all bounds away. */
export const UNBOUNDED = 0x7fffffff;
const FOLLOWS = 0x80,
  COMPLETE = 0x40,
  NEXT = 0x20;

/** The sums of what was granted and what came, of one direction of one stream. */
export class Credit {
  granted = 0;
  done = 0;
  /** Nothing is held back any more. */
  free = false;
  /** Items that the page has taken of it, where it takes slowly. */
  taken = null;
  /** idle · open · complete · canceled · failed */
  state = "idle";
  why = "";
  /** Since when nothing is outstanding. */
  since = 0;
  /** Its steps: {time, granted, done}. */
  log = [];

  get left() {
    return this.free ? Infinity : this.granted - this.done;
  }
  get holds() {
    return this.state === "open" && this.left === 0;
  }
  open(now) {
    this.state = "open";
    this.mark(now);
  }
  grant(n, now) {
    this.granted += n;
    if (this.granted >= UNBOUNDED) this.free = true;
    this.mark(now);
  }
  came(now) {
    this.done += 1;
    this.mark(now);
  }
  end(state, now, why = "") {
    if (this.state !== "open") return;
    this.state = state;
    this.why = why;
    this.mark(now, true);
  }
  mark(now, ended = false) {
    const { granted, done, log } = this,
      last = log.at(-1),
      entry = { time: now, granted, done, ended };
    // What comes within a frame of the display is one step, or a fast stream would be drawn item by item.
    if (log.length > 1 && now - last.time < 12) log[log.length - 1] = { ...entry, time: last.time };
    else log.push(entry);
    if (log.length > 2048) log.splice(0, 512);
    if (this.left === 0) this.since = now;
  }
}

/** Counts both directions of one request from its frames: `down` is what we grant, `up` what we are granted (channels). */
export class Ledger {
  down = new Credit();
  up = new Credit();
  #parts = { in: false, out: false };

  /** Takes a frame that was sent ("out") or received ("in"); other streams' frames are not to come here. */
  take(direction, { type, flags = 0, n = 0, text = "", code = "" }, now) {
    const { down, up } = this,
      out = direction === "out";
    const isPart = this.#parts[direction],
      isLast = !(flags & FOLLOWS);
    if (type.startsWith("REQUEST_") && type !== "REQUEST_N") {
      this.#parts.out = !isLast && "request";
      down.open(now);
      if (type === "REQUEST_FNF") return down.end("complete", now);
      down.grant(type === "REQUEST_RESPONSE" ? 1 : n, now);
      if (type === "REQUEST_CHANNEL") up.open(now);
      if (flags & COMPLETE) up.end("complete", now);
    } else if (type === "REQUEST_N") {
      (out ? down : up).grant(n, now);
    } else if (type === "PAYLOAD") {
      const credit = out ? up : down;
      // A payload in fragments is one item, and has come with its last; those of a request are none.
      if (isLast && isPart !== "request" && (flags & NEXT || isPart)) credit.came(now);
      this.#parts[direction] = !isLast && (isPart || "item");
      if (flags & COMPLETE && isLast) credit.end("complete", now);
    } else if (type === "CANCEL") {
      (out ? down : up).end("canceled", now);
      // Who cancels a channel sends nothing more either.
      if (out) up.end("canceled", now);
    } else if (type === "ERROR") {
      for (const credit of [down, up]) credit.end("failed", now, code ? `${code}: ${text}` : text);
    }
  }
  /** The connection is gone. */
  lose(now, why) {
    for (const credit of [this.down, this.up]) credit.end("failed", now, why);
  }
}

/** The first slot of a tape of `count` slots: it turns a page when the border between filled and hollow comes near its end. */
export function page(credit, count, from, granting = false) {
  const limit = credit.free ? credit.done + count : credit.granted,
    at = credit.done - from;
  if (at < 0) return 0;
  const isOutside = limit - from > count - 1;
  return isOutside && (at > count * 0.8 || (granting && at > count * 0.4))
    ? credit.done - Math.floor(count * 0.25)
    : from;
}
/** The class of each slot: d came, o may come, v is void now, far fades. */
export function slots(credit, count, from, shown = 0) {
  const isOpen = credit.state === "open",
    limit = credit.free ? Infinity : credit.granted;
  return Array.from({ length: count }, (_, i) => {
    const slot = from + i;
    if (slot < credit.done) return slot < shown ? "d old" : "d";
    if (slot >= limit || (credit.free && !isOpen)) return "";
    return isOpen ? (credit.free && i > count - 6 ? "o far" : "o") : "v";
  });
}
/** The paths of the stairs from `from` to `now`: granted above, delivered below, the area between, and where it held. */
export function stairs(credit, from, now, x, y) {
  const first = Math.max(
    0,
    credit.log.findLastIndex((p) => p.time < from),
  );
  const points = credit.log.slice(first);
  if (!points.length) return { area: "", above: "", below: "", held: "" };
  points.push({ ...points.at(-1), time: now });
  const limit = (p) => (credit.free ? p.done + 6 : p.granted);
  let above = "",
    below = "",
    back = "",
    held = "",
    was;
  for (const p of points) {
    const px = x(p.time).toFixed(1),
      top = y(limit(p)).toFixed(1),
      bottom = y(p.done).toFixed(1);
    above += was ? `H${px}V${top}` : `M${px} ${top}`;
    below += was ? `H${px}V${bottom}` : `M${px} ${bottom}`;
    back = (was ? `L${px} ${bottom}L${px} ${was.bottom}` : `L${px} ${bottom}`) + back;
    if (was && !credit.free && was.p.granted === was.p.done && was.p.granted > 0 && !was.p.ended)
      held += `M${was.px} ${was.top}H${px}`;
    was = { p, px, top, bottom };
  }
  return { area: `${above}${back}Z`, above: credit.free ? "" : above, below, held };
}

// From here on: the page

const PITCH = 12,
  KEEP = 52;

/** The gauge of a Credit. `out`: of what we send. `small`: without stairs. `why`: a sentence instead of those of its states.
 *  draw(granting) after each change; frame(now) with each frame of the display. */
export function gauge(title, credit, { out = false, small = false, why, hint, keys = false } = {}) {
  const granted = h("b"),
    done = h("b"),
    left = h("b"),
    rest = h("i"),
    state = h("span.state"),
    sentence = h("p.cap");
  const cells = h("div.cells"),
    gate = h("div.gate"),
    caret = h("div.caret"),
    more = h("div.more");
  const tape = h("div.tape", { "aria-hidden": "true" }, cells, gate, caret, more);
  const area = h("path.fill"),
    below = h("path.dl"),
    above = h("path.gl"),
    held = h("path.hl"),
    aboveText = h("text"),
    belowText = h("text.dt");
  const svg = h("svg", { "aria-hidden": "true" }, area, below, above, held, aboveText, belowText),
    ago = h("span");
  const part = (kind, figure, word) => h(`span.${kind}`, figure, word.nodeType ? word : h("i", word));
  const act = h("span.act");
  const node = h(
    "section.gauge",
    { "aria-label": title, tabindex: keys ? 0 : null },
    h("header", h("h2", title), hint && h("span.q.small.w", hint), state, act),
    h(
      "div.sum",
      part("g", granted, t("granted")),
      h("span.op", "="),
      part("d", done, t(out ? "sent" : "delivered")),
      h("span.op", "+"),
      part("o", left, rest),
    ),
    tape,
    sentence,
    !small && [h("div.stairs", svg), h("div.sub", { "aria-hidden": "true" }, ago, h("span", t("now")))],
  );
  if (out) node.classList.add("out");
  let from = 0,
    count = 0,
    shown = 0,
    told = "idle",
    high = 8,
    low = 0,
    isFrozen = false;

  const states = {
    idle: [
      t("Nothing asked yet"),
      t(out ? "The service has not asked for anything yet." : "Send the request: it carries the first grant."),
    ],
    complete: [t("Complete"), t(out ? "You have said that no more comes." : "There is no more to come.")],
    canceled: [
      t("Cancelled"),
      t(out ? "No more is wanted." : "The service has stopped. What was outstanding is void."),
    ],
    failed: [t("Failed")],
  };
  function flowing() {
    if (credit.free) return t("Nothing holds the service back now but the socket.");
    if (credit.taken != null) return t("Asks for 4 more whenever this page has taken 4.");
    const n = num(credit.left);
    return out
      ? t("You may send {n} more; then the service has to ask again.", { n })
      : t("The service may send {n} more; then it has to wait for you.", { n });
  }
  function draw(granting = false) {
    const fits = Math.floor(tape.clientWidth / PITCH) || KEEP,
      isOpen = credit.state === "open";
    if (fits !== count)
      fill(
        cells,
        Array.from({ length: (count = fits) }, () => h("i")),
      );
    const to = page(credit, count, from, granting);
    if (to > from && !still())
      cells.animate([{ transform: `translateX(${(to - from) * PITCH}px)` }, { transform: "none" }], {
        duration: 240,
        easing: "cubic-bezier(.2,0,0,1)",
      });
    from = to;
    slots(credit, count, from, shown).forEach((kind, i) => {
      if (cells.children[i].className !== kind) cells.children[i].className = kind;
    });
    shown = credit.done;
    const end = credit.granted - from,
      isOver = !credit.free && end > count - 1;
    gate.hidden = isOver || credit.free || !isOpen || !credit.granted;
    gate.style.transform = `translateX(${end * PITCH + 1}px)`;
    more.hidden = !isOver || !isOpen;
    put(more, `+${num(end - count + 5)}`);
    caret.hidden = credit.taken == null || !isOpen;
    caret.style.transform = `translateX(${Math.max(0, (credit.taken - from) * PITCH - 1)}px)`;
    put(granted, credit.free ? "∞" : num(credit.granted));
    put(done, num(credit.done));
    put(left, credit.free ? "∞" : num(credit.left));
    put(rest, isOpen || !credit.left || credit.state === "idle" ? t(out ? "left to send" : "outstanding") : t("void"));
    tell();
  }
  function tell() {
    const isHolding = credit.holds;
    node.dataset.s = isHolding ? "holding" : ({ complete: "ended", canceled: "ended" }[credit.state] ?? credit.state);
    const seconds = (performance.now() - credit.since) / 1000;
    if (isHolding)
      put(state, `${t(out ? "Waiting for credit" : "Holding")}${seconds > 0.7 ? ` ${time(seconds)}` : ""}`);
    else put(state, credit.state === "open" ? t(out ? "Open" : "Flowing") : states[credit.state][0]);
    if (isHolding)
      put(
        sentence,
        t(
          out
            ? "You have sent all you may. The service asks when it can take more."
            : "The service has sent all it may, and waits. Grant more, and it goes on.",
        ),
      );
    else
      put(
        sentence,
        credit.state === "failed" ? credit.why : why || (credit.state === "open" ? flowing() : states[credit.state][1]),
      );
    if (node.dataset.s !== told && !out) {
      told = node.dataset.s;
      if (told !== "idle")
        say(
          isHolding
            ? t("The service holds: {done} of {granted} have come.", {
                done: num(credit.done),
                granted: num(credit.granted),
              })
            : state.textContent,
        );
    }
  }
  // One digit behind the point, so that it does not jump; from a minute on there is no need of it.
  const time = (seconds) => (seconds < 60 ? `${seconds.toFixed(1)} s` : span(seconds));
  function frame(now) {
    if (credit.holds) tell();
    const width = svg.clientWidth,
      height = svg.clientHeight,
      label = 46;
    if (small || !width || !credit.log.length || isFrozen) return;
    isFrozen = credit.state !== "open";
    const until = isFrozen ? credit.log.at(-1).time : now;
    const length = Math.max(6000, Math.min(20_000, until - credit.log[0].time)),
      begin = until - length;
    const bottom = credit.log.findLast((p) => p.time < begin)?.done ?? 0;
    const top = Math.max(credit.free ? credit.done + 8 : credit.granted, bottom + 8),
      ease = still() || isFrozen ? 1 : 0.12;
    high = top > high ? top : high + (top - high) * ease;
    low += (bottom - low) * ease;
    const x = (time) => Math.max(0, ((time - begin) / length) * (width - label)),
      y = (v) => height - 4 - ((v - low) / (high - low)) * (height - 16);
    const paths = stairs(credit, begin, until, x, y);
    for (const [path, d] of [
      [area, paths.area],
      [above, paths.above],
      [below, paths.below],
      [held, paths.held],
    ])
      path.setAttribute("d", d);
    const ya = y(credit.free ? credit.done + 6 : credit.granted),
      yb = y(credit.done),
      isNear = Math.abs(ya - yb) < 12;
    for (const text of [aboveText, belowText]) text.setAttribute("x", width - label + 6);
    aboveText.setAttribute("y", Math.max(9, isNear ? ya - 2 : ya + 4));
    belowText.setAttribute("y", Math.min(height - 2, isNear ? yb + 10 : yb + 4));
    put(aboveText, credit.free ? "∞" : isNear && credit.left === 0 ? "" : num(credit.granted));
    put(belowText, credit.done ? num(credit.done) : "");
    put(ago, t("{time} ago", { time: `${Math.round(length / 1000)} s` }));
  }
  /** Shows another stream from its beginning. */
  function reset(next) {
    credit = next;
    from = shown = low = 0;
    high = 8;
    isFrozen = false;
    told = "idle";
    draw();
  }
  return { node, draw, frame, reset, act };
}

/** Buttons that grant: give(n), Infinity for all. */
export function grantButtons(give) {
  const buttons = [1, 8, 100, Infinity].map((n) =>
    h(
      "button",
      {
        "data-n": n,
        "aria-label": n === Infinity ? t("Grant without a bound") : t("Grant {n} more", { n }),
        onclick: () => give(n),
      },
      n === Infinity ? "∞" : `+${n}`,
    ),
  );
  return h(
    "div.grant",
    h("span.q", t("Grant")),
    h("span.seg", { role: "group", "aria-label": t("Grant credit") }, buttons),
  );
}
/** The credit that a key grants while a gauge has the focus, if anything. */
export const keyGrant = (key) => ({ 1: 1, "+": 1, 8: 8, 0: 100, i: Infinity })[key];

/** Eight marks for a row of a table: what came, what may come, or a bar where it holds. */
export function mini(granted, done) {
  const left = Math.max(0, granted - done),
    hollow = Math.min(8, left);
  return h(
    "span.mini",
    { "aria-hidden": "true" },
    Array.from({ length: 8 }, (_, i) => h(i < 8 - hollow ? "i" : "i.o")),
    left === 0 && h("i.g"),
  );
}

/** Calls draw(now) at most 30 times a second (twice, where motion is not wanted), and not while hidden; gives what ends it. */
export function animate(draw) {
  let id,
    last = 0;
  const loop = (now) => {
    id = requestAnimationFrame(loop);
    if (now - last < (still() ? 500 : 32)) return;
    last = now;
    draw(now);
  };
  id = requestAnimationFrame(loop);
  return () => cancelAnimationFrame(id);
}

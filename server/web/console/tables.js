// What the screens with tables have in common. Text from elsewhere only ever becomes text.
import "./words.js";
import { t } from "./i18n.js";
import { hear, line } from "./line.js";
import { h, num } from "./ui.js";

/** What is to end when a screen, or a part of it, is left. */
export function lifetime() {
  const ends = [];
  return {
    also: (...more) => ends.push(...more),
    /** Calls f again and again while the page is seen and the line is there. */
    every(ms, f) {
      const id = setInterval(() => document.hidden || line.state !== "connected" || f(), ms);
      ends.push(() => clearInterval(id));
    },
    /** Calls f now, if the line is there, and whenever it is there again. */
    connected(f) {
      let is = false;
      const look = () => {
        const was = is;
        is = line.state === "connected" && line.peer !== null;
        if (is && !was) f();
      };
      ends.push(hear(look));
      look();
    },
    end() {
      for (const end of ends.splice(0)) end();
    },
  };
}

/** Fails as the service would, where it has said that this page may not do that with the service as a whole. */
export function permitted(what) {
  if (!line.may.has(what)) throw Object.assign(new Error(`not permitted: ${what}`), { status: 403 });
}
/** An error in the words of the service, its code before them. */
export const said = (error) =>
  (error.code && error.code !== "LOST" ? `${error.code}: ` : "") + (error.message ?? error);
export const isForbidden = (error) => error.status === 401 || error.status === 403;

const LONGEST = 2000;
const utf8 = new TextDecoder("utf-8", { fatal: true });

/** The data of a message as it may be shown: text, or its first bytes in hexadecimal. */
export function shown(data) {
  let text = data;
  if (typeof data !== "string") {
    try {
      text = utf8.decode(data);
    } catch {
      text =
        [...data.subarray(0, 64)].map((b) => b.toString(16).padStart(2, "0")).join(" ") +
        (data.length > 64 ? " …" : "");
    }
  }
  return text.length > LONGEST ? text.slice(0, LONGEST) + " …" : text;
}

// The default of a topic: where nothing has gone yet, at least as many fit.
const MESSAGES = 1024;

/** How far a reader is behind, as a part of what the topic keeps. */
export function lagBar(behind, { base, head }) {
  if (behind == null) return h("span.lag.q", "–");
  const part = Math.min(1, behind / (base > 1 ? head - base + 1 : Math.max(MESSAGES, head)));
  const label = t("{n} % of what is kept", { n: Math.round(part * 100) });
  return h(
    "span",
    { class: "lag" + (part > 0.8 ? " full" : part > 0.5 ? " warn" : "") },
    num(behind),
    h(
      "svg",
      { viewBox: "0 0 48 6", role: "img", "aria-label": label },
      h("rect", { width: 48, height: 6, rx: 1 }),
      h("rect", { width: Math.ceil(part * 48), height: 6, rx: 1 }),
    ),
  );
}

/** A column whose cells are figures, unless it is said what they show. */
export const column = (
  name,
  kind,
  of,
  cell = (x) => (typeof of(x) === "number" ? [num(of(x), 1)] : [of(x) ?? "–"]),
) => ({ name: t(name), class: kind, isFigure: kind.split(" ").includes("n"), of, cell });

/**
 * A table whose rows stay the same elements while their figures change, so that focus and selection stay.
 * Columns: { name, class, of(item) → what it is sorted by, cell(item) → what is shown }. `memory` keeps the order over visits.
 */
export function table(columns, key, memory, { open, more, row: seen } = {}) {
  const rows = new Map();
  const body = h("tbody"),
    heads = h("tr");
  let items = [];
  columns.forEach((c, i) => {
    const choose = () => {
      memory.down = memory.by === i ? !memory.down : c.isFigure === true;
      memory.by = i;
      order();
    };
    heads.append(
      h(
        "th",
        { class: c.class, scope: "col" },
        c.of ? h("button", { onclick: choose }, c.name) : c.name || h("span.vh", t("Actions")),
      ),
    );
  });
  function order() {
    const { by, down } = memory,
      of = columns[by].of;
    [...heads.children].forEach(
      (th, i) => columns[i].of && th.setAttribute("aria-sort", i === by ? (down ? "descending" : "ascending") : "none"),
    );
    const sorted = [...items].sort((a, b) => {
      const [x, y] = [of(a) ?? -1, of(b) ?? -1];
      return (x > y) - (x < y) || 0;
    });
    if (down) sorted.reverse();
    let at = body.firstChild;
    for (const item of sorted) {
      const row = rows.get(key(item));
      for (const tr of [row.tr, row.more].filter(Boolean)) {
        if (tr === at) at = at.nextSibling;
        else body.insertBefore(tr, at);
      }
    }
  }
  /** The items there are now. */
  function show(now) {
    items = now;
    const there = new Set(now.map(key));
    for (const [k, row] of rows) {
      if (there.has(k)) continue;
      row.tr.remove();
      row.more?.remove();
      rows.delete(k);
    }
    for (const item of now) {
      let row = rows.get(key(item));
      if (!row) {
        const tr = h(
          "tr",
          columns.map((c) => h("td", { class: c.class })),
        );
        if (open) {
          tr.classList.add("row");
          tr.addEventListener("click", (e) => e.target.closest("a, button") || getSelection().toString() || open(item));
        }
        rows.set(key(item), (row = { tr, was: [] }));
      }
      columns.forEach((c, i) => {
        const [print, cell] = c.cell(item);
        if (row.was[i] === print) return;
        row.was[i] = print;
        row.tr.children[i].replaceChildren(...[cell ?? print].flat());
      });
      const extra = more?.(item);
      if (extra !== row.more) {
        row.more?.remove();
        row.more = extra;
      }
      seen?.(row.tr, item);
    }
    order();
  }
  return { node: h("table", h("thead", heads), body), show, body };
}

/** A member of a topic, as a line of a list. */
export function member(p, isMe = false) {
  const note = p.away
    ? t("line lost, held")
    : isMe
      ? t("you")
      : p.sessions > 1
        ? t("{n} devices", { n: p.sessions })
        : "";
  return h(
    "li",
    h(p.away ? "span.dot.away" : "span.dot"),
    h("bdi", p.name),
    p.info != null && h("code.q", shown(JSON.stringify(p.info)).slice(0, 200)),
    h("span.q.note", note),
  );
}

/**
 * Tells who is in a topic, for as long as `life` lasts: people([{name, sessions, away, info}]) at most five times a second,
 * changed("join" or "leave", name) behind the first list, refused(error).
 */
export function watch(life, topic, { people: tell, changed, refused }) {
  const people = new Map();
  let stream = null,
    timer = 0,
    isWhole = false;
  const soon = () =>
    (timer ||= setTimeout(() => {
      timer = 0;
      tell([...people.values()]);
    }, 200));
  function take({ event, name, sessions, away, info }) {
    const is = people.get(name);
    let news = false;
    if (event === "reset") {
      people.clear();
      isWhole = false;
    } else if (event === "all") isWhole = true;
    else if (event === "leave" && !sessions) news = people.delete(name);
    else if (event === "leave") people.set(name, { ...is, sessions });
    else if (event === "away" || event === "back") people.set(name, { ...is, name, away: event === "away" });
    else {
      news = event === "join" && !is;
      people.set(name, { name, sessions: sessions ?? is?.sessions ?? 1, away: away ?? is?.away ?? false, info });
    }
    if (isWhole && news) changed?.(event, name);
    soon();
  }
  life.connected(async () => {
    people.clear();
    isWhole = false;
    const mine = (stream = line.peer.stream(`presence.${topic}`, { away: true, each: true }, { window: 64 }));
    try {
      for await (const item of mine) {
        if (stream !== mine) return;
        take(item.meta() ?? item.json());
      }
    } catch (e) {
      if (stream === mine && line.state === "connected") refused(e);
    }
  });
  life.also(() => {
    clearTimeout(timer);
    stream?.cancel();
    stream = null;
  });
}

// Connections: who is connected, what each has open, and who holds whom.
import { UNBOUNDED, mini } from "./gauge.js";
import { t } from "./i18n.js";
import { api, line } from "./line.js";
import { column, isForbidden, lifetime, permitted, table } from "./tables.js";
import { bytes, fill, find, h, head, none, num, put, refused, span, toggle, waiting } from "./ui.js";

const order = { by: 9, down: true };
const kept = { sought: "", isHeldOnly: false };
/** As many are asked for at once. */
const MOST = 1000;
const KINDS = {
  "request-response": "Request",
  "request-stream": "Stream",
  "request-channel": "Channel",
  "fire-and-forget": "Fire-and-forget",
};
/** Whether the peer has asked for items of it, and has got all of these. */
const isHeld = (stream) => stream.direction === "in" && stream.granted > 0 && stream.sent >= stream.granted;

export default function connections(main, args) {
  const life = lifetime(),
    sub = h("span"),
    drain = h("div.act"),
    body = h("div", waiting()),
    nothing = h("p.q.pad");
  let all = [],
    open = null,
    detail = null,
    isMore = false,
    isAsking = false;
  const link = (x) => (String(x.id) === open ? "#/connections" : `#/connections/${encodeURIComponent(x.id)}`);

  /** A verb that asks back, in words, before it does anything; the focus is on the harmless answer. */
  function verb(name, sure, sentence, doing, kind = "button.text") {
    const box = h("span.ask");
    function rest(isBack) {
      box.classList.remove("asks");
      fill(box, h(kind, { onclick: ask }, name));
      if (isBack) box.firstChild.focus();
    }
    function ask() {
      const go = h(
          "button.text.bad",
          {
            async onclick() {
              go.disabled = true;
              try {
                await doing();
              } catch (e) {
                fill(
                  box,
                  h("span.badt", String(e.message)),
                  h("button.text", { onclick: () => rest(true) }, t("Keep")),
                );
              }
            },
          },
          sure,
        ),
        keep = h("button.text", { onclick: () => rest(true) }, t("Keep"));
      fill(box, sentence(), go, keep);
      box.classList.add("asks");
      keep.focus();
    }
    box.addEventListener("keydown", (e) => e.key === "Escape" && box.children.length > 1 && rest(true));
    rest();
    return box;
  }
  const closers = new Map();
  function closer(x) {
    if (!closers.has(x.id)) {
      const ends = () => {
        const now = all.find((y) => y.id === x.id) ?? x;
        return now.streams
          ? now.streams === 1
            ? t("Ends one stream.")
            : t("Ends {n} streams.", { n: num(now.streams) })
          : t("It has no streams.");
      };
      closers.set(
        x.id,
        verb(t("Close"), t("Close {id}", { id: x.id }), ends, async () => {
          await api(`/admin/close/${encodeURIComponent(x.id)}`, { method: "POST" });
          await ask();
        }),
      );
    }
    return closers.get(x.id);
  }
  const grid = table(
    [
      column(
        "No.",
        "n",
        (x) => x.id,
        (x) => [x.id, h("a", { href: link(x) }, x.id)],
      ),
      column(
        "Name",
        "name",
        (x) => x.subject ?? "",
        (x) => [x.subject ?? "–", x.subject ? h("bdi", x.subject) : h("span.q", "–")],
      ),
      column("Peer", "m q w2", (x) => x.address),
      column(
        "By",
        "q w2",
        (x) => x.transport,
        (x) => [x.stuck ? t("does not answer") : x.transport ? `${x.transport}${x.tls ? " · TLS" : ""}` : t("waits")],
      ),
      column(
        "Round trip",
        "n w2",
        (x) => x.rtt_ms,
        (x) => [x.rtt_ms == null ? "–" : `${num(x.rtt_ms, 1)} ms`],
      ),
      column("Streams", "n", (x) => x.streams),
      column(
        "Holds",
        "n",
        (x) => x.credit_stalls,
        (x) => [x.credit_stalls ? num(x.credit_stalls) : "–"],
      ),
      column(
        "In",
        "n w2",
        (x) => x.bytes_in,
        (x) => [bytes(x.bytes_in)],
      ),
      column(
        "Out",
        "n w2",
        (x) => x.bytes_out,
        (x) => [bytes(x.bytes_out)],
      ),
      column(
        "Age",
        "n w2",
        (x) => x.age_s,
        (x) => [span(Math.ceil(x.age_s))],
      ),
      { name: "", class: "n", cell: (x) => ["close", closer(x)] },
    ],
    (x) => x.id,
    order,
    {
      open: (x) => (location.hash = link(x)),
      more: (x) => (String(x.id) === open ? detail?.node : undefined),
      row(tr, x) {
        const a = tr.querySelector("a");
        tr.classList.toggle("on", String(x.id) === open);
        a.setAttribute("aria-expanded", String(x.id) === open);
        a.setAttribute("href", link(x));
      },
    },
  );

  const search = find(
    t("Find by name, peer or number"),
    (text) => {
      kept.sought = text.trim();
      show();
    },
    kept.sought,
  );
  const only = toggle(
    t("Only those with holds"),
    (on) => {
      kept.isHeldOnly = on;
      show();
    },
    kept.isHeldOnly,
  );
  const full = [h("div.find", search, only), h("div.panel.scroll", grid.node, nothing)];
  function show() {
    const found = all.filter(
      (x) =>
        [x.id, x.subject, x.address].some((text) => String(text ?? "").includes(kept.sought)) &&
        (!kept.isHeldOnly || x.credit_stalls > 0),
    );
    grid.show(found);
    nothing.hidden = found.length > 0;
    put(nothing, t("None like that."));
    const n = num(line.status?.connections?.open ?? all.length),
      m = num(line.status?.sessions?.suspended ?? 0);
    put(
      sub,
      isMore
        ? t("{n} open, of which the first {m} are shown", { n, m: num(all.length) })
        : t("{n} open, {m} waiting to be resumed", { n, m }),
    );
  }
  async function ask(isAsked) {
    if (isAsking) return;
    isAsking = true;
    try {
      if (!isAsked) permitted("admin");
      const answer = await api(`/admin/connections?limit=${MOST}`);
      [all, isMore] = [answer.connections, answer.more];
      const ids = new Set(all.map((x) => x.id));
      for (const id of closers.keys()) if (!ids.has(id)) closers.delete(id);
      if (body.firstChild !== full[0]) fill(body, full);
      if (!drain.firstChild)
        fill(
          drain,
          verb(
            t("Drain all"),
            t("Drain all"),
            () => t("No new connections; ends {n}.", { n: num(all.length) }),
            () => api("/admin/drain", { method: "POST" }),
            "button",
          ),
        );
      if (all.some((x) => String(x.id) === open)) await detail.ask();
      show();
    } catch (e) {
      if (line.state === "connected")
        fill(
          body,
          refused(isForbidden(e) ? t("Only administrators see connections.") : t("The list was refused."), e, ask),
        );
    } finally {
      isAsking = false;
    }
  }
  function choose([id]) {
    open = id ?? null;
    detail = open && streams(open);
    show();
    if (open && all.length && line.state === "connected") ask();
  }
  fill(main, h("div.head", h("h1", { tabindex: -1 }, t("Connections")), h("p", sub), drain), body);
  choose(args);
  life.connected(ask);
  life.every(2000, () => body.firstChild === full[0] && ask());
  return { args: choose, leave: life.end };
}

/** The row beneath a connection: the streams that are open on it. */
function streams(id) {
  const box = h("td.more0", { colspan: 11 }, h("p.q", "…")),
    node = h("tr", box);
  /** When a stream was first seen to hold, with as much delivered. */
  const since = new Map();
  function state(x) {
    if (!isHeld(x) || x.interaction === "request-response") {
      const text = t(x.interaction === "request-response" || x.direction === "out" ? "Open" : "Flowing");
      return [text, text];
    }
    const was = since.get(x.stream);
    if (was?.sent !== x.sent) since.set(x.stream, { sent: x.sent, time: Date.now() });
    const seconds = was?.sent === x.sent ? Math.round((Date.now() - was.time) / 1000) : 0;
    const text = seconds ? t("Holding for {time}", { time: span(seconds) }) : t("Holding");
    return [text, h("span.hold", text, h("span.w2", t(": this peer grants nothing more")))];
  }
  function sum(x) {
    const d = num(x.sent);
    if (x.direction === "out") return [x.awaited ? t("{n} awaited", { n: num(x.awaited) }) : ""];
    if (x.granted >= UNBOUNDED) return [t("∞ granted, {d} delivered", { d })];
    return [t("{g} granted = {d} delivered + {o}", { g: num(x.granted), d, o: num(Math.max(0, x.granted - x.sent)) })];
  }
  const grid = table(
    [
      column(
        "Stream",
        "n q",
        (x) => x.stream,
        (x) => [x.stream],
      ),
      column(
        "Route",
        "m",
        (x) => x.route ?? "",
        (x) => [x.route ?? "–", h("bdi", x.route ?? "–")],
      ),
      column(
        "Kind",
        "q w2",
        (x) => x.interaction,
        (x) => [`${x.direction === "out" ? "→" : "←"} ${t(KINDS[x.interaction] ?? x.interaction)}`],
      ),
      column(
        "Credit",
        "",
        (x) => x.granted - x.sent,
        (x) => [`${x.granted} ${x.sent}`, x.direction === "out" ? "–" : mini(x.granted, x.sent)],
      ),
      { name: "", class: "n q w2", cell: sum },
      column("State", "", (x) => isHeld(x), state),
      column(
        "Age",
        "n q w2",
        (x) => x.age_s,
        (x) => [x.age_s == null ? "–" : span(Math.ceil(x.age_s))],
      ),
    ],
    (x) => `${x.direction}${x.stream}`,
    { by: 0, down: false },
  );
  async function ask() {
    try {
      const { open } = await api(`/admin/connections/${encodeURIComponent(id)}`);
      grid.show(open);
      if (open.length && box.firstChild !== grid.node) fill(box, grid.node);
      else if (!open.length) fill(box, h("p.q", t("Nothing is open on it.")));
    } catch (e) {
      if (line.state === "connected") fill(box, h("p.q", e.status === 404 ? t("It is gone.") : e.message));
    }
  }
  return { node, ask };
}

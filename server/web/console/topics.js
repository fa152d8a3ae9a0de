// Topics: which there are, who falls behind, and beside it what goes through one of them.
import { Credit, UNBOUNDED, animate, gauge, grantButtons, keyGrant } from "./gauge.js";
import { t } from "./i18n.js";
import { line } from "./line.js";
import { column, lagBar, lifetime, member, said, shown, table, watch } from "./tables.js";
import { add, bytes, clock, fill, find, h, head, none, num, put, refused, tabs, waiting } from "./ui.js";

// As many are shown; beyond it, the service is asked for names that begin with what is looked for.
const MOST = 1000;
const PAGE = 50;
const ROWS = 200;
const order = { by: 4, down: true };
let sought = "";

const link = (name, pane) => `#/topics/${encodeURIComponent(name)}${pane && pane !== "tail" ? `/${pane}` : ""}`;
const kept = (x) => x.head - x.base + 1;

export default function topics(main, args) {
  const life = lifetime(),
    sub = h("span"),
    list = h("div.list"),
    split = h("div.split", list),
    note = h("p.q.small");
  let open = null,
    side = null,
    all = [],
    isMore = false,
    asking = null;
  const grid = table(
    [
      column(
        "Topic",
        "",
        (x) => x.topic,
        (x) => [x.topic, h("a", { href: link(x.topic) }, h("bdi", x.topic))],
      ),
      column("Kind", "q w w2", (x) => x.kind),
      column("Messages", "n w w2", kept),
      column(
        "Bytes",
        "n w w2",
        (x) => x.bytes,
        (x) => [bytes(x.bytes)],
      ),
      column("A second", "n", (x) => x.publishes_per_s),
      column("Subscribers", "n w2", (x) => x.subscribers),
      column("Members", "n w w2", (x) => x.members),
      column(
        "Furthest behind",
        "n",
        (x) => x.slowest?.behind,
        (x) => [`${x.slowest?.behind}/${kept(x)}`, lagBar(x.slowest?.behind, x)],
      ),
    ],
    (x) => x.topic,
    order,
    {
      open: (x) => (location.hash = x.topic === open ? "#/topics" : link(x.topic)),
      row(tr, x) {
        tr.classList.toggle("on", x.topic === open);
        tr.querySelector("a").setAttribute("aria-current", x.topic === open);
      },
    },
  );
  const search = find(
    t("Find a topic"),
    (text) => {
      sought = text.trim();
      if (isMore) ask();
      else show();
    },
    sought,
  );
  const nothing = h("p.q.pad"),
    full = [h("div.find", search, note), h("div.panel.scroll", grid.node, nothing)];

  function show() {
    const found = all.filter((x) => x.topic.includes(sought));
    grid.show(found);
    nothing.hidden = found.length > 0;
    put(nothing, t("No topic with “{text}” in its name.", { text: sought }));
    const n = num(all.length),
      m = num(all.filter((x) => x.publishes_per_s > 0).length);
    put(
      sub,
      isMore
        ? t("{n} at most are shown; the search finds what names begin with", { n: num(MOST) })
        : t("{n}, of which {m} moved in the last ten seconds", { n, m }),
    );
    put(
      note,
      all.some((x) => x.slowest)
        ? t("The bar: how much of what is kept the slowest reader still has to read. Full means it loses messages.")
        : "",
    );
  }
  async function ask() {
    asking?.cancel();
    const stream = (asking = line.peer.stream("topics", { prefix: isMore ? sought : "" }, { window: 128 })),
      now = [];
    try {
      for await (const item of stream) if (now.push(item.json()) >= MOST) break;
    } catch (e) {
      if (asking === stream && line.state === "connected")
        fill(list, refused(t("The list was refused."), said(e), ask));
      return;
    }
    if (asking !== stream) return;
    asking = null;
    all = now;
    isMore ||= now.length >= MOST;
    if (!all.length && !isMore) return fill(list, nobody());
    if (list.firstChild !== full[0]) fill(list, full);
    show();
  }
  const nobody = () =>
    none(
      t("No topic yet."),
      h("p", t("A topic comes into being when somebody publishes to it, subscribes or joins.")),
      h("pre", `rsock topic pub ${line.addresses[0] ?? "tcp://127.0.0.1:7878"} lobby -d 'hello'`),
      h("p", h("a", { href: "#/rooms" }, t("Open a room"))),
    );
  function choose([name, pane]) {
    open = name || null;
    side?.end();
    side?.node.remove();
    side = open && beside(open, pane);
    split.classList.toggle("has", side !== null);
    if (side) add(split, side.node);
    if (all.length) show();
  }
  fill(list, waiting());
  fill(main, head(t("Topics"), sub), split);
  choose(args);
  life.connected(ask);
  life.every(2000, () => asking || ask());
  life.also(
    () => side?.end(),
    () => asking?.cancel(),
  );
  return { args: choose, leave: life.end };
}

/** One topic, beside the list; below 1240 px in its place. */
function beside(name, wanted) {
  const PANES = {
    tail: ["Tail", tail],
    history: ["History", history],
    members: ["Members", members],
    publish: ["Publish", publish],
  };
  const chosen = Object.hasOwn(PANES, wanted) ? wanted : "tail",
    place = h("span.q.small"),
    body = h("div", { role: "tabpanel" });
  let pane = null;
  const about = ({ epoch, base }) => put(place, t("epoch {e}…, kept from {n}", { e: epoch.slice(0, 4), n: num(base) }));
  function show(id) {
    pane?.end();
    window.history.replaceState(null, "", link(name, id));
    body.setAttribute("aria-label", t(PANES[id][0]));
    fill(body);
    PANES[id][1](name, body, about, (pane = lifetime()));
  }
  const list = tabs(
    t("Of this topic"),
    Object.entries(PANES).map(([id, [label]]) => [id, t(label)]),
    chosen,
    show,
  );
  show(chosen);
  const node = h(
    "section.panel.tail",
    { "aria-label": name },
    h("header", h("h2", h("bdi", name)), place, h("span.act", h("a.small", { href: "#/topics" }, t("Close")))),
    h("div.body", list),
    body,
  );
  return { node, end: () => pane?.end() };
}

const when = (time) =>
  Date.now() - time < 864e5 ? clock(time) : `${new Date(time).toISOString().slice(5, 10)} ${clock(time).slice(0, 5)}`;
/** A click on a message that is cut off shows the whole. */
const whole = (e) => !getSelection().toString() && e.target.closest("li")?.classList.toggle("whole");
const row = (m) =>
  h(
    "li",
    h("time", { datetime: new Date(m.time).toISOString(), title: new Date(m.time).toLocaleString() }, when(m.time)),
    h("span", m.offset ?? "·"),
    h(
      "code",
      { dir: "auto" },
      m.key != null && h("span.q", `${m.key} `),
      m.deleted ? h("span.q", t("deleted")) : m.text,
    ),
    m.from != null && h("bdi.from", { title: m.from }, m.from),
  );

/** What is published, under a credit that is given by hand. */
function tail(name, body, about, life) {
  const list = h("ol.rows", { tabindex: 0, "aria-label": t("Messages"), onclick: whole }),
    now = () => performance.now();
  let credit = new Credit(),
    stream = null,
    position = null,
    first = 32,
    follows = true;
  const meter = gauge(t("Credit"), credit, { small: true, keys: true });
  function give(n) {
    if (credit.state !== "open" || credit.free) return;
    n = n === Infinity ? UNBOUNDED : n;
    stream.request(n);
    credit.grant(n, now());
    draw(true);
  }
  function stop() {
    if (credit.state !== "open") return;
    stream.cancel();
    end("canceled");
  }
  const button = h("button", { onclick: () => (credit.state === "open" ? stop() : ask()) }),
    grants = grantButtons(give);
  add(meter.act, button);
  add(meter.node, h("div.ctl", grants));
  meter.node.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const n = keyGrant(e.key);
    if (n) give(n);
    else if (e.key === "Escape") stop();
  });
  list.addEventListener("scroll", () => (follows = list.scrollTop + list.clientHeight > list.scrollHeight - 30));
  const waits = [];
  function show(li) {
    waits.push(li);
    if (waits.length > ROWS) waits.shift();
  }
  /** Shows what has come since the last frame of the display. */
  function draw(isGrant) {
    if (waits.length) {
      list.append(...waits.splice(0));
      while (list.childElementCount > ROWS) list.firstElementChild.remove();
      if (follows) list.scrollTop = list.scrollHeight;
    }
    meter.draw(isGrant);
  }
  function item(payload) {
    const meta = payload.meta() ?? {},
      { gap, start } = meta;
    if (start) {
      about(start);
      position ??= { epoch: start.epoch, after: start.next - 1 };
    } else if (gap?.to != null) {
      position = { epoch: meta.epoch, after: gap.to };
      show(
        h(
          "li.gapl",
          t("Gap: {from}–{to}, let go before this page asked for them", { from: num(gap.from), to: num(gap.to) }),
        ),
      );
    } else if (gap) {
      position = { epoch: meta.epoch, after: meta.base - 1 };
      show(
        h(
          "li.gapl",
          t("The log began anew (epoch {e}…); what was before cannot be continued.", { e: meta.epoch.slice(0, 4) }),
        ),
      );
    } else {
      if (meta.offset != null) position = { epoch: meta.epoch, after: meta.offset };
      show(row({ ...meta, time: meta.time ?? Date.now(), text: shown(payload.data) }));
    }
  }
  function ask() {
    const mine = (stream = line.peer.stream(
      `topic.${name}`,
      { from: position ?? { last: 20 }, start: true },
      { n: first },
    ));
    meter.reset((credit = new Credit()));
    credit.open(now());
    credit.grant(first, now());
    buttons();
    mine.on({
      next(payload) {
        if (stream !== mine) return;
        credit.came(now());
        item(payload);
      },
      complete: () => stream === mine && end("complete"),
      error: (e) => stream === mine && end("failed", e),
    });
  }
  function buttons() {
    const isOpen = credit.state === "open";
    put(button, t(isOpen ? "Cancel" : "Ask again"));
    for (const b of grants.querySelectorAll("button")) b.disabled = !isOpen;
    draw(true);
  }
  function end(how, e) {
    first = credit.free ? 32 : Math.max(8, credit.left);
    credit.end(how, now(), e && said(e));
    buttons();
  }
  fill(body, meter.node, list);
  buttons();
  life.connected(() => ["idle", "failed"].includes(credit.state) && ask());
  life.also(
    animate(() => draw()),
    () => {
      if (credit.state === "open") stream.cancel();
      stream = null;
    },
  );
}

/** Pages of what is kept, the newest first. */
function history(name, body, about, life) {
  const list = h("ol.rows", { tabindex: 0, "aria-label": t("Messages"), onclick: whole }),
    where = h("span.q.small", { role: "status" });
  let page = null,
    asked = {};
  const turn = (label, around) => h("button", { disabled: true, onclick: () => ask(around()) }, t(label));
  const newest = turn("Newest", () => ({})),
    newer = turn("Newer", () => ({ epoch: page.epoch, after: page.messages[0].offset })),
    older = turn("Older", () => ({ epoch: page.epoch, before: page.messages.at(-1).offset }));
  async function ask(around) {
    asked = around;
    for (const b of [newest, newer, older]) b.disabled = true;
    try {
      page = (
        await line.peer.request(`history.${name}`, { limit: PAGE, reverse: around.after == null, ...around })
      ).json();
    } catch (e) {
      if (line.state === "connected") fill(body, refused(t("History was refused."), said(e), begin));
      return;
    }
    if (around.after != null) page.messages.reverse();
    const { base, head: last, messages } = page,
      [a, b] = [messages.at(-1)?.offset, messages[0]?.offset];
    about(page);
    fill(
      list,
      messages.map((m) =>
        row({
          ...m,
          text: shown(m.text ?? (m.data === undefined ? `base64 ${m.base64 ?? ""}` : JSON.stringify(m.data))),
        }),
      ),
    );
    list.scrollTop = 0;
    put(
      where,
      messages.length
        ? t("{a} to {b}; kept are {base} to {last}", { a: num(a), b: num(b), base: num(base), last: num(last) })
        : t("Nothing is kept."),
    );
    newest.disabled = false;
    newer.disabled = !messages.length || b >= last;
    older.disabled = !messages.length || a <= base;
  }
  function begin() {
    fill(body, h("div.pages", newest, newer, older, where), list);
    ask(asked);
  }
  life.connected(begin);
}

/** Who has joined, from a watch of the topic's presence. */
function members(name, body, _, life) {
  const list = h("ul.mem.pad"),
    total = h("p.q.small.pad", "…");
  fill(body, total, list);
  watch(life, name, {
    people(people) {
      put(
        total,
        people.length
          ? t("{n} here", { n: num(people.length) })
          : t("Nobody has joined. Who only subscribes is not shown."),
      );
      fill(
        list,
        people.slice(0, ROWS).map((p) => member(p)),
      );
    },
    refused: (e) => fill(body, refused(t("Presence was refused."), said(e))),
  });
}

/** A message of one's own, and where it went. */
function publish(name, body) {
  const told = h("p.check", { role: "status" }),
    go = h("button.go", { type: "submit" }, t("Publish"));
  const data = h("textarea", { id: "pd", rows: 5, spellcheck: "false" }),
    field = (id) => h("input.field", { id, type: "text", spellcheck: "false" }),
    key = field("pk"),
    from = field("pf");
  from.value = line.subject;
  const form = h(
    "form.pub",
    {
      async onsubmit(e) {
        e.preventDefault();
        go.disabled = true;
        try {
          const ack = await line.peer
            .topic(name)
            .publish(data.value, { ...(key.value && { key: key.value }), ...(from.value && { from: from.value }) });
          told.className = "check";
          put(told, t("Published as message {n}, epoch {e}…", { n: num(ack.offset), e: ack.epoch.slice(0, 4) }));
        } catch (error) {
          told.className = "check badt m";
          put(told, said(error));
        }
        go.disabled = false;
      },
      onkeydown: (e) => e.key === "Enter" && (e.metaKey || e.ctrlKey) && form.requestSubmit(),
    },
    [
      ["pd", "Data", data],
      ["pk", "Key, in topics of kind latest", key],
      ["pf", "Sender", from],
    ].map(([id, text, control]) => [h("label.l", { for: id }, t(text)), control]),
    h("div.sendrow", told, go),
  );
  go.type = "submit";
  fill(body, form);
}

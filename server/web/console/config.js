// Configuration: what is in force, from where, and when a change acts. Metrics: what is counted, and what each figure means.
import { lang, t } from "./i18n.js";
import { api, ask, line } from "./line.js";
import { parse } from "./metrics.js";
import { column, isForbidden, lifetime, permitted, table } from "./tables.js";
import { add, bytes, clock, fill, find, h, head, none, num, put, refused, span, tabs, toggle, waiting } from "./ui.js";

const kept = { setting: "", isChangedOnly: false, figure: "", isMovedOnly: true };
const order = { by: 0, down: false };

export default function config(main, [wanted]) {
  const life = lifetime(),
    sub = h("span"),
    body = h("div", { role: "tabpanel" }),
    act = h("div.act");
  const PANES = { settings: ["Settings", settings], metrics: ["Metrics", metrics] };
  let pane = null;
  function show(id) {
    pane?.end();
    history.replaceState(null, "", id === "metrics" ? "#/config/metrics" : "#/config");
    put(sub, "");
    fill(act);
    fill(body, waiting());
    body.setAttribute("aria-label", t(PANES[id][0]));
    PANES[id][1]({ body, sub, act, life: (pane = lifetime()) });
  }
  const chosen = Object.hasOwn(PANES, wanted) ? wanted : "settings";
  const list = tabs(
    t("Configuration"),
    Object.entries(PANES).map(([id, [text]]) => [id, t(text)]),
    chosen,
    show,
  );
  fill(main, h("div.head", h("h1", { tabindex: -1 }, t("Configuration")), h("p", sub), act), list, body);
  show(chosen);
  life.also(() => pane?.end());
  return life.end;
}

/** When a change acts, in words. */
const ACTS = { live: "at once", "new-connections": "for new connections", restart: "at a restart" };
/** Where a setting comes from, in words; files are named. */
const SOURCES = { default: "default", program: "default", environment: "environment", flag: "command line" };

function settings({ body, sub, act, life }) {
  const faults = h("div"),
    rows = h("tbody"),
    nothing = h("p.q.pad");
  let all = [],
    file = null;
  const isSet = (s) => SOURCES[s.source] !== "default";
  function from(s) {
    if (SOURCES[s.source]) return t(SOURCES[s.source]);
    const name = s.source === "file" ? (file ?? t("file")) : s.source;
    return s.line ? `${name}:${s.line}` : name;
  }
  function show() {
    const sought = kept.setting.toLowerCase();
    const found = all.filter(
      (s) => `${s.name} ${s.about}`.toLowerCase().includes(sought) && (!kept.isChangedOnly || isSet(s)),
    );
    fill(
      rows,
      found.map((s) =>
        h(
          "tr",
          h("td", h("code", s.name), h("p", { lang: "en" }, s.about)),
          h(
            "td",
            h(isSet(s) ? "code" : "code.def", value(s.value)),
            "next" in s && h("p.hold", t("{value} after a restart", { value: value(s.next) })),
            isSet(s) && s.default != null && h("p", t("default {value}", { value: value(s.default) })),
          ),
          h("td", h(isSet(s) ? "span" : "span.q", from(s))),
          h("td.q", t(ACTS[s.reload] ?? s.reload)),
        ),
      ),
    );
    nothing.hidden = found.length > 0;
    put(nothing, t("None like that."));
  }
  const search = find(
    t("Find a setting"),
    (text) => {
      kept.setting = text.trim();
      show();
    },
    kept.setting,
  );
  const only = toggle(
    t("Changed ones only"),
    (on) => {
      kept.isChangedOnly = on;
      show();
    },
    kept.isChangedOnly,
  );
  const full = [
    faults,
    h("div.find", search, only),
    h(
      "div.panel.scroll.set",
      h(
        "table",
        h(
          "thead",
          h(
            "tr",
            ["Setting", "Value", "From", "A change acts"].map((text) => h("th", { scope: "col" }, t(text))),
          ),
        ),
        rows,
      ),
      nothing,
    ),
  ];
  const tell = (problems) =>
    fill(
      faults,
      problems?.length > 0 &&
        h(
          "div.fault",
          { role: "alert" },
          h("b", t("The file is not loaded; what was in force stays in force.")),
          h(
            "code",
            problems
              .map((p) =>
                typeof p === "string"
                  ? p
                  : `${p.source ?? ""}${p.line ? `:${p.line}` : ""}: ${p.message ?? JSON.stringify(p)}`,
              )
              .join("\n"),
          ),
        ),
    );
  async function look(isAsked) {
    try {
      if (!isAsked) permitted("admin");
      const answer = await api("/admin/config");
      all = answer.settings;
      file = answer.file ?? null;
      if (body.firstChild !== full[0]) fill(body, full);
      if (!act.firstChild) add(act, told, check, reload);
      tell(answer.problems);
      const changed = all.filter(isSet).length;
      put(
        sub,
        changed
          ? t("{n} of {m} are set", { n: num(changed), m: num(all.length) })
          : t("all {m} are the defaults", { m: num(all.length) }),
      );
      show();
      return answer;
    } catch (e) {
      if (line.state === "connected")
        fill(
          body,
          refused(
            isForbidden(e) ? t("Only administrators see the configuration.") : t("The configuration was refused."),
            e,
            look,
          ),
        );
    }
  }
  const told = h("span.q", { role: "status" });
  const check = h(
    "button",
    {
      async onclick() {
        const answer = await look(true);
        if (answer) put(told, answer.problems?.length ? t("It has faults.") : t("It has no faults."));
      },
    },
    t("Check the file"),
  );
  const reload = h(
    "button.go",
    {
      async onclick() {
        reload.disabled = true;
        try {
          const answer = await api("/admin/reload", { method: "POST" });
          await look(true);
          const later = answer?.changed?.restart ?? [];
          put(
            told,
            [
              t("Loaded at {time}.", { time: clock() }),
              later.length && t("at a restart: {names}", { names: later.join(", ") }),
            ]
              .filter(Boolean)
              .join(" "),
          );
        } catch (e) {
          tell(e.message.split("\n"));
          put(told, t("Not loaded."));
        }
        reload.disabled = false;
      },
    },
    t("Reload"),
  );
  life.connected(look);
}
const value = (v) =>
  v == null || v === "" || v.length === 0
    ? "–"
    : Array.isArray(v)
      ? v.join("\n")
      : typeof v === "object"
        ? JSON.stringify(v)
        : typeof v === "number"
          ? num(v, 6)
          : String(v);

function metrics({ body, sub, life }) {
  const nothing = h("p.q.pad");
  let before = new Map(),
    all = [],
    isAsking = false;
  function figure(x) {
    if (x.kind === "histogram")
      return [x.count ? t("{n}, {ms} ms on average", { n: num(x.count), ms: num((x.sum / x.count) * 1000, 2) }) : "0"];
    return [
      /_bytes$|^bytes_/.test(x.name)
        ? bytes(x.value)
        : /uptime_seconds$/.test(x.name)
          ? span(x.value)
          : num(x.value, 2),
    ];
  }
  const grid = table(
    [
      column(
        "Figure",
        "",
        (x) => x.id,
        (x) => [
          x.id,
          [h("code", x.name), x.labels && h("span.q", ` ${x.labels}`), x.about && h("p", { lang: "en" }, x.about)],
        ],
      ),
      column("Value", "n", (x) => x.value ?? x.count, figure),
      column(
        "A second",
        "n w2",
        (x) => x.rate,
        (x) => [x.rate ? `${x.rate > 0 ? "+" : "−"}${num(Math.abs(x.rate), Math.abs(x.rate) < 10 ? 1 : 0)}` : "–"],
      ),
    ],
    (x) => x.id,
    order,
  );
  function show() {
    const sought = kept.figure.toLowerCase();
    const found = all.filter(
      (x) => `${x.id} ${x.about}`.toLowerCase().includes(sought) && (!kept.isMovedOnly || x.value || x.count),
    );
    grid.show(found);
    nothing.hidden = found.length > 0;
    put(nothing, t("None like that."));
    put(
      sub,
      t("{n} figures, of which {m} are not 0", {
        n: num(all.length),
        m: num(all.filter((x) => x.value || x.count).length),
      }),
    );
  }
  const search = find(
    t("Find a figure, or what it means"),
    (text) => {
      kept.figure = text.trim();
      show();
    },
    kept.figure,
  );
  const only = toggle(
    t("Without those that are 0"),
    (on) => {
      kept.isMovedOnly = on;
      show();
    },
    kept.isMovedOnly,
  );
  const full = [h("div.find", search, only), h("div.panel.scroll.fig", grid.node, nothing)];
  async function look(isAsked) {
    if (isAsking) return;
    isAsking = true;
    try {
      if (!isAsked) permitted("metrics");
      const time = performance.now(),
        now = new Map();
      all = parse(await ask("/metrics", { headers: { accept: "text/plain" } })).flatMap(
        ({ name, about, kind, series }) =>
          series.map((s) => {
            const id = `${name}${s.labels && ` ${s.labels}`}`,
              value = s.value || s.count || 0,
              was = before.get(id);
            now.set(id, { value, time });
            return {
              ...s,
              id,
              about,
              kind,
              name: name.replace(/^rsockd_/, ""),
              rate: was && kind !== "gauge" ? ((value - was.value) / (time - was.time)) * 1000 : 0,
            };
          }),
      );
      before = now;
      if (body.firstChild !== full[0]) fill(body, full);
      show();
    } catch (e) {
      if (line.state === "connected") fill(body, refused(t("The figures were refused."), e, look));
    } finally {
      isAsking = false;
    }
  }
  life.connected(look);
  life.every(2000, () => body.firstChild === full[0] && look());
}

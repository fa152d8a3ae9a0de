// The console: what is around the screens.
//
// A screen is a module beside this one whose default export is a function (main, args) → cleanup: it fills the element `main`, and what it
// returns is called when the screen is left (it ends streams, timers and what was heard). `args` are the parts of the address behind the
// screen's name, decoded: "#/topics/room.1" calls topics(main, ["room.1"]). A screen that is given the next args itself, without being
// left, returns { args(next), leave() } instead. The first thing in it is head(title, …), whose h1 has the focus after a change of screen.
//
//   import { line, ready, hear, dial, api } from "./line.js";   the shared connection, its figures; a connection of one's own; HTTP below /api
//   import { t, tt, words } from "./i18n.js";            words({ "English": ["한국어", "日本語"] }) adds a screen's own
//   import { h, fill, head, none, refused, … } from "./ui.js";
//   import { Credit, Ledger, gauge, grantButtons, mini, animate } from "./gauge.js";
//
// `await ready()` gives the shared connection as soon as it stands. While it is lost the shell says so, and all of `main` is grey
// (body.stale); streams that ended with it are the screen's to begin again, on hear("state").
import { line, hear, open } from "./line.js";
import { lang, speak, t } from "./i18n.js";
import { $, clock, fill, h, head, num, put, refused, span, tabs, waiting } from "./ui.js";

const SCREENS = [
  ["overview", "Overview", "o"],
  ["playground", "Playground", "p"],
  ["rooms", "Rooms", "r"],
  ["topics", "Topics", "t"],
  ["connections", "Connections", "c"],
  ["config", "Configuration", "s"],
];
const main = $("#main"),
  root = document.documentElement;
let here = "",
  shown = null,
  turn = 0;

// Which screen
function parts() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const args = rest.map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { name: SCREENS.some(([known]) => known === name) ? name : "overview", args };
}
function leave() {
  (shown?.leave ?? shown)?.();
  shown = null;
}
async function show(isFresh = false) {
  const { name, args } = parts(),
    mine = ++turn;
  if (name === here && shown?.args && !isFresh) return shown.args(args);
  leave();
  here = name;
  navigation();
  if (signIn()) return;
  const title = t(SCREENS.find(([known]) => known === name)[1]);
  fill(main, head(title), waiting());
  scrollTo(0, 0);
  try {
    const screen = await import(`./${name}.js`);
    // Who has to sign in meanwhile does that first.
    if (mine !== turn || line.asks) return;
    fill(main);
    shown = screen.default(main, args) ?? null;
  } catch (error) {
    if (mine === turn)
      fill(
        main,
        head(title),
        refused(t("This screen could not be loaded."), error, () => location.reload()),
      );
  }
}

// Navigation, the state of the line
const counts = { topics: h("span.count"), connections: h("span.count") };
/** Screens that there is nothing on, for this user or at this address, are left out. */
function offer() {
  const { may } = line;
  const isThere = { connections: may.has("admin"), config: may.has("admin") || may.has("metrics") };
  for (const item of $("#nav").querySelectorAll("li")) {
    const { name } = item.dataset;
    item.hidden = may.size > 0 && name !== here && isThere[name] === false;
  }
}
function navigation() {
  root.lang = lang();
  document.title = `${t(SCREENS.find(([name]) => name === here)[1])} – rsock`;
  const nav = $("#nav");
  nav.setAttribute("aria-label", t("Screens"));
  fill(
    nav,
    h(
      "ul",
      SCREENS.map(([name, text]) =>
        h(
          "li",
          { "data-name": name },
          h(
            "a",
            { href: `#/${name}`, "aria-current": name === here ? "page" : null },
            h("span", t(text)),
            counts[name],
          ),
        ),
      ),
    ),
  );
  offer();
  const link = $("[aria-current]", nav);
  if (nav.scrollWidth > nav.clientWidth) nav.scrollLeft = link.offsetLeft - 60;
}
const state = h("span"),
  roundTrip = h("span.q"),
  mark = h("span.dot"),
  out = h("button.text", { onclick: () => open(null).then(() => show(true)) });
fill($("#line"), mark, state, roundTrip);
const lostText = h("b"),
  ofWhen = h("span"),
  tryAt = h("span.n", { "aria-hidden": "true" }), // it would be spoken each second
  tryNow = h("button", { onclick: () => open() });
const lostBar = h("div.bar.bad", lostText, ofWhen, tryAt, h("code"), h("span.act", tryNow));
const drainText = h("b"),
  drainWhat = h("span"),
  drainLink = h("a", { href: "#/connections" });
const drainBar = h("div.bar", drainText, drainWhat, h("span.act", drainLink));
let wasConnected = false;

function showState() {
  const isConnected = line.state === "connected",
    isLost = !isConnected && (wasConnected || (line.why && !line.asks));
  mark.className = isConnected ? "dot" : "dot off";
  put(state, t(isConnected ? "Connected" : line.state === "connecting" ? "Connecting…" : "Not connected"));
  put(roundTrip, line.roundTrip == null ? "" : span(line.roundTrip / 1000));
  roundTrip.title = t("round trip");
  document.body.classList.toggle("stale", isLost);
  fill($("#who"), (line.auth || line.subject) && [h("span", line.subject), line.auth && out]);
  put(out, t("Sign out"));
  const bar = isLost ? lostBar : line.drain ? drainBar : null,
    banner = $("#banner");
  if (banner.firstChild !== bar) fill(banner, bar);
  if (isLost) {
    put(lostText, t(wasConnected ? "The connection is lost." : "The service cannot be reached."));
    put(ofWhen, line.status ? t("Figures are those of {time}.", { time: clock(line.samples.at(-1).time) }) : "");
    const n = Math.ceil((line.retryAt - Date.now()) / 1000);
    put(tryAt, n > 0 ? t("Trying again in {n} s.", { n }) : t("Trying again."));
    put($("code", lostBar), line.why);
    put(tryNow, t("Try now"));
  } else if (line.drain) {
    put(drainText, t("Draining."));
    const n = num(line.status?.connections.open ?? 0),
      time = clock(line.drain.until);
    put(drainWhat, `${t("No new connections.")} ${t("{n} left; all end by {time} at the latest.", { n, time })}`);
    put(drainLink, t("Which ones"));
  }
  wasConnected ||= isConnected;
}
hear((what) => {
  showState();
  if (what === "status") {
    if (!line.status) return;
    put(counts.connections, num(line.status.connections.open));
    put(counts.topics, num(line.status.topics.topics));
  } else if (what === "state") {
    offer();
    if (line.asks) signIn();
    else if (isAsking && line.state === "connected") show(true);
  }
});
setInterval(showState, 1000);

// Signing in, where the service asks who one is
let isAsking = false,
  way = "password";
function signIn() {
  if (!line.asks) return (isAsking = false);
  if (isAsking && main.contains($("#sign-in"))) {
    put($("#sign-in .check"), line.auth ? line.why : "");
    $("#sign-in button.go").disabled = false;
    return true;
  }
  leave();
  turn += 1; // A screen that is on its way is not wanted any more.
  isAsking = true;
  const field = (name, type, complete) => {
    const id = `sign-${name}`;
    return [
      h("label.l", { for: id }, t(name)),
      h("input.field", { id, type, autocomplete: complete, spellcheck: "false", required: true }),
    ];
  };
  const fields = h("div.fields");
  const choose = (id) => {
    way = id;
    fill(
      fields,
      id === "password"
        ? [field("Name", "text", "username"), field("Password", "password", "current-password")]
        : field("Token", "password", "off"),
    );
  };
  choose(way);
  const form = h(
    "form.sign",
    {
      id: "sign-in",
      onsubmit(e) {
        e.preventDefault();
        const [first, second] = [...fields.querySelectorAll("input")].map((input) => input.value);
        $("button.go", form).disabled = true;
        open(second == null ? { bearer: first.trim() } : { user: first, password: second });
      },
    },
    tabs(
      t("Sign in"),
      [
        ["password", t("Name and password")],
        ["token", t("Token")],
      ],
      way,
      choose,
    ),
    fields,
    h("p.check.badt", { role: "alert" }, line.auth ? line.why : ""),
    h("button.go", { type: "submit" }, t("Sign in")),
    h("p.q.small", t("What you type stays in this page until it is closed.")),
  );
  form.querySelector("button.go").type = "submit";
  fill(main, head(t("Sign in"), t("This service asks who you are.")), form);
  $("input", form).focus();
  return true;
}

// Keys, preferences
function keys() {
  const dialog = $("#keys");
  const list = [
    ...SCREENS.map(([, text, key]) => [`g ${key}`, t(text)]),
    ["/", t("Find on this screen")],
    [/Mac|iP/.test(navigator.platform) ? "⌘ ↵" : "Ctrl ↵", t("Send the request")],
    ["1", t("Gauge in focus: grant 1")],
    ["8", t("grant 8")],
    ["0", t("grant 100")],
    ["i", t("grant without a bound")],
    ["Esc", t("cancel the stream")],
    ["?", t("these keys")],
  ];
  fill(
    dialog,
    h("h1", { id: "keys-h" }, t("Keys")),
    h(
      "dl",
      list.map(([all, text]) => [
        h(
          "dt",
          all.split(" ").map((key) => [h("kbd", key), " "]),
        ),
        h("dd", text),
      ]),
    ),
    h("button", { onclick: () => dialog.close() }, t("Close")),
  );
  dialog.showModal();
}
let lastG = 0;
addEventListener("keydown", (e) => {
  if (e.target.matches("input, textarea, select") || e.metaKey || e.ctrlKey || e.altKey || $("dialog[open]")) return;
  const to = Date.now() - lastG < 1200 && SCREENS.find(([, , key]) => key === e.key);
  lastG = e.key === "g" ? Date.now() : 0;
  if (to) location.hash = `#/${to[0]}`;
  else if (e.key === "?") keys();
  else if (e.key === "/" && $("main input[type=search]")) {
    $("main input[type=search]").focus();
    e.preventDefault();
  }
});
function preferences() {
  const theme = localStorage.getItem("theme") ?? "";
  if (theme) root.dataset.theme = theme;
  else delete root.dataset.theme;
  fill(
    $("#theme"),
    [
      ["", "System"],
      ["light", "Light"],
      ["dark", "Dark"],
    ].map(([value, text]) => h("option", { value }, t(text))),
  );
  $("#theme").value = theme;
  $("#lang").value = lang();
  $("#theme").setAttribute("aria-label", t("Colours"));
  $("#lang").setAttribute("aria-label", t("Language"));
  put($("#skip"), t("Skip to content"));
}
$("#theme").addEventListener("change", (e) => {
  if (e.target.value) localStorage.setItem("theme", e.target.value);
  else localStorage.removeItem("theme");
  preferences();
});
$("#lang").addEventListener("change", (e) => {
  speak(e.target.value);
  preferences();
  isAsking = false;
  show(true).then(showState);
});
$("#skip").addEventListener("click", (e) => {
  e.preventDefault(); // An address with "#main" would be another screen's.
  main.focus();
});
addEventListener("hashchange", () => show().then(() => $("h1")?.focus({ preventScroll: true })));

preferences();
showState();
open();
// The others are there as well by the time that the line may be lost.
show().then(() => Promise.allSettled(SCREENS.map(([name]) => import(`./${name}.js`))));

// Playground: ask anything, and feel request-n. It has a connection of its own, so that the frames are those of its requests alone.
import { CODES } from "/rsocket.mjs";
import { address, dial, hear, line, ready } from "./line.js";
import { t, words } from "./i18n.js";
import { fill, find, h, head, num, put, still } from "./ui.js";
import { Ledger, UNBOUNDED, animate, gauge, grantButtons, keyGrant } from "./gauge.js";
import { KINDS, ask, composite, editor, filled, kindOf, remember, take } from "./ask.js";
import { GLIMPSE, timeline } from "./frames.js";

words({
  "Find a route": ["경로 찾기", "ルートを探す"],
  Service: ["서비스", "サービス"],
  "This service names no routes. Write one into the field “Route”.": [
    "이 서비스는 경로를 알려 주지 않습니다. “경로” 칸에 적으세요.",
    "このサービスはルートを示しません。「ルート」欄に書いてください。",
  ],
  Cancel: ["취소", "キャンセル"],
  "Consume slowly": ["천천히 받기", "ゆっくり受け取る"],
  off: ["끔", "オフ"],
  "one item every {n} ms": ["{n} ms마다 하나", "{n} ms ごとに 1 件"],
  "No answer comes, so there is nothing to grant.": [
    "답이 오지 않으니 허용할 것이 없습니다.",
    "応答がないので、許可するものはありません。",
  ],
  "A request carries its one credit with it; there is nothing more to grant.": [
    "요청은 크레딧 하나를 가지고 갑니다. 더 허용할 것이 없습니다.",
    "リクエストはクレジット 1 つを携えます。これ以上許可するものはありません。",
  ],
  "Item to send": ["보낼 항목", "送る項目"],
  "Send item": ["항목 보내기", "項目を送る"],
  "Item {n}": ["항목 {n}", "項目 {n}"],
  Finish: ["끝내기", "終了"],
  "The service has not asked for more yet": ["서비스가 아직 더 요청하지 않음", "サービスはまだ求めていません"],
  "Send the request first": ["먼저 요청을 보내세요", "先にリクエストを送ってください"],
  "The connection was lost.": ["연결이 끊어졌습니다.", "接続が切れました。"],
});

const OF_TOPICS = /^(topic|presence|history)\.|^topics$/;
/** Says that routes are to be listed as JSON. */
const AS_JSON = { metadata: { "message/x.rsocket.accept-mime-types.v0": Uint8Array.of(0x85) } };
/** Items that a slow page has asked for and not taken; it asks for half of them at a time. */
const WINDOW = 8;
const IS_REQUEST = /^REQUEST_[^N]/;

/** The routes as they were named, [{ route, answers, about }]; null until they are known. */
let routes = null;
/** The text that routes are searched for. */
let sought = "";
/** Milliseconds that a slow page takes for an item; 0 for by hand. */
let pace = 0;

const stem = (route) => route.split("{")[0];
const matches = (pattern, route) =>
  pattern === route ||
  (pattern.includes("{") && route.startsWith(stem(pattern)) && route.length > stem(pattern).length);
/** Whether the route that is written offers an interaction; one that nobody has named may offer any. */
function fits(id) {
  const named = routes?.find(({ route }) => matches(route, ask.route));
  return id === "push" || !named || named.answers.includes(kindOf(id)[2]);
}
const errorName = (code) =>
  Object.keys(CODES).find((name) => CODES[name] === code) ?? (code ? `0x${code.toString(16)}` : "");

export default function playground(main, args) {
  const about = h("span.m", address() ?? "");
  const whole = h("div.play");
  main.append(head(t("Playground"), about), whole);
  const screen = { peer: null, run: null, isLeft: false, again };

  function again() {
    const y = scrollY;
    const { activeElement } = document;
    const id = activeElement?.id;
    const isTab = activeElement?.getAttribute("role") === "tab";
    screen.run?.end();
    if (!fits(ask.kind)) ask.kind = KINDS.find(([kind]) => fits(kind))[0];
    take({});
    screen.run = run(screen);
    const form = editor({ fits, again, rerouted, send: () => screen.run.send() });
    screen.run.use(form);
    fill(whole, list(again), form.node, screen.run.node);
    screen.run.draw();
    scrollTo(0, y);
    if (isTab) form.node.querySelector("[role=tab][aria-selected=true]").focus();
    else if (id && whole.querySelector(`#${CSS.escape(id)}`)) whole.querySelector(`#${CSS.escape(id)}`).focus();
  }
  /** Shows another route, or what is known of it, while what is being written and what runs stays as it is. */
  function rerouted() {
    const isSearched = whole.firstChild.contains(document.activeElement) && document.activeElement.type === "search";
    whole.firstChild.replaceWith(list(again));
    const field = whole.querySelector("input[type=search]");
    if (isSearched) field.focus();
    if (isSearched) field.setSelectionRange(sought.length, sought.length);
    screen.run.form.refit();
  }
  function open([kind, route]) {
    if (!kindOf(kind)) return;
    const usual = kind === "stream" ? "range" : "echo";
    take({ kind, ...(route || !fits(kind) ? { route: route || usual, data: null, format: "json" } : {}) });
  }
  async function begin() {
    await ready();
    put(about, address());
    const peer = await dial({ onframe: (...frame) => screen.run.seen(...frame) });
    if (screen.isLeft) return peer.close();
    screen.peer = peer;
    screen.run.draw();
    const answer = await peer.request("routes", "", AS_JSON).then(
      (found) => found.json(),
      () => [],
    );
    routes = Array.isArray(answer) ? answer : [];
    if (screen.isLeft) return;
    if (fits(ask.kind) || !screen.run.isIdle()) return rerouted();
    if (!args[1]) open(args);
    again();
  }

  open(args);
  again();
  begin();
  const off = hear((what) => {
    if (what !== "state") return;
    screen.run.draw();
    screen.run.form.code();
  });
  return {
    args(next) {
      open(next);
      again();
    },
    leave() {
      screen.isLeft = true;
      off();
      screen.run.end();
      screen.peer?.close();
    },
  };
}

/** The list of routes: as a column, or where there is no room for one, as a choice. */
function list(again) {
  function choose(route) {
    take({ route: route.includes("{") ? `${stem(route)}room.1` : route, data: null, format: "json" });
    again();
  }
  const plain = (route) => route.replace("{*", "{");
  const letters = (answers) =>
    KINDS.map(([, , name, letter]) => (!letter || answers.includes(name) ? letter : "·")).join("");
  const items = [];
  function item({ route, answers, about }) {
    const can = h("span.can", { title: answers.join(", ") }, letters(answers));
    const props = { "aria-pressed": matches(route, ask.route), title: about ?? "", onclick: () => choose(route) };
    const node = h("li", h("button", props, h("span", plain(route)), can));
    items.push(node);
    return node;
  }
  const known = routes ?? [];
  const group = (name, of) => of.length > 0 && [h("h2", name), h("ul", of.map(item))];
  const filter = (text) => {
    sought = text;
    for (const node of items) node.hidden = !node.textContent.includes(text);
  };
  const isNamed = known.some(({ route }) => matches(route, ask.route));
  const options = known.map(({ route }) =>
    h("option", { value: route, selected: matches(route, ask.route) }, plain(route)),
  );
  const node = h(
    "div.routes",
    h(
      "div.list",
      find(t("Find a route"), filter, sought),
      routes && !known.length && h("p.q.small", t("This service names no routes. Write one into the field “Route”.")),
      group(
        t("Service"),
        known.filter(({ route }) => !OF_TOPICS.test(route)),
      ),
      group(
        t("Topics"),
        known.filter(({ route }) => OF_TOPICS.test(route)),
      ),
    ),
    known.length > 0 &&
      h(
        "label.pick",
        h("span.q", t("Route")),
        h(
          "select.in",
          { onchange: (e) => choose(e.target.value) },
          !isNamed && h("option", { selected: true }, ask.route),
          options,
        ),
      ),
  );
  filter(sought);
  return node;
}

/** The outcome of a request: the gauges, the frames, and what can be done meanwhile. */
function run(screen) {
  const { kind } = ask;
  const isChannel = kind === "channel";
  const isSilent = kind === "fnf" || kind === "push";
  const isStream = isChannel || kind === "stream";
  let ledger = new Ledger();
  let stream = null;
  let id = null;
  let isAsking = false; // the next request that leaves is ours
  let begun = 0;
  let isNew = true;
  let taking = null;
  let form = null;

  const why = isSilent
    ? t("No answer comes, so there is nothing to grant.")
    : t("A request carries its one credit with it; there is nothing more to grant.");
  const down = gauge(t(isChannel ? "You grant" : "Credit"), ledger.down, {
    keys: isStream,
    small: !isStream,
    why: !isStream && why,
    hint: !isChannel && t("how many items the service may send you"),
  });
  const up = isChannel ? gauge(t("The service grants you"), ledger.up, { out: true }) : null;
  const cancel = h("button", { disabled: true, onclick: () => stream?.cancel() }, t("Cancel"));
  const grants = grantButtons(give);
  const slider = h("input", { type: "range", min: 0, max: 2000, step: 50, value: pace, oninput: consume });
  const rate = h("output");
  if (!isSilent) down.act.append(cancel);
  if (isStream) {
    down.node.append(h("div.ctl", grants, h("label.slow", h("span.q", t("Consume slowly")), slider, rate)));
    down.node.addEventListener("keydown", (e) => {
      if (e.target.matches("input") || e.ctrlKey || e.metaKey || e.altKey) return;
      if (e.key === "Escape") cancel.click();
      else if (keyGrant(e.key)) give(keyGrant(e.key));
    });
  }
  const item = h("input.field", { type: "text", "aria-label": t("Item to send") });
  const submit = h("button", t("Send item"));
  submit.type = "submit";
  const finish = h("button.text", { onclick: () => stream?.complete() }, t("Finish"));
  up?.node.append(h("form.compose", { onsubmit: post }, item, submit, finish));
  const frames = timeline();
  const node = h("div.right", down.node, up?.node, frames.node);
  if (isChannel) node.classList.add("two");

  function seen(direction, frame) {
    const { type, flags, stream: of, n, size } = frame;
    if (type === "KEEPALIVE" || type === "SETUP") return;
    const now = performance.now();
    if (isAsking && direction === "out" && IS_REQUEST.test(type)) {
      isAsking = false;
      id = of;
    }
    const isOurs = of === id;
    if (isOurs) ledger.take(direction, type === "ERROR" ? { ...frame, code: errorName(frame.code) } : frame, now);
    else if (of !== 0) return;
    const isUp = isChannel && (type === "PAYLOAD" ? direction === "out" : type === "REQUEST_N" && direction === "in");
    const hasCredit = isOurs && !isSilent && /^REQUEST|PAYLOAD/.test(type);
    const left = hasCredit ? (isUp ? ledger.up : ledger.down).left : null;
    frames.take({
      time: now - begun,
      direction,
      type,
      flags,
      stream: of,
      n,
      size,
      left,
      isUp,
      ...content(direction, frame),
    });
    isNew = true;
  }
  /** The content of a frame: a text, and bytes behind it. What is kept of them is no part of a larger message. */
  function content(direction, { type, data, text, code, metadata }) {
    if (type === "ERROR") return { text: `${errorName(code)}: ${text}` };
    const shown = type === "METADATA_PUSH" ? metadata : data;
    const isRequest = direction === "out" && IS_REQUEST.test(type);
    return { text: isRequest ? `${ask.route}  ` : "", data: shown?.slice(0, GLIMPSE) };
  }

  async function send() {
    if (form.button.disabled) return;
    const request = await filled();
    if (!request) return form.input.focus();
    stop();
    remember();
    ledger = new Ledger();
    ledger.down.taken = pace && isStream ? 0 : null;
    down.reset(ledger.down);
    up?.reset(ledger.up);
    frames.clear();
    id = null;
    isAsking = kind !== "push";
    begun = performance.now();
    dispatch(request, ledger);
    consume();
    if (innerWidth < 981) down.node.scrollIntoView({ behavior: still() ? "auto" : "smooth" });
  }
  function dispatch({ data, metadata, auth }, mine) {
    const { peer } = screen;
    const { route, n } = ask;
    const failed = (error) => lost(mine, error);
    try {
      if (kind === "push") peer.push(composite(metadata));
      else if (kind === "fnf") peer.fireAndForget(route, data, { metadata, auth });
      else if (kind === "request") {
        const abort = new AbortController();
        stream = { cancel: () => abort.abort() };
        peer.request(route, data, { metadata, auth, signal: abort.signal }).catch(failed);
      } else {
        stream = peer[kind](route, data, { metadata, auth, n });
        stream.on({ next() {}, complete() {}, error: failed });
      }
    } catch (error) {
      failed(error);
    }
  }
  /** Nothing more will come. Where a frame said so, the ledger knows already. */
  function lost(mine, error) {
    const now = performance.now();
    if (mine.down.state === "idle") mine.down.open(now);
    mine.lose(now, error?.message || t("The connection was lost."));
    isNew = true;
  }
  function stop() {
    if (ledger.down.state === "open" || ledger.up.state === "open") stream?.cancel();
    stream = null;
    clearTimeout(taking);
  }
  function give(n) {
    if (ledger.down.state !== "open" || ledger.down.free) return;
    stream.request(n === Infinity ? UNBOUNDED : n);
    down.draw(true);
    isNew = true;
  }
  /** A slow page takes one item each time, and asks for four more whenever four are taken. */
  function consume() {
    pace = Number(slider.value);
    const text = pace ? t("one item every {n} ms", { n: num(pace) }) : t("off");
    put(rate, pace ? `${num(pace)} ms` : text);
    slider.setAttribute("aria-valuetext", text);
    clearTimeout(taking);
    if (!pace || !isStream) ledger.down.taken = null;
    else {
      ledger.down.taken ??= ledger.down.done;
      taking = setTimeout(takeOne, pace);
    }
    isNew = true;
  }
  function takeOne() {
    const credit = ledger.down;
    if (credit.state === "open") {
      if (credit.taken < credit.done) credit.taken += 1;
      if (!credit.free && credit.granted - credit.taken <= WINDOW / 2) give(WINDOW / 2);
      isNew = true;
    }
    taking = setTimeout(takeOne, pace);
  }
  function post(e) {
    e.preventDefault();
    if (ledger.up.state !== "open" || ledger.up.left <= 0) return;
    stream.send(item.value || `line ${ledger.up.done + 1}`);
    item.value = "";
    isNew = true;
  }
  function buttons() {
    const isOpen = ledger.down.state === "open";
    form.button.disabled = !screen.peer || line.state !== "connected";
    if (cancel.disabled === isOpen) {
      const hadFocus = document.activeElement === cancel;
      cancel.disabled = !isOpen;
      if (hadFocus) form.button.focus();
    }
    for (const button of grants.querySelectorAll("button")) button.disabled = !isOpen || ledger.down.free;
    if (!up) return;
    const isWaiting = ledger.up.state === "open";
    item.disabled = submit.disabled = !isWaiting || ledger.up.left <= 0;
    finish.disabled = !isWaiting;
    if (!item.disabled) item.placeholder = t("Item {n}", { n: num(ledger.up.done + 1) });
    else item.placeholder = t(isWaiting ? "The service has not asked for more yet" : "Send the request first");
  }
  function draw() {
    down.draw();
    up?.draw();
    isNew = !frames.refresh();
    buttons();
  }

  const endDrawing = animate((now) => {
    if (isNew) draw();
    down.frame(now);
    up?.frame(now);
  });
  return {
    node,
    seen,
    send,
    draw,
    use(the) {
      form = the;
      consume();
    },
    get form() {
      return form;
    },
    isIdle: () => ledger.down.state === "idle",
    end() {
      endDrawing();
      stop();
    },
  };
}

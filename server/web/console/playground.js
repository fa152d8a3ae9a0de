// Playground: ask anything, and feel request-n. It has a connection of its own, so that the frames are those of its requests alone.
import { address, dial, hear, line, ready } from "./line.js";
import { t, words } from "./i18n.js";
import { $, add, bytes, choices, copier, fill, find, h, head, num, put, still, tabs } from "./ui.js";
import { Ledger, UNBOUNDED, animate, gauge, grantButtons, keyGrant } from "./gauge.js";
import { LANGUAGES } from "./code.js";
import { glimpse, timeline } from "./frames.js";
import { CODES } from "/rsocket.mjs";

words({
  Request: ["요청", "リクエスト"],
  Stream: ["스트림", "ストリーム"],
  "Fire-and-forget": ["보내고 잊기", "送りっぱなし"],
  Channel: ["채널", "チャネル"],
  Push: ["푸시", "プッシュ"],
  "One payload there, one back. It carries its one credit with it.": [
    "페이로드 하나를 보내고 하나를 받습니다. 크레딧 하나가 함께 갑니다.",
    "ペイロードを 1 つ送り、1 つ受け取ります。クレジット 1 つも一緒に届きます。",
  ],
  "One payload there, many back: as many as you grant, and never one more.": [
    "하나를 보내고 여럿을 받습니다. 허용한 만큼만, 하나도 더 오지 않습니다.",
    "1 つ送り、多くを受け取ります。許可した分だけで、1 つも余分には届きません。",
  ],
  "One payload there, and no answer. Nothing comes back, so there is nothing to grant.": [
    "하나를 보내고 답은 없습니다. 돌아오는 것이 없으니 허용할 것도 없습니다.",
    "1 つ送り、応答はありません。何も戻らないので、許可するものもありません。",
  ],
  "Many payloads both ways. You grant to the service, and the service grants to you.": [
    "양쪽으로 여럿을 보냅니다. 나는 서비스에, 서비스는 나에게 허용합니다.",
    "双方向に多くを送ります。こちらはサービスに、サービスはこちらに許可します。",
  ],
  "Metadata alone, outside of any request. Many services take none, and end the connection.": [
    "요청과 무관한 메타데이터만 보냅니다. 많은 서비스는 받지 않고 연결을 끊습니다.",
    "リクエストとは別に、メタデータだけを送ります。受け取らずに接続を切るサービスも多くあります。",
  ],
  "Find a route": ["경로 찾기", "ルートを探す"],
  Service: ["서비스", "サービス"],
  "This service names no routes. Write one into the field “Route”.": [
    "이 서비스는 경로를 알려 주지 않습니다. “경로” 칸에 적으세요.",
    "このサービスはルートを示しません。「ルート」欄に書いてください。",
  ],
  Interaction: ["상호작용", "対話"],
  Route: ["경로", "ルート"],
  Data: ["데이터", "データ"],
  Metadata: ["메타데이터", "メタデータ"],
  Text: ["텍스트", "テキスト"],
  Hex: ["16진수", "16 進"],
  File: ["파일", "ファイル"],
  Empty: ["비어 있음", "空"],
  "JSON, {size}": ["JSON, {size}", "JSON、{size}"],
  "Text, {size}": ["텍스트, {size}", "テキスト、{size}"],
  "Bytes, {size}": ["바이트, {size}", "バイト列、{size}"],
  "No JSON: {why}": ["JSON이 아님: {why}", "JSON ではありません: {why}"],
  "Two hexadecimal digits a byte, as 00 ff": [
    "바이트마다 16진수 두 자리, 예: 00 ff",
    "1 バイトは 16 進 2 桁、例: 00 ff",
  ],
  "Choose a file": ["파일을 고르세요", "ファイルを選んでください"],
  "The file has {size}; 16 MB are the most": ["파일이 {size}입니다. 최대 16 MB", "ファイルは {size} です。最大 16 MB"],
  "Add an entry": ["항목 추가", "項目を追加"],
  Authentication: ["인증", "認証"],
  "Bearer token": ["베어러 토큰", "ベアラートークン"],
  Type: ["유형", "タイプ"],
  Value: ["값", "値"],
  "Remove {name}": ["{name} 지우기", "{name} を削除"],
  "First grant": ["첫 허용", "最初の許可"],
  Send: ["보내기", "送信"],
  Cancel: ["취소", "キャンセル"],
  "As code": ["코드로", "コードで"],
  "The request as code": ["코드로 나타낸 요청", "コードで表したリクエスト"],
  "Past requests": ["지난 요청", "過去のリクエスト"],
  "Forget them": ["모두 지우기", "すべて忘れる"],
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
  Finish: ["끝내기", "終える"],
  "The service has not asked for more yet": ["서비스가 아직 더 요청하지 않음", "サービスはまだ求めていません"],
  "Send the request first": ["먼저 요청을 보내세요", "先にリクエストを送ってください"],
  "The connection was lost.": ["연결이 끊어졌습니다.", "接続が切れました。"],
});

const KINDS = [
  ["request", "Request", "request-response", "One payload there, one back. It carries its one credit with it."],
  ["stream", "Stream", "request-stream", "One payload there, many back: as many as you grant, and never one more."],
  [
    "fnf",
    "Fire-and-forget",
    "fire-and-forget",
    "One payload there, and no answer. Nothing comes back, so there is nothing to grant.",
  ],
  [
    "channel",
    "Channel",
    "request-channel",
    "Many payloads both ways. You grant to the service, and the service grants to you.",
  ],
  ["push", "Push", "", "Metadata alone, outside of any request. Many services take none, and end the connection."],
];
const LETTERS = [
  ["request-response", "R"],
  ["request-stream", "S"],
  ["fire-and-forget", "F"],
  ["request-channel", "C"],
];
const OF_TOPICS = /^(topic|presence|history)\.|^topics$/;
/** What is written for a route that nobody has asked yet. */
const SAMPLES = {
  range: '{"from":0,"to":1000,"interval_ms":100}',
  clock: '{"interval_ms":1000}',
  echo: '{"text":"hello"}',
  topic: '{"from":{"last":20}}',
};
const FORMATS = { json: "", text: "text/plain", hex: "application/octet-stream", file: "application/octet-stream" };
const MAX_FILE = 16e6,
  WINDOW = 8;

/** What is being written; it outlives a change of screen, and what is secret in it outlives nothing else. */
const ask = {
  kind: "stream",
  route: "range",
  data: null,
  format: "json",
  n: 8,
  entries: [],
  token: null,
  file: null,
  language: "rsock",
};
let known = null,
  slow = 0;

const errorName = (code) =>
  Object.keys(CODES).find((name) => CODES[name] === code) ?? (code ? `0x${code.toString(16)}` : "");
/** The bytes of what was written, or why they are none: { bytes, note, isWrong }. */
export function read(text, format, file) {
  const encoded = new TextEncoder().encode(text),
    size = bytes(encoded.length);
  if (format === "hex") {
    const digits = text.replace(/\s|0x/g, "");
    if (/[^\da-f]/i.test(digits) || digits.length % 2)
      return { note: t("Two hexadecimal digits a byte, as 00 ff"), isWrong: true };
    return {
      bytes: Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16)),
      note: t("Bytes, {size}", { size: bytes(digits.length / 2) }),
    };
  }
  if (format === "file") {
    if (!file) return { note: t("Choose a file"), isWrong: true };
    if (file.size > MAX_FILE)
      return { note: t("The file has {size}; 16 MB are the most", { size: bytes(file.size) }), isWrong: true };
    return { bytes: file, note: t("Bytes, {size}", { size: bytes(file.size) }) };
  }
  if (!text.trim()) return { bytes: encoded, note: t("Empty") };
  if (format === "text") return { bytes: encoded, note: t("Text, {size}", { size }) };
  try {
    JSON.parse(text);
    return { bytes: encoded, note: t("JSON, {size}", { size }) };
  } catch (error) {
    return {
      bytes: encoded,
      note: t("No JSON: {why}", { why: error.message.replace(/^JSON\.parse: /, "") }),
      isWrong: true,
    };
  }
}
/** Which of the interactions a route offers, as those who named their routes say; all of them for one that nobody named. */
function offers(route) {
  const found = known?.find(
    (entry) =>
      entry.route === route ||
      (entry.route.includes("{") && route.startsWith(entry.route.split("{")[0]) && route !== entry.route.split("{")[0]),
  );
  return found ? found.answers : null;
}

// What was asked before: without credentials, and without what files have in them.
const HISTORY = "rsock.requests";
function past() {
  try {
    return JSON.parse(localStorage.getItem(HISTORY)) ?? [];
  } catch {
    return [];
  }
}
function remember(data) {
  const entry = {
    kind: ask.kind,
    route: ask.route,
    format: ask.format,
    n: ask.n,
    data: ask.format === "file" ? "" : data.slice(0, 4096),
    entries: ask.entries.filter(([mime]) => mime && !/auth|token|cookie|secret|password/i.test(mime)),
  };
  const text = JSON.stringify(entry),
    others = past().filter((other) => JSON.stringify(other) !== text);
  try {
    localStorage.setItem(HISTORY, JSON.stringify([entry, ...others].slice(0, 100)));
  } catch {} // There is no room: then it is not remembered.
}

export default function playground(main, args) {
  if (KINDS.some(([id]) => id === args[0])) {
    ask.kind = args[0];
    if (args[1]) Object.assign(ask, { route: args[1], data: null });
    else if (!offers(ask.route)?.includes(KINDS.find(([id]) => id === args[0])[2]) && args[0] !== "push")
      Object.assign(ask, { route: args[0] === "stream" ? "range" : "echo", data: null });
  }
  let peer = null,
    isLeft = false,
    cleanup = () => {};
  const about = h("span.m", address() ?? "");
  const whole = h("div.play");
  main.append(head(t("Playground"), about), whole);

  // The connection of this screen
  let listener = () => {};
  ready()
    .then(async () => {
      put(about, address());
      const mine = await dial({ onframe: (...frame) => listener(...frame) });
      if (isLeft) return mine.close();
      peer = mine;
      show();
      const answer = await line.peer.request("routes", "", {
        metadata: { "message/x.rsocket.accept-mime-types.v0": Uint8Array.of(0x85) },
      });
      known = answer.json();
      if (!isLeft) show();
    })
    .catch(() => {
      known ??= [];
      if (!isLeft) show();
    });
  function show() {
    const y = scrollY,
      focused = document.activeElement?.id;
    cleanup();
    cleanup = draw();
    scrollTo(0, y);
    if (focused && focused !== "main") document.getElementById(focused)?.focus();
  }

  function draw() {
    const can = offers(ask.route),
      fits = ([id, , name]) => id === "push" || !can || can.includes(name);
    if (!fits(KINDS.find(([id]) => id === ask.kind))) ask.kind = KINDS.find(fits)[0];
    const { kind } = ask,
      isChannel = kind === "channel",
      isQuiet = !isChannel && kind !== "stream";
    ask.data ??= SAMPLES[ask.route.split(".")[0]] ?? "";

    // Which route
    const choose = (route) => {
      const isPattern = route.includes("{");
      Object.assign(ask, { route: isPattern ? `${route.split("{")[0]}room.1` : route, data: null, format: "json" });
      show();
    };
    const isChosen = (route) =>
      ask.route === route || (route.includes("{") && ask.route.startsWith(route.split("{")[0]));
    const groups = [
      ["Service", (known ?? []).filter(({ route }) => !OF_TOPICS.test(route))],
      ["Topics", (known ?? []).filter(({ route }) => OF_TOPICS.test(route))],
    ].filter(([, list]) => list.length);
    const letters = (answers) => LETTERS.map(([name, letter]) => (answers.includes(name) ? letter : "·")).join("");
    const plain = (route) => route.replace("{*", "{");
    const items = [];
    const routes = h(
      "div.routes",
      h(
        "div.list",
        find(t("Find a route"), (text) => items.forEach((item) => (item.hidden = !item.textContent.includes(text)))),
        known && !groups.length && h("p.q.small", t("This service names no routes. Write one into the field “Route”.")),
        groups.map(([name, list]) => [
          h("h2", t(name)),
          h(
            "ul",
            list.map(({ route, answers, about: what }) => {
              const item = h(
                "li",
                h(
                  "button",
                  { "aria-pressed": isChosen(route), title: what ?? "", onclick: () => choose(route) },
                  h("span", plain(route)),
                  h(
                    "span.can",
                    {
                      title: LETTERS.filter(([n]) => answers.includes(n))
                        .map(([n]) => n)
                        .join(", "),
                    },
                    letters(answers),
                  ),
                ),
              );
              items.push(item);
              return item;
            }),
          ),
        ]),
      ),
      groups.length > 0 &&
        h(
          "label.pick",
          h("span.q", t("Route")),
          h(
            "select.in",
            { onchange: (e) => choose(e.target.value) },
            !known.some(({ route }) => isChosen(route)) && h("option", { selected: true, value: ask.route }, ask.route),
            known.map(({ route }) => h("option", { selected: isChosen(route), value: route }, plain(route))),
          ),
        ),
    );

    // What is asked
    const check = h("p.check", { id: "check" }),
      rows = isChannel ? 2 : 4;
    const area = h("textarea", { id: "data", rows, spellcheck: "false", "aria-describedby": "check", oninput: verify });
    const upload = h("input.field", {
      type: "file",
      id: "data",
      "aria-describedby": "check",
      onchange: () => ((ask.file = upload.files[0] ?? null), verify()),
    });
    area.value = ask.data;
    const input = ask.format === "file" ? upload : area;
    function verify() {
      ask.data = area.value;
      const { note, isWrong } = read(area.value, ask.format, ask.file);
      put(check, note);
      check.classList.toggle("badt", Boolean(isWrong));
      input.setAttribute("aria-invalid", Boolean(isWrong));
      code();
    }
    const pre = h("pre", { tabindex: 0, "aria-label": t("The request as code") });
    function code() {
      const uri = line.addresses.find((known) => known.startsWith("tcp")) ?? address() ?? "";
      const filled = {
        ...ask,
        n: ask.n,
        data: ask.format === "hex" ? ask.data.replace(/\s|0x/g, "") : ask.data,
        mime: ask.kind !== "push" && ask.data ? FORMATS[ask.format] : "",
        hasAuth: Boolean(ask.token || line.auth),
        file: ask.file?.name,
        entries: ask.entries.filter(([mime]) => mime),
      };
      put(
        pre,
        LANGUAGES.find(([id]) => id === ask.language)[2](filled, { uri, ws: address() ?? "", origin: location.origin }),
      );
    }
    const row = (name, field, remove) =>
      h(
        "div.meta",
        name,
        field,
        remove
          ? h("button.text", { "aria-label": t("Remove {name}", { name: remove[0] }), onclick: remove[1] }, "×")
          : h("span"),
      );
    const entry = (pair, i) =>
      row(
        h("input.field", {
          type: "text",
          value: pair[0],
          placeholder: t("Type"),
          "aria-label": t("Type"),
          list: "mimes",
          spellcheck: "false",
          oninput: (e) => ((pair[0] = e.target.value), code()),
        }),
        h("input.field", {
          type: "text",
          value: pair[1],
          placeholder: t("Value"),
          "aria-label": t("Value"),
          spellcheck: "false",
          oninput: (e) => ((pair[1] = e.target.value), code()),
        }),
        [pair[0] || t("Type"), () => (ask.entries.splice(i, 1), show())],
      );
    const first = h("input", {
      type: "number",
      id: "first",
      min: 1,
      max: UNBOUNDED,
      value: ask.n,
      oninput: () => ((ask.n = Math.min(UNBOUNDED, Math.max(1, Math.floor(first.value) || 1))), code()),
    });
    const send = h(
      "button.go",
      { id: "send", onclick: start },
      t("Send"),
      h("kbd", { "aria-hidden": "true" }, /Mac|iP/.test(navigator.platform) ? "⌘↵" : "Ctrl ↵"),
    );
    const list = past(),
      isPush = kind === "push";
    const edit = h(
      "form.edit",
      {
        onsubmit: (e) => e.preventDefault(),
        onkeydown: (e) => e.key === "Enter" && (e.metaKey || e.ctrlKey) && send.click(),
      },
      tabs(
        t("Interaction"),
        KINDS.map(([id, name]) => [id, t(name)]),
        kind,
        (id) => {
          ask.kind = id;
          show();
          $(".edit [aria-selected=true]").focus();
        },
        (id) => !fits(KINDS.find(([kindOf]) => kindOf === id)),
      ),
      h("p.about", t(KINDS.find(([id]) => id === kind)[3])),
      !isPush &&
        h(
          "div",
          h(
            "div.lab",
            h("label.l", { for: "data" }, t("Data")),
            choices(
              t("Data"),
              [
                ["json", "JSON"],
                ["text", t("Text")],
                ["hex", t("Hex")],
                ["file", t("File")],
              ],
              ask.format,
              (format) => {
                ask.format = format;
                show();
              },
            ),
          ),
          input,
          check,
        ),
      h(
        "div",
        h(
          "div.lab",
          h("span.l", t("Metadata")),
          h(
            "span.act",
            !ask.token &&
              ask.token !== "" &&
              h("button.text", { onclick: () => ((ask.token = ""), show(), $("#token").focus()) }, t("Authentication")),
            h(
              "button.text",
              { onclick: () => (ask.entries.push(["application/json", ""]), show()) },
              t("Add an entry"),
            ),
          ),
        ),
        h(
          "div.metas",
          !isPush &&
            row(
              h("label.q", { for: "route" }, t("Route")),
              h("input.field", {
                type: "text",
                id: "route",
                value: ask.route,
                spellcheck: "false",
                oninput: (e) => ((ask.route = e.target.value), code()),
                onchange: show,
              }),
            ),
          ask.token != null &&
            row(
              h("label.q", { for: "token" }, t("Bearer token")),
              h("input.field", {
                type: "password",
                id: "token",
                autocomplete: "off",
                value: ask.token,
                oninput: (e) => ((ask.token = e.target.value), code()),
              }),
              [t("Authentication"), () => ((ask.token = null), show())],
            ),
          ask.entries.map(entry),
        ),
        h(
          "datalist",
          { id: "mimes" },
          [
            "application/json",
            "text/plain",
            "message/x.rsocket.tracing-zipkin.v0",
            "message/x.rsocket.accept-mime-types.v0",
          ].map((value) => h("option", { value })),
        ),
      ),
      h("div.sendrow", !isQuiet && [h("label", { for: "first" }, t("First grant")), first], send),
      h(
        "section.copy.panel",
        add(
          tabs(t("As code"), LANGUAGES, ask.language, (id) => ((ask.language = id), code())),
          copier(() => pre.textContent),
        ),
        pre,
      ),
      list.length > 0 &&
        h(
          "details.past",
          h("summary", `${t("Past requests")} · ${num(list.length)}`),
          h(
            "ul",
            list.map((old) =>
              h(
                "li",
                h(
                  "button",
                  { onclick: () => (Object.assign(ask, structuredClone(old), { file: null }), show()) },
                  h("span", t(KINDS.find(([id]) => id === old.kind)?.[1] ?? "")),
                  h("b", old.route),
                  h("code", old.data),
                ),
              ),
            ),
          ),
          h("button.text", { onclick: () => (localStorage.removeItem(HISTORY), show()) }, t("Forget them")),
        ),
    );

    // What comes of it
    let ledger = new Ledger(),
      stream = null,
      id = null,
      isAsking = false,
      begun = 0,
      isNew = false,
      taking = null;
    const why =
      isPush || kind === "fnf"
        ? t("No answer comes, so there is nothing to grant.")
        : t("A request carries its one credit with it; there is nothing more to grant.");
    const down = gauge(t(isChannel ? "You grant" : "Credit"), ledger.down, {
      keys: !isQuiet,
      small: isQuiet,
      why: isQuiet && why,
      hint: !isChannel && t("how many items the service may send you"),
    });
    const up = isChannel && gauge(t("The service grants you"), ledger.up, { out: true });
    const cancel = h("button", { onclick: () => stream?.cancel(), disabled: true }, t("Cancel"));
    const grants = !isQuiet && grantButtons(give),
      rate = h("output"),
      pace = h("input", { type: "range", min: 0, max: 2000, step: 50, value: slow, oninput: consume });
    if (!isQuiet) add(down.node, h("div.ctl", grants, h("label.slow", h("span.q", t("Consume slowly")), pace, rate)));
    if (kind !== "fnf" && !isPush) add(down.act, cancel);
    down.node.addEventListener("keydown", (e) => {
      if (e.target.matches("input") || e.ctrlKey || e.metaKey) return;
      if (e.key === "Escape") cancel.click();
      else if (keyGrant(e.key)) give(keyGrant(e.key));
    });
    const item = h("input.field", { type: "text", "aria-label": t("Item to send") }),
      put_ = h("button", { type: "submit" }, t("Send item")),
      finish = h("button.text", { onclick: () => stream?.complete() }, t("Finish"));
    put_.type = "submit";
    up && add(up.node, h("form.compose", { onsubmit: post }, item, put_, finish));
    const frames = timeline();
    const right = h("div.right", down.node, up && up.node, frames.node);
    if (isChannel) right.classList.add("two");
    fill(whole, routes, edit, right);
    verify();
    consume();
    down.draw();
    up && up.draw();
    buttons();

    listener = (direction, frame) => {
      const now = performance.now();
      if (frame.type === "KEEPALIVE") return;
      if (isAsking && direction === "out" && /^REQUEST_[^N]/.test(frame.type)) {
        isAsking = false;
        id = frame.stream;
      }
      const isOurs = frame.stream === id && id !== null;
      if (isOurs) ledger.take(direction, { ...frame, code: errorName(frame.code) }, now);
      else if (frame.stream !== 0 || frame.type === "SETUP") return;
      const isUp =
        isChannel && (direction === "out") === (frame.type === "PAYLOAD") && /PAYLOAD|REQUEST_N/.test(frame.type);
      const hasCredit = isOurs && !isPush && kind !== "fnf" && /^REQUEST|PAYLOAD/.test(frame.type);
      const { type, flags, stream: of, n, size } = frame;
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
        text: content(direction, frame),
      });
      isNew = true;
    };
    /** What a frame has in it, as much of it as can be seen. */
    function content(direction, { type, data, text, code, metadata }) {
      if (type === "ERROR") return `${errorName(code)}: ${text}`;
      if (type === "METADATA_PUSH") return glimpse(metadata);
      return `${direction === "out" && /^REQUEST_[^N]/.test(type) ? `${ask.route}  ` : ""}${glimpse(data)}`;
    }

    async function start() {
      const { bytes: body, isWrong } = read(ask.data, ask.format, ask.file);
      if (send.disabled || (isWrong && ask.format !== "json")) return input.focus();
      stop();
      const data = body instanceof Blob ? new Uint8Array(await body.arrayBuffer()) : body;
      remember(ask.data);
      ledger = new Ledger();
      down.reset(ledger.down);
      up && up.reset(ledger.up);
      frames.clear();
      isAsking = isNew = true;
      id = null;
      begun = performance.now();
      const metadata = Object.fromEntries(ask.entries.filter(([mime]) => mime));
      if (ask.data && FORMATS[ask.format]) metadata["message/x.rsocket.mime-type.v0"] = mimeEntry(FORMATS[ask.format]);
      const options = { metadata, auth: ask.token ? { bearer: ask.token } : undefined };
      const on = { next() {}, complete() {}, error: lost };
      try {
        if (isPush) peer.push(metadata);
        else if (kind === "fnf") peer.fireAndForget(ask.route, data, options);
        else if (kind === "request") {
          const signal = new AbortController();
          stream = { cancel: () => signal.abort() };
          peer.request(ask.route, data, { ...options, signal: signal.signal }).catch(lost);
        } else {
          stream = peer[kind](ask.route, data, { ...options, n: ask.n });
          stream.on(on);
        }
      } catch (error) {
        lost(error);
      }
      ledger.down.taken = slow && !isQuiet ? 0 : null;
      consume();
      buttons();
      if (innerWidth < 761) down.node.scrollIntoView({ behavior: still() ? "auto" : "smooth" });
    }
    /** An error has come as a frame, or else nothing will come any more. */
    function lost(error) {
      const now = performance.now();
      if (ledger.down.state === "idle" && !isPush) ledger.down.open(now);
      if (error?.name !== "AbortError")
        setTimeout(() => ledger.lose(now, error?.message || t("The connection was lost.")));
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
      isNew = true;
      down.draw(true);
    }
    /** A slow page: it takes one item each time, and asks for four more whenever four are taken. */
    function consume() {
      slow = Number(pace.value);
      const text = slow ? t("one item every {n} ms", { n: num(slow) }) : t("off"),
        credit = ledger.down;
      put(rate, slow ? `${num(slow)} ms` : text);
      pace.setAttribute("aria-valuetext", text);
      clearTimeout(taking);
      if (!slow) credit.taken = null;
      else credit.taken ??= credit.done;
      if (slow) taking = setTimeout(take, slow);
      isNew = true;
    }
    function take() {
      const credit = ledger.down;
      if (credit.state === "open") {
        if (credit.taken < credit.done) credit.taken += 1;
        if (!credit.free && credit.granted - credit.taken <= WINDOW - 4) give(4);
        isNew = true;
      }
      taking = setTimeout(take, slow);
    }
    function post(e) {
      e.preventDefault();
      if (ledger.up.state !== "open" || ledger.up.left <= 0) return;
      stream.send(item.value || `line ${ledger.up.done + 1}`);
      item.value = "";
      isNew = true;
    }
    function buttons() {
      const isOpen = ledger.down.state === "open",
        mayGrant = isOpen && !ledger.down.free,
        { up: ours } = ledger,
        maySend = ours.state === "open" && ours.left > 0;
      send.disabled = !peer || line.state !== "connected";
      if (cancel.disabled !== !isOpen) {
        const hadFocus = document.activeElement === cancel;
        cancel.disabled = !isOpen;
        if (hadFocus) send.focus();
      }
      if (grants) for (const button of grants.querySelectorAll("button")) button.disabled = !mayGrant;
      if (!up) return;
      item.disabled = put_.disabled = !maySend;
      finish.disabled = ours.state !== "open";
      item.placeholder = maySend
        ? t("Item {n}", { n: num(ours.done + 1) })
        : t(ours.state === "open" ? "The service has not asked for more yet" : "Send the request first");
    }

    let wasOpen = false;
    const end = animate((now) => {
      const isOpen = ledger.down.state === "open" || ledger.up.state === "open";
      if (isNew) {
        isNew = false;
        down.draw();
        up && up.draw();
        frames.refresh();
        buttons();
      }
      if (isOpen || wasOpen) {
        down.frame(now);
        up && up.frame(now);
      }
      wasOpen = isOpen;
    });
    const off = hear((what) => what === "state" && buttons());
    return () => {
      off();
      end();
      stop();
    };
  }
  draw && (cleanup = draw());
  return () => {
    isLeft = true;
    cleanup();
    peer?.close();
  };
}

/** The content of the entry that says what a request's data is: the number of a type that is known by one. */
const mimeEntry = (mime) => Uint8Array.of(0x80 | { "text/plain": 0x21, "application/octet-stream": 0x06 }[mime]);

// What is asked in the playground: what is being written, the form it is written in, and what was asked before.
import { t, words } from "./i18n.js";
import { bytes, choices, copier, h, num, put, tabs } from "./ui.js";
import { UNBOUNDED } from "./gauge.js";
import { LANGUAGES } from "./code.js";
import { address, line } from "./line.js";

words({
  Request: ["요청", "リクエスト"],
  Stream: ["스트림", "ストリーム"],
  "Fire-and-forget": ["보내고 잊기", "送信のみ"],
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
  "One payload there, and no answer.": ["하나를 보내고 답은 없습니다.", "1 つ送り、応答はありません。"],
  "Many payloads both ways. You grant to the service, and the service grants to you.": [
    "양쪽으로 여럿을 보냅니다. 나는 서비스에, 서비스는 나에게 허용합니다.",
    "双方向に多くを送ります。こちらはサービスに、サービスはこちらに許可します。",
  ],
  "Metadata alone, outside of any request. Some services end the connection at it.": [
    "요청과 무관한 메타데이터만 보냅니다. 이때 연결을 끊는 서비스도 있습니다.",
    "リクエストとは別に、メタデータだけを送ります。接続を切るサービスもあります。",
  ],
  Interaction: ["통신 방식", "通信方式"],
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
  "It has {size}; 16 MB are the most": ["{size}입니다. 최대 16 MB", "{size} です。最大 16 MB"],
  "Add an entry": ["항목 추가", "項目を追加"],
  Authentication: ["인증", "認証"],
  "Bearer token": ["베어러 토큰", "ベアラートークン"],
  Type: ["유형", "タイプ"],
  Value: ["값", "値"],
  "Remove {name}": ["{name} 지우기", "{name} を削除"],
  "First grant": ["첫 허용", "最初の許可"],
  Send: ["보내기", "送信"],
  "As code": ["코드로", "コードで"],
  "The request as code": ["코드로 나타낸 요청", "コードで表したリクエスト"],
  "Past requests": ["지난 요청", "過去のリクエスト"],
  "Forget them": ["모두 지우기", "履歴を消去"],
});

/** The interactions: their names here, in the list of routes and there as a letter, and what they are. */
export const KINDS = [
  ["request", "Request", "request-response", "R", "One payload there, one back. It carries its one credit with it."],
  [
    "stream",
    "Stream",
    "request-stream",
    "S",
    "One payload there, many back: as many as you grant, and never one more.",
  ],
  ["fnf", "Fire-and-forget", "fire-and-forget", "F", "One payload there, and no answer."],
  [
    "channel",
    "Channel",
    "request-channel",
    "C",
    "Many payloads both ways. You grant to the service, and the service grants to you.",
  ],
  ["push", "Push", "", "", "Metadata alone, outside of any request. Some services end the connection at it."],
];
export const kindOf = (id) => KINDS.find(([kind]) => kind === id);

/** Data for a route that nobody has asked yet. */
const SAMPLES = {
  range: '{"from":0,"to":1000,"interval_ms":100}',
  clock: '{"interval_ms":1000}',
  echo: '{"text":"hello"}',
  topic: '{"from":{"last":20}}',
};
/** The type of data where it is not that of the connection, and its number on the wire. */
const MIMES = {
  text: ["text/plain", 0x21],
  hex: ["application/octet-stream", 0x06],
  file: ["application/octet-stream", 0x06],
};
const OF_DATA = "message/x.rsocket.mime-type.v0";
const MAX_FILE = 16e6;
/** Names of metadata that may hold a secret: they are not remembered. */
const SECRET = /auth|token|cookie|secret|password/i;

/** The request that is being written. It outlives a change of screen; what is secret in it goes with the page. */
export const ask = {
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

export function take(change) {
  Object.assign(ask, change);
  ask.data ??= SAMPLES[ask.route.split(".")[0]] ?? "";
}

/** Reads some text as data: { bytes, note, isWrong }. */
export function read(text, format, file = null) {
  const encoded = new TextEncoder().encode(text);
  const size = bytes(encoded.length);
  if (format === "hex") {
    const digits = digitsOf(text);
    if (/[^\da-f]/i.test(digits) || digits.length % 2)
      return { note: t("Two hexadecimal digits a byte, as 00 ff"), isWrong: true };
    const all = Uint8Array.from(digits.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
    return { bytes: all, note: t("Bytes, {size}", { size: bytes(all.length) }) };
  }
  if (format === "file") {
    if (!file) return { note: t("Choose a file"), isWrong: true };
    const has = { size: bytes(file.size) };
    if (file.size > MAX_FILE) return { note: t("It has {size}; 16 MB are the most", has), isWrong: true };
    return { bytes: file, note: t("Bytes, {size}", has) };
  }
  if (!text.trim()) return { bytes: encoded, note: t("Empty") };
  if (format === "text") return { bytes: encoded, note: t("Text, {size}", { size }) };
  try {
    JSON.parse(text);
    return { bytes: encoded, note: t("JSON, {size}", { size }) };
  } catch (error) {
    return { bytes: encoded, note: t("No JSON: {why}", { why: error.message }), isWrong: true };
  }
}
const digitsOf = (text) => text.replace(/\s|0x/g, "");

/** The request as rsocket.mjs takes it: { data, metadata, auth }; null if what was written is no data. */
export async function filled() {
  const { bytes: body, isWrong } = read(ask.data, ask.format, ask.file);
  // What is no JSON may be sent: to see what the service says.
  if (isWrong && ask.format !== "json") return null;
  const data = body instanceof Uint8Array ? body : new Uint8Array(await body.arrayBuffer());
  const metadata = Object.fromEntries(ask.entries.filter(([mime]) => mime));
  if (data.length && MIMES[ask.format]) metadata[OF_DATA] ??= Uint8Array.of(0x80 | MIMES[ask.format][1]);
  return { data, metadata, auth: ask.token ? { bearer: ask.token } : undefined };
}

/** Entries of composite metadata as bytes, for what is pushed: each by its name, whatever it is. */
export function composite(metadata) {
  const text = new TextEncoder();
  const entries = Object.entries(metadata).map(([mime, value]) => {
    const [name, content] = [text.encode(mime), value instanceof Uint8Array ? value : text.encode(value)];
    const { length } = content;
    return [name.length - 1, ...name, length >> 16, (length >> 8) & 255, length & 255, ...content];
  });
  return Uint8Array.from(entries.flat());
}

// What was asked before: a hundred, without credentials, and without what files have in them.
const HISTORY = "rsock.requests";
function past() {
  try {
    return JSON.parse(localStorage.getItem(HISTORY)).filter(
      ({ kind, route }) => kindOf(kind) && typeof route === "string",
    );
  } catch {
    return [];
  }
}
export function remember() {
  const { kind, route, format, n } = ask;
  const data = format === "file" ? "" : ask.data.slice(0, 4096);
  const entries = ask.entries.filter(([mime]) => mime && !SECRET.test(mime));
  const text = JSON.stringify({ kind, route, format, n, data, entries });
  const others = past().map((old) => JSON.stringify(old));
  const all = [text, ...others.filter((other) => other !== text)].slice(0, 100);
  try {
    localStorage.setItem(HISTORY, `[${all}]`);
  } catch {} // There is no room: then it is not remembered.
}

/** The form. fits(kind) says what the route offers; again() draws all anew, rerouted() what the route decides; send() sends. */
export function editor({ fits, again, rerouted, send }) {
  const isPush = ask.kind === "push";
  const isStream = ask.kind === "stream" || ask.kind === "channel";
  const button = h("button.go", { id: "send", onclick: send }, t("Send"), h("kbd", { "aria-hidden": "true" }, sendKey));
  const pre = h("pre", { tabindex: 0, "aria-label": t("The request as code") });
  function code() {
    const uri = line.addresses.find((known) => known.startsWith("tcp")) ?? address() ?? "";
    const data = ask.format === "hex" ? digitsOf(ask.data) : ask.data;
    const mime = !isPush && (data || ask.file) ? MIMES[ask.format]?.[0] : "";
    const entries = ask.entries.filter(([type]) => type);
    const all = { ...ask, data, mime, entries, hasAuth: Boolean(ask.token || line.auth), file: ask.file?.name };
    const write = LANGUAGES.find(([id]) => id === ask.language)[2];
    put(pre, write(all, { uri, ws: address() ?? "", origin: location.origin }));
  }
  function choose(change) {
    Object.assign(ask, change);
    again();
  }

  const check = h("p.check", { id: "check" });
  const about = { id: "data", "aria-describedby": "check" };
  const area = h("textarea", { ...about, rows: ask.kind === "channel" ? 2 : 4, spellcheck: "false", oninput: verify });
  const upload = h("input.field", { ...about, type: "file", onchange: verify });
  area.value = ask.data;
  const input = ask.format === "file" ? upload : area;
  function verify() {
    ask.data = area.value;
    if (input === upload) ask.file = upload.files[0] ?? null;
    const { note, isWrong = false } = read(area.value, ask.format, ask.file);
    put(check, note);
    check.classList.toggle("badt", isWrong);
    input.setAttribute("aria-invalid", isWrong);
    code();
  }
  const formats = ["json", "text", "hex", "file"].map((id, i) => [id, ["JSON", t("Text"), t("Hex"), t("File")][i]]);
  const pick = choices(t("Data"), formats, ask.format, (format) => choose({ format }));
  const data = h("div", h("div.lab", h("label.l", { for: "data" }, t("Data")), pick), input, check);

  const field = (value, label, oninput, more) =>
    h("input.field", {
      type: "text",
      spellcheck: "false",
      value,
      "aria-label": label,
      oninput: (e) => (oninput(e.target.value), code()),
      ...more,
    });
  const row = (name, value, of, remove) =>
    h(
      "div.meta",
      name,
      value,
      h("button.text", { "aria-label": t("Remove {name}", { name: of }), onclick: remove }, "×"),
    );
  const route = field(ask.route, null, (text) => (ask.route = text), { id: "route", onchange: rerouted });
  const token = field(ask.token ?? "", null, (text) => (ask.token = text), {
    id: "token",
    type: "password",
    autocomplete: "off",
  });
  const entries = ask.entries.map((pair, i) => {
    const type = field(pair[0], t("Type"), (text) => (pair[0] = text), { list: "mimes", placeholder: t("Type") });
    const value = field(pair[1], t("Value"), (text) => (pair[1] = text), { placeholder: t("Value") });
    return row(type, value, pair[0] || t("Type"), () =>
      choose({ entries: ask.entries.filter((other) => other !== pair) }),
    );
  });
  const adders = h(
    "span.act",
    ask.token === null && h("button.text", { onclick: () => choose({ token: "" }) }, t("Authentication")),
    h(
      "button.text",
      { onclick: () => choose({ entries: [...ask.entries, ["application/json", ""]] }) },
      t("Add an entry"),
    ),
  );
  const metadata = h(
    "div",
    h("div.lab", h("span.l", t("Metadata")), adders),
    h(
      "div.metas",
      !isPush && h("div.meta", h("label.q", { for: "route" }, t("Route")), route),
      ask.token !== null &&
        row(h("label.q", { for: "token" }, t("Bearer token")), token, t("Authentication"), () =>
          choose({ token: null }),
        ),
      entries,
    ),
    h(
      "datalist",
      { id: "mimes" },
      ["application/json", "text/plain", OF_DATA].map((value) => h("option", { value })),
    ),
  );

  const first = h("input", { type: "number", id: "first", min: 1, max: UNBOUNDED, value: ask.n, oninput: grant });
  function grant() {
    ask.n = Math.min(UNBOUNDED, Math.max(1, Math.floor(first.value) || 1));
    code();
  }
  const languages = tabs(t("As code"), LANGUAGES, ask.language, (language) => {
    ask.language = language;
    code();
  });
  const kinds = tabs(
    t("Interaction"),
    KINDS.map(([id, name]) => [id, t(name)]),
    ask.kind,
    (kind) => choose({ kind }),
    (id) => !fits(id),
  );
  const node = h(
    "form.edit",
    { onsubmit: (e) => e.preventDefault(), onkeydown: (e) => e.key === "Enter" && (e.metaKey || e.ctrlKey) && send() },
    kinds,
    h("p.about", t(kindOf(ask.kind)[4])),
    !isPush && data,
    metadata,
    h("div.sendrow", isStream && [h("label", { for: "first" }, t("First grant")), first], button),
    h(
      "section.copy.panel",
      h(
        "div.bar1",
        languages,
        copier(() => pre.textContent),
      ),
      pre,
    ),
    before(choose),
  );
  verify();
  /** Tabs of what the route does not offer are off, but for the one that is chosen. */
  function refit() {
    for (const tab of kinds.children) tab.disabled = !fits(tab.dataset.id) && tab.dataset.id !== ask.kind;
  }
  return { node, button, input, refit, code };
}
const sendKey = /Mac|iP/.test(globalThis.navigator?.platform) ? "⌘↵" : "Ctrl ↵";

function before(choose) {
  const list = past();
  if (!list.length) return null;
  const again = ({ kind, route, format, n, data, entries }) =>
    choose({ kind, route, format, n, data, entries, file: null });
  const row = (old) =>
    h(
      "li",
      h(
        "button",
        { onclick: () => again(old) },
        h("span", t(kindOf(old.kind)[1])),
        h("b", old.route),
        h("code", old.data),
      ),
    );
  const forget = () => {
    localStorage.removeItem(HISTORY);
    choose({});
  };
  return h(
    "details.past",
    h("summary", `${t("Past requests")} · ${num(list.length)}`),
    h("ul", list.map(row)),
    h("button.text", { onclick: forget }, t("Forget them")),
  );
}

// The timeline of frames: of the newest thousand, those in sight are in the page, so that a fast stream costs no more than a slow one.
import { t, words } from "./i18n.js";
import { UNBOUNDED } from "./gauge.js";
import { bytes, copier, fill, h, num, put } from "./ui.js";

words({
  Frames: ["프레임", "フレーム"],
  "{n} of this request": ["이 요청의 프레임 {n}개", "このリクエストの {n} 件"],
  "{n}; the newest 1,000 are kept": ["{n}개, 최근 1,000개 보관", "{n} 件、新しい 1,000 件を保持"],
  direction: ["방향", "方向"],
  received: ["받음", "受信"],
  Frame: ["프레임", "フレーム"],
  Stream: ["스트림", "ストリーム"],
  "Credit after": ["이후 크레딧", "以後のクレジット"],
  Size: ["크기", "サイズ"],
  Content: ["내용", "内容"],
  Clear: ["비우기", "消去"],
  "Frames appear here as they are sent and received.": [
    "보내고 받는 프레임이 여기에 나타납니다.",
    "送受信したフレームがここに表示されます。",
  ],
});

const KEPT = 1000;
const ROW = 24;
const COMPLETE = 0x40;
/** Characters that move the text around them, or show nothing: a frame's content stays in its row. */
const UNSEEN = /[\0-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;

/** Bytes of a frame that a row can show. */
export const GLIMPSE = 300;
const decoder = new TextDecoder();
const textOf = ({ text, data }) => (data ? text + decoder.decode(data) : text).replace(UNSEEN, "·");

/** A table of frames. take() keeps one, refresh() shows what was kept; it is to be called once a frame of the display. */
export function timeline() {
  let kept = [];
  let total = 0;
  let follows = true;
  let drawn = "";
  let shown = 0;
  let before = 0; // rows that had gone when it was last drawn
  const about = h("span.q.small");
  const none = h("p.q.small.nothing", t("Frames appear here as they are sent and received."));
  const body = h("tbody");
  const heads = [
    h("th.n", "s"),
    h("th", h("span.vh", t("direction"))),
    h("th", t("Frame")),
    h("th.n.w", t("Stream")),
    h("th.n", "n"),
    h("th", t("Credit after")),
    h("th.n.w", t("Size")),
    h("th", t("Content")),
  ];
  const table = h("table", h("thead", h("tr", heads)), body);
  const wrap = h("div.scroll", { tabindex: 0, role: "region", "aria-label": t("Frames"), onscroll }, table);
  const act = h("span.act", copier(asText), h("button.text", { onclick: () => (clear(), refresh()) }, t("Clear")));
  const node = h("section.frames.panel", h("header", h("h2", t("Frames")), about, act), none, wrap);

  /** entry: { time in ms, direction, type, flags, stream, n, size, left: the credit after it or null, isUp: of what we send, text, data } */
  function take(entry) {
    kept.push(entry);
    total += 1;
    if (kept.length >= KEPT * 2) kept = kept.slice(-KEPT);
  }
  function clear() {
    kept = [];
    total = before = shown = 0;
    follows = true;
    drawn = "";
  }
  const inf = (n) => (n === Infinity || n === UNBOUNDED ? "∞" : n == null ? "" : num(n));
  function asText() {
    const line = ({ time, direction, type, stream, n, left, size, text, data }) =>
      [
        (time / 1000).toFixed(3),
        direction === "out" ? "→" : "←",
        type,
        stream,
        inf(n),
        inf(left),
        size,
        textOf({ text, data }),
      ].join("\t");
    return kept.slice(-KEPT).map(line).join("\n");
  }
  function marks(left, isUp) {
    if (left === Infinity) return h("span.cb", "∞");
    const rects = Array.from({ length: Math.min(left, 8) }, (_, i) =>
      h("rect", { x: i * 5 + 0.5, y: 0.5, width: 3, height: 7 }),
    );
    const svg = h(
      isUp ? "svg.up" : "svg",
      { "aria-hidden": "true" },
      left ? rects : h("rect.z", { width: 3, height: 8 }),
    );
    return h("span.cb", svg, num(left));
  }
  function row({ time, direction, type, flags, stream, n, size, left, isUp, ...content }) {
    const text = textOf(content);
    const isOut = direction === "out";
    const isLast = Boolean(flags & COMPLETE) && /PAYLOAD|CHANNEL/.test(type);
    const kinds = [isOut && "o", type === "REQUEST_N" && "rn", type === "ERROR" && "er"].filter(Boolean).join(" ");
    return h(
      "tr",
      { class: kinds },
      h("td.n.q", (time / 1000).toFixed(3)),
      h("td.dir", isOut ? "→" : "←", h("span.vh", t(isOut ? "sent" : "received"))),
      h("td.ft", type, isLast && h("span.q", " ✓", h("span.vh", t("Complete")))),
      h("td.n.q.w", stream),
      h("td.n", inf(n)),
      h("td", left != null && marks(left, isUp)),
      h("td.n.q.w", size && bytes(size)),
      h("td.txt", { title: text }, text),
    );
  }
  const space = (rows) =>
    rows > 0 &&
    h("tr", { "aria-hidden": "true" }, h("td.gapr", { colspan: 8 }, h("svg", { width: 1, height: rows * ROW })));
  function rows() {
    const all = kept.slice(-KEPT);
    const fits = Math.ceil(wrap.clientHeight / ROW) + 12;
    const last = follows ? all.length : Math.min(all.length, Math.floor(wrap.scrollTop / ROW) + fits);
    const first = Math.max(0, last - fits);
    const now = `${first} ${last} ${total}`;
    if (now === drawn) return;
    drawn = now;
    fill(body, space(first), all.slice(first, last).map(row), space(all.length - last));
    if (follows) wrap.scrollTop = wrap.scrollHeight;
  }
  function onscroll() {
    follows = wrap.scrollTop + wrap.clientHeight > wrap.scrollHeight - 30;
    rows();
  }
  let last = 0;
  /** Shows what was kept; false if there is more to be shown than can be read, and it is to be called again. */
  function refresh() {
    const now = performance.now();
    if (total - shown > 50 && now - last < 200) return false;
    last = now;
    shown = total;
    const n = num(total);
    put(about, total ? t(total > KEPT ? "{n}; the newest 1,000 are kept" : "{n} of this request", { n }) : "");
    none.hidden = total > 0;
    wrap.hidden = total === 0;
    // What somebody reads stays where it is while older rows go.
    const dropped = Math.max(0, total - KEPT) - before;
    before += dropped;
    if (!follows && dropped > 0) wrap.scrollTop -= dropped * ROW;
    rows();
    return true;
  }
  refresh();
  return { node, take, clear, refresh };
}

// Overview: is it well, and what deserves a look. Five lines on one axis of time, from the figures that come each second.
import { hear, line } from "./line.js";
import { t, tt, words } from "./i18n.js";
import { $, bytes, fill, h, head, num, pairs, put, refused, say, span, waiting } from "./ui.js";
import { watch } from "./worth.js";

words({
  "up {time}": ["가동 {time}", "稼働 {time}"],
  "The figures were refused.": ["숫자를 보는 것이 거부되었습니다.", "数値の表示が拒否されました。"],
  "{n} sessions wait": ["세션 {n}개 대기", "セッション {n} 件待機"],
  "Streams open": ["열린 스트림", "ストリーム"],
  "Requests a second": ["초당 요청", "毎秒の要求"],
  "Bytes a second": ["초당 바이트", "毎秒のバイト数"],
  "out; dashed: in": ["보냄, 점선은 받음", "送信、点線は受信"],
  "Holds a second": ["초당 대기", "毎秒の待機"],
  "streams out of credit": ["크레딧이 다한 스트림", "クレジット切れ"],
  "The last minutes; arrow keys read a moment": [
    "최근 몇 분, 화살표 키로 한 순간 읽기",
    "直近の数分。矢印キーで各時点を読む",
  ],
  "{name}: {now} now; from {low} to {high}.": [
    "{name}: 지금 {now}, {low}에서 {high}까지.",
    "{name}: 現在 {now}、{low} から {high} まで。",
  ],
  "Worth a look": ["살펴볼 것", "注目"],
  "Nothing.": ["없음.", "なし。"],
  "Listening on": ["수신 주소", "待ち受け"],
  "Since the start": ["시작 이후", "開始以降"],
  Requests: ["요청", "要求"],
  "Items out": ["보낸 항목", "送信項目"],
  "Items in": ["받은 항목", "受信項目"],
  "Refused by a limit": ["한도로 거부", "上限による拒否"],
  "Protocol errors by peers": ["상대의 프로토콜 오류", "相手のプロトコルエラー"],
  "Only this page is connected.": ["이 페이지만 연결되어 있습니다.", "接続しているのはこのページだけです。"],
  "From a terminal:": ["터미널에서:", "ターミナルから:"],
  "or {link}, which connects by itself.": ["또는 {link} – 알아서 연결됩니다.", "または {link}。自動で接続します。"],
  "open the playground": ["플레이그라운드 열기", "プレイグラウンドを開く"],
});

const count = (v) => num(Math.round(v));
const SERIES = [
  {
    name: "Connections",
    value: (s) => s.connections.open,
    note: (s) => (s.sessions.suspended ? t("{n} sessions wait", { n: num(s.sessions.suspended) }) : ""),
  },
  { name: "Streams open", value: (s) => s.streams.open },
  { name: "Requests a second", rate: (s) => s.requests.received },
  {
    name: "Bytes a second",
    rate: (s) => s.bytes.out,
    rate2: (s) => s.bytes.in,
    note: () => t("out; dashed: in"),
    show: bytes,
    least: 1000,
  },
  { name: "Holds a second", rate: (s) => s.credit_stalls, note: () => t("streams out of credit"), isStall: true },
];
/** Seconds on the axis: the first that the figures fit into. */
const AXES = [
  [30, "30 s", "20", "10"],
  [60, "60 s", "40", "20"],
  [180, "3 min", "2", "1"],
  [360, "6 min", "4", "2"],
  [900, "15 min", "10", "5"],
];
const RIGHT = 52;

/** The values of one figure: of each sample, or what it rose by in a second since the one before. */
export function values(samples, value, rate) {
  if (value) return samples.map(({ status }) => value(status));
  return samples
    .map(({ time, status }, i) => {
      const { time: t0, status: s0 } = samples[Math.max(0, i - 1)],
        rose = rate(status) - rate(s0);
      // After a restart it begins at zero.
      return i ? (Math.max(0, rose) * 1000) / Math.max(1, time - t0) : 0;
    })
    .map((v, i, all) => (i ? v : (all[1] ?? 0)));
}
/** The lowest and the highest value of a scale: at least a tenth of the value and `least` apart, so that calm looks calm. */
export function scale(all, isFromZero, least = 2) {
  const max = Math.max(0, ...all),
    min = isFromZero ? 0 : Math.min(...all);
  const pad = Math.max(0, Math.max(max * 0.1, least) - (max - min)) / 2;
  const low = isFromZero ? 0 : Math.max(0, min - pad);
  return [low, Math.max(max + (isFromZero ? pad * 2 : pad), low + Math.max(max * 0.1, least))];
}

export default function overview(main) {
  const about = h("span"),
    cursor = h("div.cursor"),
    moment = h("span"),
    ticks = [0, 1, 2].map(() => h("span"));
  let at = null;
  const rows = SERIES.map((series) => {
    const figure = h("b"),
      note = h("small"),
      high = h("i.hi"),
      low = h("i.lo"),
      text = h("span.vh");
    const area = series.isStall && h("path.area"),
      path = h("path"),
      second = series.rate2 && h("path.two");
    const svg = h(
      "svg",
      { viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": "true" },
      area,
      path,
      second,
    );
    const node = h(
      "div.strip",
      h("div.fig", h("span", t(series.name)), figure, note),
      h(`div.plot${series.isStall ? ".stall" : ""}`, svg, high, low),
      text,
    );
    const show = series.show ?? count;
    function draw(samples, x, index) {
      const first = values(samples, series.value, series.rate),
        other = series.rate2 && values(samples, null, series.rate2);
      const [lowest, highest] = scale([...first, ...(other ?? [])], Boolean(series.rate), series.least);
      const line = (all) =>
        all
          .map(
            (v, i) =>
              `${i ? "L" : "M"}${x(samples[i].time).toFixed(1)} ${(100 - ((v - lowest) / (highest - lowest)) * 100).toFixed(1)}`,
          )
          .join("");
      const d = line(first);
      path.setAttribute("d", d);
      area && area.setAttribute("d", `${d}L${x(samples.at(-1).time)} 100L${x(samples[0].time)} 100Z`);
      second && second.setAttribute("d", line(other));
      series.at = show(first[index]);
      put(figure, series.at);
      put(note, series.note?.(samples[index].status) ?? "");
      put(high, show(highest).replace(/[.,]0(?= )/, ""));
      put(low, show(lowest).replace(/[.,]0(?= )/, ""));
      put(
        text,
        t("{name}: {now} now; from {low} to {high}.", {
          name: t(series.name),
          now: show(first.at(-1)),
          low: show(Math.min(...first)),
          high: show(Math.max(...first)),
        }),
      );
    }
    return { node, draw };
  });
  const strips = h(
    "div.strips",
    {
      tabindex: 0,
      role: "group",
      "aria-label": t("The last minutes; arrow keys read a moment"),
      onmousemove,
      onmouseleave: () => read(null),
      onblur: () => read(null),
      onkeydown,
    },
    rows.map((row) => row.node),
    h("div.axis", { "aria-hidden": "true" }, ticks, moment),
    cursor,
  );
  const worth = h("ul"),
    listening = h("section"),
    totals = h("section"),
    hint = h("section");
  const rail = h("aside.rail", hint, h("section", h("h2", t("Worth a look")), worth), listening, totals);
  const body = h("div");
  main.append(head(t("Overview"), about), body);

  function axis() {
    const now = line.samples.at(-1).time,
      [seconds, ...labels] = AXES.find(([s]) => now - line.samples[0].time <= s * 1000) ?? AXES.at(-1);
    return { begin: now - seconds * 1000, length: seconds * 1000, labels, now };
  }
  function nearest(time) {
    const index = line.samples.findIndex((sample) => sample.time >= time);
    return index < 0 ? line.samples.length - 1 : index;
  }
  function draw() {
    if (line.refusal) return fill(body, refused(t("The figures were refused."), line.refusal));
    if (!line.samples.length) return body.firstChild || fill(body, waiting());
    if (!body.contains(strips)) fill(body, h("div.over", strips, rail));
    const { begin, length, labels, now } = axis(),
      index = at == null ? line.samples.length - 1 : nearest(at),
      { time, status } = line.samples[index];
    const x = (when) => Math.max(0, ((when - begin) / length) * 1000);
    for (const row of rows) row.draw(line.samples, x, index);
    labels.forEach((label, i) => put(ticks[i], label));
    put(moment, at == null ? t("now") : t("{time} ago", { time: span(Math.round((now - time) / 1000)) }));
    const plot = $(".plot", strips).getBoundingClientRect(),
      left = plot.left - strips.getBoundingClientRect().left;
    cursor.style.transform = `translateX(${left + ((plot.width - RIGHT) * x(time)) / 1000}px)`;
    put(about, `rsockd ${status.version} · ${t("up {time}", { time: span(status.uptime_seconds) })}`);
    sides(line.status);
  }
  function read(time) {
    at = time;
    if (line.samples.length) draw();
  }
  function onmousemove(e) {
    if (!line.samples.length) return;
    const plot = $(".plot", strips).getBoundingClientRect(),
      { begin, length } = axis();
    read(begin + Math.min(1, Math.max(0, (e.clientX - plot.left) / (plot.width - RIGHT))) * length);
  }
  function onkeydown(e) {
    const { begin, length, now } = axis(),
      to = { ArrowLeft: (at ?? now) - length / 60, ArrowRight: (at ?? now) + length / 60, Home: begin, End: now }[
        e.key
      ];
    if (to == null) return;
    e.preventDefault();
    read(to >= now ? null : Math.max(to, line.samples[0].time));
    say(`${moment.textContent}: ${SERIES.map((series) => `${t(series.name)} ${series.at}`).join(", ")}`);
  }
  let shownTotals = "";
  function sides(s) {
    const limits =
      s.connections.refused +
      s.connections.refused_addresses +
      s.requests.refused +
      s.requests.beyond_rate +
      s.memory.refused;
    const list = [
      ["Requests", s.requests.received],
      ["Items out", s.items.out],
      ["Items in", s.items.in],
      ["Refused by a limit", limits],
      ["Protocol errors by peers", s.connections.violations],
    ];
    const text = list.join();
    if (text !== shownTotals)
      fill(totals, h("h2", t("Since the start")), pairs(list.map(([name, v]) => [t(name), num(v)])));
    shownTotals = text;
    if (line.addresses.length && !listening.firstChild)
      fill(
        listening,
        h("h2", t("Listening on")),
        h(
          "ul",
          line.addresses.map((uri) => h("li", h("code", uri))),
        ),
      );
    const isAlone = s.connections.open <= 1;
    if (isAlone && !hint.firstChild)
      fill(
        hint,
        h("h2", t("Only this page is connected.")),
        h("p", t("From a terminal:")),
        h("pre", `rsock stream ${line.addresses[0] ?? "tcp://127.0.0.1:7878"} \\\n  -r range -d '{"to":10}'`),
        h(
          "p",
          tt("or {link}, which connects by itself.", {
            link: h("a", { href: "#/playground" }, t("open the playground")),
          }),
        ),
      );
    else if (!isAlone) fill(hint);
  }

  /** At most five rows, each a link. */
  function look(found) {
    const row = ({ href, name, text }) => h("li", h("a", { href }, name), h("p", text));
    fill(worth, found.length ? found.slice(0, 5).map(row) : h("li", h("p.q", t("Nothing."))));
  }

  const off = hear((what) => what === "status" && !document.hidden && draw());
  draw();
  const end = watch(look);
  return () => {
    off();
    end();
  };
}

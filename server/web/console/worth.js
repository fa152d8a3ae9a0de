// What deserves a look: streams that are held, readers that fall behind, settings that could not be taken. It is asked for each five
// seconds, of what the user may see.
import { api, line, ready } from "./line.js";
import { t, tt, words } from "./i18n.js";
import { h, num, span } from "./ui.js";

words({
  "Connection {id}": ["연결 {id}", "接続 {id}"],
  "takes nothing from {route} {time}": [
    "{route}에서 {time} 아무것도 받지 않음",
    "{route} から {time} 何も受け取っていません",
  ],
  "for {time}": ["{time} 동안", "{time}の間"],
  "does not answer": ["응답하지 않음", "応答しません"],
  "a reader is {n}; {kept} are kept": ["한 구독자가 {n}, {kept}개 보관", "読み手が {n}、保持は {kept} 件"],
  "{n} behind": ["{n}개 뒤처짐", "{n} 件遅れ"],
  "Its settings": ["서비스 설정", "設定"],
  "have problems": ["에 문제가 있음", "に問題があります"],
});

const PAUSE = 5000;
/** Connections that are looked into, and seconds after which a stream without credit is one that is held. */
const MOST = 12;
const HELD = 8;

/** Shows what was found, again and again: rows of { weight, href, name, text }. Gives what ends it. */
export function watch(show) {
  let isOver = false;
  let timer;
  let held = new Map(); // of streams that have sent all they may: how much, and since when
  async function look() {
    const isAdmin = line.may.has("admin");
    const found = await Promise.allSettled([topics(), isAdmin ? connections() : [], isAdmin ? settings() : []]);
    if (isOver) return;
    show(found.flatMap(({ value }) => value ?? []).sort((a, b) => b.weight - a.weight));
    timer = setTimeout(look, PAUSE);
  }
  async function connections() {
    const { connections: all } = await api("/admin/connections");
    const stuck = all.filter((one) => one.stuck).map(({ id }) => row(1e6, id, t("does not answer")));
    const some = all.filter((one) => one.streams > 0).sort((a, b) => b.credit_stalls - a.credit_stalls);
    const open = await Promise.allSettled(some.slice(0, MOST).map(({ id }) => api(`/admin/connections/${id}`)));
    const before = held;
    held = new Map();
    const now = performance.now();
    for (const { value: one } of open) {
      const waits = (s) => s.direction === "in" && /stream|channel/.test(s.interaction) && s.granted === s.sent;
      for (const s of one?.open?.filter(waits) ?? []) {
        const key = `${one.id}/${s.stream}`;
        const was = before.get(key);
        held.set(key, was?.sent === s.sent ? was : { id: one.id, route: s.route, sent: s.sent, since: now });
      }
    }
    return [...stuck, ...[...held.values()].flatMap((stream) => describe(stream, (now - stream.since) / 1000))];
  }
  function describe({ id, route }, seconds) {
    if (seconds < HELD) return [];
    const time = h("span.hold", t("for {time}", { time: span(Math.round(seconds)) }));
    return [row(seconds, id, tt("takes nothing from {route} {time}", { route: h("code", route ?? "–"), time }))];
  }
  const row = (weight, id, text) => ({ weight, href: `#/connections/${id}`, name: t("Connection {id}", { id }), text });

  look();
  return () => {
    isOver = true;
    clearTimeout(timer);
  };
}

async function topics() {
  const answer = await (await ready()).request("topics", "", { timeout: 4000 });
  return answer.json().topics.flatMap(({ topic, slowest, head, base }) => {
    const behind = slowest?.behind ?? 0;
    const kept = head - base + 1;
    if (behind < 10 || behind < kept / 2) return [];
    const n = h("span.hold", t("{n} behind", { n: num(behind) }));
    const text = tt("a reader is {n}; {kept} are kept", { n, kept: num(kept) });
    return [{ weight: behind, href: `#/topics/${encodeURIComponent(topic)}`, name: topic, text }];
  });
}

async function settings() {
  const { problems } = await api("/admin/config");
  return problems?.length ? [{ weight: 1e9, href: "#/config", name: t("Its settings"), text: t("have problems") }] : [];
}

// The words of the console in English, Korean and Japanese. English texts are the keys; {name} is filled in. A screen adds its own:
// words({ "Cut the line": ["회선 끊기", "回線を切る"] }).
const KNOWN = ["en", "ko", "ja"],
  TEXTS = new Map();
const browser = () =>
  (globalThis.navigator?.languages ?? []).map((name) => name.slice(0, 2)).find((name) => KNOWN.includes(name));
const kept = () => globalThis.localStorage?.getItem("lang");
let current = [kept(), browser(), "en"].find((name) => KNOWN.includes(name));

export const lang = () => current;
export function speak(language) {
  current = language;
  localStorage.setItem("lang", language);
}
export function words(list) {
  for (const [text, others] of Object.entries(list)) TEXTS.set(text, others);
}
const worded = (text) => TEXTS.get(text)?.[KNOWN.indexOf(current) - 1] ?? text;
/** The text in the language of the page. */
export const t = (text, values = {}) => worded(text).replace(/\{(\w+)\}/g, (all, name) => values[name] ?? all);
/** The same as a list, for values that are elements. */
export const tt = (text, values) =>
  worded(text)
    .split(/\{(\w+)\}/)
    .map((part, i) => (i % 2 ? values[part] : part));

words({
  "Skip to content": ["본문으로 건너뛰기", "本文へ"],
  Screens: ["화면", "画面"],
  Overview: ["개요", "概要"],
  Playground: ["플레이그라운드", "プレイグラウンド"],
  Rooms: ["대화방", "ルーム"],
  Topics: ["토픽", "トピック"],
  Connections: ["연결", "接続"],
  Configuration: ["설정", "設定"],
  Language: ["언어", "言語"],
  Colours: ["색", "配色"],
  System: ["시스템", "システム"],
  Light: ["밝게", "ライト"],
  Dark: ["어둡게", "ダーク"],
  Connected: ["연결됨", "接続中"],
  "Connecting…": ["연결하는 중…", "接続しています…"],
  "Not connected": ["연결되지 않음", "未接続"],
  "round trip": ["왕복 시간", "往復時間"],
  "Ask again": ["다시 묻기", "もう一度尋ねる"],
  Copy: ["복사", "コピー"],
  Copied: ["복사됨", "コピーしました"],
  "Not permitted": ["허용되지 않음", "許可されていません"],
  Close: ["닫기", "閉じる"],
  now: ["지금", "現在"],
  "{time} ago": ["{time} 전", "{time}前"],
  "The connection is lost.": ["연결이 끊어졌습니다.", "接続が切れました。"],
  "The service cannot be reached.": ["서비스에 닿을 수 없습니다.", "サービスに接続できません。"],
  "Figures are those of {time}.": ["{time} 기준 숫자입니다.", "{time} 時点の数値です。"],
  "Trying again in {n} s.": ["{n}초 뒤에 다시 시도합니다.", "{n} 秒後に再試行します。"],
  "Trying again.": ["다시 시도하는 중입니다.", "再試行しています。"],
  "Try now": ["지금 시도", "今すぐ試す"],
  "Draining.": ["종료하는 중.", "終了処理中。"],
  "No new connections.": ["새 연결은 받지 않습니다.", "新しい接続は受け付けません。"],
  "{n} left; all end by {time} at the latest.": [
    "{n}개가 남았으며 늦어도 {time}까지 모두 끝납니다.",
    "残り {n} 件。遅くとも {time} までにすべて終わります。",
  ],
  "Which ones": ["어떤 연결인지 보기", "接続を見る"],
  "This screen could not be loaded.": ["이 화면을 불러오지 못했습니다.", "この画面を読み込めませんでした。"],
  "Sign in": ["로그인", "サインイン"],
  "Sign out": ["로그아웃", "サインアウト"],
  "This service asks who you are.": ["이 서비스는 누구인지 묻습니다.", "このサービスは利用者を確認します。"],
  "What you type stays in this page until it is closed.": [
    "입력한 내용은 이 페이지를 닫을 때까지만 남습니다.",
    "入力した内容は、このページを閉じるまでだけ保持されます。",
  ],
  "Name and password": ["이름과 비밀번호", "名前とパスワード"],
  Token: ["토큰", "トークン"],
  Name: ["이름", "名前"],
  Password: ["비밀번호", "パスワード"],
  Keys: ["단축키", "ショートカット"],
  "Find on this screen": ["이 화면에서 찾기", "この画面で探す"],
  "Send the request": ["요청 보내기", "リクエストを送る"],
  "Gauge in focus: grant 1": ["게이지에 초점: 1개 허용", "ゲージにフォーカス: 1 件許可"],
  "grant 8": ["8개 허용", "8 件許可"],
  "grant 100": ["100개 허용", "100 件許可"],
  "grant without a bound": ["제한 없이 허용", "無制限に許可"],
  "cancel the stream": ["스트림 취소", "ストリームを取り消す"],
  "these keys": ["이 단축키 목록", "このショートカット一覧"],

  // The gauge
  Credit: ["크레딧", "クレジット"],
  "You grant": ["내가 허용", "こちらが許可"],
  "The service grants you": ["서비스가 나에게 허용", "サービスが許可"],
  "how many items the service may send you": ["서비스가 보내도 되는 항목 수", "サービスが送ってよい件数"],
  granted: ["허용", "許可"],
  delivered: ["도착", "受信"],
  outstanding: ["남음", "残り"],
  sent: ["보냄", "送信済み"],
  "left to send": ["보낼 수 있음", "送信可能"],
  void: ["무효", "無効"],
  Holding: ["대기 중", "待機中"],
  "Waiting for credit": ["크레딧 대기", "クレジット待ち"],
  Flowing: ["흐르는 중", "受信中"],
  Open: ["열림", "オープン"],
  Complete: ["완료", "完了"],
  Cancelled: ["취소됨", "取り消し"],
  Failed: ["실패", "失敗"],
  "Nothing asked yet": ["아직 요청 없음", "まだ要求なし"],
  "Send the request: it carries the first grant.": [
    "요청을 보내세요. 첫 허용이 함께 갑니다.",
    "リクエストを送ると、最初の許可も一緒に届きます。",
  ],
  "The service has not asked for anything yet.": [
    "서비스가 아직 아무것도 요청하지 않았습니다.",
    "サービスはまだ何も求めていません。",
  ],
  "There is no more to come.": ["더 올 것이 없습니다.", "これ以上は届きません。"],
  "You have said that no more comes.": ["더 보내지 않는다고 알렸습니다.", "これ以上送らないと伝えました。"],
  "The service has stopped. What was outstanding is void.": [
    "서비스가 멈췄습니다. 남은 허용은 무효입니다.",
    "サービスは止まりました。残りの許可は無効です。",
  ],
  "No more is wanted.": ["더는 원하지 않습니다.", "これ以上は求められていません。"],
  "Nothing holds the service back now but the socket.": [
    "이제 소켓 말고는 서비스를 막는 것이 없습니다.",
    "サービスを抑えるものは、もうソケットだけです。",
  ],
  "Asks for 4 more whenever this page has taken 4.": [
    "이 페이지가 4개를 가져갈 때마다 4개를 더 요청합니다.",
    "このページが 4 件取り出すたびに、さらに 4 件求めます。",
  ],
  "The service may send {n} more; then it has to wait for you.": [
    "서비스는 {n}개를 더 보낼 수 있고, 그다음에는 기다려야 합니다.",
    "サービスはあと {n} 件送れます。その後は待つことになります。",
  ],
  "You may send {n} more; then the service has to ask again.": [
    "{n}개를 더 보낼 수 있고, 그다음에는 서비스가 다시 요청해야 합니다.",
    "あと {n} 件送れます。その後はサービスが再び求める必要があります。",
  ],
  "The service has sent all it may, and waits. Grant more, and it goes on.": [
    "서비스는 허용된 만큼 다 보내고 기다립니다. 더 허용하면 이어집니다.",
    "サービスは許された分をすべて送り、待っています。さらに許可すると続きます。",
  ],
  "You have sent all you may. The service asks when it can take more.": [
    "허용된 만큼 다 보냈습니다. 서비스가 더 받을 수 있으면 요청합니다.",
    "許された分をすべて送りました。サービスは受け取れるようになれば求めます。",
  ],
  "The service holds: {done} of {granted} have come.": [
    "서비스가 대기 중: {granted}개 중 {done}개 도착.",
    "サービスは待機中: {granted} 件中 {done} 件受信。",
  ],
  Grant: ["허용하기", "許可する"],
  "Grant credit": ["크레딧 허용하기", "クレジットを許可する"],
  "Grant {n} more": ["{n}개 더 허용하기", "さらに {n} 件許可する"],
  "Grant without a bound": ["제한 없이 허용하기", "無制限に許可する"],
});

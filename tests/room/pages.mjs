// Three who are in a room by Chromium: the console, a page with a WebSocket, and a page with EventSource and fetch.
// Lines on stdin are "NAME\tTEXT", and "NAME" alone for who leaves; what a page reads is told with its name.

import { createInterface } from "node:readline";
import { chromium } from "playwright-core";
import { talk } from "./talk.mjs";

const [executablePath, topic, ...members] = process.argv.slice(2);
const args = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"];
const browser = await chromium.launch({ executablePath, args });
const LOOK = 200;

/** The console: what stands in its log, as often as that has changed. */
async function console_(page, url, name, tell) {
  await page.goto(`${url}/#/topics`);
  await page.evaluate((as) => localStorage.setItem("name", as), name);
  await page.goto(`${url}/#/rooms/${topic}`);
  await page.locator(".rail dd").getByText("Joined", { exact: true }).waitFor({ timeout: 20_000 });
  tell({ joined: true });
  let last = "";
  const look = async () => {
    const rows = await page.locator(".log > .gap, .log > .msg:not([data-at=''])").evaluateAll((all) =>
      all.map((row) => (row.matches(".gap") ? { gap: row.textContent } : { offset: Number(row.lastElementChild.textContent), text: row.children[2].textContent })),
    );
    const now = JSON.stringify(rows);
    if (now !== last) tell({ rows });
    last = now;
  };
  const looking = setInterval(() => look().catch(({ message }) => page.isClosed() || tell({ broken: message })), LOOK);
  const field = page.getByRole("textbox", { name: "Message" });
  return {
    async say(text) {
      await field.fill(text);
      await field.press("Enter");
    },
    async leave() {
      clearInterval(looking);
      await page.close({ runBeforeUnload: false });
    },
  };
}

/** A page of the service's own, with a function to tell by. One that is made up here would be no machine's, and be let nowhere. */
async function begin(page, url, tell) {
  await page.exposeFunction("tell", tell);
  await page.goto(`${url}/healthz`);
}
const inPage = (page) => ({
  say: (text) => page.evaluate((text) => member.say(text), text),
  leave: () => page.close(),
});

async function socket(page, url, name, tell) {
  await begin(page, url, tell);
  await page.evaluate(
    ([source, ...rest]) => {
      globalThis.member = new Function(`return ${source}`)()(WebSocket, ...rest, globalThis.tell);
    },
    [String(talk), url.replace("http", "ws"), name, topic],
  );
  return inPage(page);
}

async function events(page, url, name, tell) {
  await begin(page, url, tell);
  await page.evaluate(
    ([name, topic]) => {
      const address = `/api/topics/${topic}`;
      const source = new EventSource(`${address}?from=start&envelope=json`);
      source.onopen = () => tell({ joined: true });
      source.onmessage = ({ data }) => {
        const { epoch, offset, text } = JSON.parse(data);
        tell({ epoch, offset, text });
      };
      source.addEventListener("gap", ({ data }) => tell({ gap: JSON.parse(data) }));
      source.onerror = ({ data }) => (data || source.readyState === 2) && tell({ broken: data ?? "it is closed" });
      let saying = Promise.resolve();
      /** One after another, each until it is acknowledged, with a key by which it counts once. */
      async function post(body) {
        const headers = { "Idempotency-Key": crypto.randomUUID(), "Content-Type": "text/plain" };
        for (;;) {
          const answer = await fetch(`${address}?from=${name}`, { method: "POST", body, headers }).catch(() => null);
          if (answer?.ok) return;
          if (answer && answer.status !== 503) tell({ broken: await answer.text() });
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      }
      globalThis.member = { say: (text) => void (saying = saying.then(() => post(text))) };
    },
    [name, topic],
  );
  return inPage(page);
}

const kinds = { console: console_, page: socket, events };
const context = await browser.newContext({ locale: "en" });
const here = {};
await Promise.all(
  members.map(async (member) => {
    const [name, url] = member.split("=");
    const tell = (it) => console.log(JSON.stringify({ name, ...it }));
    here[name] = await kinds[name](await context.newPage(), url, name, tell);
  }),
);
const does = Object.fromEntries(Object.keys(here).map((name) => [name, Promise.resolve()]));
createInterface({ input: process.stdin })
  .on("line", (line) => {
    const [name, text] = line.split("\t");
    const act = () => (text === undefined ? here[name].leave() : here[name].say(text));
    const failed = ({ message }) => console.log(JSON.stringify({ name, broken: message }));
    does[name] = does[name].then(act).catch(failed);
  })
  .on("close", async () => {
    await Promise.all(Object.values(does));
    await browser.close();
    process.exit();
  });

// The credit gauge: its arithmetic alone, and its figures beside the frames that a tap counts.
import path from "node:path";
import { pathToFileURL } from "node:url";
import { counted } from "../service.mjs";

const NEXT = 0x20;
const COMPLETE = 0x40;
const FOLLOWS = 0x80;
const arithmetic = ({ options }) => import(pathToFileURL(path.join(options.source, "console/gauge.js")));

/** The figures that a gauge shows. */
async function shown(page, title) {
  const gauge = page.getByRole("region", { name: title, exact: true });
  const [granted, done, left] = (await gauge.locator(".sum b").allTextContents()).map((text) => text.replaceAll(",", ""));
  return { granted, done, left, state: await gauge.getAttribute("data-s") };
}
/** Waits until no frame has come for a while, so that page and tap can be compared. */
async function calm(page) {
  const count = () => page.tapped.connections.reduce((sum, { frames }) => sum + frames.filter(({ stream, type }) => stream && type !== "KEEPALIVE").length, 0);
  // The figures of the shared connection come each second: those of the playground's are looked at.
  const ours = page.tapped.connections.at(-1);
  for (let [last, same] = [-1, 0]; same < 3; ) {
    await page.waitForTimeout(120);
    same = ours.frames.length === last ? same + 1 : 0;
    last = ours.frames.length;
  }
  return count;
}
/** The connection of the playground, and its newest request. */
function newest(page) {
  const isOurs = (frame) => frame.direction === "out" && /^REQUEST_[^N]/.test(frame.type) && !/status|routes|topics/.test(frame.text);
  for (const { frames } of [...page.tapped.connections].reverse()) {
    const request = frames.findLast(isOurs);
    if (request) return { frames, stream: request.stream };
  }
  throw new Error("no request was seen");
}
const send = async (page) => {
  await page.locator("#send:enabled").click();
};
async function compare(t, page, title, direction) {
  await calm(page);
  // The page may still have to take what has passed the tap.
  for (let patience = 60; ; patience--) {
    const { frames, stream } = newest(page);
    const { granted, done } = counted(frames, stream, direction);
    const figures = await shown(page, title);
    const seen = [figures.granted, figures.done, figures.left].map(Number);
    if (String(seen) === String([granted, done, granted - done])) return figures;
    if (!patience) t.is(seen, [granted, done, granted - done], `${title}: what is shown beside what passed`);
    await page.waitForTimeout(200);
  }
}

export default {
  async "counts grants and items of a stream"(t) {
    const { Ledger } = await arithmetic(t);
    const ledger = new Ledger();
    t.is(ledger.down.state, "idle");
    ledger.take("out", { type: "REQUEST_STREAM", n: 3 }, 0);
    t.is([ledger.down.left, ledger.down.holds], [3, false]);
    for (let i = 0; i < 3; i++) ledger.take("in", { type: "PAYLOAD", flags: NEXT }, 10 * (i + 1));
    t.is([ledger.down.left, ledger.down.holds, ledger.down.since], [0, true, 30]);
    ledger.take("out", { type: "REQUEST_N", n: 2 }, 50);
    ledger.take("in", { type: "PAYLOAD", flags: NEXT | COMPLETE }, 60);
    t.is([ledger.down.granted, ledger.down.done, ledger.down.state], [5, 4, "complete"]);
    ledger.take("in", { type: "ERROR", text: "late" }, 70);
    t.is(ledger.down.state, "complete", "an end stays");
  },
  async "counts a payload in fragments once, when its last has come"(t) {
    const { Ledger } = await arithmetic(t);
    const ledger = new Ledger();
    ledger.take("out", { type: "REQUEST_CHANNEL", n: 8, flags: FOLLOWS }, 0);
    ledger.take("out", { type: "PAYLOAD", flags: NEXT | FOLLOWS }, 1);
    ledger.take("out", { type: "PAYLOAD", flags: NEXT }, 2);
    ledger.take("in", { type: "REQUEST_N", n: 4 }, 3);
    t.is([ledger.up.granted, ledger.up.done], [4, 0], "the fragments of a request are no items");
    ledger.take("out", { type: "PAYLOAD", flags: NEXT | FOLLOWS }, 4);
    ledger.take("out", { type: "PAYLOAD", flags: NEXT }, 5);
    ledger.take("in", { type: "PAYLOAD", flags: NEXT | FOLLOWS }, 6);
    t.is([ledger.up.done, ledger.down.done], [1, 0]);
    ledger.take("in", { type: "PAYLOAD", flags: 0 }, 7);
    t.is(ledger.down.done, 1);
  },
  async "knows what has no bound, what was cancelled and what failed"(t) {
    const { Ledger, UNBOUNDED } = await arithmetic(t);
    const stream = () => {
      const ledger = new Ledger();
      ledger.take("out", { type: "REQUEST_STREAM", n: 1 }, 0);
      return ledger;
    };
    const free = stream();
    free.take("out", { type: "REQUEST_N", n: UNBOUNDED }, 1);
    t.is([free.down.free, free.down.left === Infinity, free.down.holds], [true, true, false]);
    const canceled = stream();
    canceled.take("out", { type: "CANCEL" }, 1);
    t.is(canceled.down.state, "canceled");
    const failed = stream();
    failed.take("in", { type: "ERROR", code: "REJECTED", text: "no" }, 1);
    t.is([failed.down.state, failed.down.why], ["failed", "REJECTED: no"]);
    const forgotten = new Ledger();
    forgotten.take("out", { type: "REQUEST_FNF" }, 0);
    t.is([forgotten.down.state, forgotten.down.granted], ["complete", 0]);
  },
  async "turns a page of the tape when the border comes near its end"(t) {
    const { Credit, page, slots } = await arithmetic(t);
    const credit = new Credit();
    credit.open(0);
    credit.grant(100, 0);
    t.is(page(credit, 40, 0), 0);
    for (let i = 0; i < 33; i++) credit.came(i);
    t.is(page(credit, 40, 0), 23, "33 of 40, and the limit is outside");
    t.is(slots(credit, 5, 31), ["d", "d", "o", "o", "o"]);
    t.is(slots(credit, 5, 31, 32), ["d old", "d", "o", "o", "o"]);
    credit.end("canceled", 50);
    t.is(slots(credit, 3, 32), ["d", "v", "v"], "what is void");
    const short = new Credit();
    short.open(0);
    short.grant(38, 0);
    for (let i = 0; i < 38; i++) short.came(i);
    t.is(page(short, 40, 0), 0, "the limit is in sight");
    t.is(page(new Credit(), 40, 12), 0, "another stream begins at its first slot");
  },
  async "draws stairs of which the lower line never crosses the upper"(t) {
    const { Credit, stairs } = await arithmetic(t);
    const credit = new Credit();
    credit.open(0);
    let seed = 7;
    const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
    for (let now = 20; now < 20_000; now += 20) {
      if (credit.left && random() < 0.7) credit.came(now);
      else if (random() < 0.2) credit.grant(1 + Math.floor(random() * 9), now);
    }
    const { above, below, held } = stairs(credit, 5000, 20_000, (x) => x, (y) => -y);
    const heights = (path) => [...path.matchAll(/[MV][^MVH]*?(-?[\d.]+)(?=[HVM]|$)/g)].map((match) => Number(match[1]));
    const [tops, bottoms] = [heights(above), heights(below)];
    t.is(tops.length, bottoms.length);
    tops.forEach((top, i) => t.ok(top <= bottoms[i], `at step ${i} it has ${-bottoms[i]} of ${-top}`));
    t.ok(held.startsWith("M"), "it held at times");
  },
  async "a stream under credit, as the tap counts it"(t) {
    const page = await t.open("playground/stream/range");
    await page.locator("#first").fill("5");
    await page.locator("#data").fill('{"from":0,"to":1000}');
    await send(page);
    t.is(await compare(t, page, "Credit", "in"), { granted: "5", done: "5", left: "0", state: "holding" });
    await page.getByText("The service has sent all it may, and waits.").waitFor();
    await page.getByRole("button", { name: "Grant 1 more" }).click();
    await page.getByRole("button", { name: "Grant 8 more" }).click();
    t.is((await compare(t, page, "Credit", "in")).granted, "14");
    await page.getByRole("button", { name: "Grant 100 more" }).click();
    t.is((await compare(t, page, "Credit", "in")).granted, "114");
    await page.getByRole("button", { name: "Grant without a bound" }).click();
    await page.locator('.gauge[data-s="ended"]').waitFor();
    await calm(page);
    const { frames, stream } = newest(page);
    t.is([(await shown(page, "Credit")).done, (await shown(page, "Credit")).granted], [String(counted(frames, stream).done), "∞"]);
    t.is(counted(frames, stream).done, 1000);
  },
  async "items in fragments, as the tap counts them"(t) {
    const page = await t.open("playground/stream/range");
    await page.locator("#data").fill('{"to":100,"size":200000}');
    await send(page);
    t.is(await compare(t, page, "Credit", "in"), { granted: "8", done: "8", left: "0", state: "holding" });
    const { frames, stream } = newest(page);
    t.ok(frames.filter((frame) => frame.stream === stream && frame.flags & FOLLOWS).length >= 16, "they came in fragments");
  },
  async "a channel, both ways, as the tap counts them"(t) {
    const page = await t.open("playground/channel/echo");
    await send(page);
    const item = page.getByLabel("Item to send");
    for (let i = 1; i <= 9; i++) {
      await page.locator(".compose input:enabled").waitFor();
      await item.fill(`line ${i}`);
      await item.press("Enter");
    }
    const down = await compare(t, page, "You grant", "in");
    t.is([down.granted, down.done, down.state], ["8", "8", "holding"]);
    t.is((await compare(t, page, "The service grants you", "out")).done, "9");
    await page.getByRole("button", { name: "Grant 8 more" }).click();
    await page.getByRole("button", { name: "Finish" }).click();
    await page.locator('.gauge[data-s="ended"]').nth(1).waitFor();
    t.is((await compare(t, page, "You grant", "in")).done, "10");
  },
  async "a cancelled stream is void, and says so"(t) {
    const page = await t.open("playground/stream/clock");
    await send(page);
    await page.locator(".cells .d").first().waitFor();
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.getByText("What was outstanding is void.").waitFor();
    const figures = await compare(t, page, "Credit", "in");
    t.is(figures.state, "ended");
    t.is(await page.locator(".cells .v").count(), Number(figures.left));
    t.is(await page.evaluate(() => document.activeElement.id), "send", "what has the focus");
  },
  async "a slow page asks for four whenever it has taken four"(t) {
    const page = await t.open("playground/stream/range");
    await page.locator("#data").fill('{"from":0}');
    await page.locator("input[type=range]").fill("50");
    await send(page);
    await page.waitForFunction(() => Number(document.querySelector(".sum .d b").textContent) >= 20);
    await page.locator("input[type=range]").fill("0");
    await calm(page);
    const { frames, stream } = newest(page);
    const grants = frames.filter((frame) => frame.stream === stream && frame.type === "REQUEST_N").map(({ n }) => n);
    t.ok(grants.length >= 3 && grants.every((n) => n === 4), `it asked for ${grants}`);
    await compare(t, page, "Credit", "in");
  },
  async "of a fast stream without a bound each item counts, and few rows are in the page"(t) {
    const page = await t.open("playground/stream/range");
    await page.locator("#data").fill('{"to":20000}');
    await send(page);
    await page.getByRole("button", { name: "Grant without a bound" }).click();
    await page.locator('.gauge[data-s="ended"]').waitFor();
    await calm(page);
    t.is((await shown(page, "Credit")).done, "20000");
    t.ok((await page.locator(".frames tbody tr").count()) < 60, "rows in the page");
    await page.getByText("20,002; the newest 1,000 are kept").waitFor();
    await page.locator(".frames .scroll").evaluate((e) => (e.scrollTop = 0));
    await page.locator(".frames").getByText("19000", { exact: true }).waitFor();
  },
};

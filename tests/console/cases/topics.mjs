// Topics: the table, the tail under a credit of its own, pages of history, who is there, a message of one's own.
import { counted } from "../service.mjs";

let names = 0;
const fresh = (name) => `${name}.${process.pid}-${++names}`;

/** Publishes from the page's module, by a connection of its own. */
const publish = (page, name, from, n) =>
  page.evaluate(
    async ([topic, first, count]) => {
      const { connect } = await import("/rsocket.mjs");
      const client = await connect(`${location.origin.replace("http", "ws")}/rsocket`);
      await Promise.all(Array.from({ length: count }, (_, i) => client.topic(topic).publish(`item ${first + i}`, { from: "ann" })));
      client.close();
    },
    [name, from, n],
  );
const row = (page, name) => page.locator("tbody tr.row").filter({ has: page.getByRole("link", { name, exact: true }) });
const column = (page, name, index) => row(page, name).locator("td").nth(index);
const items = (page) => page.locator(".tail li:not(.gapl) code").allTextContents();
const numbered = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => `item ${from + i}`);
/** Waits until the tail's figures are these: granted, delivered, outstanding. */
const figures = (page, ...wanted) =>
  page.waitForFunction((all) => [...document.querySelectorAll(".tail .sum b")].map((b) => b.textContent).join() === all, wanted.join());
/** The same figures as the frames of the page's newest subscription have them. */
function passed(page, name) {
  for (const { frames } of page.tapped.connections) {
    const request = frames.findLast((frame) => frame.type === "REQUEST_STREAM" && frame.text.includes(`topic.${name}`));
    if (request) return counted(frames, request.stream);
  }
  throw new Error("no subscription was seen");
}

export default {
  async "there are none yet, and how one comes to be is said"(t) {
    const { at } = await t.serve();
    const page = await t.open("topics", { at });
    await page.getByRole("heading", { name: "No topic yet." }).waitFor();
    t.ok((await page.locator(".none pre").textContent()).startsWith("rsock topic pub tcp://127.0.0.1:"), "a command");
    await t.shot(page, "topics-empty");
    await publish(page, "lobby", 1, 1);
    await row(page, "lobby").waitFor();
  },
  async "a table that is sorted, searched and kept up to date"(t) {
    const { at } = await t.serve();
    const page = await t.open("topics", { at });
    await publish(page, "a.few", 1, 3);
    await publish(page, "z.many", 1, 30);
    await column(page, "z.many", 2).getByText("30", { exact: true }).waitFor();
    const order = () => page.locator("tbody tr.row td:first-child").allTextContents();
    await page.getByRole("button", { name: "Messages" }).click();
    t.is(await order(), ["z.many", "a.few"]);
    t.is(await page.getByRole("columnheader", { name: "Messages" }).getAttribute("aria-sort"), "descending");
    await page.keyboard.press("Enter");
    t.is(await order(), ["a.few", "z.many"]);
    await publish(page, "a.few", 4, 37);
    await column(page, "a.few", 2).getByText("40", { exact: true }).waitFor();
    t.is(await order(), ["z.many", "a.few"], "sorted anew");
    t.is(await page.evaluate(() => document.activeElement.textContent), "Messages", "the focus stays");
    await page.locator("h1").focus();
    await page.keyboard.press("/");
    await page.keyboard.type("few");
    t.is(await order(), ["a.few"]);
    await page.keyboard.type("est");
    await page.getByText("No topic with “fewest” in its name.").waitFor();
  },
  async "the bar of who falls behind: grey, amber from a half, red from four fifths"(t) {
    const name = fresh("lag");
    const page = await t.open("topics");
    await page.evaluate(async (topic) => {
      const { connect } = await import("/rsocket.mjs");
      const client = await connect(`${location.origin.replace("http", "ws")}/rsocket`);
      const stream = client.stream(`topic.${topic}`, { from: "new" }, { n: 1 });
      stream.on({ next() {} });
      globalThis.kept = [client, stream];
      await client.topic(topic).publish("the only one that is asked for");
    }, name);
    for (const [upTo, kind] of [[401, "lag"], [601, "lag warn"], [901, "lag full"]]) {
      const head = Number(await column(page, name, 2).textContent().catch(() => 1)) || 1;
      await publish(page, name, head, upTo - head);
      await column(page, name, 7).getByText(String(upTo - 1), { exact: true }).waitFor();
      t.is(await column(page, name, 7).locator(".lag").getAttribute("class"), kind, `${upTo - 1} of 1,024`);
      await column(page, name, 2).getByText(String(upTo), { exact: true }).waitFor();
    }
    t.is(await column(page, name, 7).locator("svg").getAttribute("aria-label"), "88 % of what is kept");
  },
  async "a tail under a credit of its own, as the tap counts it"(t) {
    const name = fresh("tail");
    const page = await t.open("topics");
    await publish(page, name, 1, 50);
    await page.goto(`${page.tapped.origin}/#/topics/${name}`);
    // The position is an item as well, and the last twenty are wanted.
    await figures(page, 32, 21, 11);
    t.is(await items(page), numbered(31, 50));
    await publish(page, name, 51, 30);
    await figures(page, 32, 32, 0);
    await page.locator('.tail .gauge[data-s="holding"]').waitFor();
    t.is(passed(page, name), { granted: 32, done: 32 });
    await t.shot(page, "topics-tail-held");
    await page.getByRole("button", { name: "Grant 8 more" }).click();
    await figures(page, 40, 40, 0);
    await page.locator(".tail .gauge").focus();
    await page.keyboard.press("1");
    await figures(page, 41, 41, 0);
    t.is(passed(page, name), { granted: 41, done: 41 });
    await page.keyboard.press("Escape");
    await page.locator('.tail .gauge[data-s="ended"]').waitFor();
    t.is(await items(page), numbered(31, 70));
    await page.getByRole("button", { name: "Ask again" }).click();
    // It goes on behind what it has.
    await figures(page, 8, 8, 0);
    t.is(await items(page), numbered(31, 77));
    await page.getByRole("button", { name: "Grant without a bound" }).click();
    await page.locator(".tail code").getByText("item 80", { exact: true }).waitFor();
    await publish(page, name, 81, 100);
    await page.locator(".tail code").getByText("item 180", { exact: true }).waitFor();
    t.is(await items(page), numbered(31, 180));
    t.is(await page.locator(".tail .sum b").first().textContent(), "∞");
  },
  async "what the log lets go of while the page holds is a gap"(t) {
    const { at } = await t.serve(["--topic", "small.>=memory,messages=5"]);
    const page = await t.open("topics", { at });
    await publish(page, "small.1", 1, 1);
    await page.goto(`${at.origin}/#/topics/small.1`);
    await figures(page, 32, 2, 30);
    await publish(page, "small.1", 2, 100);
    await figures(page, 32, 32, 0);
    // Messages of the last two seconds stay, however many they are.
    await page.waitForTimeout(2200);
    await publish(page, "small.1", 102, 5);
    await page.getByRole("button", { name: "Grant 100 more" }).click();
    await page.locator(".tail code").getByText("item 106", { exact: true }).waitFor();
    const [, from, to] = /Gap: (\d+)–(\d+)/.exec(await page.locator(".tail .gapl").textContent()).map(Number);
    t.is(await items(page), [...numbered(1, from - 1), ...numbered(to + 1, 106)]);
    t.is(from, 32);
    await t.shot(page, "topics-tail-gap");
  },
  async "a tail goes on where it was when the line is back"(t) {
    const name = fresh("back");
    const page = await t.open("topics", { expects: /Failed to load|WebSocket|ERR_/ });
    await publish(page, name, 1, 3);
    await page.goto(`${page.tapped.origin}/#/topics/${name}`);
    await figures(page, 32, 4, 28);
    page.tapped.cut();
    await page.getByText("The connection is lost.").waitFor();
    await t.shot(page, "topics-lost");
    page.tapped.mend();
    await page.getByText("The connection is lost.").waitFor({ state: "detached" });
    await publish(page, name, 4, 3);
    await page.locator(".tail code").getByText("item 6", { exact: true }).waitFor();
    t.is(await items(page), numbered(1, 6));
  },
  async "pages of history, the newest first"(t) {
    const name = fresh("history");
    const page = await t.open("topics");
    await publish(page, name, 1, 120);
    await page.goto(`${page.tapped.origin}/#/topics/${name}/history`);
    const shows = async (from, to) => {
      await page.getByText(`${from} to ${to}; kept are 1 to 120`).waitFor();
      t.is(await items(page), numbered(from, to).reverse());
    };
    await shows(71, 120);
    t.is(await page.getByRole("button", { name: "Newer" }).isDisabled(), true);
    await page.getByRole("button", { name: "Older" }).click();
    await shows(21, 70);
    await page.getByRole("button", { name: "Older" }).click();
    await shows(1, 20);
    t.is(await page.getByRole("button", { name: "Older" }).isDisabled(), true);
    await page.getByRole("button", { name: "Newer" }).click();
    await shows(21, 70);
    await page.getByRole("button", { name: "Newest" }).click();
    await shows(71, 120);
    await t.shot(page, "topics-history");
  },
  async "who is there, and a message of one's own"(t) {
    const name = fresh("people");
    const page = await t.open(`topics/${name}`);
    await page.getByRole("tab", { name: "Members" }).click();
    await page.getByText("Nobody has joined.").waitFor();
    await page.evaluate(async (topic) => {
      const { connect } = await import("/rsocket.mjs");
      const client = await connect(`${location.origin.replace("http", "ws")}/rsocket`);
      globalThis.kept = [client, await client.topic(topic).join({ name: "bob", info: { avatar: 3 } }), await client.topic(topic).join({ name: "bob" })];
    }, name);
    const bob = page.locator(".mem li").filter({ hasText: "bob" });
    await bob.getByText("2 devices").waitFor();
    await page.evaluate(() => globalThis.kept[1].leave());
    await bob.getByText("2 devices").waitFor({ state: "detached", timeout: 15_000 });
    await bob.waitFor();
    await page.keyboard.press("ArrowRight");
    t.is(await page.getByRole("tab", { selected: true }).textContent(), "Publish");
    t.ok(page.url().endsWith("/publish"), page.url());
    await page.getByLabel("Data").fill("hello");
    await page.getByLabel("Sender").fill("ann");
    await page.keyboard.press("Control+Enter");
    await page.getByText(/^Published as message 1, epoch [0-9a-f]{4}…$/).waitFor();
    await t.shot(page, "topics-publish");
    await page.getByLabel("Sender").fill("x".repeat(100));
    await page.getByRole("button", { name: "Publish", exact: true }).click();
    const why = page.locator(".pub .badt");
    await why.waitFor();
    t.ok(/64/.test(await why.textContent()), `in the words of the service: ${await why.textContent()}`);
    await page.getByRole("tab", { name: "Tail" }).click();
    await page.locator(".tail li").filter({ hasText: "hello" }).getByText("ann").waitFor();
  },
  async "names that are no names are refused in the words of the service"(t) {
    const hostile = `<img src=x onerror="alert(1)">`;
    const page = await t.open(`topics/${encodeURIComponent(hostile)}`);
    await page.locator('.tail .gauge[data-s="failed"]').waitFor();
    t.ok((await page.locator(".tail .cap").textContent()).includes("is not a topic's name"), "the tail");
    await page.getByRole("tab", { name: "History" }).click();
    await page.getByRole("heading", { name: "History was refused." }).waitFor();
    await page.getByRole("tab", { name: "Members" }).click();
    await page.getByRole("heading", { name: "Presence was refused." }).waitFor();
    t.is(await page.locator(".tail h2 bdi").first().textContent(), hostile);
    t.is(await page.locator("main img").count(), 0);
  },
  async "beside the table on a desk, in its place on a phone"(t) {
    const name = fresh("panel.with-a-name-that-is-longer-than-most");
    const at = await t.tap();
    for (const [width, scheme] of [[1440, "light"], [1100, "light"], [390, "dark"]]) {
      const page = await t.open("topics", { at, width, scheme });
      await publish(page, name, 1, 40);
      await row(page, name).waitFor();
      t.is(await t.overflow(page), [], `the table, ${width}`);
      await row(page, name).getByRole("link").focus();
      await page.keyboard.press("Enter");
      await page.locator(".tail li").first().waitFor();
      t.is(await page.locator(".list").isVisible(), width > 1240);
      for (const pane of ["Tail", "History", "Members", "Publish"]) {
        await page.getByRole("tab", { name: pane }).click();
        if (pane !== "Publish") await page.locator(".tail li, .tail p.pad").first().waitFor();
        t.is(await t.axe(page), [], `${pane}, ${width}`);
        t.is(await t.overflow(page), [], `${pane}, ${width}`);
        await t.shot(page, `topics-${pane.toLowerCase()}-${width}-${scheme}`);
      }
      await page.getByRole("link", { name: "Close" }).click();
      await row(page, name).waitFor();
      t.is(await page.locator(".tail").count(), 0);
    }
  },
};

// Rooms: two pages talk, a line is cut, a log is overrun, a service starts anew, a reader is slow.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { start } from "../service.mjs";

const HOSTILE = `<img src=x onerror="alert(1)">`;
let rooms = 0;
/** A room that no other case has been in. */
const fresh = () => `room.${process.pid}-${++rooms}`;

/** A page in a room, under a name, as soon as it has joined. */
async function join(t, room, name, how = {}) {
  const page = await t.open("topics", how);
  await page.evaluate((as) => localStorage.setItem("name", as), name);
  await page.goto(`${page.tapped.origin}/#/rooms/${encodeURIComponent(room)}`);
  await joined(page);
  return page;
}
const joined = (page) => page.locator(".rail dd").getByText("Joined", { exact: true }).waitFor();
async function write(page, ...texts) {
  for (const text of texts) {
    await page.getByRole("textbox", { name: "Message" }).fill(text);
    await page.keyboard.press("Enter");
  }
}
/** The messages as they stand in the log: [offset, name, text]. */
const log = (page) => page.locator(".msg").evaluateAll((rows) => rows.map((row) => [row.children[3], row.children[1], row.children[2]].map((e) => e.textContent)));
/** Waits until a message stands there with its offset. */
const shows = (page, text) => page.locator(".msg:not([data-at='']) p").getByText(text, { exact: true }).waitFor();
const cut = (page) => page.getByRole("button", { name: "Cut the line" }).click();
/** What is said of a loss, when it is over. */
async function back(page, timeout = 15_000) {
  const note = page.locator(".note").filter({ hasText: /^Back after/ });
  await note.waitFor({ timeout });
  return note.textContent();
}
/** Waits until the position is this. */
const stands = (page, at) => page.locator(".rail dd .m").filter({ hasText: at }).waitFor();
const behind = (page, n) => page.locator(".rail .lag").filter({ hasText: n }).waitFor();
const here = (page, n) => page.getByRole("heading", { name: `Here · ${n}`, exact: true }).waitFor();
const member = (page, name) => page.locator(".mem li").filter({ hasText: name });

/** Publishes from the page's module, by a connection of its own: [data, options] each. */
const publish = (page, room, list) =>
  page.evaluate(
    async ([name, all]) => {
      const { connect } = await import("/rsocket.mjs");
      const client = await connect(`${location.origin.replace("http", "ws")}/rsocket`);
      const acks = await Promise.all(all.map(([data, options]) => client.topic(name).publish(data, options)));
      client.close();
      return acks.map(({ offset }) => offset);
    },
    [room, list],
  );
const count = (from, n) => Array.from({ length: n }, (_, i) => [String(from + i), { from: "counter" }]);

export default {
  async "two pages talk in one order, and see each other come and go"(t) {
    const room = fresh();
    const at = await t.tap();
    const [ann, bob] = [await join(t, room, "ann", { at }), await join(t, room, "bob", { at })];
    await member(ann, "bob").waitFor();
    await member(bob, "ann").waitFor();
    await here(ann, 2);
    await write(ann, "hello", "again");
    await shows(bob, "again");
    await write(bob, "hi");
    await write(ann, "how are you?");
    for (const page of [ann, bob]) {
      await shows(page, "hi");
      await shows(page, "how are you?");
    }
    const all = await log(ann);
    t.is(all.map(([offset]) => offset), ["1", "2", "3", "4"]);
    t.is(await log(bob), all, "what bob sees");
    t.is(await ann.locator(".msg.own").count(), 3, "those of one's own");
    await stands(ann, /^[0-9a-f]{4}:4$/);
    await bob.close();
    await ann.locator(".note").getByText("bob has left").waitFor();
    await here(ann, 1);
  },
  async "a line that is cut costs nothing: what was written comes after, and once"(t) {
    const room = fresh();
    const at = await t.tap();
    const [ann, bob] = [await join(t, room, "ann", { at }), await join(t, room, "bob", { at })];
    await write(bob, "before");
    await shows(ann, "before");
    await cut(ann);
    await ann.getByText(/The line is cut\. Back in \d s; your position is kept\./).waitFor();
    await bob.locator(".mem li .away").waitFor();
    await write(ann, "mine, meanwhile");
    await ann.locator(".msg.own[data-at='']").getByText("…").waitFor();
    await write(bob, "one", "two", "three");
    await shows(bob, "three");
    t.is((await log(ann)).length, 2, "nothing comes by a line that is cut");
    await t.shot(ann, "rooms-cut");
    const said = await back(ann);
    // One's own is written when the line is back, and may be the first that is not late.
    const [, came] = /^Back after \S+ s\. Nothing is missing: ([34]) came after\.$/.exec(said) ?? t.ok(false, said);
    await shows(bob, "mine, meanwhile");
    t.is(await log(ann), await log(bob));
    t.is((await log(ann)).map(([offset]) => offset), ["1", "2", "3", "4", "5"], "each, once");
    t.is(await ann.locator(".msg.late").count(), Number(came), "those that came after");
    await bob.locator(".mem li .away").waitFor({ state: "detached" });
    await write(bob, "after");
    await shows(ann, "after");
    t.is(await ann.locator(".msg.late").count(), Number(came));
    await t.shot(ann, "rooms-back");
  },
  async "a log that is overrun meanwhile leaves a gap that is told"(t) {
    const { at } = await t.serve(["--topic", "room.>=memory,messages=5"]);
    const ann = await join(t, "room.1", "ann", { at });
    await publish(ann, "room.1", count(1, 1));
    await shows(ann, "1");
    await cut(ann);
    await publish(ann, "room.1", count(2, 100));
    // Messages of the last two seconds stay, however many they are.
    await ann.waitForTimeout(2200);
    await publish(ann, "room.1", count(102, 5));
    const said = await back(ann);
    const gap = ann.locator(".gap");
    const missing = Number(/^(\d+) messages are missing here\.$/.exec(await gap.locator("p").first().textContent())[1]);
    t.ok((await gap.textContent()).includes("While the line was lost, the topic let go of them."), "why");
    const came = (await log(ann)).map(([offset]) => Number(offset));
    t.is(came.length + missing, 106, "what came and what is missing");
    t.is(came, came.toSorted((a, b) => a - b));
    const [, from, to] = /(\d+)–(\d+)/.exec(await gap.locator(".off").textContent()).map(Number);
    t.is(to - from + 1, missing);
    t.ok(came.every((offset) => offset < from || offset > to), "nothing of the gap is there");
    t.ok(said.endsWith(` s: ${came.length - 1} came after, ${missing} are missing.`), said);
    await t.shot(ann, "rooms-gap");
  },
  async "a service that begins anew: a reset is said, and talk goes on"(t) {
    const { service, at } = await t.serve();
    const ann = await join(t, "lobby", "ann", { at, expects: /WebSocket|ERR_|Failed to load/ });
    await write(ann, "of the first life");
    await shows(ann, "of the first life");
    await service.stop();
    await ann.getByText("The line is lost; your position is kept.").waitFor();
    const next = await start(t.options.rsockd);
    service.port = next.port;
    try {
      await back(ann);
      await write(ann, "of the second");
      await ann.locator(".gap").getByText(/^The log began anew \(epoch [0-9a-f]{4}…\); what was before cannot be continued\.$/).waitFor();
      await shows(ann, "of the second");
      t.is((await log(ann)).map(([offset, , text]) => [offset, text]), [["1", "of the first life"], ["1", "of the second"]]);
      await stands(ann, /:1$/);
      await t.shot(ann, "rooms-reset");
    } finally {
      await ann.close();
      await next.stop();
    }
  },
  async "a slow reader falls behind, skips, and is told what it let pass"(t) {
    const room = fresh();
    const ann = await join(t, room, "ann");
    await ann.getByRole("switch", { name: "Read slowly" }).check();
    await ann.getByRole("combobox", { name: "If you fall behind" }).selectOption("conflate");
    await joined(ann);
    await publish(ann, room, count(1, 8));
    await ann.locator(".msg em").getByText(/^ *\d skipped$/).first().waitFor();
    const skipped = (await ann.locator(".msg em").allTextContents()).reduce((sum, text) => sum + parseInt(text), 0);
    const [came, last] = [(await log(ann)).length, (await log(ann)).at(-1)[0]];
    t.is(came + skipped, Number(last), "read and skipped");
    await t.shot(ann, "rooms-conflated");
    await ann.getByRole("combobox", { name: "If you fall behind" }).selectOption("latest");
    await ann.waitForTimeout(400);
    await publish(ann, room, count(9, 40));
    await ann.locator(".gap").getByText(/^\d+ messages are missing here\.$/).first().waitFor();
    await ann.locator(".gap").getByText("You were more than 10 behind, and reading went on with the newest.").first().waitFor();
    await ann.getByRole("combobox", { name: "If you fall behind" }).selectOption("gap");
    await publish(ann, room, count(49, 20));
    await behind(ann, /^[1-9]\d$/);
    await ann.getByRole("switch", { name: "Read slowly" }).uncheck();
    await behind(ann, /^0$/);
    t.is((await log(ann)).at(-1)[0], "68", "and is at the end as soon as it may");
  },
  async "who chose to be let go is, and goes on from there"(t) {
    const room = fresh();
    const ann = await join(t, room, "ann");
    await ann.getByRole("switch", { name: "Read slowly" }).check();
    await ann.getByRole("combobox", { name: "If you fall behind" }).selectOption("close");
    await joined(ann);
    await publish(ann, room, count(1, 40));
    const end = ann.getByRole("alert").filter({ hasText: "You are not in the room any more." });
    await end.waitFor();
    t.ok((await end.locator("code").textContent()).startsWith("REJECTED: overrun"), "in the words of the service");
    await t.shot(ann, "rooms-ended");
    await ann.getByRole("combobox", { name: "If you fall behind" }).selectOption("gap");
    await joined(ann);
    await end.waitFor({ state: "detached" });
    await ann.getByRole("switch", { name: "Read slowly" }).uncheck();
    await shows(ann, "40");
    t.is((await log(ann)).map(([offset]) => Number(offset)), Array.from({ length: 40 }, (_, i) => i + 1));
  },
  async "somebody counts, by another line than the room's"(t) {
    const ann = await join(t, fresh(), "ann");
    await ann.getByRole("switch", { name: "Have somebody count" }).check();
    await shows(ann, "2");
    await ann.getByRole("switch", { name: "Have somebody count" }).uncheck();
    t.is((await log(ann)).slice(0, 2).map((row) => row.slice(1)), [["counter", "1"], ["counter", "2"]]);
  },
  async "strings that are hostile are shown as what they are"(t) {
    const room = fresh();
    const ann = await join(t, room, "ann");
    await ann.evaluate(
      async ([name, hostile]) => {
        const { connect } = await import("/rsocket.mjs");
        const client = await connect(`${location.origin.replace("http", "ws")}/rsocket`);
        const member = await client.topic(name).join({ name: hostile, info: { [hostile]: "\u202e" + hostile } });
        for (const text of [hostile, "\u202egnp.exe", "</p><script>alert(1)</script>", "{{7*7}} ${7*7}", "x".repeat(5000)]) await member.send(text);
        await client.topic(name).publish(Uint8Array.of(0, 255, 254), { from: "bytes" });
        await client.topic(name).publish("", { from: "nothing" });
      },
      [room, HOSTILE],
    );
    await shows(ann, "00 ff fe");
    const [first] = await log(ann);
    t.is(first, ["1", HOSTILE, HOSTILE]);
    await member(ann, HOSTILE).first().waitFor();
    t.ok((await ann.locator(".mem").textContent()).includes(JSON.stringify(HOSTILE).slice(1, -1)), "info as JSON");
    await t.shot(ann, "rooms-hostile");
    await ann.goto(`${ann.tapped.origin}/#/rooms/${encodeURIComponent(HOSTILE)}`);
    await ann.getByRole("heading", { name: "You may not join." }).waitFor();
    t.ok((await ann.locator(".none.bad code").textContent()).includes("INVALID") || (await ann.locator(".none.bad code").textContent()).length > 10, "in the words of the service");
    await t.shot(ann, "rooms-refused");
    await ann.goto(`${ann.tapped.origin}/#/topics/${room}/history`);
    await ann.locator(".tail li").first().waitFor();
    await ann.getByRole("tab", { name: "Members" }).click();
    await ann.locator(".mem li").filter({ hasText: HOSTILE }).waitFor();
    t.is(await ann.locator("main img, main script, main b img").count(), 0, "elements of theirs");
  },
  async "whom the service knows has that name, and sees what is permitted"(t) {
    const [users, access] = ["users", "access"].map((name) => path.join(t.options.work, `rooms-${name}-${process.pid}.toml`));
    execFileSync(t.options.rsockd, ["user", "add", users, "ann", "--roles", "chat"], { input: "secret of ann\n" });
    const grants = ["[[grant]]", 'roles = ["chat"]', 'allow = ["console"]', "[[grant]]", 'roles = ["chat"]', 'topics = ["room.>"]', 'allow = ["publish", "join", "subscribe", "history"]'];
    fs.writeFileSync(access, ["[auth.users]", `file = "${users}"`, ...grants].join("\n"), { mode: 0o600 });
    const { at } = await t.serve(["--access", access]);
    const page = await t.open("rooms/room.1", { at, expects: /401/ });
    await page.getByText("This service asks who you are.").waitFor();
    await page.getByLabel("Name", { exact: true }).fill("ann");
    await page.getByLabel("Password", { exact: true }).fill("secret of ann");
    await page.keyboard.press("Enter");
    await joined(page);
    t.is(await page.getByRole("textbox", { name: "Name", exact: true }).count(), 0, "a choice of the name");
    await write(page, "hello");
    await shows(page, "hello");
    t.is(await log(page), [["1", "ann", "hello"]]);
    await page.getByRole("heading", { name: "Who is here may not be seen" }).waitFor();
    await page.goto(`${at.origin}/#/rooms/other`);
    await page.getByRole("heading", { name: "You may not join." }).waitFor();
    t.ok((await page.locator(".none.bad code").textContent()).startsWith("REJECTED: not permitted"), "in the words of the service");
    t.is(await t.axe(page), []);
    for (const [screen, title] of [["connections", "Only administrators see connections."], ["config", "Only administrators see the configuration."], ["config/metrics", "The figures were refused."]]) {
      await page.goto(`${at.origin}/#/${screen}`);
      await page.getByRole("heading", { name: title }).waitFor();
    }
    await t.shot(page, "refused");
  },
  async "by keyboard alone"(t) {
    const [room, other] = [fresh(), fresh()];
    const ann = await join(t, room, "ann");
    await ann.locator("h1").focus();
    const seen = [];
    for (let i = 0; i < 12; i++) {
      await ann.keyboard.press("Tab");
      seen.push(await ann.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent.trim() ?? ""));
      const outline = await ann.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
      t.is(outline, "solid", `the outline of ${seen.at(-1)}`);
      if (seen.at(-1) === "Cut the line") break;
    }
    t.is(seen, ["Room", "Name", "Messages", "Message", "Send", "Cut the line"]);
    await ann.getByRole("combobox", { name: "Room" }).focus();
    await ann.keyboard.press("Control+A");
    await ann.keyboard.type(other);
    await ann.keyboard.press("Enter");
    await ann.getByRole("heading", { name: other, level: 1 }).waitFor();
    await joined(ann);
    await ann.getByRole("textbox", { name: "Name", exact: true }).fill("zoe");
    await ann.keyboard.press("Enter");
    await member(ann, "zoe").waitFor();
    await write(ann, "hello");
    await shows(ann, "hello");
    t.is((await log(ann))[0][1], "zoe");
  },
  async "on a phone and a desk, in light and dark"(t) {
    const room = fresh();
    for (const [width, scheme, locale] of [[1440, "light", "en"], [390, "dark", "ko"], [390, "light", "ja"]]) {
      const page = await t.open(`rooms/${room}`, { width, scheme, locale });
      await page.locator(".rail .dot").first().waitFor();
      await publish(page, room, [...count(1, 3), ["First I take the old one off the pool, so that its streams end and the new one goes on after the same positions.", { from: "bob" }]]);
      await page.locator(".msg").getByText("First I take").last().waitFor();
      await page.getByRole("switch").first().check();
      t.is(await t.axe(page), [], `${width} ${scheme}`);
      t.is(await t.overflow(page), [], `${width} ${scheme}`);
      await t.shot(page, `rooms-${width}-${scheme}-${locale}`);
    }
  },
};

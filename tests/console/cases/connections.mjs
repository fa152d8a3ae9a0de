// Connections: who is there, what each has open, and an end of one of them, or of all.
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

const HOSTILE = `<img src=x onerror="alert(1)">`;

/** Another client, from a page: a stream that is held after three items, and one that flows. */
const another = (page) =>
  page.evaluate(async () => {
    const { connect } = await import("/rsocket.mjs");
    const client = await connect(`${location.origin.replace("http", "ws")}/rsocket`);
    const held = client.stream("range", { from: 0 }, { n: 3 });
    const flowing = client.stream("clock", { interval_ms: 1000 }, { n: 100 });
    for (const stream of [held, flowing]) stream.on({ next() {}, error() {} });
    const other = { client, state: () => client.state };
    globalThis.another = other;
  });
const state = (page) => page.evaluate(() => globalThis.another.state());
const rows = (page) => page.locator("tbody > tr.row");
/** The row of the client with so many streams. */
const withStreams = (page, n) => rows(page).filter({ has: page.locator("td:nth-child(6)").getByText(String(n), { exact: true }) });

export default {
  async "who is there, and what each has open"(t) {
    const { at } = await t.serve();
    const other = await t.open("topics", { at });
    await another(other);
    const page = await t.open("connections", { at });
    await rows(page).nth(2).waitFor();
    await page.getByText(/^3 open, 0 waiting to be resumed$/).waitFor();
    const row = withStreams(page, 2).filter({ has: page.locator("td:nth-child(5)") }).last();
    await row.getByRole("link").focus();
    await page.keyboard.press("Enter");
    const held = page.locator(".more0 tr").filter({ hasText: "range" });
    await held.getByText("3 granted = 3 delivered + 0").waitFor();
    await held.getByText("Holding: this peer grants nothing more").waitFor();
    t.is(await held.locator(".mini .g").count(), 1, "the bar of a stream that is held");
    const flowing = page.locator(".more0 tr").filter({ hasText: "clock" });
    await flowing.getByText(/^100 granted = \d+ delivered \+ \d+$/).waitFor();
    await flowing.getByText("Flowing").waitFor();
    t.is(await page.locator("tr.on a[aria-expanded=true]").count(), 1);
    await t.shot(page, "connections-open");
    t.is(await t.axe(page), []);
    await page.locator("tr.on").click();
    await page.locator(".more0").waitFor({ state: "detached" });
  },
  async "one is closed from the page, which asks before"(t) {
    const { at } = await t.serve();
    const other = await t.open("topics", { at });
    await another(other);
    const page = await t.open("connections", { at });
    await rows(page).nth(2).waitFor();
    const row = withStreams(page, 2).last();
    const id = await row.getByRole("link").textContent();
    await row.getByRole("button", { name: "Close" }).click();
    await row.getByText("Ends 2 streams.").waitFor();
    t.is(await page.evaluate(() => document.activeElement.textContent), "Keep", "the focus is on what does no harm");
    await t.shot(page, "connections-ask");
    await page.keyboard.press("Enter");
    await row.getByText("Ends 2 streams.").waitFor({ state: "detached" });
    t.is(await state(other), "connected");
    await row.getByRole("button", { name: "Close" }).click();
    await page.keyboard.press("Escape");
    await row.getByText("Ends 2 streams.").waitFor({ state: "detached" });
    await row.getByRole("button", { name: "Close" }).click();
    await row.getByRole("button", { name: `Close ${id}` }).click();
    await rows(page).filter({ has: page.getByRole("link", { name: id, exact: true }) }).waitFor({ state: "detached" });
    await other.waitForFunction(() => globalThis.another.state() === "closed");
  },
  async "found by number, name or peer"(t) {
    const { at } = await t.serve();
    const page = await t.open("connections", { at });
    await rows(page).first().waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type("127.0.0.1");
    t.is(await rows(page).count(), 1);
    await page.keyboard.type(":nobody");
    await page.getByText("None like that.").waitFor();
    await page.goto(`${at.origin}/#/connections/4711`);
    await page.getByRole("searchbox").fill("");
    await rows(page).first().waitFor();
  },
  async "a name that is hostile is shown as what it is"(t) {
    const [users, access] = ["users", "access"].map((name) => path.join(t.options.work, `connections-${name}-${process.pid}.toml`));
    for (const [name, role] of [["ops", "ops"], [HOSTILE, "guest"]]) execFileSync(t.options.rsockd, ["user", "add", users, name, "--roles", role], { input: `secret of ${role}\n` });
    const grants = ["[[grant]]", 'roles = ["ops"]', 'allow = ["console", "metrics", "admin"]', "[[grant]]", 'roles = ["guest", "ops"]', 'allow = ["request"]', 'routes = [">"]'];
    fs.writeFileSync(access, ["[auth.users]", `file = "${users}"`, ...grants].join("\n"), { mode: 0o600 });
    const { at } = await t.serve(["--access", access]);
    const page = await t.open("connections", { at, expects: /401/ });
    await page.getByText("This service asks who you are.").waitFor();
    await page.evaluate(async (user) => {
      const { connect } = await import("/rsocket.mjs");
      globalThis.kept = await connect(`${location.origin.replace("http", "ws")}/rsocket`, { auth: { user, password: "secret of guest" } });
      globalThis.kept.stream("clock", { interval_ms: 1000 }, { n: 8 }).on({ next() {} });
    }, HOSTILE);
    await page.getByLabel("Name", { exact: true }).fill("ops");
    await page.getByLabel("Password", { exact: true }).fill("secret of ops");
    await page.keyboard.press("Enter");
    const row = rows(page).filter({ hasText: HOSTILE });
    await row.waitFor();
    await rows(page).filter({ hasText: "ops" }).first().waitFor();
    await page.getByRole("searchbox").fill("onerror");
    t.is(await rows(page).count(), 1, "found by name");
    t.is(await page.locator("main img").count(), 0);
    await row.getByRole("button", { name: "Close" }).click();
    await row.getByRole("button", { name: /^Close \d+$/ }).click();
    await row.waitFor({ state: "detached" });
  },
  async "all are drained from the page, which asks before"(t) {
    const { service, at } = await t.serve(["--drain-limit", "5s"]);
    const page = await t.open("connections", { at, expects: /Failed to load|WebSocket|ERR_/ });
    await rows(page).first().waitFor();
    const drain = page.getByRole("button", { name: "Drain all" });
    await drain.click();
    await page.getByText(/No new connections; ends \d/).waitFor();
    await page.keyboard.press("Escape");
    t.is(await page.getByText(/No new connections; ends/).count(), 0);
    await drain.click();
    await page.getByRole("button", { name: "Drain all" }).click();
    await page.getByText("Draining.").waitFor();
    await service.ended;
  },
  async "on a phone and a desk"(t) {
    const { at } = await t.serve();
    const other = await t.open("topics", { at });
    await another(other);
    for (const [width, scheme] of [[1440, "dark"], [390, "light"]]) {
      const page = await t.open("connections", { at, width, scheme });
      await rows(page).nth(2).waitFor();
      await withStreams(page, 2).last().locator("td").first().click();
      await page.locator(".more0 .mini").first().waitFor();
      await withStreams(page, 2).last().getByRole("button", { name: "Close" }).click();
      t.is(await t.axe(page), [], `${width} ${scheme}`);
      t.is(await t.overflow(page), [], `${width} ${scheme}`);
      await t.shot(page, `connections-open-${width}-${scheme}`);
      await page.context().close();
    }
  },
};

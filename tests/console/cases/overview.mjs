// Overview: figures that come each second, a moment that can be read, and what deserves a look.

import fs from "node:fs";
import path from "node:path";

async function lines(t, how) {
  const page = await t.open("overview", how);
  await page.locator(".strip").first().waitFor();
  return page;
}

export default {
  async "its figures are those of the route status"(t) {
    const { at } = await t.serve();
    const page = await lines(t, { at });
    await page.waitForFunction(() => document.querySelectorAll(".plot path")[0]?.getAttribute("d").includes("L"));
    const status = await page.evaluate(async () => {
      const { connect } = await import("/rsocket.mjs");
      globalThis.other = await connect(`ws://${location.host}/rsocket`);
      globalThis.held = globalThis.other.stream("clock", "", { n: 1 });
      globalThis.held.on({ next() {} });
      await globalThis.other.request("echo", "x");
      return (await globalThis.other.request("status")).json();
    });
    await page.waitForFunction((open) => document.querySelector(".strip .fig b").textContent === String(open), status.connections.open);
    await page.waitForFunction(() => Number(document.querySelectorAll(".strip .fig b")[1].textContent) >= 2);
    t.is(await page.locator("nav .count").last().textContent(), String(status.connections.open), "connections in the navigation");
    await page.getByText(`rsockd ${status.version}`).waitFor();
    // A stream that has no credit left is a hold.
    await page.waitForFunction(() => /from 0 to [1-9]/.test(document.querySelectorAll(".strip .vh")[4].textContent));
    await page.waitForTimeout(2100);
    await t.shot(page, "overview-busy-1440-light");
    await page.evaluate(() => globalThis.other.close());
    await page.getByText("Only this page is connected.").waitFor();
  },
  async "a moment is read with the mouse and with arrow keys"(t) {
    const page = await lines(t);
    await page.waitForTimeout(3200);
    await page.locator(".strips").focus();
    await page.keyboard.press("Home");
    await page.locator(".axis").getByText(/\d s ago/).waitFor();
    await page.locator("#say").getByText(/Connections \d+, Streams open/).waitFor();
    await page.keyboard.press("End");
    await page.locator(".axis").getByText("now").waitFor();
    await page.locator(".plot").first().hover({ position: { x: 5, y: 20 } });
    await page.locator(".axis").getByText(/\d s ago/).waitFor();
    await page.mouse.move(0, 0);
    await page.locator(".axis").getByText("now").waitFor();
  },
  async "a reader that falls behind deserves a look"(t) {
    const { at } = await t.serve(["--topic", ">=memory,messages=64"]);
    const page = await lines(t, { at });
    await page.getByText("Nothing.").waitFor();
    await page.evaluate(async () => {
      const { connect } = await import("/rsocket.mjs");
      const reader = await connect(`ws://${location.host}/rsocket`);
      const writer = await connect(`ws://${location.host}/rsocket`);
      const held = reader.stream("topic.prices", { from: "start", start: true }, { n: 1 });
      held.on({ next() {} });
      globalThis.kept = [reader, writer, held];
      for (let i = 0; i < 60; i++) await writer.request("topic.prices", `message ${i}`);
    });
    const link = page.locator(".rail a", { hasText: "prices" });
    await link.waitFor();
    await page.getByText(/a reader is \d+ behind; \d+ are kept/).waitFor();
    t.is(await t.axe(page), []);
    await link.click();
    t.is(new URL(page.url()).hash, "#/topics/prices");
  },
  async "a stream that takes nothing deserves a look, and how long it has"(t) {
    const { at } = await t.serve();
    const page = await lines(t, { at });
    await page.evaluate(async () => {
      const { connect } = await import("/rsocket.mjs");
      const client = await connect(`ws://${location.host}/rsocket`);
      globalThis.held = client.stream("clock", { interval_ms: 50 }, { n: 1 });
      globalThis.held.on({ next() {} });
    });
    const link = page.locator(".rail a", { hasText: /^Connection \d+$/ });
    await link.waitFor();
    await page.getByText(/takes nothing from clock for \d+ s/).waitFor();
    await t.shot(page, "overview-held-1440-light");
    await link.click();
    t.ok(/^#\/connections\/\d+$/.test(new URL(page.url()).hash), page.url());
  },
  async "who may not see the figures is told so"(t) {
    const access = path.join(t.options.work, `anonymous-${process.pid}.toml`);
    const words = ["[auth]", 'anonymous = ["guest"]', "[[grant]]", 'roles = ["guest"]', 'allow = ["console"]'];
    fs.writeFileSync(access, words.join("\n"), { mode: 0o600 });
    const { at } = await t.serve(["--access", access]);
    const page = await t.open("overview", { at });
    await page.getByText("The figures were refused.").waitFor();
    t.is(await page.locator("nav li:visible").allTextContents(), ["Overview", "Playground", "Rooms", "Topics"], "screens");
    await page.locator("main code").getByText(/^REJECTED|not permitted/).waitFor();
  },
};

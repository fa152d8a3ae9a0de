// The pages of examples/html, from a site of their own.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Line, Service, until } from "./lib.mjs";
import { open, site, skip } from "./sites.mjs";

const lines = (page) => page.$$eval("#messages li", (items) => items.map((item) => item.textContent));
const say = async (page, text) => {
  await page.fill("#text", text);
  await page.click("button");
};

async function goesOn(t, name) {
  const origin = await site(t);
  const service = await Service.rsockd(t, "--allow-origin", origin);
  const line = await Line.to(t, service.url);
  const at = (url) => encodeURIComponent(url.replace("ws:", "http:").replace("/rsocket", ""));
  // One of them has a line that is cut. The other sees what is there.
  const ann = await open(t, `${origin}/${name}.html?name=ann&service=${at(line.url)}`);
  const bob = await open(t, `${origin}/${name}.html?name=bob&service=${at(service.url)}`);
  const bothSee = (...expected) =>
    until(async () => {
      const seen = await Promise.all([ann, bob].map(lines));
      return seen.every((lines) => expected.every((line) => lines.filter((seen) => seen === line).length === 1));
    });
  const expected = [];
  const says = async (page, who, text) => {
    await say(page, text);
    expected.push(`${who} ${text}`);
  };
  await says(ann, "ann", "hello");
  await says(bob, "bob", "<b>not bold</b>");
  await bothSee(...expected);
  if (name === "module") {
    for (const page of [ann, bob]) await until(async () => (await page.innerText("#members")) === "here: ann, bob");
  }
  for (let i = 0; i < 3; i++) {
    line.cut();
    await says(bob, "bob", `while ann is away, ${i}`);
    await says(ann, "ann", `without a line, ${i}`);
    await bothSee(...expected);
  }
  await service.restart();
  line.cut();
  await says(ann, "ann", "in a new life");
  await bothSee("ann in a new life", "the room began anew");
  await until(async () => (await ann.innerText("#state")) === "connected");
  // Each once, and all in one order.
  const seen = await Promise.all([ann, bob].map(lines));
  assert.deepEqual(seen[0], seen[1]);
  assert.equal(seen[0].length, expected.length + 1);
  assert.deepEqual([...ann.problems, ...bob.problems], []);
}

async function isToldNothing(t) {
  const origin = await site(t);
  const service = await Service.rsockd(t, "--allow-origin", "https://elsewhere.example");
  const at = service.url.replace("ws:", "http:").replace("/rsocket", "");
  const page = await open(t, `${origin}/events.html?service=${encodeURIComponent(at)}`);
  await until(async () => (await page.innerText("#state")) === "the line is lost; trying again");
  assert.deepEqual(await lines(page), []);
}

test("pages of another site", { skip, concurrency: true }, (t) =>
  Promise.all([
    t.test("events.html: a chat that goes on after cuts and a restart", (t) => goesOn(t, "events")),
    t.test("module.html: a chat that goes on after cuts and a restart", (t) => goesOn(t, "module")),
    t.test("one that is not allowed is told nothing", isToldNothing),
  ]),
);

// The ways in that docs/choosing.md shows, in the same room at once.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { Service, settings } from "./lib.mjs";
import { open, site, skip } from "./sites.mjs";

/** The ways in that docs/choosing.md shows, by their headings. */
function ways() {
  const text = readFileSync(path.join(settings.root, "docs/choosing.md"), "utf8");
  const [, ...sections] = text.split(/^### /m);
  return sections.map((section) => [section.split("\n")[0], section.match(/^```js\n(.*?)^```/ms)[1]]);
}

test("each way in that docs/choosing.md shows is in the same room", { skip, concurrency: true }, async (t) => {
  const found = ways();
  assert.equal(found.length, 5);
  const origin = await site(t);
  const service = await Service.rsockd(t, "--allow-origin", origin);
  const { host } = new URL(service.url);
  const topic = `http://${host}/api/topics/room.1`;
  assert.equal((await fetch(topic, { method: "POST", body: "before" })).status, 200);
  const pages = await Promise.all(
    found.map(async ([name, block]) => {
      const page = await open(t, `${origin}/nothing`);
      const body = block.replace(/^import (.*) from (.*);$/m, "const $1 = await import($2);").replaceAll("127.0.0.1:7879", host);
      await page.evaluate((body) => {
        window.seen = [];
        const AsyncFunction = (async () => {}).constructor;
        new AsyncFunction("show", body)((text) => window.seen.push(text)).catch((error) => window.seen.push(error.message));
      }, body);
      // It has begun to read before anything more is published.
      await page.waitForFunction(() => window.seen.includes("before"));
      return [name, page];
    }),
  );
  await fetch(topic, { method: "POST", body: "behind" });
  for (const [name, page] of pages) {
    await page.waitForFunction(() => window.seen.includes("behind")).catch(() => assert.fail(`${name} has not read it`));
  }
  // One order for all, whether a way is told of its own messages again or not.
  const [{ messages }] = [await (await fetch(`${topic}/history`)).json()];
  for (const [name, page] of pages) {
    const seen = await page.evaluate(() => window.seen);
    assert.deepEqual(seen, messages.map(({ text }) => text), name);
  }
});

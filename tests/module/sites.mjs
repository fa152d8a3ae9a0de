// Chromium, and a site whose pages it opens, which is no part of the service.

import { once } from "node:events";
import { readFileSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { after } from "node:test";
import { chromium } from "playwright-core";
import { settings } from "./lib.mjs";

export const skip = !settings.chromium && "chromium is not here";
// A site of another name than this machine's, whose pages are let in by the door as such.
const HOST = "app.example";
const args = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", `--host-resolver-rules=MAP ${HOST} 127.0.0.1`];
const browser = skip ? null : await chromium.launch({ executablePath: settings.chromium, args });
after(() => browser?.close());

/** A site with the pages, which is no part of the service. */
export async function site(t) {
  const server = http.createServer(({ url }, response) => {
    try {
      const { pathname } = new URL(url, "http://site");
      const body = readFileSync(path.join(settings.root, "examples/html", path.basename(pathname)));
      response.writeHead(200, { "content-type": "text/html" }).end(body);
    } catch {
      response.writeHead(404, { "content-type": "text/html" }).end("nothing");
    }
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => server.close());
  return `http://${HOST}:${server.address().port}`;
}

export async function open(t, address) {
  const page = await browser.newPage();
  t.after(() => page.close());
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(error.message));
  await page.goto(address);
  return page;
}

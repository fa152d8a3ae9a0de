// The same in a page: Chromium's own WebSocket.

import assert from "node:assert/strict";
import { test } from "node:test";
import { chromium } from "playwright-core";
import { rsockd, settings } from "./lib.mjs";

test("in Chromium", { skip: !settings.chromium && "chromium is not here" }, async (t) => {
  const { url } = await rsockd(t);
  const args = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
  const browser = await chromium.launch({ executablePath: settings.chromium, args });
  t.after(() => browser.close());
  const page = await browser.newPage();
  await page.goto(`${url.replace("ws", "http")}/healthz`);
  const said = await page.evaluate(async (url) => {
    const talk = (path, protocols, ...messages) =>
      new Promise((resolve) => {
        const socket = new WebSocket(url + path, protocols);
        const heard = [];
        socket.binaryType = "arraybuffer";
        socket.onopen = () => messages.forEach((message) => socket.send(message));
        socket.onmessage = ({ data }) => {
          heard.push(typeof data === "string" ? data : [...new Uint8Array(data)]);
          if (heard.length === messages.length) socket.close(1000);
        };
        socket.onclose = ({ code, reason }) => resolve([...heard, code, reason, socket.protocol]);
      });
    return Promise.all([
      talk("/echo", [], "hello", new Uint8Array([0, 255]), "안녕"),
      talk("/ws/topics/page.1?name=ann", [], "one", "two"),
      talk("/ws", ["rsock.json.v1"], '{"id":1,"request":"echo","data":"hi"}', '{"ping":1}'),
      talk("/ws/topics/page.1?nmae=x", []),
    ]);
  }, url);
  assert.deepEqual(said, [
    ["hello", [0, 255], "안녕", 1000, "", ""],
    ["one", "two", 1000, "", ""],
    [...said[2].slice(0, 2).sort(), 1000, "", "rsock.json.v1"],
    [4000, '"nmae" is not a parameter of this: there is name, last, after, from, echo, envelope, lag, max_lag, ticket', ""],
  ]);
  assert.deepEqual(said[2].slice(0, 2).sort(), ['{"id":1,"next":"hi","complete":true}', '{"pong":1}']);
});

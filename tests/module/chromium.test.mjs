// The same in a page: Chromium's own WebSocket, timers and random numbers.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { WebSocketServer } from "ws";
import { Service, settings } from "./lib.mjs";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const TYPES = { ".html": "text/html", ".mjs": "text/javascript" };

/** A page of a site of its own. */
async function page(t) {
  const server = http.createServer(({ url }, response) => {
    const folder = url.startsWith("/rsocket") ? settings.web : HERE;
    try {
      const body = readFileSync(path.join(folder, path.basename(url)));
      response.writeHead(200, { "content-type": TYPES[path.extname(url)] }).end(body);
    } catch {
      response.writeHead(404).end();
    }
  });
  await once(server.listen(0, "127.0.0.1"), "listening");
  t.after(() => server.close());
  const args = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
  const browser = await chromium.launch({ executablePath: settings.chromium, args });
  t.after(() => browser.close());
  const opened = await browser.newPage();
  opened.problems = [];
  opened.on("pageerror", (error) => opened.problems.push(error.message));
  await opened.goto(`http://127.0.0.1:${server.address().port}/page.html`);
  return opened;
}

test("in Chromium", { skip: !settings.chromium && "chromium is not here" }, async (t) => {
  const opened = await page(t);
  const service = await Service.rsockd(t);

  await t.test("all that holds at every service holds in a page", async () => {
    const problems = await opened.evaluate(async (url) => {
      const [{ connect }, { runAll }] = await Promise.all([import("/rsocket.mjs"), import("/scenarios.mjs")]);
      return runAll({ connect: (options) => connect(url, options), refusal: "REJECTED" });
    }, service.url);
    assert.deepEqual([problems, opened.problems], [[], []]);
  });

  await t.test("what is sent has the WebSocket's buffer as its bound", async () => {
    const most = await opened.evaluate(async (url) => {
      const { connect } = await import("/rsocket.mjs");
      let socket;
      class Watched extends WebSocket {
        constructor(...args) {
          super(...args);
          socket = this;
        }
      }
      const client = await connect(url, { WebSocket: Watched });
      let most = 0;
      const part = new Uint8Array(50_000);
      async function* parts() {
        for (let i = 0; i < 400; i++) {
          most = Math.max(most, socket.bufferedAmount);
          yield part;
        }
      }
      const channel = client.channel("echo", part, { window: 64 });
      channel.pump(parts());
      let count = 0;
      for await (const { data } of channel) count += data.length === 50_000;
      client.close();
      return count === 401 ? most : `${count} came back`;
    }, service.url);
    assert.ok(most < 400_000, `${most} bytes waited`);
  });

  await t.test("three deaths of the service are told as gaps, and nothing else is missing or doubled", async () => {
    await opened.evaluate(async (url) => {
      const { connect } = await import("/rsocket.mjs");
      const client = await connect(url, { reconnect: { first: 5, longest: 50 } });
      const topic = client.topic("room.1");
      const state = (window.state = { seen: [], published: [], isOver: false });
      (async () => {
        for await (const { gap, offset, ...message } of topic.subscribe({ from: "start" })) {
          state.seen.push(gap ?? new TextDecoder().decode(message.data));
        }
      })();
      state.publishing = (async () => {
        for (let i = 0; !state.isOver; i++) {
          const text = `message ${i}`;
          state.published.push(topic.publish(text).then((ack) => ({ ...ack, text })));
          await new Promise((resolve) => setTimeout(resolve, 2));
        }
      })();
    }, service.url);
    const count = () => opened.evaluate(() => window.state.seen.length);
    for (let i = 0; i < 4; i++) {
      const before = await count();
      await opened.waitForFunction((least) => window.state.seen.length > least, before + 20);
      if (i < 3) await service.restart();
    }
    const { seen, published } = await opened.evaluate(async () => {
      const { state } = window;
      state.isOver = true;
      await state.publishing;
      const published = await Promise.all(state.published);
      while (!state.seen.includes(published.at(-1).text)) await new Promise((resolve) => setTimeout(resolve, 5));
      return { seen: state.seen, published };
    });
    const texts = seen.filter((one) => typeof one === "string");
    const gaps = seen.filter((one) => typeof one !== "string");
    assert.equal(new Set(texts).size, texts.length);
    assert.equal(gaps.length, 3);
    for (const { epoch, offset, text } of published.filter(({ text }) => !texts.includes(text))) {
      assert.ok(gaps.some((gap) => gap.epoch === epoch && gap.from <= offset), `${text} is missing`);
    }
    assert.deepEqual(opened.problems, []);
  });

  await t.test("a handler that throws is reported, and stops nothing", async () => {
    const said = await opened.evaluate(async (url) => {
      const { connect } = await import("/rsocket.mjs");
      let reported = 0;
      const report = (event) => {
        if (event.reason.message !== "a mistake") return;
        event.preventDefault();
        reported += 1;
      };
      addEventListener("unhandledrejection", report);
      const fail = () => {
        throw new Error("a mistake");
      };
      const client = await connect(url, { onstate: fail, onframe: (way, { type }) => type === "PAYLOAD" && fail() });
      const stream = client.stream("range", { from: 0, to: 3 }, { next: fail, complete: fail, credit: fail });
      const answers = await Promise.all(["one", "two"].map((text) => client.request("echo", text)));
      while (stream.received < 3 || reported < 9) await client.request("echo", "a round trip");
      client.close();
      removeEventListener("unhandledrejection", report);
      return [stream.received, answers.map((answer) => answer.text())];
    }, service.url);
    assert.deepEqual(said, [3, ["one", "two"]]);
  });

  await t.test("a client that is closed while it connects leaves no complaint", async () => {
    const complaints = [];
    const listen = (message) => message.type() === "error" && complaints.push(message.text());
    opened.on("console", listen);
    let verifyClient;
    const asked = new Promise((resolve) => (verifyClient = (_, accept) => resolve(accept)));
    const server = new WebSocketServer({ host: "127.0.0.1", port: 0, verifyClient });
    t.after(() => server.close());
    await once(server, "listening");
    await opened.evaluate(async (url) => {
      const { Client } = await import("/rsocket.mjs");
      window.client = new Client(url);
    }, `ws://127.0.0.1:${server.address().port}/`);
    const accept = await asked;
    await opened.evaluate(() => void window.client.close());
    const closed = new Promise((resolve) => server.on("connection", (socket) => socket.on("close", resolve)));
    accept(true);
    await closed;
    opened.off("console", listen);
    assert.deepEqual(complaints, []);
  });

  await t.test("the service gives the module to pages of other sites", async () => {
    const said = await opened.evaluate(async (url) => {
      const { host } = new URL(url);
      const { connect } = await import(`http://${host}/rsocket.mjs`);
      const client = await connect(url);
      const answer = await client.request("echo", "hello");
      client.close();
      return answer.text();
    }, service.url);
    assert.equal(said, "hello");
  });
});

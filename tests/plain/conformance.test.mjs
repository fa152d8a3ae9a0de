// Clients of rsock.json.v1 against a service that does as it is told, message by message, and against rsockd.
//
// A client is a program: it is given the URL and perhaps a token, connects with the subprotocol rsock.json.v1, says `open`, and does
// what it is told on stdin, a line each: `request ID ROUTE [JSON]`, `stream ID ROUTE [JSON [N]]`, `channel ID ROUTE [JSON]`,
// `send ID JSON`, `end ID` (of a channel; both wait for credit), `more ID N`, `cancel ID`, `forget ROUTE [JSON]`, `ping N`, `close`. It writes what
// comes, a line each: `next ID JSON`, `text ID JSON`, `base64 ID BASE64`, `complete ID`, `error ID CODE`, `pong N`, `drain MS`,
// `closed CODE`. JSON is on one line without spaces.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { WebSocketServer } from "ws";
import { Socket, rsockd, settings } from "./lib.mjs";

const clients = settings.client ? { yours: settings.client } : { "Node.js": ["node", path.join(import.meta.dirname ?? process.cwd(), "client.mjs")] };
if (!settings.client && settings.python) clients.Python = [settings.python, "-B", path.join(settings.here, "client.py")];

/** A client at work. */
class Client {
  #lines = [];
  #waiting = [];

  constructor(t, command, ...args) {
    this.child = spawn(command[0], [...command.slice(1), ...args], { stdio: ["pipe", "pipe", "inherit"] });
    this.child.stdin.on("error", () => {});
    t.after(() => this.child.kill("SIGKILL"));
    createInterface({ input: this.child.stdout }).on("line", (line) => {
      const next = this.#waiting.shift();
      if (next) next(line);
      else this.#lines.push(line);
    });
  }

  do(line) {
    this.child.stdin.write(`${line}\n`);
  }

  line() {
    if (this.#lines.length) return Promise.resolve(this.#lines.shift());
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error("the client says nothing")), 15_000);
      this.#waiting.push((line) => (clearTimeout(late), resolve(line)));
    });
  }

  async says(...lines) {
    for (const expected of lines) assert.equal(await this.line(), expected);
  }
}

for (const [name, command] of Object.entries(clients)) {
  test(`a client: ${name}`, async (t) => {
    const server = new WebSocketServer({ port: 0, host: "127.0.0.1", perMessageDeflate: false, handleProtocols: (offered) => offered.has("rsock.json.v1") && "rsock.json.v1" });
    await once(server, "listening");
    t.after(() => server.close());
    const url = `ws://127.0.0.1:${server.address().port}/ws`;

    /** The client, and the service's side of its WebSocket. */
    async function meet(t, ...args) {
      const coming = once(server, "connection");
      const client = new Client(t, command, url, ...args);
      const service = new Socket((await coming)[0]);
      await client.says("open");
      assert.equal(service.ws.protocol, "rsock.json.v1");
      return { client, service };
    }

    await t.test("requests", async (t) => {
      const { client, service } = await meet(t);
      client.do('request 1 price.get {"of":["tea","ü"]}');
      assert.deepEqual(await service.json(), { id: 1, request: "price.get", data: { of: ["tea", "ü"] } });
      client.do("request 2 nothing");
      assert.deepEqual(await service.json(), { id: 2, request: "nothing" });
      // In another order, in all forms of data, and with members that a later version may have.
      service.say({ id: 2, complete: true, later: 1 });
      service.say({ id: 1, next: { price: 3 }, meta: { a: 1 }, complete: true });
      await client.says("complete 2", 'next 1 {"price":3}', "complete 1");
      client.do("request 3 a");
      client.do("request 4 b");
      client.do("request 5 c");
      for (let i = 0; i < 3; i++) await service.json();
      service.say({ id: 3, text: "no JSON", complete: true });
      service.say({ id: 4, base64: "AP8=", complete: true });
      service.say({ id: 5, error: { code: "REJECTED", message: "no" } });
      await client.says('text 3 "no JSON"', "complete 3", "base64 4 AP8=", "complete 4", "error 5 REJECTED");
      client.do("forget log 1");
      assert.deepEqual(await service.json(), { fnf: "log", data: 1 });
    });

    await t.test("streams", async (t) => {
      const { client, service } = await meet(t);
      client.do("stream 1 a null 2");
      assert.deepEqual(await service.json(), { id: 1, stream: "a", data: null, n: 2 });
      client.do("stream 2 b");
      assert.deepEqual(await service.json(), { id: 2, stream: "b" });
      service.say({ id: 1, next: 1 });
      service.say({ id: 2, next: null });
      service.say({ id: 1, next: 2 });
      await client.says("next 1 1", "next 2 null", "next 1 2");
      client.do("more 1 5");
      assert.deepEqual(await service.json(), { id: 1, n: 5 });
      service.say({ id: 1, complete: true });
      client.do("cancel 2");
      assert.deepEqual(await service.json(), { id: 2, cancel: true });
      // It was on its way.
      service.say({ id: 2, next: 3 });
      service.say({ pong: 0 });
      let line = await client.line();
      assert.equal(line, "complete 1");
      for (line = await client.line(); line !== "pong 0"; line = await client.line()) assert.equal(line, "next 2 3");
    });

    await t.test("channels wait for credit", async (t) => {
      const { client, service } = await meet(t);
      client.do('channel 7 room {"name":"ann"}');
      assert.deepEqual(await service.json(), { id: 7, channel: "room", data: { name: "ann" } });
      for (let i = 0; i < 4; i++) client.do(`send 7 ${i}`);
      client.do("end 7");
      assert.ok(await service.isSilent(), "it was sent without credit");
      service.say({ id: 7, n: 3 });
      for (let next = 0; next < 3; next++) assert.deepEqual(await service.json(), { id: 7, next });
      assert.ok(await service.isSilent(), "it was sent without credit");
      service.say({ id: 7, n: 8 });
      assert.deepEqual(await service.json(), { id: 7, next: 3 });
      assert.deepEqual(await service.json(), { id: 7, complete: true });
      service.say({ id: 7, next: "back" });
      service.say({ id: 7, complete: true });
      await client.says('next 7 "back"', "complete 7");
    });

    await t.test("pings, a drain, and the end", async (t) => {
      const { client, service } = await meet(t, "a-token");
      assert.deepEqual(await service.json(), { auth: "a-token" });
      service.say({ auth: true });
      client.do("ping 5");
      assert.deepEqual(await service.json(), { ping: 5 });
      service.say({ pong: 5 });
      await client.says("pong 5");
      service.ws.ping("are you there");
      await once(service.ws, "pong");
      service.say({ drain: 1000 });
      await client.says("drain 1000");
      service.ws.close(1001, "going away");
      await client.says("closed 1001");
    });

    await t.test("with rsockd", { skip: settings.client ? "a client of yours is tried against the script alone" : false }, async (t) => {
      const { url } = await rsockd(t);
      const client = new Client(t, command, `${url}/ws`);
      await client.says("open");
      client.do('request 1 echo {"a":1}');
      await client.says('next 1 {"a":1}', "complete 1");
      client.do('channel 2 topic.c {"name":"ann","receive":"both"}');
      for (let i = 0; i < 20; i++) client.do(`send 2 ${i}`);
      for (let i = 0; i < 20; i++) await client.says(`next 2 ${i}`);
      client.do("close");
      await client.says("closed 1000");
    });
  });
}

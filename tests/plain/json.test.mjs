// /ws: rsock.json.v1, message by message.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { Socket, rsockd, settings } from "./lib.mjs";

const open = (t, url, options) => Socket.open(t, `${url}/ws`, options);

test("/ws", async (t) => {
  const { url, child } = await rsockd(t);

  await t.test("the subprotocol is selected where it is offered", async (t) => {
    const socket = await open(t, url, { protocols: ["other", "rsock.json.v1"] });
    assert.equal(socket.ws.protocol, "rsock.json.v1");
    socket.say({ ping: 7 });
    assert.deepEqual(await socket.json(), { pong: 7 });
  });

  await t.test("a request has one answer", async (t) => {
    const socket = await open(t, url);
    socket.say({ id: 1, request: "echo", data: { a: [1, null, "ü"] } });
    assert.deepEqual(await socket.json(), { id: 1, next: { a: [1, null, "ü"] }, complete: true });
    socket.say({ id: 1, request: "echo", text: "no JSON" });
    assert.deepEqual(await socket.json(), { id: 1, text: "no JSON", complete: true });
    socket.say({ id: 2, request: "echo", base64: "AP+A" });
    assert.deepEqual(await socket.json(), { id: 2, base64: "AP+A", complete: true });
    socket.say({ id: 3, request: "ecko" });
    const { id, error } = await socket.json();
    assert.deepEqual([id, error.code, error.message.startsWith("no route")], [3, "REJECTED", true]);
    socket.say({ fnf: "echo", data: 1 });
    socket.say({ id: 4, request: "echo" });
    assert.equal((await socket.json()).id, 4);
  });

  await t.test("a stream gives as many items as were asked for", async (t) => {
    const socket = await open(t, url);
    socket.say({ id: 1, stream: "range", data: { to: 5 }, n: 3 });
    for (let i = 0; i < 3; i++) assert.equal((await socket.json()).id, 1);
    assert.ok(await socket.isSilent());
    socket.say({ id: 1, n: 1 });
    const fourth = await socket.json();
    assert.ok(await socket.isSilent());
    socket.say({ id: 1, n: 100 });
    let items = 4;
    for (let item = await socket.json(); !item.complete; item = await socket.json()) items++;
    assert.ok(items === 5 || items === 6, `${items} of ${JSON.stringify(fourth)}`);
    // All that there are, and no n.
    socket.say({ id: 2, stream: "range", data: { to: 1000 } });
    let count = 0;
    for (let item = await socket.json(); !item.complete; item = await socket.json()) count++;
    assert.ok(count >= 1000, `${count}`);
  });

  await t.test("exactly as many as there are need no more for their end", async (t) => {
    const socket = await open(t, url);
    socket.say({ id: 1, stream: "range", data: { from: 1, to: 2 }, n: 1000 });
    let count = 0;
    for (let item = await socket.json(); !item.complete; item = await socket.json()) count++;
    socket.say({ id: 2, stream: "range", data: { from: 1, to: 2 }, n: count });
    for (let i = 0; i < count; i++) await socket.json();
    assert.deepEqual(await socket.json(), { id: 2, complete: true });
  });

  await t.test("many at a time, and one that is cancelled says no more", async (t) => {
    const socket = await open(t, url);
    socket.say({ id: 1, stream: "clock", data: { interval_ms: 10 } });
    const first = await socket.json();
    assert.equal(first.id, 1, JSON.stringify(first));
    socket.say({ id: 2, request: "echo", data: "beside" });
    for (let item = await socket.json(); item.id !== 2; item = await socket.json());
    socket.say({ id: 1, cancel: true });
    socket.say({ ping: "behind" });
    for (let item = await socket.json(); item.pong !== "behind"; item = await socket.json());
    assert.ok(await socket.isSilent());
  });

  await t.test("a channel has credit in both directions", async (t) => {
    const socket = await open(t, url);
    socket.say({ id: 3, channel: "topic.plain.1", data: { name: "ann", receive: "both" }, n: 32 });
    const { id, n } = await socket.json();
    assert.deepEqual([id, n], [3, 8]);
    for (let i = 0; i < 8; i++) socket.say({ id: 3, next: { i } });
    let granted = 0;
    const got = [];
    while (got.length < 8 || granted < 4) {
      const item = await socket.json();
      if (item.n) granted += item.n;
      else got.push(item);
    }
    assert.deepEqual(got.map(({ next }) => next.i), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert.equal(got[0].meta.from, "ann");
    // More than was granted is a mistake: what comes back is not taken, and so nothing of it is.
    socket.say({ id: 4, channel: "echo", text: "x", n: 1 });
    for (let i = 0; i < 30; i++) socket.say({ id: 4, text: "x" });
    let end = await socket.next();
    while (typeof end === "string") end = await socket.next();
    assert.deepEqual([end.code, end.reason.includes("has no credit")], [4000, true]);
  });

  await t.test("an echo of a channel ends with it", async (t) => {
    const socket = await open(t, url);
    socket.say({ id: 1, channel: "echo", text: "first" });
    const heard = [await socket.json(), await socket.json()];
    socket.say({ id: 1, text: "second" });
    socket.say({ id: 1, complete: true });
    for (let item = heard.at(-1); !item.complete; ) heard.push((item = await socket.json()));
    const texts = heard.filter(({ text }) => text).map(({ text }) => text);
    assert.deepEqual(texts.slice(-1), ["second"]);
  });

  await t.test("publishing has an id, and its answer a position", async (t) => {
    const socket = await open(t, url);
    const publish = { id: 1, request: "topic.plain.2", text: "once", meta: { id: "m-1" } };
    socket.say(publish);
    const first = await socket.json();
    socket.say(publish);
    const second = await socket.json();
    assert.equal(typeof first.next.offset, "number");
    assert.equal(second.next.offset, first.next.offset);
  });

  await t.test("what is not understood ends it with 4000 and the reason", async (t) => {
    for (const [message, part] of [
      ["no JSON", "a JSON object"],
      [{ id: 1, request: "echo", dta: 1 }, "unknown field `dta`"],
      [{ id: 2 ** 53, request: "echo" }, "at most"],
      ['{"id":1e400,"request":"echo"}', ""],
      [`{"id":1,"request":"echo","data":${"[".repeat(30_000)}`, "EOF"],
      [{ id: 1, stream: "clock", n: 0 }, "n is from 1"],
      [{ auth: "late" }, null],
      [Buffer.from("{}"), "a message is text"],
    ]) {
      const socket = await open(t, url);
      socket.say(message);
      if (part === null) {
        assert.deepEqual(await socket.json(), { auth: true });
        socket.say({ auth: "twice" });
      }
      const { code, reason } = await socket.next();
      assert.ok(code === 4000 && reason.includes(part ?? "auth is for the first message"), `${code} ${reason}`);
    }
  });

  await t.test("256 are open at a time", async (t) => {
    const socket = await open(t, url);
    for (let id = 0; id < 257; id++) socket.say({ id, stream: "clock", n: 1 });
    for (;;) {
      const item = await socket.json();
      if (!item.error) continue;
      assert.deepEqual([item.id, item.error.code], [256, "REJECTED"]);
      break;
    }
    socket.say({ id: 5, stream: "clock" });
    let end = await socket.next();
    while (typeof end === "string") end = await socket.next();
    assert.deepEqual([end.code, end.reason], [4000, "5 is open: take another id"]);
  });

  await t.test("who does not read is not read from", async (t) => {
    const socket = await open(t, url);
    socket.ws.pause();
    socket.say({ id: 1, stream: "range", data: { to: 10_000_000 } });
    const part = "x".repeat(30_000);
    for (let id = 2; id < 250; id++) socket.say({ id, request: "echo", text: part });
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.ok(socket.ws.bufferedAmount > 0, "7 MB were taken of a client that reads nothing");
  });

  await t.test("at a shutdown it is told, and requests come to their end", async (t) => {
    const socket = await open(t, url);
    socket.say({ id: 1, stream: "clock" });
    await socket.json();
    child.kill("SIGTERM");
    let item = await socket.json();
    while (!("drain" in item)) item = await socket.json();
    assert.ok(item.drain > 0);
    socket.say({ id: 2, request: "echo" });
    while (item.id !== 2) item = await socket.json();
    assert.deepEqual(item.error, { code: "REJECTED", message: "the server shuts down" });
    let end = await socket.next();
    while (typeof end === "string") end = await socket.next();
    assert.equal(end.code, 1001);
  });
});

test("where people are asked who they are", async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "rsock-plain-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const [file, users] = [path.join(folder, "access.toml"), path.join(folder, "users")];
  const grant = `[[grant]]\nroles = ["chat"]\nroutes = ["echo"]\ntopics = ["room.1"]\nallow = ["subscribe", "publish", "join", "presence", "history"]\n`;
  writeFileSync(file, `[auth.users]\nfile = "users"\n\n${grant}`, { mode: 0o600 });
  execFileSync(settings.rsockd, ["user", "add", users, "ann", "--roles", "chat"], { input: "correct horse\n" });
  const { url } = await rsockd(t, "--access", file, "--setup-timeout", "2s");
  const closed = async (socket) => (await socket.next()).code;
  const [late, wrong, unknown] = [await open(t, url), await open(t, url), await open(t, url)];
  wrong.say({ auth: { user: "ann", password: "battery staple" } });
  assert.equal(await closed(wrong), 4001);
  unknown.say({ id: 1, request: "topic.room.1" });
  assert.equal(await closed(unknown), 4001);
  const ann = await open(t, url);
  ann.say({ auth: { user: "ann", password: "correct horse" } });
  assert.deepEqual(await ann.json(), { auth: true });
  ann.say({ id: 1, request: "topic.room.1", text: "hello" });
  assert.equal((await ann.json()).next.topic, "room.1");
  ann.say({ id: 2, request: "topic.room.2", text: "hello" });
  assert.match((await ann.json()).error.message, /^not permitted/);
  // A page has no header for it: a ticket is good for one.
  const authorization = `Basic ${Buffer.from("ann:correct horse").toString("base64")}`;
  const post = () => fetch(`${url.replace("ws", "http")}/api/ticket`, { method: "POST", headers: { authorization } });
  const { ticket } = await (await post()).json();
  const room = await Socket.open(t, `${url}/ws/topics/room.1?last=1&ticket=${ticket}`);
  assert.equal(await room.next(), "hello");
  for (const [path, code] of [
    [`/ws/topics/room.1?ticket=${ticket}`, 4001],
    ["/ws/topics/room.1", 4001],
    [`/ws?ticket=${ticket}`, 4001],
  ]) {
    assert.equal(await closed(await Socket.open(t, url + path)), code, path);
  }
  const headers = { authorization };
  assert.equal(await closed(await Socket.open(t, `${url}/ws/topics/room.2`, { headers })), 4003);
  assert.equal(await closed(await Socket.open(t, `${url}/ws/topics/room.1?name=bob`, { headers })), 4003);
  const known = await open(t, url, { headers });
  known.say({ id: 1, request: "topic.room.1", text: "by the header" });
  assert.equal((await known.json()).next.topic, "room.1");
  assert.equal(await closed(late), 4001);
});

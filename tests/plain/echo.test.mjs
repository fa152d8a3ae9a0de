// /echo: the program of WebSocket recipes, with another address.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { Socket, rsockd, settings } from "./lib.mjs";

test("/echo", async (t) => {
  const { url } = await rsockd(t);

  await t.test("text and bytes come back", async (t) => {
    const socket = await Socket.open(t, `${url}/echo`);
    socket.say("hello");
    assert.equal(await socket.next(), "hello");
    socket.say("안녕 😀");
    assert.equal(await socket.next(), "안녕 😀");
    socket.say(Buffer.from([0, 255, 128]));
    assert.deepEqual(await socket.next(), Buffer.from([0, 255, 128]));
    const long = "x".repeat(64 << 10);
    socket.say(long);
    assert.equal(await socket.next(), long);
    socket.ws.close(1000, "done");
    assert.equal((await socket.next()).code, 1000);
  });

  await t.test("the program of a recipe, in Python", { skip: settings.python ? false : "python3-venv is not here" }, () => {
    const run = (path_) => execFileSync(settings.python, ["-B", path.join(settings.here, "recipe.py"), url + path_], { encoding: "utf8", timeout: 20_000 });
    assert.equal(run("/echo"), "hello\nb'\\x00\\xff'\nthe end: 1000\n");
    // Another address, and it is a room, which remembers.
    assert.equal(run("/ws/topics/recipe?name=ann"), "hello\nb'\\x00\\xff'\nthe end: 1000\n");
    const later = execFileSync(settings.python, ["-B", path.join(settings.here, "recipe.py"), `${url}/ws/topics/recipe?last=2&echo=false`], { encoding: "utf8", timeout: 20_000 });
    assert.equal(later, "hello\nb'\\x00\\xff'\nthe end: 1000\n");
  });

  await t.test("a fragmented message comes back whole", async (t) => {
    const socket = await Socket.open(t, `${url}/echo`);
    socket.ws.send("grü", { fin: false });
    socket.ws.ping("between");
    socket.ws.send("ße", { fin: true });
    assert.equal(await socket.next(), "grüße");
  });

  await t.test("more than 64 KiB in a message end it with 1009", async (t) => {
    const socket = await Socket.open(t, `${url}/echo`);
    socket.say("x".repeat((64 << 10) + 1));
    assert.equal((await socket.next()).code, 1009);
  });

  await t.test("a reader that does not read is not read from, and nothing is lost", async (t) => {
    const socket = await Socket.open(t, `${url}/echo`);
    socket.ws.pause();
    const part = "x".repeat(60_000);
    for (let i = 0; i < 90; i++) socket.say(part);
    await new Promise((resolve) => setTimeout(resolve, 500));
    assert.ok(socket.ws.bufferedAmount > 0, "5 MB were taken of a client that reads nothing");
    socket.ws.resume();
    for (let i = 0; i < 90; i++) assert.equal((await socket.next()).length, part.length);
  });

  await t.test("a hundred messages a second, and who sends more is read more slowly", async (t) => {
    const socket = await Socket.open(t, `${url}/echo`);
    const began = performance.now();
    for (let i = 0; i < 200; i++) socket.say(`${i}`);
    for (let i = 0; i < 200; i++) assert.equal(await socket.next(), `${i}`);
    assert.ok(performance.now() - began > 900);
  });

  await t.test("a path that is none of these says where RSocket is", async (t) => {
    const failed = await Socket.open(t, `${url}/elsewhere`).catch((error) => error);
    assert.match(failed.message, /404/);
    const plain = await fetch(`${url.replace("ws", "http")}/echo`);
    assert.equal(plain.status, 426);
    await assert.rejects(rsockd(t, "--listen", "ws://127.0.0.1:0/echo"), /\/echo is taken by something else/);
  });

  await t.test("pages of other sites do not come in", async (t) => {
    for (const path of ["/echo", "/ws", "/ws/topics/a"]) {
      const options = { origin: "https://evil.example" };
      const failed = await Socket.open(t, url + path, options).catch((error) => error);
      assert.match(failed.message, /403/, path);
    }
  });
});

test("/echo and /ws/topics over TLS", async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "rsock-plain-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const [key, cert] = [path.join(folder, "key.pem"), path.join(folder, "cert.pem")];
  const words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  words.push("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert);
  try {
    execFileSync("openssl", words, { stdio: "ignore" });
  } catch ({ code }) {
    if (code === "ENOENT") return t.skip("openssl is not here");
    throw new Error("openssl made no certificate");
  }
  const { url } = await rsockd(t, "--listen", "wss://localhost:0/rsocket", "--tls-cert", cert, "--tls-key", key);
  const ca = readFileSync(cert);
  const socket = await Socket.open(t, `${url}/echo`, { ca });
  socket.say("hello");
  assert.equal(await socket.next(), "hello");
  socket.ws.pause();
  const part = "x".repeat(60_000);
  for (let i = 0; i < 90; i++) socket.say(part);
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.ok(socket.ws.bufferedAmount > 0, "5 MB were taken of a client that reads nothing");
  socket.ws.resume();
  for (let i = 0; i < 90; i++) assert.equal((await socket.next()).length, part.length);
  const room = await Socket.open(t, `${url}/ws/topics/tls?name=ann`, { ca });
  room.say("safe");
  assert.equal(await room.next(), "safe");
});

// What docs/javascript.md shows runs, and so do the programs in examples/javascript that are made with the module.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, symlinkSync } from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { WebSocket } from "ws";
import { Service, connect, folder, settings, until } from "./lib.mjs";

const HERE = path.dirname(fileURLToPath(import.meta.url));
const AsyncFunction = (async () => {}).constructor;

test("what docs/javascript.md shows runs", async (t) => {
  const service = await Service.rsockd(t);
  const client = await connect(service.url);
  t.after(() => client.close());
  const text = readFileSync(path.join(settings.root, "docs/javascript.md"), "utf8");
  const blocks = [...text.matchAll(/^```js\n(.*?)^```/gms)].map(([, block]) => block);
  assert.ok(blocks.length > 8);
  const stored = new Map();
  const localStorage = { getItem: (name) => stored.get(name) ?? null, setItem: (name, value) => stored.set(name, value) };
  const said = [];
  const names = { connect, client, topic: client.topic("room.1"), localStorage, WebSocket, console: { log: (...all) => said.push(all) } };
  for (const block of blocks) {
    const body = block.replaceAll(/^import .*$/gm, "").replaceAll("ws://127.0.0.1:7879/rsocket", service.url);
    const run = new AsyncFunction(...Object.keys(names), `{${body}}`);
    await assert.doesNotReject(run(...Object.values(names)), block);
  }
  assert.ok(said.some(([code]) => code === "REJECTED"));
  assert.match(stored.get("position"), /^[0-9a-f]{16}:1$/);
});

/** The programs as they lie in the repository, beside the packages that they import. */
function examples(t) {
  const work = folder(t);
  mkdirSync(path.join(work, "examples"));
  cpSync(path.join(settings.root, "examples/javascript"), path.join(work, "examples/javascript"), {
    recursive: true,
    filter: (source) => !source.includes("node_modules"),
  });
  mkdirSync(path.join(work, "server"));
  symlinkSync(settings.web, path.join(work, "server/web"));
  symlinkSync(path.join(HERE, "node_modules"), path.join(work, "examples/javascript/node_modules"));
  return (name, ...args) => {
    const child = spawn(process.execPath, ["--preserve-symlinks", path.join(work, "examples/javascript", name), ...args]);
    t.after(() => child.kill("SIGKILL"));
    const lines = [];
    for (const stream of [child.stdout, child.stderr]) createInterface({ input: stream }).on("line", (line) => lines.push(line));
    const ended = new Promise((resolve) => child.on("close", resolve));
    return { lines, ended, type: (line) => child.stdin.write(`${line}\n`), leave: () => child.stdin.end() };
  };
}

test("the example prints what those in other languages do", async (t) => {
  const service = await Service.rsockd(t);
  const program = examples(t)("module.mjs", service.url);
  assert.equal(await program.ended, 0);
  assert.deepEqual(program.lines, ["echo: hello", "range: 0 1 2 3 4 5 6 7 8 9", "channel: one two three"]);
  const nobody = examples(t)("module.mjs", "ws://127.0.0.1:1/rsocket");
  assert.equal(await nobody.ended, 1);
  assert.match(nobody.lines.join(), /cannot connect to ws:\/\/127.0.0.1:1\/rsocket: is rsockd running\?/);
});

test("two talk in the chat, and go on when the service was gone", async (t) => {
  const service = await Service.rsockd(t);
  const run = examples(t);
  const ann = run("module-chat.mjs", "ann", service.url);
  const bob = run("module-chat.mjs", "bob", service.url);
  await until(() => ann.lines.concat(bob.lines).some((line) => /(ann|bob) (joins|is here)/.test(line)));
  const hears = (who, line) => until(() => who.lines.includes(line));
  ann.type("hello");
  await hears(bob, "ann: hello");
  bob.type("hi");
  await hears(ann, "bob: hi");
  await service.restart();
  ann.type("still here");
  await hears(bob, "ann: still here");
  await hears(bob, "* the room began anew");
  ann.type("bye");
  ann.leave();
  assert.equal(await ann.ended, 0);
  await hears(bob, "ann: bye");
  await hears(bob, "* ann leaves");
  bob.leave();
  assert.equal(await bob.ended, 0);
});


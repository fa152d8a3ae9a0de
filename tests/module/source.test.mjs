// The files themselves: their size, what they need, and whether their types are true.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { copyFileSync, readFileSync, readdirSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { connect, folder, moduleAt, rsocket, settings, Script } from "./lib.mjs";

const FILES = readdirSync(settings.web).filter((name) => name.endsWith(".mjs"));
const HERE = path.dirname(fileURLToPath(import.meta.url));

test("each file has at most 600 lines, of 120 characters at most", () => {
  assert.deepEqual(FILES.sort(), ["rsocket-base.mjs", "rsocket-topics.mjs", "rsocket.mjs"]);
  for (const name of FILES) {
    const lines = readFileSync(path.join(settings.web, name), "utf8").split("\n");
    assert.ok(lines.length <= 601, `${name}: ${lines.length - 1} lines`);
    assert.deepEqual(lines.filter((line) => line.length > 120), [], name);
  }
});

test("it needs nothing but its own files, and nothing of Node.js or of pages", () => {
  for (const name of FILES) {
    const source = readFileSync(path.join(settings.web, name), "utf8").replaceAll(/^\s*(\/\/|\/?\*).*$/gm, "");
    for (const [, from] of source.matchAll(/\b(?:from|import\(?)\s*["']([^"']+)["']/g)) {
      assert.ok(FILES.includes(from.replace("./", "")), `${name} imports ${from}`);
    }
    assert.deepEqual(source.match(/\b(Buffer|process|document|window\.|require|eval|Function)(?![\w]|["}:,])/g), null, name);
  }
});

test("the types say what there is", async (t) => {
  const work = folder(t);
  copyFileSync(path.join(settings.web, "rsocket.d.ts"), path.join(work, "rsocket.d.mts"));
  copyFileSync(path.join(HERE, "sample.mts"), path.join(work, "sample.mts"));
  const compiler = path.join(HERE, "node_modules/typescript/bin/tsc");
  const flags = ["--noEmit", "--strict", "--skipDefaultLibCheck", "--target", "es2022", "--lib", "es2022,dom,dom.iterable", "--module", "nodenext"];
  try {
    execFileSync(process.execPath, [compiler, ...flags, "sample.mts"], { cwd: work, encoding: "utf8" });
  } catch (error) {
    assert.fail(error.stdout);
  }
});

test("all that the types name is there, and nothing else", async (t) => {
  const types = readFileSync(path.join(settings.web, "rsocket.d.ts"), "utf8");
  const named = [...types.matchAll(/^export (?:class|const|function) (\w+)/gm)].map(([, name]) => name);
  assert.deepEqual(Object.keys(rsocket).sort(), named.sort());
  const script = await Script.start(t);
  const client = await connect(script.url);
  t.after(() => client.close());
  const made = { Client: client, Topic: client.topic("a"), Stream: client.stream(null), Payload: new rsocket.Payload("") };
  for (const [name, value] of Object.entries(made)) {
    const [, body] = types.match(new RegExp(`^export (?:class|interface) ${name}\\b[^{]*\\{(.*?)^\\}`, "ms"));
    const declared = [...body.matchAll(/^  (?:readonly )?(\w+)[(:?]/gm)].map(([, member]) => member);
    assert.ok(declared.length >= 3, name);
    for (const member of declared) assert.ok(member === "constructor" || member in value, `${name}.${member}`);
  }
  assert.ok(moduleAt("rsocket.mjs").endsWith("/rsocket.mjs"));
});

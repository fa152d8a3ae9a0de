// /ws/topics/{t}: a room without a protocol.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Socket, rsockd } from "./lib.mjs";

test("/ws/topics", async (t) => {
  const { url, child } = await rsockd(t, "--topics", '"small.*" = { messages = 3 }').catch(() => rsockd(t));
  const room = (name, query = "") => `${url}/ws/topics/${name}${query && `?${query}`}`;
  const http = url.replace("ws", "http");

  await t.test("what one says, all hear, and who comes later has the last of it", async (t) => {
    const ann = await Socket.open(t, room("chat.1", "name=ann"));
    const bob = await Socket.open(t, room("chat.1", "name=bob&echo=false"));
    ann.say("hello");
    assert.deepEqual([await ann.next(), await bob.next()], ["hello", "hello"]);
    bob.say("hi ann");
    assert.equal(await ann.next(), "hi ann");
    assert.ok(await bob.isSilent(), "its own message came");
    ann.say(Buffer.from([1, 255]));
    assert.deepEqual(await bob.next(), Buffer.from([1, 255]));
    assert.deepEqual(await ann.next(), Buffer.from([1, 255]));
    const late = await Socket.open(t, room("chat.1", "name=cid&last=2"));
    assert.deepEqual([await late.next(), await late.next()], ["hi ann", Buffer.from([1, 255])]);
    const presence = await (await fetch(`${http}/api/topics/chat.1/presence`)).json();
    assert.deepEqual(presence.members.map(({ name }) => name).sort(), ["ann", "bob", "cid"]);
  });

  await t.test("with the envelope, positions tell where to go on", async (t) => {
    const ann = await Socket.open(t, room("chat.2", "name=ann&envelope=json"));
    const { start } = await ann.json();
    assert.equal(typeof start.epoch, "string");
    ann.say("one");
    ann.say('{"two":2}');
    const [one, two] = [await ann.json(), await ann.json()];
    assert.deepEqual([one.text, one.from, two.data], ["one", "ann", { two: 2 }]);
    assert.ok(two.offset > one.offset && two.time >= one.time);
    ann.say("three");
    await ann.json();
    ann.ws.terminate();
    const again = await Socket.open(t, room("chat.2", `name=ann&envelope=json&after=${one.epoch}:${one.offset}`));
    await again.json();
    assert.deepEqual([(await again.json()).offset, (await again.json()).text], [two.offset, "three"]);
    const lost = await Socket.open(t, room("chat.2", "name=ann&envelope=json&after=0123456789abcdef:5"));
    await lost.json();
    assert.ok("gap" in (await lost.json()));
    const told = await Socket.open(t, room("chat.2", "name=ann&after=0123456789abcdef:5"));
    const { code, reason } = await told.next();
    assert.deepEqual([code, reason.startsWith("missed messages")], [4009, true]);
  });

  await t.test("the last word of who leaves at once is heard", async (t) => {
    const bob = await Socket.open(t, room("chat.3", "name=bob"));
    const ann = await Socket.open(t, room("chat.3", "name=ann"));
    ann.say("bye");
    ann.ws.close();
    assert.equal(await bob.next(), "bye");
  });

  await t.test("an address that is wrong is told by a code", async (t) => {
    for (const [path, part] of [
      [room("a%2fb"), "is not a topic's name"],
      [room("a/"), "is not a topic's name"],
      [room("a..b"), "is not a topic's name"],
      [room("a%00"), "is not a topic's name"],
      [room("a", "nmae=x"), '"nmae" is not a parameter'],
      [room("a", "access_token=x"), "is not a parameter"],
      [room("a", "last=x"), "last"],
      [room("a", "name=x&last=1&after=a:1"), "where to begin"],
    ]) {
      const socket = await Socket.open(t, path);
      const { code, reason } = await socket.next();
      assert.ok(code === 4000 && reason.includes(part), `${path}: ${code} ${reason}`);
    }
  });

  await t.test("at a shutdown all are told to go away", async (t) => {
    const socket = await Socket.open(t, room("chat.4"));
    child.kill("SIGTERM");
    assert.equal((await socket.next(20_000)).code, 1001);
  });
});

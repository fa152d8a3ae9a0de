// The same against services of three makers; and what only some of them have.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Line, Service, connect, settings } from "./lib.mjs";
import { scenarios } from "./scenarios.mjs";

const makers = { rsockd: null, java: null, js1: null };

/** A service of this maker; skips the test where it is not here. */
async function serve(t, maker, ...args) {
  if (maker === "rsockd") return Service.rsockd(t, ...args);
  const [command, ...words] = settings.servers[maker];
  return Service.start(t, command, [...words, ...args, "ws://127.0.0.1:0/rsocket"]);
}

for (const maker of Object.keys(makers)) {
  const isMissing = maker !== "rsockd" && !settings.servers[maker];
  test(`with ${maker}`, { skip: isMissing && `${maker} is not here` }, async (t) => {
    const service = await serve(t, maker);
    for (const [name, scenario] of Object.entries(scenarios)) {
      const context = { connect: (options) => connect(service.url, options), refusal: maker === "js1" ? "APPLICATION_ERROR" : "REJECTED" };
      await t.test(name, () => scenario(context));
    }
  });

  test(`a session of ${maker}'s is resumed in mid-stream`, { skip: isMissing && `${maker} is not here` }, async (t) => {
    const service = await serve(t, maker, ...(maker === "rsockd" ? [] : ["--resume"]));
    const line = await Line.to(t, service.url);
    line.cuts = [10_007, 33_331, 20_011, 40_009];
    const states = [];
    const client = await connect(line.url, { resume: true, onstate: (state) => states.push(state) });
    const count = maker === "js1" ? 3_000 : 20_000;
    let next = 0;
    for await (const item of client.stream("range", { from: 0, to: count }, { window: 64 })) {
      assert.equal(item.json(), next++);
    }
    assert.equal(next, count);
    const cuts = states.filter((state) => state === "reconnecting").length;
    assert.ok(cuts >= (maker === "js1" ? 1 : 3), `it was cut ${cuts} times`);
    assert.equal(client.state, "connected");
    client.close();
  });
}

test("a channel is resumed with what went each way", async (t) => {
  const service = await Service.rsockd(t);
  const line = await Line.to(t, service.url);
  line.cuts = Array.from({ length: 12 }, (_, i) => 2_000 + 1_777 * i);
  const client = await connect(line.url, { resume: { bytes: 20_000 }, reconnect: { first: 5, longest: 50 } });
  t.after(() => client.close());
  const channel = client.channel("echo", 0, { window: 16 });
  channel.pump(Array.from({ length: 5_000 }, (_, i) => i + 1));
  let next = 0;
  for await (const item of channel) assert.equal(item.json(), next++);
  assert.equal(next, 5_001);
  assert.ok(line.connections > 5, `${line.connections} connections`);
});

for (const maker of ["rsockd", "java"]) {
  const isMissing = maker !== "rsockd" && !settings.servers[maker];
  test(`requests keep to the leases of ${maker}`, { skip: isMissing && `${maker} is not here` }, async (t) => {
    const service = await serve(t, maker, "--lease", maker === "rsockd" ? "4" : "3/300");
    let [allowed, sent] = [0, 0];
    const onframe = (way, { type, n }) => {
      if (way === "in" && type === "LEASE") [allowed, sent] = [n, 0];
      if (way === "out" && type === "REQUEST_RESPONSE") assert.ok(++sent <= allowed, `${sent} of ${allowed}`);
    };
    const client = await connect(service.url, { lease: true, onframe });
    // What crosses a new lease on its way counts for that one, and may be too much there: it was not done.
    const ask = async (i) => {
      try {
        return await client.request("echo", i);
      } catch (error) {
        assert.equal(error.code, "REJECTED");
        return ask(i);
      }
    };
    const answers = await Promise.all(Array.from({ length: 12 }, (_, i) => ask(i)));
    assert.deepEqual(answers.map((answer) => answer.json()), answers.map((_, i) => i));
    client.close();
  });
}

test("a setup that is refused fails the connection, with the reason", async (t) => {
  for (const maker of ["java", "js1"]) {
    if (!settings.servers[maker]) continue;
    const service = await serve(t, maker);
    const refused = connect(service.url, { setup: { data: "reject" }, reconnect: true });
    await assert.rejects(refused, { code: "REJECTED_SETUP", message: "not you" });
  }
});

test("what has no answer arrives", async (t) => {
  for (const maker of ["java", "js1"]) {
    if (!settings.servers[maker]) continue;
    const service = await serve(t, maker);
    const client = await connect(service.url);
    client.fireAndForget("echo", "one");
    if (maker === "java") client.push("two");
    await client.request("echo", "a round trip");
    assert.deepEqual(service.heard.slice(1), maker === "java" ? ["got fnf one", "got push two"] : ["got fnf one"]);
    client.close();
  }
});

test("a service that does not resume is done without it", async (t) => {
  const service = await Service.rsockd(t, "--resume-window", "0s");
  const client = await connect(service.url, { resume: true });
  assert.equal((await client.request("echo", "hello")).text(), "hello");
  client.close();
});

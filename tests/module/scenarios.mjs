// What holds at every service with the routes `echo` and `range`, in Node.js and in a page. Each is given what connects
// to one, and the code with which that refuses.

function equal(actual, expected) {
  const [a, b] = [actual, expected].map((value) => JSON.stringify(value));
  if (a !== b) throw new Error(`${a}, and not ${b}`);
}

async function fails(promise, code, text = "") {
  const error = await promise.then(
    () => null,
    (reason) => reason,
  );
  if (error?.code !== code || !error.message.includes(text)) throw new Error(`${error?.code}: ${error?.message}`);
}

/** What credit was given and what came, by the frames. */
function gauge() {
  const seen = { granted: 0, received: 0, most: 0, requests: 0 };
  seen.onframe = (direction, { type, n }) => {
    if (direction === "out" && ["REQUEST_STREAM", "REQUEST_CHANNEL", "REQUEST_N"].includes(type)) {
      seen.granted += n;
      seen.requests += 1;
    }
    if (direction === "in" && type === "PAYLOAD") seen.received += 1;
    seen.most = Math.max(seen.most, seen.granted - seen.received);
  };
  return seen;
}

export const scenarios = {
  async "a request is answered, whatever it is made of"({ connect }) {
    const client = await connect();
    equal((await client.request("echo", "hello ✓")).text(), "hello ✓");
    equal((await client.request("echo", { a: [1, null] })).json(), { a: [1, null] });
    equal([...(await client.request("echo", Uint8Array.of(0, 255, 7))).data], [0, 255, 7]);
    equal((await client.request("echo", "")).data.length, 0);
    equal(client.state, "connected");
    client.close();
  },

  async "payloads above a frame's size go and come in fragments"({ connect }) {
    let largest = 0;
    const client = await connect({ onframe: (way, { size }) => way === "out" && (largest = Math.max(largest, size)) });
    const large = Uint8Array.from({ length: 700_001 }, (_, i) => i * 7);
    const { data } = await client.request("echo", large);
    equal(data.length, large.length);
    if (data.some((byte, i) => byte !== large[i])) throw new Error("other bytes");
    if (largest > 65_536) throw new Error(`a frame of ${largest} bytes`);
    client.close();
  },

  async "two hundred requests at once are each given their own answer"({ connect }) {
    const client = await connect();
    const answers = await Promise.all(Array.from({ length: 200 }, (_, i) => client.request("echo", i)));
    equal(
      answers.map((answer) => answer.json()),
      answers.map((_, i) => i),
    );
    client.close();
  },

  async "credit by hand is exact"({ connect }) {
    const seen = gauge();
    const client = await connect({ onframe: seen.onframe });
    const items = [];
    const changes = [];
    const stream = client.stream("range", { from: 0, to: 10 }, { n: 3 });
    stream.on({
      next: (item) => items.push(item.json()),
      credit: ({ granted, received }) => changes.push([granted, received]),
    });
    await client.request("echo", "a round trip");
    await client.request("echo", "a round trip");
    equal(items, [0, 1, 2]);
    stream.request(2);
    await client.request("echo", "a round trip");
    await client.request("echo", "a round trip");
    equal(items, [0, 1, 2, 3, 4]);
    equal([stream.granted, stream.received], [5, 5]);
    equal(changes.at(-1), [5, 5]);
    const done = new Promise((resolve) => stream.on({ complete: resolve }));
    stream.request(Infinity);
    await done;
    equal(items.length, 10);
    equal(seen.granted, 5 + 0x7fffffff);
    client.close();
  },

  async "without credit at first nothing is asked"({ connect }) {
    let asked = 0;
    const client = await connect({ onframe: (_, { type }) => (asked += type === "REQUEST_STREAM") });
    const stream = client.stream("range", { from: 0, to: 3 }, { n: 0 });
    await client.request("echo", "a round trip");
    equal(asked, 0);
    stream.request(1);
    stream.request(1);
    equal((await stream.next()).value.json(), 0);
    equal((await stream.next()).value.json(), 1);
    equal([stream.granted, stream.received], [2, 2]);
    stream.cancel();
    equal((await stream.next()).done, true);
    client.close();
  },

  async "automatic credit keeps to its window, by the frames"({ connect }) {
    const seen = gauge();
    const client = await connect({ onframe: seen.onframe });
    const items = [];
    for await (const item of client.stream("range", { from: 0, to: 500 }, { window: 8 })) {
      items.push(item.json());
      if (items.length % 100 === 0) await client.request("echo", "a pause");
    }
    equal(items.length, 500);
    equal(items.at(-1), 499);
    if (seen.most > 8) throw new Error(`${seen.most} were asked for and had not come`);
    if (seen.requests > 130) throw new Error(`${seen.requests} frames gave credit`);
    client.close();
  },

  async "who does not read is sent no more than the window"({ connect }) {
    const client = await connect();
    const stream = client.stream("range", { from: 0, to: 1_000 }, { window: 16 });
    for (let i = 0; i < 5; i++) await client.request("echo", "a round trip");
    equal([stream.granted, stream.received], [16, 16]);
    let last;
    for await (const item of stream) last = item.json();
    equal(last, 999);
    client.close();
  },

  async "a handler that takes its time holds the stream back"({ connect }) {
    const client = await connect();
    let [inside, most] = [0, 0];
    await new Promise((complete, error) => {
      const next = async () => {
        inside += 1;
        most = Math.max(most, inside);
        await client.request("echo", "what takes its time");
        inside -= 1;
      };
      client.stream("range", { from: 0, to: 40 }, { window: 4, next, complete, error });
    });
    if (most > 4) throw new Error(`${most} at once`);
    while (inside > 0) await client.request("echo", "those that are not done yet");
    client.close();
  },

  async "what is left in the middle falls silent"({ connect }) {
    let cancels = 0;
    const client = await connect({ onframe: (way, { type }) => (cancels += way === "out" && type === "CANCEL") });
    for await (const item of client.stream("range", { from: 0 })) if (item.json() === 50) break;
    await client.request("echo", "a round trip");
    equal(cancels, 1);
    client.close();
  },

  async "a channel is sent what there is credit for, both ways"({ connect }) {
    const client = await connect();
    const channel = client.channel("echo", "0", { window: 4 });
    const sent = (async () => {
      for (let i = 1; await channel.ready(); i++) {
        if (i === 100) return channel.complete();
        channel.send(String(i));
      }
    })();
    const echoed = [];
    for await (const item of channel) echoed.push(Number(item.text()));
    await sent;
    equal(echoed, Array.from({ length: 100 }, (_, i) => i));
    equal(channel.sendable, 0);
    client.close();
  },

  async "a channel is pumped from a generator, which is told when nobody wants more"({ connect }) {
    const client = await connect();
    let isOver = false;
    async function* numbers() {
      try {
        for (let i = 1; ; i++) yield { i };
      } finally {
        isOver = true;
      }
    }
    const channel = client.channel("echo", { i: 0 });
    const pumped = channel.pump(numbers());
    for await (const item of channel) if (item.json().i === 20) break;
    await pumped;
    equal(isOver, true);
    client.close();
  },

  async "an unknown route is an error with a code and a text, and the next request is answered"({ connect, refusal }) {
    const client = await connect();
    await fails(client.request("no.such.route", "x"), refusal, "route");
    const all = async (stream) => {
      for await (const item of stream) item.text();
    };
    await fails(all(client.stream("no.such.route", "x")), refusal, "route");
    equal((await client.request("echo", "still")).text(), "still");
    client.close();
  },

  async "a request ends by its timeout, and by its signal"({ connect }) {
    const client = await connect();
    const stream = client.stream("range", { from: 0 }, { timeout: 50, n: 0 });
    await fails(stream.next(), "TIMEOUT", "50 ms");
    const controller = new AbortController();
    const left = client.stream("range", { from: 0 }, { signal: controller.signal, n: 1 });
    await left.next();
    controller.abort(Object.assign(new Error("enough"), { code: "MINE" }));
    await fails(left.next(), "MINE", "enough");
    equal((await client.request("echo", "still")).text(), "still");
    client.close();
  },

  async "a client that is closed says so, to what is open and to what is asked"({ connect }) {
    const client = await connect();
    const stream = client.stream("range", { from: 0 }, { n: 1 });
    await stream.next();
    const pending = stream.next();
    client.close();
    await fails(pending, "CLOSED");
    await fails(client.request("echo", "x"), "CLOSED");
    equal((await client.closed).code, "CLOSED");
    equal(client.state, "closed");
  },
};

/** Runs all of them; gives what failed. */
export async function runAll(context) {
  const problems = [];
  for (const [name, scenario] of Object.entries(scenarios)) {
    await scenario(context).catch((error) => problems.push(`${name}: ${error.message}`));
  }
  return problems;
}

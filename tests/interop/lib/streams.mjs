// What arrives on a stream, and how a case waits for it.

import { strict as assert } from "node:assert";

export const bytes = (text) => Buffer.from(text, "utf8");
export const sizeOf = (buffer) => (buffer ? buffer.length : 0);
export const text = (buffer) => (buffer ? buffer.toString("utf8") : "");
export const json = (value) => bytes(JSON.stringify(value));

/** Waits until a condition holds; whoever changes the state calls wake(). */
export class Signal {
  #waiting = [];

  wake() {
    for (const check of this.#waiting.splice(0)) check();
  }

  until(condition) {
    return new Promise((resolve) => {
      const check = () => (condition() ? resolve() : this.#waiting.push(check));
      check();
    });
  }
}

/** What arrived on a stream, and how it ended. */
export class Inbox {
  items = [];
  done = false;
  error = undefined;
  signal = new Signal();

  onNext(payload) {
    if (this.done) this.error ??= new Error("an item after the end of the stream");
    this.items.push(payload);
    this.signal.wake();
  }

  onComplete() {
    this.done = true;
    this.signal.wake();
  }

  onError(error) {
    this.error ??= error;
    this.done = true;
    this.signal.wake();
  }

  async has(count) {
    await this.signal.until(() => this.done || this.items.length >= count);
    if (this.error) throw this.error;
  }
}

/**
 * A round trip on the same connection. What the service had to say before it
 * has been said once the answer is here: a barrier that needs no sleeping.
 */
export async function roundTrip(connection) {
  const answer = await connection.requestResponse({
    data: bytes("round trip"),
    metadata: connection.metadata("echo"),
  });
  assert.equal(text(answer.data), "round trip", "the answer of echo");
}

export function same(actual, expected, what) {
  const [got, wanted] = [JSON.stringify(actual), JSON.stringify(expected)];
  assert.ok(got === wanted, `${what}: got ${got}`);
}

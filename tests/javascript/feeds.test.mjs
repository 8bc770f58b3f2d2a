// The conversations of tests/vectors/feeds.json, which the Python client goes through too.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { Feed } from "../../python/wup/web/wup.js";
import { Clock, settle, sockets } from "./fake.mjs";

const { cases } = JSON.parse(readFileSync(new URL("../vectors/feeds.json", import.meta.url), "utf8"));
const COUNTED = new Set(["snapshot", "delta", "status", "trade"]);

class Conversation {
  clock = new Clock();
  events = [];
  sent = 0;
  count = 0;
  subscriptions = new Map();

  constructor() {
    const { made, FakeSocket } = sockets();
    this.made = made;
    this.feed = new Feed("ws://gateway/ws", { WebSocket: FakeSocket, timers: this.clock.timers, random: () => 0 });
    made[0].open();
  }

  get ws() {
    return this.made.at(-1);
  }

  say(message) {
    if (COUNTED.has(message.type)) this.count += 1;
    this.ws.say(message);
  }

  async pass(ms) {
    for (let left = ms; left > 0; left -= 1_000) {
      await this.clock.pass(Math.min(left, 1_000));
      if (this.ws.readyState === 0) {
        this.count = 0;
        this.ws.open();
      }
      this.say({ type: "heartbeat", count: this.count, ts: 1 });
    }
  }

  async act(step) {
    if (step.subscribe) {
      const [name, books, { depth, every_ms: everyMs }] = step.subscribe;
      const onEvent = ({ type, why, book }) => {
        const shown = ["connected", "disconnected"].includes(type) || why === null ? type : `${type}:${why}`;
        this.events.push([name, shown, ...(book === null ? [] : [book.id])].join(" "));
        assert.ok(type !== "removed" || !book.exact || this.feed.book(book.id) === book);
      };
      this.subscriptions.set(name, this.feed.subscribe(books, { depth, everyMs, onEvent }));
    }
    if (step.unsubscribe) this.subscriptions.get(step.unsubscribe).close();
    if (step.say) this.say(step.say);
    if (step.answer) {
      const { id, books } = this.ws.sent.at(-1);
      const { of, ...answer } = step.answer;
      this.ws.say({ books, ...answer, id, ...(of === undefined ? {} : { at: books.indexOf(of) }) });
    }
    if (step.pass_ms) await this.pass(step.pass_ms);
    if (step.end) this.ws.end(step.end);
    await settle();
  }

  check({ events, books, ops }, where) {
    assert.deepEqual(this.events.splice(0), events, where);
    if (books !== undefined) {
      const held = [...this.feed.books.values()].map(({ id, exact }) => [id, exact]);
      assert.deepEqual(Object.fromEntries(held), books, where);
    }
    if (ops === undefined) return;
    const sent = this.made.flatMap((ws) => ws.sent);
    const fresh = sent.slice(this.sent);
    this.sent = sent.length;
    assert.equal(fresh.length, ops.length, `${where}: ${JSON.stringify(fresh)}`);
    ops.forEach(({ unordered, ...wanted }, at) => {
      for (const [field, value] of Object.entries(wanted)) assert.deepEqual(fresh[at][field], value, where);
      if (unordered !== undefined) assert.deepEqual(new Set(fresh[at].books), new Set(unordered), where);
    });
  }
}

for (const { name, steps } of cases) {
  test(`feed: ${name}`, async () => {
    const talk = new Conversation();
    for (const [at, step] of steps.entries()) {
      await talk.act(step);
      if (step.then !== undefined) talk.check(step.then, `step ${at}`);
    }
    talk.feed.close();
  });
}

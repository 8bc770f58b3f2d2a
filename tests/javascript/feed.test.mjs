// The feed: what it sends, what it believes, and what it does when something is not as it must be.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { Feed, FeedError, LiveBook, Refused, cellHash } from "../../python/wup/web/wup.js";
import { Clock, settle, sockets } from "./fake.mjs";

const BOOK = "fed-2026-12.9b1c22d0a47e55f1.yes";
const steps = JSON.parse(readFileSync(new URL("../vectors/streams.json", import.meta.url), "utf8")).cases[0].steps;
const [SNAPSHOT, DELTA, STATUS] = steps.map((step) => JSON.parse(step.message));

/** A feed on fakes, connected unless told otherwise. */
function world({ open = true, random = () => 0.5, ...options } = {}) {
  const clock = new Clock();
  const { made, FakeSocket } = sockets();
  const feed = new Feed("ws://gateway/ws", { WebSocket: FakeSocket, timers: clock.timers, random, ...options });
  if (open) made[0].open();
  return { feed, clock, made, ws: made[0] };
}

/** Collects the events of a subscription as "type" or "type:why". */
function collect(feed, patterns, options = {}) {
  const seen = [];
  const subscription = feed.subscribe(patterns, {
    ...options,
    onEvent: (event) => seen.push(event.why === null ? event.type : `${event.type}:${event.why}`),
  });
  return { seen, subscription };
}

test("a subscription is sent, its book is exact, and lost and healed by resync after a gap", async () => {
  const { feed, clock, ws } = world();
  await feed.ready;
  const { seen } = collect(feed, "fed-2026-12.>", { trades: true });
  assert.deepEqual(ws.sent.at(-1), { op: "subscribe", books: ["fed-2026-12.>"], trades: true, id: "1" });
  ws.answer({ type: "subscribed", matched: 1 });
  ws.say(SNAPSHOT);
  const book = feed.book(BOOK);
  assert.equal(book.bestBid.price, "0.52");
  assert.equal(book.bestBid.sizeMicros, 1_200_000_000n);
  assert.deepEqual(book.bestOf("kalshi").ask.legs, { kalshi: "250" });
  ws.say(STATUS); // the delta before it is missing
  assert.equal(book.exact, false);
  assert.equal(book.bestBid, null);
  assert.equal(book.state, "down");
  assert.deepEqual(book.bestOf("kalshi"), { bid: null, ask: null });
  await clock.pass(60);
  assert.deepEqual(ws.sent.at(-1), { op: "resync", books: [BOOK], id: "2" });
  ws.answer({ type: "resynced" });
  ws.say({ ...SNAPSHOT, why: "resync" });
  ws.say(DELTA);
  ws.say(STATUS);
  ws.say({ type: "trade", book: BOOK, platform: "kalshi", price: "0.53", size: "10", side: "buy" });
  assert.deepEqual(seen, ["snapshot", "lost:gap", "snapshot", "delta", "status", "trade"]);
  assert.equal(feed.stats.gaps, 1);
  feed.close();
});

test("a digest that does not agree is a mismatch; a server that keeps lying is asked ever more slowly", async () => {
  const { feed, clock, ws } = world();
  const { seen } = collect(feed, BOOK);
  ws.say(SNAPSHOT);
  ws.say({ ...DELTA, digest: 1 });
  let asked = [];
  for (let turn = 0; turn < 40; turn += 1) {
    await clock.pass(250);
    for (const op of ws.sent.splice(0).filter(({ op }) => op === "resync")) {
      asked.push(clock.timers.now());
      ws.say({ type: "resynced", id: op.id, books: op.books });
      ws.say({ ...SNAPSHOT, digest: 2 });
    }
    ws.say({ type: "heartbeat", count: feed.stats.messages, ts: 1 });
  }
  assert.deepEqual(seen, ["snapshot", "lost:broken"]);
  const waits = asked.slice(1).map((at, place) => at - asked[place]);
  assert.ok(asked.length >= 4 && asked.length <= 10, `${asked}`);
  assert.ok(waits.at(-1) > waits[0]);
  ws.say(SNAPSHOT);
  assert.equal(feed.book(BOOK).exact, true);
  feed.close();
});

test("the gateway's own gap makes the book not exact and asks for nothing", async () => {
  const { feed, clock, ws } = world();
  const { seen } = collect(feed, BOOK);
  ws.answer({ type: "subscribed" });
  ws.say(SNAPSHOT);
  ws.say({ type: "status", book: BOOK, by: "gateway", state: "down", why: "gap", ts: {} });
  await clock.pass(1_000);
  assert.deepEqual(ws.sent.map(({ op }) => op), ["subscribe"]);
  ws.say({ ...SNAPSHOT, why: "gap" });
  assert.deepEqual(seen, ["snapshot", "lost:gateway", "snapshot"]);
  feed.close();
});

test("a heartbeat count that differs means lost frames: a new connection, all anew", async () => {
  const { feed, clock, made, ws } = world();
  const { seen } = collect(feed, BOOK);
  ws.say(SNAPSHOT);
  ws.say({ type: "heartbeat", count: 1, ts: 1 });
  assert.ok(feed.connected);
  ws.say({ type: "heartbeat", count: 3, ts: 1 });
  assert.equal(feed.connected, false);
  assert.equal(feed.book(BOOK).exact, false);
  ws.say(SNAPSHOT); // a late frame of the socket that was given up
  assert.equal(feed.book(BOOK).exact, false);
  await clock.pass(250);
  assert.equal(made.length, 2);
  made[1].open();
  assert.deepEqual(made[1].sent.map(({ op }) => op), ["subscribe"]);
  made[1].say(SNAPSHOT);
  made[1].say({ type: "heartbeat", count: 1, ts: 1 });
  assert.deepEqual(seen, [
    "snapshot", "lost:disconnected", "disconnected:heartbeat count differs", "connected", "snapshot",
  ]);
  assert.equal(feed.stats.countMismatches, 1);
  feed.close();
});

test("five seconds without a frame: reconnect; frames in time keep it", async () => {
  const { feed, clock, made, ws } = world();
  const { seen } = collect(feed, BOOK);
  for (let second = 0; second < 12; second += 1) {
    await clock.pass(4_900);
    ws.say({ type: "heartbeat", count: 0, ts: 1 });
  }
  assert.equal(made.length, 1);
  await clock.pass(4_999);
  assert.ok(feed.connected);
  await clock.pass(2);
  assert.deepEqual(seen, ["disconnected:no message for 5000 ms"]);
  assert.equal(ws.closedWith, 4000);
  feed.close();
});

test("waits between attempts are full jitter of 0.25 s doubled up to 30 s, and start anew after success", async () => {
  const { feed, clock, made, ws } = world({ random: () => 1 });
  ws.end(1006);
  const waits = [];
  for (let attempt = 0; attempt < 9; attempt += 1) {
    const before = clock.timers.now();
    const count = made.length;
    while (made.length === count) await clock.pass(125);
    waits.push(clock.timers.now() - before);
    made.at(-1).end(1013);
  }
  assert.deepEqual(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
  await clock.pass(30_000);
  made.at(-1).open();
  made.at(-1).say({ type: "heartbeat", count: 0, ts: 1 });
  made.at(-1).end(1012);
  const count = made.length;
  await clock.pass(250);
  assert.equal(made.length, count + 1);
  feed.close();
});

test("over the rate: ten seconds; a gateway that goes away says how long to spread", async () => {
  const { feed, clock, made, ws } = world();
  ws.end(4429);
  await clock.pass(9_900);
  assert.equal(made.length, 1);
  await clock.pass(200);
  assert.equal(made.length, 2);
  made[1].open();
  made[1].say({ type: "notice", code: "going_away", in_ms: 5_000, jitter_ms: 5_000 });
  made[1].end(1012);
  await clock.pass(2_400);
  assert.equal(made.length, 2);
  await clock.pass(200);
  assert.equal(made.length, 3);
  feed.close();
});

test("a close that trying again cannot help ends the feed and says so", async () => {
  for (const code of [1002, 1003, 1007, 1009, 4400, 4401, 4403]) {
    const { feed, clock, made, ws } = world();
    const subscription = feed.subscribe(">");
    let failed = null;
    feed.addEventListener("failed", ({ error }) => (failed = error));
    ws.end(code, "no");
    assert.equal((await subscription.next()).value.type, "disconnected");
    await assert.rejects(subscription.next(), (error) => error instanceof FeedError && !(error instanceof Refused));
    assert.match(failed.message, new RegExp(`${code} no`));
    await clock.pass(60_000);
    assert.equal(made.length, 1);
    await assert.rejects(feed.subscribe(">").done, FeedError);
  }
});

test("nobody there: ready rejects after ten seconds and the feed keeps trying", async () => {
  const { feed, clock, made } = world({ open: false });
  const ready = assert.rejects(feed.ready, /ws:\/\/gateway\/ws: no answer/);
  await clock.pass(10_001);
  await ready;
  assert.ok(made.length >= 2);
  feed.close();
});

test("a refused pattern rejects with code and place; what may be tried again is tried again", async () => {
  const { feed, clock, ws } = world();
  const refused = feed.subscribe(["a.b.yes", "a..b"]);
  ws.answer({ type: "error", code: "bad_pattern", message: "no", at: 1, retry: false });
  await assert.rejects(refused.next(), (error) => error instanceof Refused && error.code === "bad_pattern" && error.at === 1);
  await assert.rejects(refused.done, Refused);
  const later = feed.subscribe(">");
  ws.answer({ type: "error", code: "rate_limited", message: "slow down", retry: true });
  await clock.pass(2_000);
  assert.deepEqual(ws.sent.map(({ op }) => op), ["subscribe", "subscribe", "subscribe"]);
  ws.answer({ type: "subscribed" });
  ws.say(SNAPSHOT);
  assert.equal((await later.next()).value.type, "snapshot");
  feed.close();
});

test("one book that the gateway does not know does not keep the others from their resync", async () => {
  const { feed, clock, ws } = world();
  collect(feed, ">");
  const other = { ...SNAPSHOT, book: "a.b.yes" };
  for (const message of [SNAPSHOT, other]) ws.say(message);
  for (const book of [BOOK, "a.b.yes"]) ws.say({ ...STATUS, book });
  await clock.pass(60);
  assert.deepEqual(ws.sent.at(-1).books, [BOOK, "a.b.yes"]);
  ws.answer({ type: "error", code: "unknown_book", message: "no", at: 0, retry: false });
  await clock.pass(200);
  assert.deepEqual(ws.sent.at(-1).books, ["a.b.yes"]);
  ws.answer({ type: "error", code: "rate_limited", message: "no", retry: true });
  await clock.pass(2_000);
  assert.equal(ws.sent.length, 4);
  assert.deepEqual(ws.sent.at(-1).books, ["a.b.yes"]);
  feed.close();
});

test("streams are apart: depth and interval have their own book, and unsubscribing drops only its own", async () => {
  const { feed, ws } = world();
  const full = collect(feed, BOOK);
  const top = collect(feed, BOOK, { depth: 1, everyMs: 100 });
  assert.deepEqual(ws.sent.at(-1), { op: "subscribe", books: [BOOK], depth: 1, every_ms: 100, id: "2" });
  const empty = { ...SNAPSHOT, bids: [], asks: [], digest: 0, depth: 1, every_ms: 100 };
  ws.say(SNAPSHOT);
  ws.say(empty);
  ws.say(DELTA);
  assert.deepEqual([full.seen, top.seen], [["snapshot", "delta"], ["snapshot"]]);
  const shaped = feed.book(BOOK, { depth: 1, everyMs: 100 });
  assert.equal(shaped.bestBid, null);
  assert.equal(shaped.exact, true);
  top.subscription.close();
  assert.deepEqual(ws.sent.at(-1), { op: "unsubscribe", books: [BOOK], depth: 1, every_ms: 100, id: "3" });
  assert.equal(feed.book(BOOK, { depth: 1, everyMs: 100 }), undefined);
  assert.equal(shaped.exact, false);
  ws.say(empty); // on its way when we unsubscribed: would never be updated, so it must not be shown as exact
  assert.equal(feed.book(BOOK, { depth: 1, everyMs: 100 }), undefined);
  assert.equal(feed.book(BOOK).exact, true);
  await top.subscription.done;
  feed.close();
});

test("subscriptions may overlap: a pattern is asked for once, and what is held is shown first", async () => {
  const { feed, ws } = world();
  const first = collect(feed, ">");
  ws.say(SNAPSHOT);
  ws.say(DELTA);
  const second = collect(feed, [">", BOOK]);
  assert.deepEqual(ws.sent.at(-1).books, [BOOK]);
  const shown = feed.subscribe(">");
  assert.equal(ws.sent.length, 2);
  await settle();
  assert.deepEqual(second.seen, ["snapshot"]);
  const { message, book } = (await shown.next()).value;
  assert.equal(new LiveBook().apply(message), "exact");
  assert.deepEqual([message.seq, message.digest, message.title], [book.seq, DELTA.digest, SNAPSHOT.title]);
  first.subscription.close();
  shown.close();
  assert.equal(ws.sent.length, 2);
  ws.say(STATUS);
  assert.deepEqual(second.seen, ["snapshot", "status"]);
  second.subscription.close();
  assert.deepEqual(ws.sent.at(-1), { op: "unsubscribe", books: [">", BOOK], id: "3" });
  assert.equal(feed.books.size, 0);
  feed.close();
});

test("a refused operation takes nobody along who only counted on it", async () => {
  const { feed, ws } = world();
  const wrong = feed.subscribe([BOOK, "a..b"]);
  const right = collect(feed, BOOK);
  assert.equal(ws.sent.length, 1);
  ws.answer({ type: "error", code: "bad_pattern", message: "no", at: 1, retry: false });
  await assert.rejects(wrong.done, Refused);
  assert.deepEqual(ws.sent.at(-1), { op: "subscribe", books: [BOOK], id: "2" });
  ws.say(SNAPSHOT);
  assert.deepEqual(right.seen, ["snapshot"]);
  feed.close();
});

test("operations go out in order, 30 at once and then 15 a second, on every connection anew", async () => {
  const { feed, clock, made, ws } = world({ random: () => 0 });
  for (let at = 0; at < 60; at += 1) feed.subscribe(`x.${at}.yes`);
  const burst = ws.sent.length;
  assert.ok(burst === 30 || burst === 31, `${burst}`);
  await clock.pass(1_000);
  assert.ok(ws.sent.length >= 45 && ws.sent.length <= 46, `${ws.sent.length}`);
  await clock.pass(1_500);
  assert.deepEqual(ws.sent.map(({ books: [book] }) => book), Array.from({ length: 60 }, (_, at) => `x.${at}.yes`));
  for (const id of ["59", "60"]) {
    ws.say({ type: "error", id, code: "rate_limited", message: "slow down", retry: true });
  }
  await clock.pass(1_500);
  assert.deepEqual(ws.sent.slice(60).map(({ books: [book] }) => book), ["x.58.yes", "x.59.yes"]);
  ws.end(1006);
  await clock.pass(1);
  made[1].open();
  assert.equal(made[1].sent.length, burst);
  feed.close();
});

test("trades reach each subscription that asked for them, with the book in its form", () => {
  const { feed, ws } = world();
  const plain = collect(feed, BOOK);
  const full = collect(feed, "fed-2026-12.>", { trades: true });
  const top = collect(feed, BOOK, { depth: 1, trades: true });
  ws.say({ type: "trade", book: BOOK, platform: "kalshi", price: "0.53", size: "10", side: "buy" });
  ws.say({ type: "trade", book: "a.b.yes", platform: "kalshi", price: "0.53", size: "10", side: "buy" });
  assert.deepEqual([plain.seen, full.seen, top.seen], [[], ["trade"], ["trade"]]);
  feed.close();
});

test("a venue's asset stands for the book that it feeds", async () => {
  const { feed, ws } = world();
  const { seen } = collect(feed, "kalshi:KXFED-26DEC-C25");
  const other = collect(feed, "kalshi:NOBODY");
  ws.say(SNAPSHOT);
  assert.deepEqual([seen, other.seen], [["snapshot"], []]);
  feed.close();
});

test("a slow reader loses the oldest events, is told how many, and its books are exact", async () => {
  const { feed, ws } = world();
  const subscription = feed.subscribe(BOOK, { limit: 2 });
  await settle();
  for (let turn = 0; turn < 5; turn += 1) ws.say(SNAPSHOT);
  const first = (await subscription.next()).value;
  assert.deepEqual([first.type, first.count], ["dropped", 3]);
  assert.equal((await subscription.next()).value.type, "snapshot");
  assert.equal((await subscription.next()).value.book.exact, true);
  const waiting = subscription.next();
  feed.close();
  assert.equal((await waiting).value.type, "lost");
  assert.equal((await subscription.next()).value.why, "closed");
  assert.equal((await subscription.next()).done, true);
});

test("leaving a for-await loop unsubscribes", async () => {
  const { feed, ws } = world();
  const subscription = feed.subscribe(BOOK);
  ws.say(SNAPSHOT);
  for await (const event of subscription) {
    assert.equal(event.type, "snapshot");
    break;
  }
  assert.equal(ws.sent.at(-1).op, "unsubscribe");
  assert.equal(feed.books.size, 0);
  feed.close();
});

test("the token goes first, in the auth operation, never in the address", async () => {
  const { feed, clock, made, ws } = world({ token: "secret", open: false });
  feed.subscribe(">");
  ws.open();
  assert.deepEqual(ws.sent.map(({ op }) => op), ["auth", "subscribe"]);
  assert.equal(ws.sent[0].token, "secret");
  assert.ok(!ws.url.includes("secret"));
  ws.end(1006);
  await clock.pass(1_000);
  made[1].open();
  assert.deepEqual(made[1].sent.map(({ op }) => op), ["auth", "subscribe"]);
  feed.close();
});

test("listBooks reads all pages, and an answer that never comes is an error once the connection goes", async () => {
  const { feed, ws } = world();
  const list = feed.listBooks("fed-2026-12.>");
  ws.answer({ type: "books", books: [{ book: "a" }], next: "a" });
  await settle();
  assert.deepEqual(ws.sent.at(-1), { op: "list", match: "fed-2026-12.>", after: "a", id: "2" });
  ws.answer({ type: "books", books: [{ book: "b" }], next: null });
  assert.deepEqual((await list).map(({ book }) => book), ["a", "b"]);
  const never = assert.rejects(feed.request({ op: "ping" }), /disconnected/);
  ws.end(1006);
  await never;
  await assert.rejects(feed.request({ op: "ping" }), /not connected/);
  feed.close();
});

test("text that is no message, and binary, end the connection: what was lost is not known", async () => {
  for (const bad of ["{", "[]", "null", '"x"']) {
    const { feed, ws } = world();
    const { seen } = collect(feed, BOOK);
    ws.say(bad);
    assert.deepEqual(seen, ["disconnected:unreadable message"], bad);
    feed.close();
  }
  const { feed, ws } = world();
  ws.dispatchEvent(Object.assign(new Event("message"), { data: new ArrayBuffer(2) }));
  assert.equal(feed.connected, false);
  feed.close();
});

test("no WebSocket class, no feed", () => {
  const own = globalThis.WebSocket;
  globalThis.WebSocket = undefined;
  try {
    assert.throws(() => new Feed(), /options\.WebSocket/);
  } finally {
    globalThis.WebSocket = own;
  }
  assert.throws(() => world().feed.subscribe([]), RangeError);
});

test("a number that is written longer is the same number, and is shown in its shortest form", () => {
  for (const price of ["0.5", ".5", "00.5", "0.500"]) {
    for (const size of ["5", "05", "5.", "5.0"]) {
      const digest = cellHash("x", "ask", "0.5", "5");
      const book = new LiveBook();
      const asks = [[price, size, { x: size }]];
      const head = { type: "snapshot", book: "a.b.yes", epoch: 1, seq: 1, digest, state: "live", crossed: false };
      assert.equal(book.apply({ ...head, bids: [], asks }), "exact", `${price} ${size}`);
      const { price: shown, size: total, legs } = book.bestAsk;
      assert.deepEqual([shown, total, legs], ["0.5", "5", { x: "5" }]);
    }
  }
});

test("names of legs that objects have by themselves are names like any other", () => {
  const { feed, ws } = world();
  collect(feed, "a.b.yes");
  const sum = (cellHash("__proto__", "bid", "0.5", "2") + cellHash("constructor", "bid", "0.5", "3")) >>> 0;
  ws.say(
    `{"type":"snapshot","book":"a.b.yes","epoch":1,"seq":1,"digest":${sum},"state":"live","crossed":false,` +
      '"legs":{},"bids":[["0.5","5",{"__proto__":"2","constructor":"3"}]],"asks":[]}',
  );
  const book = feed.book("a.b.yes");
  assert.equal(book.exact, true);
  assert.equal(book.bestOf("toString").bid, null);
  assert.equal(book.bestOf("constructor").bid.price, "0.5");
  feed.close();
});

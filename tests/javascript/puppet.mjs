// The JavaScript feed in somebody else's world: its sockets and its clock are there, and it is looked at after every
// event. One JSON line in, one out, in lock step.
//
// in:  {"now":ms,"do":[...]}   time passes up to `now`, then each in order:
//      ["world",seed]  a new world with a new feed        ["report"]
//      ["open",n]  ["message",n,text]  ["close",n,code]   what happens to socket n
//      ["subscribe",name,patterns,options]  ["unsubscribe",name]  ["end"]
// out: {"connect":[n],"sent":[[n,text]],"closed":[[n,code]],   what the feed does
//       "next":ms or null,                                     when its next timer is due
//       "seen":[[book,depth,every_ms,epoch,seq,digest,null or the whole copy as a snapshot]],   one for each event
//       "lost":number, "faults":[text], "report":...}
import { createInterface } from "node:readline";

import { Feed } from "../../python/wup/web/wup.js";
import { Clock, settle } from "./fake.mjs";

const WHOLE = 8;
let clock;
let feed;
let sockets;
let subscriptions;
let out;
let events = 0;

const fresh = () => ({ connect: [], sent: [], closed: [], next: null, seen: [], lost: 0, faults: [], report: null });
const fault = (text, ...more) => out.faults.push(`${text}: ${JSON.stringify(more).slice(0, 400)}`);

class Socket extends EventTarget {
  readyState = 0;

  constructor() {
    super();
    this.number = sockets.push(this) - 1;
    out.connect.push(this.number);
  }

  send(text) {
    out.sent.push([this.number, text]);
  }

  close(code) {
    this.readyState = 2;
    out.closed.push([this.number, code]);
  }
}

/** Small and the same everywhere: a linear congruence. */
function random(seed) {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 4_294_967_296;
  };
}

/** What one subscription is told must be a story without holes. */
class Reader {
  #exact = new Map();

  hear({ type, book, message, why }) {
    if (type === "disconnected") {
      for (const held of feed.books.values()) if (held.exact) fault("exact without a connection", held.id);
      return;
    }
    if (book === null || type === "trade") return;
    const key = `${book.id} ${book.depth} ${book.everyMs}`;
    const before = this.#exact.get(key);
    if (type === "lost" || type === "removed") {
      if (type === "lost" && before === undefined) fault("lost and was not exact", key, why);
      if (type === "lost" && (book.exact || book.bestBid !== null || book.state !== "down")) fault("lost and shown", key);
      if (type === "lost") out.lost += 1;
      this.#exact.delete(key);
      return;
    }
    if (!book.exact) fault("told of a book that is not exact", type, key);
    if (message.epoch !== book.epoch || message.seq !== book.seq) fault("another place than the message's", key, message);
    if (type !== "snapshot") {
      if (before === undefined) fault("goes on without a snapshot", type, key);
      const shaped = book.depth !== null || book.everyMs !== null;
      if (before?.epoch !== message.epoch || (shaped ? message.prev !== before?.seq : message.prev > before?.seq)) {
        fault("a hole that nobody saw", key, before, message);
      }
    }
    this.#exact.set(key, { epoch: book.epoch, seq: book.seq });
    events += 1;
    const whole = events % WHOLE === 0 ? book.snapshot() : null;
    out.seen.push([book.id, book.depth, book.everyMs, book.epoch, book.seq, book.digest, whole]);
  }
}

const ACTIONS = {
  world(seed) {
    clock = new Clock();
    sockets = [];
    subscriptions = new Map();
    feed = new Feed("ws://world/ws", { WebSocket: Socket, timers: clock.timers, random: random(seed) });
  },
  open(number) {
    sockets[number].readyState = 1;
    sockets[number].dispatchEvent(new Event("open"));
  },
  message(number, text) {
    const current = feed.connected;
    sockets[number].dispatchEvent(Object.assign(new Event("message"), { data: text }));
    if (!current || !text.includes('"by":"gateway"')) return;
    const { book, depth = null, every_ms: everyMs = null } = JSON.parse(text);
    if (feed.book(book, { depth, everyMs })?.exact) fault("exact though the gateway is not", text);
  },
  close(number, code) {
    sockets[number].readyState = 3;
    sockets[number].dispatchEvent(Object.assign(new Event("close"), { code, reason: "" }));
  },
  subscribe(name, patterns, options) {
    const reader = new Reader();
    const subscription = feed.subscribe(patterns, { ...options, onEvent: (event) => reader.hear(event) });
    subscription.done.catch((error) => fault("refused", name, error.message));
    subscriptions.set(name, subscription);
  },
  unsubscribe(name) {
    subscriptions.get(name).close();
    subscriptions.delete(name);
  },
  report() {
    const books = [...feed.books.values()].map(({ id, depth, everyMs, exact, epoch, seq, digest }) => [
      [id, depth, everyMs], exact, epoch, seq, digest,
    ]);
    out.report = { books, stats: feed.stats };
  },
  end() {
    feed.close();
  },
};

let passed = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const { now, do: actions } = JSON.parse(line);
  out = fresh();
  try {
    if (clock !== undefined && now > passed) await clock.pass(now - passed);
    passed = now;
    for (const [name, ...more] of actions) {
      ACTIONS[name](...more);
      if (name !== "message") await settle();
    }
    await settle();
  } catch (error) {
    fault(error.stack);
  }
  out.next = clock.next;
  process.stdout.write(`${JSON.stringify(out)}\n`);
}

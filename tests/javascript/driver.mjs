// A client that tells what it believes, for tests in other languages. JSON lines in, JSON lines out.
//
//   node driver.mjs ws://127.0.0.1:8082/ws [options as JSON: token, jitter (fixed, ms), silentMs]
//
// in:  {"do":"subscribe","name":"a","books":[...],"depth":5,"everyMs":100,"trades":true}
//      {"do":"unsubscribe","name":"a"}   {"do":"resync","books":[...]}
//      {"do":"tell","verbose":true}      every event from now on as a line
//      {"do":"pause","ms":200}           the program does not read for so long (it blocks)
//      {"do":"report","id":1,"levels":true}
//      {"do":"close"}                    ends; so does the end of the input
// out: {"type":"ready"}  {"type":"connected"}  {"type":"disconnected","why":...}  {"type":"failed","why":...}
//      {"type":"refused","name":"a","code":...,"at":...}  {"type":"done","do":...}
//      {"type":"event","event":"delta","book":...,"seq":...,"why":...}   (when told to)
//      {"type":"report","id":1,"connected":true,"stats":{...},"books":[{"book":...,"depth":null,"every_ms":null,
//       "exact":true,"epoch":...,"seq":...,"digest":...,"state":...,"crossed":...,"bids":[...],"asks":[...]}]}
//
// Everything in "books" is what a program would be shown; `bids` and `asks` only with "levels", best first.
import { createInterface } from "node:readline";

import { connect } from "../../python/wup/web/wup.js";

const [url, text = "{}"] = process.argv.slice(2);
const options = JSON.parse(text);
const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const levels = (found) => found.map(({ price, size, legs }) => [price, size, legs]);

// A fixed wait between attempts: the jitter's range grows, so the share of it that is taken shrinks.
let attempts = 0;
const random = () => Math.min(1, options.jitter / Math.min(30_000, 250 * 2 ** attempts++));
const feed = await connect(url, {
  token: options.token,
  ...(options.silentMs === undefined ? {} : { silentMs: options.silentMs }),
  ...(options.jitter === undefined ? {} : { random }),
}).catch((error) => {
  say({ type: "failed", why: error.message });
  process.exit(2);
});
feed.addEventListener("connected", () => {
  attempts = 0;
  say({ type: "connected" });
});
feed.addEventListener("disconnected", ({ why }) => say({ type: "disconnected", why }));
feed.addEventListener("failed", ({ error }) => say({ type: "failed", why: error.message }));

const subscriptions = new Map();
let verbose = false;

function onEvent(event) {
  if (!verbose) return;
  const { type, book, why, message } = event;
  say({ type: "event", event: type, book: book?.id ?? null, seq: book?.seq ?? null, why: why ?? message?.why ?? null });
}

function report({ id = null, levels: withLevels = false }) {
  const books = [...feed.books.values()].map((book) => ({
    book: book.id,
    depth: book.depth,
    every_ms: book.everyMs,
    exact: book.exact,
    epoch: book.epoch,
    seq: book.seq,
    digest: book.digest,
    state: book.state,
    crossed: book.crossed,
    ...(withLevels ? { bids: levels(book.bids()), asks: levels(book.asks()) } : {}),
  }));
  say({ type: "report", id, connected: feed.connected, stats: { ...feed.stats }, books });
}

const ACTIONS = {
  subscribe({ name, books, depth, everyMs, trades }) {
    const subscription = feed.subscribe(books, { depth, everyMs, trades, onEvent });
    subscriptions.set(name, subscription);
    subscription.done.catch((error) => {
      say({ type: "refused", name, code: error.code ?? null, at: error.at ?? null, why: error.message });
    });
  },
  unsubscribe({ name }) {
    subscriptions.get(name)?.close();
    subscriptions.delete(name);
  },
  resync({ books }) {
    feed.request({ op: "resync", books }).catch((error) => say({ type: "refused", name: null, code: error.code ?? null, why: error.message }));
  },
  tell(wanted) {
    verbose = wanted.verbose === true;
  },
  pause({ ms }) {
    const until = performance.now() + ms;
    while (performance.now() < until);
  },
  report,
  close() {
    feed.close();
    process.exit(0);
  },
};

say({ type: "ready" });
createInterface({ input: process.stdin })
  .on("line", (line) => {
    const wish = JSON.parse(line);
    ACTIONS[wish.do](wish);
    if (wish.do !== "report") say({ type: "done", do: wish.do });
  })
  .on("close", () => ACTIONS.close());

// Run by js_client.py: frames on standard input, one a line; figures as JSON on standard output.
import { readFileSync } from "node:fs";

import { LiveBook } from "../python/wup/web/wup.js";

const ROUNDS = 9;
const lines = readFileSync(0, "utf8").trimEnd().split("\n");
const [snapshot, ...deltas] = lines;

/** The least disturbed of some rounds, in microseconds per item. */
function best(items, run) {
  let least = Infinity;
  for (let round = 0; round < ROUNDS; round += 1) {
    const began = performance.now();
    run();
    least = Math.min(least, performance.now() - began);
  }
  return (least * 1_000) / items;
}

function whole() {
  const book = new LiveBook();
  book.apply(JSON.parse(snapshot));
  for (const delta of deltas) {
    if (book.apply(JSON.parse(delta)) !== "exact") throw new Error("a frame did not verify");
  }
  return book;
}

const held = whole();
const parsed = deltas.map((delta) => JSON.parse(delta));
const parse = best(deltas.length, () => {
  let total = 0;
  for (const delta of deltas) total += JSON.parse(delta).seq;
  return total;
});
const applied = best(deltas.length, () => {
  const book = new LiveBook();
  book.apply(JSON.parse(snapshot));
  for (const delta of parsed) book.apply(delta);
});
const both = best(deltas.length, whole);
const fresh = best(200, () => {
  for (let turn = 0; turn < 200; turn += 1) new LiveBook().apply(JSON.parse(snapshot));
});
console.log(
  JSON.stringify({
    node: process.version, deltas: deltas.length, bytes: Math.round(deltas.join("").length / deltas.length),
    levels: held.bids().length + held.asks().length, parse, applied, both, fresh, snapshot_bytes: snapshot.length,
  }),
);

// The vector files of all clients (tests/vectors/README.md), read by wup.js.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import * as wup from "../../python/wup/web/wup.js";

const load = (name) => JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), "utf8"));

test("salts and cell hashes are those of the contract", () => {
  const { salts, cells } = load("digest");
  for (const [leg, expected] of salts) assert.equal(wup.salt(leg), expected);
  for (const [leg, side, price, size, expected] of cells) {
    assert.equal(wup.cellHash(leg, side, price, size), expected, `${leg} ${side} ${price} ${size}`);
  }
  assert.ok(cells.length >= 20);
});

test("numbers are exact both ways, and what would need rounding is refused", () => {
  const { exact, refused, complements } = load("numbers");
  for (const [text, micros] of exact) {
    assert.equal(wup.parseMicros(text), BigInt(micros));
    assert.equal(wup.formatMicros(BigInt(micros)), text);
  }
  for (const text of refused) assert.throws(() => wup.parseMicros(text), RangeError, JSON.stringify(text));
  for (const [price, other] of complements) {
    assert.equal(wup.complement(price), other);
    assert.equal(wup.complement(other), price);
  }
});

test("patterns match as the contract says", () => {
  const { matches, refused } = load("patterns");
  for (const [pattern, book, expected] of matches) {
    assert.equal(wup.matches(pattern, book), expected, `${pattern} ${book}`);
    assert.ok(wup.isPattern(pattern), pattern);
  }
  for (const pattern of refused) assert.ok(!wup.isPattern(pattern), JSON.stringify(pattern));
});

const sorted = (legs) => Object.fromEntries(Object.entries(legs).sort(([a], [b]) => (a < b ? -1 : 1)));
const shown = (levels) => levels.map((level) => [level.price, level.size, sorted(level.legs)]);

for (const { name, steps } of load("streams").cases) {
  test(`stream: ${name}`, () => {
    const book = new wup.LiveBook();
    for (const [place, step] of steps.entries()) {
      const where = `step ${place}`;
      if (step.doubt) {
        book.doubt();
      } else {
        let message = null;
        try {
          message = JSON.parse(step.message);
        } catch {
          // Text that is no message: the copy is told so by a message that is none.
        }
        // Here "no message at all" is `broken` too.
        const expected = step.verdict === "unreadable" ? "broken" : step.verdict;
        assert.equal(book.apply(message), expected, where);
      }
      const { expect } = step;
      assert.equal(book.exact, expect.exact, where);
      if (!expect.exact) {
        assert.equal(book.bestBid, null, where);
        assert.equal(book.state, "down", where);
        continue;
      }
      const { epoch, seq, digest, state, crossed } = book;
      const own = { exact: true, epoch, seq, digest, state, crossed, bids: shown(book.bids()), asks: shown(book.asks()) };
      assert.deepEqual(own, expect, where);
    }
  });
}

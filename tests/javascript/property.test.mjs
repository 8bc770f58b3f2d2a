// Random books against a model that is as plain as can be: one Map of cells, BigInt, the digest from scratch.
import assert from "node:assert/strict";
import test from "node:test";

import { LiveBook, formatMicros } from "../../python/wup/web/wup.js";

const SEEDS = Number(process.env.WUP_JS_SEEDS ?? 60);
const TURNS = 120;
const LEGS = ["kalshi", "polymarket", "kalshi-2", "x"];
const M32 = 0xffffffffn;

/** mulberry32: small, seeded, good enough for choices. */
function generator(seed) {
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
  return { next, below: (n) => Math.floor(next() * n), pick: (list) => list[Math.floor(next() * list.length)] };
}

const mix = (x) => {
  x ^= x >> 16n;
  x = (x * 0x85ebca6bn) & M32;
  x ^= x >> 13n;
  x = (x * 0xc2b2ae35n) & M32;
  return x ^ (x >> 16n);
};
const salt = (leg) => {
  let value = 0x811c9dc5n;
  for (const letter of leg) value = ((value ^ BigInt(letter.charCodeAt(0))) * 0x01000193n) & M32;
  return value;
};

/** The server's side: cells by "side price leg". */
class Model {
  cells = new Map();
  seq = 1;

  digest() {
    let total = 0n;
    for (const [key, size] of this.cells) {
      const [side, price, leg] = key.split(" ");
      const start = (2n * BigInt(price) + (side === "asks" ? 1n : 0n) + 0x9e3779b9n + salt(leg)) & M32;
      total += mix(mix(mix(start) ^ (size & M32)) ^ (size >> 32n));
    }
    return Number(total & M32);
  }

  /** The level at a price, as the wire has it in the given view. */
  level(side, price, no) {
    const legs = {};
    let total = 0n;
    for (const leg of LEGS) {
      const size = this.cells.get(`${side} ${price} ${leg}`);
      if (size !== undefined) {
        legs[leg] = formatMicros(size);
        total += size;
      }
    }
    return [formatMicros(no ? 1_000_000 - price : price), formatMicros(total), legs];
  }

  side(side, no) {
    const prices = [...new Set([...this.cells.keys()].filter((key) => key.startsWith(side)).map((key) => Number(key.split(" ")[1])))];
    const best = side === "bids" ? prices.sort((a, b) => b - a) : prices.sort((a, b) => a - b);
    return best.map((price) => this.level(side, price, no));
  }

  /** Both sides in the view: NO swaps them. */
  sides(no) {
    const [bids, asks] = [this.side("bids", no), this.side("asks", no)];
    return no ? { bids: asks, asks: bids } : { bids, asks };
  }

  change(random) {
    const touched = { bids: new Set(), asks: new Set() };
    for (let count = 1 + random.below(5); count > 0; count -= 1) {
      const side = random.pick(["bids", "asks"]);
      const price = random.next() < 0.05 ? random.pick([1, 999_999, 500_000]) : 1 + random.below(60) * 16_393;
      const key = `${side} ${price} ${random.pick(LEGS)}`;
      const scale = random.pick([1n, 1_000_000n, 4_294_967_296n, 1_000_000_000_000n]);
      const size = BigInt(1 + random.below(90_000)) * scale;
      if (random.next() < 0.35) this.cells.delete(key);
      else this.cells.set(key, size < 10n ** 17n ? size : 10n ** 17n);
      touched[side].add(price);
    }
    return touched;
  }
}

const shown = (levels) => levels.map(({ price, size, legs }) => [price, size, { ...legs }]);
const head = (model, type, book) => ({
  type, book, epoch: 7, seq: model.seq, digest: model.digest(), state: "live", crossed: false,
});

function run(seed) {
  const random = generator(seed);
  const model = new Model();
  const no = random.next() < 0.5;
  const id = no ? "a.b.no" : "a.b.yes";
  const book = new LiveBook();
  const snapshot = () => ({ ...head(model, "snapshot", id), legs: {}, ...model.sides(no) });
  model.change(random);
  assert.equal(book.apply(snapshot()), "exact");
  let wrong = 0;
  for (let turn = 0; turn < TURNS; turn += 1) {
    const prev = model.seq;
    const touched = model.change(random);
    model.seq += 1;
    const levels = (side) => [...touched[side]].map((price) => model.level(side, price, no));
    const sides = no ? { bids: levels("asks"), asks: levels("bids") } : { bids: levels("bids"), asks: levels("asks") };
    const delta = { ...head(model, "delta", id), prev, ...sides };
    const luck = random.next();
    if (luck < 0.05) {
      // Lost on the way: the copy must notice with the next message.
      continue;
    }
    const verdict = book.apply(luck < 0.1 ? tamper(delta, random) : delta);
    if (!book.exact) {
      wrong += 1;
      assert.ok(["gap", "broken", "ignored"].includes(verdict));
      assert.equal(book.bestAsk, null);
      if (random.next() < 0.7) assert.equal(book.apply(snapshot()), "exact");
    }
    if (book.exact) {
      const want = model.sides(no);
      assert.equal(book.seq, model.seq);
      assert.deepEqual(shown(book.bids()), want.bids);
      assert.deepEqual(shown(book.asks()), want.asks);
      assert.deepEqual(shown(book.bids(3)), want.bids.slice(0, 3));
      assert.equal(book.bestBid?.price, want.bids[0]?.[0]);
      for (const leg of LEGS) {
        assert.equal(book.bestOf(leg).bid?.price, want.bids.find(([, , legs]) => leg in legs)?.[0]);
      }
    }
  }
  return wrong;
}

/** A message that is not what was sent: one digit, one level, one leg or the number is another. */
function tamper(delta, random) {
  const bad = structuredClone(delta);
  const side = bad.bids.length > 0 ? bad.bids : bad.asks;
  switch (random.below(4)) {
    case 0:
      bad.digest = (bad.digest + 1) % 4_294_967_296;
      break;
    case 1:
      bad.prev += 1;
      break;
    case 2:
      side[0][1] = formatMicros(1n + BigInt(random.below(1_000_000)));
      side[0][2] = {};
      break;
    default:
      side[0][0] = "1";
  }
  return bad;
}

test(`a copy that says exact equals the model, over ${SEEDS} seeds`, () => {
  let wrong = 0;
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    try {
      wrong += run(seed);
    } catch (error) {
      error.message = `seed ${seed}: ${error.message}`;
      throw error;
    }
  }
  assert.ok(wrong > SEEDS, "nothing went wrong on the way: the test proved little");
});

// WUP: consolidated order books of prediction markets, verified message by message.
//
//   import { connect } from "./wup.js";
//   const feed = await connect("ws://127.0.0.1:8082/ws");
//   for await (const event of feed.subscribe("fed-2026-12.>")) {
//     if (event.book?.exact) console.log(event.book.id, event.book.bestBid?.price, event.book.bestAsk?.price);
//   }
//
// One file, no dependencies, browsers and Node 20 or newer. The rules are those of wire.md section 4, "What a
// client does to be exact". Numbers are never floats: prices and sizes are the exact decimal text of the wire,
// checked and hashed as integers of one millionth.

/** Millionths in one. */
export const SCALE = 1_000_000;

const DEFAULT_URL = "ws://127.0.0.1:8082/ws";
const SILENT_MS = 5_000;
const OPEN_MS = 5_000;
const READY_MS = 10_000;
const BACKOFF_BASE_MS = 250;
const BACKOFF_CAP_MS = 30_000;
const RATE_WAIT_MS = 10_000;
const RESYNC_MS = 50;
const RESYNC_MAX_MS = 5_000;
const RESYNC_AT_ONCE = 200;
const AGAIN_MS = 1_000;
// A closed book is dropped after 60 s (wire.md section 3 rule 5), without a word; here a little later.
const CLOSED_MS = 65_000;
const CENSUS_MS = 10_000;
const CENSUS_MAX_MS = 300_000;
// The contract allows 20 operations a second and 40 at once; a gateway set to less says `rate_limited`.
const BURST = 30;
const INTERVAL_MS = 1_000 / 15;
const QUEUE_LIMIT = 65_536;
const FATAL_CLOSES = new Set([1002, 1003, 1007, 1009, 4400, 4401, 4403]);
const RATE_CLOSE = 4429;
const BOOK_STATES = new Set(["live", "degraded", "down", "closed"]);
const BOOK_ID = /^[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{1,64}\.(yes|no)$/;

// --- exact numbers --------------------------------------------------------------------------------------

const POWERS = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];
const MAX_TEXT = 40;
const MAX_LEG_WHOLE = 100_000_000_000;
const I64_WHOLE = 9_223_372_036_854;
const I64_PART = 775_807;
const TWO_32 = 4_294_967_296;

// What `read` found: whole units and millionths. Two numbers, because a size in millionths can pass 2^53.
// Module state instead of a result object: this runs for every number of every message.
let whole = 0;
let part = 0;
let plain = true;

/** Reads unsigned decimal text exactly into `whole` and `part`; false when it is none or does not fit. */
function read(text) {
  if (typeof text !== "string" || text.length > MAX_TEXT) return false;
  let units = 0;
  let fraction = 0;
  let digits = 0;
  let decimals = -1;
  let code = 0;
  for (let at = 0; at < text.length; at += 1) {
    code = text.charCodeAt(at) - 48;
    if (code >= 0 && code <= 9) {
      digits += 1;
      if (decimals < 0) {
        units = units * 10 + code;
        if (units > I64_WHOLE) return false;
      } else {
        decimals += 1;
        if (decimals > 6) return false;
        fraction = fraction * 10 + code;
      }
    } else if (code === -2 && decimals < 0) {
      decimals = 0;
    } else {
      return false;
    }
  }
  if (digits === 0) return false;
  whole = units;
  part = decimals < 0 ? 0 : fraction * POWERS[6 - decimals];
  // Shortest form: no leading zero, nothing needless after the point.
  const first = text.charCodeAt(0);
  plain =
    (decimals < 0 || (code !== 0 && code !== -2)) &&
    first !== 46 &&
    (first !== 48 || text.length === 1 || text.charCodeAt(1) === 46);
  return units < I64_WHOLE || part <= I64_PART;
}

function write(units, millionths) {
  if (millionths === 0) return String(units);
  return `${units}.${String(millionths).padStart(6, "0").replace(/0+$/, "")}`;
}

/**
 * Exact decimal text as millionths.
 * @throws {RangeError} for text that is no such number, has more than six decimals or passes 64 bits.
 */
export function parseMicros(text) {
  if (!read(text)) throw new RangeError(`no exact number of at most six decimals: ${JSON.stringify(text)}`);
  return BigInt(whole) * 1_000_000n + BigInt(part);
}

/** Millionths (number or bigint, not negative) as shortest decimal text. */
export function formatMicros(micros) {
  const value = BigInt(micros);
  if (value < 0n) throw new RangeError("negative");
  return write(value / 1_000_000n, Number(value % 1_000_000n));
}

/** The price of the opposite outcome, 1 - p, as exact decimal text. */
export function complement(price) {
  const micros = Number(parseMicros(price));
  if (micros <= 0 || micros >= SCALE) throw new RangeError(`no price: ${JSON.stringify(price)}`);
  return write(0, SCALE - micros);
}

// --- the digest -----------------------------------------------------------------------------------------

const salts = new Map();

/** FNV-1a, 32 bit, over the leg's ASCII name. */
export function salt(leg) {
  let value = salts.get(leg);
  if (value === undefined) {
    value = 0x811c9dc5;
    for (let at = 0; at < leg.length; at += 1) value = Math.imul(value ^ leg.charCodeAt(at), 0x01000193);
    value >>>= 0;
    if (salts.size >= 4_096) salts.clear();
    salts.set(leg, value);
  }
  return value;
}

function mix(value) {
  value ^= value >>> 16;
  value = Math.imul(value, 0x85ebca6b);
  value ^= value >>> 13;
  value = Math.imul(value, 0xc2b2ae35);
  return value ^ (value >>> 16);
}

function hash(legSalt, side, priceMicros, units, millionths) {
  let low;
  let high;
  if (units < 9_000_000_000) {
    const micros = units * SCALE + millionths;
    low = micros % TWO_32;
    high = (micros - low) / TWO_32;
  } else {
    // units * 10^6 passes 2^53: units = a * 2^20 + b, and a * 10^6 * 2^20 is split at bit 32.
    const b = units % 1_048_576;
    const a = ((units - b) / 1_048_576) * SCALE;
    const rest = (a % 4_096) * 1_048_576 + b * SCALE + millionths;
    low = rest % TWO_32;
    high = Math.floor(a / 4_096) + (rest - low) / TWO_32;
  }
  return mix(mix(mix((2 * priceMicros + side + 0x9e3779b9 + legSalt) | 0) ^ low) ^ high);
}

/**
 * The hash of one cell of a book, in YES coordinates; 0 for size "0".
 * @throws {RangeError} for text that is no number.
 */
export function cellHash(leg, side, price, size) {
  const micros = Number(parseMicros(price));
  if (!read(size)) throw new RangeError(`no exact number: ${JSON.stringify(size)}`);
  if (whole === 0 && part === 0) return 0;
  return hash(salt(leg), side === "ask" ? 1 : 0, micros, whole, part) >>> 0;
}

// --- books ----------------------------------------------------------------------------------------------

/** One price with its size, in total and per leg. Never changed: a change makes a new one. */
export class Level {
  constructor(priceMicros, price, size, legs, cells) {
    /** In millionths, between 0 and 1,000,000. */
    this.priceMicros = priceMicros;
    /** Exact decimal text. */
    this.price = price;
    /** Exact decimal text, in contracts. */
    this.size = size;
    /** Size per leg, exact decimal text. */
    this.legs = legs;
    this.cells = cells;
  }

  /** The total in millionths. */
  get sizeMicros() {
    return parseMicros(this.size);
  }
}

/** One side, sorted so that the best level is the last: changes near the best move little. */
class Side {
  constructor(sign) {
    this.sign = sign;
    this.levels = [];
  }

  place(priceMicros) {
    const { levels, sign } = this;
    const wanted = sign * priceMicros;
    let low = 0;
    let high = levels.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (sign * levels[middle].priceMicros < wanted) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Puts `level` (null: nothing) at a price; returns the hash of what was there. */
  put(priceMicros, level) {
    const { levels } = this;
    const at = this.place(priceMicros);
    const old = at < levels.length && levels[at].priceMicros === priceMicros ? levels[at] : null;
    if (level === null) {
      if (old !== null) levels.splice(at, 1);
    } else if (old !== null) {
      levels[at] = level;
    } else if (at === levels.length) {
      levels.push(level);
    } else {
      levels.splice(at, 0, level);
    }
    return old === null ? 0 : old.cells;
  }

  best() {
    const { levels } = this;
    return levels.length === 0 ? null : levels[levels.length - 1];
  }

  top(count) {
    const { levels } = this;
    const most = Math.min(count, levels.length);
    const found = new Array(most);
    for (let at = 0; at < most; at += 1) found[at] = levels[levels.length - 1 - at];
    return found;
  }

  bestOf(leg) {
    const { levels } = this;
    for (let at = levels.length - 1; at >= 0; at -= 1) if (Object.hasOwn(levels[at].legs, leg)) return levels[at];
    return null;
  }
}

const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const isDigest = (value) => Number.isInteger(value) && value >= 0 && value < TWO_32;

/**
 * A verifying copy of one stream's book (full YES, NO view, with depth or interval). `exact` is true while it is
 * proven equal to the server's at (`epoch`, `seq`).
 */
export class LiveBook {
  #bids = new Side(1);
  #asks = new Side(-1);
  #digest = 0;
  #no = false;
  #state = "down";
  #crossed = false;

  constructor(id = "", depth = null, everyMs = null) {
    this.id = id;
    this.depth = depth;
    this.everyMs = everyMs;
    this.title = null;
    this.label = null;
    this.mapping = null;
    this.result = null;
    this.legs = {};
    this.epoch = 0;
    this.seq = 0;
    this.digest = 0;
    this.exact = false;
  }

  /** `live`, `degraded`, `down` or `closed`; `down` while not exact. */
  get state() {
    return this.exact ? this.#state : "down";
  }

  /** Is the best bid above the best ask? */
  get crossed() {
    return this.exact && this.#crossed;
  }

  /** The highest bid; null when there is none or the book is not exact. */
  get bestBid() {
    return this.exact ? this.#bids.best() : null;
  }

  /** The lowest ask; null when there is none or the book is not exact. */
  get bestAsk() {
    return this.exact ? this.#asks.best() : null;
  }

  /** The best level a side at which `leg` shows size; null when there is none or the book is not exact. */
  bestOf(leg) {
    if (!this.exact) return { bid: null, ask: null };
    return { bid: this.#bids.bestOf(leg), ask: this.#asks.bestOf(leg) };
  }

  /** Bids as last known, best first, at most `count`. Worth something only while `exact`. */
  bids(count = Infinity) {
    return this.#bids.top(count);
  }

  /** Asks as last known, best first, at most `count`. Worth something only while `exact`. */
  asks(count = Infinity) {
    return this.#asks.top(count);
  }

  /** What is held, in the form of a snapshot message. */
  snapshot(why = "subscribe") {
    const { id: book, epoch, seq, digest, state, crossed, mapping, title, label, legs, result } = this;
    const list = (level) => [level.price, level.size, level.legs];
    const options = {};
    if (result !== null) options.result = result;
    if (this.depth !== null) options.depth = this.depth;
    if (this.everyMs !== null) options.every_ms = this.everyMs;
    const bids = this.bids().map(list);
    const asks = this.asks().map(list);
    const ts = {};
    const type = "snapshot";
    return { type, book, epoch, seq, digest, state, crossed, why, mapping, title, label, legs, bids, asks, ts, ...options };
  }

  /** Something outside the stream is in doubt: not exact until the next snapshot. */
  doubt() {
    this.exact = false;
  }

  /**
   * Applies one parsed message. `exact`: applied and proven; `gap`: a message is missing, `broken`: the content
   * contradicts its digest or is no message (after both: not exact, ask for a resync); `ignored`: a repeat,
   * older, another book or kind, a status by the gateway, or nothing can be checked before the next snapshot.
   */
  apply(message) {
    const verdict = isObject(message) ? this.#take(message) : "broken";
    if (verdict === "gap" || verdict === "broken") this.exact = false;
    return verdict;
  }

  #take(message) {
    const { type, epoch, seq } = message;
    if (type !== "snapshot" && type !== "delta" && type !== "status") return "ignored";
    if (typeof message.book !== "string") return "broken";
    if (this.id !== "" && message.book !== this.id) return "ignored";
    if (message.by === "gateway") {
      this.exact = false;
      return "ignored";
    }
    if (!Number.isSafeInteger(epoch) || !Number.isSafeInteger(seq) || !isDigest(message.digest)) return "broken";
    if (type === "snapshot") {
      if (this.exact && (epoch < this.epoch || (epoch === this.epoch && seq < this.seq))) return "ignored";
      if (!this.#restart(message)) return "broken";
    } else {
      const { prev } = message;
      if (!Number.isSafeInteger(prev)) return "broken";
      if (!this.exact || epoch < this.epoch) return "ignored";
      const options = Number.isInteger(message.depth) || Number.isInteger(message.every_ms);
      if (epoch > this.epoch || (options ? prev !== this.seq : prev > this.seq)) return "gap";
      if (seq <= this.seq) return "ignored";
    }
    if (!BOOK_STATES.has(message.state) || typeof message.crossed !== "boolean") return "broken";
    this.#state = message.state;
    this.#crossed = message.crossed;
    const fresh = type === "snapshot";
    const consistent = this.#levels(message.bids, false, fresh) && this.#levels(message.asks, true, fresh);
    if (isObject(message.legs)) this.legs = message.legs;
    if (message.result !== undefined) this.result = message.result;
    this.epoch = epoch;
    this.seq = seq;
    this.digest = message.digest;
    if (!consistent || this.#digest >>> 0 !== message.digest) return "broken";
    this.exact = true;
    return "exact";
  }

  /** Forgets everything that the snapshot says anew. */
  #restart(message) {
    this.exact = false;
    const found = BOOK_ID.exec(message.book);
    if (found === null || !(message.legs === undefined || isObject(message.legs))) return false;
    this.id = message.book;
    this.#no = found[1] === "no";
    this.#bids.levels = [];
    this.#asks.levels = [];
    this.#digest = 0;
    this.title = message.title ?? null;
    this.label = message.label ?? null;
    this.mapping = message.mapping ?? null;
    this.result = null;
    this.legs = {};
    return true;
  }

  /** Applies the levels of one side; false when they contradict themselves or are none. */
  #levels(levels, isAsk, fresh) {
    if (levels === undefined) return true;
    if (!Array.isArray(levels)) return false;
    // A snapshot lists the best first, a side keeps it last: from the end each level is simply appended.
    for (let at = 0; at < levels.length; at += 1) {
      if (!this.#level(levels[fresh ? levels.length - 1 - at : at], isAsk)) return false;
    }
    return true;
  }

  #level(level, isAsk) {
    if (!Array.isArray(level) || level.length < 3) return false;
    const [priceText, sizeText, parts] = level;
    if (!read(priceText) || whole !== 0 || part === 0 || !isObject(parts)) return false;
    const price = part;
    const shownPrice = plain ? priceText : write(0, price);
    // The digest is in YES coordinates.
    const at = this.#no ? SCALE - price : price;
    const side = isAsk !== this.#no ? 1 : 0;
    let cells = 0;
    let units = 0;
    let millionths = 0;
    let legs = parts;
    let empty = true;
    for (const leg in parts) {
      if (!read(parts[leg]) || (whole === 0 && part === 0)) return false;
      if (whole > MAX_LEG_WHOLE || (whole === MAX_LEG_WHOLE && part > 0)) return false;
      empty = false;
      units += whole;
      millionths += part;
      cells = (cells + hash(salt(leg), side, at, whole, part)) | 0;
      if (!plain) legs = { ...legs, [leg]: write(whole, part) };
    }
    const carried = millionths % SCALE;
    units += (millionths - carried) / SCALE;
    if (!read(sizeText) || whole !== units || part !== carried) return false;
    const shown = empty ? null : new Level(price, shownPrice, plain ? sizeText : write(whole, part), legs, cells);
    this.#digest = (this.#digest + cells - (isAsk ? this.#asks : this.#bids).put(price, shown)) | 0;
    return true;
  }
}

// --- patterns -------------------------------------------------------------------------------------------

const TOKEN = /^[A-Za-z0-9_-]{1,64}$/;

/** Is this a pattern over book ids? */
export function isPattern(pattern) {
  const tokens = pattern.split(".");
  const last = tokens.length - 1;
  if (last > 2 || (last < 2 && tokens[last] !== ">")) return false;
  return tokens.every((token, at) => token === "*" || (token === ">" ? at === last : TOKEN.test(token)));
}

/** Does `pattern` (not an asset) match a book id, YES or NO? Wildcards never match the token `no`. */
export function matches(pattern, book) {
  const wanted = pattern.split(".");
  const tokens = book.split(".");
  const wantsNo = wanted.length === 3 && wanted[2] === "no";
  if (tokens.length !== 3 || wantsNo !== (tokens[2] === "no")) return false;
  for (let at = 0; at < wanted.length; at += 1) {
    if (wanted[at] === ">") return at === wanted.length - 1 && at < 3;
    if (at >= 3 || (wanted[at] !== "*" && wanted[at] !== tokens[at])) return false;
  }
  return wanted.length === 3;
}

// --- the feed -------------------------------------------------------------------------------------------

/** The feed ended, and trying again would not help. */
export class FeedError extends Error {
  name = "FeedError";
}

/** The gateway answered an operation with an error of wire.md section 4 rule 7. */
export class Refused extends FeedError {
  name = "Refused";

  constructor(answer) {
    super(`${answer.code}: ${answer.message}`);
    this.code = String(answer.code);
    this.at = answer.at ?? null;
    this.retry = answer.retry === true;
  }
}

/** One thing that happened; see `wup.d.ts`. */
class FeedEvent {
  constructor(type, book = null, message = null, why = null, count = 0) {
    this.type = type;
    this.book = book;
    this.message = message;
    this.why = why;
    this.count = count;
  }
}

/** One `subscribe` of a feed: iterate over it for its events, or give `onEvent`. */
export class Subscription {
  #feed;
  #limit;
  #onEvent;
  #events = [];
  #first = 0;
  #dropped = 0;
  #waiting = [];
  #error = null;
  #ended = false;
  #settle;

  constructor(feed, patterns, options) {
    this.#feed = feed;
    this.patterns = Object.freeze([...patterns]);
    this.depth = options.depth ?? null;
    this.everyMs = options.everyMs ?? null;
    this.trades = options.trades === true;
    this.onSlow = options.onSlow ?? "conflate";
    this.#limit = options.limit ?? QUEUE_LIMIT;
    this.#onEvent = options.onEvent ?? null;
    /** Resolves when the subscription ends, rejects when the gateway refused it or the feed failed. */
    this.done = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    // Somebody who only iterates meets the error there.
    this.done.catch(() => {});
  }

  /** The options of the `subscribe` message that are not the defaults. */
  options() {
    const options = {};
    if (this.depth !== null) options.depth = this.depth;
    if (this.everyMs !== null) options.every_ms = this.everyMs;
    if (this.trades) options.trades = true;
    if (this.onSlow !== "conflate") options.on_slow = this.onSlow;
    return options;
  }

  put(event) {
    if (this.#ended) return;
    if (this.#onEvent !== null) {
      try {
        this.#onEvent(event);
      } catch (error) {
        // A fault of the reader is the reader's: it is told outside, and the books stay exact.
        queueMicrotask(() => {
          throw error;
        });
      }
      return;
    }
    if (this.#waiting.length > 0) {
      this.#waiting.shift().resolve({ value: event, done: false });
      return;
    }
    if (this.#events.length - this.#first >= this.#limit) {
      this.#take();
      this.#dropped += 1;
    }
    this.#events.push(event);
  }

  #take() {
    const event = this.#events[this.#first];
    this.#events[this.#first] = undefined;
    this.#first += 1;
    if (this.#first > 1_024 && this.#first * 2 > this.#events.length) {
      this.#events.splice(0, this.#first);
      this.#first = 0;
    }
    return event;
  }

  end(error = null) {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    if (error === null) this.#settle.resolve();
    else this.#settle.reject(error);
    for (const waiting of this.#waiting.splice(0)) {
      if (error === null) waiting.resolve({ value: undefined, done: true });
      else waiting.reject(error);
    }
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  next() {
    if (this.#dropped > 0) {
      const count = this.#dropped;
      this.#dropped = 0;
      return Promise.resolve({ value: new FeedEvent("dropped", null, null, null, count), done: false });
    }
    if (this.#first < this.#events.length) return Promise.resolve({ value: this.#take(), done: false });
    if (this.#error !== null) return Promise.reject(this.#error);
    if (this.#ended) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** Leaving a `for await` loop unsubscribes. */
  return() {
    this.close();
    return Promise.resolve({ value: undefined, done: true });
  }

  /** Unsubscribe. */
  close() {
    this.#feed.unsubscribe(this);
  }
}

/** Which patterns a feed has asked for: each once with its options, however many subscriptions share it. */
class Wanted {
  #holders = new Map();

  static #keys(subscription) {
    const options = JSON.stringify(subscription.options());
    return [...new Set(subscription.patterns)].map((pattern) => ({ pattern, key: `${pattern} ${options}` }));
  }

  /** Holds all its patterns; returns those that nobody held before. */
  add(subscription) {
    const fresh = [];
    for (const { pattern, key } of Wanted.#keys(subscription)) {
      const holders = this.#holders.get(key);
      if (holders === undefined) {
        this.#holders.set(key, [subscription]);
        fresh.push(pattern);
      } else {
        holders.push(subscription);
      }
    }
    return fresh;
  }

  /** Lets go of all its patterns; returns those that nobody holds any more. */
  remove(subscription) {
    const free = [];
    for (const { pattern, key } of Wanted.#keys(subscription)) {
      const holders = this.#holders.get(key) ?? [];
      const rest = holders.filter((held) => held !== subscription);
      if (rest.length === holders.length) continue;
      if (rest.length > 0) {
        this.#holders.set(key, rest);
      } else {
        this.#holders.delete(key);
        free.push(pattern);
      }
    }
    return free;
  }

  /** Who else counts on a pattern that this one asked for. */
  heirs(subscription) {
    const found = new Set();
    for (const { key } of Wanted.#keys(subscription)) {
      const [first, ...others] = this.#holders.get(key) ?? [];
      if (first === subscription) for (const other of others) found.add(other);
    }
    return [...found];
  }

  clear() {
    this.#holders.clear();
  }
}

/** Is this the last word about a book that left the mapping? Then it has no leg any more. */
function isLast({ type, by, why, legs }) {
  if (type !== "status") return false;
  if (by === "gateway") return why === "unmapped";
  return (why === "unmapped" || why === "mapping") && isObject(legs) && Object.keys(legs).length === 0;
}

const streamKey = (book, depth, everyMs) =>
  depth === null && everyMs === null ? book : `${book} ${depth ?? ""} ${everyMs ?? ""}`;

/** A feed of the gateway at `url`, connected; rejects when it is refused or cannot be reached in ten seconds. */
export async function connect(url = DEFAULT_URL, options = {}) {
  const feed = new Feed(url, options);
  try {
    await feed.ready;
  } catch (error) {
    feed.close();
    throw error;
  }
  return feed;
}

/**
 * One connection, kept up, and the books on it. Starts at once; `ready` tells when it is connected.
 * Events `connected`, `disconnected` (with `why`) and `failed` (with `error`) are dispatched on it.
 */
export class Feed extends EventTarget {
  #options;
  #WebSocket;
  #timers;
  #random;
  #token;
  #ws = null;
  #up = false;
  #closed = false;
  #fatal = null;
  #problem = "no answer";
  #attempt = 0;
  #waitMs = null;
  #retryTimer = null;
  #watchTimer = null;
  #heardAt = 0;
  #count = 0;
  #subscriptions = [];
  #routes = new Map();
  #assets = new Map();
  #byId = new Map();
  #wanted = new Wanted();
  #operations = [];
  #answers = new Map();
  #nextId = 0;
  #asked = 0;
  #freeAt = 0;
  #paceTimer = null;
  #doubtful = new Set();
  #resyncTimer = null;
  #resyncMs = RESYNC_MS;
  #closing = new Map();
  #unheard = new Set();
  #censusTimer = null;
  #readiness;

  constructor(url = DEFAULT_URL, options = {}) {
    super();
    this.url = String(url);
    this.books = new Map();
    this.stats = {
      messages: 0, mismatches: 0, gaps: 0, heartbeats: 0, countMismatches: 0, connects: 0, bytes: 0,
    };
    this.#options = { silentMs: SILENT_MS, openMs: OPEN_MS, readyMs: READY_MS, ...options };
    this.#WebSocket = options.WebSocket ?? globalThis.WebSocket;
    if (typeof this.#WebSocket !== "function") {
      throw new FeedError("there is no WebSocket here: give its class as options.WebSocket");
    }
    this.#timers = options.timers ?? {
      setTimeout: (run, ms) => setTimeout(run, ms),
      clearTimeout: (timer) => clearTimeout(timer),
      now: () => performance.now(),
    };
    this.#random = options.random ?? Math.random;
    this.#token = options.token ?? null;
    this.ready = new Promise((resolve, reject) => {
      this.#readiness = { resolve, reject };
    });
    this.ready.catch(() => {});
    const late = this.#timers.setTimeout(() => {
      this.#readiness.reject(new FeedError(`${this.url}: ${this.#problem}`));
    }, this.#options.readyMs);
    const known = () => this.#timers.clearTimeout(late);
    this.ready.then(known, known);
    this.#open();
  }

  /** Is there a connection now? */
  get connected() {
    return this.#up;
  }

  /** Milliseconds since the last frame on this connection; Infinity without one. */
  get silentMs() {
    return this.#up ? this.#timers.now() - this.#heardAt : Infinity;
  }

  /** The book of one stream, if it has come. */
  book(id, { depth = null, everyMs = null } = {}) {
    return this.books.get(streamKey(id, depth, everyMs));
  }

  /**
   * Events of all books that match, from now on and after every reconnect. Subscriptions may overlap: each gets
   * the events of what it asked for, and first a `snapshot` of books that the feed holds already.
   */
  subscribe(patterns, options = {}) {
    const list = typeof patterns === "string" ? [patterns] : [...patterns];
    if (list.length === 0) throw new RangeError("at least one pattern");
    const subscription = new Subscription(this, list, options);
    if (this.#fatal !== null || this.#closed) {
      subscription.end(this.#fatal ?? new FeedError("the feed is closed"));
      return subscription;
    }
    this.#subscriptions.push(subscription);
    this.#routes.clear();
    if (this.#up) {
      queueMicrotask(() => this.#showHeld(subscription));
      this.#askFor(subscription);
    }
    return subscription;
  }

  /** Stop one subscription; books that no other one reads are dropped. */
  unsubscribe(subscription) {
    if (!this.#forget(subscription)) return;
    const free = this.#wanted.remove(subscription);
    if (this.#up && free.length > 0) {
      this.request({ op: "unsubscribe", books: free, ...subscription.options() }).catch(() => {});
    }
    subscription.end();
  }

  /** The books that match, all pages. */
  async listBooks(match = ">") {
    const found = [];
    let after = null;
    do {
      const page = await this.request({ op: "list", match, after });
      found.push(...page.books);
      after = page.next;
    } while (after !== null && after !== undefined);
    return found;
  }

  /**
   * Sends an operation (without `id`), in order and never faster than the gateway allows; what is refused for
   * now (`retry`) is asked again. Resolves with its answer, rejects with `Refused`, or when disconnected.
   */
  request(body) {
    if (!this.#up) return Promise.reject(new FeedError("not connected"));
    return new Promise((resolve, reject) => {
      this.#operations.push({ body, resolve, reject, first: (this.#asked += 1) });
      this.#sendOperations();
    });
  }

  /** Disconnect and end all subscriptions. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.#problem = "closed";
    this.#timers.clearTimeout(this.#retryTimer);
    this.#drop(1000);
    for (const subscription of this.#subscriptions.splice(0)) subscription.end();
    this.#readiness.reject(new FeedError("the feed was closed"));
  }

  // --- the connection ---

  #open() {
    this.#retryTimer = null;
    const began = this.#timers.now();
    let ws;
    try {
      ws = new this.#WebSocket(this.url, "wup.v1");
    } catch (error) {
      this.#fail(new FeedError(`${this.url}: ${error.message}`));
      return;
    }
    this.#ws = ws;
    // A socket that was given up may still deliver: it is not ours any more.
    ws.addEventListener("open", () => {
      if (ws === this.#ws) this.#opened();
    });
    ws.addEventListener("message", (event) => {
      if (ws === this.#ws) this.#received(event.data);
    });
    ws.addEventListener("close", (event) => {
      if (ws === this.#ws) this.#lost(event.code, event.reason);
    });
    ws.addEventListener("error", () => {});
    this.#heardAt = began;
    this.#watch(this.#options.openMs);
  }

  #opened() {
    this.#up = true;
    this.#heardAt = this.#timers.now();
    this.#count = 0;
    this.#freeAt = this.#heardAt;
    this.#wanted.clear();
    this.stats.connects += 1;
    this.#unheard = new Set(this.books.keys());
    if (this.#unheard.size > 0) this.#census(CENSUS_MS);
    if (this.#token !== null) this.request({ op: "auth", token: this.#token }).catch(() => {});
    for (const subscription of [...this.#subscriptions]) {
      subscription.put(new FeedEvent("connected"));
      this.#askFor(subscription);
    }
    this.#readiness.resolve();
    this.dispatchEvent(new Event("connected"));
  }

  /** Silence is judged by the time of the last frame, so that no timer is touched per message. */
  #watch(limitMs) {
    this.#timers.clearTimeout(this.#watchTimer);
    const look = () => {
      const limit = this.#up ? this.#options.silentMs : limitMs;
      const left = this.#heardAt + limit - this.#timers.now();
      if (left > 0) {
        this.#watchTimer = this.#timers.setTimeout(look, left);
      } else {
        this.#problem = this.#up ? `no message for ${limit} ms` : "no answer";
        this.#again();
      }
    };
    this.#watchTimer = this.#timers.setTimeout(look, limitMs);
  }

  #lost(code, reason) {
    this.#problem = `closed ${code}${reason ? ` ${reason}` : ""}`;
    if (FATAL_CLOSES.has(code)) {
      this.#fail(new FeedError(this.#problem));
      return;
    }
    if (code === RATE_CLOSE) this.#waitMs = RATE_WAIT_MS;
    this.#again();
  }

  #again() {
    this.#drop(4000);
    if (this.#closed) return;
    const wait =
      this.#waitMs ?? this.#random() * Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** Math.min(this.#attempt, 30));
    this.#waitMs = null;
    this.#attempt += 1;
    this.#retryTimer = this.#timers.setTimeout(() => this.#open(), wait);
  }

  #fail(error) {
    this.#fatal = error;
    this.#drop(1000);
    for (const subscription of this.#subscriptions.splice(0)) subscription.end(error);
    this.#readiness.reject(error);
    this.dispatchEvent(Object.assign(new Event("failed"), { error }));
  }

  /** Gives the socket up: from here on nothing is exact. */
  #drop(code) {
    const ws = this.#ws;
    this.#ws = null;
    this.#timers.clearTimeout(this.#watchTimer);
    this.#timers.clearTimeout(this.#resyncTimer);
    this.#timers.clearTimeout(this.#paceTimer);
    this.#timers.clearTimeout(this.#censusTimer);
    for (const timer of this.#closing.values()) this.#timers.clearTimeout(timer);
    this.#resyncTimer = null;
    this.#paceTimer = null;
    this.#closing.clear();
    this.#unheard.clear();
    this.#doubtful.clear();
    if (ws !== null && ws.readyState < 2) ws.close(code);
    for (const { reject } of [...this.#operations.splice(0), ...this.#answers.values()]) {
      reject(new FeedError("disconnected"));
    }
    this.#answers.clear();
    if (!this.#up) return;
    this.#up = false;
    for (const [key, book] of this.books) {
      if (book.exact) {
        book.doubt();
        this.#tell(key, book, new FeedEvent("lost", book, null, "disconnected"));
      }
    }
    for (const subscription of this.#subscriptions) {
      subscription.put(new FeedEvent("disconnected", null, null, this.#problem));
    }
    this.dispatchEvent(Object.assign(new Event("disconnected"), { why: this.#problem }));
  }

  // --- messages ---

  #received(text) {
    this.#heardAt = this.#timers.now();
    let message = null;
    try {
      message = typeof text === "string" ? JSON.parse(text) : null;
    } catch {
      message = null;
    }
    if (!isObject(message)) {
      this.#problem = "unreadable message";
      this.#again();
      return;
    }
    this.stats.bytes += text.length;
    switch (message.type) {
      case "snapshot":
      case "delta":
      case "status":
        this.#count += 1;
        this.stats.messages += 1;
        this.#apply(message);
        break;
      case "trade":
        this.#count += 1;
        this.stats.messages += 1;
        this.#trade(message);
        break;
      case "heartbeat":
        this.stats.heartbeats += 1;
        this.#attempt = 0;
        if (message.count !== this.#count) {
          this.stats.countMismatches += 1;
          this.#problem = "heartbeat count differs";
          this.#again();
        }
        break;
      case "notice":
        if (message.code === "going_away" && Number.isFinite(message.jitter_ms)) {
          this.#waitMs = this.#random() * Math.min(BACKOFF_CAP_MS, Math.max(0, message.jitter_ms));
        }
        for (const subscription of this.#subscriptions) {
          subscription.put(new FeedEvent("notice", null, message, message.code ?? null));
        }
        break;
      default:
        this.#answered(message);
    }
  }

  #apply(message) {
    const depth = message.depth ?? null;
    const everyMs = message.every_ms ?? null;
    const key = streamKey(message.book, depth, everyMs);
    let book = this.books.get(key);
    if (book === undefined) {
      if (typeof message.book !== "string") return;
      // It was over for us, and goes on.
      if (message.type === "delta" && this.#read(message.book, depth, everyMs).length > 0) this.#resync(message.book);
      if (message.type !== "snapshot") return;
      book = new LiveBook(message.book, depth, everyMs);
      this.#learn(book.id, message.legs);
      // On its way when we unsubscribed: nothing would keep it up to date.
      if (this.#route(key, book).length === 0) return;
      this.books.set(key, book);
      const same = this.#byId.get(book.id);
      if (same === undefined) this.#byId.set(book.id, [book]);
      else same.push(book);
    }
    const wasExact = book.exact;
    const verdict = book.apply(message);
    if (verdict === "exact") {
      if (message.type === "snapshot") {
        this.#attempt = 0;
        // A resync is for every stream of the book: one that is right says nothing of the others.
        if (this.#byId.get(book.id).every((stream) => stream.exact)) {
          this.#doubtful.delete(book.id);
          this.#resyncMs = RESYNC_MS;
        }
      }
      const over = isLast(message);
      if (message.legs !== undefined && !over) {
        this.#learn(book.id, message.legs);
        if (this.books.get(key) !== book) return;
      }
      this.#tell(key, book, new FeedEvent(message.type, book, message));
      if (over) this.#remove(key, message.why);
      else this.#heard(key, book);
      return;
    }
    if (verdict === "ignored" && !book.exact && isLast(message)) {
      this.#remove(key, "unmapped", message);
      return;
    }
    if (verdict === "broken") this.stats.mismatches += 1;
    else if (verdict === "gap") this.stats.gaps += 1;
    if (wasExact && !book.exact) {
      this.#tell(key, book, new FeedEvent("lost", book, message, verdict === "ignored" ? "gateway" : verdict));
    }
    if (verdict !== "ignored") this.#resync(book.id);
  }

  #trade(message) {
    const { book: id } = message;
    if (typeof id !== "string") return;
    for (const subscription of this.#subscriptions) {
      if (!subscription.trades || !this.#belongs(subscription, id)) continue;
      const book = this.books.get(streamKey(id, subscription.depth, subscription.everyMs)) ?? null;
      subscription.put(new FeedEvent("trade", book, message));
    }
  }

  /** Which venue assets feed a book: patterns may name them. */
  #learn(id, legs) {
    if (!isObject(legs)) return;
    const assets = Object.values(legs).map((leg) => `${leg?.platform}:${leg?.asset}`);
    const known = this.#assets.get(id);
    if (known !== undefined && known.length === assets.length && assets.every((asset) => known.includes(asset))) return;
    const held = known === undefined ? [] : (this.#byId.get(id) ?? []);
    const before = held.map((book) => this.#read(id, book.depth, book.everyMs));
    this.#assets.set(id, assets);
    this.#routes.clear();
    // Who named a book by an asset that is none of its legs any more reads it no more.
    held.forEach((book, at) => {
      const left = this.#read(id, book.depth, book.everyMs);
      const parted = before[at].filter((subscription) => !left.includes(subscription));
      const key = streamKey(id, book.depth, book.everyMs);
      if (left.length === 0) this.#remove(key, "mapping", null, parted);
      else for (const subscription of parted) subscription.put(new FeedEvent("removed", book, null, "mapping"));
    });
  }

  #read(id, depth, everyMs) {
    return this.#subscriptions.filter(
      (held) => held.depth === depth && held.everyMs === everyMs && this.#belongs(held, id),
    );
  }

  #route(key, book) {
    let route = this.#routes.get(key);
    if (route === undefined) {
      route = this.#read(book.id, book.depth, book.everyMs);
      this.#routes.set(key, route);
    }
    return route;
  }

  #belongs(subscription, id) {
    return this.#patterns(subscription, id).length > 0;
  }

  /** By which of its patterns a subscription asked for a book. */
  #patterns(subscription, id) {
    const assets = this.#assets.get(id) ?? [];
    return subscription.patterns.filter((pattern) =>
      pattern.includes(":") ? assets.includes(pattern) && !id.endsWith(".no") : matches(pattern, id),
    );
  }

  #showHeld(subscription) {
    for (const [key, book] of this.books) {
      if (book.exact && this.#route(key, book).includes(subscription)) {
        subscription.put(new FeedEvent("snapshot", book, book.snapshot()));
      }
    }
  }

  #tell(key, book, event) {
    for (const subscription of this.#route(key, book)) subscription.put(event);
  }

  // --- what is over ---

  /** A book came, or its state did: a closed one is over after its time. */
  #heard(key, book) {
    this.#unheard.delete(key);
    const timer = this.#closing.get(key);
    if (book.state === "closed") {
      if (timer === undefined) {
        this.#closing.set(key, this.#timers.setTimeout(() => this.#remove(key, "closed"), CLOSED_MS));
      }
    } else if (timer !== undefined) {
      this.#timers.clearTimeout(timer);
      this.#closing.delete(key);
    }
  }

  /** A book is over: not exact, not held, and its readers (of now, or `readers`) are told. */
  #remove(key, why, message = null, readers = null) {
    const book = this.books.get(key);
    if (book === undefined) return;
    const told = readers ?? this.#route(key, book);
    book.doubt();
    this.books.delete(key);
    this.#routes.delete(key);
    this.#unheard.delete(key);
    this.#timers.clearTimeout(this.#closing.get(key));
    this.#closing.delete(key);
    const rest = this.#byId.get(book.id).filter((same) => same !== book);
    if (rest.length > 0) {
      this.#byId.set(book.id, rest);
    } else {
      this.#byId.delete(book.id);
      this.#doubtful.delete(book.id);
    }
    for (const subscription of told) subscription.put(new FeedEvent("removed", book, message, why));
  }

  /** While books that were held do not come on a new connection: which are there? The others are over. */
  #census(delay) {
    const again = (wait) => {
      if (this.#up && this.#unheard.size > 0) this.#census(wait);
    };
    const before = this.#unheard.size;
    this.#censusTimer = this.#timers.setTimeout(async () => {
      // They are coming: a question would only add to what the gateway has to do.
      if (this.#unheard.size < before) return again(delay);
      const patterns = new Set();
      for (const key of this.#unheard) {
        const { id } = this.books.get(key);
        for (const held of this.#subscriptions) for (const pattern of this.#patterns(held, id)) patterns.add(pattern);
      }
      try {
        const known = new Set();
        for (const pattern of [...patterns].sort()) for (const { book } of await this.listBooks(pattern)) known.add(book);
        // A gateway that knows no book at all is not ready.
        if (known.size > 0) {
          for (const key of [...this.#unheard]) if (!known.has(this.books.get(key).id)) this.#remove(key, "unknown_book");
        }
      } catch {
        if (!this.#up) return; // the next connection asks by itself
        // Refused, or an answer like no other.
      }
      again(Math.min(2 * delay, CENSUS_MAX_MS));
    }, delay);
  }

  // --- operations ---

  #sendOperations() {
    while (this.#operations.length > 0 && this.#paceTimer === null) {
      const operation = this.#operations.shift();
      this.#nextId += 1;
      const id = String(this.#nextId);
      this.#answers.set(id, operation);
      this.#ws.send(JSON.stringify({ ...operation.body, id }));
      const now = this.#timers.now();
      this.#freeAt = Math.max(this.#freeAt, now) + INTERVAL_MS;
      const ahead = this.#freeAt - now - BURST * INTERVAL_MS;
      if (ahead > 0) this.#later(ahead);
    }
  }

  #later(ms) {
    this.#paceTimer = this.#timers.setTimeout(() => {
      this.#paceTimer = null;
      this.#sendOperations();
    }, ms);
  }

  #answered(message) {
    const operation = typeof message.id === "string" ? this.#answers.get(message.id) : undefined;
    if (operation === undefined) return;
    this.#answers.delete(message.id);
    if (message.type !== "error") {
      operation.resolve(message);
    } else if (message.retry !== true) {
      operation.reject(new Refused(message));
    } else {
      // In front and in the old order, and nothing else meanwhile.
      this.#operations.unshift(operation);
      this.#operations.sort((a, b) => a.first - b.first);
      this.#timers.clearTimeout(this.#paceTimer);
      this.#later(AGAIN_MS * (1 + this.#random()));
    }
  }

  #askFor(subscription) {
    const fresh = this.#wanted.add(subscription);
    if (fresh.length === 0) return;
    this.request({ op: "subscribe", books: fresh, ...subscription.options() }).catch((error) => {
      if (!(error instanceof Refused) || !this.#forget(subscription)) return;
      const heirs = this.#wanted.heirs(subscription);
      this.#wanted.remove(subscription);
      subscription.end(error);
      // Who counted on this question asks for itself.
      for (const heir of heirs) this.#wanted.remove(heir);
      for (const heir of heirs) this.#askFor(heir);
    });
  }

  /** Takes a subscription off the list, and the books that only it read. */
  #forget(subscription) {
    const at = this.#subscriptions.indexOf(subscription);
    if (at < 0) return false;
    this.#subscriptions.splice(at, 1);
    this.#routes.clear();
    for (const [key, book] of this.books) {
      if (this.#route(key, book).length === 0) this.#remove(key, "unsubscribed");
    }
    this.#routes.clear();
    return true;
  }

  /** Asks for a fresh snapshot soon; requests of one moment go in one message. */
  #resync(id) {
    this.#doubtful.add(id);
    if (this.#resyncTimer !== null) return;
    this.#resyncTimer = this.#timers.setTimeout(() => this.#sendResync(), this.#resyncMs);
    // A server that answers with books that do not verify is asked ever more slowly.
    this.#resyncMs = Math.min(2 * this.#resyncMs, RESYNC_MAX_MS);
  }

  #sendResync() {
    this.#resyncTimer = null;
    const batch = [...this.#doubtful].slice(0, RESYNC_AT_ONCE);
    if (batch.length === 0 || !this.#up) return;
    for (const id of batch) this.#doubtful.delete(id);
    this.request({ op: "resync", books: batch }).catch((error) => {
      if (!(error instanceof Refused)) return;
      // All or nothing: the others are asked for again without the one that is gone. When it does not say which,
      // all are, ever more slowly.
      const gone = Number.isInteger(error.at) ? batch[error.at] : undefined;
      if (error.code === "unknown_book") {
        for (const { depth, everyMs } of this.#byId.get(gone) ?? []) this.#remove(streamKey(gone, depth, everyMs), error.code);
      }
      for (const id of batch) {
        if (id !== gone && (this.#byId.get(id) ?? []).some((book) => !book.exact)) this.#resync(id);
      }
    });
    if (this.#doubtful.size > 0) this.#resyncTimer = this.#timers.setTimeout(() => this.#sendResync(), RESYNC_MS);
  }
}

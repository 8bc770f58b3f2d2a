// What this page measures: messages a second, time from the venue's socket to here, and the way to the gateway.
import { by, nowUs, write } from "./dom.js";

const KEEP = 4_096;
const PING_MS = 2_000;
const PINGS = 10;

export class Meter {
  #feed;
  #late = new Float64Array(KEEP);
  #count = 0;
  #before = null;
  #beforeAt = 0;
  #rtt = null;
  #offset = null;
  #pings = [];
  #pingAt = -PING_MS;

  constructor(feed) {
    this.#feed = feed;
  }

  /** One message with the stamp of the venue's socket. */
  see(message) {
    const received = message.ts?.recv;
    if (received === undefined || this.#offset === null) return;
    this.#late[this.#count % KEEP] = nowUs() + this.#offset - received;
    this.#count += 1;
  }

  /** Every second. */
  draw() {
    const now = performance.now();
    const { stats, books, connected } = this.#feed;
    if (this.#before !== null && now > this.#beforeAt) {
      const rate = ((stats.messages - this.#before) * 1_000) / (now - this.#beforeAt);
      write(by("m-rate"), connected ? `${Math.round(rate).toLocaleString("en")}/s` : "–");
    }
    this.#before = stats.messages;
    this.#beforeAt = now;
    const [half, most] = connected ? this.#quantiles() : [null, null];
    write(by("m-p50"), half === null ? "–" : milliseconds(half));
    write(by("m-p99"), most === null ? "–" : milliseconds(most));
    write(by("m-rtt"), connected && this.#rtt !== null ? milliseconds(this.#rtt) : "–");
    let exact = 0;
    for (const book of books.values()) if (book.exact) exact += 1;
    write(by("m-exact"), books.size === 0 ? "–" : `${exact} of ${books.size}`);
    by("m-exact").dataset.good = String(exact === books.size);
    write(by("m-wrong"), String(stats.mismatches + stats.countMismatches));
    by("m-wrong").dataset.good = String(stats.mismatches + stats.countMismatches === 0);
    if (connected && now - this.#pingAt > PING_MS) this.#ping(now);
  }

  /** The gateway's clock, as far as a round trip tells: latencies compare stamps of two machines. */
  async #ping(now) {
    this.#pingAt = now;
    const sent = nowUs();
    const answer = await this.#feed.request({ op: "ping" }).catch(() => null);
    if (answer === null) return;
    const back = nowUs();
    this.#rtt = back - sent;
    this.#pings.push({ rtt: back - sent, offset: answer.ts - (sent + back) / 2 });
    if (this.#pings.length > PINGS) this.#pings.shift();
    const best = this.#pings.reduce((least, ping) => (ping.rtt < least.rtt ? ping : least));
    // The quickest round trip knows most. What it cannot tell from no difference is none.
    this.#offset = Math.abs(best.offset) <= best.rtt / 2 ? 0 : best.offset;
  }

  #quantiles() {
    const size = Math.min(this.#count, KEEP);
    if (size === 0) return [null, null];
    const sorted = this.#late.slice(0, size).sort();
    this.#count = 0;
    return [sorted[Math.floor(size / 2)], sorted[Math.min(size - 1, Math.floor(size * 0.99))]];
  }
}

function milliseconds(us) {
  const ms = Math.max(0, us) / 1_000;
  if (ms >= 10_000) return `${Math.round(ms / 1_000).toLocaleString("en")} s`;
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

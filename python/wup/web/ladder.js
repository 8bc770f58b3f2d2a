// One book as a card: head, best prices, ladder with the size per leg as stacked bars, and its legs.
//
// A card is drawn only when its book changed and it can be seen, at most once per frame. Levels are never
// changed, only replaced, so a row whose level is the same object is left alone.
import { age, grouped, h, middle, write } from "./dom.js";
import { Spark } from "./spark.js";
import { formatMicros } from "./wup.js";

const LEG_COLOURS = 6;
const colours = new Map();

/** The number of a leg's colour: one name, one colour, everywhere on the page. */
export function colour(leg) {
  let found = colours.get(leg);
  if (found === undefined) {
    found = colours.size % LEG_COLOURS;
    colours.set(leg, found);
  }
  return found;
}

const WORDS = {
  gap: "a message was lost",
  broken: "the digest did not agree",
  gateway: "the gateway lost a message",
  disconnected: "not connected",
};

class Row {
  constructor(side) {
    this.side = side;
    this.level = null;
    this.scale = 0;
    this.crossed = false;
    this.price = h("th", { scope: "row", class: "price" });
    this.bar = h("div", { class: "bar-in" });
    this.size = h("td", { class: "number" });
    this.element = h("tr", { class: side }, this.price, h("td", { class: "depth" }, this.bar), this.size);
    this.parts = [];
  }

  show(level, scale, crossed, legs) {
    if (level === this.level && scale === this.scale && crossed === this.crossed) return;
    if (level === null) {
      write(this.price, "");
      write(this.size, "");
      for (const part of this.parts) part.hidden = true;
      for (const name of ["role", "aria-label", "title"]) this.bar.removeAttribute(name);
    } else {
      if (this.level?.price !== level.price) write(this.price, level.price);
      else if (level !== this.level) this.flash();
      if (this.level?.size !== level.size) write(this.size, grouped(level.size));
      this.bars(level, scale, legs);
    }
    this.element.classList.toggle("crossed", crossed);
    this.level = level;
    this.scale = scale;
    this.crossed = crossed;
  }

  bars(level, scale, legs) {
    // A picture of the size, not the size, which stands beside it as text: its length grows with the square root,
    // or one great order would leave nothing to see of all others; the parts share it in proportion.
    const total = Number(level.size);
    const unit = (100 * Math.sqrt(total / scale)) / total;
    let said = "";
    for (let at = 0; at < legs.length; at += 1) {
      let part = this.parts[at];
      if (part === undefined) {
        part = h("i");
        this.parts.push(part);
        this.bar.append(part);
      }
      const size = Object.hasOwn(level.legs, legs[at]) ? level.legs[legs[at]] : null;
      part.hidden = size === null;
      if (size === null) continue;
      const name = `leg-${colour(legs[at])}`;
      if (part.className !== name) part.className = name;
      part.style.width = `${(Number(size) * unit).toFixed(2)}%`;
      said += `${said === "" ? "" : ", "}${legs[at]} ${size}`;
    }
    for (let at = legs.length; at < this.parts.length; at += 1) this.parts[at].hidden = true;
    this.bar.setAttribute("role", "img");
    this.bar.setAttribute("aria-label", said);
    this.bar.title = said;
  }

  flash() {
    // Two equal animations, taken in turn: changing the name starts it anew without a layout.
    const on = this.element.classList.contains("flash-a") ? "flash-b" : "flash-a";
    this.element.classList.remove("flash-a", "flash-b");
    this.element.classList.add(on);
  }
}

class LegRow {
  constructor(name) {
    this.name = name;
    this.state = h("td", { class: "leg-state" });
    this.age = h("td", { class: "number" });
    this.bid = h("td", { class: "number bid" });
    this.ask = h("td", { class: "number ask" });
    const swatch = h("i", { class: `swatch leg-${colour(name)}`, "aria-hidden": "true" });
    this.element = h("tr", {}, h("th", { scope: "row" }, swatch, name), this.state, this.age, this.bid, this.ask);
  }
}

export class Card {
  #rows = { asks: [], bids: [] };
  #count = 0;
  #legs = new Map();
  #heard = new Map();
  #why = null;
  #spark = new Spark();
  #live = null;
  #letters = { price: 0, size: 0 };

  constructor(book) {
    this.book = book;
    this.visible = true;
    const id = `book-${book.id.replaceAll(".", "-")}`;
    this.title = h("h2", { id }, this.name);
    this.pill = h("span", { class: "pill" });
    this.cross = h("span", { class: "pill crossed-pill" }, "crossed");
    this.cross.hidden = true;
    this.note = h("p", { class: "note" });
    this.seq = h("span", { class: "seq" });
    this.bid = h("strong");
    this.bidSize = h("span");
    this.ask = h("strong");
    this.askSize = h("span");
    this.between = h("td", { colspan: "3" });
    this.asks = h("tbody", { class: "asks" });
    this.bids = h("tbody", { class: "bids" });
    this.legs = h("tbody");
    this.veil = h("p", { class: "veil" });
    const head = (text, kind = "") => h("th", { scope: "col", class: kind }, text);
    this.element = h(
      "article",
      { class: "card", "aria-labelledby": id, "data-book": book.id },
      h("header", {}, h("div", {}, this.title, h("div", { class: "pills" }, this.pill, this.cross, this.seq)), this.#spark.element),
      h(
        "div",
        { class: "best" },
        h("div", { class: "bid" }, h("span", { class: "word" }, "Bid"), this.bid, this.bidSize),
        h("div", { class: "ask" }, h("span", { class: "word" }, "Ask"), this.ask, this.askSize),
      ),
      this.note,
      h(
        "div",
        { class: "ladder", tabindex: "0", role: "group", "aria-labelledby": id },
        h(
          "table",
          {},
          h("caption", { class: "unseen" }, "Price levels: asks above, bids below, best in the middle"),
          h("thead", {}, h("tr", {}, head("Price", "price"), head("Size by leg"), head("Size", "number"))),
          this.asks,
          h("tbody", {}, h("tr", { class: "between" }, this.between)),
          this.bids,
        ),
        this.veil,
      ),
      h(
        "table",
        { class: "legs" },
        h("caption", { class: "unseen" }, "Legs: state, time since the last change, best bid and ask"),
        h("thead", {}, h("tr", {}, head("Leg"), head("State"), head("Age", "number"), head("Bid", "number"), head("Ask", "number"))),
        this.legs,
      ),
    );
  }

  /** Its label; without one its id within the event. */
  get name() {
    return this.book.label ?? this.book.id.slice(this.book.id.indexOf(".") + 1);
  }

  /** What an event says about the legs' age and about why. */
  hear(event) {
    const now = performance.now();
    const { message } = event;
    if (event.type === "delta") {
      if (message.cause !== undefined) this.#heard.set(message.cause, now);
      return;
    }
    if (event.type === "lost") {
      this.#why = WORDS[event.why] ?? event.why;
      return;
    }
    this.#why = event.type === "status" ? message.why : null;
    for (const [leg, { age_ms: ms }] of Object.entries(this.book.legs)) {
      if (Number.isFinite(ms)) this.#heard.set(leg, now - ms);
    }
  }

  /** How many levels a side. */
  setRows(count) {
    this.#count = count;
    for (const side of ["asks", "bids"]) {
      this.#rows[side] = [];
      this[side].replaceChildren();
    }
  }

  #row(side, at) {
    const rows = this.#rows[side];
    while (rows.length <= at) {
      const row = new Row(side === "asks" ? "ask" : "bid");
      rows.push(row);
      if (side === "asks") this.asks.prepend(row.element);
      else this.bids.append(row.element);
    }
    return rows[at];
  }

  get #state() {
    return this.book.exact ? this.book.state : "unproven";
  }

  /** Must it be drawn now? Out of sight only its state counts: what stops being live never stays there as live. */
  get urgent() {
    return this.visible || this.element.dataset.state !== this.#state;
  }

  draw() {
    const { book } = this;
    const live = book.exact;
    write(this.title, this.name);
    this.element.title = book.id;
    const shown = this.#state;
    if (this.element.dataset.state !== shown) this.element.dataset.state = shown;
    write(this.pill, live ? book.state : "not exact");
    this.cross.hidden = !book.crossed;
    write(this.seq, `seq ${book.seq}`);
    const [bid, ask] = [book.bestBid, book.bestAsk];
    write(this.bid, bid?.price ?? "–");
    write(this.bidSize, bid === null ? "" : grouped(bid.size));
    write(this.ask, ask?.price ?? "–");
    write(this.askSize, ask === null ? "" : grouped(ask.size));
    write(this.between, this.#between(bid, ask));
    this.#ladder(bid, ask);
    this.#drawLegs();
    this.#explain(live);
    if (live !== this.#live) {
      this.#live = live;
      this.element.setAttribute("aria-busy", String(!live));
    }
  }

  #between(bid, ask) {
    if (bid === null || ask === null) return bid === ask ? "" : "one side only";
    const mid = middle(bid.priceMicros + ask.priceMicros);
    const apart = ask.priceMicros - bid.priceMicros;
    if (apart < 0) return `crossed by ${formatMicros(-apart)} · mid ${mid}`;
    return `spread ${formatMicros(apart)} · mid ${mid}`;
  }

  #ladder(bid, ask) {
    const bids = this.book.bids(this.#count);
    const asks = this.book.asks(this.#count);
    let most = 0;
    for (const level of bids) most = Math.max(most, Number(level.size));
    for (const level of asks) most = Math.max(most, Number(level.size));
    // Steps of a quarter: bars keep their width while the greatest size only jitters.
    const scale = most === 0 ? 1 : 1.25 ** Math.ceil(Math.log(most) / Math.log(1.25));
    const legs = Object.keys(this.book.legs);
    this.#widen(bids, asks);
    this.#side("asks", asks, scale, legs, (price) => bid !== null && price < bid.priceMicros);
    this.#side("bids", bids, scale, legs, (price) => ask !== null && price > ask.priceMicros);
  }

  /** Columns as wide as the longest number so far: they never shrink, so that nothing moves to and fro. */
  #widen(...sides) {
    for (const levels of sides) {
      for (const { price, size } of levels) {
        if (price.length > this.#letters.price) this.#letter("price", price.length);
        // With the commas between the thousands.
        const long = size.length * 1.34 > this.#letters.size ? grouped(size).length : 0;
        if (long > this.#letters.size) this.#letter("size", long);
      }
    }
  }

  #letter(column, count) {
    this.#letters[column] = count;
    this.element.style.setProperty(`--${column}-letters`, String(count));
  }

  #side(side, levels, scale, legs, crosses) {
    // Few levels leave their rows empty, so that the middle stays where it is; many rows are only made when used.
    const count = this.#count > 30 ? levels.length : this.#count;
    for (let at = 0; at < count; at += 1) {
      const level = at < levels.length ? levels[at] : null;
      const row = this.#row(side, at);
      row.element.hidden = false;
      row.show(level, scale, level !== null && crosses(level.priceMicros), legs);
    }
    for (let at = count; at < this.#rows[side].length; at += 1) this.#rows[side][at].element.hidden = true;
  }

  #drawLegs() {
    const { book } = this;
    for (const name of this.#legs.keys()) {
      if (Object.hasOwn(book.legs, name)) continue;
      this.#legs.get(name).element.remove();
      this.#legs.delete(name);
    }
    for (const [name, leg] of Object.entries(book.legs)) {
      let row = this.#legs.get(name);
      if (row === undefined) {
        row = new LegRow(name);
        this.#legs.set(name, row);
        this.legs.append(row.element);
      }
      const state = book.exact ? leg.state : "unknown";
      if (row.element.dataset.state !== state) {
        row.element.dataset.state = state;
        write(row.state, state);
      }
      const { bid, ask } = book.bestOf(name);
      write(row.bid, bid?.price ?? "–");
      write(row.ask, ask?.price ?? "–");
      row.bid.title = bid === null ? "" : `${name}: ${bid.legs[name]}`;
      row.ask.title = ask === null ? "" : `${name}: ${ask.legs[name]}`;
    }
  }

  #explain(live) {
    const { book } = this;
    const silent = Object.entries(book.legs).filter(([, { state }]) => state !== "live");
    if (!live) {
      write(this.note, "");
      write(this.veil, `Not live: ${this.#why ?? "waiting for a snapshot"}`);
    } else if (book.state === "live") {
      write(this.note, "");
      write(this.veil, "");
    } else if (book.state === "closed") {
      write(this.note, "");
      write(this.veil, book.result === null ? "Closed" : `Closed: ${book.result}`);
    } else {
      const legs = silent.map(([name, { state }]) => `${name} ${state}`).join(", ");
      const why = this.#why === null ? "" : ` (${this.#why.replaceAll("_", " ")})`;
      write(this.note, `${legs || "no leg"}${why}`);
      write(this.veil, book.state === "down" ? "No live leg" : "");
    }
  }

  /** Four times a second: the legs' age, and a sample of the mid. */
  tick(now) {
    const { bestBid: bid, bestAsk: ask } = this.book;
    this.#spark.add(bid === null || ask === null ? null : bid.priceMicros + ask.priceMicros);
    if (!this.visible) return;
    this.#spark.draw();
    for (const [name, row] of this.#legs) {
      const heard = this.#heard.get(name);
      write(row.age, heard === undefined ? "–" : age(now - heard));
    }
  }
}


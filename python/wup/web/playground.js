// A plain WebSocket of its own: what is typed is sent, what comes is shown as it came.
import { by, h, write } from "./dom.js";

const KEEP = 200;
const PER_FRAME = 40;
const LONGEST = 4_000;

const PRESETS = [
  ["Subscribe to this event", (event) => ({ op: "subscribe", id: "1", books: [`${event}.>`] })],
  ["The five best levels, four times a second", (event) => ({ op: "subscribe", id: "2", books: [`${event}.>`], depth: 5, every_ms: 250 })],
  ["NO views, with trades", (event) => ({ op: "subscribe", id: "3", books: [`${event}.*.no`], depth: 1, trades: true })],
  ["Unsubscribe", (event) => ({ op: "unsubscribe", id: "4", books: [`${event}.>`] })],
  ["List the books", () => ({ op: "list", id: "5", match: ">", after: null })],
  ["Ping", () => ({ op: "ping", id: "6" })],
  ["A pattern that is none", () => ({ op: "subscribe", id: "7", books: ["a..b"] })],
];

export class Playground {
  #url;
  #token = null;
  #event;
  #ws = null;
  #waiting = [];
  #frame = null;
  #count = 0;
  #unsent = null;

  /** `event` gives the id of the event that is chosen; `token` the token, if one was asked for. */
  constructor(url, { event, token }) {
    this.#url = url;
    this.#event = event;
    this.#token = token;
    const preset = by("play-preset");
    PRESETS.forEach(([name], at) => preset.append(h("option", { value: String(at) }, name)));
    preset.addEventListener("change", () => this.preset());
    by("play-form").addEventListener("submit", (submit) => {
      submit.preventDefault();
      this.#send();
    });
    by("play-message").addEventListener("keydown", (key) => {
      if (key.key === "Enter" && (key.ctrlKey || key.metaKey)) {
        key.preventDefault();
        this.#send();
      }
    });
    by("play-message").addEventListener("input", () => this.#code());
    by("play-link").addEventListener("click", () => (this.#ws === null ? this.#open() : this.#ws.close(1000)));
    by("log-clear").addEventListener("click", () => {
      by("log").replaceChildren();
      this.#waiting = [];
    });
    by("log-pause").addEventListener("change", () => this.#later());
  }

  /** Writes the chosen example into the editor. */
  preset() {
    const [, make] = PRESETS[Number(by("play-preset").value)];
    by("play-message").value = JSON.stringify(make(this.#event() ?? "fed-2026-12"), null, 2);
    write(by("play-fault"), "");
    this.#code();
  }

  #open() {
    const ws = new WebSocket(this.#url, "wup.v1");
    this.#ws = ws;
    this.#state("Connecting");
    ws.addEventListener("open", () => {
      if (ws !== this.#ws) return;
      this.#state("Connected");
      const token = this.#token();
      if (token !== null) {
        ws.send(JSON.stringify({ op: "auth", id: "auth", token }));
        this.#note("out", '{"op":"auth","id":"auth","token":"(yours)"}');
      }
      if (this.#unsent !== null) this.#out(this.#unsent);
      this.#unsent = null;
    });
    ws.addEventListener("message", ({ data }) => ws === this.#ws && this.#note("in", data));
    ws.addEventListener("close", ({ code, reason }) => {
      if (ws !== this.#ws) return;
      this.#ws = null;
      this.#unsent = null;
      this.#note("end", `closed ${code}${reason ? ` ${reason}` : ""}`);
      this.#state("Not connected");
    });
  }

  #state(text) {
    write(by("play-state"), text);
    write(by("play-link"), this.#ws === null ? "Connect" : "Disconnect");
  }

  #send() {
    const text = by("play-message").value;
    try {
      const message = JSON.stringify(JSON.parse(text));
      write(by("play-fault"), "");
      if (this.#ws?.readyState === 1) {
        this.#out(message);
      } else {
        this.#unsent = message;
        // One that is closing takes nothing any more.
        if (this.#ws === null || this.#ws.readyState > 1) this.#open();
      }
    } catch (error) {
      write(by("play-fault"), `This is not JSON: ${error.message}`);
    }
  }

  #out(message) {
    this.#ws.send(message);
    this.#note("out", message);
  }

  #note(way, text) {
    this.#count += 1;
    this.#waiting.push({ way, text, at: new Date() });
    // What nobody could read anyway is not kept.
    if (this.#waiting.length > KEEP) this.#waiting.splice(0, this.#waiting.length - KEEP);
    this.#later();
  }

  #later() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      write(by("log-count"), `${this.#count.toLocaleString("en")} in all`);
      if (by("log-pause").checked) return;
      const log = by("log");
      for (const entry of this.#waiting.splice(0, PER_FRAME)) log.prepend(line(entry));
      while (log.children.length > KEEP) log.lastElementChild.remove();
      if (this.#waiting.length > 0) this.#later();
    });
  }

  #code() {
    let message = null;
    try {
      message = JSON.parse(by("play-message").value);
    } catch {
      // What is half typed has no code yet.
    }
    write(by("play-code"), message?.op === "subscribe" ? snippet(message) : "Choose an example that subscribes.");
  }
}

function line({ way, text, at }) {
  const type = /^\{"type":"([a-z_]+)"/.exec(text)?.[1] ?? (way === "out" ? "sent" : way);
  const time = `${at.toLocaleTimeString("en-GB")}.${String(at.getMilliseconds()).padStart(3, "0")}`;
  const shown = text.length > LONGEST ? `${text.slice(0, LONGEST)} … ${text.length.toLocaleString("en")} characters` : text;
  const full = h("pre");
  const entry = h(
    "details",
    {},
    h(
      "summary",
      {},
      h("span", { class: "log-way", "aria-label": { in: "received", out: "sent", end: "closed" }[way] }, { in: "↓", out: "↑", end: "×" }[way]),
      h("span", { class: "log-time" }, time),
      h("span", { class: `tag tag-${type}` }, type),
      h("code", {}, shown),
    ),
    full,
  );
  entry.addEventListener("toggle", () => {
    try {
      write(full, JSON.stringify(JSON.parse(text), null, 2));
    } catch {
      write(full, text);
    }
  });
  return h("li", { class: way }, entry);
}

function snippet({ books, depth, every_ms: everyMs, trades }) {
  const list = JSON.stringify(books);
  const script = Object.entries({ depth, everyMs, trades }).filter(([, value]) => value !== undefined);
  const python = Object.entries({ depth, every_ms: everyMs, trades: trades === true ? "True" : undefined });
  const names = (books ?? []).map((book) => JSON.stringify(book)).join(", ");
  const more = python.filter(([, value]) => value !== undefined).map(([name, value]) => `, ${name}=${value}`).join("");
  const options = script.length === 0 ? "" : `, { ${script.map(([name, value]) => `${name}: ${value}`).join(", ")} }`;
  return `// JavaScript: wup.js
const feed = await connect("${location.origin.replace(/^http/, "ws")}/ws");
for await (const event of feed.subscribe(${list}${options})) {
  if (event.book?.exact) console.log(event.book.id, event.book.bestBid, event.book.bestAsk);
}

# Python: wup.client
async with connect("${location.origin.replace(/^http/, "ws")}/ws") as feed:
    async for event in feed.subscribe(${names}${more}):
        if event.book is not None and event.book.exact:
            print(event.book.id, event.book.best_bid, event.book.best_ask)`;
}

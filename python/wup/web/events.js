// The list of events at the side: found by asking the gateway, filtered by what is typed, chosen by link.
import { by, h, write } from "./dom.js";

const OFTEN_MS = 1_000;
const SELDOM_MS = 5_000;
const SOON_MS = 400;

/** Groups books into events. */
export function grouped(books) {
  const events = new Map();
  for (const { book, title, label, state } of books) {
    const id = book.slice(0, book.indexOf("."));
    const event = events.get(id) ?? { id, title: title ?? id, labels: [], live: 0, count: 0 };
    event.count += 1;
    if (state === "live") event.live += 1;
    event.labels.push(label ?? "");
    events.set(id, event);
  }
  return [...events.values()].sort((a, b) => a.title.localeCompare(b.title, undefined, { numeric: true }));
}

export class Events {
  #feed;
  #items = new Map();
  #chosen = null;
  #timer = null;
  #onList;
  #onRefused;

  constructor({ onList, onRefused }) {
    this.#onList = onList;
    this.#onRefused = onRefused;
    by("search").addEventListener("input", () => this.#filter());
    by("side-open").addEventListener("click", () => this.open(!this.isOpen));
    by("events").addEventListener("keydown", (event) => this.#arrow(event));
    by("search").addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown") this.#links()[0]?.focus();
      if (event.key === "Enter") this.#links()[0]?.click();
    });
  }

  /** Asks this feed from now on, whenever it is connected. */
  follow(feed) {
    this.#feed = feed;
    feed.addEventListener("connected", () => feed === this.#feed && this.#ask());
    feed.addEventListener("disconnected", () => feed === this.#feed && this.#forget());
  }

  /** Something changed: ask again soon. */
  soon() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), SOON_MS);
  }

  /** Without a connection nobody knows what is live. */
  #forget() {
    clearTimeout(this.#timer);
    for (const { link, count } of this.#items.values()) {
      link.dataset.state = "unknown";
      write(count, "not known");
    }
  }

  get isOpen() {
    return by("side").classList.contains("open");
  }

  /** On a phone the list is folded away. */
  open(wanted) {
    by("side").classList.toggle("open", wanted);
    by("side-open").setAttribute("aria-expanded", String(wanted));
  }

  choose(id) {
    this.#chosen = id;
    for (const [own, { link }] of this.#items) {
      if (own === id) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    write(by("side-current"), this.#items.get(id)?.title ?? id ?? "Choose an event");
  }

  async #ask() {
    clearTimeout(this.#timer);
    const feed = this.#feed;
    if (!feed.connected) return;
    let wait = SELDOM_MS;
    try {
      const events = grouped(await feed.listBooks(">"));
      if (feed !== this.#feed) return;
      if (events.length === 0) wait = OFTEN_MS;
      this.#draw(events);
      this.#onList(events);
    } catch (error) {
      if (feed !== this.#feed) return;
      if (error.code === "unauthorized" || error.code === "forbidden") {
        this.#onRefused(error);
        return;
      }
      wait = OFTEN_MS;
    }
    clearTimeout(this.#timer);
    if (feed === this.#feed && feed.connected) this.#timer = setTimeout(() => this.#ask(), wait);
  }

  #draw(events) {
    const list = by("events");
    const wanted = new Set(events.map(({ id }) => id));
    for (const [id, { element }] of this.#items) {
      if (wanted.has(id)) continue;
      element.remove();
      this.#items.delete(id);
    }
    for (const [at, event] of events.entries()) {
      let item = this.#items.get(event.id);
      if (item === undefined) {
        const title = h("span", { class: "event-title" });
        const count = h("span", { class: "event-count" });
        const link = h("a", { href: `#/e/${event.id}` }, title, count);
        item = { element: h("li", {}, link), link, text: title, count };
        this.#items.set(event.id, item);
      }
      item.title = event.title;
      item.words = `${event.title} ${event.id} ${event.labels.join(" ")}`.toLowerCase();
      write(item.text, event.title);
      write(item.count, event.live === event.count ? `${event.count} live` : `${event.live} of ${event.count} live`);
      item.link.dataset.state = event.live === event.count ? "live" : event.live > 0 ? "degraded" : "down";
      if (list.children[at] !== item.element) list.insertBefore(item.element, list.children[at] ?? null);
    }
    this.#filter();
    this.choose(this.#chosen);
  }

  #filter() {
    const words = by("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { element, words: own } of this.#items.values()) {
      element.hidden = !words.every((word) => own.includes(word));
      if (!element.hidden) shown += 1;
    }
    const none = this.#items.size === 0 ? "No books yet: the gateway has none." : "No event matches.";
    write(by("events-hint"), shown === 0 ? none : "");
  }

  #links() {
    return [...by("events").querySelectorAll("li:not([hidden]) a")];
  }

  #arrow(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    const links = this.#links();
    const at = links.indexOf(document.activeElement) + step;
    if (at < 0) by("search").focus();
    else links[Math.min(at, links.length - 1)].focus();
  }
}

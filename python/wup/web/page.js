// The page: one feed, the event that is chosen, its books as cards.
import { age, by, clock, grouped, h, write } from "./dom.js";
import { Events } from "./events.js";
import { Card, colour } from "./ladder.js";
import { Meter } from "./meter.js";
import { Playground } from "./playground.js";
import { Feed, FeedError, Refused } from "./wup.js";

const TICK_MS = 250;
const SILENT_MS = 2_500;
const TRADES = 60;

const address = new URL("ws", document.baseURI);
address.protocol = address.protocol.replace("http", "ws");
address.hash = "";

let token = null;
let feed = null;
let meter = null;
let subscription = null;
let chosen = null;
let first = null;
let lostAt = null;
let tokenWhy = null;
let fatal = null;
const titles = new Map();
const cards = new Map();
const dirty = new Set();
let trades = [];
let frame = null;

// --- drawing, at most once per frame --------------------------------------------------------------------

function later() {
  frame ??= requestAnimationFrame(draw);
}

function draw() {
  frame = null;
  for (const card of dirty) {
    if (!card.urgent) continue;
    dirty.delete(card);
    card.draw();
  }
  drawTrades();
}

const sight = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      const card = cards.get(target.dataset.book);
      if (card !== undefined) card.visible = isIntersecting;
    }
    later();
  },
  { rootMargin: "300px" },
);

function drawTrades() {
  if (trades.length === 0) return;
  const rows = trades.splice(0).slice(-TRADES).reverse().map(({ book, message }) => {
    const { ts, platform, side, price, size } = message;
    return h(
      "tr",
      { class: side === "buy" ? "buy" : "sell" },
      h("td", {}, clock(ts?.venue ?? ts?.recv ?? 0)),
      h("td", {}, book?.label ?? message.book.slice(message.book.indexOf(".") + 1)),
      h("td", { title: platform }, h("i", { class: `swatch leg-${colour(platform)}` }), h("span", { class: "unseen" }, platform), ` ${side}`),
      h("td", { class: "number price" }, price),
      h("td", { class: "number" }, grouped(size)),
    );
  });
  const body = by("trades");
  body.prepend(...rows);
  while (body.children.length > TRADES) body.lastElementChild.remove();
  by("trades-box").hidden = false;
}

// --- the chosen event -----------------------------------------------------------------------------------

const view = () => document.querySelector('input[name="view"]:checked').value;

function show(event) {
  chosen = event;
  events.choose(event);
  subscription?.close();
  subscription = null;
  for (const { element } of cards.values()) sight.unobserve(element);
  cards.clear();
  dirty.clear();
  trades = [];
  by("books").replaceChildren(by("trades-box"));
  by("trades").replaceChildren();
  by("trades-box").hidden = true;
  name();
  if (event === null || !/^[A-Za-z0-9_-]{1,64}$/.test(event)) return;
  const pattern = view() === "no" ? `${event}.*.no` : `${event}.>`;
  const own = feed.subscribe(pattern, { trades: true, onEvent: (happened) => own === subscription && take(happened) });
  subscription = own;
  own.done.catch((error) => {
    if (error instanceof Refused && own === subscription) refused(error);
  });
}

function name() {
  const title = titles.get(chosen) ?? chosen ?? "Events";
  write(by("event-title"), title);
  document.title = chosen === null ? "WUP" : `${title} · WUP`;
  const known = chosen === null || titles.has(chosen) || titles.size === 0;
  const waiting = cards.size === 0 ? "Waiting for the first book." : `${cards.size} ${cards.size === 1 ? "book" : "books"} · ${chosen}`;
  write(by("event-note"), chosen === null ? "" : known ? waiting : `There is no event ${chosen} here.`);
}

/** With nothing to show, why, instead of controls for nothing. */
function empty() {
  const nothing = chosen === null && feed.connected;
  write(by("empty"), nothing ? "No event yet. As soon as the gateway has a book it is shown here, without a reload." : "");
  by("view-choice").parentElement.hidden = chosen === null;
}

function take(event) {
  const { type, book } = event;
  if (type === "trade") {
    trades.push(event);
    if (trades.length > 4 * TRADES) trades.splice(0, trades.length - TRADES);
    meter.see(event.message);
    later();
    return;
  }
  if (book === null) return;
  let card = cards.get(book.id);
  if (type === "removed") {
    if (card !== undefined) remove(card);
    events.soon();
    return;
  }
  if (card === undefined) {
    card = new Card(book);
    card.setRows(Number(by("rows").value));
    cards.set(book.id, card);
    place(card);
  }
  card.hear(event);
  if (type === "delta") meter.see(event.message);
  if (type === "status") events.soon();
  dirty.add(card);
  later();
}

/** The gateway serves this book no more. */
function remove(card) {
  sight.unobserve(card.element);
  card.element.remove();
  cards.delete(card.book.id);
  dirty.delete(card);
  name();
  legend();
}

/** In the order of the labels, numbers as numbers. */
function place(card) {
  const label = (own) => own.name;
  const others = [...cards.values()].filter((other) => other !== card);
  const after = others
    .filter((other) => label(other).localeCompare(label(card), undefined, { numeric: true }) > 0)
    .sort((a, b) => label(a).localeCompare(label(b), undefined, { numeric: true }))[0];
  by("books").insertBefore(card.element, after?.element ?? by("trades-box"));
  sight.observe(card.element);
  name();
  legend();
}

function legend() {
  const legs = new Set([...cards.values()].flatMap(({ book }) => Object.keys(book.legs)));
  const known = [...legs].sort().map((leg) => h("span", {}, h("i", { class: `swatch leg-${colour(leg)}`, "aria-hidden": "true" }), leg));
  const note = h("span", { class: "legend-note" }, "Bars grow with the square root of the size");
  by("legend").replaceChildren(...known, note);
}

const events = new Events({
  onRefused: refused,
  onList(found) {
    for (const { id, title } of found) titles.set(id, title);
    if (first === null && found.length > 0) {
      first = found[0].id;
      route();
    }
    name();
  },
});

// --- the connection -------------------------------------------------------------------------------------

function connect() {
  const own = new Feed(address.href, { token: token ?? undefined });
  feed = own;
  fatal = null;
  meter = new Meter(own);
  // A feed that was given up may still have something to say: it is not ours any more.
  const hear = (type, listener) => own.addEventListener(type, (event) => own === feed && listener(event));
  hear("connected", () => {
    lostAt = null;
    link();
  });
  hear("disconnected", () => {
    lostAt = performance.now();
    redraw();
    link();
  });
  hear("failed", ({ error }) => refused(error));
  events.follow(own);
  subscription = null;
  route();
  link();
}

function redraw() {
  for (const card of cards.values()) dirty.add(card);
  later();
}

/** What is known of the connection, at once and everywhere it matters: nothing old may look live. */
function link() {
  const silent = feed.connected && feed.silentMs > SILENT_MS;
  const state =
    tokenWhy !== null ? "refused"
    : fatal !== null ? "failed"
    : feed.connected ? (silent ? "silent" : "live")
    : lostAt === null ? "connecting"
    : "lost";
  const text = {
    refused: "Token needed",
    failed: "Disconnected",
    silent: "Silent",
    live: "Live",
    connecting: "Connecting",
    lost: "Connection lost",
  }[state];
  document.body.dataset.link = state;
  by("link").dataset.state = state;
  write(by("link-text"), text);
  const told = {
    silent: "The gateway is silent: what is below may be old.",
    lost: "Connection lost: nothing below is live. Trying again.",
    failed: `The gateway ended this connection (${fatal}): nothing below is live. Trying again by itself would not help.`,
  }[state] ?? "";
  by("alarm").hidden = told === "";
  write(by("alarm-text"), told);
  by("alarm-again").hidden = state !== "failed";
  const since = state === "lost" ? age(performance.now() - lostAt) : state === "silent" ? age(feed.silentMs) : "";
  empty();
  by("link").title = since === "" ? "" : `for ${since}`;
}

function refused(error) {
  if (tokenWhy !== null) return;
  const wantsToken = error.code === "unauthorized" || error.code === "forbidden" || /^closed 440[13]/.test(error.message);
  if (!wantsToken) {
    if (error instanceof Refused) {
      write(by("event-note"), error.message);
    } else {
      fatal = error instanceof FeedError ? error.message : String(error);
      link();
    }
    return;
  }
  tokenWhy = error.message;
  feed.close();
  link();
  write(by("token-why"), token === null ? "It is kept by this page only, until you leave it." : `Refused: ${error.message}`);
  by("token").value = "";
  by("token-dialog").showModal();
}

by("alarm-again").addEventListener("click", () => {
  lostAt = null;
  connect();
});
by("token-form").addEventListener("submit", (submit) => {
  submit.preventDefault();
  token = by("token").value;
  tokenWhy = null;
  lostAt = null;
  by("token-dialog").close();
  connect();
});
by("token-dialog").addEventListener("cancel", (cancel) => cancel.preventDefault());

// --- what is looked at ----------------------------------------------------------------------------------

const playground = new Playground(address.href, { event: () => chosen, token: () => token });

function route() {
  const path = location.hash.replace(/^#\/?/, "");
  const playing = path === "playground";
  by("books-view").hidden = playing;
  by("playground-view").hidden = !playing;
  for (const [id, on] of [["tab-books", !playing], ["tab-playground", playing]]) {
    if (on) by(id).setAttribute("aria-current", "page");
    else by(id).removeAttribute("aria-current");
  }
  const wanted = path.startsWith("e/") ? path.slice(2) : (chosen ?? first);
  if (wanted !== chosen || (wanted !== null && subscription === null)) show(wanted);
  if (chosen !== null) by("tab-books").href = `#/e/${chosen}`;
  if (playing && by("play-message").value === "") playground.preset();
  events.open(false);
}

window.addEventListener("hashchange", route);
by("view-choice").addEventListener("change", () => show(chosen));
by("rows").addEventListener("change", () => {
  for (const card of cards.values()) card.setRows(Number(by("rows").value));
  redraw();
});
document.addEventListener("keydown", (key) => {
  if (key.key !== "/" || key.ctrlKey || key.metaKey || /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) return;
  key.preventDefault();
  events.open(true);
  by("search").focus();
});

const THEMES = ["as the system", "light", "dark"];
by("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const next = THEMES[(THEMES.indexOf(root.dataset.theme ?? THEMES[0]) + 1) % THEMES.length];
  root.dataset.theme = next;
  by("theme").setAttribute("aria-label", `Colours: ${next}`);
});

connect();
setInterval(() => {
  const now = performance.now();
  for (const card of cards.values()) card.tick(now);
  link();
}, TICK_MS);
setInterval(() => meter.draw(), 1_000);

/** Types of `wup.js`; words and rules are those of the wire contract. */

/** Millionths in one. */
export const SCALE: 1000000;

/** Exact decimal text: no sign, no exponent, no needless zero, at most six decimals. */
export type Decimal = string;
export type BookState = "live" | "degraded" | "down" | "closed";
export type LegState = "syncing" | "live" | "resync" | "down" | "halted" | "closed";
export type Verdict = "exact" | "gap" | "broken" | "ignored";
export type Depth = 1 | 5 | 10 | 20 | 50;
export type EveryMs = 50 | 100 | 250 | 500 | 1000;

/**
 * Exact decimal text as millionths.
 * @throws {RangeError} for text that is no such number, has more than six decimals or passes 64 bits.
 */
export function parseMicros(text: Decimal): bigint;
/** Millionths, not negative, as shortest decimal text. */
export function formatMicros(micros: bigint | number): Decimal;
/** The price of the opposite outcome, 1 - p. */
export function complement(price: Decimal): Decimal;
/** FNV-1a, 32 bit, over a leg's name. */
export function salt(leg: string): number;
/** The hash of one cell of a book, in YES coordinates; 0 for size "0". */
export function cellHash(leg: string, side: "bid" | "ask", price: Decimal, size: Decimal): number;
/** Is this a pattern over book ids? */
export function isPattern(pattern: string): boolean;
/** Does `pattern` (not an asset) match a book id? Wildcards never match the token `no`. */
export function matches(pattern: string, book: string): boolean;

/** One price with its size, in total and per leg. Never changed: a change makes a new one. */
export class Level {
  private constructor();
  /** In millionths, between 0 and 1,000,000. */
  readonly priceMicros: number;
  readonly price: Decimal;
  /** In contracts, all legs together. */
  readonly size: Decimal;
  /** Size per leg; the parts add up to `size` exactly. */
  readonly legs: Readonly<Record<string, Decimal>>;
  /** `size` in millionths. */
  get sizeMicros(): bigint;
}

/** A leg of a book as the server last described it. */
export interface Leg {
  readonly platform: string;
  readonly asset: string;
  readonly inverted: boolean;
  readonly state: LegState;
  /** Milliseconds since the leg's last message, when the description was made. */
  readonly age_ms?: number;
  readonly tick?: Decimal;
  readonly min_size?: Decimal;
}

/** A message of the gateway, parsed. Fields that are not listed here may come and are to be ignored. */
export interface Message {
  readonly type: string;
  readonly book?: string;
  readonly why?: string;
  readonly cause?: string;
  /** Microseconds since 1970 UTC. */
  readonly ts?: Readonly<{ venue?: number; recv?: number; norm?: number; book?: number }>;
  readonly [field: string]: unknown;
}

/** A verifying copy of one stream's book. */
export class LiveBook {
  constructor(id?: string, depth?: Depth | null, everyMs?: EveryMs | null);
  readonly id: string;
  readonly depth: Depth | null;
  readonly everyMs: EveryMs | null;
  readonly title: string | null;
  readonly label: string | null;
  readonly mapping: number | null;
  readonly result: string | null;
  /** Legs by name, as last described. */
  readonly legs: Readonly<Record<string, Leg>>;
  readonly epoch: number;
  readonly seq: number;
  readonly digest: number;
  /** Is the copy proven equal to the server's at (`epoch`, `seq`)? */
  readonly exact: boolean;
  /** `down` while not exact. */
  get state(): BookState;
  /** Is the best bid above the best ask? */
  get crossed(): boolean;
  /** Null when there is none or the book is not exact. */
  get bestBid(): Level | null;
  /** Null when there is none or the book is not exact. */
  get bestAsk(): Level | null;
  /** The best levels at which one leg shows size; null when there is none or the book is not exact. */
  bestOf(leg: string): { bid: Level | null; ask: Level | null };
  /** As last known, best first, at most `count`. Worth something only while `exact`. */
  bids(count?: number): Level[];
  /** As last known, best first, at most `count`. Worth something only while `exact`. */
  asks(count?: number): Level[];
  /** What is held, in the form of a snapshot message. */
  snapshot(why?: string): Message;
  /** Something outside the stream is in doubt: not exact until the next snapshot. */
  doubt(): void;
  /**
   * Applies one parsed message (a feed does that by itself). After `gap` and `broken` the copy is not exact:
   * ask for a resync. `ignored`: a repeat, older, another book or kind, a status by the gateway, or nothing can
   * be checked before the next snapshot.
   */
  apply(message: unknown): Verdict;
}

/** What happened to a book: it is exact now. */
export interface BookEvent {
  readonly type: "snapshot" | "delta" | "status";
  readonly book: LiveBook;
  readonly message: Message;
  readonly why: null;
  readonly count: 0;
}
/** A trade in a book, in the coordinates of its stream. */
export interface TradeEvent {
  readonly type: "trade";
  /** Null while the book has not come. */
  readonly book: LiveBook | null;
  readonly message: Message;
  readonly why: null;
  readonly count: 0;
}
/** The book is not exact until its next snapshot; `why`: `gap`, `broken`, `gateway` or `disconnected`. */
export interface LostEvent {
  readonly type: "lost";
  readonly book: LiveBook;
  readonly message: Message | null;
  readonly why: string;
  readonly count: 0;
}
/**
 * The gateway serves this book no more (or no pattern asks for it any more): it is not exact, not among the feed's
 * books, and would come back with a `snapshot`. (Exact all the same while another subscription reads it.) `why`: `unmapped`, `mapping`, `closed` or `unknown_book`.
 */
export interface RemovedEvent {
  readonly type: "removed";
  readonly book: LiveBook;
  readonly message: Message | null;
  readonly why: string;
  readonly count: 0;
}
/** About the connection, or (`dropped`) this program read too slowly and `count` events were left out. */
export interface FeedEvent {
  readonly type: "connected" | "disconnected" | "notice" | "dropped";
  readonly book: null;
  readonly message: Message | null;
  readonly why: string | null;
  readonly count: number;
}
export type AnyEvent = BookEvent | TradeEvent | LostEvent | RemovedEvent | FeedEvent;

export interface SubscribeOptions {
  /** Only the best n levels a side. */
  depth?: Depth;
  /** At most one delta per book in that time. */
  everyMs?: EveryMs;
  /** Trades too. */
  trades?: boolean;
  /** What the gateway does when this client reads too slowly: newest state only, or close 4490. */
  onSlow?: "conflate" | "disconnect";
  /** Events that wait for a slow reader before the oldest are dropped (65,536). */
  limit?: number;
  /** Called for each event as it happens; there is nothing to iterate over then. */
  onEvent?: (event: AnyEvent) => void;
}

/** One `subscribe` of a feed. */
export class Subscription implements AsyncIterableIterator<AnyEvent> {
  private constructor();
  readonly patterns: readonly string[];
  readonly depth: Depth | null;
  readonly everyMs: EveryMs | null;
  readonly trades: boolean;
  readonly onSlow: "conflate" | "disconnect";
  /** Resolves when the subscription ends; rejects with `Refused` or `FeedError`. */
  readonly done: Promise<void>;
  /** Rejects with `Refused` when the gateway refused the patterns, with `FeedError` when the feed failed. */
  next(): Promise<IteratorResult<AnyEvent, undefined>>;
  return(): Promise<IteratorResult<AnyEvent, undefined>>;
  [Symbol.asyncIterator](): this;
  /** Unsubscribe. Leaving a `for await` loop does it too. */
  close(): void;
}

/** The feed ended, and trying again would not help. */
export class FeedError extends Error {}

/** The gateway answered with an error; `code` is one of the contract's. */
export class Refused extends FeedError {
  private constructor();
  readonly code: string;
  /** Index of the first bad entry. */
  readonly at: number | null;
  /** May the same succeed later? */
  readonly retry: boolean;
}

/** What a feed has seen. `mismatches` are digests that did not agree: always 0, or something is wrong. */
export interface Stats {
  messages: number;
  mismatches: number;
  gaps: number;
  heartbeats: number;
  countMismatches: number;
  connects: number;
  /** Characters of all frames. */
  bytes: number;
}

/** The part of a WebSocket class that a feed uses. */
export type WebSocketClass = new (
  url: string,
  protocol: string,
) => {
  readonly readyState: number;
  addEventListener(type: string, listener: (event: any) => void): void;
  send(data: string): void;
  close(code?: number): void;
};

export interface ConnectOptions {
  /** Sent in the `auth` operation right after connecting. */
  token?: string;
  /** Where there is no global WebSocket (Node 20). */
  WebSocket?: WebSocketClass;
  /** Random source of the reconnect jitter, 0 to 1. */
  random?: () => number;
  /** Clock and timers; milliseconds. */
  timers?: {
    setTimeout(run: () => void, ms: number): unknown;
    clearTimeout(timer: any): void;
    now(): number;
  };
  /** Without any frame for this long the feed reconnects (5,000). */
  silentMs?: number;
  /** Without a connection after this long it is tried again (5,000). */
  openMs?: number;
  /** Without a first connection after this long `ready` rejects (10,000). */
  readyMs?: number;
}

/** A feed of the gateway at `url`, connected; rejects when it is refused or cannot be reached in ten seconds. */
export function connect(url?: string | URL, options?: ConnectOptions): Promise<Feed>;

/**
 * One connection, kept up, and the books on it. Starts at once and dispatches `connected`, `disconnected` (with
 * `why`) and `failed` (with `error`).
 */
export class Feed extends EventTarget {
  constructor(url?: string | URL, options?: ConnectOptions);
  readonly url: string;
  /** Books by stream; see `book`. */
  readonly books: ReadonlyMap<string, LiveBook>;
  readonly stats: Readonly<Stats>;
  /** Resolves at the first connection. */
  readonly ready: Promise<void>;
  addEventListener(
    type: "disconnected",
    listener: (event: Event & { readonly why: string }) => void,
    options?: AddEventListenerOptions | boolean,
  ): void;
  addEventListener(
    type: "failed",
    listener: (event: Event & { readonly error: FeedError }) => void,
    options?: AddEventListenerOptions | boolean,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject | null,
    options?: AddEventListenerOptions | boolean,
  ): void;
  get connected(): boolean;
  /** Milliseconds since the last frame of this connection; Infinity without one. */
  get silentMs(): number;
  /** The book of one stream, if it has come. */
  book(id: string, stream?: { depth?: Depth | null; everyMs?: EveryMs | null }): LiveBook | undefined;
  /**
   * Events of all books that match, from now on and after every reconnect. Subscriptions may overlap: each gets
   * the events of what it asked for, and first a `snapshot` of books that the feed holds already.
   */
  subscribe(patterns: string | Iterable<string>, options?: SubscribeOptions): Subscription;
  /** Stop one subscription; books that no other one reads are dropped. */
  unsubscribe(subscription: Subscription): void;
  /** The books that match, all pages. */
  listBooks(match?: string): Promise<Array<{ book: string; title?: string; label?: string; state: BookState }>>;
  /**
   * Sends an operation (without `id`), in order and never faster than the gateway allows; what is refused for
   * now (`retry`) is asked again. Resolves with its answer, rejects with `Refused`, or when disconnected.
   */
  request(operation: { op: string; [field: string]: unknown }): Promise<Message>;
  /** Disconnect and end all subscriptions. */
  close(): void;
}

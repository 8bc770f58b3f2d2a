// A world without sockets and without waiting: WebSockets that a test answers, and a clock that it turns.

/** Timers on a clock that moves only when told. */
export class Clock {
  #at = 0;
  #next = 0;
  #waiting = new Map();

  timers = {
    setTimeout: (run, ms) => {
      this.#next += 1;
      this.#waiting.set(this.#next, { run, due: this.#at + ms });
      return this.#next;
    },
    clearTimeout: (timer) => this.#waiting.delete(timer),
    now: () => this.#at,
  };

  /** Milliseconds until the next timer is due; null without one. */
  get next() {
    const dues = [...this.#waiting.values()].map(({ due }) => due);
    return dues.length === 0 ? null : Math.min(...dues) - this.#at;
  }

  /** Lets `ms` pass: timers run in order, and promises settle after each. */
  async pass(ms) {
    const end = this.#at + ms;
    await settle();
    for (;;) {
      let first = null;
      for (const [timer, { due }] of this.#waiting) {
        if (due <= end && (first === null || due < this.#waiting.get(first).due)) first = timer;
      }
      if (first === null) break;
      const { run, due } = this.#waiting.get(first);
      this.#waiting.delete(first);
      this.#at = Math.max(this.#at, due);
      run();
      await settle();
    }
    this.#at = end;
  }
}

/** Until all promises that can settle have settled. */
export const settle = () => new Promise((resolve) => setImmediate(resolve));

/** A class of WebSockets that note what is sent and say what a test tells them to. */
export function sockets() {
  const made = [];
  class FakeSocket extends EventTarget {
    readyState = 0;
    sent = [];
    closedWith = null;

    constructor(url, protocol) {
      super();
      this.url = url;
      this.protocol = protocol;
      made.push(this);
    }

    send(text) {
      this.sent.push(JSON.parse(text));
    }

    close(code) {
      this.readyState = 2;
      this.closedWith = code;
    }

    // --- what the server does ---

    open() {
      this.readyState = 1;
      this.dispatchEvent(new Event("open"));
      this.say({ type: "welcome", protocol: "wup.v1" });
    }

    say(message) {
      const data = typeof message === "string" ? message : JSON.stringify(message);
      this.dispatchEvent(Object.assign(new Event("message"), { data }));
    }

    /** Answers the last operation. */
    answer(more) {
      const { id, books } = this.sent.at(-1);
      this.say({ id, books, ...more });
    }

    end(code, reason = "") {
      this.readyState = 3;
      this.dispatchEvent(Object.assign(new Event("close"), { code, reason }));
    }
  }
  return { made, FakeSocket };
}

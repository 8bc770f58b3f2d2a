// The mid of the last two minutes as a line. Where the book was not proven, or had one side only, it has a hole.

const WIDTH = 132;
const HEIGHT = 36;
const PAD = 3;
const SAMPLES = 480;
const LEAST = 40;
const NS = "http://www.w3.org/2000/svg";

export class Spark {
  #values = [];
  #path;
  #dot;

  constructor() {
    this.element = document.createElementNS(NS, "svg");
    this.element.setAttribute("class", "spark");
    this.element.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.element.setAttribute("role", "img");
    this.#path = document.createElementNS(NS, "path");
    this.#dot = document.createElementNS(NS, "circle");
    this.#dot.setAttribute("r", "2.4");
    this.element.append(this.#path, this.#dot);
    this.#name("not known yet");
  }

  /** One sample, four a second: the mid in half millionths, or null. */
  add(value) {
    this.#values.push(value);
    if (this.#values.length > SAMPLES) this.#values.shift();
  }

  draw() {
    const known = this.#values.filter((value) => value !== null);
    if (known.length === 0) {
      this.#path.setAttribute("d", "");
      this.#dot.setAttribute("visibility", "hidden");
      this.#name("not known");
      return;
    }
    let low = Math.min(...known);
    let high = Math.max(...known);
    // At least a cent from bottom to top: noise shall not look like news.
    const least = 20_000;
    if (high - low < least) {
      const mid = (high + low) / 2;
      low = mid - least / 2;
      high = mid + least / 2;
    }
    const span = Math.max(LEAST, this.#values.length);
    const step = (WIDTH - 2 * PAD) / (span - 1);
    const from = span - this.#values.length;
    let line = "";
    let pen = false;
    let x = 0;
    let y = 0;
    for (const [at, value] of this.#values.entries()) {
      if (value === null) {
        pen = false;
        continue;
      }
      x = PAD + (from + at) * step;
      y = HEIGHT - PAD - ((value - low) / (high - low)) * (HEIGHT - 2 * PAD);
      line += `${pen ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
      pen = true;
    }
    this.#path.setAttribute("d", line);
    const last = this.#values.at(-1) !== null;
    this.#dot.setAttribute("visibility", last ? "visible" : "hidden");
    if (last) {
      this.#dot.setAttribute("cx", x.toFixed(1));
      this.#dot.setAttribute("cy", y.toFixed(1));
    }
    const change = known.at(-1) - known[0];
    const word = change > 0 ? "up" : change < 0 ? "down" : "unchanged";
    this.#name(word);
  }

  #name(word) {
    this.element.setAttribute("aria-label", `Mid of the last two minutes, ${word}`);
  }
}

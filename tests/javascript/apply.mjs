// One copy of a book: a message per line of the input, a JSON line of what became of the copy for each.
import { createInterface } from "node:readline";

import { LiveBook } from "../../python/wup/web/wup.js";

const levels = (found) => found.map(({ price, size, legs }) => [price, size, legs]);
let book = new LiveBook();
const lines = [];
createInterface({ input: process.stdin })
  .on("line", (line) => {
    if (line === "") {
      book = new LiveBook();
      lines.push("null");
      return;
    }
    let message = null;
    try {
      message = JSON.parse(line);
    } catch {
      // No message at all is for the copy what it is for a feed.
    }
    const verdict = book.apply(message);
    const { exact, epoch, seq, digest, state, crossed } = book;
    const held = exact ? { epoch, seq, digest, state, crossed, bids: levels(book.bids()), asks: levels(book.asks()) } : {};
    lines.push(JSON.stringify({ verdict, exact, ...held }));
  })
  .on("close", () => process.stdout.write(`${lines.join("\n")}\n`));

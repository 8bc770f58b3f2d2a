"""A recording, played: how wide each book was, in the recording's own time.

python examples/replay.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import wup


def main(log: str) -> None:
    """Best prices at the first message of each second, and what the books were worth knowing."""
    replay = wup.replay(log)
    second = 0
    for message in replay:
        if message.kind != "delta" or message.rx_us // 1_000_000 == second:
            continue
        second = message.rx_us // 1_000_000
        book = replay.book(message.book)
        bid, ask = book.best_bid, book.best_ask
        if bid is None or ask is None:
            print(second, book.id, book.state)
        else:
            print(second, book.id, book.state, bid.price, ask.price, f"spread {ask.price - bid.price}")
    print(f"{replay.player.frames} frames, {len(replay.books())} books, {len(replay.bad_lines)} bad lines")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(Path(__file__).with_name("recording")))

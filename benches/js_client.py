"""How many deltas a second does the JavaScript client verify, and what part of it is JSON?

A real store makes the frames: one book, two legs of 100 levels a side, one to three levels a change. Node's
engine is the browser's (V8); a page has its drawing to do besides. Run: python benches/js_client.py
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import orjson

from machine import machine
from wup import BookStore

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from javascript.node import bundled

BOOK = "fed-2026-12.9b1c22d0a47e55f1.yes"
TABLE = [("kalshi", "K", BOOK, False), ("polymarket", "P", BOOK, False)]
COUNT = 20_000
EPOCH = 1_795_353_600_000
NOW = EPOCH * 1_000


def frames() -> list[bytes]:
    """A snapshot of 100 levels a side and leg, and the deltas after it."""
    rng = random.Random(7)
    store = BookStore(EPOCH)
    store.set_mapping(1, TABLE, NOW)
    count = {"K": 0, "P": 0}

    def apply(
        kind: str, platform: str, asset: str, bids: list[list[str]], asks: list[list[str]]
    ) -> list[bytes]:
        count[asset] += 1
        body = {
            "type": kind,
            "platform": platform,
            "market_id": "m",
            "asset_id": asset,
            "epoch": EPOCH,
            "n": count[asset],
            "bids": bids,
            "asks": asks,
            "ts": {"venue": NOW, "recv": NOW, "norm": NOW},
        }
        return [change.payload for change in store.apply(orjson.dumps(body), NOW)]

    def level(side: str) -> list[str]:
        price = rng.randint(401, 500) if side == "bids" else rng.randint(501, 600)
        return [
            f"0.{price}".rstrip("0"),
            "0" if rng.random() < 0.2 else f"{rng.randint(1, 9000)}.{rng.randint(1, 9)}",
        ]

    for platform, asset, _, _ in TABLE:
        bids = [[f"0.{price}".rstrip("0"), f"{price}"] for price in range(401, 501)]
        asks = [[f"0.{price}".rstrip("0"), f"{price}"] for price in range(501, 601)]
        apply("snapshot", platform, asset, bids, asks)
    found = [store.snapshot(BOOK)]
    while len(found) <= COUNT:
        platform, asset, _, _ = rng.choice(TABLE)
        side = rng.choice(("bids", "asks"))
        changed = dict(level(side) for _ in range(rng.randint(1, 3)))
        levels = [[price, size] for price, size in changed.items()]
        found += apply("update", platform, asset, *((levels, []) if side == "bids" else ([], levels)))
    return found


def main() -> None:
    """Print the figures."""
    ran = subprocess.run(
        [bundled(), str(Path(__file__).with_suffix(".mjs"))],
        input=b"\n".join(frames()),
        stdout=subprocess.PIPE,
        check=True,
    )
    told = json.loads(ran.stdout)
    print(machine(), "Node", told["node"])
    print(f"{told['deltas']} deltas of {told['bytes']} bytes, book of {told['levels']} levels, two legs")
    print(f"parsed, applied and verified  {told['both']:6.2f} us  {1e6 / told['both']:10,.0f} a second")
    print(f"  JSON.parse alone            {told['parse']:6.2f} us")
    print(f"  applied and verified alone  {told['applied']:6.2f} us")
    print(f"snapshot of {told['snapshot_bytes']:,} bytes     {told['fresh']:8.2f} us")


if __name__ == "__main__":
    main()

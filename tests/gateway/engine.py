"""What the orderbook stage publishes, from a real `BookStore` fed with normalised messages by hand."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import orjson

from wup import BookStore, subjects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wup import Change
    from wup.bus import Bus, Message

FED_25 = "fed-2026-12.9b1c22d0a47e55f1.yes"
FED_50 = "fed-2026-12.0c2e8d1f55aa7b90.yes"
GAME = "game-lal-bos.77d4e1b0c3f2a695.yes"

TABLE: list[tuple[str, str, str, bool]] = [
    ("kalshi", "KXFED-26DEC-C25", FED_25, False),
    ("polymarket", "6519", FED_25, False),
    ("kalshi", "KXFED-26DEC-C50", FED_50, False),
    ("polymarket", "7720", FED_50, False),
    ("kalshi", "KXNBA-LAL", GAME, False),
    ("kalshi", "KXNBA-BOS", GAME, True),
    ("polymarket", "8831", GAME, False),
]


class Engine:
    """A store, a bus, and the three kinds of messages in between."""

    def __init__(self, bus: Bus, epoch: int = 1_795_353_600_000, shard: str = "0") -> None:
        self.bus = bus
        self.store = BookStore(epoch)
        self.shard = shard
        self.now_us = 1_795_353_600_000_000
        self.lose = 0
        """Swallow this many changes: what a full queue does."""
        self.published = 0
        self.muted = False
        self.refuse = False
        self._n: dict[str, int] = {}
        self._rng = random.Random(7)

    async def start(self, table: Sequence[tuple[str, str, str, bool]] = TABLE, version: int = 412) -> None:
        """Answer snapshot requests and publish the epochs of all books."""
        await self.bus.subscribe(subjects.orderbook_snapshot(self.shard), self._answer)
        self.publish(self.store.set_mapping(version, list(table), self.now_us))

    def _answer(self, message: Message) -> None:
        assert message.reply is not None
        if self.refuse:
            return
        body = orjson.loads(message.payload)
        for book in self.store.books(body["match"]):
            self.bus.publish(message.reply, self.store.snapshot(book, why="resync"))
        self.bus.publish(message.reply, b"")

    def publish(self, changes: Sequence[Change]) -> None:
        """Send changes on, unless they are to be lost."""
        for change in changes:
            self.published += 1
            if self.lose:
                self.lose -= 1
                continue
            self.bus.publish(change.subject, change.payload)

    def marks(self, full: bool = True) -> None:
        """The marks of one second."""
        if self.muted:
            return
        for payload in self.store.marks(self.shard, self.now_us, full):
            self.bus.publish(subjects.orderbook_marks(self.shard), payload)

    def normalised(self, kind: str, platform: str, asset: str, **more: Any) -> None:
        """Apply one normalised message and publish what follows."""
        self.now_us += 1_000
        n = self._n[asset] = self._n.get(asset, 0) + 1
        body = {
            "type": kind,
            "platform": platform,
            "market_id": f"m-{asset}",
            "asset_id": asset,
            "epoch": 1_795_353_600_001,
            "n": n,
            **more,
        }
        if kind in ("snapshot", "update", "trade"):
            body["ts"] = {"venue": self.now_us - 900, "recv": self.now_us - 50, "norm": self.now_us - 20}
        self.publish(self.store.apply(orjson.dumps(body), self.now_us))

    def snapshot(self, platform: str, asset: str, bids: list[list[str]], asks: list[list[str]]) -> None:
        """A whole venue book."""
        self.normalised("snapshot", platform, asset, bids=bids, asks=asks)

    def update(self, platform: str, asset: str, bids: list[list[str]], asks: list[list[str]]) -> None:
        """New absolute sizes."""
        self.normalised("update", platform, asset, bids=bids, asks=asks)

    def fill(self) -> None:
        """A book on every leg."""
        for platform, asset, _, _ in TABLE:
            self.snapshot(
                platform,
                asset,
                [[f"0.{50 - i:02}", f"{100 + i}.5"] for i in range(12)],
                [[f"0.{53 + i:02}", f"{200 + i}"] for i in range(12)],
            )

    def step(self) -> None:
        """One random venue message."""
        rng = self._rng
        platform, asset, _, _ = rng.choice(TABLE)
        levels: dict[str, list[list[str]]] = {"bids": [], "asks": []}
        for _ in range(rng.randint(1, 4)):
            side = rng.choice(("bids", "asks"))
            cent = rng.randint(30, 52) if side == "bids" else rng.randint(50, 75)
            price = f"0.{cent}" if platform == "kalshi" else f"0.{cent}{rng.randint(1, 9)}"
            if any(level[0] == price for level in levels[side]):
                continue
            size = (
                "0" if rng.random() < 0.3 else f"{rng.randint(1, 5000)}.{rng.randint(1, 99):02}".rstrip("0")
            )
            levels[side].append([price, size.rstrip(".")])
        self.update(platform, asset, levels["bids"], levels["asks"])

    def bulk(self) -> None:
        """One venue message that changes many levels: about 4 KB of delta."""
        rng = self._rng
        platform, asset, _, _ = rng.choice(TABLE)
        self.update(
            platform,
            asset,
            [[f"0.{cent}", f"{rng.randint(1, 99_999)}.25"] for cent in range(10, 50)],
            [[f"0.{cent}", f"{rng.randint(1, 99_999)}.75"] for cent in range(50, 90)],
        )

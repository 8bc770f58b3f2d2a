"""Writes the vector files that every client is held to: `python tests/vectors/make.py`.

Messages come from a real store; what a client must make of them is worked out by `gateway.plain`, which is
written against the contract alone. `README.md` beside this file says what the files mean.
"""

from __future__ import annotations

import json
import random
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))

from gateway.plain import PlainBook, cell, micro  # noqa: E402
from vectors.feeds import feeds  # noqa: E402
from wup import BookStore  # noqa: E402

BOOK = "fed-2026-12.9b1c22d0a47e55f1.yes"
NO = "fed-2026-12.9b1c22d0a47e55f1.no"
NOW = 1_795_353_605_000_000
Message = dict[str, Any]
Level = list[Any]

SNAPSHOT: Message = json.loads(
    '{"type":"snapshot","book":"fed-2026-12.9b1c22d0a47e55f1.yes","epoch":1795353600123,"seq":10481,'
    '"digest":2395318003,"state":"live","crossed":false,"why":"subscribe","mapping":412,'
    '"title":"Fed decision in December","label":"25 bps cut","legs":{"kalshi":{"platform":"kalshi",'
    '"asset":"KXFED-26DEC-C25","inverted":false,"state":"live","age_ms":12,"tick":"0.01","min_size":"0.01"},'
    '"polymarket":{"platform":"polymarket","asset":"6519...","inverted":false,"state":"live","age_ms":3,'
    '"tick":"0.001","min_size":"5"}},"bids":[["0.52","1200",{"kalshi":"500","polymarket":"700"}],'
    '["0.51","300.5",{"polymarket":"300.5"}]],"asks":[["0.54","250",{"kalshi":"250"}]],'
    '"ts":{"book":1795353605001000}}'
)
DELTA: Message = json.loads(
    '{"type":"delta","book":"fed-2026-12.9b1c22d0a47e55f1.yes","epoch":1795353600123,"prev":10481,'
    '"seq":10482,"digest":3279520256,"state":"live","crossed":false,"cause":"polymarket","bids":[],'
    '"asks":[["0.54","0",{}],["0.53","90",{"polymarket":"90"}]],"ts":{"venue":1795353605101000,'
    '"recv":1795353605123000,"norm":1795353605123020,"book":1795353605123026}}'
)
STATUS: Message = {
    **{key: SNAPSHOT[key] for key in ("type", "book", "epoch")},
    "type": "status",
    "prev": 10482,
    "seq": 10483,
    "digest": 3279520256,
    "state": "degraded",
    "crossed": False,
    "why": "venue_silent",
    "legs": SNAPSHOT["legs"],
    "ts": {"book": 1795353620000000},
}
GATEWAY: Message = {
    "type": "status",
    "book": BOOK,
    "by": "gateway",
    "state": "down",
    "why": "gap",
    "ts": {"book": 1795353620000000},
}


def compact(message: Message) -> str:
    return json.dumps(message, separators=(",", ":"))


def text(value: int) -> str:
    shown = f"{Decimal(value).scaleb(-6):f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def shown(levels: dict[int, dict[str, int]], reverse: bool) -> list[Level]:
    """Levels best first, legs in alphabetical order."""
    return [
        [text(price), text(sum(legs.values())), {leg: text(legs[leg]) for leg in sorted(legs)}]
        for price, legs in sorted(levels.items(), reverse=reverse)
    ]


class Case:
    """One conversation; what is expected is worked out while it is written down."""

    def __init__(self, name: str, rule: str) -> None:
        self.name = name
        self.rule = rule
        self.steps: list[Message] = []
        self.book: PlainBook | None = None
        self.crossed = False

    def send(self, message: Message | str, verdict: str | None = None) -> Case:
        """One message; `verdict` when the reference cannot read it or is not to be asked."""
        raw = message if isinstance(message, str) else compact(message)
        if verdict is None:
            read = json.loads(raw)
            if self.book is None:
                self.book = PlainBook(read["book"], "depth" in read or "every_ms" in read)
            found = self.book.apply(read)
            verdict = {"ok": "exact"}.get(found, found)
            if verdict == "exact":
                self.crossed = read["crossed"]
        elif verdict in ("broken", "gap", "unreadable") and self.book is not None:
            self.book.exact = False
        assert verdict is not None
        self.steps.append({"message": raw, "verdict": verdict, "expect": self._expect()})
        return self

    def doubt(self) -> Case:
        """The client loses faith for a reason of its own, as it does when the connection goes."""
        assert self.book is not None
        self.book.exact = False
        self.steps.append({"doubt": True, "expect": self._expect()})
        return self

    def _expect(self) -> Message:
        book = self.book
        if book is None or not book.exact:
            return {"exact": False}
        return {
            "exact": True,
            "epoch": book.epoch,
            "seq": book.seq,
            "digest": book.digest(),
            "state": book.state,
            "crossed": self.crossed,
            "bids": shown(book.bids, True),
            "asks": shown(book.asks, False),
        }

    def done(self) -> Message:
        return {"name": self.name, "rule": self.rule, "steps": self.steps}


# --- by hand: one rule each -------------------------------------------------------------------------------


def rules() -> list[Message]:
    fresh = {**SNAPSHOT, "epoch": 1795353600124, "seq": 3, "why": "epoch"}
    later = {**SNAPSHOT, **{key: DELTA[key] for key in ("seq", "digest")}, "asks": DELTA["asks"][1:]}
    option = {"every_ms": 250}
    cases = [
        Case("the contract's example", "3.1").send(SNAPSHOT).send(DELTA).send(STATUS),
        Case("a first delta without a snapshot is of no use", "client")
        .send(DELTA)
        .send(SNAPSHOT)
        .send(DELTA),
        Case("a repeat is ignored", "client").send(SNAPSHOT).send(DELTA).send(DELTA).send(STATUS),
        Case("an older snapshot is ignored while exact", "client").send(SNAPSHOT).send(DELTA).send(SNAPSHOT),
        Case("the same snapshot again replaces", "client").send(SNAPSHOT).send(SNAPSHOT).send(DELTA),
        Case("an older snapshot is taken when not exact", "client")
        .send(later)
        .doubt()
        .send(SNAPSHOT)
        .send(DELTA),
        Case("a hole is a gap until the next snapshot", "client")
        .send(SNAPSHOT)
        .send(STATUS)
        .send(DELTA)
        .send(later)
        .send(STATUS),
        Case("a newer epoch without its snapshot is a gap", "client")
        .send(SNAPSHOT)
        .send({**DELTA, "epoch": 1795353600124})
        .send(fresh),
        Case("an older epoch is ignored", "client").send(fresh).send(DELTA).send(SNAPSHOT),
        Case("a newer epoch's snapshot replaces, with a smaller seq", "3.2").send(SNAPSHOT).send(fresh),
        Case("a wrong digest in a delta", "client")
        .send(SNAPSHOT)
        .send({**DELTA, "digest": 3279520257})
        .send(STATUS)
        .send(later),
        Case("a wrong digest in a snapshot", "client")
        .send({**SNAPSHOT, "digest": 1})
        .send(DELTA)
        .send(SNAPSHOT)
        .send(DELTA),
        Case("a wrong digest in a status", "client").send(SNAPSHOT).send(DELTA).send({**STATUS, "digest": 7}),
        Case("a changed price", "client")
        .send(SNAPSHOT)
        .send({**DELTA, "asks": [["0.54", "0", {}], ["0.535", "90", {"polymarket": "90"}]]}),
        Case("a changed leg", "client")
        .send(SNAPSHOT)
        .send({**DELTA, "asks": [["0.54", "0", {}], ["0.53", "90", {"kalshi": "90"}]]}),
        Case("parts that do not add up", "1")
        .send(SNAPSHOT)
        .send({**DELTA, "asks": [["0.54", "0", {}], ["0.53", "91", {"polymarket": "90"}]]}, "broken")
        .send(later),
        Case("a price that is none", "1")
        .send(SNAPSHOT)
        .send({**DELTA, "asks": [["0.54", "0", {}], ["1", "90", {"polymarket": "90"}]]}, "broken")
        .send(later),
        Case("a size with seven decimals is not rounded", "1")
        .send(SNAPSHOT)
        .send({**DELTA, "asks": [["0.54", "0", {}], ["0.53", "90", {"polymarket": "90.0000001"}]]}, "broken")
        .send(later),
        Case("a word of the gateway", "4.5")
        .send(SNAPSHOT)
        .send(GATEWAY)
        .send(DELTA)
        .send(later)
        .send(STATUS),
        Case("doubt lasts until the next snapshot", "client").send(SNAPSHOT).doubt().send(DELTA).send(later),
        Case("unknown fields and types are ignored", "head")
        .send({**SNAPSHOT, "colour": {"deep": [1, {"a": None}]}})
        .send({"type": "weather", "book": BOOK}, "ignored")
        .send({**DELTA, "new": -1.5e3}),
        Case("another book is not ours", "client")
        .send(SNAPSHOT)
        .send({**DELTA, "book": NO}, "ignored")
        .send(DELTA),
        Case("fields in another order and with spaces", "head")
        .send(SNAPSHOT)
        .send(dict(reversed(DELTA.items())))
        .send(json.dumps(STATUS, indent=1)),
        Case("text that is no message", "head").send(SNAPSHOT).send("{", "unreadable").send(SNAPSHOT),
        Case("a delta without a digest", "3.1")
        .send(SNAPSHOT)
        .send({key: value for key, value in DELTA.items() if key != "digest"}, "unreadable")
        .send(later),
        Case("with an option any other prev is a gap", "4.2")
        .send({**later, **option})
        .send({**DELTA, **option, "seq": 10483}),
        Case("without options a lower prev is no gap", "client").send(later).send({**STATUS, "prev": 10481}),
        Case("an empty book's digest is 0", "3.4").send(
            {**SNAPSHOT, "bids": [], "asks": [], "digest": 0, "state": "down", "legs": {}}
        ),
        Case("the greatest numbers", "1")
        .send(
            _sealed(
                {
                    **SNAPSHOT,
                    "bids": [["0.999998", "100000000000", {"kalshi-2": "100000000000"}]],
                    "asks": [["0.999999", "200000000000", {"a": "100000000000", "b": "100000000000"}]],
                }
            )
        )
        .send(
            _sealed(
                {
                    **DELTA,
                    "bids": [["0.000001", "0.000001", {"kalshi-2": "0.000001"}]],
                    "asks": [],
                },
                [["0.999998", "100000000000", {"kalshi-2": "100000000000"}]],
                [["0.999999", "200000000000", {"a": "100000000000", "b": "100000000000"}]],
            )
        ),
    ]
    return [case.done() for case in cases]


def _sealed(message: Message, bids: list[Level] | None = None, asks: list[Level] | None = None) -> Message:
    """`message` with the digest of the levels before it (`bids`, `asks`) and its own together."""
    total = 0
    for side, levels in ((0, (bids or []) + message["bids"]), (1, (asks or []) + message["asks"])):
        for price, _, legs in levels:
            total += sum(cell(leg, side, micro(price), micro(size)) for leg, size in legs.items())
    return {**message, "digest": total & 0xFFFFFFFF}


# --- seeded: a store's own messages, with what a network does to them ------------------------------------


def history(seed: int, steps: int) -> list[tuple[Message, Message]]:
    """Messages of a store, each with the snapshot that holds after it."""
    rng = random.Random(seed)
    store = BookStore(1_795_353_600_000)
    table = [("kalshi", "K", BOOK, False), ("kalshi", "K2", BOOK, True), ("polymarket", "P", BOOK, False)]
    found: list[tuple[Message, Message]] = []
    n = dict.fromkeys(("K", "K2", "P"), 0)
    now = NOW

    def note(changes: list[Any]) -> None:
        after = json.loads(store.snapshot(BOOK, why="resync", now_us=now))
        for change in changes:
            message = json.loads(change.payload)
            # An opening with two messages: only the last one leads to what is shown.
            found.append((message, after if message["seq"] == after["seq"] else {}))

    store.describe(BOOK, "Fed decision in December", "25 bps cut")
    note(store.set_mapping(412, table, now))
    for turn in range(steps):
        now += 1_000
        platform, asset, _, _ = table[turn] if turn < len(table) else rng.choice(table)
        n[asset] += 1
        body: Message = {"platform": platform, "market_id": "m", "asset_id": asset, "epoch": 1, "n": n[asset]}
        roll = rng.random()
        if turn < len(table) or roll < 0.08:
            body |= {
                "type": "snapshot",
                "bids": _random_levels(rng, 42, 50),
                "asks": _random_levels(rng, 49, 57),
            }
        elif roll < 0.14:
            body |= {"type": "state", "state": "down", "why": "venue_silent"}
        else:
            body |= {
                "type": "update",
                "bids": _random_levels(rng, 42, 50, 2),
                "asks": _random_levels(rng, 49, 57, 2),
            }
        note(store.apply(json.dumps(body).encode(), now))
    return found


def _random_levels(rng: random.Random, low: int, high: int, most: int = 5) -> list[list[str]]:
    prices = rng.sample(range(low, high), rng.randint(1, most))
    return [
        [f"0.{price}", text(rng.choice((0, 1, 250_000, 5_000_000, rng.randrange(10**9))))] for price in prices
    ]


def mirrored(message: Message) -> Message:
    """The NO view: price' = 1 - p, sides swapped, everything else as it is."""
    if "bids" not in message:
        return {**message, "book": NO}
    turn = lambda levels: [[text(1_000_000 - micro(price)), *rest] for price, *rest in levels]  # noqa: E731
    return {**message, "book": NO, "bids": turn(message["asks"]), "asks": turn(message["bids"])}


def full(seed: int, no: bool) -> Message:
    """A full stream over a network that drops, repeats and holds back."""
    rng = random.Random(seed + 1000)
    case = Case(f"seed {seed}, {'NO' if no else 'YES'} view, lossy", "client")
    view = mirrored if no else (lambda message: message)
    held: list[Message] = []
    owed = False
    for message, after in history(seed, 36):
        roll = rng.random()
        arriving = [message]
        if roll < 0.05:
            arriving = []
        elif roll < 0.10:
            arriving = [message, message]
        elif roll < 0.15:
            held.append(message)
            arriving = []
        elif roll < 0.25 and held:
            arriving = [message, held.pop()]
        for each in arriving:
            case.send(view(each))
        owed = case.book is not None and not case.book.exact
        if owed and after and rng.random() < 0.6:
            case.send(view(after))
    return case.done()


def shaped(seed: int, depth: int | None, every: int | None) -> Message:
    """A stream with a depth, an interval, or both: what is sent is the difference of what is shown."""
    rng = random.Random(seed + 2000)
    options: Message = {}
    if depth is not None:
        options["depth"] = depth
    if every is not None:
        options["every_ms"] = every
    case = Case(f"seed {seed}, depth {depth}, every_ms {every}", "4.2")
    sent: Message | None = None
    for message, after in history(seed, 32):
        if not after or (every is not None and message["type"] == "delta" and rng.random() < 0.6):
            continue
        now = {**after, "bids": after["bids"][:depth], "asks": after["asks"][:depth]}
        now = {**_sealed(now), **options}
        if sent is None or rng.random() < 0.05:
            case.send({**now, "why": "subscribe"})
        else:
            bids, asks = _difference(sent["bids"], now["bids"]), _difference(sent["asks"], now["asks"])
            head = {key: now[key] for key in ("book", "epoch", "seq", "digest", "state", "crossed")}
            if message["type"] == "status":
                # Levels that wait go before it, under the seq that the status follows.
                prev = sent["seq"]
                if bids or asks:
                    prev = message["prev"]
                    case.send(
                        {
                            "type": "delta",
                            **head,
                            "prev": sent["seq"],
                            "seq": prev,
                            "bids": bids,
                            "asks": asks,
                            **options,
                        }
                    )
                case.send({**message, "prev": prev, "digest": now["digest"], **options})
            elif bids or asks:
                case.send(
                    {"type": "delta", **head, "prev": sent["seq"], "bids": bids, "asks": asks, **options}
                )
            else:
                continue
        sent = now
    return case.done()


def _difference(before: list[Level], after: list[Level]) -> list[Level]:
    old = {level[0]: level for level in before}
    return [level for level in after if old.pop(level[0], None) != level] + [[p, "0", {}] for p in old]


# --- the files --------------------------------------------------------------------------------------------


def digests() -> Message:
    cells = [
        ("kalshi", "bid", "0.52", "500", 2847660764),
        ("kalshi-2", "bid", "0.52", "500", 1198482198),
        ("polymarket", "ask", "0.9999", "5000000.25", 2001326314),
    ]
    rng = random.Random(5)
    for _ in range(40):
        leg = rng.choice(("kalshi", "polymarket", "kalshi-3", "x", "a_long_leg_name-12"))
        side = rng.choice(("bid", "ask"))
        price, size = (
            rng.randrange(1, 1_000_000),
            rng.choice((1, 10**17, 2**32, 2**32 - 1, rng.randrange(1, 10**17))),
        )
        cells.append((leg, side, text(price), text(size), cell(leg, side == "ask", price, size)))
    return {
        "salts": [["kalshi", 2320148655], ["polymarket", 3782428595], ["kalshi-2", 3622892796]],
        "cells": [list(one) for one in cells],
    }


def numbers() -> Message:
    exact = [
        "0",
        "1",
        "0.52",
        "300.5",
        "0.000001",
        "0.999999",
        "1200",
        "5000000.25",
        "100000000000",
        "99999999999.999999",
        "9007199254.740993",
        "123456789.123456",
    ]
    return {
        "exact": [[number, str(micro(number))] for number in exact],
        "refused": [
            "",
            ".",
            "-",
            "1e3",
            "+1",
            " 1",
            "1 ",
            "0x1",
            "0.1234567",
            "nan",
            "NaN",
            "Infinity",
            "1,5",
            "0.5.1",
            "--1",
            "\u0661",
        ],
        "complements": [["0.471", "0.529"], ["0.5", "0.5"], ["0.000001", "0.999999"], ["0.1", "0.9"]],
    }


def patterns() -> Message:
    yes, other = BOOK, "game-lal-bos.77d4e1b0c3f2a695.yes"
    no = NO
    table = [
        (">", yes, True),
        (">", no, False),
        ("*.*.*", yes, True),
        ("*.*.*", no, False),
        ("*.*.yes", yes, True),
        ("*.*.yes", no, False),
        ("*.*.no", no, True),
        ("*.*.no", yes, False),
        ("fed-2026-12.>", yes, True),
        ("fed-2026-12.>", no, False),
        ("fed-2026-12.>", other, False),
        ("fed-2026-12.*.yes", yes, True),
        ("fed-2026-12.*.no", no, True),
        ("fed-2026-12.*.no", yes, False),
        ("fed-2026-12.9b1c22d0a47e55f1.>", yes, True),
        ("fed-2026-12.9b1c22d0a47e55f1.>", no, False),
        ("*.9b1c22d0a47e55f1.*", yes, True),
        ("*.>", yes, True),
        ("*.>", no, False),
        ("*.*.>", yes, True),
        (yes, yes, True),
        (yes, no, False),
        (no, no, True),
        (no, yes, False),
        (other, yes, False),
        ("fed-2026-1.>", yes, False),
        ("FED-2026-12.>", yes, False),
    ]
    return {
        "matches": [list(row) for row in table],
        "refused": [
            "",
            "a",
            "*",
            "a.b",
            "a..b",
            ">.a",
            "a.>.b",
            "a.b.c.d",
            "a.b*.yes",
            "a.b.yes.>",
            "a b.c.yes",
            "\u00e9.b.yes",
        ],
    }


def files() -> dict[str, Message]:
    """Name to content of every vector file."""
    streams = rules()
    streams += [full(seed, no) for seed in (1, 2) for no in (False, True)]
    streams += [shaped(3, 1, None), shaped(4, 5, None), shaped(5, None, 100), shaped(6, 5, 250)]
    own = {"digest": digests(), "numbers": numbers(), "patterns": patterns()}
    return {**own, "streams": {"cases": streams}, "feeds": {"cases": feeds()}}


def dump(content: Message) -> str:
    """One entry a line, so that a change shows in a diff."""
    lines = []
    for name, entries in content.items():
        rows = ",\n  ".join(json.dumps(entry, separators=(",", ":")) for entry in entries)
        lines.append(f" {json.dumps(name)}: [\n  {rows}\n ]")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> None:
    for name, content in files().items():
        (HERE / f"{name}.json").write_text(dump(content))


if __name__ == "__main__":
    main()

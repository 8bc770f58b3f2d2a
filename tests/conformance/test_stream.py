"""wire.md sections 1 and 3: everything that a long random conversation on the bus must obey.

The messages come from a real store; they are read here with `json` and the plain reader alone.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from typing import Any

import orjson
import pytest

from gateway.engine import FED_25, FED_50, GAME, TABLE, Engine
from gateway.plain import PlainBook, micro
from wup.bus import LocalBus, Message

Said = dict[str, Any]
SEEDS = [1, 2, 3]
_ID = re.compile(r"[A-Za-z0-9-][A-Za-z0-9_-]{0,63}\.[0-9a-f]{16}\.yes")
_WHYS = {
    "leg_snapshot", "seq_gap", "hash_mismatch", "venue_silent", "disconnected", "halted", "suspended",
    "maintenance", "upstream_silent", "no_credentials", "gap", "resolved", "closed", "unmapped", "mapping",
}  # fmt: skip
_MINUTE_US = 60_000_000
NEW_LEG = ("polymarket", "6519-second", FED_25, True)


class Conversation:
    """What was said on `orderbook.>`, in order, with the number of the input that made each message."""

    def __init__(self) -> None:
        self.bus = LocalBus()
        self.engine = Engine(self.bus)
        self.said: list[tuple[int, str, Said]] = []
        self.input = 0

    async def start(self) -> Conversation:
        await self.bus.subscribe("orderbook.>", self._hear)
        await self.engine.start()
        self.input += 1
        return self

    def _hear(self, message: Message) -> None:
        if not message.subject.startswith("orderbook.snapshot."):
            self.said.append((self.input, message.subject, json.loads(message.payload)))

    async def random(self, seed: int, turns: int = 400) -> None:
        """Updates, leg states, holes, snapshots, trades, other mappings, and a resolution at the end."""
        rng = self.engine._rng = random.Random(seed)
        engine = self.engine
        engine.fill()
        for turn in range(turns):
            self.input += 1
            platform, asset = TABLE[rng.randrange(len(TABLE))][:2]
            luck = rng.random()
            if luck < 0.85:
                engine.step()
            elif luck < 0.89:
                why, state = rng.choice(
                    (("seq_gap", "resync"), ("halted", "halted"), ("disconnected", "down"))
                )
                engine.normalised("state", platform, asset, state=state, why=why)
            elif luck < 0.95:
                engine.snapshot(platform, asset, [["0.45", "10.5"]], [["0.46", "20"]])
            elif luck < 0.97:
                engine._n[asset] += 1
                engine.step()
            else:
                engine.normalised(
                    "trade", platform, asset, price="0.53", size="10", side="buy", id=f"t{turn}"
                )
        self.input += 1
        engine.publish(engine.store.set_mapping(413, [*TABLE, NEW_LEG], engine.now_us))
        self.input += 1
        engine.publish(engine.store.resolve(GAME, "yes", engine.now_us))

    def books(self) -> dict[str, list[Said]]:
        """Snapshots, deltas and statuses per book, in order."""
        found: dict[str, list[Said]] = defaultdict(list)
        for _, subject, message in self.said:
            if subject.startswith("orderbook.changes."):
                assert subject == f"orderbook.changes.{message['book']}"
                found[message["book"]].append(message)
        return found

    def all(self, *kinds: str) -> list[Said]:
        """Every message of some types."""
        return [message for _, _, message in self.said if message["type"] in kinds]

    def take(self) -> list[Said]:
        """What was said since the last call."""
        taken, self.said = self.said, []
        return [message for _, _, message in taken]


@pytest.fixture(params=SEEDS)
async def talk(request: pytest.FixtureRequest) -> Conversation:
    """A finished random conversation."""
    talk = await Conversation().start()
    await talk.random(request.param)
    kinds = {message["type"] for _, _, message in talk.said}
    assert kinds == {"snapshot", "delta", "status", "trade"}
    assert len(talk.said) > 200
    return talk


@pytest.fixture
async def quiet() -> Conversation:
    """Three filled books, nothing else said yet."""
    talk = await Conversation().start()
    talk.engine.fill()
    talk.take()
    return talk


async def test_ids_numbers_times_and_levels(talk: Conversation) -> None:
    """Ids, decimal texts, stamps, leg names and level parts have the form of section 1 everywhere."""
    for message in talk.all("snapshot", "delta", "status", "trade"):
        assert _ID.fullmatch(message["book"])
        for name, stamp in message["ts"].items():
            assert name in ("venue", "recv", "norm", "book")
            assert type(stamp) is int
            assert 1_700_000_000_000_000 < stamp < 2_000_000_000_000_000
        for name, leg in message.get("legs", {}).items():
            number = name.removeprefix(leg["platform"])
            assert number == "" or re.fullmatch(r"-([2-9]|[1-9][0-9]+)", number)
            assert type(leg.get("age_ms", 0)) is int
        for price, size, legs in [*message.get("bids", []), *message.get("asks", [])]:
            assert 0 < micro(price) < 1_000_000
            assert micro(size) == sum(micro(part) for part in legs.values())
            assert (size == "0") == (legs == {})
            assert all(micro(part) > 0 for part in legs.values())


async def test_second_leg_of_a_platform_is_numbered(talk: Conversation) -> None:
    """The further leg of a platform in a book is `{platform}-2`, in mapping order."""
    last = [message for message in talk.books()[FED_25] if "legs" in message][-1]
    assert [(name, leg["asset"]) for name, leg in last["legs"].items()] == [
        ("kalshi", "KXFED-26DEC-C25"),
        ("polymarket", "6519"),
        ("polymarket-2", "6519-second"),
    ]


async def test_numbers_out_of_bounds_take_the_leg_out(quiet: Conversation) -> None:
    """A price of 0 or 1, or more than 10^11 contracts at a level, is an error of that leg, never shown."""
    engine = quiet.engine
    for price, size in (("0", "1"), ("1", "1"), ("0.4", "100000000000.000001"), ("0.4", "-1")):
        engine.update("kalshi", "KXFED-26DEC-C25", [[price, size]], [])
        told = quiet.take()
        assert [m["type"] for m in told] == ["delta", "status"], (price, size)
        assert told[1]["legs"]["kalshi"]["state"] == "resync"
        engine.snapshot("kalshi", "KXFED-26DEC-C25", [["0.4", "100000000000"]], [])
        back = quiet.take()[0]
        assert next(level[2] for level in back["bids"] if level[0] == "0.4")["kalshi"] == "100000000000"


async def test_seq_rises_by_one(talk: Conversation) -> None:
    """Deltas and statuses carry prev, seq, digest, state and crossed; seq is the last one's plus one."""
    for messages in talk.books().values():
        last: Said | None = None
        for message in messages:
            assert {"epoch", "seq", "digest", "state", "crossed"} <= message.keys()
            if message["type"] == "snapshot":
                assert "prev" not in message
            else:
                assert last is not None
                assert message["prev"] == last["seq"]
                assert message["seq"] == last["seq"] + 1
                assert message["epoch"] == last["epoch"]
            last = message


async def test_a_plain_reader_stays_exact(talk: Conversation) -> None:
    """Levels replace levels, "0" removes, snapshots come best first, and every digest agrees."""
    for book, messages in talk.books().items():
        reader = PlainBook(book, False)
        for message in messages:
            for side in ("bids", "asks"):
                prices = [level[0] for level in message.get(side, [])]
                assert len(prices) == len(set(prices))
            assert reader.apply(message) == "ok"
        assert len(messages) > 20


async def test_a_legs_change_of_state(quiet: Conversation) -> None:
    """One delta when sizes change, then one status with all legs; both carry the book's new state."""
    engine = quiet.engine
    engine.normalised("state", "kalshi", "KXFED-26DEC-C25", state="down", why="disconnected")
    delta, status = quiet.take()
    assert (delta["type"], status["type"]) == ("delta", "status")
    assert delta["state"] == status["state"] == "degraded"
    assert status["why"] == "disconnected"
    assert {name: leg["state"] for name, leg in status["legs"].items()} == {
        "kalshi": "down",
        "polymarket": "live",
    }
    # Without sizes there is nothing for a delta to say.
    engine.normalised("state", "kalshi", "KXFED-26DEC-C25", state="halted", why="halted")
    (status,) = quiet.take()
    assert (status["type"], status["why"], status["state"]) == ("status", "halted", "degraded")


async def test_an_epoch_opens_with_a_snapshot(talk: Conversation) -> None:
    """An epoch's first message is a snapshot on the book's subject with seq 1 and `why:"epoch"`."""
    opened = 0
    for messages in talk.books().values():
        epoch = 0
        for message in messages:
            if message["epoch"] != epoch:
                assert message["epoch"] > epoch
                assert (message["type"], message["seq"], message["why"]) == ("snapshot", 1, "epoch")
                epoch = message["epoch"]
                opened += 1
            else:
                assert message["type"] != "snapshot"
    assert opened == 4  # three books, and the one that got another leg


async def test_epochs_are_per_book_and_grow(quiet: Conversation) -> None:
    """Other legs open a new epoch of that book alone; a restart larger ones for all, whatever the clock."""
    engine = quiet.engine
    before = {book: orjson.loads(engine.store.snapshot(book))["epoch"] for book in engine.store.books()}
    engine.publish(engine.store.set_mapping(413, [*TABLE, NEW_LEG], engine.now_us))
    assert [message["book"] for message in quiet.take()] == [FED_25]
    after = {book: orjson.loads(engine.store.snapshot(book))["epoch"] for book in engine.store.books()}
    assert after[FED_25] > before[FED_25]
    assert {book: after[book] for book in (FED_50, GAME)} == {book: before[book] for book in (FED_50, GAME)}
    again = Engine(quiet.bus, engine.store.last_epoch())
    again.now_us = 1_000_000  # the wall clock was set back to 1970
    again.publish(again.store.set_mapping(414, TABLE, again.now_us))
    opened = {message["book"]: message["epoch"] for message in quiet.take()}
    assert opened.keys() == after.keys()
    assert all(opened[book] > max(after.values()) for book in opened)


async def test_one_transaction_is_one_delta(quiet: Conversation) -> None:
    """All levels of one venue message are in one delta, each price once per side."""
    quiet.engine.update(
        "polymarket", "6519", [["0.5", "1"], ["0.49", "2"], ["0.48", "0"]], [["0.53", "0"], ["0.54", "7"]]
    )
    (delta,) = quiet.take()
    assert sorted(level[0] for level in delta["bids"]) == ["0.48", "0.49", "0.5"]
    assert sorted(level[0] for level in delta["asks"]) == ["0.53", "0.54"]


async def test_nothing_shown_nothing_said(quiet: Conversation) -> None:
    """The same sizes again, or the removal of what is not there, is no message and no seq."""
    engine = quiet.engine
    seq = orjson.loads(engine.store.snapshot(FED_25))["seq"]
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.5", "100.5"], ["0.11", "0"]], [])
    engine.snapshot(
        "kalshi",
        "KXFED-26DEC-C25",
        [[f"0.{50 - i:02}", f"{100 + i}.5"] for i in range(12)],
        [[f"0.{53 + i:02}", f"{200 + i}"] for i in range(12)],
    )
    assert quiet.take() == []
    assert orjson.loads(engine.store.snapshot(FED_25))["seq"] == seq


async def test_states(quiet: Conversation) -> None:
    """All legs live is `live`, some `degraded`, none `down` with an empty book and digest 0."""
    engine = quiet.engine
    for asset, platform, state in (
        ("KXFED-26DEC-C25", "kalshi", "degraded"),
        ("6519", "polymarket", "down"),
    ):
        engine.normalised("state", platform, asset, state="resync", why="seq_gap")
        assert {message["state"] for message in quiet.take()} == {state}
    last = orjson.loads(engine.store.snapshot(FED_25))
    assert (last["digest"], last["bids"], last["asks"], last["crossed"]) == (0, [], [], False)
    engine.snapshot("kalshi", "KXFED-26DEC-C25", [["0.4", "1"]], [])
    assert {message["state"] for message in quiet.take()} == {"degraded"}
    engine.snapshot("polymarket", "6519", [], [["0.6", "1"]])
    assert {message["state"] for message in quiet.take()} == {"live"}


async def test_only_live_legs_contribute(talk: Conversation) -> None:
    """At each status the levels hold sizes of legs that are live in it, and of no other."""
    checked = 0
    for book, messages in talk.books().items():
        reader = PlainBook(book, False)
        for message in messages:
            reader.apply(message)
            if "legs" not in message:
                continue
            live = {name for name, leg in message["legs"].items() if leg["state"] == "live"}
            shown = {leg for side in (reader.bids, reader.asks) for legs in side.values() for leg in legs}
            assert shown <= live
            checked += 1
    assert checked > 15


async def test_crossed(quiet: Conversation) -> None:
    """A best bid above the best ask is `crossed`, and shown as it is: that is arbitrage, not an error."""
    engine = quiet.engine
    engine.update("polymarket", "6519", [["0.53", "5"]], [])
    (touching,) = quiet.take()
    assert touching["crossed"] is False
    engine.update("polymarket", "6519", [["0.545", "5"]], [])
    (above,) = quiet.take()
    assert above["crossed"] is True
    assert above["bids"][0] == ["0.545", "5", {"polymarket": "5"}]


async def test_cause_and_whys(talk: Conversation) -> None:
    """A delta names the leg whose message made it; a status says why with a word of the contract."""
    for message in talk.all("delta"):
        legs = {leg for level in [*message["bids"], *message["asks"]] for leg in level[2]}
        assert "cause" not in message or message["cause"] in (
            "kalshi",
            "kalshi-2",
            "polymarket",
            "polymarket-2",
        )
        assert legs or message["bids"] or message["asks"]
    assert {message["cause"] for message in talk.all("delta") if "cause" in message} >= {
        "kalshi",
        "polymarket",
    }
    whys = {message["why"] for message in talk.all("status")}
    assert {"seq_gap", "halted", "disconnected", "leg_snapshot", "gap", "resolved"} - whys <= {"gap"}
    assert whys <= _WHYS


async def test_a_resolved_book_ends_closed(quiet: Conversation) -> None:
    """Its last status is `closed` with `result`; sixty seconds later it is gone from the store."""
    engine = quiet.engine
    engine.publish(engine.store.resolve(GAME, "yes", engine.now_us))
    last = quiet.take()[-1]
    assert (last["type"], last["state"], last["why"], last["result"]) == (
        "status",
        "closed",
        "resolved",
        "yes",
    )
    engine.store.tick(engine.now_us + _MINUTE_US - 1)
    assert GAME in engine.store.books()
    engine.store.tick(engine.now_us + _MINUTE_US)
    assert GAME not in engine.store.books()


async def test_stamps(quiet: Conversation) -> None:
    """A delta carries the venue's, the socket's, the normalizer's and its own stamp, as they were."""
    engine = quiet.engine
    engine.update("kalshi", "KXFED-26DEC-C25", [["0.41", "7"]], [])
    (delta,) = quiet.take()
    now = engine.now_us
    assert delta["ts"] == {"venue": now - 900, "recv": now - 50, "norm": now - 20, "book": now}
    engine.normalised("state", "kalshi", "KXFED-26DEC-C25", state="halted", why="halted")
    assert quiet.take()[-1]["ts"] == {"book": engine.now_us}


async def test_trades_are_outside_the_sequence(quiet: Conversation) -> None:
    """A trade is told in YES coordinates with the venue's id; the book's seq does not move."""
    engine = quiet.engine
    seq = orjson.loads(engine.store.snapshot(GAME))["seq"]
    engine.normalised("trade", "kalshi", "KXNBA-BOS", price="0.47", size="10", side="buy", id="0723be0d")
    (_, subject, trade), *rest = quiet.said
    assert rest == []
    assert subject == f"orderbook.trades.{GAME}"
    assert {name: trade[name] for name in ("type", "book", "platform", "asset", "price", "size", "id")} == {
        "type": "trade",
        "book": GAME,
        "platform": "kalshi",
        "asset": "KXNBA-BOS",
        "price": "0.53",  # the asset is the other side of this book
        "size": "10",
        "id": "0723be0d",
    }
    assert trade["side"] == "sell"
    assert orjson.loads(engine.store.snapshot(GAME))["seq"] == seq


async def test_marks(quiet: Conversation) -> None:
    """Marks come also when empty, count up, and give epoch, seq, digest and state of each changed book."""
    engine = quiet.engine

    def marks(seconds: int = 1) -> list[Said]:
        engine.now_us += seconds * 1_000_000
        return [json.loads(payload) for payload in engine.store.marks("0", engine.now_us)]

    seen: set[str] = set()
    for _ in range(40):
        (mark,) = marks()
        seen |= mark["books"].keys()
    assert seen == {FED_25, FED_50, GAME}  # one thirtieth of all, each second
    numbers = [marks()[0]["n"] for _ in range(3)]
    assert numbers == [numbers[0], numbers[0] + 1, numbers[0] + 2]
    engine.update("kalshi", "KXNBA-LAL", [["0.41", "7"]], [])
    (mark,) = marks()
    state = orjson.loads(engine.store.snapshot(GAME))
    assert mark["type"] == "marks"
    assert mark["shard"] == "0"
    assert mark["books"][GAME] == [state["epoch"], state["seq"], state["digest"], "live"]


async def test_large_marks_are_split() -> None:
    """No marks message is larger than 256 KiB; together they name every book once."""
    engine = Engine(LocalBus())
    table = [("kalshi", f"K{n}", f"{'a' * 50}-{n}.{n:016x}.yes", False) for n in range(4_000)]
    engine.store.set_mapping(1, table, engine.now_us)
    payloads = engine.store.marks("0", engine.now_us, True)
    assert len(payloads) > 1
    assert max(len(payload) for payload in payloads) <= 262_144
    names = [name for payload in payloads for name in json.loads(payload)["books"]]
    assert sorted(names) == sorted(row[2] for row in table)


@pytest.mark.parametrize("late", [0, 1, 7, 30])
async def test_join_by_snapshot(late: int) -> None:
    """Subscribe, buffer, ask, drop what the snapshot has, go on: exact from any moment on (rule 9)."""
    engine = Engine(LocalBus())
    await engine.start()
    engine.fill()
    buffered: list[Said] = []
    await engine.bus.subscribe(
        f"orderbook.changes.{FED_25}", lambda m: buffered.append(json.loads(m.payload))
    )
    for _ in range(30 - late):
        engine.step()
    answers = await engine.bus.request_many(
        "orderbook.snapshot.0", json.dumps({"match": FED_25}).encode(), timeout=2
    )
    (snapshot,) = [json.loads(answer.payload) for answer in answers if answer.payload]
    for _ in range(late):
        engine.step()
    reader = PlainBook(FED_25, False)
    assert reader.apply(snapshot) == "ok"
    rest = [m for m in buffered if (m["epoch"], m["seq"]) > (snapshot["epoch"], snapshot["seq"])]
    assert not rest or rest[0]["prev"] == snapshot["seq"]
    for message in rest:
        assert reader.apply(message) == "ok"
    assert reader.seq == orjson.loads(engine.store.snapshot(FED_25))["seq"]

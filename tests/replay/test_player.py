"""Recordings: what each kind of record does, and what a bad line costs."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import orjson
import pytest
import zstandard
from hypothesis import given

from replay.tapes import cli_run, write
from venues.kal import A, B, delta, raw, snapshot, subscribed
from venues.poly import MARKET, NO, YES, Book
from venues.poly import raw as poly_raw
from wup.errors import SettingsError
from wup.mapping.table import Leg, MappingTable
from wup.normalizer.engine import Engine
from wup.playback import comparable, reader, run
from wup.playback.record import RecordWriter, line
from wup.raw import Meta
from wup.venues.registry import VENUES

T = 1_795_353_600_000_000
LEVELS = [["0.0100", "33338.00"], ["0.4000", "5.00"]]
BOOK = "fed-2026-12.9b1c22d0a47e55f1.yes"


def frame(
    payload: bytes, at_us: int = T, platform: str = "kalshi", conn: str = "c1", **more: Any
) -> dict[str, Any]:
    return {"rx_us": at_us, "platform": platform, "conn": conn, "raw": payload.decode(), **more}


def play(path: Path, records: list[dict[str, Any]]) -> tuple[Any, list[dict[str, Any]]]:
    messages: list[dict[str, Any]] = []
    player, _ = run([write(path / "tape.jsonl", records)], lambda c: messages.append(orjson.loads(c.payload)))
    return player, messages


def test_a_mapping_merges_two_venues_in_one_book(tmp_path: Path) -> None:
    """With a `mapping` record the legs of both venues are in the mapped book, one of them inverted, and
    nothing else has a book; the epoch is the log's."""
    poly = Book({"0.45": "100"}, {"0.6": "50"}, ts=T // 1000)
    player, messages = play(
        tmp_path,
        [
            {"kind": "start", "rx_us": T, "epoch": 1_795_353_600_001, "version": "0.1.0"},
            {
                "kind": "mapping",
                "rx_us": T,
                "version": 412,
                "table": [["kalshi", A, BOOK, False], ["polymarket", YES, BOOK, True]],
            },
            {"kind": "open", "rx_us": T, "platform": "kalshi", "conn": "c1", "use_yes_price": True},
            frame(snapshot(A, 1, LEVELS, [["0.5500", "7.00"]])),
            frame(snapshot(B, 2, LEVELS)),
            frame(poly_raw([poly.book()]), platform="polymarket"),
        ],
    )
    assert player.store.books() == [BOOK]
    assert player.bad == {"kalshi.unknown_asset": 1}
    last = messages[-1]
    assert (last["book"], last["type"], last["state"]) == (BOOK, "status", "live")
    book = player.store.book(BOOK)
    levels = {
        str(level.price): {leg: str(size) for leg, size in level.by_leg.items()}
        for level in [*book.bids, *book.asks]
    }
    assert levels == {
        "0.4": {"kalshi": "5", "polymarket": "50"},
        "0.01": {"kalshi": "33338"},
        "0.55": {"kalshi": "7", "polymarket": "100"},
    }
    assert messages[0]["mapping"] == 412
    assert all(message["ts"]["book"] == T for message in messages)


def test_our_own_mapping_records_carry_names_facts_and_suspensions(tmp_path: Path) -> None:
    """What the recorder adds: facts of the catalogue reach the normaliser and the book, a suspended leg is
    kept out with its reason until a later version takes it back, and new books begin with the log's epoch."""
    poly = Book({"0.45": "100"}, {"0.6": "50"}, ts=T // 1000, min_size="7", neg_risk=False)
    table = [["kalshi", A, BOOK, False], ["polymarket", YES, BOOK, False]]
    facts = {"event": "fed", "tick": "0.001", "min_size": "7", "min_order_size": "7", "neg_risk": "false"}
    listed = {"kind": "catalog", "rx_us": T, "platform": "polymarket", "market_id": MARKET, "assets": [YES]}
    mapping: dict[str, Any] = {
        "kind": "mapping",
        "rx_us": T,
        "version": 1,
        "epoch": T // 1000 + 500,
        "table": table,
        "books": [[BOOK, "Fed decision", "25 bps cut", None]],
        "suspended": [["kalshi", A, "rules_changed"]],
    }
    player, messages = play(
        tmp_path,
        [
            {"kind": "start", "rx_us": T, "epoch": T // 1000, "version": "x"},
            {**listed, **facts},
            mapping,
            frame(snapshot(A, 1, LEVELS)),
            frame(poly_raw([poly.book()]), platform="polymarket"),
            frame(delta(A, 2, "yes", "0.4000", "1.00"), T + 1),
            {**mapping, "rx_us": T + 2, "version": 2, "suspended": []},
        ],
    )
    assert player.bad == {}
    assert messages[0]["epoch"] == T // 1000 + 500
    assert player.checks() == {"polymarket.match": 1}
    suspended = [m for m in messages if m.get("legs", {}).get("kalshi", {}).get("state") == "halted"]
    assert suspended[0]["why"] == "suspended"
    last = messages[-1]
    assert {name: leg["state"] for name, leg in last["legs"].items()} == {
        "kalshi": "live",
        "polymarket": "live",
    }
    assert (last["legs"]["polymarket"]["tick"], last["legs"]["polymarket"]["min_size"]) == ("0.001", "7")
    assert {str(level.price) for level in player.store.book(BOOK).bids} == {"0.45", "0.4", "0.01"}


def test_a_resolved_book_closes_with_its_result(tmp_path: Path) -> None:
    """A later mapping that carries a result closes the book with it."""
    mapping = {"kind": "mapping", "rx_us": T, "version": 1, "table": [["kalshi", A, BOOK, False]]}
    resolved = {**mapping, "rx_us": T + 5, "version": 2, "table": [], "books": [[BOOK, "t", "l", "yes"]]}
    _, messages = play(tmp_path, [mapping, frame(snapshot(A, 1, LEVELS)), resolved])
    assert (messages[-1]["state"], messages[-1]["result"]) == ("closed", "yes")


@pytest.mark.parametrize("broken", [{"version": "1"}, {"table": [["kalshi"]]}, {"books": [1]}, {"table": 5}])
def test_a_mapping_that_cannot_be_read_changes_nothing(tmp_path: Path, broken: dict[str, Any]) -> None:
    """It is counted, and the mapping before it stays in force."""
    mapping = {"kind": "mapping", "rx_us": T, "version": 1, "table": [["kalshi", A, BOOK, False]]}
    player, _ = play(tmp_path, [mapping, frame(snapshot(A, 1, LEVELS)), {**mapping, "version": 2, **broken}])
    assert player.bad == {".bad_record": 1}
    assert player.store.book(BOOK).state == "live"


def test_without_verdicts_deadlines_run_on_receive_times(tmp_path: Path) -> None:
    """A log that holds no decisions gets them from its receive times: a book crossed for longer than its
    transaction may last goes to resync when the next record is later than that."""
    records = [
        frame(snapshot(A, 1, LEVELS, [["0.5500", "1.00"]])),
        frame(delta(A, 2, "yes", "0.6000", "1.00"), T + 1000),
        frame(subscribed(1, "orderbook_delta"), T + 400_000),
    ]
    player, _ = play(tmp_path, records)
    (name,) = player.store.books()
    assert player.store.book(name).state == "down"
    elsewhere = {"kind": "verdict", "rx_us": T, "platform": "kalshi", "conn": "c2", "asset": B}
    records.insert(0, {**elsewhere, "state": "down", "why": "venue_silent"})
    player, _ = play(tmp_path, records)
    (name,) = player.store.books()
    assert player.store.book(name).state == "live", "a log with verdicts runs no timers"


def test_verdicts_and_closes_come_from_the_log(tmp_path: Path) -> None:
    """The leg goes down by the log's verdict and by its close, with their reasons."""
    common = {"platform": "kalshi", "conn": "c1"}
    _, messages = play(
        tmp_path,
        [
            frame(snapshot(A, 1, LEVELS)),
            {"kind": "verdict", "rx_us": T + 1, **common, "asset": A, "state": "down", "why": "venue_silent"},
            frame(snapshot(A, 2, LEVELS), T + 2),
            {"kind": "close", "rx_us": T + 3, **common, "why": "maintenance"},
        ],
    )
    assert [m["why"] for m in messages if m["type"] == "status"] == [
        "leg_snapshot",
        "venue_silent",
        "leg_snapshot",
        "maintenance",
    ]


def test_a_hole_in_the_log_is_a_loss(tmp_path: Path) -> None:
    """A frame that the recorder numbered and that is missing makes the connection's legs doubtful."""
    player, messages = play(
        tmp_path,
        [
            frame(snapshot(A, 1, LEVELS), n=1),
            frame(subscribed(2, "trade"), n=3),
        ],
    )
    assert player.bad == {"kalshi.lost_records": 1}
    assert messages[-1]["why"] == "gap"


def test_a_bad_line_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    """Each unreadable line is counted and named with its file and number; what is readable is played."""
    path = tmp_path / "bad.jsonl"
    good = orjson.dumps(frame(snapshot(A, 1, LEVELS)))
    broken = [
        b"{not json",
        b"[1]",
        b'{"kind":"dance","rx_us":1}',
        b'{"rx_us":"soon","platform":"kalshi","raw":"{}"}',
        b'{"rx_us":1,"raw":"{}"}',
        b'{"rx_us":1,"platform":"kalshi"}',
        b'{"rx_us":1,"platform":"kalshi","raw_b64":"!"}',
        b'{"rx_us":1,"platform":"kalshi","raw":"{}","n":"1"}',
        b'{"rx_us":1,"platform":7,"raw":"{}"}',
        b'{"kind":["open"],"rx_us":1,"platform":"kalshi"}',
        b'{"rx_us":-1,"platform":"kalshi","raw":"{}"}',
        b'{"rx_us":9223372036854775808,"platform":"kalshi","raw":"{}"}',
        b'{"rx_us":1e99,"platform":"kalshi","raw":"{}"}',
        b'{"rx_us":1,"platform":"kalshi","raw":"{}","n":-1}',
        b'{"rx_us":1,"platform":"kalshi","raw":"{}","n":18446744073709551616}',
        b'{"kind":"start","rx_us":1,"epoch":-1}',
        b'{"kind":"start","rx_us":1,"epoch":9223372036854775807}',
        b'{"kind":"mapping","rx_us":1,"version":1,"table":[],"epoch":9223372036854775808}',
    ]
    path.write_bytes(b"\n".join([*broken, b"", good, b""]))
    summary = cli_run([str(path)], None)
    assert summary["bad_lines"] == len(broken)
    samples = summary["bad_line_samples"]
    assert [sample.split(":")[1] for sample in samples] == [str(n) for n in range(1, len(broken) + 1)]
    assert all(sample.startswith(f"{path}:") for sample in samples)
    assert list(summary["states"].values()) == ["live"]


def test_a_packed_recording_is_the_same_recording(tmp_path: Path) -> None:
    """zstd is told by its bytes, several frames and several files are one log, and a file that is cut off
    gives what came before the cut."""
    records = [frame(snapshot(A, seq, LEVELS), T + seq) for seq in range(1, 40)]
    plain = write(tmp_path / "plain", records)
    lines = Path(plain).read_bytes().splitlines(keepends=True)
    packed = [tmp_path / "one", tmp_path / "two"]
    compressor = zstandard.ZstdCompressor()
    packed[0].write_bytes(
        compressor.compress(b"".join(lines[:10])) + compressor.compress(b"".join(lines[10:20]))
    )
    packed[1].write_bytes(compressor.compress(b"".join(lines[20:])))
    expected = cli_run([plain], None)["sha256"]
    assert cli_run([str(path) for path in packed], None)["sha256"] == expected
    cut = tmp_path / "cut"
    cut.write_bytes(packed[1].read_bytes()[:-6])
    summary = cli_run([str(packed[0]), str(cut)], None)
    assert (summary["frames"] >= 20, summary["bad_lines"]) == (True, 1)
    assert "cut off" in summary["bad_line_samples"][0]
    cut.write_bytes(packed[1].read_bytes()[:20] + b"garbage" * 20)
    summary = cli_run([str(packed[0]), str(cut)], None)
    assert (summary["frames"], summary["bad_lines"]) == (20, 1)


def test_files_that_cannot_be_opened_are_named_all_at_once(tmp_path: Path) -> None:
    """Nothing is played when a file is missing, and every missing one is named."""
    with pytest.raises(SettingsError) as refused:
        cli_run([str(tmp_path / "a"), str(tmp_path / "b")], None)
    assert len(refused.value.problems) == 2
    tape = write(tmp_path / "tape", [frame(snapshot(A, 1, LEVELS))])
    with pytest.raises(SettingsError, match="nowhere"):
        cli_run([tape], str(tmp_path / "nowhere" / "out"))


def test_messages_to_standard_output(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """`--out -` writes each consolidated message as one line of JSON, and nothing else."""
    tape = write(tmp_path / "tape", [frame(snapshot(A, 1, LEVELS))])
    summary = cli_run([tape], "-")
    lines = capfdbinary.readouterr().out.splitlines()
    assert [orjson.loads(text)["type"] for text in lines] == ["snapshot", "delta", "status"]
    assert summary["messages"] == 3


def test_another_run_in_the_log_begins_anew(tmp_path: Path) -> None:
    """A `start` with another epoch is another process: nothing is connected, and legs count in the new
    epoch; a rotated file of the same run goes on."""
    first = {"kind": "start", "rx_us": T, "epoch": T // 1000, "version": "0.1.0"}
    player, _ = play(
        tmp_path,
        [first, frame(snapshot(A, 1, LEVELS)), first, frame(delta(A, 2, "yes", "0.4000", "1.00"))],
    )
    assert player.bad == {}
    player, _ = play(
        tmp_path,
        [
            first,
            frame(snapshot(A, 1, LEVELS)),
            {**first, "epoch": T // 1000 + 5},
            frame(delta(A, 2, "yes", "0.4000", "1.00"), n=1),
            frame(snapshot(A, 3, [["0.4000", "9.00"]]), n=2),
        ],
    )
    assert player.bad == {}
    (name,) = player.store.books()
    assert [str(level.size) for level in player.store.book(name).bids] == ["9"]


def test_what_the_recorder_writes_is_what_replay_reads(tmp_path: Path) -> None:
    """Records from the bus, written and read back, drive an engine to the same messages as the records
    themselves: frames byte for byte, text or not, and every other kind with its fields."""
    poly = Book({"0.45": "100"}, {"0.6": "50"}, ts=T // 1000)
    table = MappingTable(
        7, (Leg("kalshi", A, A, "e", BOOK, False), Leg("polymarket", YES, MARKET, "e", BOOK, False))
    )
    verdict = orjson.dumps({"asset": A, "state": "down", "why": "gap"})
    records: list[tuple[Meta, bytes]] = [
        (Meta("open", "kalshi", "c1", T, 0), b'{"use_yes_price":true}'),
        (Meta("sent", "kalshi", "c1", T, 0), b'{"id":1,"cmd":"subscribe","params":{}}'),
        (Meta("frame", "kalshi", "c1", T + 1, 1), snapshot(A, 1, LEVELS)),
        (Meta("marks", "kalshi", "c1", T + 1, 1), b'{"type":"marks"}'),
        (Meta("frame", "kalshi", "c1", T + 2, 2), b"\xff\xfe not text"),
        (Meta("open", "polymarket", "p1", T + 2, 0), b"{}"),
        (Meta("frame", "polymarket", "p1", T + 3, 1), poly_raw([poly.book(YES), poly.book(NO)])),
        (Meta("frame", "polymarket", "p1", T + 4, 2), poly_raw(poly.move(("BUY", "0.46", "1")))),
        (Meta("verdict", "kalshi", "c1", T + 5, 2), verdict),
        (Meta("close", "polymarket", "p1", T + 6, 2), b'{"why":"disconnected"}'),
        (Meta("marks", "kalshi", "c1", T + 7, 3), b'{"type":"marks"}'),
    ]
    live: list[bytes] = []
    engine = fresh_engine(live, table)
    for meta, payload in records:
        engine.record(meta, payload, meta.rx_us)
    for packed in (False, True):
        file = io.BytesIO()
        writer = RecordWriter(file, packed=packed)
        writer.start(T, T // 1000, "0.1.0")
        writer.mapping(T, 7, table.rows())
        for meta, payload in records:
            writer.write(meta, payload)
        writer.flush()
        writer.close()
        path = tmp_path / f"tape-{packed}"
        path.write_bytes(file.getvalue())
        again: list[bytes] = []
        engine = fresh_engine(again, table)
        read = list(reader.records([str(path)], lambda bad: pytest.fail(str(bad))))
        assert [meta.kind for meta, _ in read[:2]] == ["start", "mapping"]
        for meta, payload in read[2:]:
            engine.record(meta, payload, meta.rx_us)
        assert again == live
        assert len(live) == 6
        assert writer.records == len(records) + 1, "of marks only those that tell of a lost frame"


def fresh_engine(sink: list[bytes], table: MappingTable) -> Engine:
    """An engine that puts its messages into `sink`."""
    engine = Engine(
        epoch=T // 1000, instance="x", venues=VENUES, emit=lambda subject, payload: sink.append(payload)
    )
    engine.set_table(table)
    return engine


def test_records_that_are_no_json_are_refused() -> None:
    """Only frames may hold anything; another record that cannot be read is an error of the writer."""
    with pytest.raises(ValueError):
        line(Meta("open", "kalshi", "c1", T, 0), b"no json")
    with pytest.raises(ValueError):
        line(Meta("open", "kalshi", "c1", T, 0), b"[]")


@given(st.text() | st.binary())
def test_a_frame_is_kept_byte_for_byte(frame: str | bytes) -> None:
    """Whatever a venue sends: text as text, other bytes as base64, and read back they are the same."""
    payload = frame.encode() if isinstance(frame, str) else frame
    written = line(Meta("frame", "kalshi", 'c"1', T, 7), payload)
    fields = orjson.loads(written)
    kept = fields["raw"].encode() if "raw" in fields else base64.b64decode(fields["raw_b64"])
    assert kept == payload
    assert (fields["rx_us"], fields["platform"], fields["conn"], fields["n"]) == (T, "kalshi", 'c"1', 7)
    assert written.count(b"\n") == 1


def test_live_and_replay_are_compared_without_their_clocks() -> None:
    """The comparable form of a message lacks exactly `ts.norm`, `ts.book` and the legs' `age_ms`."""
    message = {
        "type": "snapshot",
        "legs": {"kalshi": {"state": "live", "age_ms": 12}},
        "ts": {"venue": 1, "recv": 2, "norm": 3, "book": 4},
    }
    assert orjson.loads(comparable(orjson.dumps(message))) == {
        "type": "snapshot",
        "legs": {"kalshi": {"state": "live"}},
        "ts": {"venue": 1, "recv": 2},
    }


def test_trades_and_block_trades_are_played(tmp_path: Path) -> None:
    """A trade comes out on the book's trades, in the book's coordinates."""
    trade = {
        "trade_id": "t-1",
        "market_ticker": A,
        "yes_price_dollars": "0.3000",
        "count_fp": "10.00",
        "taker_book_side": "ask",
        "is_block_trade": True,
        "ts_ms": T // 1000,
    }
    _, messages = play(
        tmp_path,
        [
            frame(snapshot(A, 1, LEVELS)),
            frame(raw({"type": "trade", "sid": 2, "seq": 1, "msg": trade})),
        ],
    )
    last = messages[-1]
    assert (last["type"], last["price"], last["size"], last["side"]) == ("trade", "0.3", "10", "sell")

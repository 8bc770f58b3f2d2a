"""`wup replay`, `verify`, `book`, `export` and `wup.replay` over the recording in examples/."""

from __future__ import annotations

import builtins
import csv
import shutil
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

import wup
from wup.cli import app
from wup.playback.sources import parse_time, show_time

SAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "recording"
SHA256 = "4310465b9f37308b53aa79daa315f7707865cf57855ab4fdd151bba7d3f71d92"
"""Of everything that the sample gives. It changes only when what WUP says about the same frames changes: say
in CHANGELOG.md why, and put in what `wup verify examples/recording` prints."""
BOOK = "fed-2026-12.15bae58a757d7f56.yes"
RUNNING = "2026-11-22T18:29:50Z"
OFF = "2026-11-22T18:30:02Z"
AGAIN = "2026-11-22T18:30:09.5Z"


def command(*arguments: object) -> tuple[int, Any, str]:
    """Exit code, the last JSON document that the command printed, and its plain words."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    documents = result.stdout or result.stderr
    lines = [line for line in documents.splitlines() if not line.startswith("wup: ")]
    text = "\n".join(lines)
    document = orjson.loads(text if text.startswith("{\n") else lines[-1]) if lines else None
    words = "\n".join(line for line in result.stderr.splitlines() if line.startswith("wup: "))
    return result.exit_code, document, words


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The sample where it may be harmed."""
    shutil.copytree(SAMPLE, tmp_path / "recording")
    return tmp_path / "recording"


def segment(folder: Path, number: int) -> Path:
    return sorted(folder.glob("*.jsonl.zst"))[number - 1]


def test_a_replay_says_the_same_in_every_version() -> None:
    """Frames of the committed recording to the committed SHA-256, by the command and by the function."""
    code, summary, _ = command("replay", SAMPLE)
    assert (code, summary["sha256"], summary["bad_lines"]) == (0, SHA256, 0)
    assert summary["frames"] == 1329
    assert sum(1 for _ in wup.replay(SAMPLE)) == summary["messages"]


def test_between_messages_the_books_are_those_of_the_moment() -> None:
    """While a recording is iterated, `book` shows the book that the message led to."""
    replay = wup.replay(SAMPLE, start=RUNNING, end="2026-11-22T18:29:51Z")
    seen = 0
    for message in replay:
        fields = message.fields()
        if message.kind != "trade":
            book = replay.book(message.book)
            assert (book.seq, book.digest) == (fields["seq"], fields["digest"])
            assert book.state == fields["state"]
            seen += message.kind == "delta"
        assert parse_time(RUNNING) <= message.rx_us < parse_time("2026-11-22T18:29:51Z")
    assert seen > 10
    assert BOOK in replay.books("fed-2026-12.>")


def test_a_part_is_the_same_as_in_the_whole() -> None:
    """From a time on: a snapshot of each book, then byte for byte what the whole replay says from there."""
    start = parse_time(RUNNING)
    whole = [message for message in wup.replay(SAMPLE) if message.rx_us >= start]
    part = list(wup.replay(SAMPLE, start=start))
    opening = [
        message for message in part if message.kind == "snapshot" and b'"why":"join"' in message.payload
    ]
    assert len(opening) == 6
    assert [message.payload for message in part[6:]] == [message.payload for message in whole]
    later = list(wup.replay(SAMPLE, start=AGAIN))
    # The second run is known without the first.
    assert wup.replay(SAMPLE, start=AGAIN).player.records == 0
    assert [m.payload for m in later if b'"join"' not in m.payload] == [
        m.payload for m in whole if m.rx_us >= parse_time(AGAIN)
    ]


def test_verify_tells_frames_gaps_books_and_the_sha256() -> None:
    """The gap is the time during which nothing recorded, with its reason; books say why they were down."""
    code, found, words = command("verify", SAMPLE)
    assert (code, found["whole"], found["sha256"]) == (1, False, SHA256)
    assert "not whole" in words
    (gap,) = found["gaps"]
    assert gap["why"] == "recorder_off"
    assert gap["from"] < show_time(parse_time(OFF)) < gap["to"]
    assert (found["frames"], found["damaged_files"], found["bad_lines"]) == (1329, [], 0)
    assert len(found["books"]) == 6
    book = found["books"][0]
    assert book["book"] == BOOK
    assert book["not_live"]["seq_gap"] == 1
    assert 0.5 < float(book["live_share"]) < 0.9


def test_verify_finds_harm(copied: Path) -> None:
    """Another byte, a cut file, a missing segment, a missing index, a lost frame: each is named."""
    names = [segment(copied, n) for n in (1, 2, 3)]
    content = bytearray(names[0].read_bytes())
    content[len(content) // 2] ^= 0xFF
    names[0].write_bytes(content)
    code, found, _ = command("verify", copied)
    assert code == 1
    assert f"{names[0]}: other content than its index says" in found["damaged_files"]
    assert found["bad_lines"] == 1
    names[0].write_bytes((SAMPLE / names[0].name).read_bytes())
    names[2].write_bytes(names[2].read_bytes()[:-100])
    found = command("verify", copied)[1]
    assert "its index says" in found["damaged_files"][0]
    assert "cut off" in found["bad_line_samples"][0]
    names[2].unlink()
    found = command("verify", copied)[1]
    assert found["gaps"] == []
    names[0].unlink()
    found = command("verify", copied)[1]
    assert found["deleted_segments"] == 1
    assert found["frames"] > 0
    for index in copied.glob("*.index.json"):
        index.unlink()
    assert "missing or unreadable" in command("verify", copied)[1]["damaged_files"][0]


def test_verify_names_lost_frames(tmp_path: Path) -> None:
    """A hole in a connection's counter is a gap of that connection."""
    lines = [
        {"kind": "open", "rx_us": parse_time(RUNNING), "platform": "kalshi", "conn": "c1"},
        *(
            {"rx_us": parse_time(RUNNING) + n, "platform": "kalshi", "conn": "c1", "n": n, "raw": "{}"}
            for n in (1, 2, 6)
        ),
    ]
    (tmp_path / "log").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    found = command("verify", tmp_path / "log")[1]
    (gap,) = found["gaps"]
    assert (gap["why"], gap["conn"], gap["frames"]) == ("frames_lost", "c1", 3)


def test_a_book_at_a_time() -> None:
    """The snapshot is the book that the replay has after everything received up to then: by id, by an asset
    of it, as NO, and with less depth."""
    replay = wup.replay(SAMPLE, end=parse_time(RUNNING) + 1)
    for _ in replay:
        pass
    expected = replay.book(BOOK)
    code, found, _ = command("book", BOOK, SAMPLE, "--at", RUNNING)
    assert (code, found["type"], found["state"]) == (0, "snapshot", "live")
    assert (found["seq"], found["digest"]) == (expected.seq, expected.digest)
    assert [level[0] for level in found["bids"]] == [format(level.price, "f") for level in expected.bids]
    asset = found["legs"]["kalshi"]["asset"]
    assert command("book", f"kalshi:{asset}", SAMPLE, "--at", RUNNING)[1] == found
    other = command("book", BOOK.replace(".yes", ".no"), SAMPLE, "--at", RUNNING, "--depth", "1")[1]
    assert Decimal(other["asks"][0][0]) == 1 - expected.bids[0].price
    assert len(other["asks"]) == len(other["bids"]) == 1
    assert command("book", BOOK, SAMPLE, "--at", AGAIN)[1]["state"] == "live"


@pytest.mark.parametrize(
    ("book", "at", "why", "words"),
    [
        (BOOK, OFF, "recorder_off", "nothing was recorded from 2026-11-22T18:29:59"),
        (BOOK, "2026-11-22T18:29:00Z", "outside", "does not cover"),
        (BOOK, "2026-11-22T18:40:00Z", "outside", "to 2026-11-22T18:30:10"),
        (BOOK, "2026-11-22T18:29:45.75Z", "not_live", "had no book yet"),
        (BOOK, "2026-11-22T18:29:45.9Z", "not_live", ""),
        ("fed.x.yes", RUNNING, "no_such_book", "there were fed-2026-12"),
        ("kalshi:NOPE", RUNNING, "no_such_book", "kalshi:NOPE"),
    ],
)
def test_a_book_that_cannot_be_known_says_why(book: str, at: str, why: str, words: str) -> None:
    """Never an empty book and never an old one: exit 3, a code, and words."""
    code, found, said = command("book", book, SAMPLE, "--at", at)
    assert (code, found["type"], found["why"]) == (3, "unknown", why)
    assert words in said


def test_a_book_behind_a_broken_segment_is_unknown(copied: Path) -> None:
    """What was read before the damage says nothing about later."""
    segment(copied, 3).unlink()
    segment(copied, 2).write_bytes(b"garbage")
    code, found, _ = command("book", BOOK, copied, "--at", "2026-11-22T18:29:57Z")
    assert (code, found["why"]) == (3, "unreadable")


def test_export_is_exact_and_never_old(tmp_path: Path) -> None:
    """CSV and Parquet hold the same rows, a row per book and second; each is the book at that time, and while
    nothing was recorded or no leg live there is no price."""
    table, text = tmp_path / "x.parquet", tmp_path / "x.csv"
    code, said, _ = command("export", SAMPLE, "--bbo", "--every", "1s", "--out", table)
    assert code == 0
    rows = pyarrow.parquet.read_table(table).to_pylist()
    assert len(rows) == said["rows"] > 60
    assert command("export", SAMPLE, "--every", "1s", "--out", text)[1]["rows"] == len(rows)
    with text.open() as file:
        lines = list(csv.DictReader(file))
    for row, line in zip(rows, lines, strict=True):
        assert show_time(parse_time(line["time"])) == show_time(parse_time(row["time"].isoformat()))
        assert (row["book"], row["state"], row["crossed"]) == (
            line["book"],
            line["state"],
            line["crossed"] == "true",
        )
        for name in ("bid", "bid_size", "ask", "ask_size"):
            assert row[name] == (Decimal(line[name]) if line[name] else None)
    at = "2026-11-22T18:29:50.000000Z"
    (line,) = (line for line in lines if (line["book"], line["time"]) == (BOOK, at))
    book = command("book", BOOK, SAMPLE, "--at", at)[1]
    assert [line["bid"], line["bid_size"]] == book["bids"][0][:2]
    assert [line["ask"], line["ask_size"]] == book["asks"][0][:2]
    dark = [line for line in lines if line["state"] == "down"]
    assert dark
    assert all(line["bid"] == line["ask"] == "" for line in dark)
    off = [line for line in lines if "18:30:00" < line["time"][11:19] < "18:30:04"]
    assert {line["state"] for line in off} <= {"down"}


def test_export_at_every_change(tmp_path: Path) -> None:
    """Without an interval a row comes exactly when best prices, sizes or state change."""
    out = tmp_path / "x.csv"
    assert command("export", SAMPLE, "--out", out)[0] == 0
    with out.open() as file:
        lines = [line for line in csv.reader(file) if line[1] == BOOK]
    assert len(lines) > 30
    for one, other in pairwise(lines):
        assert one[2:] != other[2:] or one[0] < "2026-11-22T18:30:03" < other[0]


def test_wrong_arguments_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Folders without recordings, times that are none, endings that are not known, a missing package: exit 2
    and words, no traceback."""
    out = tmp_path / "x.csv"
    cases: list[tuple[list[object], str]] = [
        (["replay", tmp_path], "no recording in this folder"),
        (["verify", tmp_path / "none"], "No such file"),
        (["replay", SAMPLE, "--from", "yesterday"], "--from: 'yesterday' is no time"),
        (["replay", SAMPLE, "--from", AGAIN, "--to", RUNNING], "--from: must be before --to"),
        (["replay", SAMPLE, "--speed", "fast"], "--speed"),
        (["replay", SAMPLE, "--serve", "--speed", "max"], "--speed"),
        (["replay", "jetstream:X", SAMPLE], "one stream"),
        (["replay", SAMPLE, "--out", tmp_path / "no" / "x"], "No such file"),
        (["book", BOOK, SAMPLE, "--at", "12"], "--at"),
        (["export", SAMPLE, "--out", tmp_path / "x.xls"], ".csv or .parquet"),
        (["export", SAMPLE, "--out", out, "--every", "1"], "--every"),
        (["export", SAMPLE, "--out", tmp_path / "no" / "x.csv"], "No such file"),
        (["replay", SAMPLE, "--catalog", SAMPLE.parent / "native_book.py"], "native_book.py:1"),
    ]
    for arguments, words in cases:
        code, _, said = command(*arguments)
        assert code == 2, arguments
        assert words in said, (arguments, said)
    code, _, said = command("replay", SAMPLE, "--from", "2030-01-01")
    assert code == 1
    assert "after the recording's end" in said
    real = builtins.__import__

    def without(name: str, *more: Any, **options: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *more, **options)

    monkeypatch.setattr("importlib.import_module", without)
    code, _, said = command("export", SAMPLE, "--out", tmp_path / "x.parquet")
    assert (code, 'pip install "wup[parquet]"' in said) == (2, True)


def test_a_catalog_file_makes_one_book_of_two_tokens(tmp_path: Path) -> None:
    """A log of bare frames: each asset has a book of its own; with `--catalog` the tokens of a market share
    one."""
    at = parse_time(RUNNING)
    whole = {
        "event_type": "book",
        "market": "0xab",
        "timestamp": str(at // 1000),
        "hash": "",
        "bids": [{"price": "0.4", "size": "5"}],
        "asks": [{"price": "0.6", "size": "7"}],
    }
    frames = [{**whole, "asset_id": "11"}, {**whole, "asset_id": "22"}]
    record = {
        "rx_us": at,
        "platform": "polymarket",
        "conn": "c",
        "n": 1,
        "raw": orjson.dumps(frames).decode(),
    }
    log, catalog = tmp_path / "log", tmp_path / "catalog"
    log.write_bytes(orjson.dumps(record))
    known = {"kind": "catalog", "platform": "polymarket", "market_id": "0xab", "assets": ["11", "22"]}
    catalog.write_bytes(orjson.dumps({**known, "event": "some-event"}))
    assert command("replay", log)[1]["books"] == 2
    summary = command("replay", log, "--catalog", catalog)[1]
    assert [name.split(".")[0] for name in summary["states"]] == ["polymarket-some-event"]


def test_a_replay_at_a_speed_takes_its_time() -> None:
    """Ten times as fast: two seconds of the recording take a fifth of a second, and say the same."""
    part = ["--from", RUNNING, "--to", "2026-11-22T18:29:52Z"]
    slow = command("replay", SAMPLE, *part, "--speed", "10")[1]
    fast = command("replay", SAMPLE, *part)[1]
    assert slow.pop("seconds") >= 0.19
    fast.pop("seconds")
    assert slow == fast

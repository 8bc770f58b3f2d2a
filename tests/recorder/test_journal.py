"""Segments on disk: whole frames, indexes that tell the truth, bounds, and one recorder per folder."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import orjson
import pytest
import zstandard

from wup.errors import SettingsError
from wup.recorder import files, segments
from wup.recorder.journal import Journal

US = 1_795_353_600_000_000


def journal(folder: Path, *, segment: int = 1 << 30, total: int = 1 << 40, age_us: int = 10**12) -> Journal:
    return Journal(folder, segment_bytes=segment, max_bytes=total, max_age_us=age_us)


def opened(folder: Path, **bounds: int) -> Journal:
    made = journal(folder, **bounds)
    assert made.claim() == []
    made.begin(1, US, continues=False, head=(), connections=())
    return made


def frame(number: int, noise: bytes = b"") -> bytes:
    return b'{"rx_us":%d,"platform":"kalshi","conn":"c.1","n":%d,"raw":"%s"}\n' % (US + number, number, noise)


def text(path: str | Path) -> bytes:
    reader = zstandard.ZstdDecompressor().stream_reader(Path(path).read_bytes(), read_across_frames=True)
    return reader.read()


def test_each_flush_is_a_frame_and_the_index_agrees(tmp_path: Path) -> None:
    """After every flush the file reads to its end; once closed the index names its records and its digest."""
    made = opened(tmp_path)
    lines = b""
    for number in range(1, 6):
        made.add_frame(frame(number), US + number)
        made.flush()
        lines += frame(number)
        assert text(segments(tmp_path)[0]) == lines
    made.close()
    (path,) = segments(tmp_path)
    name = Path(path).name.removesuffix(".jsonl.zst")
    index = orjson.loads(files.index_of(tmp_path, name).read_bytes())
    packed = Path(path).read_bytes()
    assert (index["first_rx_us"], index["last_rx_us"]) == (US + 1, US + 5)
    assert (index["records"], index["frames"], index["bytes"]) == (5, 5, len(packed))
    assert (index["closed"], index["sha256"]) == (True, hashlib.sha256(packed).hexdigest())


@pytest.mark.parametrize("torn", [1, 7, 40])
def test_a_torn_segment_is_ended_at_its_last_whole_frame(tmp_path: Path, torn: int) -> None:
    """What a crash left half-written is cut off at the next start, and open connections are named."""
    made = opened(tmp_path)
    made.add(b'{"kind":"open","rx_us":%d,"platform":"kalshi","conn":"a.1"}\n' % US, US)
    made.add(b'{"kind":"open","rx_us":%d,"platform":"kalshi","conn":"b.1"}\n' % US, US)
    made.flush()
    made.add(b'{"kind":"close","rx_us":%d,"platform":"kalshi","conn":"a.1"}\n' % US, US)
    made.add_frame(frame(1), US + 1)
    made.flush()
    (path,) = segments(tmp_path)
    whole = Path(path).read_bytes()
    made.add_frame(frame(2, b"lost" * 50), US + 2)
    made.flush()
    made.release()
    both = Path(path).read_bytes()
    Path(path).write_bytes(both[: len(whole) + torn])
    again = journal(tmp_path)
    assert again.claim() == [("kalshi", "b.1")]
    assert Path(path).read_bytes() == whole
    index = files.read_index(tmp_path, Path(path).name.removesuffix(".jsonl.zst"))
    assert index is not None
    assert (index.records, index.frames, index.last_rx_us, index.closed) == (4, 1, US + 1, True)
    assert index.sha256 == hashlib.sha256(whole).hexdigest()
    assert again.last_us == US + 1


def test_a_refused_write_leaves_whole_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up in the middle of a write: the segment ends before it, and the error is told."""
    made = opened(tmp_path)
    made.add_frame(frame(1), US + 1)
    made.flush()
    (path,) = segments(tmp_path)
    whole = Path(path).read_bytes()
    real = os.write
    calls: list[int] = []

    def filling(fd: int, data: memoryview) -> int:
        calls.append(fd)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "no space left")
        return real(fd, data[:5])

    monkeypatch.setattr(os, "write", filling)
    made.add_frame(frame(2), US + 2)
    with pytest.raises(OSError, match="no space"):
        made.flush()
    assert not made.is_open
    assert Path(path).read_bytes() == whole
    # The time that is told as missing begins here: with the records that were lost, not after them.
    assert made.last_us == US + 1


def test_a_removed_folder_is_an_error(tmp_path: Path) -> None:
    """Writing on into a deleted file would record nothing and say nothing."""
    folder = tmp_path / "rec"
    made = opened(folder)
    for path in folder.iterdir():
        path.unlink()
    made.add_frame(frame(1), US + 1)
    with pytest.raises(FileNotFoundError):
        made.flush()


def test_oldest_segments_go_by_size(tmp_path: Path) -> None:
    """All segments together stay within the bound; the newest stay, and the open one is never touched."""
    made = opened(tmp_path, segment=4000, total=20_000)
    rounds = 0
    for number in range(1, 200):
        made.add_frame(frame(number, os.urandom(400).hex().encode()), US + number)
        made.flush()
        if made.full:
            made.close()
            made.begin(1, US + number, continues=True, head=(b"{}\n",), connections=())
            made.prune(US + number)
            rounds += 1
            total = sum(path.stat().st_size for path in tmp_path.iterdir())
            assert total <= 20_000
    kept = files.names(tmp_path)
    assert files.number_of(kept[-1]) == rounds + 1
    assert kept == sorted(kept)
    assert 2 <= len(kept) < rounds
    assert {path.name.split(".")[0] for path in tmp_path.iterdir()} - {""} == set(kept)


def test_oldest_segments_go_by_age(tmp_path: Path) -> None:
    """A segment whose last record is older than the bound is deleted, younger ones stay."""
    made = opened(tmp_path, age_us=1_000_000)
    for step in range(4):
        made.add_frame(frame(step), US + step * 500_000)
        made.close()
        made.begin(1, US + step * 500_000, continues=True, head=(b"{}\n",), connections=())
    assert len(made.prune(US + 2_000_000)) == 2
    assert files.number_of(files.names(tmp_path)[0]) == 3


def test_one_recorder_per_folder(tmp_path: Path) -> None:
    """Two writers would delete each other's segments: the second is refused and the setting named."""
    first = opened(tmp_path)
    with pytest.raises(SettingsError, match="RECORD_DIR"):
        journal(tmp_path).claim()
    first.close()
    first.release()
    journal(tmp_path).claim()


def test_head_only_where_the_segment_before_is_gone(tmp_path: Path) -> None:
    """`segments` gives the records in order, and a head exactly where a reader lacks what came before."""
    made = opened(tmp_path)
    for step in range(3):
        made.add_frame(frame(step), US)
        made.close()
        made.begin(1, US, continues=True, head=(b'{"kind":"start","rx_us":1,"epoch":1}\n',), connections=())
    made.close()
    whole = [Path(path).name for path in segments(tmp_path)]
    assert [name[:8] for name in whole] == ["00000001", "00000002", "00000003", "00000004"]
    assert all(name.endswith(".jsonl.zst") for name in whole)
    files.packed_of(tmp_path, files.names(tmp_path)[0]).unlink()
    pruned = [Path(path).name.split(".", 1) for path in segments(tmp_path)]
    assert [suffix for _, suffix in pruned] == ["head.jsonl", "jsonl.zst", "jsonl.zst", "jsonl.zst"]
    assert pruned[0][0] == pruned[1][0]


def test_other_files_are_no_segments(tmp_path: Path) -> None:
    """Only names that a recorder gives are read, deleted or counted."""
    (tmp_path / "notes.jsonl.zst").write_bytes(b"mine")
    (tmp_path / "1-20261122T000000Z.jsonl.zst").write_bytes(b"mine")
    made = opened(tmp_path, total=1)
    made.prune(US)
    assert len(segments(tmp_path)) == 1
    assert (tmp_path / "notes.jsonl.zst").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"name":"x"}', b"\xff", b'{"name":null,"run":"1"}'])
def test_a_broken_index_does_not_hide_a_segment(tmp_path: Path, content: bytes) -> None:
    """The records count, not the index."""
    made = opened(tmp_path)
    made.add_frame(frame(1), US + 1)
    made.close()
    made.release()
    (name,) = files.names(tmp_path)
    files.index_of(tmp_path, name).write_bytes(content)
    assert len(segments(tmp_path)) == 1
    journal(tmp_path).claim()
    index = files.read_index(tmp_path, name)
    assert index is not None
    assert (index.records, index.closed) == (1, True)

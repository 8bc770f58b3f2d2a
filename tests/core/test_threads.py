"""Several Python threads on one store give what one thread after the other gives."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING

import pytest

from core.naive import normalised, text
from wup._core import BookStore, MirrorBook

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITERS, MESSAGES = 4, 400


def book(writer: int) -> str:
    """Each writer has its own book."""
    return f"fed.m{writer}.yes"


def new_store() -> BookStore:
    """Books of all writers."""
    store = BookStore(0)
    store.set_mapping(1, [("kalshi", f"K{writer}", book(writer), False) for writer in range(WRITERS)], 0)
    return store


def write(store: BookStore, writer: int) -> list[bytes]:
    """All messages of a writer, and what came out."""
    payloads = []
    for n in range(1, MESSAGES + 1):
        bids = [[text((n * 7919 % 97 + 1) * 10_000), str(n % 5 + writer)]]
        kind = "snapshot" if n == 1 else "update"
        message = normalised(kind, ("kalshi", f"K{writer}"), (1, n), bids=bids, asks=[])
        payloads += [change.payload for change in store.apply(message, n)]
    return payloads


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Let the interpreter change threads as often as it can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("eager_switching")
def test_equal_to_serial() -> None:
    """Writers on different books, readers and mappings beside them: the same bytes as one after the other."""
    serial = new_store()
    expected = [write(serial, writer) for writer in range(WRITERS)]
    store, done = new_store(), Event()

    def read() -> None:
        while not done.is_set():
            for writer in range(WRITERS):
                assert MirrorBook().apply(store.snapshot(book(writer), now_us=0)) == "exact"
                assert store.book(book(writer)).state in ("down", "live")

    def remap() -> None:
        table = [("kalshi", f"K{writer}", book(writer), False) for writer in range(WRITERS)]
        version = 1
        while not done.is_set():
            version += 1
            store.set_mapping(version, table + [("gemini", "G", "other.m.yes", False)] * (version % 2), 0)

    with ThreadPoolExecutor(WRITERS + 3) as pool:
        others = [pool.submit(read), pool.submit(read), pool.submit(remap)]
        writers = [pool.submit(write, store, writer) for writer in range(WRITERS)]
        found = [writer.result() for writer in writers]
        done.set()
        for other in others:
            other.result()
    assert found == expected

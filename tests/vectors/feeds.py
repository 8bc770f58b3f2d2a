"""What a feed must make of books that the gateway serves no more: whole conversations, written by hand."""

from __future__ import annotations

from typing import Any

Message = dict[str, Any]

A = "fed-2026-12.9b1c22d0a47e55f1.yes"
B = "fed-2026-12.0c2e8d1f55aa7b90.yes"
NO = "fed-2026-12.9b1c22d0a47e55f1.no"
ALL = "fed-2026-12.>"


def _legs(asset: str = "KXFED-26DEC-C25", state: str = "live") -> Message:
    return {"kalshi": {"platform": "kalshi", "asset": asset, "inverted": False, "state": state}}


def _snapshot(book: str = A, epoch: int = 5, seq: int = 1, **more: Any) -> Message:
    head = {"type": "snapshot", "book": book, "epoch": epoch, "seq": seq, "digest": 0, "state": "live"}
    rest = {"crossed": False, "why": "subscribe", "mapping": 412, "title": "Fed", "label": "25 bps cut"}
    return {**head, **rest, "legs": _legs(), "bids": [], "asks": [], "ts": {}, **more}


def _status(book: str = A, seq: int = 2, state: str = "down", why: str = "unmapped", **more: Any) -> Message:
    head = {"type": "status", "book": book, "epoch": 5, "prev": seq - 1, "seq": seq, "digest": 0}
    return {**head, "state": state, "crossed": False, "why": why, "legs": {}, "ts": {}, **more}


def _gateway(why: str, book: str = A) -> Message:
    return {"type": "status", "book": book, "by": "gateway", "state": "down", "why": why, "ts": {}}


def _subscribe(*books: str, name: str = "a", **options: int) -> Message:
    return {"subscribe": [name, list(books), options]}


def _then(
    step: Message, *events: str, books: Message | None = None, ops: list[Message] | None = None
) -> Message:
    """After the step: what the subscriptions were told since the last `then`, what is held, what was sent."""
    told: Message = {"events": list(events)}
    if books is not None:
        told["books"] = books
    if ops is not None:
        told["ops"] = ops
    return {**step, "then": told}


def feeds() -> list[Message]:
    """All cases."""
    shaped = {"depth": 5, "every_ms": 100}
    refused = {"type": "error", "code": "unknown_book", "message": "no", "at": 0, "retry": False}
    internal = {"type": "error", "code": "internal", "message": "no", "retry": False}
    rows = [{"book": B, "title": None, "label": None, "state": "live"}]
    broken = {**_status(B, why="halted", legs=_legs()), "digest": 7}
    hurt = {**_status(A, why="halted", legs=_legs()), "digest": 7}
    cases: list[tuple[str, list[Message]]] = [
        (
            "the last word of a book that left the mapping is its end",
            [
                _subscribe(ALL),
                _then({"say": _snapshot()}, f"a snapshot {A}", books={A: True}),
                _then({"say": _status()}, f"a status {A}", f"a removed:unmapped {A}", books={}),
                _then({"say": _gateway("unmapped")}, books={}),
                _then(
                    {"say": _snapshot(epoch=6, why="epoch")}, f"a snapshot {A}", books={A: True}
                ),  # mapped again
            ],
        ),
        (
            "so it is for a NO view and a stream with options",
            [
                _subscribe("*.*.no"),
                _subscribe(ALL, name="b", **shaped),
                {"say": _snapshot(NO)},
                _then({"say": _snapshot(**shaped)}, f"a snapshot {NO}", f"b snapshot {A}"),
                {"say": _status(NO)},
                _then(
                    {"say": _status(why="mapping", **shaped)},
                    *(
                        f"a status {NO}",
                        f"a removed:unmapped {NO}",
                        f"b status {A}",
                        f"b removed:mapping {A}",
                    ),
                    books={},
                ),
            ],
        ),
        (
            "a book that is down with its legs stays",
            [
                _subscribe(ALL),
                {"say": _snapshot()},
                _then(
                    {"say": _status(why="venue_silent", legs=_legs(state="down"))},
                    *(f"a snapshot {A}", f"a status {A}"),
                    books={A: True},
                ),
                _then({"pass_ms": 200_000}, books={A: True}, ops=[{"op": "subscribe", "books": [ALL]}]),
            ],
        ),
        (
            "the gateway forgets a book, one that waits since a gap too",
            [
                _subscribe(ALL),
                {"say": _snapshot()},
                _then({"say": _gateway("gap")}, f"a snapshot {A}", f"a lost:gateway {A}", books={A: False}),
                _then({"say": _gateway("unmapped")}, f"a removed:unmapped {A}", books={}),
            ],
        ),
        (
            "a closed book goes a little after its 60 s; one that opens again stays",
            [
                _subscribe(ALL),
                {"say": _snapshot()},
                {"say": _snapshot(B)},
                {"say": _status(state="closed", why="resolved", legs=_legs(state="closed"), result="yes")},
                _then(
                    {"say": _status(B, state="closed", why="closed", legs=_legs(state="closed"))},
                    *(f"a snapshot {A}", f"a snapshot {B}", f"a status {A}", f"a status {B}"),
                ),
                _then({"pass_ms": 30_000}, books={A: True, B: True}),
                _then({"say": _status(B, 3, "live", "leg_snapshot", legs=_legs())}, f"a status {B}"),
                _then({"pass_ms": 31_000}, books={A: True, B: True}),
                _then({"pass_ms": 10_000}, f"a removed:closed {A}", books={B: True}),
            ],
        ),
        (
            "a resync of a book that is gone ends it, and the others are asked for without it",
            [
                _subscribe(ALL),
                {"say": _snapshot()},
                {"say": _snapshot(B)},
                {"say": broken},
                _then(
                    {"say": hurt},
                    *(f"a snapshot {A}", f"a snapshot {B}", f"a lost:broken {B}", f"a lost:broken {A}"),
                    books={A: False, B: False},
                ),
                _then({"pass_ms": 1_000}, ops=[{"op": "subscribe"}, {"op": "resync", "unordered": [B, A]}]),
                _then({"answer": {**refused, "of": B}}, f"a removed:unknown_book {B}", books={A: False}),
                _then({"pass_ms": 5_000}, ops=[{"op": "resync", "books": [A]}]),
                _then({"say": _snapshot(seq=3, why="resync")}, f"a snapshot {A}", books={A: True}),
            ],
        ),
        (
            "a snapshot of one stream leaves another of the same book to be asked for",
            [
                _subscribe(ALL),
                _subscribe(ALL, name="b", **shaped),
                {"say": _snapshot()},
                {"say": _snapshot(**shaped)},
                _then(
                    {"say": {**hurt, **shaped}},
                    *(f"a snapshot {A}", f"b snapshot {A}", f"b lost:broken {A}"),
                ),
                _then({"say": _snapshot(seq=3, why="resync")}, f"a snapshot {A}"),
                _then(
                    {"pass_ms": 1_000},
                    ops=[{"op": "subscribe"}, {"op": "subscribe"}, {"op": "resync", "books": [A]}],
                    books={A: False},
                ),
                _then({"say": _snapshot(seq=3, why="resync", **shaped)}, f"b snapshot {A}", books={A: True}),
                _then({"pass_ms": 20_000}, ops=[]),
            ],
        ),
        (
            "a refusal that does not say which book leaves all to be asked for again",
            [
                _subscribe(ALL),
                {"say": _snapshot()},
                _then({"say": hurt}, f"a snapshot {A}", f"a lost:broken {A}"),
                _then({"pass_ms": 1_000}, ops=[{"op": "subscribe"}, {"op": "resync", "books": [A]}]),
                _then({"answer": internal}, books={A: False}),
                _then({"pass_ms": 5_000}, ops=[{"op": "resync", "books": [A]}], books={A: False}),
            ],
        ),
        (
            "a book that does not come again after a reconnect is over when the gateway does not list it",
            [
                _subscribe(ALL),
                {"say": _snapshot()},
                {"say": _snapshot(B)},
                {"end": 1012},
                _then(
                    {"pass_ms": 2_000},
                    *(f"a snapshot {A}", f"a snapshot {B}", f"a lost:disconnected {A}"),
                    *(f"a lost:disconnected {B}", "a disconnected", "a connected"),
                    books={A: False, B: False},
                ),
                _then({"say": _snapshot(B, 6)}, f"a snapshot {B}"),
                _then(
                    {"pass_ms": 12_000},
                    books={A: False, B: True},
                    ops=[{"op": "subscribe"}, {"op": "subscribe"}],
                ),  # one came: the gateway is not asked while it brings them
                _then({"pass_ms": 10_000}, books={A: False, B: True}, ops=[{"op": "list", "match": ALL}]),
                _then(
                    {"answer": {"type": "books", "books": [], "next": None}}, books={A: False, B: True}
                ),  # it knows none yet
                _then({"pass_ms": 25_000}, ops=[{"op": "list", "match": ALL}]),
                _then({"answer": {"type": "books"}}, books={A: False, B: True}),  # nothing of a list
                _then({"pass_ms": 45_000}, ops=[{"op": "list", "match": ALL}]),
                _then(
                    {"answer": {"type": "books", "books": rows, "next": None}},
                    f"a removed:unknown_book {A}",
                    books={B: True},
                ),
                _then({"pass_ms": 100_000}, books={B: True}, ops=[]),
            ],
        ),
        (
            "an asset that feeds another book now: whoever named the asset is told",
            [
                _subscribe("kalshi:KXFED-26DEC-C25"),
                _subscribe(A, name="b"),
                _then({"say": _snapshot()}, f"a snapshot {A}", f"b snapshot {A}"),
                _then(
                    {"say": _snapshot(epoch=6, legs=_legs("KXOTHER"), why="epoch")},
                    *(f"a removed:mapping {A}", f"b snapshot {A}"),
                    books={A: True},
                ),
                {"unsubscribe": "b"},
                _then({"pass_ms": 10}, books={}),
            ],
        ),
        (
            "nobody else named it: it is over",
            [
                _subscribe("kalshi:KXFED-26DEC-C25"),
                {"say": _snapshot()},
                _then(
                    {"say": _snapshot(epoch=6, legs=_legs("KXOTHER"), why="epoch")},
                    *(f"a snapshot {A}", f"a removed:mapping {A}"),
                    books={},
                ),
            ],
        ),
        (
            "a stream that goes on though it was over is asked for",
            [
                _subscribe(ALL),
                {"say": _snapshot()},
                _then({"say": _status()}, f"a snapshot {A}", f"a status {A}", f"a removed:unmapped {A}"),
                {"say": {**_status(seq=3), "type": "delta", "bids": [], "asks": []}},
                _then({"pass_ms": 1_000}, ops=[{"op": "subscribe"}, {"op": "resync", "books": [A]}]),
                _then({"answer": refused}, books={}),
                _then({"pass_ms": 20_000}, ops=[]),
            ],
        ),
    ]
    return [{"name": name, "steps": steps} for name, steps in cases]

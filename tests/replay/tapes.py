"""Recordings made from captured or written frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from wup.playback import Replay
from wup.playback import cli_run as run_replay
from wup.playback.sources import find


def write(path: Path, records: list[dict[str, Any]]) -> str:
    """One record a line."""
    path.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    return str(path)


def cli_run(files: list[str], out: str | None) -> dict[str, Any]:
    """What `wup replay FILES --out OUT` does; its summary."""
    return run_replay(Replay(find(files)), out)


def kalshi_capture(captures: Path) -> list[dict[str, Any]]:
    """The captured frames, each with its receive time."""
    lines = (captures / "kalshi" / "ws_orderbook_stream.compact.jsonl").read_text().splitlines()
    return [orjson.loads(line) for line in lines if line.strip()]


def kalshi_tape(captures: Path) -> list[dict[str, Any]]:
    """The Kalshi capture as a recording."""
    frames = kalshi_capture(captures)
    opened = {"kind": "open", "rx_us": frames[0]["recv_ms"] * 1000, "platform": "kalshi", "conn": "c1"}
    return [
        {**opened, "use_yes_price": False},
        *(
            {
                "rx_us": frame["recv_ms"] * 1000,
                "platform": "kalshi",
                "conn": "c1",
                "n": number,
                "raw": orjson.dumps(frame["frame"]).decode(),
            }
            for number, frame in enumerate(frames, 1)
        ),
    ]


def polymarket_array(captures: Path) -> str:
    """The captured books in the shape of the first frame, as text."""
    return (captures / "polymarket" / "fed_june_2026_ws_initial_array.json").read_text()


def polymarket_tape(captures: Path, *, catalog: bool) -> list[dict[str, Any]]:
    """The Polymarket capture as a recording, with or without what the catalogue says."""
    raw = polymarket_array(captures)
    tokens: dict[str, list[str]] = {}
    for item in orjson.loads(raw):
        tokens.setdefault(item["market"], []).append(item["asset_id"])
    records: list[dict[str, Any]] = [
        {
            "kind": "catalog",
            "rx_us": 1_778_997_825_900_000,
            "platform": "polymarket",
            "market_id": market,
            "assets": assets,
            "min_order_size": "5",
            "neg_risk": True,
        }
        for market, assets in tokens.items()
        if catalog
    ]
    frame = {"rx_us": 1_778_997_826_000_000, "platform": "polymarket", "conn": "c1", "n": 1, "raw": raw}
    return [*records, frame]

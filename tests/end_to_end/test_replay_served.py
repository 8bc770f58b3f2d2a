"""`wup replay --serve`: a client sees the recording, exact, and cannot take it for the present."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import orjson
from websockets.asyncio.client import connect

from end_to_end.running import command
from wup import MirrorBook

SAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "recording"
PART = ("--from", "2026-11-22T18:29:49Z", "--to", "2026-11-22T18:29:57Z")


async def test_a_served_recording_is_exact_and_marked() -> None:
    """Greeting, titles, stamps, `/readyz` and the end all say that this is no live stream; digests hold, also
    over faults in the recording."""
    async with command("replay", str(SAMPLE), *PART, "--serve", "--speed", "4", "--json") as served:
        ready = await served.until("ready")
        assert (ready["replay"], ready["speed"]) == (True, 4)
        mirrors: dict[str, MirrorBook] = {}
        titles: set[str] = set()
        states: dict[str, list[str]] = {}
        deltas = 0
        async with connect(ready["ws"]) as socket, asyncio.timeout(30):
            welcome = orjson.loads(await socket.recv())
            assert welcome["replay"] is True
            await socket.send('{"op":"subscribe","id":"1","books":[">"]}')
            async for text in socket:
                message = orjson.loads(text)
                if message["type"] not in ("snapshot", "delta", "status"):
                    continue
                mirror = mirrors.setdefault(message["book"], MirrorBook())
                assert mirror.apply(text.encode() if isinstance(text, str) else text) == "exact"
                assert message["ts"]["book"] < 1_795_372_300_000_000
                titles.add(message.get("title", "REPLAY"))
                states.setdefault(message["book"], []).append(message["state"])
                deltas += message["type"] == "delta"
                if message["type"] == "status" and all(seen[-1] == "down" for seen in states.values()):
                    break
        assert len(mirrors) == 6
        assert all(title.startswith("REPLAY") for title in titles)
        assert deltas > 50
        assert all("live" in seen for seen in states.values())
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"{ready['http']}/readyz")
            assert (answer.status_code, answer.json()) == (200, {"status": "ready", "warnings": ["replay"]})
            books = (await client.get(f"{ready['http']}/v1/books", params={"match": ">"})).json()
            assert {book["state"] for book in books["books"]} == {"down"}
        assert await served.end() == 0

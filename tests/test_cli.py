"""The command line: help, wrong settings, replay."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import orjson
import pytest

from end_to_end.running import environment
from wup.http_server import bind

if TYPE_CHECKING:
    from pathlib import Path


async def wup(*arguments: str, **more: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wup", *arguments),
        env=environment(more),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_help_names_every_verb() -> None:
    """`wup --help` lists the stages and the tools."""
    code, out, _ = await wup("--help", COLUMNS="120")
    assert code == 0
    for verb in (
        "aggregator",
        "normalizer",
        "orderbook",
        "events",
        "gateway",
        "up",
        "sim",
        "demo",
        "record",
        "replay",
        "verify",
        "book",
        "export",
        "watch",
    ):
        assert verb in out


async def test_wrong_settings_are_all_told_at_once() -> None:
    """Several wrong variables: one line each on stderr, exit 2, nothing started."""
    code, out, err = await wup("up", WS_PORT="no", SHARD="2/2", LOG_LEVEL="loud")
    assert code == 2
    assert out == ""
    assert all(name in err for name in ("WS_PORT", "SHARD", "LOG_LEVEL"))
    assert "Traceback" not in err


async def test_busy_ports_are_all_told_at_once() -> None:
    """Two taken ports: both settings named in one answer, exit 2, nothing started."""
    with bind("127.0.0.1", 0, "a") as one, bind("127.0.0.1", 0, "b") as two:
        busy = {"WS_PORT": str(one.getsockname()[1]), "EVENTS_HTTP_PORT": str(two.getsockname()[1])}
        code, out, err = await wup("up", METRICS_PORT="0", ORDERBOOK_HTTP_PORT="0", RECORD="false", **busy)
    assert code == 2
    assert out == ""
    assert all(f"set {name}" in err for name in busy), err
    assert "METRICS_PORT" not in err
    assert "Traceback" not in err


async def test_a_missing_mapping_file_is_told() -> None:
    """MAPPINGS that names nothing: exit 2 with the path."""
    code, _, err = await wup("up", MAPPINGS="/nowhere/mapping.toml")
    assert code == 2
    assert "/nowhere/mapping.toml" in err
    assert "Traceback" not in err


async def test_binding_beyond_this_machine_needs_tokens() -> None:
    """reliability.md W1: a foreign address without tokens is refused before anything listens."""
    code, _, err = await wup("gateway", BIND_HOST="0.0.0.0")
    assert code == 2
    assert "TOKENS_FILE" in err


async def test_a_readable_key_file_is_refused(tmp_path: Path) -> None:
    """A private key that others can read is refused with the mode it must have."""
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN PRIVATE KEY-----\n")
    key.chmod(0o644)
    code, _, err = await wup("aggregator", KALSHI_API_KEY_ID="id", KALSHI_PRIVATE_KEY_PATH=str(key))
    assert code == 2
    assert "chmod 600" in err


async def test_replay_twice_gives_identical_bytes(tmp_path: Path) -> None:
    """`wup replay FILE --out -` writes consolidated messages as JSON lines, the same bytes every time."""
    book = (
        '[{"market":"0xab","asset_id":"11","timestamp":"1778997825875","hash":"","bids":[{"price":"0.4","size":"5"}],'
        '"asks":[{"price":"0.6","size":"7.5"}],"event_type":"book"}]'
    )
    records = [
        {"kind": "start", "rx_us": 1_795_353_600_000_000, "epoch": 1_795_353_600_000, "version": "0.1.0"},
        {"kind": "open", "rx_us": 1_795_353_600_000_001, "platform": "polymarket", "conn": "c1"},
        {"rx_us": 1_795_353_600_000_002, "platform": "polymarket", "conn": "c1", "n": 1, "raw": book},
    ]
    tape = tmp_path / "tape.jsonl"
    tape.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    first = await wup("replay", str(tape), "--out", "-")
    second = await wup("replay", str(tape), "--out", "-")
    assert first[0] == 0
    assert first[1] == second[1]
    messages = [orjson.loads(line) for line in first[1].splitlines()]
    assert messages[0]["type"] == "snapshot"
    assert messages[-1]["state"] == "live"


async def test_replay_of_a_missing_file_is_a_clear_error() -> None:
    """A file that is not there: exit 2 and its name, no traceback."""
    code, _, err = await wup("replay", "/nowhere/tape.jsonl")
    assert code == 2
    assert "/nowhere/tape.jsonl" in err
    assert "Traceback" not in err


async def test_replay_of_garbage_is_no_success(tmp_path: Path) -> None:
    """Lines that cannot be read, or no frame at all: exit 1 with the counts."""
    tape = tmp_path / "tape.jsonl"
    tape.write_text('{"a":1}\nnot json\n')
    code, _, err = await wup("replay", str(tape))
    assert code == 1
    assert '"bad_lines":' in err
    tape.write_text("")
    assert (await wup("replay", str(tape)))[0] == 1


@pytest.mark.parametrize("stage", ["orderbook", "gateway", "events", "aggregator", "normalizer", "record"])
async def test_a_stage_that_waits_for_nats_can_be_stopped(stage: str) -> None:
    """While NATS is away a stage says once what it waits for, and SIGTERM ends it at once, exit 0."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wup", stage),
        env=environment({"NATS_URL": "nats://127.0.0.1:1", "REDIS_URL": "redis://127.0.0.1:1"}),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr is not None
    async with asyncio.timeout(30):
        said = await process.stderr.readline()
    assert b"nats://127.0.0.1:1" in said
    process.terminate()
    assert await asyncio.wait_for(process.wait(), 5) == 0


async def test_version() -> None:
    """`wup --version` prints the package's version."""
    import wup as package

    code, out, _ = await wup("--version")
    assert (code, out.strip()) == (0, package.__version__)

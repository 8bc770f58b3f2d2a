"""The simulators as a service: settings, key file, ports, truth, pairs and mapping file."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from wup.config import load
from wup.errors import PortInUse, SettingsError
from wup.sim import SimSettings, Simulators, mapping_file, run

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in list(os.environ):
        if name.startswith("SIM_") or name == "BIND_HOST":
            monkeypatch.delenv(name)
    return


async def test_run_until_stopped() -> None:
    """`run` reports the addresses once everything listens, and leaves nothing behind."""
    told: list[dict[str, Any]] = []
    stop = asyncio.Event()

    def ready(line: dict[str, Any]) -> None:
        told.append(line)
        asyncio.get_running_loop().call_later(0.05, stop.set)

    await run(SimSettings(sim_extra_events=2), ready, stop)
    (line,) = told
    assert line["type"] == "ready"
    assert set(line) >= {
        "POLYMARKET_WS_URL", "POLYMARKET_CLOB_URL", "POLYMARKET_GAMMA_URL", "KALSHI_WS_URL", "KALSHI_API_URL",
        "KALSHI_API_KEY_ID", "KALSHI_PRIVATE_KEY_PATH",
    }  # fmt: skip
    assert "kalshi:KXFEDDECISION-26DEC" in line["events"]
    assert len(line["events"]) == 8
    assert not Path(line["KALSHI_PRIVATE_KEY_PATH"]).parent.exists()


async def test_key_file(tmp_path: Path) -> None:
    """The private key is for its owner only; an existing key is used, another file refused."""
    path = tmp_path / "key.pem"
    first = Simulators(SimSettings(sim_kalshi_key_path=path))
    await first.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("-----BEGIN RSA PRIVATE KEY-----")
    await first.stop()
    kept = path.read_bytes()
    second = Simulators(SimSettings(sim_kalshi_key_path=path))
    await second.start()
    await second.stop()
    assert path.read_bytes() == kept
    path.write_text("my notes")
    with pytest.raises(SettingsError, match="SIM_KALSHI_KEY_PATH"):
        await Simulators(SimSettings(sim_kalshi_key_path=path)).start()
    assert path.read_text() == "my notes"


@pytest.mark.parametrize(
    "name",
    ["sim_kalshi_ws_port", "sim_kalshi_http_port", "sim_polymarket_ws_port", "sim_polymarket_http_port"],
)
async def test_busy_port_names_its_setting(name: str, simulators: Simulators) -> None:
    """A taken port is an error that names the variable to change, and everything else is stopped again."""
    taken = int(simulators.env()["POLYMARKET_WS_URL"].rpartition(":")[2].partition("/")[0])
    other = Simulators(SimSettings(**{name: taken}))  # type: ignore[arg-type]
    with pytest.raises(PortInUse, match=name.upper()):
        await other.start()
    assert other.env() == {}


async def test_one_venue_only() -> None:
    """With one venue chosen only it is served and only its legs are in the pairs."""
    made = Simulators(SimSettings(sim_venues=("polymarket",)))
    await made.start()
    assert set(made.env()) == {"POLYMARKET_WS_URL", "POLYMARKET_CLOB_URL", "POLYMARKET_GAMMA_URL"}
    assert {leg["platform"] for pair in made.pairs for leg in pair["legs"]} == {"polymarket"}
    async with httpx2.AsyncClient() as http:
        assert (await http.get(f"{made.control_url()}/pairs")).json() == made.pairs
    await made.stop()
    await made.stop()


def test_settings_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong settings are told all at once, by name."""
    monkeypatch.setenv("SIM_RATE", "0")
    monkeypatch.setenv("SIM_VENUES", "kalshi, nowhere")
    monkeypatch.setenv("BIND_HOST", "0.0.0.0")
    monkeypatch.setenv("SIM_KALSHI_WS_PORT", "70000")
    with pytest.raises(SettingsError) as wrong:
        load(SimSettings)
    assert [line.partition(":")[0] for line in wrong.value.problems] == [
        "SIM_RATE", "SIM_VENUES", "SIM_KALSHI_WS_PORT", "BIND_HOST"
    ]  # fmt: skip


async def test_truth_over_http(simulators: Simulators) -> None:
    """The truth is served now and at a time, for both tokens; what is unknown or forgotten is null."""
    asset = simulators.pairs[1]["legs"][1]["asset_id"]
    market = simulators.model.by_asset["polymarket", asset]
    async with httpx2.AsyncClient(base_url=simulators.control_url()) as http:
        at_us = market.changed_us
        books = (await http.get("/books", params={"asset": asset, "at_us": at_us})).json()["books"]
        assert [item["platform"] for item in books] == ["polymarket"]
        queries = [["polymarket", asset, at_us], ["polymarket", market.listing.assets[1], at_us],
                   ["polymarket", asset, 1_000], ["kalshi", asset, at_us]]  # fmt: skip
        yes, no, early, unknown = (await http.post("/truth", json={"queries": queries})).json()
        assert yes["bids"] == books[0]["bids"]
        assert [size for _, size in no["asks"]] == [size for _, size in yes["bids"]]
        assert early is None
        assert unknown is None
        assert len((await http.get("/books")).json()["books"]) == len(simulators.model.by_asset)
        assert (await http.get("/books", params={"asset": "nothing"})).status_code == 404
        assert (await http.post("/truth", json={"queries": [["kalshi"]]})).status_code == 422


async def test_pairs_and_mapping_file(simulators: Simulators) -> None:
    """The mapping file says what the pairs say, with the hash of the rules that REST serves."""
    game = [pair for pair in simulators.pairs if pair["aggregate"].startswith("mlb")]
    assert [[leg["inverted"] for leg in pair["legs"]] for pair in game] == [[False, True, False]]
    parsed = tomllib.loads(mapping_file(simulators.pairs))
    assert parsed["version"] == 1
    assert [item["id"] for item in parsed["aggregate"]] == ["fed-2026-12", "mlb-tex-nyy-2026-12-01"]
    keys = [market["key"] for item in parsed["aggregate"] for market in item["market"]]
    assert keys == [pair["key"] for pair in simulators.pairs]
    assert "wup1|fed:2026-12|rate_decision|cut-25|-|meeting" in keys
    legs = [leg for item in parsed["aggregate"] for market in item["market"] for leg in market["leg"]]
    assert len(legs) == 13
    env = simulators.env()
    rules = {}
    async with httpx2.AsyncClient() as http:
        for market in (await http.get(f"{env['KALSHI_API_URL']}/markets")).json()["markets"]:
            text = market["rules_primary"]
            rules[market["ticker"]] = (
                f"{text}\n\n{market['rules_secondary']}" if market["rules_secondary"] else text
            )
        for market in (await http.get(f"{env['POLYMARKET_GAMMA_URL']}/markets/keyset")).json()["markets"]:
            text, source = market["description"], market["resolutionSource"]
            rules[market["conditionId"]] = f"{text}\n\n{source}" if source else text
    for leg in legs:
        assert leg["rules_sha256"] == hashlib.sha256(rules[leg["market"]].encode()).hexdigest()
        assert leg["status"] == "confirmed"


def test_stands_alone() -> None:
    """The simulators load without the adapters, the normalizer or any stage."""
    code = (
        "import sys, wup.sim.service; "
        "print([m for m in sys.modules if m.startswith(('wup.venues.', 'wup.normalizer.', 'wup.orderbook.', "
        "'wup.gateway.', 'wup.aggregator.', 'wup.events.'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_extra_events_scale() -> None:
    """Hundreds of generated events give thousands of assets, each with its own book and pair."""
    made = Simulators(SimSettings(sim_extra_events=300))
    assert len(made.model.markets) == 13 + 300 * 8
    assert len(made.pairs) == 6 + 300 * 4
    assert all(market.book.best_bid() and market.book.best_ask() for market in made.model.markets)

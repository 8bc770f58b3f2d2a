"""Discovery of the simulated venues, from their REST to the table that every stage gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from wup.bus import LocalBus
from wup.config import Settings
from wup.events.service import EventService
from wup.mapping.source import MappingSource
from wup.sim import SimSettings, Simulators, mapping_file


async def test_simulators_to_table(redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Discovery of both simulated venues and their mapping file end in six books with thirteen legs."""
    sims = Simulators(SimSettings(sim_seed=1))
    await sims.start()
    for name, value in sims.env().items():
        monkeypatch.setenv(name, value)
    from wup.venues.registry import VENUES

    (tmp_path / "demo.toml").write_text(mapping_file(sims.pairs))
    bus = LocalBus()
    settings = Settings(mappings=str(tmp_path), events_http_port=0)
    catalogues = {name: venue.catalogue(venue.settings()) for name, venue in VENUES.items()}
    service = EventService(settings, bus, redis_url, catalogues)
    await service.start()
    source = MappingSource(redis_url, bus)
    table = await source.start()
    expected = {
        (leg["asset_id"], leg["inverted"], pair["aggregate"]) for pair in sims.pairs for leg in pair["legs"]
    }
    assert {(x.asset_id, x.inverted, x.book.split(".")[0]) for x in table.legs} == expected
    assert len(table.legs) == 13
    assert len(table.books) == 6
    assert all(x.suspended is None and x.tick and x.min_size for x in table.legs)
    assert service.compiler.problems() == []
    await source.stop()
    await service.stop()
    await sims.stop()

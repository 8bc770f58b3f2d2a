"""The walk of docs/mapping.md on the simulators: suggest, series, review, link, publish, history."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import wup
from mapping.files import aggregate, market
from wup import config
from wup.bus import LocalBus
from wup.config import Settings
from wup.events.command import register
from wup.events.service import EventService
from wup.mapping.command import app as map_app
from wup.mapping.console import walk
from wup.mapping.file import MappingFiles, parse, read
from wup.mapping.source import MappingSource
from wup.mapping.suggest import suggest
from wup.mapping.write import dump_aggregate
from wup.sim import SimSettings, Simulators, mapping_file
from wup.sim.listed import build_world
from wup.sim.mapping import pairs_of
from wup.venues.identities import GAMES
from wup.venues.registry import VENUES

PAGE = (Path(wup.__file__).parents[2] / "docs" / "mapping.md").read_text()
PLATFORMS = tuple(VENUES)


@pytest.fixture
async def sims(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Simulators]:
    """Both simulated venues; the environment names their addresses."""
    running = Simulators(SimSettings(sim_seed=1))
    await running.start()
    for name, value in running.env().items():
        monkeypatch.setenv(name, value)
    yield running
    await running.stop()


@pytest.fixture
async def service(
    sims: Simulators, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[EventService]:
    """An event service over them, with an empty folder of mapping files."""
    (tmp_path / "mappings").mkdir()
    monkeypatch.chdir(tmp_path)
    catalogues = {name: venue.catalogue(config.load(venue.settings)) for name, venue in VENUES.items()}
    settings = Settings(mappings="mappings", events_http_port=0, refresh_interval_secs=1)
    running = EventService(settings, LocalBus(), redis_url, catalogues)
    await running.start()
    monkeypatch.setenv("EVENTS_SERVICE_URL", f"http://127.0.0.1:{running.port}")
    yield running
    await running.stop()


async def run(command: str, answers: str = "") -> tuple[int, str]:
    """Exit code and output of a `wup ...` command line."""
    app = typer.Typer()
    app.add_typer(map_app, name="map")
    register(app)
    words = shlex.split(command)
    assert words.pop(0) == "wup"
    result = await asyncio.to_thread(CliRunner().invoke, app, words, input=answers)
    return result.exit_code, result.output


def text_of(path: str) -> str:
    """A file's text, "" where there is none."""
    return Path(path).read_text() if Path(path).exists() else ""


def write(path: str, text: str) -> None:
    """Write a file; remove it for the empty text."""
    if text:
        Path(path).write_text(text)
    else:
        Path(path).unlink()


def documented(heading: str) -> list[str]:
    """The `wup` commands of the console block under a heading of the page."""
    part = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```console\n(.*?)```", part, re.S)
    return [
        line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")
    ]


async def test_the_walk_of_the_documentation(service: EventService, redis_url: str) -> None:
    """Every command of the page, in its order, does what the page says: proposals change no book, a series
    rule confirms the game, a person's word the rest; published means that a stage has it."""
    commands = documented("A walk from nothing to merged books")
    answers = {"series": "y\ny\n", "review": "s\n" * 3, "link": "s\n" + "n\n" * 50}
    outputs: dict[str, list[str]] = {}
    for command in commands:
        verb = command.split()[2] if command.startswith("wup map") else command.split()[1]
        code, output = await run(command, answers.get(verb, ""))
        assert code == 0, f"{command}: {output}"
        outputs.setdefault(verb, []).append(output)
    assert list(outputs) == ["suggest", "series", "review", "lint", "publish", "history", "show"]
    first, second = outputs["suggest"]
    assert "0 of them confirmed by a series rule" in first
    assert "no series rule for" in first
    assert "1 new suggestions, 1 of them confirmed by a series rule" in second
    assert "in force" in outputs["publish"][0]
    assert "fed-decision" in outputs["history"][0]
    files, problems = read(Path("mappings"))
    assert problems == []
    legs = [leg for entry in files.aggregates for market in entry.market for leg in market.leg]
    assert {leg.confirmed_by for leg in legs} == {"auto:series_rule", "human:ab"}
    assert all(leg.market in outputs["show"][0] for leg in legs), "ids are shown in full"
    source = MappingSource(redis_url, LocalBus())
    table = await source.start()
    await source.stop()
    by_book: dict[str, set[str]] = {}
    for leg in table.legs:
        by_book.setdefault(leg.book, set()).add(leg.platform)
    merged = [book for book, platforms in by_book.items() if len(platforms) > 1]
    assert sorted(book.partition(".")[0][:3] for book in merged) == ["fed", "fed", "fed", "mlb"]
    (game,) = (book for book in merged if book.startswith("mlb"))
    turned = {leg.market_id: leg.inverted for leg in table.legs if leg.book == game}
    assert turned["KXMLBGAME-26DEC012305TEXNYY-TEX"] is False
    assert turned["KXMLBGAME-26DEC012305TEXNYY-NYY"] is True


async def test_a_suggestion_is_not_made_twice_and_survives_decisions(service: EventService) -> None:
    """A second run finds nothing new; what was rejected stays rejected, comments and all."""
    await run("wup map suggest")
    target = "mappings/suggested.toml"
    assert "0 new suggestions" in (await run("wup map suggest"))[1]
    text = text_of(target)
    code, output = await run("wup map review --by ab", "r\nanother day\n" + "r\n\n" * 4)
    assert code == 0, output
    write(target, "# kept\n" + text_of(target))
    assert "0 new suggestions" in (await run("wup map suggest"))[1]
    assert text_of(target).startswith("# kept\n")
    assert text.count('"proposed"') == 9
    assert text_of(target).count('"rejected"') == 5
    assert text_of(target).count('reason = "another day"') == 1


async def test_named_events_are_never_enough_to_confirm(service: EventService) -> None:
    """With a rule at hand, a pair named on the command line is only proposed: other games were not seen."""
    game = "kalshi:KXMLBGAME-26DEC012305TEXNYY polymarket:mlb-tex-nyy-2026-12-01"
    code, output = await run(f"wup map series {game} --league mlb --by ab", "y\ny\n")
    assert code == 0, output
    code, output = await run(f"wup map suggest {game}")
    assert (code, "0 of them confirmed" in output) == (0, True)
    code, output = await run("wup map suggest")
    assert "1 new suggestions, 1 of them confirmed" in output.replace(
        "2 new suggestions", "1 new suggestions"
    )


async def test_a_series_rule_needs_a_yes(service: EventService) -> None:
    """Both rule texts are shown; without a yes nothing is written."""
    game = "kalshi:KXMLBGAME-26DEC012305TEXNYY polymarket:mlb-tex-nyy-2026-12-01"
    code, output = await run(f"wup map series {game} --league mlb", "y\n\n")
    assert code == 0
    assert "nothing written; each game" in output
    assert "professional baseball game" in output
    assert "Extra innings count" in output
    assert text_of("mappings/series.toml") == ""


async def test_publish_refuses_what_is_wrong(service: EventService) -> None:
    """Files with errors: every error, exit 2, nothing published; the mapping in force stays."""
    await service.settled()
    before = service.version
    write("mappings/bad.toml", '[[aggregate]]\nid = "a b"\ntitle = ""\n')
    code, output = await run("wup map publish")
    assert code == 2
    assert "bad.toml:2" in output
    assert "bad.toml:3" in output
    assert "nothing published" in output
    assert service.version == before
    # The service itself refuses too, whoever asks.
    code, output = await run("wup map publish --no-venues")
    assert code == 2
    write("mappings/bad.toml", "")
    assert (await run("wup map publish"))[0] == 0


async def test_publish_of_other_files_is_told(service: EventService, tmp_path: Path) -> None:
    """The service reads another folder than the command: said, with exit 2."""
    write("mappings/a.toml", aggregate("a", market("wup1|a|k|s|-|p")))
    assert (await run("wup map publish"))[0] == 0
    write("mappings/b.toml", "# only a comment")
    assert (await run("wup map publish"))[0] == 0
    write("other.toml", aggregate("b", market("wup1|b|k|s|-|p")))
    code, output = await run("wup map publish --mappings other.toml")
    assert (code, "reads other files than other.toml" in output) == (2, True)


@pytest.mark.parametrize("seed", [2, 3])
async def test_suggestions_over_simulated_catalogues(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Against the truth of the simulators: every proposed pair is one, the right way round, and nearly all
    are proposed; only the game confirms, under its rule."""
    sims = Simulators(SimSettings(sim_seed=seed, sim_extra_events=25))
    await sims.start()
    try:
        for name, value in sims.env().items():
            monkeypatch.setenv(name, value)
        events, problems = await walk()
    finally:
        await sims.stop()
    assert problems == []
    truth = {
        frozenset((one["market_id"], two["market_id"])): one["inverted"] == two["inverted"]
        for pair in pairs_of(build_world(25), PLATFORMS)
        for one in pair["legs"]
        for two in pair["legs"]
        if one is not two
    }
    rules = read(Path(wup.__file__).parents[2] / "examples" / "mapping.toml")[0].series
    found = suggest(
        events, MappingFiles(1, (), (), rules), GAMES, PLATFORMS, at=datetime(2026, 11, 20, tzinfo=UTC)
    )
    proposed = {
        frozenset((one.market, two.market)): one.polarity == two.polarity
        for suggestion in found
        for entry in suggestion.entry.market
        for one in entry.leg
        for two in entry.leg
        if one is not two
    }
    assert proposed.items() <= truth.items(), "a wrong pair, or the wrong way round"
    # Two outcomes of the rate decision are worded with other bounds: those wait for wup map link.
    assert len(truth) - len(proposed) == 2
    assert [s.entry.league for s in found if s.confirmed] == ["mlb"]


async def test_publish_and_history_without_a_service() -> None:
    """No service at the address: one sentence, exit 2."""
    code, output = await run("wup map history --url http://127.0.0.1:1")
    assert (code, "no event service at" in output) == (2, True)


async def test_a_rule_is_widened_by_another_game(service: EventService) -> None:
    """`wup map series` for a series that has a rule adds names and texts to it, where it stands."""
    game = "kalshi:KXMLBGAME-26DEC012305TEXNYY polymarket:mlb-tex-nyy-2026-12-01"
    assert (await run(f"wup map series {game} --league mlb --by ab", "y\ny\n"))[0] == 0
    text = text_of("mappings/series.toml")
    older = re.sub(r"names = .*", 'names = { "Boston Red Sox" = "Boston" }', text)
    older = "# kept\n" + re.sub(r'"[0-9a-f]{64}"', f'"{"0" * 64}"', older)
    write(
        "mappings/series.toml",
        older + "\n# about the next\n" + aggregate("a", market("wup1|a|k|s|-|p")) + "\n",
    )
    code, output = await run(f"wup map series {game} --league other --by cd", "y\ny\n")
    assert code == 0, output
    files, problems = read(Path("mappings"))
    assert problems == []
    (rule,) = files.series
    assert rule.names == {
        "Boston Red Sox": "Boston",
        "Texas Rangers": "Texas",
        "New York Yankees": "New York Y",
    }
    assert [len(side.rules) for side in rule.side] == [3, 2]
    assert (rule.league, rule.confirmed_by) == ("mlb", "human:cd")
    text = text_of("mappings/series.toml")
    assert text.startswith("# kept\n")
    assert "\n# about the next\n[[aggregate]]\n" in text


async def test_the_example_fits_the_simulators(sims: Simulators) -> None:
    """examples/mapping.toml passes every check against the simulated venues, is what `wup sim --mapping`
    writes, and its series rule alone confirms the game."""
    example = Path(wup.__file__).parents[2] / "examples" / "mapping.toml"
    code, output = await run(f"wup map lint --venues --mappings {example}")
    assert (code, "no problem" in output) == (0, True), output
    files, _ = read(example)
    ours, problems = parse(mapping_file(pairs_of(build_world(0), PLATFORMS)), "sim.toml")
    assert ours is not None, problems
    assert [dump_aggregate(entry) for entry in files.aggregates] == [
        dump_aggregate(entry) for entry in ours.aggregates
    ]
    events, problems = await walk()
    assert problems == []
    alone = MappingFiles(1, (), (), files.series)
    found = suggest(events, alone, GAMES, PLATFORMS, at=datetime(2026, 11, 20, tzinfo=UTC))
    assert [s.entry.league for s in found if s.confirmed] == ["mlb"]
    (confirmed,) = (s.entry for s in found if s.confirmed)
    legs = {leg.market: leg.polarity for market in confirmed.market for leg in market.leg}
    theirs = {leg.market: leg.polarity for e in files.aggregates for m in e.market for leg in m.leg}
    assert legs.items() <= theirs.items(), "the same legs, the same way round"

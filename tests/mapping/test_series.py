"""What confirms by itself: every field in agreement, under a rule that a person wrote; else a proposal."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapping.files import venue_event, venue_market
from mapping.games import PLACES, Teams, files, kalshi, polymarket, rule
from wup.mapping.catalogue import VenueEventRecord
from wup.mapping.compile import Compiler
from wup.mapping.file import MappingFiles, parse
from wup.mapping.link import joined
from wup.mapping.lint import lint
from wup.mapping.suggest import Suggestion, suggest
from wup.mapping.write import dump_aggregate, dump_series
from wup.venues.identities import GAMES, IDENTITIES
from wup.venues.kalshi.identity import start_of

AT = datetime(2026, 1, 8, 10, tzinfo=UTC)
PLATFORMS = ("kalshi", "polymarket")
START = datetime(2026, 1, 10, 0, 30, tzinfo=UTC)
GAME = Teams("nba", "MIL", "LAL", START)
TICKER, SLUG = "KXNBAGAME-26JAN09MILLAL", "nba-mil-lal-2026-01-09"
NBA = rule("nba", "KXNBAGAME", "nba")


def suggested(rules: MappingFiles, *events: VenueEventRecord) -> list[Suggestion]:
    return suggest(events, rules, GAMES, PLATFORMS, at=AT)


def ours(**changes: object) -> VenueEventRecord:
    return kalshi(GAME, TICKER, "KXNBAGAME", **changes)


def theirs(**changes: object) -> VenueEventRecord:
    return polymarket(GAME, SLUG, tokens={}, **changes)  # type: ignore[arg-type]


def polarities(found: Suggestion) -> dict[str, str]:
    return {leg.market: leg.polarity for market in found.entry.market for leg in market.leg}


@pytest.mark.parametrize("swapped", [False, True])
def test_a_game_confirms_with_the_polarity_of_its_names(swapped: bool) -> None:
    """Three legs, whichever team the venue lists first; the key is the design's."""
    (found,) = suggested(files(NBA), ours(), theirs(swapped=swapped))
    assert found.confirmed, found.doubts
    assert polarities(found) == {
        f"{TICKER}-MIL": "same",
        f"{TICKER}-LAL": "inverted",
        f"0x{SLUG}": "inverted" if swapped else "same",
    }
    (market,) = found.entry.market
    assert market.key == "wup1|nba:mil@lal:2026-01-10T00:30Z:g1|moneyline|mil|-|game"
    assert found.entry.id == "nba-mil-lal-2026-01-09"
    assert {leg.confirmed_by for leg in market.leg} == {"auto:series_rule"}
    assert {leg.evidence.source for leg in market.leg if leg.evidence} == {"deterministic_key"}
    assert lint(joined(files(NBA), found.entry), PLATFORMS) == []


def _other_text(event: VenueEventRecord, **changes: object) -> VenueEventRecord:
    return replace(event, markets=tuple(replace(m, **changes) for m in event.markets))  # type: ignore[arg-type]


Case = Callable[[], tuple[MappingFiles, list[VenueEventRecord]]]
DOUBTS: dict[str, tuple[Case, str]] = {
    "no rule": (lambda: (files(), [ours(), theirs()]), "no series rule"),
    "a rule of another series": (
        lambda: (files(rule("nfl", "KXNFLGAME", "nfl")), [ours(), theirs()]),
        "no series rule",
    ),
    "another rule text": (
        lambda: (files(NBA), [ours(), _other_text(theirs(), rules="If the Bucks win, it pays.")]),
        "is none that the series rule names",
    ),
    "one market's rule text is about the other team": (
        lambda: (
            files(NBA),
            [
                replace(
                    ours(),
                    markets=(
                        replace(ours().markets[0], rules=ours().markets[1].rules),
                        replace(ours().markets[1], rules=ours().markets[0].rules),
                    ),
                ),
                theirs(),
            ],
        ),
        "is none that the series rule names",
    ),
    "the outcomes are turned, the text is not": (
        lambda: (
            files(NBA),
            [ours(), _other_text(theirs(), outcomes=("Lakers", "Bucks"), question="Lakers vs. Bucks")],
        ),
        "is none that the series rule names",
    ),
    "the text is about another day": (
        lambda: (
            files(NBA),
            [kalshi(replace(GAME, day="2026-01-12"), TICKER, "KXNBAGAME"), theirs()],
        ),
        "names another day",
    ),
    "a second game that fits": (
        lambda: (
            files(NBA),
            [ours(), theirs(), polymarket(GAME, f"{SLUG}-game2", tokens={})],
        ),
        "more than one game",
    ),
    "a double-header": (
        lambda: (files(NBA), [kalshi(GAME, TICKER + "G1", "KXNBAGAME"), theirs()]),
        "counts the games of that day",
    ),
    "the start to the minute is not told": (
        lambda: (files(rule("nba", "KXNBAGAME", "nba", start="minute")), [ours(), theirs()]),
        "to the minute",
    ),
    "resolved": (lambda: (files(NBA), [ours(status="resolved"), theirs()]), "is resolved"),
    "names that only contain each other": (
        lambda: (
            files(NBA.replace('"Bucks" = "Milwaukee"', '"Bucks" = "Milwaukee St."')),
            [ours(), theirs()],
        ),
        "not known to be one name",
    ),
    "names that nobody listed": (
        lambda: (files(NBA.replace('"Bucks" = "Milwaukee", ', "")), [ours(), theirs()]),
        "by codes only",
    ),
    "not clean": (
        lambda: (
            files(NBA.replace('tie = "impossible"', 'tie = "impossible"\nfungibility = "timing"')),
            [ours(), theirs()],
        ),
        "timing, not clean",
    ),
}


@pytest.mark.parametrize("name", DOUBTS)
def test_any_doubt_makes_it_a_proposal(name: str) -> None:
    """Each gate alone: the pair is still shown, no leg is confirmed, and the reason is said."""
    make, reason = DOUBTS[name]
    rules, events = make()
    found = [s for s in suggested(rules, *events) if s.entry.league is not None]
    assert found
    for suggestion in found:
        assert not suggestion.confirmed
        assert reason in " ".join(suggestion.doubts)
        legs = [leg for market in suggestion.entry.market for leg in market.leg]
        assert {leg.status for leg in legs} == {"proposed"}
        assert {leg.confirmed_by for leg in legs} == {None}


def test_another_game_is_not_even_proposed() -> None:
    """Other teams, another day, or a start hours away: nothing to look at."""
    other = Teams("nba", "SAC", "GSW", START)
    assert suggested(files(NBA), ours(), polymarket(other, "nba-sac-gsw-2026-01-09", tokens={})) == []
    later = replace(GAME, start=START + timedelta(days=1), day="2026-01-10")
    assert suggested(files(NBA), ours(), polymarket(later, "nba-mil-lal-2026-01-10", tokens={})) == []
    timed = kalshi(GAME, "KXNBAGAME-26JAN091300MILLAL", "KXNBAGAME")
    assert suggested(files(NBA), timed, theirs()) == []


def test_a_tie_makes_it_no_two_sided_game() -> None:
    """A third market "Tie": not a game of two values, so never confirmed by a series rule."""
    event = ours()
    tie = replace(event.markets[0], market_id=f"{TICKER}-TIE", facts={"yes_sub_title": "Tie"})
    assert GAMES["kalshi"](replace(event, markets=(*event.markets, tie))) is None


def test_what_the_files_know_is_not_suggested_again() -> None:
    """Claimed, proposed or rejected markets stay as a person left them."""
    (found,) = suggested(files(NBA), ours(), theirs())
    assert suggested(joined(files(NBA), found.entry), ours(), theirs()) == []


def test_what_a_person_took_back_is_not_suggested_again() -> None:
    """A game whose legs were all retired stays retired, under whatever name it stood."""
    (found,) = suggested(files(NBA), ours(), theirs())
    market = found.entry.market[0]
    legs = tuple(leg.model_copy(update={"status": "retired"}) for leg in market.leg)
    retired = found.entry.model_copy(
        update={"id": "by-hand", "market": (market.model_copy(update={"leg": legs}),)}
    )
    assert suggested(joined(files(NBA), retired), ours(), theirs()) == []


def labelled(captures: Path) -> list[dict[str, str]]:
    """The labelled pairs."""
    with (captures / "matching" / "pairs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("swapped", [False, True])
def test_the_labelled_games_confirm_with_the_right_polarity(captures: Path, swapped: bool) -> None:
    """The 17 labelled game rows, with catalogue records typed here: all confirmed; and the book's YES, read
    through Kalshi's market and through the labelled token, is the same side."""
    rows = [row for row in labelled(captures) if row["grain"] == "outcome"]
    assert len(rows) == 17
    tokens: dict[str, dict[str, str]] = {}
    games: dict[str, tuple[str, Teams]] = {}
    leagues = {"KXNBAGAME": "nba", "KXNFLGAME": "nfl", "KXNCAAFGAME": "ncaaf"}
    for row in rows:
        event, _, code = row["id_a"].rpartition("-")
        token, _, slug = row["id_b"].removeprefix("token:").partition("|slug:")
        series, _, rest = event.partition("-")
        sides = rest[7:]
        other = sides.removeprefix(code) if sides.startswith(code) else sides.removesuffix(code)
        away, home = (code, other) if sides.startswith(code) else (other, code)
        day = slug[-10:]
        start = datetime.fromisoformat(f"{day}T00:30:00+00:00") + timedelta(days=1)
        games[event] = (slug, Teams(leagues[series], away, home, start, day))
        tokens.setdefault(slug, {})[code] = token
    events = [kalshi(game, event, event.partition("-")[0]) for event, (_, game) in games.items()]
    events += [polymarket(game, slug, tokens=tokens[slug], swapped=swapped) for slug, game in games.values()]
    rules = files(NBA, rule("nfl", "KXNFLGAME", "nfl"), rule("ncaaf", "KXNCAAFGAME", "cfp"))
    found = suggested(rules, *events)
    assert [s.doubts for s in found] == [()] * len(games)
    after = rules
    for suggestion in found:
        after = joined(after, suggestion.entry)
    assert lint(after, PLATFORMS) == []
    compiler = Compiler()
    compiler.set_files(after)
    for each in events:
        compiler.set_event(each)
    assert compiler.problems() == []
    legs = {leg.market_id: leg for leg in compiler.table(1).legs if leg.suspended is None}
    by_asset = {leg.asset_id: leg for leg in legs.values()}
    for row in rows:
        token, _, slug = row["id_b"].removeprefix("token:").partition("|slug:")
        here = legs[row["id_a"]]
        listed = next(m for e in events if e.slug == slug for m in e.markets if token in m.assets)
        there = by_asset[listed.asset_id]
        assert here.book == there.book
        # A token that is not the one followed is its complement.
        token_inverted = there.inverted != (token != listed.asset_id)
        assert (here.inverted == token_inverted) == (row["polarity"] == "same"), row["id_a"]


def as_listed(row: dict[str, str]) -> tuple[MappingFiles, list[VenueEventRecord]] | None:
    """A labelled pair of game ids as catalogue records that agree in all that the ids do not contradict:
    names are the codes, texts are those of a rule for this very pair of series, starts are equal."""
    one, two = IDENTITIES["kalshi"](row["id_a"]), IDENTITIES["polymarket_us"](row["id_b"])
    slug = row["id_b"].partition("-")[2]
    if one.day is None or two.day is None or len(two.sides) != 2:
        return None
    event = "-".join(row["id_a"].split("-")[:2])
    series = event.partition("-")[0]
    at = next((i for i in range(2, len(one.sides[0]) - 1) if one.sides[0][:i] in two.sides), 3)
    codes = [one.sides[0][:at].upper(), one.sides[0][at:].upper()]
    league = two.league or ""
    PLACES["any"] = {code: (f"Team {code}", f"Team {code}") for code in (*codes, *map(str.upper, two.sides))}
    start = datetime(two.day.year, two.day.month, two.day.day, 23, tzinfo=UTC)
    here = kalshi(Teams("any", *codes, start, str(one.day)), event, series)  # type: ignore[arg-type]
    theirs = [code.upper() for code in two.sides]
    there = polymarket(Teams("any", *theirs, start, str(two.day)), slug, tokens={})  # type: ignore[arg-type]
    kind = {"aec": "moneyline", "atc": "moneyline", "asc": "spreads", "tsc": "totals"}
    word = kind.get(row["id_b"].partition("-")[0], "props")
    listed = replace(there.markets[1], facts={**there.markets[1].facts, "sports_market_type": word})
    there = replace(there, markets=(listed,))
    clock = start_of(event)
    if clock is not None:
        began = datetime.combine(one.day, clock, tzinfo=ZoneInfo("America/New_York")).astimezone(UTC)
        moved = {**listed.facts, "start": began.isoformat()}
        there = replace(there, markets=(replace(listed, facts=moved),))
    return files(rule("any", series, league)), [here, there]


def test_no_row_labelled_no_match_ever_confirms(captures: Path) -> None:
    """Every no_match row as catalogue records that agree in all that the ids do not contradict, under a rule
    for that very pair of series: none confirms. The same records of matched rows do, so it is the gates."""
    refused = confirmed = 0
    for row in labelled(captures):
        if row["source"] != "zhinit":
            continue
        made = as_listed(row)
        if made is None:
            continue
        rules, events = made
        found = any(s.confirmed for s in suggested(rules, *events))
        if row["label"] == "no_match":
            assert not found, row
            refused += 1
        else:
            confirmed += found
    assert refused > 400
    assert confirmed > 50


def test_strikes_never_confirm(captures: Path) -> None:
    """Rows about prices, matched or not, wait for a person: near strikes are not even proposed."""
    for row in labelled(captures):
        if row["source"] != "cjudice":
            continue
        one, two = IDENTITIES["kalshi"](row["id_a"]), IDENTITIES["polymarket"](row["id_b"])
        here = venue_market(row["id_a"], label="a price", line=str(one.line))
        there = venue_market(f"0x{row['id_b']}", label="a price", line=str(two.line))
        found = suggested(
            files(NBA),
            venue_event("kalshi", "K", here, title="What price will it reach in July?"),
            venue_event("polymarket", "p", there, title="What price will it reach in July?"),
        )
        assert not any(s.confirmed for s in found)
        assert bool(found) == (row["label"] != "no_match"), row


def test_a_rule_is_written_and_read_alike() -> None:
    """What `dump_series` writes is the rule again."""
    (entry,) = files(NBA).series
    again, problems = parse(dump_series(entry), "y.toml")
    assert again is not None, problems
    (other,) = again.series
    strip = {"where": True, "side": {"__all__": {"where"}}}
    assert other.model_dump(exclude=strip) == entry.model_dump(exclude=strip)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (('"polymarket"', '"nowhere"'), "unknown platform 'nowhere'"),
        (('tie = "impossible"', 'tie = "impossible"\ntimezone = "Mars/Olympus"'), "unknown timezone"),
        (('platform = "polymarket"', 'platform = "kalshi"'), "stands twice"),
    ],
)
def test_lint_checks_series_rules(change: tuple[str, str], reason: str) -> None:
    """A rule over a platform or zone that does not exist, or with one platform twice, is refused."""
    assert any(reason in problem for problem in lint(files(NBA.replace(*change)), PLATFORMS))


def test_two_rules_for_one_series_are_refused() -> None:
    """Which of two rules holds would be chance: both places are named."""
    found = lint(files(NBA, NBA.replace('league = "nba"', 'league = "other"')), PLATFORMS)
    assert len(found) == 2
    assert all("already has the rule at x.toml:2" in problem for problem in found)


words = st.text(max_size=30) | st.sampled_from(
    ["Milwaukee vs Los Angeles L", "Price _in July?", "x" * 600, "\x00|"]
)
odd_markets = st.builds(
    lambda name, label, line, outcomes: venue_market(
        name, label=label, question=label, line=line, outcomes=outcomes, facts={"yes_sub_title": label}
    ),
    st.text(min_size=1, max_size=12) | st.sampled_from([f"{TICKER}-MIL", f"{TICKER}-LAL"]),
    words,
    st.sampled_from([None, "8.5", "80000"]),
    st.sampled_from([(), ("Yes", "No"), ("", "\x00")]),
)
odd_events = st.builds(
    lambda platform, slug, title, markets: venue_event(platform, slug, *markets, title=title),
    st.sampled_from(PLATFORMS),
    st.text(min_size=1, max_size=40) | st.sampled_from([TICKER, SLUG, "y" * 600]),
    words,
    st.lists(odd_markets, max_size=4, unique_by=lambda m: m.market_id),
)


@given(st.lists(odd_events, max_size=6, unique_by=lambda e: (e.platform, e.slug)))
def test_any_catalogue_can_be_suggested_from(events: list[VenueEventRecord]) -> None:
    """Whatever venues call their events, nothing raises, and what is suggested can be written and read."""
    found = suggested(files(NBA), *events)
    assert not any(s.confirmed for s in found)
    for suggestion in found:
        text = dump_aggregate(suggestion.entry)
        again, problems = parse(text, "z.toml")
        assert again is not None, problems
        assert lint(MappingFiles(1, again.aggregates), PLATFORMS) == []

"""Files and venue events to books and legs: who owns a market, which leg is live, and what leaves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from mapping.files import aggregate, leg, market, venue_event, venue_market
from wup import _core
from wup.mapping.catalogue import VenueEventRecord
from wup.mapping.compile import Compiler
from wup.mapping.file import NO_FILES, parse
from wup.mapping.link import joined, link
from wup.mapping.review import edited, questions, review
from wup.mapping.table import MappingTable
from wup.mapping.write import dump

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = "wup1|mlb:tex@nyy:2026-07-10T23:05Z:g1|moneyline|tex|-|game"
BOOK = f"mlb-tex-nyy.{_core.market_hash(KEY)}.yes"
TEX = leg("kalshi", "KXGAME", "KXGAME-TEX")
NYY = leg("kalshi", "KXGAME", "KXGAME-NYY", polarity='"inverted"')
POLY = leg("polymarket", "tex-nyy", "0x01")


def game(*legs: str) -> str:
    """The game's file."""
    return "version = 412\n" + aggregate("mlb-tex-nyy", market(KEY, *legs, tie='"impossible"'))


def compiled(text: str, *events: VenueEventRecord) -> tuple[MappingTable, Compiler]:
    """The table of one file and some events."""
    files, problems = parse(text, "game.toml")
    assert files is not None, problems
    compiler = Compiler()
    compiler.set_files(files)
    for event in events:
        compiler.set_event(event)
    return compiler.table(1), compiler


def kalshi(**changes: object) -> VenueEventRecord:
    """The game on Kalshi, `changes` for the TEX market."""
    return venue_event("kalshi", "KXGAME", venue_market("KXGAME-TEX", **changes), venue_market("KXGAME-NYY"))


def polymarket(**changes: object) -> VenueEventRecord:
    """The game on Polymarket."""
    return venue_event("polymarket", "tex-nyy", venue_market("0x01", **changes))


def test_vectors_of_the_design() -> None:
    """The hashes that the design names are those of the code."""
    assert _core.market_hash(KEY) == "4964cf752165d83f"
    assert _core.market_hash("wup1|fed:2026-12|rate_decision|cut-25|-|meeting") == "21a66bf6c52cc37d"
    assert _core.market_hash("wup1|kalshi|KXFED-26DEC-C25") == "18bf752ebaf5a12a"


def test_three_legs_in_one_book() -> None:
    """Two Kalshi markets and one Polymarket market feed one book, in mapping order, one of them inverted."""
    table, compiler = compiled(game(TEX, NYY, POLY), kalshi(), polymarket())
    assert [(x.platform, x.asset_id, x.book, x.inverted, x.suspended) for x in table.legs] == [
        ("kalshi", "KXGAME-TEX", BOOK, False, None),
        ("kalshi", "KXGAME-NYY", BOOK, True, None),
        ("polymarket", "0x01-y", BOOK, False, None),
    ]
    assert list(table.books) == [BOOK]
    info = table.books[BOOK]
    assert (info.aggregate, info.title, info.label, info.result) == (
        "mlb-tex-nyy",
        "A title",
        "A label",
        None,
    )
    assert (table.legs[2].tick, table.legs[2].min_size, table.legs[2].facts) == (
        "0.01",
        "1",
        {"neg_risk": "true"},
    )
    assert table.legs[2].fees == {"rate": "0.05"}
    assert compiler.problems() == []
    assert compiler.home(("polymarket", "tex-nyy")) == "mlb-tex-nyy"


def test_unmapped_markets_have_books_of_their_own() -> None:
    """A market of a followed event that no leg owns gets the single-venue book of wire.md section 1."""
    table, compiler = compiled(game(TEX, POLY), kalshi(), polymarket())
    own = f"kalshi-KXGAME.{_core.market_hash('wup1|kalshi|KXGAME-NYY')}.yes"
    assert {x.asset_id: x.book for x in table.legs} == {"KXGAME-TEX": BOOK, "0x01-y": BOOK, "KXGAME-NYY": own}
    assert table.books[own].title == "title of KXGAME"
    assert table.books[own].label == "label of KXGAME-NYY"
    assert compiler.home(("kalshi", "KXGAME")) == "mlb-tex-nyy"


@pytest.mark.parametrize("slug", ["a.b/c d", "x" * 70, "ünï"])
def test_odd_slugs_give_legal_ids(slug: str) -> None:
    """An unmapped event of any name gets a book id that is legal and not another's."""
    table, _ = compiled("", venue_event("polymarket", slug, venue_market("0x05")))
    (book,) = table.books
    assert book.split(".")[0] == _core.unmapped_aggregate("polymarket", slug)
    assert _core.matches(">", book)


@pytest.mark.parametrize("status", ["proposed", "retired", "rejected"])
def test_only_confirmed_legs_own_their_market(status: str) -> None:
    """A leg of another status leaves its market a book of its own."""
    table, _ = compiled(
        game(TEX, leg("polymarket", "tex-nyy", "0x01", status=f'"{status}"')), kalshi(), polymarket()
    )
    assert {x.book for x in table.legs if x.platform == "polymarket"} == {
        f"polymarket-tex-nyy.{_core.market_hash('wup1|polymarket|0x01')}.yes"
    }


@pytest.mark.parametrize("fungibility", ["correlated", "timing"])
def test_only_clean_legs_are_merged(fungibility: str) -> None:
    """The same question with another source or another decision time is not the same contract."""
    other = leg("polymarket", "tex-nyy", "0x01", fungibility=f'"{fungibility}"')
    table, _ = compiled(game(TEX, other), kalshi(), polymarket())
    assert BOOK not in {x.book for x in table.legs if x.platform == "polymarket"}


@pytest.mark.parametrize(
    ("text", "changes", "why"),
    [
        (TEX, {"rules": "other rules"}, "rules_changed"),
        (TEX, {"status": "halted"}, "halted"),
        (TEX, {"status": "closed"}, "closed"),
        (TEX, {"facts": {"other": "true"}}, "other_outcome"),
        (leg("kalshi", "KXGAME", "KXGAME-TEX", status='"suspended"'), {}, "suspended"),
    ],
)
def test_suspended_legs(text: str, changes: dict[str, object], why: str) -> None:
    """A changed rule text, a halt, an Other outcome or the file's word suspends the leg, with the reason."""
    table, compiler = compiled(game(text, NYY, POLY), kalshi(**changes), polymarket())
    assert [(x.asset_id, x.suspended, x.book) for x in table.legs] == [
        ("KXGAME-TEX", why, BOOK),
        ("KXGAME-NYY", None, BOOK),
        ("0x01-y", None, BOOK),
    ]
    assert any("game.toml:" in p and "rules" in p for p in compiler.problems()) == (why == "rules_changed")


TEAMS = ("Texas Rangers", "New York Yankees")


@pytest.mark.parametrize(
    ("ours", "theirs", "out", "reason"),
    [
        ({"line": "2.5"}, {}, ["KXGAME-TEX"], "has none"),
        ({"label": "Texas"}, {"outcomes": TEAMS}, [], ""),
        # The venue turned its outcomes round: what was same is inverted now.
        ({"label": "Texas"}, {"outcomes": TEAMS[::-1]}, ["0x01-y"], "the opposite of"),
        # The first leg is the odd one: it stays alone, which is a book of one venue and not a wrong merge.
        ({"label": "New York Y"}, {"outcomes": TEAMS}, ["0x01-y"], "the opposite of"),
        ({"label": "Boston"}, {"outcomes": TEAMS}, [], ""),
    ],
)
def test_a_broken_invariant_suspends_the_leg(
    ours: dict[str, object], theirs: dict[str, object], out: list[str], reason: str
) -> None:
    """A line that the market has not, or outcome names against the polarities: the later leg is out at once,
    with the reason among the problems, and no two legs that are left contradict each other."""
    table, compiler = compiled(game(TEX, POLY), kalshi(), polymarket())
    assert [x.suspended for x in table.legs if x.book == BOOK] == [None, None]
    compiler.set_event(kalshi(**ours))
    compiler.set_event(polymarket(**theirs))
    legs = [x for x in compiler.table(2).legs if x.book == BOOK]
    assert [x.asset_id for x in legs if x.suspended is not None] == out
    assert {x.suspended for x in legs} - {None} == ({"contradiction"} if out else set())
    assert any(reason in problem for problem in compiler.problems()) if out else compiler.problems() == []
    compiler.set_event(kalshi())
    compiler.set_event(polymarket())
    assert all(x.suspended is None for x in compiler.table(3).legs), "back when the venues' words are right"


@pytest.mark.parametrize(
    ("ours", "theirs", "out"),
    [
        (None, "2026-07-10T23:05:00Z", []),
        (None, "2026-07-10T23:20:00Z", []),
        # Postponed, or the second game of the day.
        (None, "2026-07-10T23:21:00Z", ["0x01-y"]),
        (None, "2026-07-10 19:05:00+00", ["0x01-y"]),
        ("2026-07-10T23:05:00Z", "2026-07-10T23:06:00Z", []),
        # The venue that contradicts its own confirmed start goes; the others are judged beside what it says.
        ("2026-07-11T23:05:00Z", "2026-07-10T23:05:00Z", ["KXGAME-TEX", "0x01-y"]),
        (None, "soon", []),
    ],
)
def test_a_start_that_moves_suspends_the_leg(ours: str | None, theirs: str, out: list[str]) -> None:
    """A venue that tells another start than was confirmed, by more than 15 minutes: the leg is out at once,
    and back when the start is."""
    legs = [one.replace("status", "start = 2026-07-10T23:05:00Z\n    status", 1) for one in (TEX, POLY)]
    told = {} if ours is None else {"facts": {"start": ours}}
    _, compiler = compiled(game(*legs), kalshi(**told), polymarket(facts={"start": theirs}))
    table = [x for x in compiler.table(1).legs if x.book == BOOK]
    assert [x.asset_id for x in table if x.suspended == "contradiction"] == out
    assert any("another game" in problem for problem in compiler.problems()) == bool(out)
    compiler.set_event(kalshi())
    compiler.set_event(polymarket(facts={"start": "2026-07-10T23:05:00Z"}))
    assert all(x.suspended is None for x in compiler.table(2).legs)


_THEN, _NOW = "2026-07-10T23:05:00Z", "2026-07-11T20:05:00Z"


def _times(kalshi_at: str, polymarket_at: str) -> tuple[VenueEventRecord, VenueEventRecord]:
    """Both venues' games, each with its own kind of time."""
    return kalshi(facts={"occurs": kalshi_at}), polymarket(facts={"start": polymarket_at})


def _linked(*events: VenueEventRecord) -> str:
    """The file that `wup map link` writes."""
    entry = link(
        *events,
        aggregate="mlb-tex-nyy",
        by="human:ab",
        at=datetime(2026, 7, 9, tzinfo=UTC),
        ask=lambda pair: "same" if pair.left.market_id == "KXGAME-TEX" else "no",
        tie="impossible",
    )
    assert entry is not None
    return dump(joined(NO_FILES, entry))


def _reviewed(*events: VenueEventRecord) -> str:
    """The file that `wup map review` leaves of two proposals."""
    text = game(*(one.replace('"confirmed"', '"proposed"') for one in (TEX, POLY)))
    files, _ = parse(text, "game.toml")
    assert files is not None
    asked = questions(files, {(event.platform, event.slug): event for event in events})
    decisions = review(asked, by="human:ab", at=datetime(2026, 7, 9, tzinfo=UTC), ask=lambda _: "same")
    return edited(text, [(int(one.where.rpartition(":")[2]), one.values) for one in decisions])


@pytest.mark.parametrize("confirm", [_linked, _reviewed])
@pytest.mark.parametrize(
    ("now", "out"),
    [((_THEN, _THEN), []), ((_NOW, _THEN), ["KXGAME-TEX"]), ((_THEN, _NOW), ["0x01-y"])],
)
def test_a_game_that_is_moved_after_a_person_confirmed_it(
    confirm: Callable[..., str], now: tuple[str, str], out: list[str]
) -> None:
    """What `link` and `review` write holds the times that the venues told then: a game that either venue
    moves by more than 15 minutes is out at once, and back when its time is. Both need not be alike."""
    text = confirm(*_times("2026-07-11T02:05:00Z", _THEN))
    shifted = {_THEN: "2026-07-11T02:05:00Z", _NOW: _NOW}
    table, compiler = compiled(text, *_times(shifted[now[0]], now[1]))
    legs = [leg for leg in table.legs if leg.asset_id in ("KXGAME-TEX", "0x01-y")]
    assert len({leg.book for leg in legs}) == 1
    assert [leg.asset_id for leg in legs if leg.suspended == "contradiction"] == out
    for event in _times("2026-07-11T02:05:00Z", _THEN):
        compiler.set_event(event)
    assert all(leg.suspended is None for leg in compiler.table(2).legs)


def test_the_aggregates_start_counts_too() -> None:
    """A file that gives the start once, for the aggregate, is compared with what the venues tell."""
    text = game(TEX, POLY).replace("[[aggregate]]", f"[[aggregate]]\nstart = {_THEN}", 1)
    for at, out in ((_THEN, []), (_NOW, ["0x01-y"])):
        table, _ = compiled(text, kalshi(), polymarket(facts={"start": at}))
        assert [leg.asset_id for leg in table.legs if leg.suspended == "contradiction"] == out


@pytest.mark.parametrize("status", ["resolved", "unlisted"])
def test_what_leaves(status: str) -> None:
    """A resolved market's leg leaves; a market without a book has no leg."""
    table, _ = compiled(game(TEX, NYY, POLY), kalshi(status=status), polymarket())
    assert [x.asset_id for x in table.legs] == ["KXGAME-NYY", "0x01-y"]
    table, _ = compiled("", venue_event("kalshi", "E", venue_market("E-A", status=status)))
    assert table.legs == ()


def test_a_halted_unmapped_market_is_suspended() -> None:
    """A halt is seen on single-venue books too."""
    table, _ = compiled("", venue_event("kalshi", "E", venue_market("E-A", status="halted")))
    assert [x.suspended for x in table.legs] == ["halted"]


def test_unknown_events_and_markets_stay_out() -> None:
    """A leg whose event was not fetched, or whose market or outcome the venue does not list, is no leg."""
    table, compiler = compiled(game(TEX, NYY, POLY), polymarket())
    assert [x.platform for x in table.legs] == ["polymarket"]
    assert compiler.problems() == []
    table, compiler = compiled(
        game(leg("kalshi", "KXGAME", "KXGAME-XXX"), leg("polymarket", "tex-nyy", "0x01", outcome='"Maybe"')),
        kalshi(),
        polymarket(),
    )
    assert not [x for x in table.legs if x.book == BOOK]
    assert ["no market KXGAME-XXX" in p or "no outcome 'Maybe'" in p for p in compiler.problems()] == [
        True,
        True,
    ]


def test_a_named_outcome_chooses_its_asset() -> None:
    """`outcome` names the asset that feeds the book; the first is the default."""
    table, _ = compiled(game(leg("polymarket", "tex-nyy", "0x01", outcome='"No"')), polymarket())
    assert [x.asset_id for x in table.legs] == ["0x01-n"]


@pytest.mark.parametrize(
    ("tex", "nyy", "poly", "result"),
    [
        ("yes", "no", "yes", "yes"),
        ("no", "yes", "no", "no"),
        ("yes", "no", None, None),
        ("yes", "yes", "yes", None),
    ],
)
def test_results_in_the_books_terms(tex: str, nyy: str, poly: str | None, result: str | None) -> None:
    """A book is resolved when every leg is, in its own terms; venues that disagree resolve nothing."""
    table, compiler = compiled(
        game(TEX, NYY, POLY),
        venue_event(
            "kalshi",
            "KXGAME",
            venue_market("KXGAME-TEX", status="resolved", result=tex),
            venue_market("KXGAME-NYY", status="resolved", result=nyy),
        ),
        polymarket(**({"status": "resolved", "result": poly} if poly else {})),
    )
    assert table.books[BOOK].result == result
    assert [x.platform for x in table.legs] == ([] if poly else ["polymarket"])
    assert any("differently" in p for p in compiler.problems()) == (tex == nyy)


@pytest.mark.parametrize(("polarity", "result"), [("same", "no"), ("inverted", "yes")])
def test_the_result_of_a_second_outcome(polarity: str, result: str) -> None:
    """A leg over the second outcome's asset reads the venue's result from that side."""
    one = leg("polymarket", "tex-nyy", "0x01", outcome='"No"', polarity=f'"{polarity}"')
    table, _ = compiled(game(one), polymarket(status="resolved", result="yes"))
    assert table.books[BOOK].result == result


def test_only_touched_units_are_named() -> None:
    """A change of one event names its own unit and the aggregates that map it, nothing else."""
    _, compiler = compiled(
        game(TEX, POLY), kalshi(), polymarket(), venue_event("kalshi", "E", venue_market("E-A"))
    )
    assert compiler.set_event(venue_event("kalshi", "E", venue_market("E-B"))) == {"event:kalshi:E"}
    assert compiler.set_event(kalshi()) == {"event:kalshi:KXGAME", "file:mlb-tex-nyy"}
    assert compiler.drop_event(("polymarket", "tex-nyy")) == {"event:polymarket:tex-nyy", "file:mlb-tex-nyy"}
    assert [x.platform for x in compiler.table(2).legs] == ["kalshi", "kalshi", "kalshi"]


def test_new_files_recompile_everything() -> None:
    """When a file goes, its markets fall back to books of their own, and every name is told."""
    table, compiler = compiled(game(TEX, POLY), kalshi(), polymarket())
    files, _ = parse("version = 413", "game.toml")
    assert files is not None
    assert compiler.set_files(files) == {
        "file:mlb-tex-nyy",
        "event:kalshi:KXGAME",
        "event:polymarket:tex-nyy",
    }
    again = compiler.table(2)
    assert BOOK in table.books
    assert BOOK not in again.books
    assert len(again.legs) == 3


def books_of(compiler: Compiler, market_id: str) -> list[str]:
    """The aggregates under which a market has a book."""
    return [x.book.split(".")[0] for x in compiler.table(1).legs if x.market_id == market_id]


def test_a_market_of_two_events_has_one_book() -> None:
    """A market that two followed events list has its book in the one that came first, whatever is fetched
    again; it passes on when that one drops it or leaves, and the other event's problems say where it is."""
    _, compiler = compiled("")
    one = venue_event("polymarket", "one", venue_market("0x01"), venue_market("0x05"))
    two = venue_event("polymarket", "two", venue_market("0x05"), venue_market("0x06"))
    compiler.set_event(one)
    assert compiler.set_event(two) == {"event:polymarket:two"}
    assert books_of(compiler, "0x05") == ["polymarket-one"]
    assert books_of(compiler, "0x06") == ["polymarket-two"]
    (problem,) = compiler.problems()
    assert "0x05" in problem
    assert "under one" in problem
    assert compiler.set_event(one) == {"event:polymarket:one"}
    assert books_of(compiler, "0x05") == ["polymarket-one"]
    assert compiler.contested() == {("polymarket", "0x05"): (("polymarket", "one"), ("polymarket", "two"))}
    both = {"event:polymarket:one", "event:polymarket:two"}
    assert compiler.set_event(venue_event("polymarket", "one", venue_market("0x01"))) == both
    assert books_of(compiler, "0x05") == ["polymarket-two"]
    assert compiler.problems() == []
    compiler.set_event(one)
    assert books_of(compiler, "0x05") == ["polymarket-two"], "who came later does not take it back"
    assert compiler.drop_event(("polymarket", "two")) == both
    assert books_of(compiler, "0x05") == ["polymarket-one"]
    compiler.set_event(two)
    assert compiler.prefer(("polymarket", "0x05"), ("polymarket", "two")) == both
    assert books_of(compiler, "0x05") == ["polymarket-two"]
    assert compiler.prefer(("polymarket", "0x05"), ("polymarket", "three")) == set()
    assert compiler.prefer(("polymarket", "0x05"), ("polymarket", "two")) == set()


def test_a_leg_owns_its_market_in_every_event() -> None:
    """A market that a file maps has no book of its own in any event that lists it, and that is no problem."""
    _, compiler = compiled(
        game(TEX, POLY), kalshi(), polymarket(), venue_event("polymarket", "all", venue_market("0x01"))
    )
    assert books_of(compiler, "0x01") == ["mlb-tex-nyy"]
    assert compiler.problems() == []

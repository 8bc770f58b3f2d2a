"""The invariants: each broken one is refused, with a text that says where and what to do."""

from __future__ import annotations

import pytest

from mapping.files import aggregate, leg, market
from wup.mapping.file import MappingFiles, parse
from wup.mapping.lint import lint

PLATFORMS = ("kalshi", "polymarket")
KEY = "wup1|mlb:tex@nyy:2026-07-10T23:05Z:g1|moneyline|tex|-|game"


def problems(*texts: str) -> list[str]:
    """What lint says of files with these texts."""
    aggregates = []
    for number, text in enumerate(texts, start=1):
        files, wrong = parse(text, f"{number}.toml")
        assert files is not None, wrong
        aggregates.extend(files.aggregates)
    return lint(MappingFiles(1, tuple(aggregates), ()), PLATFORMS)


def game(*legs: str, **changes: str) -> str:
    """A two-team game, no tie possible."""
    return aggregate("mlb-tex-nyy", market(KEY, *legs, **{"tie": '"impossible"', **changes}))


TEX = leg("kalshi", "KXMLBGAME-1", "KXMLBGAME-1-TEX")
NYY = leg("kalshi", "KXMLBGAME-1", "KXMLBGAME-1-NYY", polarity='"inverted"')
POLY = leg("polymarket", "mlb-tex-nyy-2026-07-10", "0x01")


def test_a_right_game_passes() -> None:
    """Two Kalshi markets, one same and one inverted, with one Polymarket market: nothing to say."""
    assert problems(game(TEX, NYY, POLY)) == []


@pytest.mark.parametrize("polarity", ['"same"', '"inverted"'])
def test_both_sides_alike_are_refused(polarity: str) -> None:
    """Both Kalshi markets of a game with one polarity is one contract counted as its opposite."""
    (problem,) = problems(
        game(
            leg("kalshi", "KXMLBGAME-1", "KXMLBGAME-1-TEX", polarity=polarity),
            leg("kalshi", "KXMLBGAME-1", "KXMLBGAME-1-NYY", polarity=polarity),
            POLY,
        )
    )
    assert problem.startswith("1.toml:")
    assert "exactly one is 'same' and one 'inverted'" in problem


def test_a_market_has_one_owner() -> None:
    """Two files that claim one venue market are both named."""
    other = aggregate("other", market("wup1|other|k|s|-|p", TEX))
    (problem,) = problems(game(TEX, POLY), other)
    assert problem.startswith("2.toml:")
    assert "1.toml:" in problem
    assert "retire one" in problem


def test_a_proposal_claims_nothing() -> None:
    """A proposed leg may name a market that a confirmed one owns."""
    proposal = leg("kalshi", "KXMLBGAME-1", "KXMLBGAME-1-TEX", status='"proposed"', rules_sha256="")
    assert problems(game(TEX, POLY), aggregate("other", market("wup1|other|k|s|-|p", proposal))) == []


def test_a_mirrored_token_is_refused() -> None:
    """Both tokens of one Polymarket market in one book would count its liquidity twice."""
    mirror = leg("polymarket", "mlb-tex-nyy-2026-07-10", "0x01", polarity='"inverted"', outcome='"Yankees"')
    (problem,) = problems(game(POLY, mirror))
    assert "one order book shown twice" in problem


def test_legs_on_one_line_are_still_two_legs() -> None:
    """Inline tables share a line; the second claim is found all the same."""
    text = aggregate("a", market("wup1|a|k|s|-|p"))
    fields = (
        'platform = "kalshi", event = "E", market = "E-A", polarity = "same", status = "confirmed", '
        'confirmed_by = "human:ab", confirmed_at = 2026-11-20T10:00:00Z, rules_sha256 = "' + "a" * 64 + '", '
        'evidence = {source = "human", fields = {polarity = "same"}}'
    )
    (problem,) = problems(text + f"\n  leg = [{{{fields}}}, {{{fields}}}]\n")
    assert "twice" in problem


def test_ids_and_keys_are_unique() -> None:
    """The same aggregate or the same key in two places is refused."""
    found = problems(game(TEX), game(POLY))
    assert len(found) == 2
    assert all("2.toml:" in problem and "1.toml:" in problem for problem in found)


def test_an_id_like_an_unmapped_event_is_refused() -> None:
    """An aggregate may not take the name that the loader gives an unmapped event."""
    (problem,) = problems(aggregate("kalshi-KXFED-26DEC", market("wup1|a|k|s|-|p")))
    assert "unmapped kalshi" in problem


def test_one_event_per_aggregate() -> None:
    """Keys of one aggregate share the event part."""
    (problem,) = problems(aggregate("a", market("wup1|a|k|s|-|p"), market("wup1|b|k|s|-|p")))
    assert "a, b" in problem


@pytest.mark.parametrize("subject", ["other", "Field"])
def test_other_is_never_mapped(subject: str) -> None:
    """Outcomes whose meaning changes are refused."""
    (problem,) = problems(aggregate("a", market(f"wup1|a|k|{subject}|-|p")))
    assert "must not be mapped" in problem


def test_an_inverted_leg_needs_the_tie_rule() -> None:
    """Without a word about ties nothing is inverted."""
    (problem,) = problems(game(TEX, NYY, POLY, tie=""))
    assert "does not say whether a tie can happen" in problem


def test_a_tie_able_market_is_not_inverted() -> None:
    """Both sides lose on a tie: A wins NO is not B wins YES."""
    both_lose = [
        leg("kalshi", "E", "E-A", tie='"no"'),
        leg("kalshi", "E", "E-B", tie='"no"', polarity='"inverted"'),
    ]
    (problem,) = problems(game(*both_lose, tie='"possible"'))
    assert "tie rules" in problem
    unsaid = [leg("kalshi", "E", "E-A"), leg("kalshi", "E", "E-B", polarity='"inverted"')]
    assert len(problems(game(*unsaid, tie='"possible"'))) == 2


def test_equal_tie_rules_may_be_inverted() -> None:
    """A refund on both sides, or one side winning ties, is the same contract seen from both sides."""
    for first, second in (("void", "void"), ("half", "half"), ("no", "yes")):
        legs = [
            leg("kalshi", "E", "E-A", tie=f'"{first}"'),
            leg("kalshi", "E", "E-B", tie=f'"{second}"', polarity='"inverted"'),
        ]
        assert problems(game(*legs, tie='"possible"')) == []


def test_unequal_tie_rules_are_refused_without_inversion_too() -> None:
    """One venue refunds ties and the other pays NO: not one contract."""
    legs = [leg("kalshi", "E", "E-A", tie='"no"'), leg("polymarket", "e", "0x01", tie='"void"')]
    (problem,) = problems(game(*legs, tie='"possible"'))
    assert "differ" in problem


@pytest.mark.parametrize(
    ("line", "in_key", "said"),
    [
        ("6.5", "-", "which has none"),
        ("6.5", "7.5", "is not the key's"),
        ("7.50", "7.5", None),
        ("", "7.5", None),
    ],
)
def test_lines_must_agree(line: str, in_key: str, said: str | None) -> None:
    """A leg with another line, or with a line where the market has none, is refused."""
    one = leg("kalshi", "E", "E-7", line=f'"{line}"' if line else "")
    found = problems(aggregate("a", market(f"wup1|a|total|over|{in_key}|game", one)))
    assert [said in problem for problem in found] == ([] if said is None else [True])  # type: ignore[operator]


def test_start_times_and_game_numbers_must_agree() -> None:
    """Another start by more than a quarter of an hour, or another game of the day, is another game."""
    near = [
        leg("kalshi", "E", "E-A", start="2026-07-10T23:05:00Z", game="1"),
        leg("polymarket", "e", "0x01", start="2026-07-10T19:15:00-04:00", game="1"),
    ]
    assert problems(game(*near)) == []
    far = [near[0], leg("polymarket", "e", "0x01", start="2026-07-11T23:05:00Z")]
    assert all("another game" in problem for problem in problems(game(*far)))
    assert len(problems(game(*far))) == 2
    second = [near[0], leg("polymarket", "e", "0x01", game="2")]
    assert all("beside game" in problem for problem in problems(game(*second)))
    assert len(problems(game(*second))) == 2


@pytest.mark.parametrize("field", ["rules_sha256", "confirmed_by", "confirmed_at"])
def test_a_confirmed_leg_is_complete(field: str) -> None:
    """Confirmed means: by whom, when, and which rule text."""
    (problem,) = problems(game(leg("kalshi", "E", "E-A", **{field: ""})))
    assert field in problem


def test_only_strong_evidence_confirms_by_itself() -> None:
    """A machine may confirm with a deterministic key or a venue's cross-reference, with nothing else."""
    auto = {"confirmed_by": '"auto:sports-key"'}
    assert len(problems(game(leg("kalshi", "E", "E-A", **auto)))) == 1
    fields = 'fields = {polarity = "same"}'
    assert (
        len(problems(game(leg("kalshi", "E", "E-A", evidence=f'{{source = "human", {fields}}}', **auto))))
        == 1
    )
    strong = f'{{source = "deterministic_key", {fields}}}'
    assert problems(game(leg("kalshi", "E", "E-A", evidence=strong, **auto))) == []


@pytest.mark.parametrize(
    "evidence", ["", '{source = "human"}', '{source = "human", fields = {yes_subject = "x"}}']
)
def test_a_polarity_without_evidence_is_refused(evidence: str) -> None:
    """Every confirmed leg says which polarity was confirmed, so that the word alone cannot be turned."""
    (problem,) = problems(game(leg("kalshi", "E", "E-A", evidence=evidence)))
    assert "without evidence of its polarity" in problem
    assert "wup map review writes it" in problem


@pytest.mark.parametrize("relation", ["subset", "superset", "overlap", "disjoint"])
def test_only_identity_is_merged(relation: str) -> None:
    """An implication is not a merge."""
    (problem,) = problems(game(leg("kalshi", "E", "E-A", relation=f'"{relation}"')))
    assert "never enters a book" in problem


def test_a_complement_is_inverted() -> None:
    """A complement with polarity `same` contradicts itself."""
    (problem,) = problems(game(leg("kalshi", "E", "E-A", relation='"complement"')))
    assert "set polarity" in problem


def test_unknown_platform() -> None:
    """A platform that does not exist here is named, with those that do."""
    (problem,) = problems(game(leg("kalhsi", "E", "E-A")))
    assert "'kalhsi'" in problem
    assert "kalshi, polymarket" in problem


def test_a_leg_with_a_line_never_joins_one_without() -> None:
    """Where one leg's line was written down, a leg that says nothing of its own is refused."""
    key = KEY.replace("|-|", "|2.5|")
    legs = [leg("kalshi", "E", "E-7", line='"2.5"'), leg("polymarket", "e", "0x07")]
    (found,) = problems(aggregate("a", market(key, *legs)))
    assert "without a line beside E-7 with 2.5" in found
    both = leg("polymarket", "e", "0x07", line='"2.5"')
    assert problems(aggregate("a", market(key, legs[0], both))) == []
    neither = (leg("kalshi", "E", "E-7"), legs[1])
    assert problems(aggregate("a", market(key, *neither))) == []


@pytest.mark.parametrize("line", ["sNaN", "NaN", "Infinity", "-inf"])
def test_a_line_that_is_no_number_is_refused(line: str) -> None:
    """What decimal arithmetic calls a number but is none stands in no key."""
    key = KEY.replace("|-|", f"|{line}|")
    found = problems(aggregate("mlb-tex-nyy", market(key, TEX, POLY, tie='"impossible"')))
    assert any("not a decimal number" in problem for problem in found), found

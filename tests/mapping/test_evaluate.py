"""Reading ids, and `wup map eval` over the labelled pairs."""

from __future__ import annotations

import json
from datetime import date, time
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import wup
from wup.mapping.command import app
from wup.mapping.evaluate import BadPairs, Row, evaluate, read_pairs
from wup.mapping.statement import Comparison, Statement, compare
from wup.venues.identities import IDENTITIES
from wup.venues.kalshi.identity import start_of

KNOWN = Path(wup.__file__).parents[2] / "docs" / "label-errors.csv"
HEADER = "venue_a,id_a,venue_b,id_b,polarity,label,grain,source\n"


def verdict(one: str, two: str, venue: str = "polymarket_us") -> Comparison:
    return compare(IDENTITIES["kalshi"](one), IDENTITIES[venue](two))


@pytest.mark.parametrize(
    ("one", "two", "polarity"),
    [
        ("KXXGAME-26MAR011905AAABBB-AAA", "aec-x-aaa-bbb-2026-03-01", "same"),
        ("KXXGAME-26MAR011905AAABBB-BBB", "aec-x-aaa-bbb-2026-03-01", "inverted"),
        # Three letters of the first name, three of the last.
        ("KXATPMATCH-26MAR01SMIJON-JON", "aec-atp-adasmi-evejon-2026-03-01", "inverted"),
        # "+1.5 for A" fails when B wins by two.
        ("KXXSPREAD-26MAR01AAABBB-BBB2", "asc-x-aaa-bbb-2026-03-01-pos-1pt5", "inverted"),
        ("KXXSPREAD-26MAR01AAABBB-AAA2", "asc-x-aaa-bbb-2026-03-01-neg-1pt5", "same"),
        ("KXXTOTAL-26MAR01AAABBB-9", "tsc-x-aaa-bbb-2026-03-01-8pt5", "same"),
        ("KXCS2MAP-26MAR011330100TFAL-1-FAL", "astatc-cs2-fal-100t-2026-03-01-map1", "same"),
        ("KXCS2MAP-26MAR011330MKOIG2-1-MKOI", "astatc-cs2-g2-mkoi-2026-03-01-map1", "inverted"),
        ("KXMLBHRR-26MAR01AAABBB-AAAJDOEMAN12-2", "astatc-mlb-aaa-bbb-2026-03-01-hrr-jandoe-gte2", "same"),
    ],
)
def test_ids_are_read_with_their_polarity(one: str, two: str, polarity: str) -> None:
    """Each grammar: what is proposed, and which way round."""
    found = verdict(one, two)
    assert (found.proposed, found.polarity) == (True, polarity)


@pytest.mark.parametrize(
    ("one", "two", "reason"),
    [
        ("KXXSPREAD-26MAR01AAABBB-AAA3", "asc-x-aaa-bbb-2026-03-01-neg-1pt5", "line"),
        ("KXXSPREAD-26MAR01AAABBB-BBB2", "asc-x-aaa-bbb-2026-03-01-neg-1pt5", "other side"),
        ("KXXF5-26MAR01AAABBB-AAA", "asc-x-aaa-bbb-2026-03-01-f5-neg-2pt5", "kind"),
        ("KXXF5-26MAR01AAABBB-AAA", "atc-x-aaa-bbb-2026-03-01-f5-bbb", "tie"),
        ("KXXF5-26MAR01AAABBB-AAA", "aec-x-aaa-bbb-2026-03-01", "period"),
        ("KXXGAME-26MAR01AAABBB-AAA", "aec-x-aaa-bbb-2026-03-02", "day"),
        ("KXCS2MAP-26MAR01AAABBB-2-AAA", "astatc-cs2-aaa-bbb-2026-03-01-map1", "period"),
        ("KXCS2MAP-26MAR01AAABBB-1-AAA", "astatc-dota2-aaa-bbb-2026-03-01-map1", "sport"),
    ],
)
def test_contradictions_are_found(one: str, two: str, reason: str) -> None:
    """Another line, side, kind, period, day or sport is never proposed, and the reason is said."""
    found = verdict(one, two)
    assert not found.proposed
    assert reason in found.conflicts


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("KXXGAME-26MAR01AAABBBG1-AAA", "aec-x-aaa-bbb-2026-03-01"),
        ("KXXGAME-26MAR01AAABBB", "aec-x-aaa-bbb-2026-03-01"),
        ("KXXGAME-26MAR01AAACCC-AAA", "aec-y-aaa-bbb-2026-03-01"),
        ("KXXGAME-26MAR01CCCDDD-CCC", "aec-x-aaa-bbb-2026-03-01"),
        ("nonsense", "aec-x-aaa-bbb-2026-03-01"),
    ],
)
def test_what_is_not_told_is_not_proposed(one: str, two: str) -> None:
    """A game of a double-header, an event for a market, one side alone in another league, strangers."""
    found = verdict(one, two)
    assert not found.proposed
    assert found.conflicts == ()


def test_strikes_compare_as_numbers() -> None:
    """80k is 8,000,000 cents; 72.5k is not 73k; up is not down."""
    name = "will-bitcoin-{}-in-july-2026"
    pairs = {"reach-80k": True, "reach-80pt5k": False, "dip-to-80k": False, "reach-80000": True}
    for words, right in pairs.items():
        found = verdict("KXBTCMAXMON-BTC-26JUL31-8000000", name.format(words), "polymarket")
        assert found.proposed == right, words


@given(st.text(max_size=60))
def test_any_text_is_an_id(text: str) -> None:
    """Ids are read without an error, whatever they are."""
    for read in IDENTITIES.values():
        assert isinstance(read(text), Statement)
    assert start_of(text) is None or isinstance(start_of(text), time)


codes = st.sampled_from(["aaa", "aab", "bbb", "g2", "adasmi"])
statements = st.builds(
    Statement,
    kind=st.sampled_from(["winner", "result", "spread", "total", None]),
    league=st.sampled_from(["mlb", "cs2", None]),
    day=st.sampled_from([date(2026, 3, 1), date(2026, 3, 2), None]),
    sides=st.tuples(codes, codes),
    subject=codes,
    line=st.sampled_from([None, Decimal("1.5")]),
    negated=st.booleans(),
)


@given(statements, statements)
def test_turning_a_statement_turns_the_polarity(one: Statement, two: Statement) -> None:
    """The negation of a statement gives the other polarity, and nothing else changes."""
    from dataclasses import replace

    before, after = compare(one, two), compare(one, replace(two, negated=not two.negated))
    assert (before.conflicts, before.missing) == (after.conflicts, after.missing)
    assert {before.polarity, after.polarity} in ({None}, {"same", "inverted"})


def test_the_labelled_pairs(captures: Path) -> None:
    """The figures of docs/mapping.md, and the committed list of label errors."""
    found = evaluate(read_pairs(captures / "matching" / "pairs.csv"), IDENTITIES)
    page = (KNOWN.parent / "mapping.md").read_text()
    for (a, b, source, grain), group in found.groups.items():
        share, precision = (
            "-" if ratio is None else f"{ratio:.1%}"
            for ratio in (group.shown()["share_proposed"], group.shown()["precision"])
        )
        told = f"{group.polarity_right} of {group.polarity_told}"
        cells = [f"{a} / {b}", source, grain, group.rows, group.matches, group.proposed]
        row = " | ".join(map(str, [*cells, share, precision, told]))
        assert f"| {row} |" in page, row
        assert group.right == group.proposed, "a pair labelled no_match was proposed"
    for (a, b, source), crossed in found.crossed.items():
        counts = f"{crossed.proposed} | {crossed.labelled} | {len(crossed.unlabelled)}"
        row = f"| {a} / {b} | {source} | {counts} | {crossed.shown()['precision']:.1%} |"
        assert row in page, row


async def test_eval_compares_with_the_committed_list(captures: Path, tmp_path: Path) -> None:
    """`wup map eval --errors` passes with the list as committed, and names each difference otherwise."""
    pairs = str(captures / "matching" / "pairs.csv")
    result = CliRunner().invoke(app, ["eval", pairs, "--errors", str(KNOWN)])
    assert result.exit_code == 0, result.output
    assert "Labelled rows" in result.output
    shorter = tmp_path / "errors.csv"
    shorter.write_text("\n".join(KNOWN.read_text().splitlines()[:-1]) + "\n9,abc,other\n")
    result = CliRunner().invoke(app, ["eval", pairs, "--errors", str(shorter)])
    assert result.exit_code == 2
    assert f"not in {shorter}: {KNOWN.read_text().splitlines()[-1]}" in result.output
    assert f"only in {shorter}: 9,abc,other" in result.output
    body = json.loads(CliRunner().invoke(app, ["eval", pairs, "--json"]).output)
    assert len(body["label_errors"]) == len(KNOWN.read_text().splitlines()) - 1


def test_the_list_holds_no_captured_ids(captures: Path) -> None:
    """Line, digest and reason: no id of the labelled pairs."""
    text = KNOWN.read_text()
    rows = read_pairs(captures / "matching" / "pairs.csv")
    assert not any(name in text for row in rows for name in (row.id_a, row.id_b) if len(name) > 6)


def labelled(one: str, two: str, polarity: str, label: str = "match", number: int = 2) -> Row:
    grain = "market" if label == "match" else "event_vs_market"
    return Row(number, "kalshi", one, "polymarket_us", two, polarity, label, grain, "x")


def test_label_errors_have_a_reason() -> None:
    """Contradicting ids, two sides labelled alike, one market for two events, no_match against a match."""
    other = "aec-x-aaa-bbb-2026-03-01"
    rows = [
        labelled("KXXF5-26MAR01AAABBB-AAA", "atc-x-aaa-bbb-2026-03-01-f5-bbb", "inverted"),
        labelled("KXXGAME-26MAR01AAABBB-AAA", other, "inverted", number=3),
        labelled("KXXGAME-26MAR01AAABBB-BBB", other, "inverted", number=4),
        labelled("KXXGAME-26MAR01AAABBB", other, "", "no_match", number=5),
        labelled("KXXGAME-26MAR01CCCDDD-CCC", other, "same", number=6),
        labelled("KXXGAME-26MAR02AAABBB-AAA", "aec-x-aaa-bbb-2026-03-02", "same", number=7),
    ]
    found = evaluate(rows, IDENTITIES)
    assert {error.row.number: error.reason.split(",")[0] for error in found.errors} == {
        2: "labelled match",
        3: "both markets of one event are labelled inverted to one market",
        5: "labelled no_match with an event one of whose markets is labelled match",
        6: "one market is labelled as that of two events",
    }
    assert [why for _, why in found.wrong] == ["read same, labelled inverted"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", ":1: no column"),
        ("a,b\n1,2\n", ":1: no column grain"),
        (HEADER + "kalshi,A,polymarket,b,same,match,market\n", ":2: not 8 columns"),
        (HEADER + "kalshi,A,polymarket,b,same,match,market,x,y\n", ":2: not 8 columns"),
        (HEADER + "kalshi,A,polymarket,b,same,maybe,market,x\n", ":2: label 'maybe'"),
        (HEADER + "kalshi,A,polymarket,b,up,match,market,x\n", ":2: polarity 'up'"),
        ("\xff\xfe", "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, text: str, reason: str) -> None:
    """Columns missing or too many, unknown words, no text at all: the line and what is wrong with it."""
    file = tmp_path / "pairs.csv"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadPairs, match=reason):
        read_pairs(file)
    assert CliRunner().invoke(app, ["eval", str(file)]).exit_code == 2
    assert CliRunner().invoke(app, ["eval", str(tmp_path / "none.csv")]).exit_code == 2

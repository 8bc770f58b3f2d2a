"""`pytest --rules`: the rules of the wire contract, the tests that hold them, and how those ended.

A rule is held when every test named for it ran and passed; else the run fails. `--rules-only` runs those
tests alone, `--rule KEY` those of one rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _pytest.terminal import TerminalReporter

    from conformance.rule import Rule

_outcomes: dict[str, str] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Two options of our own."""
    parser.addoption("--rules", action="store_true", help="print the table of wire rules")
    parser.addoption("--rules-only", action="store_true", help="run only the tests of wire rules")
    parser.addoption("--rule", action="append", default=[], help="only the tests of this wire rule")


def function(nodeid: str) -> str:
    """`tests/a/test_b.py::test_c[x]` as the table names it: `a/test_b.py::test_c`."""
    return nodeid.removeprefix("tests/").partition("[")[0]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for."""
    keys = config.getoption("--rule")
    if not keys and not config.getoption("--rules-only"):
        return
    rules = [rule for rule in RULES if not keys or rule.key in keys]
    wanted = {test for rule in rules for test in rule.tests}
    kept = [item for item in items if function(item.nodeid) in wanted]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remember how each test ended: the worst end of its cases."""
    name = function(report.nodeid)
    if report.failed:
        _outcomes[name] = "failed"
    elif report.skipped and _outcomes.get(name) != "failed":
        _outcomes[name] = "skipped"
    elif report.when == "call":
        _outcomes.setdefault(name, "passed")


def verdict(ends: Sequence[str | None]) -> str:
    """Of one rule, by how its tests ended: `held`, `BROKEN`, or `NOT TESTED`."""
    if "failed" in ends:
        return "BROKEN"
    return "held" if ends and set(ends) == {"passed"} else "NOT TESTED"


def _verdict(rule: Rule) -> str:
    return verdict([_outcomes.get(test) for test in rule.tests])


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A rule that is not held makes the run fail."""
    if not session.config.getoption("--rules") or hasattr(session.config, "workerinput"):
        return
    if session.exitstatus == 0 and any(_verdict(rule) != "held" for rule in RULES):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """The table."""
    if not config.getoption("--rules"):
        return
    terminalreporter.section("rules of the wire contract")
    width = max(len(rule.key) for rule in RULES)
    for rule in RULES:
        held = _verdict(rule)
        terminalreporter.line(f"{rule.key:<{width}}  {held:<10}  {rule.text}")
        for test in rule.tests:
            terminalreporter.line(f"{'':<{width}}  {_outcomes.get(test, 'not run'):<10}    {test}")
    held_rules = sum(_verdict(rule) == "held" for rule in RULES)
    terminalreporter.line(f"{held_rules} of {len(RULES)} rules held")

"""The table of rules is whole, and the run that prints it fails when it should."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.broken import BREAKS
from conformance.plugin import verdict
from conformance.rules import RULES

TESTS = Path(__file__).resolve().parent.parent


def functions(file: str) -> set[str]:
    """The test functions that a file defines."""
    tree = ast.parse((TESTS / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_rule_has_a_test_that_exists() -> None:
    """Each rule names at least one test, each named test exists, and no key comes twice."""
    known = {
        file: functions(file) for file in {test.partition("::")[0] for rule in RULES for test in rule.tests}
    }
    missing = [
        f"{rule.key}: {test}"
        for rule in RULES
        for test in rule.tests
        if test.partition("::")[2] not in known[test.partition("::")[0]]
    ]
    assert missing == []
    assert [rule.key for rule in RULES if not rule.tests] == []
    keys = [rule.key for rule in RULES]
    assert len(keys) == len(set(keys))


def test_every_conformance_test_is_in_the_table() -> None:
    """No test of this folder stands beside the table."""
    named = {test for rule in RULES for test in rule.tests}
    own = {
        f"conformance/{file.name}::{name}"
        for file in (TESTS / "conformance").glob("test_*.py")
        if file.name not in ("test_table.py", "test_broken.py", "test_asyncapi.py")
        for name in functions(f"conformance/{file.name}")
        if name.startswith("test_")
    }
    assert own - named == set()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A test run of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(
        command,
        cwd=TESTS.parent,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_rule_without_a_test_fails_the_run() -> None:
    """A run that leaves a rule's tests out prints the table, says NOT TESTED, and fails."""
    ended = run("--rules", "tests/core/test_vectors.py")
    assert ended.returncode == 1, ended.stdout
    assert "3.digest" in ended.stdout
    assert "NOT TESTED  seq rises by one" in ended.stdout
    assert "passed        core/test_vectors.py::test_cells" in ended.stdout


@pytest.mark.parametrize(
    ("ends", "told"),
    [
        ((), "NOT TESTED"),
        (("passed",), "held"),
        (("passed", "passed"), "held"),
        (("passed", None), "NOT TESTED"),
        (("skipped",), "NOT TESTED"),
        (("passed", "skipped"), "NOT TESTED"),
        (("passed", "failed"), "BROKEN"),
        ((None, "failed"), "BROKEN"),
    ],
)
def test_a_rule_is_held_when_all_its_tests_passed(ends: tuple[str | None, ...], told: str) -> None:
    """One test that passed does not speak for one that was left out, skipped or failed."""
    assert verdict(ends) == told


@pytest.fixture(scope="module")
def broken() -> dict[str, tuple[int, str]]:
    """Each broken gateway's run: exit code and output."""
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    ended = subprocess.run(
        [sys.executable, "-m", "conformance.broken"],
        cwd=TESTS.parent,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    runs: dict[str, tuple[int, str]] = json.loads(ended.stdout)
    return runs


@pytest.mark.timeout(240)  # the first one waits for all
@pytest.mark.parametrize("name", BREAKS)
def test_a_gateway_that_breaks_one_rule_is_found(broken: dict[str, tuple[int, str]], name: str) -> None:
    """With one rule broken on purpose the run of that rule's tests fails; the same run is green without."""
    code, output = broken[name]
    assert code == pytest.ExitCode.TESTS_FAILED, output
    assert " failed" in output, output
    assert "error" not in output.splitlines()[-1], output

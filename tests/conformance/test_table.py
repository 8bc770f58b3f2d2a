"""The table of rules is whole, and the run that prints it fails when it should."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


BREAKS = {
    "drop_delta": "4.1a",
    "repeat_delta": "4.1a",
    "wrong_count": "4.4c",
    "skip_digest": "4.5a",
    "no_snapshot_after_gap": "4.5c",
    "deltas_while_owed": "4.6d",
    "answer_without_id": "4.id",
    "keep_after_unsubscribe": "4.op-unsubscribe",
    "accept_reserved_bits": "close-1002",
}


QUICK = ("drop_delta", "wrong_count", "skip_digest")


@pytest.mark.parametrize(
    "broken", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BREAKS]
)
def test_a_gateway_that_breaks_one_rule_is_found(broken: str) -> None:
    """With one rule broken on purpose the run of that rule's tests fails; the same run is green without."""
    key = BREAKS[broken]
    path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
    (rule,) = [rule for rule in RULES if rule.key == key]
    files = sorted({f"tests/{test.partition('::')[0]}" for test in rule.tests})
    ended = run(f"--rule={key}", "-x", "-p", "conformance.broken", *files, WUP_BREAK=broken, PYTHONPATH=path)
    assert ended.returncode == 1, ended.stdout
    assert " failed" in ended.stdout, ended.stdout
    assert "error" not in ended.stdout.splitlines()[-1], ended.stdout

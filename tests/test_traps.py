"""docs/traps.md names a test for each trap: every one of them is there, and so is every rule and file it speaks of."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "traps.md").read_text()
# The rows of the first table, without its two lines of head.
ROWS = [line.split(" | ") for line in PAGE.partition("## Later")[0].splitlines() if line.startswith("| ")][2:]
NODE_ID = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
FAULT = re.compile(r"fault `(\w+)`")


def names_in(file: str) -> set[str]:
    """The functions of a test file that pytest would collect, those in classes too."""
    tree = ast.parse((ROOT / file).read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return {function.name for function in functions if function.name.startswith("test_")}


def planted_faults() -> set[str]:
    """The first of each entry of FAULTS."""
    names: set[str] = set()
    for file in (ROOT / "tests" / "sim").glob("test_*faults.py"):
        tree = ast.parse(file.read_text())
        (faults,) = [
            node.value for node in tree.body if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "FAULTS"
        ]
        assert isinstance(faults, ast.List)
        names |= {ast.unparse(entry.elts[0]) for entry in faults.elts if isinstance(entry, ast.Tuple)}
    return names


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("| ")[:40])
def test_each_trap_names_tests_that_are_there(row: list[str]) -> None:
    _, _, tests, source = row
    named = NODE_ID.findall(tests)
    faults = FAULT.findall(tests)
    assert named or faults, "a row is done when a named test would fail without the remedy"
    assert len(named) + len(faults) == len(tests.split(", ")), "each is written so that it can be found"
    assert source.strip("| ")
    for file, name in named:
        assert name in names_in(file), f"{file}::{name}"
    assert set(faults) <= planted_faults()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("| ")[:40])
def test_rules_and_files_are_there(row: list[str]) -> None:
    protocol = (ROOT / "docs" / "protocol.md").read_text()
    for rules in re.findall(r"\[([^]]+)\]\(protocol\.md\)", row[1]):
        for rule in rules.split(", "):
            assert f"**{rule}**" in protocol, rule
    files = re.findall(r"`([\w/]+\.py)`", row[1])
    assert files
    for file in files:
        assert (ROOT / "src" / "ringwise" / file).is_file(), file


def test_the_page_has_rows() -> None:
    assert len(ROWS) > 30

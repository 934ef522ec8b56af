"""tools/mutants.py changes what it says, and the survivors that it excuses are mutants that there are."""

from __future__ import annotations

import ast

import pytest
from mutants import ROOT, TARGETS, known_survivors, mutants

SOURCE = '''
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re
Alias = int | str


class Box:
    """Holds 3 things."""

    def full(self, count: int | None = 2) -> bool | None:
        if count:
            return count >= 3 and not self.open
        return None
'''


def test_every_kind_of_change_is_made_once_and_annotations_are_left_alone() -> None:
    found = list(mutants(SOURCE))
    assert {mutant.change for mutant in found} == {
        "2 -> 3",
        "if count: -> if not count:",
        "return count >= 3 and (not self.open) -> return None",
        "count >= 3 and (not self.open) -> count >= 3 or not self.open",
        "count >= 3 -> count > 3",
        "3 -> 4",
        "not self.open -> self.open",
    }
    assert {mutant.where for mutant in found} == {"Box.full"}
    texts = {mutant.text for mutant in found}
    assert len(texts) == len(found) and ast.unparse(ast.parse(SOURCE)) not in texts
    assert all(ast.parse(text) for text in texts)


@pytest.mark.parametrize("file", TARGETS)
def test_the_modules_and_their_tests_exist(file: str) -> None:
    assert (ROOT / file).is_file()
    assert all((ROOT / test).is_file() for test in TARGETS[file])


def test_every_listed_survivor_is_a_mutant_and_has_a_reason() -> None:
    listed = known_survivors()
    existing = {
        (file, mutant.where, mutant.change)
        for file in {file for file, _, _ in listed}
        for mutant in mutants((ROOT / file).read_text(encoding="utf-8"))
    }
    assert listed.keys() <= existing
    assert all(len(reason) > 20 for reason in listed.values())

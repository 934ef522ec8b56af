"""Whatever is wrong with data, the message comes with what to do about it."""

from __future__ import annotations

import ast
from pathlib import Path

import ndrepro.training.data

FOLDER = Path(ndrepro.training.data.__file__).parent


def without_cure(source: str) -> list[int]:
    """Lines that make a DataError of a message alone."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    errors = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "DataError"]
    return [call.lineno for call in errors if len(call.args) + len(call.keywords) < 2]


def test_every_error_about_data_has_a_cure() -> None:
    found = {path.name: without_cure(path.read_text(encoding="utf-8")) for path in FOLDER.rglob("*.py")}
    assert len(found) > 10
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_the_check_sees_one_that_has_none() -> None:
    assert without_cure('raise DataError(f"{path}: wrong")\nraise DataError("wrong", "right it")') == [1]

"""A study's file that came from somebody else: it is read and checked, and refused for what would take days.

Before, the points of each grid had a bound and those of all grids had none, values were compared with each other one
by one, and minutes beyond all numbers were called a defect.
"""

from __future__ import annotations

from typing import Any

import pytest

from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.study.study_schema import from_document

SETTINGS = {"arch": "lenet", "method": "bn", "dataset": "digits", "epochs": 1}


def study(**changes: Any) -> dict[str, Any]:
    return {"title": "one", "settings": SETTINGS, "grids": {"main": {"axes": {"seed": [0, 1]}}}, **changes}


def test_the_control_is_read() -> None:
    assert len(from_document("s", study()).runs()) == 2


def test_points_are_counted_over_all_grids() -> None:
    grids = {f"g{number}": {"axes": {"seed": [*range(1000)], "threads": [*range(1, 90)]}} for number in range(2)}
    with pytest.raises(UsageError, match="178,000 points, at most 100,000"):
        from_document("s", study(grids=grids))


def test_a_value_that_comes_twice_is_found_among_many() -> None:
    with pytest.raises(UsageError, match="seed has 7 twice"):
        from_document("s", study(grids={"main": {"axes": {"seed": [*range(90_000), 7]}}}))


@pytest.mark.parametrize("amount", [1e308, 1e9, float("inf"), float("nan"), 10**400])
@pytest.mark.parametrize("key", ["minutes", "memory_gib", "gpu_memory_gib", "nodes"])
def test_no_run_takes_more_than_any_machine_has(key: str, amount: Any) -> None:
    with pytest.raises(UsageError, match="expected a number above 0 and below 1e"):
        from_document("s", study(resources=[{key: amount}]))

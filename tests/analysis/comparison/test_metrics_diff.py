"""Results side by side: every value to its last bit, rows by what they are called."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from ndrepro.analysis.comparison.metrics_diff import compare_metrics
from ndrepro.text.plain_json import plain
from provenance.errors import StorageError
from provenance.formats.metrics_log import Row, ScalarLog


def write(path: Path, rows: list[Row]) -> Path:
    with ScalarLog(path) as log:
        for row in rows:
            log.append(row)
    return path


def test_equal_logs_are_identical_also_where_they_hold_no_numbers(tmp_path: Path) -> None:
    rows: list[Row] = [{"epoch": 1, "loss": math.nan, "rate": 0.1}, {"epoch": 2, "loss": math.inf, "rate": -0.0}]
    found = compare_metrics(write(tmp_path / "a", rows), write(tmp_path / "b", rows))
    assert found.identical and found.differing == () and found.rows == (2, 2)


def test_a_value_that_differs_in_its_last_bit_is_found(tmp_path: Path) -> None:
    one: list[Row] = [{"epoch": n, "accuracy": 0.5, "loss": 0.1 * n} for n in (1, 2, 3)]
    two = [{**row, "loss": math.nextafter(0.2, 1)} if row["epoch"] == 2 else row for row in one]
    found = compare_metrics(write(tmp_path / "a", one), write(tmp_path / "b", two))
    assert not found.identical
    assert [(row.row, dict(row.values)) for row in found.differing] == [
        ("epoch 2", {"loss": (0.2, math.nextafter(0.2, 1))})
    ]
    last = found.last_shared
    assert last is not None and last.row == "epoch 3" and last.values["accuracy"] == (0.5, 0.5)


@pytest.mark.parametrize(("one", "two"), [(0.0, -0.0), (1, 1.0), (math.nan, None)])
def test_what_looks_alike_and_is_not_differs(tmp_path: Path, one: float | None, two: float | None) -> None:
    paths = [write(tmp_path / name, [{"x": value}]) for name, value in (("a", one), ("b", two))]
    assert len(compare_metrics(*paths).differing) == 1


def test_rows_are_matched_by_epoch_then_step_then_place(tmp_path: Path) -> None:
    late = write(tmp_path / "a", [{"epoch": 2, "x": 1}, {"epoch": 3, "x": 2}])
    whole = write(tmp_path / "b", [{"epoch": 1, "x": 0}, {"epoch": 2, "x": 1}, {"epoch": 3, "x": 2}])
    found = compare_metrics(late, whole)
    assert found.differing == () and found.rows == (2, 3) and not found.identical
    steps = write(tmp_path / "c", [{"step": 10, "x": 1}, {"step": 10, "x": 2}])
    bare = write(tmp_path / "d", [{"x": 1}, {"y": 2}])
    assert compare_metrics(steps, steps).identical
    last = compare_metrics(bare, bare).last_shared
    assert last is not None and last.row == "row 2"


def test_a_value_that_only_one_has_is_a_difference(tmp_path: Path) -> None:
    found = compare_metrics(write(tmp_path / "a", [{"x": 1}]), write(tmp_path / "b", [{"x": 1, "y": 2}]))
    assert dict(found.differing[0].values) == {"y": (None, 2)}


def test_empty_and_torn_logs_are_compared_as_far_as_they_go(tmp_path: Path) -> None:
    empty, whole = write(tmp_path / "a", []), write(tmp_path / "b", [{"epoch": 1, "x": 1}])
    assert compare_metrics(empty, whole).last_shared is None
    with whole.open("ab") as stream:
        stream.write(b'{"epoch": 2, "x"')
    found = compare_metrics(whole, whole)
    assert found.rows == (1, 1) and found.notes[0] == "the last line of the first run's b is torn"
    (tmp_path / "c").write_text("[]\n")
    with pytest.raises(StorageError, match="line 1"):
        compare_metrics(whole, tmp_path / "c")


def test_the_json_holds_the_rows(tmp_path: Path) -> None:
    found = compare_metrics(
        write(tmp_path / "a", [{"epoch": 1, "x": 1}]), write(tmp_path / "b", [{"epoch": 1, "x": 2}])
    )
    written = json.loads(json.dumps(plain(found)))
    assert written["differing"] == [{"row": "epoch 1", "values": {"x": [1, 2]}}]


def test_numbers_that_one_release_did_not_record_are_left_out_and_told(tmp_path: Path) -> None:
    old: list[Row] = [{"epoch": 1, "test_accuracy": 0.5}]
    new: list[Row] = [{"epoch": 1, "test_accuracy": 0.5, "test_top5_accuracy": 0.9}]
    found = compare_metrics(write(tmp_path / "a", old), write(tmp_path / "b", new))
    assert found.identical and "test_top5_accuracy" in found.notes[0]
    other: list[Row] = [{"epoch": 1, "test_accuracy": 0.5, "test_top5_accuracy": 0.8}]
    both = compare_metrics(write(tmp_path / "c", other), tmp_path / "b")
    assert not both.identical and both.notes == (), "the control"

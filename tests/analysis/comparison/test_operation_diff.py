"""The first operation that differs is found, whatever stands around it; and distances count representable numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndrepro.analysis.comparison.operation_diff import (
    NOTHING,
    UNSEEN,
    compare_tensors,
    first_difference,
    read_difference,
    unfaithful,
)
from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.replay_messages import BACKWARD, BATCH, FORWARD, STATE, Operation, StepRecord, TensorBits, Wanted


def bits(word: str) -> TensorBits:
    return TensorBits((2, 3), "float32", word)


def operation(name: str, *words: str, part: str = FORWARD, path: str = "conv1", arguments: str = "") -> Operation:
    return Operation(part, path, "Conv2d", "", name, "", arguments, (), tuple(map(bits, words)))


def record(*operations: Operation) -> StepRecord:
    return StepRecord(
        step=3,
        started_from=0,
        device="cpu",
        torch="2.13.0",
        threads=1,
        state={"conv1.weight": bits("aa"), "conv1.bias": bits("bb")},
        momentum={"conv1.weight": bits("cc")},
        batch={"images": bits("dd"), "labels": bits("ee")},
        operations=operations,
        leaving=("f0", "f1"),
        loss_bits="3ff0000000000000",
    )


STEP = (operation("aten.index", "1", part=BATCH, path=""), operation("aten.mm", "2"), operation("aten.relu", "3"))


def test_a_difference_of_zero_is_a_finding() -> None:
    found = first_difference(record(*STEP), record(*STEP))
    assert (found.part, found.equal, found.numbers) == (NOTHING, 3, None)
    assert found.wanted() == (Wanted(), Wanted())


def test_the_first_operation_and_its_first_output_are_named() -> None:
    a = record(*STEP, operation("aten.convolution_backward", "4", "5", part=BACKWARD), operation("aten.add", "6"))
    b = record(*STEP, operation("aten.convolution_backward", "4", "x", part=BACKWARD), operation("aten.add", "y"))
    found = first_difference(a, b)
    assert (found.part, found.numbers, found.output, found.equal) == (BACKWARD, (3, 3), 1, 3)
    assert found.wanted()[0] == Wanted(BACKWARD, operation=3)
    assert not found.other_arguments


def test_other_arguments_are_told() -> None:
    a, b = (record(*STEP, operation("aten.add_", word, arguments=word)) for word in ("alpha=-0.1", "alpha=-0.2"))
    assert first_difference(a, b).other_arguments


@pytest.mark.parametrize(
    ("place", "name"),
    [("state", "conv1.bias"), ("momentum", "momentum of conv1.weight"), ("batch", "images")],
)
def test_what_a_step_starts_from_comes_before_its_operations(place: str, name: str) -> None:
    other = record(STEP[0], operation("aten.mm", "x"))
    changed = {**getattr(other, place), name.removeprefix("momentum of "): bits("99")}
    changes: dict[str, Any] = {place: changed}
    found = first_difference(record(*STEP), replace(other, **changes))
    assert found.part == (BATCH if place == "batch" else STATE)
    assert (found.name, found.differing) == (name, (name,))
    assert found.operations is not None and found.operations[0].name == "aten.mm", "what it reaches first"
    assert found.wanted() == (Wanted(found.part, name=name),) * 2


def test_operations_that_only_one_version_has_are_passed_over() -> None:
    a = record(*STEP, operation("aten.old", "4"), operation("aten.sum", "5"), operation("aten.mm", "6"))
    b = record(*STEP, operation("aten.new", "9"), operation("aten.more", "4"), operation("aten.sum", "5"), STEP[2])
    assert first_difference(a, b).part == NOTHING
    parted = replace(b, operations=(*b.operations[:5], operation("aten.sum", "x")))
    found = first_difference(a, parted)
    # what they came to was equal, so it is not their doing
    assert (found.numbers, found.computed_otherwise) == ((4, 5), None)


def test_operations_that_only_one_version_has_are_named_where_their_results_differ() -> None:
    a = record(*STEP, operation("aten.old", "4"), operation("aten.sum", "5"), operation("aten.mm", "6"))
    b = record(*STEP, operation("aten.new", "7"), operation("aten.sum", "5"), operation("aten.mm", "8"))
    found = first_difference(a, b)
    assert (found.numbers, found.equal) == ((5, 5), 4)
    assert [[each.name for each in only] for only in found.only] == [["aten.old"], ["aten.new"]]


def test_another_end_without_another_operation_is_said() -> None:
    assert first_difference(record(*STEP), replace(record(*STEP), leaving=("f0", "other"))).part == UNSEEN


def test_a_replay_that_is_not_the_recorded_step_is_found_out() -> None:
    names = ("conv1.weight", "conv1.bias")
    assert unfaithful(record(), ("f0", "f1"), "3ff0000000000000", names) == []
    assert unfaithful(record(), ("f0", "f2"), "3ff0000000000001", names) == ["loss", "conv1.bias"]


def test_a_record_comes_back_as_it_was_and_another_schema_is_refused() -> None:
    written = json.loads(json.dumps(record(*STEP).to_json()))
    assert StepRecord.from_json(written) == record(*STEP)
    with pytest.raises(NdreproError, match="schema 'urn:ndrepro:replay:v0'"):
        StepRecord.from_json({**written, "schema": "urn:ndrepro:replay:v0"})


@given(st.floats(-(2.0**126), 2.0**126, width=32), st.integers(0, 50))
def test_a_distance_counts_the_numbers_between(start: float, steps: int) -> None:
    first = np.array([start], dtype=np.float32)
    second = first.copy()
    taken = 0
    for _ in range(steps):
        following = np.nextafter(second, np.float32(np.inf))
        # both zeros are one number
        second, taken = following, taken + 1
    found = compare_tensors(first, second, "float32")
    assert found.largest_ulps == taken
    assert found.differing == (first.tobytes() != second.tobytes())


def test_numbers_of_other_types_are_compared_too() -> None:
    whole = compare_tensors(np.array([1, 2, 9]), np.array([1, 2, 4]), "int64")
    assert (whole.differing, whole.largest_ulps, whole.largest_absolute) == (1, None, 5.0)
    coarse = compare_tensors(np.array([0x3F80], dtype="i2"), np.array([0x3F81], dtype="i2"), "bfloat16")
    assert (coarse.differing, coarse.largest_ulps, coarse.largest_absolute) == (1, 1, 2.0**-7)


def test_a_distance_between_opposite_signs_has_64_bits() -> None:
    largest = np.finfo(np.float64).max
    found = compare_tensors(np.array([largest, 2.0]), np.array([-largest, -2.0]), "float64")
    assert (
        found.largest_ulps == 2 * int(np.float64(largest).view(np.int64)) and found.median_ulps == 2.0**63 * 1.5 - 2**52
    )


def test_what_is_no_number_is_counted_apart() -> None:
    first = np.array([1.0, np.nan, np.inf, 2.0], dtype=np.float32)
    second = np.array([1.0, 3.0, np.inf, np.nextafter(np.float32(2.0), np.float32(3.0))], dtype=np.float32)
    found = compare_tensors(first, second, "float32")
    assert (found.differing, found.only_one_finite, found.largest_ulps) == (2, 1, 1)


def test_inputs_that_differ_already_are_told(tmp_path: Path) -> None:
    one, two = np.ones(3, dtype=np.float32), np.full(3, 2, dtype=np.float32)
    for name, taken in (("a", one), ("b", two)):
        kept: dict[str, Any] = {"input 0": one, "input 1": taken, "output 0": taken}
        np.savez(tmp_path / f"{name}.npz", **kept)
    found = first_difference(record(operation("aten.mm", "1")), record(operation("aten.mm", "2")))
    difference, unequal = read_difference(found, (tmp_path / "a.npz", tmp_path / "b.npz"), "float32")
    assert (difference.differing, unequal) == (3, ["input 1"])

"""An author changes a few hashes, so that bits are no longer compared, and signs invented results and weights.

Before: one changed hash made "close" of what would be "inconsistent", and "close" compared nothing but the steps'
losses and the last accuracy. The reviewer's repetition here is the honest run itself: it has the bits that a
repetition on the same machine has.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dishonest_author import (
    copied,
    edit_checkpoint,
    edit_results,
    edit_trail,
    manifest_of,
    original_of,
    other_trajectory,
    planned,
    put_weights,
    restate,
    sign_again,
)
from forged_states import random_weights
from real_runs import Bench
from safetensors.numpy import load_file

from ndrepro.analysis.verdicts.reproduction_claims import RESULTS, evaluation_claim
from ndrepro.analysis.verdicts.reproduction_evidence import compare_with
from ndrepro.analysis.verdicts.reproduction_verdict import Judgement, judge
from ndrepro.execution.reproduce.reexecute import evaluation_of, execute
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import Finished
from ndrepro.protocol.data_record import DataRecord
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Scores
from provenance.formats.atomic_io import write_json
from provenance.formats.metrics_log import read_scalars

ANOTHER = {"model_name": "Another processor"}


def signed_on(folder: RunFolder, author: Bench, cpu: dict[str, Any]) -> None:
    """Sign it, as of another processor where ``cpu`` says so: there bits may differ."""
    machine: dict[str, Any] = dict(manifest_of(folder).machine)
    inner = dict(machine["machine"])
    seals = json.loads(folder.environment.read_text())
    for seal in seals.values():
        captured = seal["environment"]["machine"]
        captured["cpu"] = {**captured["cpu"], **cpu}
    write_json(folder.environment, seals)
    sign_again(folder, author, machine={**machine, "machine": {**inner, "cpu": {**inner["cpu"], **cpu}}})


def failed(found: Judgement) -> set[str]:
    return {claim.name for claim in found.claims if claim.status == "failed"}


@pytest.mark.parametrize(("cpu", "verdict"), [({}, "inconsistent"), (ANOTHER, "undecided")], ids=["same", "another"])
def test_random_weights_and_invented_accuracies_do_not_pass(
    honest: Finished, author: Bench, tmp_path: Path, cpu: dict[str, str], verdict: str
) -> None:
    folder = copied(honest.folder, tmp_path)
    random_weights(folder)
    for epoch in (1, 2, 3):
        edit_results(folder, epoch, test_accuracy=0.99, test_loss=0.01)
    restate(folder)
    signed_on(folder, author, cpu)
    original_of(folder, author)
    found = judge(folder, honest.folder)
    print(f"{found.verdict}: {found.because}")
    assert found.verdict == verdict and not found.passes
    assert {"epoch results", "end state", "final weights"} <= failed(found)
    assert "23 steps are equal bit for bit and step 24 is not" in found.because or cpu


@pytest.mark.parametrize(("cpu", "verdict"), [({}, "inconsistent"), (ANOTHER, "undecided")], ids=["same", "another"])
def test_one_hash_of_the_first_step_is_no_other_trajectory(
    honest: Finished, author: Bench, tmp_path: Path, cpu: dict[str, str], verdict: str
) -> None:
    """Every loss is changed in its last bit, every state and the weights are the honest ones; the last accuracy is
    invented, within the tolerance of other trajectories."""
    folder = copied(honest.folder, tmp_path)
    edit_trail(folder, lambda records: records[1:2, 2:3].__ixor__(np.uint64(1)))
    edit_trail(folder, lambda records: records[1:, 1].__iadd__(np.uint64(1)))
    edit_results(folder, 3, test_accuracy=recorded(folder, 3, "test_accuracy") + 0.004)
    restate(folder)
    signed_on(folder, author, cpu)
    original_of(folder, author)
    found = judge(folder, honest.folder)
    assert found.verdict == verdict and not found.passes
    assert "equal bit for bit, and" in found.because and "after step 1 is not" in found.because


@pytest.mark.parametrize(("cpu", "verdict"), [({}, "inconsistent"), (ANOTHER, "undecided")], ids=["same", "another"])
def test_equal_losses_after_other_weights_are_no_other_kernels(
    honest: Finished, author: Bench, tmp_path: Path, cpu: dict[str, str], verdict: str
) -> None:
    """Every hash is changed, from the first step on, and no loss is."""
    folder = copied(honest.folder, tmp_path)
    weights = load_file(folder.weights)
    for each in weights.values():
        if each.dtype.kind == "f":
            each *= np.float32(1.001)
    folder.checkpoint(24).unlink()
    edit_trail(folder, lambda records: records[1:, 2:].__ixor__(np.uint64(1)))
    put_weights(folder, weights)
    restate(folder)
    signed_on(folder, author, cpu)
    original_of(folder, author)
    found = judge(folder, honest.folder)
    assert found.verdict == verdict and "losses after the weights first differ are equal" in found.because


@pytest.mark.parametrize(("cpu", "verdict"), [({}, "inconsistent"), (ANOTHER, "undecided")], ids=["same", "another"])
def test_the_last_bit_of_one_loss_leaves_no_room_for_results(
    honest: Finished, author: Bench, tmp_path: Path, cpu: dict[str, str], verdict: str
) -> None:
    """No hash, state or weight is changed, and an epoch's loss is invented, within those of another trajectory."""
    folder = copied(honest.folder, tmp_path)
    edit_trail(folder, lambda records: records[1:2, 1].__iadd__(np.uint64(1 << 29)))
    edit_results(folder, 3, test_loss=recorded(folder, 3, "test_loss") * 1.005)
    restate(folder)
    signed_on(folder, author, cpu)
    original_of(folder, author)
    found = judge(folder, honest.folder)
    assert found.verdict == verdict, found.because
    assert failed(found) == {RESULTS}
    assert ("equal bit for bit, and the loss of step 1 is not" in found.because) == (not cpu)


@pytest.mark.parametrize(("cpu", "verdict"), [({}, "undecided"), (ANOTHER, "close")], ids=["same", "another"])
def test_other_weights_are_not_close_where_equal_bits_are_promised(
    honest: Finished, author: Bench, tmp_path: Path, cpu: dict[str, str], verdict: str
) -> None:
    """Every matrix is changed by half a per cent, and one loss of the first step in its last bit."""
    folder = copied(honest.folder, tmp_path)
    other_weights(folder)
    signed_on(folder, author, cpu)
    original_of(folder, author)
    found = judge(folder, honest.folder, (0.5,) * 5)
    assert found.verdict == verdict, found.because
    assert ("under conditions that promise equal bits" in found.because) == (not cpu)
    assert ("no equal bits are promised: cpu: model_name" in found.because) == bool(cpu)


def test_no_other_trajectory_is_consistent_where_equal_bits_are_promised(
    honest: Finished, author: Bench, tmp_path: Path
) -> None:
    found = {}
    for name, cpu in (("same", {}), ("another", ANOTHER)):
        folder = copied(honest.folder, tmp_path / name)
        other_trajectory(folder)
        edit_trail(folder, later_losses)
        edit_results(folder, 4, train_loss=0.5)
        signed_on(folder, author, cpu)
        last = recorded(folder, 4, "test_accuracy")
        found[name] = judge(folder, honest.folder, [last + shift for shift in (-0.01, -0.005, 0.0, 0.005, 0.01)])
    assert found["another"].verdict == "consistent", f"the control: {found['another'].because}"
    assert found["same"].verdict == "undecided" and "promise equal bits" in found["same"].because


@pytest.mark.parametrize(("cpu", "status"), [({}, "flagged"), (ANOTHER, "failed")], ids=["same", "another"])
def test_one_image_of_few_is_not_free(
    honest: Finished, author: Bench, tmp_path: Path, cpu: dict[str, str], status: str
) -> None:
    """Before: it counted as no difference, and the claim "accuracies by 0" was checked, 3 points of 32 test images."""
    folder = copied(honest.folder, tmp_path)
    then = recorded(folder, 2, "test_accuracy")
    edit_results(folder, 2, test_accuracy=then + (1 / 32 if then < 1 else -1 / 32))
    other_weights(folder)
    signed_on(folder, author, cpu)
    original_of(folder, author)
    found = judge(folder, honest.folder)
    (results,) = (each for each in found.claims if each.name == RESULTS)
    assert results.status == status and "accuracies by 0.031 (images: 1), tolerance 0.005" in results.evidence
    assert found.verdict == "undecided", found.because


def other_weights(folder: RunFolder) -> None:
    weights = load_file(folder.weights)
    for each in weights.values():
        if each.dtype.kind == "f" and each.ndim > 1:
            each *= np.float32(1.005)
    folder.checkpoint(24).unlink()
    put_weights(folder, weights)
    edit_trail(folder, lambda records: records[1:2, 1].__iadd__(np.uint64(1 << 29)))
    restate(folder)


def later_losses(records: np.ndarray) -> None:
    records[8:, 1] = (records[8:, 1].copy().view(np.float64) * 1.2).view(np.uint64)


def recorded(folder: RunFolder, epoch: int, name: str) -> float:
    return float(json.loads(folder.metrics.read_text().splitlines()[epoch - 1])[name])


def test_each_invented_result_is_found(honest: Finished, author: Bench, tmp_path: Path) -> None:
    """Losses in their last bits make a trajectory that may be "close"; any epoch's results still have to be."""
    folder = copied(honest.folder, tmp_path)
    other_trajectory(folder)
    signed_on(folder, author, ANOTHER)
    assert judge(folder, honest.folder).verdict == "close", "the control"
    for changes in ({"test_accuracy": 0.99}, {"train_loss": 0.1}, {"learning_rate": 0.5}, {"test_top5_accuracy": 0.0}):
        folder = copied(folder, tmp_path / next(iter(changes)))
        edit_results(folder, 2, **changes)
        found = judge(folder, honest.folder)
        assert not found.passes and failed(found) == {"epoch results"}, found.because


def test_each_checkpoint_is_compared_or_named(honest: Finished, author: Bench, tmp_path: Path) -> None:
    """Random weights after two of four epochs. Before: "close", and no claim names a checkpoint."""

    def near(tensors: dict[str, np.ndarray], place: object = None) -> None:
        for name, each in tensors.items():
            if not name.startswith("momentum.") and each.dtype.kind == "f":
                tensors[name] = each * each.dtype.type(1.001)

    def random(tensors: dict[str, np.ndarray], place: object) -> None:
        for name, each in tensors.items():
            if name.startswith("net.") and each.dtype.kind == "f":
                tensors[name] = np.random.default_rng(0).standard_normal(each.shape).astype(each.dtype)

    folder = copied(honest.folder, tmp_path)
    edit_trail(folder, lambda records: records[1:, 1:].__iadd__(np.uint64(1)))
    near(weights := load_file(folder.weights))
    put_weights(folder, weights)
    for step in folder.checkpoint_steps():
        edit_checkpoint(folder.checkpoint(step), near)
    restate(folder)
    signed_on(folder, author, ANOTHER)
    original_of(folder, author)
    found = judge(folder, honest.folder)
    (claim,) = (each for each in found.claims if each.name == "checkpoints")
    assert (found.verdict, claim.status) == ("close", "checked"), f"the control: {found.because}"
    assert "after step 6, 12, 18, 24: weights are at most 0.001 apart" in claim.evidence
    edit_checkpoint(folder.checkpoint(12), random)
    restate(folder)
    signed_on(folder, author, ANOTHER)
    original_of(folder, author)
    found = judge(folder, honest.folder)
    assert found.verdict == "undecided" and failed(found) == {"checkpoints"}, found.because
    again = copied(honest.folder, tmp_path / "again")
    again.checkpoint(12).unlink()
    found = judge(folder, again)
    (claim,) = (each for each in found.claims if each.name == "checkpoints")
    assert claim.status == "not checked" and "the repetition kept none after step 12" in claim.evidence


def test_other_checkpoints_beside_equal_steps_are_false(honest: Finished, author: Bench, tmp_path: Path) -> None:
    """No rounding excuses them. Before: "checked, at most 0.0095 apart, tolerance 0.01", and "identical"."""

    def near(tensors: dict[str, np.ndarray], place: object) -> None:
        for name, each in tensors.items():
            tensors[name] = each * each.dtype.type(1.001) if each.dtype.kind == "f" else each

    folder = copied(honest.folder, tmp_path)
    folder.states.unlink()
    edit_checkpoint(folder.checkpoint(12), near)
    signed_on(folder, author, {})
    original_of(folder, author)
    found = judge(folder, honest.folder)
    assert not found.passes and failed(found) == {"checkpoints"}, found.because


def test_a_large_buffer_hides_no_exchanged_weights(honest: Finished, author: Bench, tmp_path: Path) -> None:
    """Beside a constant of large numbers, all weights together are nothing of the whole norm."""
    folders = []
    for number, name in enumerate(("then", "now")):
        (tmp_path / name).mkdir()
        folder = copied(honest.folder, tmp_path / name)
        weights = load_file(folder.weights)
        for each in weights.values():
            if each.dtype.kind == "f":
                each *= each.dtype.type(1 + number)
        put_weights(folder, {**weights, "scale": np.full(1000, 1e6 + number, np.float32)})
        folders.append(folder)
    distance = compare_with(folders[0], folders[1]).weights.distance
    assert distance is not None and 0.99 < distance <= 1.01


def test_one_image_is_allowed_only_where_conditions_differ(honest: Finished, author: Bench, tmp_path: Path) -> None:
    """Before, in a spot check: one right answer more than the signed weights give was "checked" as rounding."""
    original = original_of(honest.folder, author)
    asked = evaluation_of(original, planned(original, author.options))
    (again,) = execute(original, asked, author.options, Observer())
    assert evaluation_claim(honest.folder, again.folder).status == "checked", "the control"
    rows = [Scores.from_row(row) for row in read_scalars(honest.folder.metrics)]
    folder, images = copied(honest.folder, tmp_path), DataRecord.read(honest.folder.dataset).scored_images
    edit_results(folder, 4, test_accuracy=rows[-1].test_accuracy + 1 / images)
    sign_again(folder, author)
    claim = evaluation_claim(folder, again.folder)
    assert claim.status == "flagged" and claim.evidence.endswith("under conditions that promise equal bits")
    assert evaluation_claim(folder, again.folder, stand_in=True).status == "checked"
    signed_on(folder, author, ANOTHER)
    assert evaluation_claim(folder, again.folder).status == "checked", "another processor"


def test_signed_weights_are_evaluated_again(honest: Finished, author: Bench, tmp_path: Path) -> None:
    """Random weights give other test results than those that were signed of them."""
    folder = copied(honest.folder, tmp_path)
    random_weights(folder)
    restate(folder)
    signed_on(folder, author, ANOTHER)
    original = original_of(folder, author)
    asked = evaluation_of(original, planned(original, author.options))
    (again,) = execute(original, asked, author.options, Observer())
    assert again.error is None
    claim = evaluation_claim(folder, again.folder)
    print(claim.evidence)
    assert claim.status == "failed"
    assert evaluation_claim(replace(honest.folder), again.folder).status == "failed"
    original_of(again.folder, author)  # the evaluation is a recorded run itself, and verifies

"""What a repetition shows about a run: the comparison of every step, state, result and weight, without a verdict.

A repetition is the whole run, or a segment of it that starts from a signed state. The trail's hashes are linear: they
locate the first difference, and are no evidence against an author. The state digests are SHA-256 (``states.jsonl``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ndrepro.analysis.verdicts.data_evidence import DataEvidence, compare_data, other_facts
from ndrepro.analysis.verdicts.run_conditions import promises_bits, unequal_conditions
from ndrepro.analysis.verdicts.weight_evidence import (
    CheckpointEvidence,
    WeightEvidence,
    compare_checkpoints,
    compare_weights,
)
from ndrepro.protocol.data_record import DataRecord
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, Scores, read_json
from ndrepro.protocol.training_state import StateDigest, read_states
from provenance.attestation.dsse import read_envelope
from provenance.attestation.manifest import Manifest
from provenance.attestation.statement import Statement
from provenance.errors import TrailError
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.metrics_log import read_scalars
from provenance.formats.trail import Divergence, Trail

_EARLY_STEPS = 3
# tensors that the loss of a training step does not depend on
_STATISTICS = ("running_mean", "running_var", "running_deconv", "num_batches_tracked")


@dataclass(frozen=True)
class StepEvidence:
    """Every step of the repetition beside the run's.

    ``compared`` steps from step ``first`` on; ``complete``: none is missing in either. ``divergence`` is the first
    record whose bits differ. ``largest_loss_difference`` is relative, ``early_loss_difference`` that of the first three
    steps after the last equal state, which rounding has had no time to amplify, and ``first_loss_difference`` that of
    the very first of them, a forward pass of equal weights. After the first step that left other parameters,
    ``losses_after`` losses follow, of which ``equal_losses_after`` are equal bit for bit.
    """

    first: int
    compared: int
    complete: bool
    divergence: Divergence | None
    largest_loss_difference: float
    early_loss_difference: float
    first_loss_difference: float = 0.0
    losses_after: int = 0
    equal_losses_after: int = 0

    @property
    def identical_steps(self) -> int:
        """Training steps that are equal bit for bit before the first difference."""
        if self.divergence is None:
            return self.compared
        return max(self.divergence.step - self.first - 1, 0)


@dataclass(frozen=True)
class EpochEvidence:
    """Every epoch's results: ``epochs`` were compared, ``missing`` are not in the run; ``identical`` bit for bit.
    ``unrepeated`` are results that the run records and the repetition, by its code, does not compute.

    ``largest_loss_difference`` is relative, over training and test losses; ``largest_accuracy_difference`` is a
    fraction, over all accuracies, and ``images_apart`` the same in images, of which there are as many as the repetition
    read; ``same_rates``: every learning rate is equal.
    ``accuracies`` are the last test accuracies (run, repetition).
    """

    epochs: int
    missing: int
    identical: bool
    largest_loss_difference: float
    largest_accuracy_difference: float
    images_apart: float
    same_rates: bool
    accuracies: tuple[float, float] | None
    unrepeated: tuple[str, ...] = ()


@dataclass(frozen=True)
class StateEvidence:
    """The recorded state digests: ``recorded``: the run has any; ``start`` and ``end``: those are equal.

    ``compared`` states are in both; ``differing`` are the epochs after which they differ, ascending.
    """

    recorded: bool
    compared: int
    start: bool
    end: bool
    differing: tuple[int, ...]


@dataclass(frozen=True)
class ReproductionEvidence:
    """Everything that is compared. ``whole``: the run was repeated as a whole; ``final``: to its last step.

    ``deterministic``: the run's level promises equal bits under equal conditions; ``unequal_conditions``: why none are
    promised, in words. ``same_network``: both record the same layers and counts; ``None`` where one has no record.
    """

    whole: bool
    final: bool
    steps: StepEvidence
    epochs: EpochEvidence
    states: StateEvidence
    weights: WeightEvidence
    checkpoints: CheckpointEvidence
    data: DataEvidence
    same_network: bool | None
    deterministic: bool
    unequal_conditions: tuple[str, ...]
    steps_per_epoch: int

    @property
    def same_bits_promised(self) -> bool:
        """Whether the run's level promises equal bits, and the conditions are equal."""
        return not self.unequal_conditions

    @property
    def equal_ends(self) -> bool:
        """Whether all states that were recorded, or else the final weights, are equal bit for bit."""
        if self.states.recorded:
            return self.states.end and not self.states.differing
        return self.final and bool(self.weights.identical)


def compare_with(original: RunFolder, again: RunFolder) -> ReproductionEvidence:
    """Compare a run with its repetition.

    Raises TrailError where the two follow different tensors, DataError where a record of data is not of its type.
    """
    data = DataRecord.read(original.dataset), DataRecord.read(again.dataset)
    request = Request.from_json(read_json(again.request))
    whole = request.segment_epochs is None
    then, now = Trail(original.trail), Trail(again.trail)
    epochs = Request.from_json(read_json(original.request)).experiment.epochs
    steps = compare_steps(then, now, whole)
    manifests = manifest_of(original), manifest_of(again)
    last = steps.first + len(now) - 1
    final = last == len(then) - 1
    states = read_states(original.states), read_states(again.states)
    kept = (RunFolder.checkpoint_step(artifact.path) for artifact in manifests[0].artifacts)
    signed = {step for step in kept if step is not None and (whole or steps.first < step <= last)}
    bound = {row.step for row in {*states[0]} & {*states[1]}}
    return ReproductionEvidence(
        whole=whole,
        final=final,
        steps=steps,
        epochs=_compare_epochs(original, again, data[1]),
        states=compare_states(*states),
        weights=compare_weights(original, again, last, final),
        checkpoints=compare_checkpoints(original, again, signed - bound),
        data=replace(compare_data(*data), otherwise=other_facts(read_json(original.dataset), read_json(again.dataset))),
        same_network=_same_network(original.model, again.model),
        deterministic=promises_bits(manifests[0]),
        unequal_conditions=unequal_conditions(*manifests),
        steps_per_epoch=max((len(then) - 1) // max(epochs, 1), 1),
    )


def manifest_of(folder: RunFolder) -> Manifest:
    """The manifest of a run, which the caller has verified or made."""
    return Statement.from_bytes(read_envelope(folder.manifest.read_bytes())[1]).manifest


def compare_steps(then: Trail, now: Trail, whole: bool) -> StepEvidence:
    """Every record of two trails; a segment starts at its first step, and its first record is a state without a loss.

    Raises TrailError where they follow different tensors, or nothing was recorded.
    """
    import numpy as np

    if then.tensors != now.tensors:
        raise TrailError(f"{now.path}: other tensors than {then.path}", "these are not the same network")
    if not len(now):
        raise TrailError(f"{now.path}: no step was recorded", "see its log.txt")
    first = int(now.records[0, 0])
    before, after = then.records[first : first + len(now)], now.records[: max(len(then) - first, 0)]
    unequal = before != after
    if not whole:
        unequal[:1, 1] = False
    losses = before[1:, 1].copy().view(np.float64), after[1:, 1].copy().view(np.float64)
    complete = len(then) == len(now) if whole else len(after) == len(now)
    rows = np.flatnonzero(unequal.any(axis=1))
    # the loss of a record is computed from the state of the record before it
    equal = max(int(rows[0]) - 1, 0) if rows.size else 0
    early = tuple(each[equal : equal + _EARLY_STEPS] for each in losses)
    if not rows.size:
        return StepEvidence(first, max(len(after) - 1, 0), complete, None, 0.0, 0.0)
    row = unequal[rows[0]]
    names = tuple(then.tensors[index].name for index in np.flatnonzero(row[2:]))
    parameters = [2 + i for i, t in enumerate(then.tensors) if t.name.rpartition(".")[2] not in _STATISTICS]
    other = np.flatnonzero(unequal[:, parameters].any(axis=1))
    later = unequal[int(other[0]) + 1 :, 1] if other.size else unequal[:0, 1]
    return StepEvidence(
        first,
        max(len(after) - 1, 0),
        complete,
        Divergence(first + int(rows[0]), bool(row[1]), names),
        relative_difference(*losses),
        relative_difference(*early),
        relative_difference(*(each[:1] for each in early)),
        len(later),
        int((~later).sum()),
    )


def relative_difference(then: Any, now: Any) -> float:
    """The largest relative difference of two sequences of n floats; infinite where only one is finite."""
    import numpy as np

    if not len(then):
        return 0.0
    then, now = np.asarray(then, dtype=np.float64), np.asarray(now, dtype=np.float64)
    finite = np.isfinite(then)
    if (finite != np.isfinite(now)).any():
        return math.inf
    differences = np.abs(then[finite] - now[finite]) / np.maximum(np.abs(then[finite]), 1e-12)
    return float(differences.max(initial=0.0))


def compare_states(then: Sequence[StateDigest], now: Sequence[StateDigest]) -> StateEvidence:
    """The state digests of a run and of its repetition, by their steps."""
    known = {row.step: row for row in then}
    pairs = [(known[row.step], row) for row in now if row.step in known]
    equal = [one == two for one, two in pairs]
    ends = bool(pairs) and pairs[-1][1] == now[-1]
    return StateEvidence(
        recorded=bool(then),
        compared=len(pairs),
        start=bool(pairs) and pairs[0][1] == now[0] and equal[0],
        end=ends and equal[-1],
        differing=tuple(row.epoch for (_, row), same in zip(pairs, equal, strict=True) if not same),
    )


def _compare_epochs(original: RunFolder, again: RunFolder, data: DataRecord) -> EpochEvidence:
    then, now = _rows(original), _rows(again)
    shared = sorted(set(then) & set(now))
    images = {"train": data.train_images, "test": data.scored_images}
    loss = accuracy = apart = 0.0
    for one, two in ((then[epoch], now[epoch]) for epoch in shared):
        loss = max(loss, relative_difference([one.train_loss, one.test_loss], [two.train_loss, two.test_loss]))
        differences = {name: _accuracy_difference(one, two, name) for name in _ACCURACIES}
        accuracy = max(accuracy, *differences.values())
        apart = max(apart, *(each * images[name.partition("_")[0]] for name, each in differences.items()))
    return EpochEvidence(
        epochs=len(shared),
        missing=len(now) - len(shared),
        identical=len(shared) == len(now) and all(then[epoch].agrees_with(now[epoch]) for epoch in shared),
        largest_loss_difference=loss,
        largest_accuracy_difference=accuracy,
        images_apart=apart,
        same_rates=all(then[epoch].learning_rate == now[epoch].learning_rate for epoch in shared),
        accuracies=(then[shared[-1]].test_accuracy, now[shared[-1]].test_accuracy) if shared else None,
        unrepeated=tuple(name for name in _ACCURACIES if any(_only_first(then[e], now[e], name) for e in shared)),
    )


_ACCURACIES = ("train_accuracy", "test_accuracy", "train_top5_accuracy", "test_top5_accuracy")


def _accuracy_difference(one: Scores, two: Scores, name: str) -> float:
    """How far two accuracies are apart, as a fraction; infinite where one is no number."""
    a, b = getattr(one, name), getattr(two, name)
    if a is None or b is None:
        return 0.0
    difference = round(abs(a - b), 12)  # 1 of 200 images is 0.005, the tolerance
    return difference if math.isfinite(difference) else math.inf


def _only_first(one: Scores, two: Scores, name: str) -> bool:
    return getattr(one, name) is not None and getattr(two, name) is None


def _same_network(then: Path, now: Path) -> bool | None:
    """Whether both runs record the same network: ``model.json``, every layer and every count."""
    if not then.exists() or not now.exists():
        return None
    return canonical_bytes(read_json(then)) == canonical_bytes(read_json(now))


def _rows(folder: RunFolder) -> dict[int, Scores]:
    return {scores.epoch: scores for scores in map(Scores.from_row, read_scalars(folder.metrics))}

"""What a run claims, one by one: which claims its repetition checked, with what evidence, and which it did not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from ndrepro.analysis.verdicts.data_evidence import compare_data
from ndrepro.analysis.verdicts.reproduction_evidence import (
    ReproductionEvidence,
    manifest_of,
    relative_difference,
)
from ndrepro.analysis.verdicts.run_conditions import unequal_conditions
from ndrepro.protocol.data_record import DataRecord
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Evaluated, Scores, read_json
from ndrepro.protocol.verdicts import (
    CHECKED,
    FLAGGED,
    IDENTICAL,
    INCONSISTENT,
    NOT_CHECKED,
    UNDECIDED,
    ClaimCheck,
    claim,
)
from ndrepro.text.plurals import first_of, plural
from provenance.formats.metrics_log import read_scalars

EVALUATION, FINAL_WEIGHTS, DATA = "signed weights evaluated again", "final weights", "data"
OUTSIDE_DATA = "data read outside the container image"
READER = "data read by this checkout before"
RESULTS = "epoch results"
_NO_RESULTS = "neither has any"
NETWORK, STEPS, END_STATE, CHECKPOINTS = "network", "steps", "end state", "checkpoints"


class Judged(Protocol):
    """A verdict with the claims behind it."""

    @property
    def verdict(self) -> str:
        """The verdict's word."""

    @property
    def claims(self) -> tuple[ClaimCheck, ...]:
        """What was checked."""


# a difference of accuracies times the number of images, with what rounding leaves
ONE_IMAGE = 1.001


class Tolerance:
    """What counts as the same trajectory.

    ``loss``: a step's loss, relative; ``early_loss``: the same of the first three steps from an equal state, beyond
    which no rounding brings them; ``first_loss``: the same of the first of them, one forward pass; ``epoch_loss``: an
    epoch's mean losses, relative; ``accuracy``: any accuracy, as a fraction, however few images it is of;
    ``evaluation``: the same of given weights, where nothing but rounding in one pass differs; ``weights``: the distance
    of each tensor, relative to its norm; ``momentum``: that of all momentum, relative to its norm, which sums gradients
    and so carries rounding much further.
    """

    loss = 1e-3
    early_loss = 0.05
    first_loss = 1e-3
    epoch_loss = 1e-2
    accuracy = 0.005
    evaluation = 0.002
    weights = 0.01
    momentum = 0.5


def claims_of(found: ReproductionEvidence) -> tuple[ClaimCheck, ...]:
    """Every claim that a repetition can check, in the order in which a run makes them."""
    ends = _ends(found)
    return (_network(found), _start(found), _steps(found), _results(found), *ends, *_checkpoints(found), *_data(found))


def _network(found: ReproductionEvidence) -> ClaimCheck:
    evidence = "layers, shapes and counts of parameters" if found.same_network else "layers or counts differ"
    return claim(NETWORK, found.same_network, evidence if found.same_network is not None else "no record of it")


def _start(found: ReproductionEvidence) -> ClaimCheck:
    name, states = "start state", found.states
    if states.recorded:
        return claim(
            name, states.start, "SHA-256 of weights, momentum, position in the data and running totals, as signed"
        )
    if found.steps.first == 0:
        return claim(name, True, "drawn from the seed again")
    return claim(name, None, "no state digest was recorded: momentum and running totals are not covered")


def _steps(found: ReproductionEvidence) -> ClaimCheck:
    name, steps = STEPS, found.steps
    if _untrained(found):
        return claim(name, True, "neither takes any")
    if not steps.complete or not steps.compared:
        return claim(name, False, f"{plural(steps.compared, 'step')} compared; the two have different numbers of steps")
    if steps.divergence is None:
        return claim(name, True, f"{plural(steps.compared, 'step')}: losses and 64-bit hashes equal bit for bit")
    return claim(
        name,
        steps.largest_loss_difference <= Tolerance.loss,
        f"{plural(steps.compared, 'step')}: losses differ by at most {steps.largest_loss_difference:.2g} (relative), "
        f"tolerance {Tolerance.loss:g}; bits differ from step {steps.divergence.step} on",
    )


def _results(found: ReproductionEvidence) -> ClaimCheck:
    name, epochs = RESULTS, found.epochs
    many = plural(epochs.epochs, "epoch")
    if _untrained(found):
        return claim(name, True, _NO_RESULTS)
    if epochs.missing or not epochs.epochs:
        return claim(name, False, f"{many} compared, {epochs.missing} are not in the run")
    if epochs.unrepeated:
        names = ", ".join(epochs.unrepeated)
        return ClaimCheck(name, FLAGGED, f"the recorded code does not compute {names}, which the run reports")
    if epochs.identical:
        return claim(name, True, f"every result of {many} equal bit for bit")
    # equal steps or states leave no room for other results
    near = found.steps.divergence is not None and not found.equal_ends
    near = near and epochs.largest_loss_difference <= Tolerance.epoch_loss and epochs.same_rates
    within = near and epochs.largest_accuracy_difference <= Tolerance.accuracy
    rates = "" if epochs.same_rates else "; learning rates differ"
    words = (
        f"every result of {many}: losses differ by at most {epochs.largest_loss_difference:.2g} (relative), tolerance "
        f"{Tolerance.epoch_loss:g}, accuracies by {epochs.largest_accuracy_difference:.2g} "
        f"(images: {epochs.images_apart:.3g}), tolerance {Tolerance.accuracy:g}{rates}"
    )
    if near and not within and found.same_bits_promised and epochs.images_apart <= ONE_IMAGE:
        return ClaimCheck(name, FLAGGED, words)  # what one image says accuses nobody
    return claim(name, within, words)


def _untrained(found: ReproductionEvidence) -> bool:
    """Whether a whole run of no epochs was repeated, which leaves its first weights to compare."""
    steps, epochs = found.steps, found.epochs
    return found.whole and steps.complete and not steps.compared and not epochs.missing and not epochs.epochs


def _ends(found: ReproductionEvidence) -> tuple[ClaimCheck, ClaimCheck]:
    """The state at the end of the repetition, and the run's final weights."""
    equal_steps, states, weights = found.steps.divergence is None, found.states, found.weights
    if not states.recorded:
        end = claim(END_STATE, None, "no state digest was recorded")
    elif equal_steps or (states.end and not states.differing):
        holds = states.end and not states.differing
        after = "" if holds else f"; it differs after epoch {states.differing[0]}" if states.differing else ""
        end = claim(END_STATE, holds, f"SHA-256 of {plural(states.compared, 'complete state')}, as signed{after}")
    else:
        end = claim(END_STATE, *_distance(found, "its bits differ; "))
    name = FINAL_WEIGHTS
    if not found.final:
        return end, claim(name, None, "the repetition ends before the last step")
    if weights.identical is None:
        return end, claim(name, False, "there are no weights to compare")
    if weights.identical:
        return end, claim(name, True, "equal bit for bit")
    return end, claim(name, False, "they differ") if equal_steps else claim(name, *_distance(found, ""))


def _distance(found: ReproductionEvidence, before: str) -> tuple[bool | None, str]:
    distance = found.weights.distance
    if distance is None:
        return None, f"{before}the run kept no weights there to measure a distance"
    words = f"{before}weights are at most {distance:.2g} apart (each tensor relative to its norm), tolerance "
    words += f"{Tolerance.weights:g}"
    momentum = found.weights.momentum
    if momentum is None:
        return distance <= Tolerance.weights, f"{words}; nothing smaller is excluded, and momentum is not compared"
    words += f", and momentum {momentum:.2g}, tolerance {Tolerance.momentum:g}"
    return distance <= Tolerance.weights and momentum <= Tolerance.momentum, f"{words}; nothing smaller is excluded"


def _checkpoints(found: ReproductionEvidence) -> tuple[ClaimCheck, ...]:
    """The claim on checkpoints that equal state digests do not bind; () where there are none."""
    kept = found.checkpoints
    if not kept.compared and not kept.left:
        return ()
    parts = [f"not compared, as the repetition kept none {_after(kept.left)}"] if kept.left else []
    if not kept.compared:
        return (claim(CHECKPOINTS, None, parts[0]),)
    holds = kept.distance <= Tolerance.weights and kept.momentum <= Tolerance.momentum
    if found.steps.divergence is None:  # equal steps leave no room for other checkpoints
        holds = not kept.distance and not kept.momentum
    words = (
        f"{_after(kept.compared)}: weights are at most {kept.distance:.2g} apart (each tensor relative to "
        f"its norm), tolerance {Tolerance.weights:g}, momentum {kept.momentum:.2g}, tolerance {Tolerance.momentum:g}"
    )
    return (claim(CHECKPOINTS, (None if kept.left else True) if holds else False, "; ".join([words, *parts])),)


def _after(steps: Sequence[int]) -> str:
    return f"after step {first_of(steps, 10)}"


def _data(found: ReproductionEvidence) -> tuple[ClaimCheck, ...]:
    """The claim on the data, and that on what else is recorded of the same data, where it is not repeated."""
    data = found.data
    other = bool(data.otherwise) and data.same is not False
    return (
        ClaimCheck(DATA, data.status, data.words),
        *([claim("facts of the data", None, first_of(data.otherwise, 10))] if other else []),
    )


def evaluation_implied(judgements: Sequence[Judged]) -> ClaimCheck | None:
    """The claim on the signed weights' results where they need no evaluation; ``None`` where they do.

    A repetition with the same final weights and results, bit for bit, evaluated them itself; one that is undecided for
    its data cannot, and what is inconsistent already needs no more.
    """
    for judgement in judgements:
        if any((each.name, each.evidence) == (RESULTS, _NO_RESULTS) for each in judgement.claims):
            return claim(EVALUATION, None, "no results of them were signed")
        final = next((each for each in judgement.claims if each.name == FINAL_WEIGHTS), None)
        if judgement.verdict == IDENTICAL and final is not None and final.status == CHECKED:
            return claim(EVALUATION, True, "the repetition evaluated the same weights, with the same results")
        if judgement.verdict == INCONSISTENT:
            return claim(EVALUATION, None, "the run is inconsistent already")
        data = next((each.status for each in judgement.claims if each.name == DATA), None)
        if judgement.verdict == UNDECIDED and data == NOT_CHECKED:
            return claim(EVALUATION, None, "the signed test data are not here")
    return None


def evaluation_claim(original: RunFolder, again: RunFolder, *, stand_in: bool = False) -> ClaimCheck:
    """Whether the signed weights give the signed test results: ``again`` evaluated them, and trained nothing.

    Where the conditions promise equal bits, only equal results are checked. ``stand_in``: with other code than the
    recorded, by which no run is accused.
    """
    signed = max(map(Scores.from_row, read_scalars(original.metrics)), key=lambda row: row.epoch)
    found = Evaluated.from_json(read_json(again.evaluation))
    loss = relative_difference([signed.test_loss], [found.test_loss])
    accuracies = [(signed.test_accuracy, found.test_accuracy)]
    if signed.test_top5_accuracy is not None:
        accuracies.append((signed.test_top5_accuracy, found.test_top5_accuracy))
    apart = max(abs(one - two) for one, two in accuracies)
    holds = loss <= Tolerance.loss and (apart <= Tolerance.evaluation or apart * found.images <= ONE_IMAGE)
    words = f"test accuracy {signed.test_accuracy:.2%} signed, {found.test_accuracy:.2%} evaluated"
    words += f" (images: {apart * found.images:.3g}, one is allowed); test losses differ by {loss:.2g} (relative)"
    if stand_in and not holds:
        return ClaimCheck(EVALUATION, FLAGGED, f"{words}, by this checkout's code, not the recorded")
    if holds and loss + apart and not (stand_in or unequal_conditions(manifest_of(original), manifest_of(again))):
        return ClaimCheck(EVALUATION, FLAGGED, f"{words}, under conditions that promise equal bits")
    return claim(EVALUATION, holds, words)


def outside_claims(original: RunFolder, again: RunFolder, *, stand_in: bool) -> tuple[ClaimCheck, ClaimCheck]:
    """The same two claims, data and results, of an evaluation outside the image that the run was made in."""
    found = compare_data(DataRecord.read(original.dataset), DataRecord.read(again.dataset))
    data = ClaimCheck(OUTSIDE_DATA, found.status, f"in this machine's own environment, {found.words}")
    if not found.same:
        return claim(EVALUATION, None, f"the signed test data are not here: {found.words}"), data
    evaluated = evaluation_claim(original, again, stand_in=stand_in)
    return replace(evaluated, evidence=f"in this machine's own environment: {evaluated.evidence}"), data


def outside_not_possible(reason: str) -> tuple[ClaimCheck, ClaimCheck]:
    """Both claims where this machine's own environment cannot evaluate the weights."""
    why = f"not possible in this machine's own environment: {reason}"
    return claim(EVALUATION, None, why), claim(OUTSIDE_DATA, None, why)

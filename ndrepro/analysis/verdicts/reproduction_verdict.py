"""The verdict on a run that was run again, with its claims and their evidence.

    identical     every step of the trail, every state, the final weights and every epoch's results, bit for bit
    close         the same trajectory: every step's loss, every epoch's results and the weights within tolerances
    consistent    another trajectory; the last accuracies of both inside the prediction interval of the replicates
    inconsistent  what no honest run gives: see ``_contradiction``, or an accuracy outside that interval
    undecided     neither: too few replicates, other data, or differences that these conditions do not decide

A run is accused (inconsistent) only of what other rounding cannot do. Where its determinism level and equal conditions
promise equal bits, that is any difference after an equal step; one from the first step on, which a condition that
nobody recorded may have caused, is undecided: nothing is close or consistent there. Elsewhere a difference that is too
large for "close" is undecided, which does not pass either. "close" and "consistent" also need the signed weights
evaluated again (``reproduction_claims.evaluation_claim``), which the verdict on the whole takes into account.

A segment of a run is judged against the same steps of the whole. The prediction interval for one more run from n
replicates is mean ± t(0.975, n - 1) s sqrt(1 + 1/n) (e.g. Hahn and Meeker 1991, section 4.7). Fewer than five
replicates, or such as spread too far, decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ndrepro.analysis.statistics.intervals import prediction_interval
from ndrepro.analysis.statistics.samples import TooLittle
from ndrepro.analysis.verdicts.reproduction_claims import DATA, Tolerance, claims_of
from ndrepro.analysis.verdicts.reproduction_evidence import ReproductionEvidence, compare_with
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.verdicts import (
    CLOSE,
    CONSISTENT,
    FAILED,
    FLAGGED,
    IDENTICAL,
    INCONSISTENT,
    NOT_CHECKED,
    PASSING,
    UNDECIDED,
    ClaimCheck,
)
from ndrepro.text.plurals import first_of, plural
from provenance.formats.trail import Divergence

# so many equal losses after the weights differ are no coincidence: two float32 losses rarely round alike
_EQUAL_LOSSES = 10
# fewer replicates, or such as spread further than this (a fraction, either way), judge no result: any would fit
LEAST_REPLICATES, WIDEST = 5, 0.10


@dataclass(frozen=True)
class Judgement:
    """The verdict, one sentence why, the claims, and the numbers behind it.

    ``compared_steps`` were compared; ``divergence`` is the first step whose bits differ; ``largest_loss_difference``
    is relative; ``accuracies`` are the last test accuracies (original, again); ``interval`` the prediction interval;
    ``weight_distance`` the largest of the last weights' tensors, each relative to its norm, ``None`` where it was not
    measured.
    """

    verdict: str
    because: str
    compared_steps: int
    divergence: Divergence | None
    largest_loss_difference: float
    accuracies: tuple[float, float] | None
    interval: tuple[float, float] | None
    replicates: int
    weight_distance: float | None = None
    claims: tuple[ClaimCheck, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether the run's claims hold."""
        return self.verdict in PASSING


def judge(original: RunFolder, again: RunFolder, replicates: Sequence[float] = ()) -> Judgement:
    """Compare a run, or a segment of it, with the run that was to repeat it.

    ``replicates`` are last test accuracies of other runs of the experiment, with other seeds. Raises TrailError where
    the two follow different tensors.
    """
    found = compare_with(original, again)
    interval = _one_more(replicates)
    claims = claims_of(found)
    verdict, because = _verdict(found, claims, interval, len(replicates))
    verdict, because = _on_its_data(found, verdict, because)
    return Judgement(
        verdict=verdict,
        because=because,
        compared_steps=found.steps.compared,
        divergence=found.steps.divergence,
        largest_loss_difference=found.steps.largest_loss_difference,
        accuracies=found.epochs.accuracies,
        interval=interval,
        replicates=len(replicates),
        weight_distance=found.weights.distance,
        claims=claims,
    )


def _on_its_data(found: ReproductionEvidence, verdict: str, because: str) -> tuple[str, str]:
    """The verdict in the light of the data: nothing is said against a run, nor for it, by other images than its own."""
    data = found.data
    if data.status == FAILED:
        return INCONSISTENT, f"data: {data.words}"
    if data.same is False:
        return UNDECIDED, "it was repeated on other data than it says it was trained on"
    # a record that names contents which the repetition's reader does not have is no record of an earlier release
    known = data.recorded and data.status == NOT_CHECKED
    if data.status == FLAGGED or known or (data.status == NOT_CHECKED and verdict != IDENTICAL):
        return UNDECIDED, f"data: {data.words}"
    return verdict, because


def _verdict(
    found: ReproductionEvidence,
    claims: Sequence[ClaimCheck],
    interval: tuple[float, float] | None,
    replicates: int,
) -> tuple[str, str]:
    if contradiction := _contradiction(found):
        return INCONSISTENT, contradiction
    if found.same_network is False:
        return INCONSISTENT, "the recorded network is not the one that its code builds"
    if doubt := _doubt(found):
        return UNDECIDED, doubt
    flagged = [claim for claim in claims if claim.status == FLAGGED and claim.name != DATA]
    if flagged:
        return UNDECIDED, f"{flagged[0].name}: {flagged[0].evidence}"
    failed = [claim for claim in claims if claim.status == FAILED]
    if found.steps.divergence is None:
        return _of_equal_steps(found, failed)
    promised = "under conditions that promise equal bits"
    if not failed and found.same_bits_promised:
        return UNDECIDED, f"bits differ from step {found.steps.divergence.step} on, {promised}"
    if not failed:
        differ = f"losses differ by at most {found.steps.largest_loss_difference:.2g} (relative)"
        within = f"{differ}, tolerance {Tolerance.loss:g}; results and weights within theirs"
        return CLOSE, f"{within}; {_no_promise(found)}"
    if found.steps.largest_loss_difference <= Tolerance.loss or not found.whole:
        verdict = INCONSISTENT if found.same_bits_promised else UNDECIDED
        return verdict, f"{failed[0].name}: {failed[0].evidence}"
    return _of_another_trajectory(found, interval, replicates)


def _of_another_trajectory(
    found: ReproductionEvidence, interval: tuple[float, float] | None, replicates: int
) -> tuple[str, str]:
    accuracies = found.epochs.accuracies
    if interval is None or accuracies is None or replicates < LEAST_REPLICATES:
        return UNDECIDED, f"another trajectory, and fewer than {LEAST_REPLICATES} replicates to judge the result by"
    half = (interval[1] - interval[0]) / 2
    if not all(interval[0] <= accuracy <= interval[1] for accuracy in accuracies):
        because = f"another trajectory; an accuracy is outside the prediction interval of {replicates} replicates"
        return INCONSISTENT, because
    if half > WIDEST:
        return UNDECIDED, f"another trajectory; replicates spread so far ({half:.0%} either way) that any result fits"
    # the interval is t s sqrt(1 + 1/n); two runs of the same spread differ by at most t s sqrt(2), likewise
    apart = abs(accuracies[0] - accuracies[1])
    if apart > half * math.sqrt(2 / (1 + 1 / replicates)):
        because = f"another trajectory; the two accuracies are {apart:.1%} apart, more than two replicates would be"
        return UNDECIDED, because
    because = f"another trajectory; both accuracies are inside the prediction interval of {replicates} replicates"
    if found.same_bits_promised:
        return UNDECIDED, f"{because}, under conditions that promise equal bits"
    return CONSISTENT, f"{because}; {_no_promise(found)}"


def _no_promise(found: ReproductionEvidence) -> str:
    """What allows tolerances: an author who invents a condition has it printed."""
    return f"no equal bits are promised: {first_of(found.unequal_conditions, 2)}"


def _of_equal_steps(found: ReproductionEvidence, failed: Sequence[ClaimCheck]) -> tuple[str, str]:
    if failed:
        return INCONSISTENT, f"the steps are equal, but not the {failed[0].name}: {failed[0].evidence}"
    compared = ["results"]
    compared += ["states"] if found.states.recorded else []
    compared += ["final weights"] if found.final and found.weights.identical else []
    words = f"{', '.join(compared[:-1])} and {compared[-1]}" if len(compared) > 1 else compared[0]
    return IDENTICAL, f"all {found.steps.compared} steps, {words} are equal bit for bit"


def _contradiction(found: ReproductionEvidence) -> str:
    """What no honest run gives, in words; "" where there is nothing.

    1. a start that is not the signed state, or weights at the start that the seed does not draw;
    2. losses of the first steps from an equal state that are further apart than any rounding brings them;
    3. equal steps and then others, where equal conditions promise equal bits;
    4. losses that stay equal bit for bit while the weights differ, likewise;
    5. equal states at the end, or final weights, after a step whose tensors or loss differ, likewise.
    """
    steps = found.steps
    if found.states.recorded and not found.states.start:
        return "the state that it starts from is not the one whose digest was signed"
    if steps.divergence is None:
        return ""
    if steps.divergence.step == steps.first and found.same_bits_promised:
        return "the state that it starts from does not have the hashes that were signed"
    if steps.early_loss_difference > Tolerance.early_loss:
        return (
            f"from the same state, losses of its first steps differ by {steps.early_loss_difference:.2g} (relative): "
            "it does not take the signed steps"
        )
    if not found.same_bits_promised:
        return ""
    if steps.identical_steps:
        return (
            f"{steps.identical_steps} steps are equal bit for bit and step {steps.divergence.step} is not, "
            "under conditions that promise equal bits for all"
        )
    if steps.first_loss_difference > Tolerance.first_loss:
        return (
            f"from equal weights, the loss of one step differs by {steps.first_loss_difference:.2g} (relative), "
            "under conditions that promise equal bits"
        )
    return _equal_losses(found) or _equal_ends(found)


def _doubt(found: ReproductionEvidence) -> str:
    """What is improbable, but may have a reason under these conditions; "" where there is nothing."""
    steps = found.steps
    if not found.states.recorded and steps.first > 0:
        return "the state that it starts from is bound by no digest: it was recorded by a release without them"
    if steps.divergence is None:
        return ""
    if steps.divergence.step == steps.first:
        return "the state that it starts from does not have the hashes that were signed"
    if found.deterministic and steps.identical_steps >= found.steps_per_epoch:
        return (
            f"{steps.identical_steps} steps are equal bit for bit, a whole epoch or more, "
            f"and step {steps.divergence.step} is not: other kernels differ from the start"
        )
    if steps.first_loss_difference > Tolerance.first_loss:
        return (
            f"from equal weights, the loss of one step differs by {steps.first_loss_difference:.2g} (relative), "
            f"tolerance {Tolerance.first_loss:g}: other kernels rarely do that in one forward pass, other images do"
        )
    return _equal_losses(found) or _equal_ends(found)


def _equal_losses(found: ReproductionEvidence) -> str:
    steps = found.steps
    if steps.losses_after < _EQUAL_LOSSES or steps.equal_losses_after < steps.losses_after:
        return ""
    return f"all {steps.losses_after} losses after the weights first differ are equal bit for bit"


def _equal_ends(found: ReproductionEvidence) -> str:
    """What one forged hash leaves behind, which would let every other claim be judged within tolerances."""
    divergence, states = found.steps.divergence, found.states
    if divergence is None or not (
        divergence.tensors or found.same_bits_promised
    ):  # other kernels may round a loss alone
        return ""
    if not found.equal_ends:
        return ""
    what = plural(states.compared, "complete state") if states.recorded else "the final weights"
    verb = "is" if states.recorded and states.compared == 1 else "are"
    other = f"{divergence.tensors[0]} after" if divergence.tensors else "the loss of"
    return f"{what} {verb} equal bit for bit, and {other} step {divergence.step} is not"


def _one_more(replicates: Sequence[float]) -> tuple[float, float] | None:
    """Where one more replicate falls; None where there are fewer than two finite ones."""
    try:
        found = prediction_interval(replicates)
    except TooLittle:
        return None
    return found.low, found.high

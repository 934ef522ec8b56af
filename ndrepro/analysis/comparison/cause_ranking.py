"""How a difference stands as the cause of what the trails show.

    likely      it shows exactly there, in that way
    possible    nothing speaks against it, and nothing but its being there for it
    ruled out   it acts later than the runs diverge, or would have shown before, or in another way

Held against each other are the stage at which the difference enters (``ndrepro.analysis.comparison.cause_catalogue``)
and the step, the loss, the size and the running statistics with which the runs diverge. Every assessment comes with its
evidence.
"""

from __future__ import annotations

from dataclasses import dataclass

from ndrepro.analysis.comparison.cause_catalogue import NEVER, STAGES, Effect
from ndrepro.analysis.comparison.trail_divergence import TrailComparison, TrailDivergence

LIKELY, POSSIBLE, RULED_OUT = "likely", "possible", "ruled out"
# Relative differences of the first losses that part. In float32 a sum of many terms rounds at 1e-7 to 1e-5; inverse
# square roots of covariances grow that (1.4e-4 was measured in one step of a deconvolved network, between two releases
# of torch), and two batches of random images seldom agree so well.
_ROUNDING, _GROWN, _LARGE = 1e-5, 1e-3, 1e-2
# weights (``Effect.weight``): of another network; of what needs no further sign; of what moves the last bits often
_CERTAIN, _STRONG, _OFTEN = 100, 80, 40


@dataclass(frozen=True)
class Observation:
    """What the trails and the data show.

    ``step`` is None where the trails could not be compared, NEVER where no shared step differs. ``relative`` is the
    size of the first difference of losses, 0 where they are still equal a few steps on, None where there are none.
    ``on_cpu``: both ran on the CPU.
    """

    step: int | None
    in_loss: bool = False
    relative: float | None = None
    tensors: tuple[str, ...] = ()
    same_batch_by: str = ""
    same_pixels: bool = False
    other_tensors: bool = False
    on_cpu: bool = False

    @classmethod
    def of(cls, trails: TrailComparison | None, *, same_pixels: bool, other_tensors: bool) -> Observation:
        """What a comparison shows."""
        divergence = trails.divergence if trails else None
        if divergence is None:
            return cls(None if trails is None else NEVER, same_pixels=same_pixels, other_tensors=other_tensors)
        size = _first_size(divergence)
        step, in_loss = divergence.step, divergence.loss_differs
        if divergence.in_first_forward_pass:  # that of step 1, whose loss stands in the next record
            step, in_loss = 1, any(point.step == 1 and point.loss_difference != 0 for point in divergence.growth)
        return cls(step, in_loss, size, divergence.tensors, divergence.same_batch_by, same_pixels)


def _first_size(divergence: TrailDivergence) -> float | None:
    """The size of the first difference that the losses show, soon after the runs diverge."""
    if divergence.growth[-1].step == 0:
        return None
    soon = (point.relative for point in divergence.growth if point.step <= divergence.step + 2)
    return next((size for size in soon if size != 0), 0.0)


def assess(effect: Effect, seen: Observation) -> tuple[str, str]:
    """How an effect stands, and what the trails say of it."""
    stage = STAGES[effect.stage]
    if effect.gpu_only and seen.on_cpu:
        return RULED_OUT, "both ran on the CPU"
    if seen.step is None:
        network = seen.other_tensors and effect.stage == "anything" and effect.weight == _CERTAIN
        return (LIKELY, "the trails follow other tensors") if network else (POSSIBLE, "")
    if seen.step == NEVER:
        if effect.stage == "evaluation":
            return LIKELY, "every step is equal, and only the evaluation sees it"
        must_show = stage.latest is not None or stage.rounding is False
        return (RULED_OUT, "every step is equal") if must_show else (POSSIBLE, "")
    if seen.step < stage.earliest:
        where = "in no step" if stage.earliest == NEVER else f"from step {stage.earliest} on"
        return RULED_OUT, f"it can show {where}, and they diverge at step {seen.step}"
    if effect.stage == "data" and seen.same_pixels:
        return RULED_OUT, "the pixels are the same"
    if effect.stage in ("batch", "data") and seen.same_batch_by:
        return RULED_OUT, f"both saw the same batch at step {seen.step:,}: {seen.same_batch_by} agrees"
    if stage.latest is not None and seen.step > stage.latest:
        return RULED_OUT, f"it would have shown at step {stage.latest}, which is equal"
    if stage.in_loss is not None and stage.in_loss != seen.in_loss:
        return RULED_OUT, f"the loss of step {seen.step:,} {'differs already' if seen.in_loss else 'is still equal'}"
    if effect.stage == "anything":
        return (LIKELY if effect.weight >= _STRONG else POSSIBLE), ""
    return _by_size(stage.rounding, seen, exact=stage.latest == seen.step, often=effect.weight >= _OFTEN)


def _by_size(rounding: bool | None, seen: Observation, *, exact: bool, often: bool) -> tuple[str, str]:
    """By the first difference of the losses: of rounding's size, or larger."""
    size = ""
    if seen.relative is not None:
        size = f"the losses diverge by {seen.relative:.0e}" if seen.relative else "the losses do not differ yet"
    relative = 0.0 if seen.relative is None else seen.relative
    if rounding is True:
        likely = seen.relative is not None and relative < _GROWN
        remark = "the size of rounding" if relative < _ROUNDING else "not too much for rounding" if likely else ""
        remark = remark if relative < _LARGE else "more than rounding"
        return (LIKELY if likely and often else POSSIBLE), f"{size}, {remark}" if relative and remark else size
    if rounding is False and seen.relative is not None and relative < _ROUNDING:
        return POSSIBLE, f"{size}, no more than rounding"
    if exact:
        return LIKELY, "they diverge exactly where it first shows" + (f"; {size}" if size else "")
    return POSSIBLE, size

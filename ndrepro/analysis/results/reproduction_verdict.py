"""The verdict on a run that was run again, with its evidence.

    identical     every step of the trail, final weights and every epoch's results, bit for bit
    close         the same trajectory: every step's loss and the last accuracy within stated tolerances
    consistent    another trajectory, and the last accuracy inside the prediction interval of the replicates
    inconsistent  another trajectory, and outside it
    undecided     another trajectory, and too few replicates to tell; or it was repeated on other data

A piece of a run is judged against the same steps of the whole: identical or close, or it does not pass. The
prediction interval for one more run from n replicates is mean ± t(0.975, n - 1) s sqrt(1 + 1/n) (e.g. Hahn and Meeker
1991, section 4.7): with two replicates it is wide, and says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ndrepro.analysis.statistics.intervals import prediction_interval
from ndrepro.analysis.statistics.samples import TooLittle
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, Scores, read_json
from provenance.formats.digest import file_digest
from provenance.formats.metrics_log import read_scalars
from provenance.formats.trail import Divergence, Trail

PASSING = ("identical", "close", "consistent")


@dataclass(frozen=True)
class Tolerance:
    """What counts as the same trajectory: a step's loss relative to the original's, the last accuracy absolutely."""

    loss: float = 1e-3
    accuracy: float = 0.005


@dataclass(frozen=True)
class Judgement:
    """The verdict, one sentence why, and the numbers behind it.

    ``compared_steps`` were compared; ``divergence`` is the first step whose bits differ; ``largest_loss_difference``
    is relative; ``accuracies`` are the last test accuracies (original, again); ``interval`` the prediction interval.
    """

    verdict: str
    because: str
    compared_steps: int
    divergence: Divergence | None
    largest_loss_difference: float
    accuracies: tuple[float, float] | None
    interval: tuple[float, float] | None
    replicates: int

    @property
    def passes(self) -> bool:
        """Whether the original stands."""
        return self.verdict in PASSING

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; a difference that is not finite as a word."""
        document = asdict(self)
        if not math.isfinite(self.largest_loss_difference):
            document["largest_loss_difference"] = str(self.largest_loss_difference)
        plain: dict[str, Any] = json.loads(json.dumps(document))
        return plain


def judge(
    original: RunFolder, again: RunFolder, replicates: Sequence[float] = (), tolerance: Tolerance | None = None
) -> Judgement:
    """Compare a run, or a piece of it, with the run that was to repeat it.

    ``replicates`` are last test accuracies of other runs of the experiment, with other seeds. Raises TrailError where
    the two follow different tensors.
    """
    whole = Request.from_json(read_json(again.request)).segment_epochs is None
    steps, divergence, difference, all_steps = _compare_trails(Trail(original.trail), Trail(again.trail), whole)
    rows_then, rows_now = _rows(original), _rows(again)
    same_results = all_steps and all(
        epoch in rows_then and rows_then[epoch].agrees_with(row) for epoch, row in rows_now.items()
    )
    found = Judgement(
        verdict="",
        because="",
        compared_steps=steps,
        divergence=divergence,
        largest_loss_difference=difference,
        accuracies=_last_accuracies(rows_then, rows_now),
        interval=_one_more(replicates),
        replicates=len(replicates),
    )
    if divergence is None:
        same_weights = same_results and (not whole or _same_weights(original, again))
        verdict, because = _of_equal_steps(found, same_results, same_weights)
    elif not whole:
        verdict, because = _of_a_piece(found, tolerance or Tolerance())
    else:
        verdict, because = _of_another_trajectory(found, tolerance or Tolerance())
    if verdict != "identical" and _other_data(original, again):
        # nothing is said against a run, nor for it, by other images than its own
        verdict, because = "undecided", "it was repeated on other data than it says it was trained on"
    return replace(found, verdict=verdict, because=because)


def _other_data(original: RunFolder, again: RunFolder) -> bool:
    """Whether the two read other data: neither the same files nor the same pixels, nor photographs and labels."""
    then, now = read_json(original.dataset), read_json(again.dataset)
    shared = [key for key in ("tree_sha256", "pixels_sha256", "labelled_sha256") if key in then and key in now]
    return bool(shared) and not any(then[key] == now[key] and not _untold(then[key]) for key in shared)


def _untold(digest: Any) -> bool:
    return isinstance(digest, dict) and "unavailable" in digest


def _of_equal_steps(found: Judgement, same_results: bool, same_weights: bool) -> tuple[str, str]:
    if same_weights:
        return "identical", f"all {found.compared_steps} steps, results and final weights are equal bit for bit"
    what = "final weights" if same_results else "recorded results"
    return "inconsistent", f"the steps are equal, but the {what} are not those of the steps"


def _of_a_piece(found: Judgement, tolerance: Tolerance) -> tuple[str, str]:
    if _is_close(found, tolerance):
        return "close", _how_close(found, tolerance)
    return "inconsistent", "trained again from its signed start, it does not take the signed steps"


def _of_another_trajectory(found: Judgement, tolerance: Tolerance) -> tuple[str, str]:
    if _is_close(found, tolerance):
        return "close", _how_close(found, tolerance)
    if found.interval is None or found.accuracies is None:
        return "undecided", "another trajectory, and fewer than two replicates to judge the result by"
    inside = found.interval[0] <= found.accuracies[1] <= found.interval[1]
    place = "inside" if inside else "outside"
    because = f"another trajectory; the accuracy is {place} the prediction interval of {found.replicates} replicates"
    return "consistent" if inside else "inconsistent", because


def _is_close(found: Judgement, tolerance: Tolerance) -> bool:
    near = found.accuracies is None or abs(found.accuracies[0] - found.accuracies[1]) <= tolerance.accuracy
    return found.largest_loss_difference <= tolerance.loss and near


def _how_close(found: Judgement, tolerance: Tolerance) -> str:
    return f"losses differ by at most {found.largest_loss_difference:.2g} (relative), tolerance {tolerance.loss:g}"


def _one_more(replicates: Sequence[float]) -> tuple[float, float] | None:
    """Where one more replicate falls; None where there are fewer than two finite ones."""
    try:
        found = prediction_interval(replicates)
    except TooLittle:
        return None
    return found.low, found.high


def _compare_trails(then: Trail, now: Trail, whole: bool) -> tuple[int, Divergence | None, float, bool]:
    """Steps compared, first difference, largest relative loss difference, whether no step is missing.

    A piece begins at its first step; its first record has no loss and is the checkpoint's state.
    """
    import numpy as np

    from provenance.errors import TrailError

    if then.tensors != now.tensors:
        raise TrailError(f"{now.path}: other tensors than {then.path}", "these are not the same network")
    if not len(now):
        raise TrailError(f"{now.path}: no step was recorded", "see its log.txt")
    first = int(now.records[0, 0])
    before, after = then.records[first : first + len(now)], now.records[: max(len(then) - first, 0)]
    unequal = before != after
    if not whole:
        unequal[:1, 1] = False
    rows = np.flatnonzero(unequal.any(axis=1))
    losses = before[1:, 1].copy().view(np.float64), after[1:, 1].copy().view(np.float64)
    divergence = None
    if rows.size:
        row = unequal[rows[0]]
        names = tuple(then.tensors[index].name for index in np.flatnonzero(row[2:]))
        divergence = Divergence(first + int(rows[0]), bool(row[1]), names)
    lengths_agree = len(then) == len(now) if whole else len(after) == len(now)
    return len(after) - 1, divergence, _relative(*losses), lengths_agree


def _relative(then: Any, now: Any) -> float:
    """The largest relative difference of two loss curves; infinite where only one is finite."""
    import numpy as np

    if not len(then):
        return 0.0
    finite = np.isfinite(then)
    if (finite != np.isfinite(now)).any():
        return math.inf
    differences = np.abs(then[finite] - now[finite]) / np.maximum(np.abs(then[finite]), 1e-12)
    return float(differences.max(initial=0.0))


def _rows(folder: RunFolder) -> dict[int, Scores]:
    return {scores.epoch: scores for scores in map(Scores.from_row, read_scalars(folder.metrics))}


def _last_accuracies(then: dict[int, Scores], now: dict[int, Scores]) -> tuple[float, float] | None:
    shared = set(then) & set(now)
    if not shared:
        return None
    return then[max(shared)].test_accuracy, now[max(shared)].test_accuracy


def _same_weights(original: RunFolder, again: RunFolder) -> bool:
    return file_digest(original.weights).sha256 == file_digest(again.weights).sha256

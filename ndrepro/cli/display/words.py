"""Numbers as people read them: fractions as percent, seconds as a clock, bytes as megabytes. ASCII only."""

from __future__ import annotations

import math

from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.messages import Scores
from ndrepro.text.plurals import plural


def percent(fraction: float | None) -> str:
    """``0.9667`` as ``96.67 %``."""
    return "-" if fraction is None else f"{100 * fraction:.2f} %"


def clock(seconds: float | None) -> str:
    """``3723.4`` as ``1:02:03``, ``24`` as ``0:24``."""
    if seconds is None or not math.isfinite(seconds):
        return "-"
    whole = max(0, round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def loss(value: float | None) -> str:
    """A loss with four decimals; a huge one in powers of ten, so that columns hold."""
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 1000 or not math.isfinite(value) else f"{value:.1e}"


def rate(images_per_second: float | None) -> str:
    """Images per second, whole above ten."""
    if images_per_second is None:
        return "-"
    return f"{images_per_second:.0f}" if images_per_second >= 10 else f"{images_per_second:.1f}"


def setting(value: object) -> str:
    """A setting's value as ``--set`` takes it."""
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def size(count: float) -> str:
    """Bytes in decimal units, as file managers count: ``61.2 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def accuracies(scores: Scores) -> str:
    """Train beside test: one without the other has misled readers before."""
    return f"train {percent(scores.train_accuracy)}, test {percent(scores.test_accuracy)}"


def reading(dataset: str, where: str) -> str:
    """Why nothing else is seen for a while."""
    return f"reading {dataset} in {where}, to see that it is whole"


def summary(experiment: Experiment) -> str:
    """An experiment in one line."""
    return ", ".join(
        [
            f"{experiment.arch} with {experiment.method} on {experiment.dataset}",
            plural(experiment.epochs, "epoch"),
            f"batch {experiment.batch_size}",
            f"seed {experiment.seed}",
            experiment.determinism,
            plural(experiment.threads, "thread"),
            *([f"{experiment.processes} processes"] if experiment.processes > 1 else []),
        ]
    )

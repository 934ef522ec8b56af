"""Which rows of results answer a study's runs: the same experiment, seed of every stream, environment and flags."""

from __future__ import annotations

from typing import Any

from ndrepro.analysis.results.result_row import ResultRow, settings_of
from ndrepro.protocol.experiment.experiment import STREAMS, Experiment
from ndrepro.protocol.image_reference import MAIN, key_of


def asked(experiment: Experiment, environment: str) -> tuple[Any, ...]:
    """What a study asks for, to be compared with ``of_run``."""
    settings = settings_of(experiment)
    drawn = tuple(experiment.seed_of(stream) for stream in STREAMS)
    return (experiment.name, _sorted(settings), drawn, key_of(environment), experiment.determinism, experiment.threads)


def of_run(run: ResultRow, images: bool = False) -> tuple[tuple[Any, ...], ...]:
    """What a run was, to be compared with ``asked``: once for each name of its environment.

    A run in an image was for the main environment too, unless the study names ``images`` itself.
    """
    drawn = tuple(run.seed_of(stream) for stream in STREAMS)
    names = dict.fromkeys((run.image, run.image_again, *([] if images else [MAIN]))) if run.image else (run.cell,)
    settings = _sorted(dict(run.settings))
    return tuple((run.name, settings, drawn, key_of(name), run.determinism, run.threads) for name in names)


def _sorted(settings: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(settings.items()))

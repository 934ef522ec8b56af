"""Which rows of results answer a study's runs: the same experiment, seed of every stream, environment and flags."""

from __future__ import annotations

from typing import Any

from ndrepro.analysis.scores import Score
from ndrepro.spec.experiment import STREAMS, Experiment
from ndrepro.spec.study import leaves

# what a row of results has a place of its own for
_OWN = ("arch", "method", "epochs", "dataset", "seed", "determinism", "threads", "device")


def asked(experiment: Experiment, environment: str) -> tuple[Any, ...]:
    """What a study asks for, to be compared with ``of_run``."""
    default = dict(leaves(experiment.defaults()))
    settings = {
        key: value
        for key, value in leaves(experiment.to_json())
        if value != default[key] and key not in _OWN and not key.startswith("seeds.")
    }
    drawn = tuple(experiment.seed_of(stream) for stream in STREAMS)
    return (experiment.name, _sorted(settings), drawn, environment, experiment.determinism, experiment.threads)


def of_run(run: Score) -> tuple[Any, ...]:
    """What a run was, to be compared with ``asked``."""
    drawn = tuple(run.seed_of(stream) for stream in STREAMS)
    return (run.name, _sorted(dict(run.settings)), drawn, run.cell, run.determinism, run.threads)


def _sorted(settings: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(settings.items()))

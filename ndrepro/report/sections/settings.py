"""Everything that was asked of a run but its seed, written out, so that runs of unlike networks can be compared.

A row of results holds the settings that are not its *name's* defaults, and networks bring defaults of their own: two
runs with equal settings may so have been written down differently. Here every setting is there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from ndrepro.analysis.results.results import ResultRow
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.experiment.settings import FROM_FILES, leaves, shown_value
from ndrepro.protocol.study.study import text_of
from ndrepro.report.elements.table import Column, Value, count, facets, word

# what distinguishes networks, seeds and environments, and not what is asked of all of them
_NOT_ASKED = ("arch", "method", "seed", "device")
EPOCHS, DATASET = Column("Epochs", numeric=True, context=True), Column("Data set", facet=True, context=True)
SETTINGS, ENVIRONMENT = Column("Settings", context=True), Column("Environment", facet=True, context=True)
# the columns of every table with a row an experiment or run, filled by ``experiment_cells``
EXPERIMENT = (*facets("Network", "Method"), EPOCHS, DATASET)
HYPERPARAMETERS = ("learning_rate", "momentum", "weight_decay", "decay")


def experiment_cells(run: ResultRow) -> tuple[Value, ...]:
    """Network, method, epochs and data set of a run."""
    return word(run.arch), word(run.method), count(run.epochs), word(run.dataset)


def whole_settings(run: ResultRow) -> dict[str, Any]:
    """Every setting of a run by dotted key, defaults included, but not its seeds; ``data`` as in ``distinctions``."""
    early = tuple((key, run.settings[key]) for key in ("size", "crop") if key in run.settings)
    known = {**_defaults(run.arch, run.method, run.epochs, run.dataset, early), **run.distinctions}
    return {**known, "determinism": run.determinism, "threads": run.threads}


def design(run: ResultRow, without: Collection[str] = ()) -> tuple[Any, ...]:
    """Equal for runs that were asked for the same but for network, method, seed and the settings ``without``."""
    asked = {key: value for key, value in whole_settings(run).items() if key not in without}
    conditions = (run.environment, run.device, run.instructions)
    return (*conditions, *(f"{key}={text_of(value)}" for key, value in sorted(asked.items())))


def hyperparameters(run: ResultRow) -> tuple[Any, ...]:
    """What a search would have chosen."""
    settings = whole_settings(run)
    return tuple(settings[key] for key in HYPERPARAMETERS)


def split_settings(runs: Sequence[ResultRow]) -> tuple[str, dict[str, str]]:
    """Of the settings that any run changed: those that all share, as text, and by run what it changed of others.

    What all share that was read from their own network's or data's files is left out; digests are shortened.
    """
    changed = sorted({key for run in runs for key in run.distinctions})
    settings = {run.run_id: whole_settings(run) for run in runs} if changed else {}
    values = {key: {text_of(whole.get(key)) for whole in settings.values()} for key in changed}
    equal = [key for key, found in values.items() if len(found) == 1 and key not in FROM_FILES]
    apart = [key for key, found in values.items() if len(found) > 1]
    return " ".join(shown_setting(key, settings[runs[0].run_id][key]) for key in equal), {
        run.run_id: " ".join(shown_setting(key, run.distinctions[key]) for key in apart if key in run.distinctions)
        for run in runs
    }


def shown_setting(key: str, value: Any) -> str:
    """``weight_decay=0.001``; a digest is shortened."""
    return f"{key}={text_of(shown_value(key, value))}"


@lru_cache(maxsize=4096)
def _defaults(arch: str, method: str, epochs: int, dataset: str, early: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    document = dict(leaves(Experiment.of(arch, method, epochs, dataset, **dict(early)).defaults()))
    return {key: value for key, value in document.items() if key not in _NOT_ASKED and not key.startswith("seeds.")}

"""A study: the runs that answer one question together, as named grids of settings.

A grid is the product of its axes, each an experiment's setting (dotted keys as in ``--set``) or ``environment``, a
cell of the version matrix or a container image (``ndrepro.protocol.image_reference``), with a list of values. The first
axis changes slowest, so a study that is stopped half-way has its first values whole. ``settings`` hold what does not
change. From the product, every point that a row of ``exclude`` describes is taken out, then the points of ``include``
are added: a row of it is a small product of its own over the same settings. ``Study.runs`` is all that anyone needs of
this.

    Study ── Grid ── runs() ──> StudyRun: an Experiment, its environment, what it needs, what to call it

Two runs with the same ``identity`` are the same run, whoever asked for them: the same experiment in full, the same
seed in every random stream, the same environment. A study holds none twice. ``ndrepro.protocol.study.study_schema``
reads and writes studies as plain documents; nothing here reads a file.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ndrepro.protocol.errors import UsageError, suggestion
from ndrepro.protocol.experiment.experiment import STREAMS, Experiment
from ndrepro.protocol.experiment.names import DEFAULT_DATASET, name_of
from ndrepro.protocol.experiment.settings import changed_settings, leaves
from ndrepro.protocol.image_reference import MAIN, PinnedImage, is_image, key_of, label_of
from ndrepro.protocol.study.search_space import Search, Target, target_of, with_values

ENVIRONMENT = "environment"
_NAMED = ("arch", "method", "epochs", "dataset")  # what an experiment's name holds

Value = Any  # bool, int, float, str or None, by the key's own type
Choice = Mapping[str, tuple[Value, ...]]  # keys, each with the values it may have


@dataclass(frozen=True)
class Resources:
    """What one run needs of machines that are shared: GPU memory in GiB, minutes, for a run of several processes how
    many machines they are on, and memory of each machine in GiB; ``None`` where nobody has said."""

    gpu_memory_gib: float | None = None
    minutes: float | None = None
    nodes: int | None = None
    memory_gib: float | None = None

    def overridden(self, other: Resources) -> Resources:
        """These, but for what ``other`` says."""
        return replace(self, **{name: amount for name, amount in vars(other).items() if amount is not None})


@dataclass(frozen=True)
class Need:
    """Resources of the runs that ``when`` describes (of all, where it is empty); a later need overrides."""

    resources: Resources
    when: Choice = field(default_factory=dict)


@dataclass(frozen=True)
class StudyRun:
    """One run of a study. ``label`` is the experiment's name and what else distinguishes it from its neighbours.

    ``waits``: its hyper-parameters are still to be searched, those in ``experiment`` are not its own.
    """

    grid: str
    experiment: Experiment
    environment: str = MAIN
    label: str = ""
    resources: Resources = field(default_factory=Resources)
    waits: bool = False

    @property
    def identity(self) -> str:
        """What makes it this run and no other: see ``identity``."""
        same = identity(self.experiment, self.environment)
        return f"{same} with searched values" if self.waits else same


@dataclass(frozen=True)
class Grid:
    """Some runs of a study: ``settings`` that all have, ``axes`` to be multiplied, points to leave out and to add."""

    name: str
    title: str = ""
    settings: Mapping[str, Value] = field(default_factory=dict)
    axes: Choice = field(default_factory=dict)
    exclude: tuple[Choice, ...] = ()
    include: tuple[Choice, ...] = ()

    def points(self, settings: Mapping[str, Value]) -> Iterator[dict[str, Value]]:
        """The settings of every run, before they are made experiments; ``settings`` are those of the whole study."""
        common = {**settings, **self.settings}
        for point in _product(self.axes) if self.axes else ():
            whole = {**common, **point}
            if not any(describes(row, whole) for row in self.exclude):
                yield whole
        for row in self.include:
            for point in _product(row):
                yield {**common, **point}

    @property
    def varied(self) -> tuple[str, ...]:
        """Every key that may differ between two runs of the grid, axes first."""
        return tuple(dict.fromkeys([*self.axes, *itertools.chain.from_iterable(self.include)]))


@dataclass(frozen=True)
class Study:
    """A named study. ``title`` is one line for people; ``needs`` say what its runs take.

    Where one of its grids runs with searched hyper-parameters, ``search`` says how, and ``found`` what came of it.
    """

    name: str
    title: str
    grids: tuple[Grid, ...]
    settings: Mapping[str, Value] = field(default_factory=dict)
    needs: tuple[Need, ...] = ()
    search: Search | None = None
    found: Mapping[Target, Mapping[str, float]] = field(default_factory=dict)

    def grid(self, name: str) -> Grid:
        """The grid of that name. Raises UsageError with the nearest names."""
        names = {grid.name: grid for grid in self.grids}
        if name not in names:
            raise UsageError(f"{self.name}: no grid '{name}'", suggestion(name, names))
        return names[name]

    def runs(self, grids: Iterable[str] = ()) -> tuple[StudyRun, ...]:
        """Every run of ``grids`` (left empty: of all), in the study's own order.

        Raises UsageError for an unknown grid, or where settings make no experiment.
        """
        wanted = {self.grid(name).name for name in grids} or {grid.name for grid in self.grids}
        return tuple(run for grid in self.grids if grid.name in wanted for run in self.runs_of(grid))

    def runs_of(self, grid: Grid) -> tuple[StudyRun, ...]:
        """The runs of one of its grids, in the order of the grid's points, made once. Raises as ``runs`` does."""
        if grid.name not in self._made:
            self._made[grid.name] = tuple(self._run_at(grid, point) for point in grid.points(self.settings))
        return self._made[grid.name]

    @cached_property
    def _made(self) -> dict[str, tuple[StudyRun, ...]]:
        return {}

    def _run_at(self, grid: Grid, point: Mapping[str, Value]) -> StudyRun:
        environment = point.get(ENVIRONMENT, MAIN)
        experiment = experiment_of({key: value for key, value in point.items() if key != ENVIRONMENT})
        waits = False
        if self.search is not None and grid.name == self.search.grid:
            waits = target_of(experiment) not in self.found
            experiment = with_values(experiment, self.found.get(target_of(experiment), {}))
        if is_image(environment) and experiment.processes > 1:
            where = f"environment={label_of(environment)!r}"
            raise UsageError(f"{where}: processes={experiment.processes}", "one process is started in a container")
        resources = Resources()
        for need in self.needs:
            if describes(need.when, point, experiment):
                resources = resources.overridden(need.resources)
        return StudyRun(grid.name, experiment, environment, _label(grid, experiment, environment), resources, waits)


def identity(experiment: Experiment, environment: str) -> str:
    """Equal for two runs that are the same: every setting, the seed of every stream, the environment, as text.

    A stream's seed counts, not how it was asked for: ``seed=3`` and all six of ``seeds.…=3`` are one run. So does a
    number's value: a manifest's canonical JSON has 300 where an experiment has 300.0. Of an image, engine and digest
    count.
    """
    document = experiment.to_json()
    del document["seed"]
    document["seeds"] = {stream: experiment.seed_of(stream) for stream in STREAMS}
    settings = {key: _whole(value) for key, value in leaves(document)}
    return json.dumps({**settings, ENVIRONMENT: key_of(environment)}, sort_keys=True)


def inside(study: Study, image: PinnedImage) -> Study:
    """The whole study in that image: a study of one environment has it in place of the main one.

    Raises UsageError for a study that names environments of its own.
    """
    named = next((run for run in study.runs() if run.environment != MAIN), None)
    moved = replace(study, settings={**study.settings, ENVIRONMENT: str(image)})
    if named is not None or any(run.environment == MAIN for run in moved.runs()):
        whose = f"'{named.environment}' in grids.{named.grid}" if named else "environment itself"
        raise UsageError(
            f"{study.name} names {whose}, and would all be run in {image.label}",
            f"leave --in out; to compare with the image, add environment = '{image.engine}:NAME@sha256:…' to the file",
        )
    return moved


def experiment_of(point: Mapping[str, Value]) -> Experiment:
    """The experiment with these settings, by dotted key: that of ``ndrepro run NAME --set key=value …``.

    Raises UsageError for what makes none.
    """
    missing = [key for key in ("arch", "method", "epochs") if key not in point]
    if missing:
        raise UsageError(f"{', '.join(missing)}: not given", "every run needs arch, method and epochs")
    name = name_of(point["arch"], point["method"], point["epochs"], point.get("dataset", DEFAULT_DATASET))
    settings = {key: text_of(value) for key, value in point.items() if key not in _NAMED}
    return Experiment.from_name(name, settings)


def settings_words(experiment: Experiment) -> list[str]:
    """The experiment as words of a command line: its name, and ``--set`` for all that the name does not tell.

    Law: ``Experiment.from_name(name, settings) == experiment``.
    """
    changed = changed_settings(experiment).items()
    return [experiment.name, *(word for key, value in changed for word in ("--set", f"{key}={text_of(value)}"))]


def text_of(value: Value) -> str:
    """A setting's value as ``--set`` takes it."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def describes(row: Choice, point: Mapping[str, Value], experiment: Experiment | None = None) -> bool:
    """Whether every key of ``row`` has one of its values in ``point``; a key that is not there has its default.

    With ``experiment``, what is not in ``point`` is what the experiment has.
    """
    return all(_value(key, point, experiment) in values for key, values in row.items())


# any valid experiment: it has every key's default and type
START = Experiment(arch="lenet", method="bn", epochs=1)


def _whole(value: Value) -> Value:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _value(key: str, point: Mapping[str, Value], experiment: Experiment | None) -> Value:
    if key in point:
        return point[key]
    return MAIN if key == ENVIRONMENT else (experiment or START).value(key)


def _product(choice: Choice) -> Iterator[dict[str, Value]]:
    for values in itertools.product(*choice.values()):
        yield dict(zip(choice, values, strict=True))


def _label(grid: Grid, experiment: Experiment, environment: str) -> str:
    parts, where = [experiment.name], label_of(environment)
    parts += [f"{key}={experiment.value(key)}" for key in grid.varied if key not in (*_NAMED, ENVIRONMENT)]
    parts += [where] if ENVIRONMENT in grid.varied and environment != MAIN else []
    return " ".join(parts)

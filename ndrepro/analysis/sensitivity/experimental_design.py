"""The experimental design of a folder of runs: subjects, axes, cells and their replicates.

    subject    what is trained: the experiment's name (architecture, method, epochs, data set)
    axis       whatever else differs between two runs: environment, threads, determinism, device, the limits of the
               instruction sets ("instructions"), any setting, the seed of a single stream, and which streams the
               replicates draw anew ("streams")
    cell       one combination of the axes' values
    replicate  the seed; where a single stream was drawn anew, that stream's seed; where several were, each against the
               others, all of theirs: "init 3, order 5"

The reference is the cell that every other is compared with: on each axis the value that most runs have, so that a study
that varies one factor at a time is compared with its starting point. Runs of two cells are pairs where their subject
and replicate are the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ndrepro.analysis.results.result_row import ResultRow
from ndrepro.analysis.statistics.samples import TooLittle
from ndrepro.protocol.errors import UsageError, suggestion
from ndrepro.protocol.experiment.experiment import STREAMS
from ndrepro.protocol.experiment.settings import shown_value
from ndrepro.protocol.image_reference import is_image

ENVIRONMENT = "environment"
DEFAULT = "default"
DRAWN = "streams"
ALL = "all"
_MANY = 3  # distinct seeds of one stream: it was drawn anew, and not set to another value once
_SHOWN = 14

Replicate = int | str


@dataclass(frozen=True)
class Condition:
    """One combination of values, by axis; ``label`` names its difference from the reference."""

    values: tuple[tuple[str, Any], ...]
    label: str = ""

    def __getitem__(self, axis: str) -> Any:
        """The value on an axis. Raises KeyError."""
        return dict(self.values)[axis]


@dataclass(frozen=True)
class ExperimentalDesign:
    """Runs in order: ``runs[subject, cell]`` maps replicates to runs; ``repeats`` are repeated runs.

    ``streams`` are those that some runs draw anew, each against the others; none where only the seed is.
    """

    subjects: tuple[str, ...]
    axes: Mapping[str, tuple[Any, ...]]
    cells: tuple[Condition, ...]
    reference: Condition
    runs: Mapping[tuple[str, Condition], Mapping[Replicate, ResultRow]]
    repeats: tuple[ResultRow, ...] = ()
    streams: tuple[str, ...] = ()

    def of(self, subject: str, cell: Condition) -> Mapping[Replicate, ResultRow]:
        """Runs by replicate; none where the cell has none of that subject."""
        return self.runs.get((subject, cell), {})

    @property
    def replicates(self) -> tuple[Replicate, ...]:
        """Every replicate that any cell has, ascending."""
        return tuple(sorted({each for runs in self.runs.values() for each in runs}, key=natural))

    @property
    def full(self) -> tuple[tuple[str, Condition, Replicate], ...]:
        """Every run of a full design, (subject, cell, replicate): each cell has the replicates of its like."""
        drawn: dict[Any, set[Replicate]] = {}
        for (_, cell), runs in self.runs.items():
            drawn.setdefault(dict(cell.values).get(DRAWN), set()).update(runs)
        return tuple(
            (subject, cell, replicate)
            for subject in self.subjects
            for cell in self.cells
            for replicate in sorted(drawn[dict(cell.values).get(DRAWN)], key=natural)
        )

    @property
    def missing(self) -> tuple[tuple[str, Condition, Replicate], ...]:
        """Every run that a full design would have and that is not there."""
        return tuple(each for each in self.full if each[2] not in self.of(each[0], each[1]))

    def seeds_of(self, replicate: Replicate) -> Mapping[str, int]:
        """What was drawn anew of a replicate, by axis: its seed, or that of each stream that was."""
        for runs in self.runs.values():
            if replicate in runs:
                own = {f"seeds.{stream}": seed for stream, seed in runs[replicate].seeds.items()}
                drawn = {key: seed for key, seed in own.items() if key.removeprefix("seeds.") in self.streams}
                return drawn if isinstance(replicate, str) else {"seed": replicate}
        raise KeyError(replicate)

    def along(self, axis: str) -> tuple[Condition, ...]:
        """Cells that differ from the reference on this axis at most."""
        others = [name for name in self.axes if name != axis]
        return tuple(cell for cell in self.cells if all(cell[name] == self.reference[name] for name in others))


def design_of(rows: Iterable[ResultRow], *, reference: Mapping[str, str] | None = None) -> ExperimentalDesign:
    """The design that these runs are of. ``reference`` sets values of the reference cell, as text, by axis.

    Raises TooLittle where there are no runs, UsageError for an axis or a value that no run has.
    """
    rows = sorted(rows, key=lambda row: (row.started, row.run_id))
    if not rows:
        raise TooLittle("there are no verified, completed runs", "run a study: ndrepro study run versions")
    streams = _replicated_streams(rows)
    names = _environment_names(rows)
    flat = _short([_flat(row, streams) | {ENVIRONMENT: names[row.cell, row.environment]} for row in rows])
    known = {key for each in flat for key in each}
    axes = {key: _values(each.get(key, DEFAULT) for each in flat) for key in sorted(known, key=_axis_order)}
    axes = {key: values for key, values in axes.items() if len(values) > 1}
    cells: dict[Condition, None] = {}
    runs: dict[tuple[str, Condition], dict[Replicate, ResultRow]] = {}
    repeats = []
    for row, values in zip(rows, flat, strict=True):
        cell = Condition(tuple((axis, values.get(axis, DEFAULT)) for axis in axes))
        cells[cell] = None
        inside = runs.setdefault((row.name, cell), {})
        if inside.setdefault(_replicate(row, streams), row) is not row:
            repeats.append(row)
    chosen = _reference(list(cells), runs, axes, dict(reference or {}))
    labels = {cell: Condition(cell.values, _label(cell, chosen, axes)) for cell in cells}
    order = sorted(labels.values(), key=lambda cell: _cell_order(cell, chosen))
    return ExperimentalDesign(
        subjects=tuple(sorted({row.name for row in rows})),
        axes=axes,
        cells=tuple(order),
        reference=labels[chosen],
        runs={(name, labels[cell]): _in_order(inside) for (name, cell), inside in runs.items()},
        repeats=tuple(repeats),
        streams=tuple(stream for stream in STREAMS if stream in streams),
    )


def described(cell: Condition) -> str:
    """Every axis of a cell with its value, in words."""
    return ", ".join(f"{axis} {value}" for axis, value in cell.values)


def natural(text: Any) -> tuple[Any, ...]:
    """A key that sorts torch-2.4.1 before torch-2.13.0."""
    parts = re.split(r"(\d+)", str(text))
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts)


def _replicated_streams(rows: Sequence[ResultRow]) -> frozenset[str]:
    seen = {stream: {row.seeds[stream] for row in rows if stream in row.seeds} for stream in STREAMS}
    return frozenset(stream for stream, values in seen.items() if len(values) >= _MANY)


def _drawn(row: ResultRow, streams: frozenset[str]) -> list[str]:
    """The streams of a run that have a seed of their own and are drawn anew."""
    return [stream for stream in STREAMS if stream in streams and stream in row.seeds]


def _replicate(row: ResultRow, streams: frozenset[str]) -> Replicate:
    own = _drawn(row, streams)
    if len(own) > 1:
        return ", ".join(f"{stream} {row.seeds[stream]}" for stream in own)
    return row.seeds[own[0]] if own else row.seed


def _in_order(runs: Mapping[Replicate, ResultRow]) -> dict[Replicate, ResultRow]:
    return {replicate: runs[replicate] for replicate in sorted(runs, key=natural)}


def _flat(row: ResultRow, streams: frozenset[str]) -> dict[str, Any]:
    """Everything that may be an axis."""
    seeds = {f"seeds.{stream}": value for stream, value in row.seeds.items() if stream not in streams}
    conditions = {
        "determinism": row.determinism,
        "threads": row.threads,
        "device": row.device,
        "instructions": row.instructions or DEFAULT,
    }
    drawn = _drawn(row, streams)
    # the fixed seed of runs of which single streams were drawn anew is part of what they are
    text = f"{'+'.join(drawn)} of seed {row.seed}" if drawn else ALL
    asked = {key: shown_value(key, value) for key, value in row.distinctions.items()}
    return {**conditions, **seeds, DRAWN: text, **asked}


def _environment_names(rows: Sequence[ResultRow]) -> dict[tuple[str, str], str]:
    """An environment by its name; with its versions where one name has stood for several."""
    pairs = {(row.cell, row.environment) for row in rows}
    counts = Counter(cell for cell, _ in pairs)
    return {(cell, versions): cell if counts[cell] == 1 else f"{cell} ({versions})" for cell, versions in pairs}


def _values(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(sorted(set(values), key=natural))


def _axis_order(axis: str) -> tuple[int, str]:
    first = (ENVIRONMENT, "determinism", "threads", "device", "instructions")
    return (first.index(axis) if axis in first else len(first), axis)


def _reference(
    cells: list[Condition],
    runs: Mapping[tuple[str, Condition], Mapping[Replicate, ResultRow]],
    axes: Mapping[str, Any],
    wish: dict[str, str],
) -> Condition:
    """The cell whose values are most runs' own, on as many axes as can be; of equals the one with most runs."""
    for axis, text in wish.items():
        if axis not in axes:
            raise UsageError(f"reference {axis}={text}: {axis} does not vary", suggestion(axis, axes))
        if text not in map(str, axes[axis]):
            raise UsageError(f"reference {axis}={text}: no run has it", suggestion(text, map(str, axes[axis])))
    sizes = Counter({cell: sum(len(inside) for (_, of), inside in runs.items() if of == cell) for cell in cells})
    common = {}
    for axis in axes:
        counts: Counter[Any] = Counter()
        for cell, size in sizes.items():
            counts[cell[axis]] += size
        # of equals the newest environment that is no image, and of anything else the default or the least
        values = sorted(counts, key=natural, reverse=axis == ENVIRONMENT)
        common[axis] = max(values, key=lambda value: (counts[value], value == DEFAULT, not is_image(str(value))))
    allowed = [cell for cell in cells if all(str(cell[axis]) == text for axis, text in wish.items())]
    if not allowed:
        raise UsageError(f"no run has {', '.join(f'{axis}={text}' for axis, text in wish.items())} at once")

    def closeness(cell: Condition) -> tuple[int, int]:
        return sum(cell[axis] == common[axis] for axis in axes), sizes[cell]

    return max(sorted(allowed, key=lambda cell: natural(cell.values)), key=closeness)


def _short(flat: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``flat`` without the seed that runs of single streams have besides, where it is the same for all of them."""
    parts = {each[DRAWN].partition(" of ")[2] for each in flat if each[DRAWN] != ALL}
    return [{**each, DRAWN: each[DRAWN].partition(" of ")[0]} for each in flat] if len(parts) == 1 else flat


def _label(cell: Condition, reference: Condition, axes: Mapping[str, tuple[Any, ...]]) -> str:
    """The environment, or what else differs from the reference."""
    differing = [(axis, value) for axis, value in cell.values if value != reference[axis]]
    if not differing:
        named = dict(cell.values).get(ENVIRONMENT)
        return str(named) if named else "reference"
    return ", ".join(
        str(value) if axis == ENVIRONMENT else _words(axis, value, axes[axis]) for axis, value in differing
    )


def _words(axis: str, value: Any, values: tuple[Any, ...]) -> str:
    """The axis and its value; the axis alone where the value is long and the only one beside the default."""
    text = str(value)
    if len(text) <= _SHOWN:
        return f"{axis}={text}"
    if len(values) == 2 and DEFAULT in values:
        return axis
    return f"{axis}={text[: _SHOWN - 3]}...{values.index(value) + 1}"


def _cell_order(cell: Condition, reference: Condition) -> tuple[Any, ...]:
    """Cells that differ in their environment only come first, oldest release first; then by what else differs."""
    others = [
        axis for axis, value in cell.values if value != reference[axis] and axis not in (ENVIRONMENT, "libraries")
    ]
    return (len(others), others, natural(dict(cell.values).get(ENVIRONMENT, "")), natural(cell.label))

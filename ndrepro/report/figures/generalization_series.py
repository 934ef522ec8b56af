"""The runs of Zhang et al. (ICLR 2017) sorted into the lines of their figures, each with its curves, a run a seed.

    runs ── corrupted() ──────> figure 1: panels of networks, a line a corruption
        ├── regularised() ────> figure 2a: a line a set of regularisers
        └── normalised() ─────> figure 2b: a line a place of batch norm

Runs of a group differ only in what its lines show, and in their seeds. Curves come from logs that are
the signed ones; a run whose log is not gives none, and is counted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ndrepro.analysis.results.results import ResultRow
from ndrepro.report.figures.curves import Curve, curve_of
from ndrepro.report.sections.settings import design, whole_settings

CORRUPTION = ("corrupt.labels", "corrupt.pixels", "corrupt.test_pixels")
_REGULARISERS = ("weight_decay", "augment", "jitter", "dropout")
_PLACES = {"bn": "batch norm", "bn_downsample": "only where the image is halved", "none": "no batch norm"}

Lines = Mapping[str, Sequence[Curve]]  # what a line is about -> one curve a seed


@dataclass
class Reader:
    """Reads each curve once, and counts those that are not the signed ones."""

    _read: dict[str, Curve | None] = field(default_factory=dict)

    def curves(self, runs: Sequence[ResultRow]) -> tuple[Curve, ...]:
        """The curves of some runs, ordered by seed; those without one are left out."""
        ordered = sorted(runs, key=lambda run: (run.seed, run.run_id))
        return tuple(curve for run in ordered if (curve := self.curve(run)) is not None)

    def curve(self, run: ResultRow) -> Curve | None:
        """One run's curve, None where its log is gone or not the signed one."""
        if run.run_id not in self._read:
            self._read[run.run_id] = curve_of(run)
        return self._read[run.run_id]

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be read, in words."""
        missing = sum(curve is None for curve in self._read.values())
        if not missing:
            return ()
        return (f"Curves of {missing} runs are not drawn: metrics.jsonl is gone, or is not the signed one.",)


def groups_of(runs: Sequence[ResultRow]) -> dict[str, list[ResultRow]]:
    """Runs that differ in corruption (and seed) alone, by network; true labels and pixels among them."""
    corrupted = [run for run in runs if _corrupted(run)]
    wanted = {_alike(run) for run in corrupted}
    grouped: dict[Any, list[ResultRow]] = defaultdict(list)
    for run in runs if wanted else ():
        if _alike(run) in wanted:
            grouped[_alike(run)].append(run)
    largest: dict[str, list[ResultRow]] = {}
    for (arch, method, _), found in grouped.items():
        name = f"{arch} {method}"
        if len(found) > len(largest.get(name, ())):
            largest[name] = found
    return dict(sorted(largest.items()))


def corrupted(groups: Mapping[str, Sequence[ResultRow]], reader: Reader) -> dict[str, Lines]:
    """The lines of figure 1a by network; networks with one line are left out."""
    panels: dict[str, Lines] = {}
    for name, runs in groups.items():
        lines: dict[str, list[ResultRow]] = defaultdict(list)
        for run in runs:
            if words := condition(run):
                lines[words].append(run)
        found = _with_curves(lines, reader)
        if len(found) > 1:
            panels[name] = found
    return panels


def regularised(runs: Sequence[ResultRow], reader: Reader) -> Lines:
    """The lines of figure 2a: small Inception with batch norm, of the design with the most of them; {} below two."""
    groups: dict[Any, dict[str, list[ResultRow]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        words = regularisers(run)
        if run.arch == "small_inception" and run.method == "bn" and words:
            groups[design(run, _REGULARISERS)][words].append(run)
    return _largest(groups, reader)


def normalised(runs: Sequence[ResultRow], reader: Reader) -> Lines:
    """The lines of figure 2b: small Inception, of the design with the most of them; {} below two."""
    groups: dict[Any, dict[str, list[ResultRow]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if run.arch == "small_inception" and run.method in _PLACES and not _corrupted(run):
            groups[design(run)][_PLACES[run.method]].append(run)
    return _largest(groups, reader)


def condition(run: ResultRow) -> str:
    """What was done to the data, in the words of figure 1a; "" for what is not in it."""
    labels, pixels = run.settings.get("corrupt.labels", 0), run.settings.get("corrupt.pixels", "none")
    names = {"none": "true labels", "shuffled": "shuffled pixels", "random": "random pixels", "gaussian": "Gaussian"}
    if pixels != "none":
        return names[pixels] if not labels else ""
    return {0: "true labels", 1: "random labels"}.get(labels, "")


def regularisers(run: ResultRow) -> str:
    """What holds the network back, in the words of figure 2a; "" for what is not in it."""
    settings = whole_settings(run)
    if _corrupted(run):
        return ""
    decay, augment, dropout = settings["weight_decay"], settings["augment"], settings["dropout"] or 0
    if augment and dropout and decay:
        return "weight decay, augmentation, dropout"
    return "" if augment or dropout else "weight decay" if decay else "no regulariser"


def _corrupted(run: ResultRow) -> bool:
    return any(key in run.settings for key in CORRUPTION)


def _alike(run: ResultRow) -> tuple[Any, ...]:
    return (run.arch, run.method, design(run, CORRUPTION))


def _with_curves(lines: Mapping[str, Sequence[ResultRow]], reader: Reader) -> dict[str, tuple[Curve, ...]]:
    found = {name: reader.curves(runs) for name, runs in lines.items()}
    return {name: curves for name, curves in found.items() if curves}


def _largest(groups: Mapping[Any, Mapping[str, Sequence[ResultRow]]], reader: Reader) -> dict[str, tuple[Curve, ...]]:
    """The curves of the group with the most lines, among equals of the one with the most runs; {} below two lines."""
    best = max(groups.values(), key=lambda lines: (len(lines), sum(map(len, lines.values()))), default={})
    found = _with_curves(best, reader) if len(best) > 1 else {}
    return found if len(found) > 1 else {}

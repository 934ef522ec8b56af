"""Two runs side by side: their manifests, verified first, and whatever of their files is available.

Both are verified first, every file included. A file that is not the one that was signed is named before anything
else, and such a run is neither verified nor identical to another. Nothing is refused for being incomplete: a manifest
that does not verify, a trail that was truncated, a run of another network or one of which only the manifest is left is
compared as far as it goes, and ``problems`` says what is wrong.
Two runs are identical when everything that is a result (every step of the trail, final weights, every epoch's
metrics) is equal bit for bit; where the files are not available, the digests that were signed stand for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ndrepro.analysis.comparison.cause_ranking import LIKELY
from ndrepro.analysis.comparison.causes import Cause, find_causes
from ndrepro.analysis.comparison.metrics_diff import MetricsComparison, compare_metrics
from ndrepro.analysis.comparison.program_trails import compare_program_trails, other_tensors, used_no_gpu
from ndrepro.analysis.comparison.side import METRICS, TRAIL, Side, observed_processes, recorded_results
from ndrepro.analysis.comparison.trail_divergence import TrailComparison, compare_trails
from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.training_record import TrainingRecord
from ndrepro.text.first_difference import LineDifference, first_different_line
from ndrepro.text.plain_json import plain
from provenance.comparison.code_diff import CodeDiff, SourceState, code_diff
from provenance.comparison.manifest_diff import ManifestDiff, diff
from provenance.errors import ProvenanceError
from provenance.formats.bounded_read import LOG_BYTES, read_bounded
from provenance.formats.listing import ListingDiff, compare_listings
from provenance.formats.trail import Trail

EQUAL, DIFFERENT = "equal", "different"
# the result of a recorded program that stands for the trails of all its processes
PROGRAM_TRAIL = "trail"
_COPIES = f"{RunFolder(Path()).output_copies.name}/"


@dataclass(frozen=True)
class RunComparison:
    """The comparison of two runs; ``None`` where something could not be compared, with the reason in ``notes``.

    ``results`` has for each result file "equal", "different", or the only run that has it. ``causes`` is empty
    where the results are identical. ``other_tensors``: the trails follow the tensors of different networks. ``lines``:
    the first line that differs of each result that is text, by its name.
    """

    sides: tuple[Side, Side]
    results: Mapping[str, str]
    manifests: ManifestDiff | None
    code: CodeDiff | None
    data: ListingDiff | None
    trails: TrailComparison | None
    metrics: MetricsComparison | None
    causes: tuple[Cause, ...]
    notes: tuple[str, ...]
    other_tensors: bool = False
    lines: Mapping[str, LineDifference] = field(default_factory=dict)

    @property
    def identical(self) -> bool:
        """Whether every result is known to be equal bit for bit, in runs whose files are those that were signed."""
        return bool(self.results) and all(found == EQUAL for found in self.results.values()) and not self.changed

    @property
    def changed(self) -> tuple[tuple[str, ...], ...]:
        """The files of either side that are not those that were signed; () where there are none."""
        found = tuple(side.changed for side in self.sides)
        return found if any(found) else ()

    def to_json(self) -> dict[str, Any]:
        """The answer of `ndrepro diff --json`, NaN and infinities as words."""
        members = {
            "identical": self.identical,
            "results": self.results,
            "first": self.sides[0],
            "second": self.sides[1],
            "causes": self.causes,
            "manifests": self.manifests and self.manifests.groups,
            **{name: getattr(self, name) for name in ("code", "data", "trails", "metrics")},
            "other_tensors": self.other_tensors,
            "lines": self.lines,
            "notes": self.notes,
        }
        document: dict[str, Any] = plain(members)
        return document


def compare_runs(first: Side, second: Side) -> RunComparison:
    """Compare two runs in everything available. Raises NdreproError where there is nothing to compare."""
    notes: list[str] = []
    manifests = code = data = None
    seen: tuple[dict[str, Any], ...] = ({}, {})
    if first.manifest and second.manifest:
        seen = tuple(observed_processes(side, notes) for side in (first, second))
        names = recorded_results(first.manifest, second.manifest)
        manifests = diff(first.manifest, second.manifest, names, observed=seen)
        code = _code(first, second, manifests)
        data = _data(first, second, manifests, notes)
    trails, other_tensors = _trails(first, second, notes)
    metrics = _metrics(first, second, notes)
    results = _judged(first, second, trails, metrics)
    if manifests is None and not results:
        raise NdreproError(
            f"{first.path} and {second.path}: nothing to compare: {'; '.join((*first.problems, *second.problems))}",
            "compare runs that have ended",
        )
    causes: tuple[Cause, ...] = ()
    recorded = (first.manifest, second.manifest) if first.manifest and second.manifest else None
    # what only one left is no difference that a cause could explain: it failed and says why, or was not asked for it
    parted = (trails or (first.results and second.results)) and DIFFERENT in results.values()
    if parted and (changed := _changed_results(first, second, results)):
        causes = (changed,)
    elif manifests and recorded and parted:
        on_cpu = all(map(used_no_gpu, seen)) if any(seen) else None
        causes = find_causes(manifests, recorded, trails, code=code, other_tensors=other_tensors, on_cpu=on_cpu)
    lines = _lines(first, second, results)
    return RunComparison(
        (first, second), results, manifests, code, data, trails, metrics, causes, tuple(notes), other_tensors, lines
    )


def _lines(first: Side, second: Side, results: Mapping[str, str]) -> dict[str, LineDifference]:
    """The first line that differs of each copy of an output that both programs left and that is text."""
    found = {}
    if first.is_program and second.is_program and first.folder and second.folder:
        for name in (name for name, how in results.items() if how == DIFFERENT and name.startswith(_COPIES)):
            try:
                line = first_different_line(
                    *(
                        read_bounded(each.root / name, LOG_BYTES, beneath=each.root)
                        for each in (first.folder, second.folder)
                    )
                )
            except (OSError, ProvenanceError):
                continue
            if line is not None:
                found[name] = line
    return found


def _changed_results(first: Side, second: Side, results: Mapping[str, str]) -> Cause | None:
    """The cause that excludes every other: a result that differs is not the signed one."""
    evidence = [
        f"{name} of the {which} run is not the file that was signed"
        for which, side in (("first", first), ("second", second))
        for name in side.changed
        if results.get(name, EQUAL) != EQUAL
    ]
    if not evidence:
        return None
    why = "nothing follows from it about the runs: get the original files and compare again"
    return Cause("a file that was changed after signing", LIKELY, tuple(evidence), why, 100)


def _code(first: Side, second: Side, manifests: ManifestDiff) -> CodeDiff | None:
    """The diff of the code where the source differs or is unknown; repositories are looked for where it ran."""
    if not manifests["source"].changes:
        return None
    before, after = (_source(side) for side in (first, second))
    roots = [state.recorded.get("root") for state in (before, after)]
    return code_diff(before, after, [*(Path(root) for root in roots if isinstance(root, str)), Path.cwd()])


def _source(side: Side) -> SourceState:
    recorded = (TrainingRecord.of(side.manifest).source.annotations if side.manifest else None) or {}
    return SourceState(recorded, side.folder.root if side.folder else None)


def _data(first: Side, second: Side, manifests: ManifestDiff, notes: list[str]) -> ListingDiff | None:
    """Which files of the data differ, where the digests do and both runs hold the listing."""
    listings = [side.folder.dataset_listing for side in (first, second) if side.folder]
    if not manifests["data"].changes or len(listings) < 2 or not all(path.is_file() for path in listings):
        return None
    try:
        return compare_listings(*listings)
    except ProvenanceError as error:
        notes.append(error.message)
        return None


def _trails(first: Side, second: Side, notes: list[str]) -> tuple[TrailComparison | None, bool]:
    """The trails' comparison, or None with a note; and whether they follow other tensors."""
    if first.is_program and second.is_program and first.folder and second.folder:
        try:
            found = compare_program_trails(first.folder, second.folder)
        except ProvenanceError as error:
            notes.append(error.message)
            return None, False
        notes.extend(found.notes)
        return found.comparison, found.other_tensors
    paths = [side.folder.trail if side.folder else None for side in (first, second)]
    missing = [
        f"the {name} run's trail is not available"
        for name, path in zip(("first", "second"), paths, strict=True)
        if path is None or not path.is_file()
    ]
    if missing or None in paths:
        notes.extend(missing)
        return None, False
    try:
        opened = [Trail(path) for path in paths if path]
        if opened[0].tensors != opened[1].tensors:
            notes.append(other_tensors(*opened))
            return None, True
        return compare_trails(opened[0].path, opened[1].path), False
    except ProvenanceError as error:
        notes.append(error.message)
        return None, False


def _metrics(first: Side, second: Side, notes: list[str]) -> MetricsComparison | None:
    paths = [side.folder.metrics for side in (first, second) if side.folder]
    if len(paths) < 2 or not all(path.is_file() for path in paths):
        return None
    try:
        return compare_metrics(*paths)
    except ProvenanceError as error:
        notes.append(error.message)
        return None


def _judged(
    first: Side, second: Side, trails: TrailComparison | None, metrics: MetricsComparison | None
) -> dict[str, str]:
    """Each result that either has: what was compared counts before digests."""
    found = {}
    for name in dict.fromkeys([*first.results, *second.results]):
        a, b = first.results.get(name), second.results.get(name)
        if a is None or b is None:
            found[name] = f"only the {'second' if a is None else 'first'} has it"
        else:
            found[name] = EQUAL if a == b else DIFFERENT
    both = first.is_program and second.is_program
    compared = {PROGRAM_TRAIL if both else TRAIL: trails, METRICS: metrics}
    return found | {name: EQUAL if part.identical else DIFFERENT for name, part in compared.items() if part}

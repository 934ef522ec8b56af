"""The verdict on a recorded program or script that was run again, by what its two runs left.

    identical     exit code, every output, every metric and every step of the trails, bit for bit
    close         the same trajectory: losses and metrics within tolerances, or equal, and outputs whose bytes differ
    inconsistent  the trails are equal bit for bit, and the metrics of the same steps are not within tolerances
    undecided     anything else: another trajectory, an output that is missing, or nothing that can be compared

"consistent" needs replicates of an experiment, which a program of anybody's does not have. A program may draw other
random numbers each time, and honest ones do: that its two runs differ accuses nobody. Metrics whose names speak of the
clock are left aside, and named. The programs' terminal output is not compared.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.analysis.results.reproduction_claims import Tolerance
from ndrepro.analysis.results.reproduction_verdict import Judgement
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import ProgramRecord, files_in
from ndrepro.protocol.verdicts import (
    CHECKED,
    CLOSE,
    FAILED,
    FLAGGED,
    IDENTICAL,
    INCONSISTENT,
    NOT_CHECKED,
    UNDECIDED,
    ClaimCheck,
    claim,
)
from ndrepro.text.plurals import first_of, plural
from provenance.attestation.manifest import Manifest
from provenance.errors import TrailError
from provenance.formats.bounded_read import LOG_BYTES, read_bounded
from provenance.formats.metrics_log import read_scalars
from provenance.formats.trail import Divergence, Trail, compare, shared_records

_CLOCK = re.compile(
    r"(?:^|[^a-z])(?:time|wall|seconds?|secs?|elapsed|duration|eta|speed|throughput|per_second)(?:$|[^a-z])"
)
_SHOWN = 3
# of an output that was declared and that the program did not write
_NOT_WRITTEN = "not written by this run"


@dataclass(frozen=True)
class ProgramResults:
    """What one of the two runs left: its folder, exit code, outputs by path, and rows of metrics.

    ``outputs`` have the SHA-256, or ``None`` where it is not known. ``python`` is the version that ran, "" for none.
    """

    folder: RunFolder
    exit_code: Any
    outputs: Mapping[str, str | None]
    rows: tuple[Mapping[str, Any], ...]
    python: str = ""

    @classmethod
    def of_program(cls, folder: RunFolder, manifest: Manifest) -> ProgramResults:
        """A run of ``ndrepro record``."""
        ran = ProgramRecord.of(manifest).interpreters
        python = ran[0].version if ran else ""
        return cls(folder, manifest.exit_code, _outputs(folder.outputs), _rows(folder.metrics), python)

    @classmethod
    def of_script(cls, folder: RunFolder, manifest: Manifest) -> ProgramResults:
        """A run of ``ndrepro.record``, whose outputs are its artifacts."""
        kept = {item.path: item.sha256 for item in manifest.artifacts if item.path.startswith("artifacts/")}
        return cls(folder, manifest.exit_code, kept, _rows(folder.metrics))


@dataclass(frozen=True)
class _Part:
    """One thing that was compared: ``same`` bit for bit, ``near`` within tolerances; ``None`` where it has none."""

    name: str
    compared: int
    same: bool
    near: bool | None
    evidence: str

    def as_claim(self, verdict: str) -> ClaimCheck:
        if not self.compared:
            return claim(self.name, None, self.evidence)
        if self.same or self.near:
            return ClaimCheck(self.name, CHECKED, self.evidence)
        # bytes have no tolerance: beside an equal trajectory they decide nothing
        return ClaimCheck(self.name, NOT_CHECKED if self.near is None and verdict == CLOSE else FAILED, self.evidence)


def judge_program(
    then: ProgramResults,
    now: ProgramResults,
    *,
    inputs: ClaimCheck,
    environment: ClaimCheck,
    whole: bool = True,
    limits: Tolerance | None = None,
) -> Judgement:
    """Compare what a program left with what its repetition left.

    ``inputs`` and ``environment`` are the claims on what it was given, made before it ran; ``whole`` says whether no
    recorded input was missing.
    """
    tolerance = limits or Tolerance()
    ending = claim("exit code", then.exit_code == now.exit_code, f"{then.exit_code} then, {now.exit_code} now")
    outputs, metrics = _compare_outputs(then, now), _compare_metrics(then, now, tolerance)
    trail, divergence, largest, steps = _compare_trails(then.folder, now.folder, tolerance)
    verdict, because = _verdict(ending, outputs, metrics, trail, "" if whole else inputs.evidence)
    if inputs.status == FLAGGED:  # equal results are those of whatever it read
        verdict, because = UNDECIDED, f"inputs: {inputs.evidence}"
    parts = (part.as_claim(verdict) for part in (outputs, metrics, trail))
    return Judgement(
        verdict=verdict,
        because=because,
        compared_steps=steps,
        divergence=divergence,
        largest_loss_difference=largest,
        accuracies=None,
        interval=None,
        replicates=0,
        claims=(ending, *parts, inputs, environment),
    )


def _verdict(ending: ClaimCheck, outputs: _Part, metrics: _Part, trail: _Part, missing: str) -> tuple[str, str]:
    compared = [part for part in (outputs, metrics, trail) if part.compared]
    if ending.status == FAILED:
        return UNDECIDED, f"it ended with another exit code: {ending.evidence}"
    if not compared:
        return UNDECIDED, "it left nothing that can be compared: no outputs, metrics or trail"
    if all(part.same for part in compared):
        return IDENTICAL, f"{', '.join(part.name for part in compared)}: all equal bit for bit"
    if missing:
        return UNDECIDED, f"inputs: {missing}"
    if trail.compared and trail.same and metrics.near is False:
        return INCONSISTENT, f"the steps are equal bit for bit, and the metrics are not: {metrics.evidence}"
    far = [part for part in compared if part.near is False]
    if far:
        return UNDECIDED, f"{far[0].name}: {far[0].evidence}"
    trajectory = [part for part in (trail, metrics) if part.compared]
    if trajectory and all(part.near or part.same for part in trajectory):
        return CLOSE, "; ".join(f"{part.name}: {part.evidence}" for part in compared if not part.same)
    return UNDECIDED, f"{outputs.name}: {outputs.evidence}"


def _rows(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The logged rows; none where nothing was logged."""
    return tuple(read_scalars(path, tolerate_torn=True)) if path.is_file() else ()


def _outputs(path: Path) -> dict[str, str | None]:
    """The files that a program wrote, by outputs.json."""
    found = files_in(json.loads(read_bounded(path, LOG_BYTES))) if path.is_file() else ()
    return {file.path: file.sha256 for file in found if not file.reason.startswith(_NOT_WRITTEN)}


def _compare_outputs(then: ProgramResults, now: ProgramResults) -> _Part:
    """Outputs by path; one that is missing is not near."""
    if not then.outputs:
        return _Part("outputs", 0, False, None, "it wrote none that were recorded")
    lost = sorted(then.outputs.keys() - now.outputs.keys())
    other = [path for path in sorted(then.outputs.keys() & now.outputs.keys()) if not _equal(then, now, path)]
    new = sorted(now.outputs.keys() - then.outputs.keys())
    equal = len(then.outputs) - len(lost) - len(other)
    parts = [f"{equal} of {plural(len(then.outputs), 'file')} equal by digest"]
    parts += [
        f"{what}: {_some(paths)}" for what, paths in (("differ", other), ("missing", lost), ("new", new)) if paths
    ]
    return _Part("outputs", len(then.outputs), not (lost or other or new), False if lost else None, "; ".join(parts))


def _equal(then: ProgramResults, now: ProgramResults, path: str) -> bool:
    return then.outputs[path] is not None and then.outputs[path] == now.outputs[path]


def _compare_metrics(then: ProgramResults, now: ProgramResults, limits: Tolerance) -> _Part:
    """Rows in their order, column by column, without those of the clock."""
    if not then.rows:
        return _Part("metrics", 0, False, None, "none were recorded")
    columns = {name for row in (*then.rows, *now.rows) for name in row}
    clock = {name for name in columns if _CLOCK.search(name.lower())}
    aside = f"; not compared: {_some(sorted(clock))}" if clock else ""
    if len(then.rows) != len(now.rows):
        return _Part("metrics", len(then.rows), False, False, f"{len(then.rows)} rows then, {len(now.rows)} now{aside}")
    differ: dict[str, float] = {}
    for before, after in zip(then.rows, now.rows, strict=True):
        for name in columns - clock:
            distance = _distance(before.get(name), after.get(name))
            if distance:
                differ[name] = max(differ.get(name, 0.0), distance)
    if not differ:
        return _Part("metrics", len(then.rows), True, True, f"{plural(len(then.rows), 'row')} equal{aside}")
    largest = max(differ, key=lambda name: differ[name])
    evidence = f"{_some(sorted(differ))} differ, by at most {differ[largest]:.2g} (relative, {largest}){aside}"
    return _Part("metrics", len(then.rows), False, differ[largest] <= limits.epoch_loss, evidence)


def _distance(before: Any, after: Any) -> float:
    """0 for equal values, the relative difference of two numbers, infinity for anything else."""
    if before == after or repr(before) == repr(after):
        return 0.0
    if isinstance(before, int | float) and isinstance(after, int | float):
        span = abs(before - after) / max(abs(before), abs(after))
        return span if math.isfinite(span) else math.inf
    return math.inf


def _compare_trails(then: RunFolder, now: RunFolder, limits: Tolerance) -> tuple[_Part, Divergence | None, float, int]:
    """The trails of both runs' processes, in the order of their starts; where they diverge, and how far losses do."""
    before, after = _trails(then.trails), _trails(now.trails)
    if not before:
        return _Part("trail", 0, False, None, "none was recorded"), None, 0.0, 0
    steps, largest, first = 0, 0.0, None
    if len(before) != len(after):
        words = f"{plural(len(before), 'trail')} then, {len(after)} now"
        return _Part("trail", len(before), False, False, words), None, 0.0, 0
    same = True
    for one, other in zip(before, after, strict=True):
        a, b = Trail(one), Trail(other)
        try:
            found = compare(a, b)
        except TrailError as error:
            return _Part("trail", len(before), False, False, error.message), first, largest, steps
        steps += found.compared
        same = same and found.identical
        first = first or found.divergence
        if found.divergence is not None:
            largest = max(largest, _loss_difference(a, b))
        elif not found.identical:
            words = f"{found.lengths[0]} steps then, {found.lengths[1]} now"
            return _Part("trail", len(before), False, False, words), first, largest, steps
    if same:
        return _Part("trail", steps, True, True, f"{plural(steps, 'step')} equal bit for bit"), None, 0.0, steps
    where = "" if first is None else f"bits differ from step {first.step} ({_some(first.tensors) or 'the loss alone'})"
    evidence = f"{where}; losses by at most {largest:.2g} (relative)"
    return _Part("trail", steps, False, largest <= limits.loss, evidence), first, largest, steps


def _loss_difference(first: Trail, second: Trail) -> float:
    """The largest relative difference of the losses of steps that both have; 0 where no loss was seen."""
    import numpy as np

    a, b = (np.ascontiguousarray(rows[:, 1]).view(np.float64) for rows in shared_records(first, second))
    with np.errstate(all="ignore"):
        spans = np.abs(a - b) / np.maximum(np.abs(a), np.abs(b))
    spans[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    return float(np.max(np.nan_to_num(spans, nan=math.inf), initial=0.0))


def _trails(folder: Path) -> list[Path]:
    """The trails in a folder: trail-PID-NANOSECONDS-NUMBER.bin, in the order of their processes' starts."""
    found = [path for path in folder.glob("trail-*.bin") if path.is_file() and not path.is_symlink()]
    return sorted(found, key=lambda path: [int(part) for part in path.stem.split("-")[2:] if part.isdigit()])


def _some(names: Sequence[str]) -> str:
    return first_of(names, _SHOWN)

"""The verdict on a recorded program or script that was run again, by what its two runs left.

    identical     exit code, every output, every metric and every step of the trails, bit for bit
    close         the same trajectory: losses and metrics within tolerances, or equal, and so are all outputs
    undecided     anything else: another trajectory, an output that is missing, or nothing that can be compared

"consistent" needs replicates of an experiment, which a program of anybody's does not have. A program may draw other
random numbers each time, and honest ones do: that its two runs differ accuses nobody, so none is "inconsistent". After
equal steps too its metrics may be of numbers that no seed fixes, or of the machine (memory, load, time under any name).
What the programs print is compared where standard output was declared as a result (``--out -``), as any other output.

Bytes have no tolerance. An output is within tolerances where both runs kept a copy of it, it is text, and nothing
differs but numbers with a decimal point or an exponent, each within the tolerance of metrics. Any other that differs
leaves the verdict undecided.

Tolerances are for what other conditions round otherwise. Under the same (processor, cores, packages that compute: the
claim on conditions) a program repeats its bits, unless it computed on a GPU without deterministic algorithms. Then, and
in the same environment elsewhere, what comes later (steps, then metrics, notes, outputs) may differ within them where
something before it differs.

Left out of the comparison are, and a claim of its own names them: metrics that measure the clock, where every word of
their names is in ``_CLOCK`` or ``_OF_WHAT`` and their values differ; declared outputs that neither run wrote; and
undeclared files that the first run left in a folder for temporary files, or in a hidden one of its user's; the times
in the metadata of executed notebooks; and TensorBoard's event logs, whose rows are metrics where they are declared.
"""

from __future__ import annotations

import math
import os.path
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ndrepro.analysis.verdicts.compared_part import ComparedPart, ValueDifference, largest_first
from ndrepro.analysis.verdicts.metadata_times import cure_of_dates, without_times
from ndrepro.analysis.verdicts.program_results import ProgramResults
from ndrepro.analysis.verdicts.program_trails import compare_trails
from ndrepro.analysis.verdicts.reproduction_claims import Tolerance
from ndrepro.analysis.verdicts.reproduction_verdict import Judgement
from ndrepro.analysis.verdicts.run_conditions import ASSERTED_OF_PROGRAMS, asserted_claim
from ndrepro.analysis.verdicts.timed_names import pairs
from ndrepro.protocol.program_record import (
    STANDARD_OUTPUT,
)
from ndrepro.protocol.verdicts import (
    CHECKED,
    CLOSE,
    FAILED,
    FLAGGED,
    IDENTICAL,
    UNDECIDED,
    ClaimCheck,
    claim,
)
from ndrepro.text.first_difference import LineDifference, first_different_line
from ndrepro.text.plurals import all_of, bounded, plural
from provenance.attestation.run_files import inside
from provenance.errors import ProvenanceError
from provenance.formats.bounded_read import read_bounded
from provenance.formats.digest import bytes_digest

# every word of the name of a metric of the clock is one of these two kinds, and at least one is of the first
_CLOCK = re.compile(
    "times?|timing|timers?|timestamp|datetime|walltime|runtime|seconds?|secs?|milliseconds|minutes|hours|elapsed|duration|latency|speed"
    "|throughput"
)
_OF_WHAT = re.compile(
    "wall|clock|[cg]pu|total|mean|avg|average|cumulative|per|s|ms|of|in|epochs?|steps?|batch(es)?|iter|iterations?|it"
    "|train|training|test|testing|val|valid|validation|eval|evaluation|data|load|loading|forward|backward|images?"
    "|imgs?|samples?|examples?|tokens?|items?"
)
# any other character is a part of a word, and no word of the clock has it
_BETWEEN_WORDS = re.compile(r"[\s_./:()\[\]-]+")
_PER_SECOND = re.compile(r"(?:/|per[ _]?)s(?:ec)?$")
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?(?![\w.])")
# TensorBoard's, with the time and the process in their names, and times in every record
_EVENTS = re.compile(r"events\.out\.tfevents\.[0-9]+\.")
_TEXT_BYTES = 8 << 20
_BRIEF = 400
Rows = Sequence[Mapping[str, Any]]
# the member that says which log a row of metrics is from
_FILE = "file"


def judge_program(
    then: ProgramResults,
    now: ProgramResults,
    *,
    inputs: ClaimCheck,
    environment: ClaimCheck,
    conditions: ClaimCheck,
    whole: bool = True,
    alike: bool = False,
    repeats: bool = True,
) -> Judgement:
    """Compare what a program left with what its repetition left.

    ``inputs``, ``environment`` and ``conditions`` are the claims on what it was given; ``whole`` says whether no
    recorded input was missing, ``alike`` that no difference of the environment is known, whatever was compared of it,
    and ``repeats`` that nothing which the repetition used keeps equal conditions from equal bits.
    """
    ending = claim("exit code", then.exit_code == now.exit_code, f"{then.exit_code} then, {now.exit_code} now")
    outputs = _compare_outputs(then, now)
    metrics = _compare_rows("metrics", "row", then.rows, now.rows)
    notes = _compare_rows("notes", "set", *([side.notes] if side.notes else [] for side in (then, now)))
    trail, divergence, largest, steps = compare_trails(then.folder, now.folder)
    verdict, because = _verdict(ending, outputs, metrics, notes, trail, "" if whole else inputs.evidence)
    same = conditions.status == CHECKED
    if verdict == CLOSE and same and repeats:
        verdict, because = UNDECIDED, f"{because}; the conditions are the same"
    equal = _equal_at_first(trail, metrics, notes, outputs)
    if verdict == CLOSE and equal and (same or alike or environment.status == CHECKED):
        verdict, because = UNDECIDED, f"{because}; after {equal} equal bit for bit in the same environment"
    if inputs.status == FLAGGED:  # equal results are those of whatever it read
        verdict, because = UNDECIDED, f"inputs: {inputs.evidence}"
    compared = (outputs, metrics, *((notes,) if then.notes or now.notes else ()), trail)
    parts = (part.as_claim() for part in compared)
    aside = [f"{part.name}: {all_of(part.aside)}" for part in compared if part.aside]
    left_out = (claim("left out of the comparison", None, "; ".join(aside)),) if aside else ()
    return Judgement(
        verdict=verdict,
        because=because,
        compared_steps=steps,
        divergence=divergence,
        largest_loss_difference=largest,
        accuracies=None,
        interval=None,
        replicates=0,
        claims=(
            ending,
            *parts,
            *left_out,
            inputs,
            environment,
            conditions,
            asserted_claim(ASSERTED_OF_PROGRAMS),
            *then.others,
        ),
    )


def _verdict(
    ending: ClaimCheck,
    outputs: ComparedPart,
    metrics: ComparedPart,
    notes: ComparedPart,
    trail: ComparedPart,
    missing: str,
) -> tuple[str, str]:
    compared = [part for part in (outputs, metrics, notes, trail) if part.compared]
    if ending.status == FAILED:
        return UNDECIDED, f"it ended with another exit code: {ending.evidence}"
    if not compared:
        return UNDECIDED, "it left nothing that can be compared: no outputs, metrics or trail"
    if missing:
        return UNDECIDED, f"inputs: {_briefly(missing)}"
    if all(part.same for part in compared):
        aside = [name for part in (outputs, metrics, notes) for name in part.aside]
        rest = f"; not compared: {_briefly(', '.join(aside))}" if aside else ""
        return IDENTICAL, f"{', '.join(part.name for part in compared)}: all equal bit for bit{rest}"
    if trail.compared and trail.same and metrics.compared and not metrics.near:
        return UNDECIDED, f"the steps are equal bit for bit, and the metrics are not: {_briefly(metrics.evidence)}"
    far = [part for part in compared if not (part.same or part.near)]
    if far:
        return UNDECIDED, f"{far[0].name}: {_briefly(far[0].evidence)}"
    if trail.compared or metrics.compared:
        return CLOSE, _briefly("; ".join(f"{part.name}: {part.evidence}" for part in compared if not part.same))
    return UNDECIDED, f"{outputs.name}: {_briefly(outputs.evidence)}"


def _equal_at_first(*by_time: ComparedPart) -> str:
    """The first that was compared, if it is equal bit for bit: what computed it leaves no room to what comes later."""
    first = next((part for part in by_time if part.compared), None)
    return first.name if first is not None and first.same else ""


def _compare_outputs(then: ProgramResults, now: ProgramResults) -> ComparedPart:
    """Outputs by path. One that is missing is not near; one that was unwritten then is compared where it is new now."""
    wanted = {**then.outputs, **{path: then.unwritten[path] for path in then.unwritten.keys() & now.outputs.keys()}}
    aside = tuple(f"{path} (not written)" for path in sorted(then.unwritten.keys() - wanted.keys()))
    aside += tuple(f"{path} (temporary)" for path in sorted(then.temporary))
    logs = {path for path in (*wanted, *now.outputs) if _EVENTS.match(os.path.basename(path))}
    aside += tuple(f"{path} (event log)" for path in sorted(logs & wanted.keys()))
    wanted, written = ({path: side[path] for path in side.keys() - logs} for side in (wanted, now.outputs))
    if not wanted:
        more = f"; new: {all_of(map(_name, sorted(written)))}" if written else ""
        return ComparedPart("outputs", 0, False, False, f"it wrote none that were recorded{more}", aside)
    lost = sorted(wanted.keys() - written.keys())
    differ = [
        path
        for path in sorted(wanted.keys() & written.keys())
        if not _equal(wanted, written, path) or then.sizes.get(path) != now.sizes.get(path)
    ]
    timed = [path for path in differ if path.endswith(".ipynb") and _equal_but_times(then, now, path)]
    aside += tuple(f"{path} (times in its metadata)" for path in timed)
    differ = [path for path in differ if path not in timed]
    texts = {path: list(_text_differences(then, now, path)) for path in differ}
    near = {path: found for path, found in texts.items() if found and max(found).by <= Tolerance.epoch_loss}
    other, new = [path for path in differ if path not in near], sorted(written.keys() - wanted.keys())
    equal = len(wanted) - len(lost) - len(differ) - len(timed)
    parts = [f"{equal} of {plural(len(wanted), 'file')} equal by digest"]
    parts += [f"{plural(len(timed), 'notebook')} equal but for times in metadata"] if timed else []
    if near:
        found = [difference for each in near.values() for difference in each]
        parts.append(f"{plural(len(near), 'text')} with numbers that differ: {largest_first(found)}")
    moved = pairs(lost, new)
    if moved:
        alike = sum(wanted[before] is not None and wanted[before] == written[after] for before, after in moved.items())
        before, after = min(moved.items())
        names = f"{plural(len(moved), 'output')} named by the time, {alike} of them equal by digest"
        cure = "have the program write to a name that stays, such as hydra.run.dir=DIR or log_dir=DIR"
        parts.append(f"{names} ({before} then, {after} now): {cure}")
    lost_else, new_else = ([path for path in paths if path not in {*moved, *moved.values()}] for paths in (lost, new))
    named = ("differ", other), ("missing", lost_else), ("new", new_else)
    parts += [f"{what}: {all_of(map(_name, paths))}" for what, paths in named if paths]
    cures = {path: cure for path in other if (cure := _cure_of_dates(then, now, path))}
    parts += [
        f"{all_of(path for path in cures if cures[path] == cure)} only in {cure}" for cure in sorted({*cures.values()})
    ]
    unlike = [path for path in other if path not in cures][:1]
    parts += [f"{_name(path)}, {line}" for path in unlike if (line := _first_line(then, now, path))]
    same = not (lost or differ or new)
    return ComparedPart("outputs", len(wanted), same, not (lost or other), "; ".join(parts), aside)


def _equal(then: Mapping[str, str | None], now: Mapping[str, str | None], path: str) -> bool:
    return then[path] is not None and then[path] == now[path]


def _equal_but_times(then: ProgramResults, now: ProgramResults, path: str) -> bool:
    """Whether both runs kept a copy of an executed notebook, and nothing differs but what no execution repeats."""
    one, other = _copy(then, path), _copy(now, path)
    if one is None or other is None:
        return False
    try:
        kept = without_times(one)
        return kept is not None and kept == without_times(other)
    except RecursionError:  # nested as no notebook is
        return False


def _cure_of_dates(then: ProgramResults, now: ProgramResults, path: str) -> str:
    """In what alone an output differs, and the cure, where both copies are there: a date; "" for anything else."""
    one, other = _copy(then, path), _copy(now, path)
    return "" if one is None or other is None else cure_of_dates(one, other)


def _text_differences(then: ProgramResults, now: ProgramResults, path: str) -> Iterator[ValueDifference]:
    """The numbers that differ in two texts; none where they differ in anything else, or are no texts.

    Whole numbers are text: they are counts, labels and names.
    """
    one, other = _text(then, path), _text(now, path)
    if one is None or other is None or _NUMBER.sub("0.", one) != _NUMBER.sub("0.", other):
        return
    for before, after in zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True):
        if before != after:
            yield ValueDifference(_distance(float(before), float(after)), _name(path), before, after)


def _first_line(then: ProgramResults, now: ProgramResults, path: str) -> LineDifference | None:
    """The first line in which an output differs, where both copies are there and text."""
    one, other = _copy(then, path), _copy(now, path)
    return None if one is None or other is None else first_different_line(one, other)


def _name(path: str) -> str:
    return "standard output" if path == STANDARD_OUTPUT else path


def _text(side: ProgramResults, path: str) -> str | None:
    """The kept copy of an output, where it is text and has the recorded digest."""
    try:
        data = _copy(side, path)
        return None if data is None else data.decode()
    except UnicodeDecodeError:
        return None


def _copy(side: ProgramResults, path: str) -> bytes | None:
    """The kept copy of an output, where it has the recorded digest."""
    if not inside(path):
        return None
    try:
        data = read_bounded(side.copies / path, _TEXT_BYTES)
    except (OSError, ProvenanceError):
        return None
    return data if bytes_digest(data) == side.outputs.get(path) else None


def _compare_rows(what: str, noun: str, then: Rows, now: Rows) -> ComparedPart:
    """Rows in their order, column by column; those of the clock that differ are left aside."""
    if not then:
        names = all_of(sorted({name for row in now for name in row}))
        more = f"; {plural(len(now), noun)} now, of {names}" if now else ""
        return ComparedPart(what, 0, False, False, f"none were recorded{more}")
    if len(then) != len(now):
        return ComparedPart(what, len(then), False, False, f"{plural(len(then), noun)} then, {len(now)} now")
    columns = {name for row in (*then, *now) for name in row}
    differ: dict[str, ValueDifference] = {}
    clock: set[str] = set()
    for before, after in zip(then, now, strict=True):
        for name in columns:
            distance = _distance(before.get(name, _ABSENT), after.get(name, _ABSENT))
            if distance and _is_of_the_clock(name) and before.get(name) is not None and after.get(name) is not None:
                clock.add(name)
            elif distance:
                found = ValueDifference(distance, name, *(str(row.get(name, _ABSENT)) for row in (before, after)))
                differ[name] = max(differ.get(name, found), found)
    aside, words = tuple(sorted(clock)), f"; not compared: {all_of(sorted(clock))}" if clock else ""
    if columns <= clock | {_FILE}:
        return ComparedPart(what, 0, False, False, f"none but those of the clock were recorded{words}", aside)
    if not differ:
        return ComparedPart(what, len(then), True, True, f"{plural(len(then), noun)} equal{words}", aside)
    evidence = f"{len(differ)} of {len(columns)} columns differ, by at most: {largest_first(differ.values())}{words}"
    return ComparedPart(what, len(then), False, max(differ.values()).by <= Tolerance.epoch_loss, evidence, aside)


def _is_of_the_clock(name: str) -> bool:
    """Whether a metric's whole name (``train/epoch_time``) says that it measures the clock, and nothing else."""
    words = list(filter(None, _BETWEEN_WORDS.split(_PER_SECOND.sub(" speed", name.lower()))))
    return any(map(_CLOCK.fullmatch, words)) and all(
        _CLOCK.fullmatch(word) or _OF_WHAT.fullmatch(word) for word in words
    )


class _Absent:
    """The value of a column that a row does not have: null is one that was recorded."""

    def __str__(self) -> str:
        return "none"


_ABSENT = _Absent()


def _distance(before: Any, after: Any) -> float:
    """0 for equal values, the relative difference of two numbers, infinity for anything else."""
    truth = isinstance(before, bool), isinstance(after, bool)  # true is no number
    nested = isinstance(before, list | Mapping)  # and may hold true and 1
    if (before == after and truth[0] is truth[1] and not nested) or repr(before) == repr(after):
        return 0.0
    if any(truth) or not (isinstance(before, int | float) and isinstance(after, int | float)):
        return math.inf
    try:
        span = abs(before - after) / max(abs(before), abs(after))
    except OverflowError:  # a whole number that no float can hold
        return math.inf
    return span if math.isfinite(span) else math.inf


def _briefly(evidence: str) -> str:
    """For the sentence of the verdict: the claims have all of it."""
    return bounded(evidence, _BRIEF)

"""``ndrepro diff``: where the numbers of two runs diverge, why, and everything in which the runs differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ndrepro import api
from ndrepro.analysis.comparison.causes import Cause
from ndrepro.analysis.comparison.metrics_diff import MetricsComparison
from ndrepro.analysis.comparison.run_comparison import DIFFERENT, EQUAL, PROGRAM_TRAIL, RunComparison
from ndrepro.analysis.comparison.side import Side
from ndrepro.analysis.comparison.trail_divergence import TrailDivergence
from ndrepro.analysis.comparison.wording import fold
from ndrepro.cli import completion
from ndrepro.cli.display import execution, options, output, terminal, words
from ndrepro.cli.display.located import Located, print_located
from ndrepro.execution.reproduce.step_replay import VerifiedRun
from ndrepro.execution.sandbox.sandbox import Sandbox
from ndrepro.protocol.layout import RunFolder
from ndrepro.text.plurals import first_of, plural
from provenance.comparison.code_diff import CodeDiff
from provenance.comparison.json_leaves import ABSENT
from provenance.comparison.manifest_diff import Group, ManifestDiff

if TYPE_CHECKING:
    Confine = Callable[[VerifiedRun], Sandbox | None]

_LABEL_WIDTH = 13
# the copy of what a program printed
_PRINTED = "outputs/-"
_POINTS, _VALUES, _CHANGES, _FILES, _CAUSES, _EVIDENCE = 7, 3, 5, 4, 4, 4
_SAME_RESULTS = "the results are equal bit for bit, in a folder that is not the one that was signed"
_STYLES = {"likely": "bold yellow", "possible": "", "ruled out": "dim"}
_HELP = "A run: a folder, a manifest file, an identifier, an experiment or latest, as for `ndrepro verify`."


def diff(
    first: Annotated[str, typer.Argument(metavar="A", show_default=False, autocompletion=completion.runs, help=_HELP)],
    second: Annotated[
        str,
        typer.Argument(
            metavar="B", show_default=False, autocompletion=completion.runs, help="The other run, likewise."
        ),
    ],
    code: Annotated[bool, typer.Option("--code", help="Print the difference of the code, too.")] = False,
    locate: Annotated[
        bool, typer.Option("--locate", help="Replay the step at which they diverge, and name the first operation.")
    ] = False,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", help="Keep what --locate replayed, tensors included.")
    ] = None,
    data: options.DataHere = None,
    sandbox: options.Sandbox = "auto",
    trust_code: options.TrustCode = False,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Compare two runs: where they diverge, why, and in what they differ. Both are verified first, with every file.

    Exit 0 if identical bit for bit, 1 if not, or if a file of either was changed after signing.

    Example: ndrepro diff 20261121T101316Z-857dc8 latest --locate
    """

    def confine(run: VerifiedRun) -> Sandbox | None:
        return execution.confine(run, sandbox, runs, trust_code=trust_code, ask=not as_json)

    found = api.diff(*options.each_run_or_manifest(runs, (first, second)))
    if as_json:
        located = _locate(found, data, keep, confine, quiet=True) if locate and not found.identical else None
        output.print_json({**found.to_json(), **({"located": located} if locate else {})})
    else:
        _print(found)
        if code and found.code:
            terminal.write_text("\n" + (found.code.text.rstrip("\n") or "no difference of code to print"))
        if locate:
            _print_located(found, data, keep, confine)
    return output.DONE if found.identical else output.NO


def _locate(found: RunComparison, data: Path | None, keep: Path | None, confine: Confine, *, quiet: bool) -> Located:
    from ndrepro.cli.display.located import locate

    return locate(found, data, keep, (lambda text: None) if quiet else terminal.write_line, confine)


def _print_located(found: RunComparison, data: Path | None, keep: Path | None, confine: Confine) -> None:
    terminal.write_line("")
    if found.identical:
        terminal.write_line("nothing to locate: every step left the same bits")
        return
    print_located(_locate(found, data, keep, confine, quiet=False))


def _print(found: RunComparison) -> None:
    _print_changed(found)
    for label, side in zip("AB", found.sides, strict=True):
        _row(label, _side(side), alarms=() if side.signer else ("NOT VERIFIED", "CHANGED AFTER SIGNING"))
        for problem in side.problems:
            _row("", problem, style="yellow")
    terminal.write_line("")
    _headline(found)
    for note in (
        *found.notes,
        *(found.trails.notes if found.trails else ()),
        *(found.metrics.notes if found.metrics else ()),
    ):
        _row("note", note, style="yellow")
    if found.trails and found.trails.divergence:
        _print_growth(found.trails.divergence)
    if found.metrics and not found.metrics.identical:
        _row("results", _metrics(found.metrics))
    for name, line in list(found.lines.items())[:_FILES]:
        _row("output", f"{'standard output' if name == _PRINTED else name} differs first in {line}")
    if found.causes:
        _print_causes(found.causes)
    if found.manifests:
        terminal.write_line("")
        _print_differences(found.manifests, found)


def _print_changed(found: RunComparison) -> None:
    """Before anything else: what is compared is not what was signed."""
    for label, names in zip("AB", found.changed, strict=False):
        if names:
            text = f"{label} was changed after signing: {first_of(names, _FILES)}"
            terminal.write_styled((terminal.hanging(text, 0), "bold red"))


def _side(side: Side) -> str:
    outcome = side.manifest.outcome if side.manifest else "no manifest"
    return f"{side.name} {side.run}, {outcome}, {side.status}"


def _headline(found: RunComparison) -> None:
    """The one line that answers the question."""
    same = found.changed and set(found.results.values()) == {"equal"}
    text = _identical(found) if found.identical else _SAME_RESULTS if same else _divergence(found)
    style = "bold green" if found.identical else "bold yellow"
    terminal.write_styled((terminal.hanging(text, 0), style))


def _identical(found: RunComparison) -> str:
    if found.trails and PROGRAM_TRAIL in found.results:
        others = [name for name in found.results if name != PROGRAM_TRAIL]
        outputs = f" and {', '.join(others[:_FILES])}{' and others' * (len(others) > _FILES)}" if others else ""
        of = f" of {found.trails.where}, every other trail" if found.trails.where else ""
        return f"identical: {found.trails.last_steps[0]:,} steps{of}{outputs} are equal bit for bit"
    if RunFolder(Path()).trail.name not in found.results:
        return f"identical: {', '.join(found.results)} are equal bit for bit"
    steps = f"{found.trails.last_steps[0]:,} steps" if found.trails else "the trail"
    epochs = f"{plural(found.metrics.rows[0], 'epoch')} of results" if found.metrics else "the results"
    signed = "" if found.trails else ", by the digests that were signed"
    differ = [name for name in (found.manifests.changed if found.manifests else ()) if name not in ("circumstances",)]
    although = f", although these differ: {', '.join(differ)}" if differ else ""
    return f"identical: {steps}, {epochs} and the final weights are equal bit for bit{signed}{although}"


def _divergence(found: RunComparison) -> str:
    if not found.results:
        return "nothing to compare: neither run has results"
    if found.other_tensors:
        return "these are runs of different networks: their steps cannot be compared"
    sides = zip("AB", found.sides, strict=True)
    bare = [] if found.trails else [label for label, side in sides if not side.results]
    if bare:
        return f"nothing to compare: {bare[0]} left no results"
    if found.trails is None:
        return f"they differ; where they diverge is unknown: {_unequal(found.results)}"
    divergence = found.trails.divergence
    if divergence is None:
        shared = f"no bit differs in the {max(found.trails.shared_records - 1, 0):,} steps that both have"
        if not found.trails.identical:
            spans = zip("AB", found.trails.first_steps, found.trails.last_steps, strict=True)
            return f"{shared}; " + ", ".join(f"{side} has {first:,} to {last:,}" for side, first, last in spans)
        return f"{shared}; beside them: {_unequal(found.results)}"
    where = (
        f"{divergence.nearest_tensor} ({len(divergence.tensors)} of {divergence.of} tensors)"
        if divergence.tensors
        else "no tensor"
    )
    where += f" of {found.trails.where}" if found.trails.where else ""
    if divergence.in_first_forward_pass:
        return f"they diverge at step 1, in its forward pass, in {where}, from equal first weights"
    if divergence.step == 0:
        return f"they diverge before the first step: the first weights differ in {where}"
    after = f"{plural(divergence.equal_steps, 'equal step')}" if divergence.equal_steps else "equal first weights"
    return f"they diverge at step {divergence.step:,} in {where}, after {after}"


def _unequal(results: Mapping[str, str]) -> str:
    """What is not equal, then what is."""
    unequal = [
        f"{name} {'differs' if how == DIFFERENT else f'({how})'}" for name, how in results.items() if how != EQUAL
    ]
    equal = [name for name, how in results.items() if how == EQUAL]
    return ", ".join(unequal) + (f"; equal: {first_of(equal, _FILES)}" if equal else "")


def _print_growth(divergence: TrailDivergence) -> None:
    """The losses of the first step that differs, and a few steps of how the difference grows."""
    if divergence.losses is not None:
        how = "differs" if divergence.loss_differs else "is equal"
        values = f": {divergence.losses[0]!r} and {divergence.losses[1]!r}" if divergence.loss_differs else ""
        _row("", f"the loss of that step {how}{values}")
    points = divergence.growth
    if len(points) > _POINTS:
        chosen = sorted({round(place * (len(points) - 1) / (_POINTS - 1)) for place in range(_POINTS)})
        points = tuple(points[place] for place in chosen)
    console = terminal.console()
    console.print(
        f"{'growth':<{_LABEL_WIDTH}}    step   tensors   |loss A - B|   relative", style="dim", soft_wrap=True
    )
    for point in points:
        numbers = f"{point.step:>7,} {point.tensors:>9} {point.loss_difference:>14.1e} {point.relative:>10.1e}"
        console.print(f"{'':<{_LABEL_WIDTH}} {numbers}", soft_wrap=True)


def _metrics(metrics: MetricsComparison) -> str:
    """How many epochs differ, and the last one that both have."""
    shared = min(metrics.rows)
    counted = f"{len(metrics.differing)} of {shared} epochs differ"
    if metrics.rows[0] != metrics.rows[1]:
        counted += f" (A has {metrics.rows[0]}, B has {metrics.rows[1]})"
    if metrics.last_shared is None:
        return counted
    pairs = [(name, a, b) for name, (a, b) in metrics.last_shared.values.items() if repr(a) != repr(b)]
    pairs.sort(key=lambda item: ("accuracy" not in item[0], "test" not in item[0]))
    texts = "; ".join(
        f"{name.replace('_', ' ')} {_number(name, a)} and {_number(name, b)}" for name, a, b in pairs[:_VALUES]
    )
    return f"{counted}; {metrics.last_shared.row}: {texts or 'equal'}"


def _number(name: str, value: object) -> str:
    if isinstance(value, (int, float)):
        return words.percent(value) if name.endswith("accuracy") else f"{value:.6g}"
    return "-" if value is None else str(value)


def _print_causes(causes: tuple[Cause, ...]) -> None:
    terminal.write_line("")
    assessment = [cause for cause in causes if cause.assessment != "ruled out"]
    for number, cause in enumerate(assessment[:_CAUSES], 1):
        _row(f"cause {number}", f"{cause.assessment}: {cause.title}", style=_STYLES[cause.assessment])
        every = cause.evidence
        texts = every if len(every) <= _EVIDENCE else (*every[: _EVIDENCE - 1], every[-1])
        _row("", "; ".join(texts))  # the last one is what the trails say
        _row("", f"({cause.why})", style="dim")
    if len(assessment) > _CAUSES:
        _row("", f"and {plural(len(assessment) - _CAUSES, 'other difference')} that are possible (--json has them)")
    out = [f"{cause.title} ({cause.evidence[-1]})" for cause in causes if cause.assessment == "ruled out"]
    if out:
        _row("ruled out", "; ".join(out[:_VALUES]) + (f"; and {len(out) - _VALUES} more" if len(out) > _VALUES else ""))


def _print_differences(manifests: ManifestDiff, found: RunComparison) -> None:
    """A line a group, most important first; then what is the same, and what is not known."""
    for group in manifests.groups:
        if text := _group(group, found):
            _row(group.name, text, style="dim" if group.name == "circumstances" else "")
    same = [f"{group.name} ({group.same})" for group in manifests.groups if group.same and not group.changes]
    _row("the same", ", ".join(same) or "nothing")
    unknown = [
        f"{group.name}: {', '.join(item.name for item in group.unknown)}" for group in manifests.groups if group.unknown
    ]
    if unknown:
        _row("not known", "; ".join(unknown))


def _group(group: Group, found: RunComparison) -> str:
    if group.name == "circumstances":
        return ", ".join(dict.fromkeys(change.name for change in group.changes))
    changes = group.changes
    if group.name == "results":  # files and numbers are printed above
        changes = tuple(
            change for change in changes if change.name in ("outcome", "exit code") or "error" in change.name
        )
    if group.name == "source" and found.code and found.code.how == "git":  # the files tell what patches would
        changes = tuple(change for change in changes if change.name in ("commit", "dirty", "code"))
    # what was asked for before what came of it, and what one version of the code does not know at the end
    changes = tuple(sorted(changes, key=lambda change: (ABSENT in (change.first, change.second), "'s " in change.name)))
    folded = fold(changes)
    parts = [str(item) for item in folded[:_CHANGES]]
    parts += [f"and {len(folded) - _CHANGES} more"] if len(folded) > _CHANGES else []
    parts += list(_code(found.code)) if group.name == "source" and found.code else []
    if group.name == "data" and found.data:
        listed = found.data
        counts = (("changed", listed.changed), ("only in A", listed.only_first), ("only in B", listed.only_second))
        parts += [f"{plural(len(names), 'file')} {how}: {', '.join(names[:_VALUES])}" for how, names in counts if names]
    return "; ".join(parts)


def _code(code: CodeDiff) -> Iterator[str]:
    """The files that differ, the largest changes first."""
    if code.how in ("same", "git") and not code.files:
        yield "the files are the same"
    elif code.files:
        ordered = sorted(code.files, key=lambda file: -((file.added or 0) + (file.removed or 0)))
        texts = ", ".join(
            f"{file.path} +{file.added} -{file.removed}" if file.added is not None else file.path
            for file in ordered[:_FILES]
        )
        more = f" and {len(ordered) - _FILES} more" if len(ordered) > _FILES else ""
        yield f"{plural(len(ordered), 'file')}: {texts}{more}" + (" (--code prints them)" if code.text else "")
    yield from code.caveats


def _row(label: str, text: str, style: str = "", *, alarms: Sequence[str] = ()) -> None:
    terminal.write_row(label, text, _LABEL_WIDTH, style, alarms)

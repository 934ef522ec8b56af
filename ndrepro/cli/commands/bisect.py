"""``ndrepro bisect``: which package, and which release of it, moved a result between two environments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ndrepro.cli import completion
from ndrepro.cli.commands.run import chosen_settings
from ndrepro.cli.display import options, output, terminal
from ndrepro.execution.bisect.bisect import BITS, SCORES, Bisection, BisectResult, PackageTrial
from ndrepro.execution.environments import add_cell
from ndrepro.execution.environments.interpreters import uv_executable
from ndrepro.execution.environments.matrix import cell
from ndrepro.execution.runs.run import RunOptions
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunsFolder
from ndrepro.text.plurals import first_of, plural
from provenance.attestation.key_home import default_home

_CELL = "A cell of the version matrix, e.g. torch-2.4.1; see `ndrepro env list`."
_WORDS = {"same": "same", "changed": "CHANGED", "unresolved": "unresolved"}
_SHOWN = 6


def bisect(
    experiment: Annotated[
        str,
        typer.Argument(
            metavar="EXP",
            show_default=False,
            autocompletion=completion.experiments,
            help="What to run, e.g. small_inception_bn_1_digits.",
        ),
    ],
    first: Annotated[str, typer.Argument(metavar="A", show_default=False, autocompletion=completion.cells, help=_CELL)],
    second: Annotated[
        str,
        typer.Argument(
            metavar="B", show_default=False, autocompletion=completion.cells, help="The other cell, likewise."
        ),
    ],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting; may be given many times.")
    ] = None,
    on: Annotated[
        str, typer.Option("--on", metavar="WHAT", help="bits: every step's bits; scores: the epochs' results.")
    ] = "bits",
    releases: Annotated[
        bool, typer.Option("--releases/--no-releases", help="Search for the release of the package, too.")
    ] = True,
    everywhere: Annotated[
        bool, typer.Option("--all", help="Try every release of the package, so that none is missed.")
    ] = False,
    remove_cells: Annotated[
        bool, typer.Option("--remove-cells", help="Remove the cells made for the bisection afterwards.")
    ] = False,
    data: Annotated[Path | None, typer.Option("--data", metavar="PATH", help="Path of the data set.")] = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Find the package that changes a result, by exchanging packages between two environments.

    Every trial is a recorded run. Exit 0 where the two agree, 1 where they do not.

    Example: ndrepro bisect lenet_nd_1_digits torch-1.13.1 torch-2.13.0
    """
    uv_executable()  # raises MissingExtra: every trial has an environment of its own
    if everywhere and not releases:
        raise UsageError("--all with --no-releases: it is releases that all are tried of", "leave one of them out")
    if on not in (BITS, SCORES):
        raise UsageError(f"--on {on}: it is {BITS} or {SCORES}", f"{BITS} finds what {SCORES} may round away")
    if first == second:
        raise UsageError(f"{first} twice: there is nothing between them", "name two cells")
    search = Bisection(
        Experiment.from_name(experiment, chosen_settings(settings or [])),
        cell(first),
        cell(second),
        RunOptions(runs=RunsFolder(runs), home=default_home(), data=data),
        on=on,
        tell=(lambda trial: None) if as_json else _print_trial,
        say=lambda text: None if as_json else terminal.write_line(f"... {text}"),
    )
    finding = search.find(releases=releases, everywhere=everywhere)
    for name in finding.made if remove_cells else ():
        add_cell.forget(cell(name))
    document = {**finding.to_json(), "cells_removed": remove_cells}
    return output.answer(document, _lines(finding, removed=remove_cells), as_json, holds=not finding.cause)


def _print_trial(trial: PackageTrial) -> None:
    terminal.write_line(f"{_WORDS[trial.outcome]:<11} {trial.title}{_where(trial)}")
    if trial.outcome == "unresolved":
        terminal.write_line(f"{'':<11} {trial.reason[:300]}")


def _where(trial: PackageTrial) -> str:
    """Where its bits part from A's, and which run says so."""
    at = ""
    if trial.divergence is not None:
        step, tensors = trial.divergence
        at = f": from step {step}, in {plural(len(tensors), 'tensor')}"
        at += f" ({tensors[0]}{', ...' if len(tensors) > 1 else ''})" if tensors else ""
    return f"{at}  [{trial.run.root.name}]" if trial.run is not None else at


def _lines(finding: BisectResult, *, removed: bool) -> Iterator[str]:
    yield ""
    yield from conclusion(finding)
    yield ""
    yield f"{plural(len(finding.trials), 'trial')}; every one that ran is a signed run"
    if finding.made:
        what = "removed" if removed else f"kept ({terminal.program()} env remove {' '.join(finding.made)} --lock)"
        yield f"{plural(len(finding.made), 'cell')} made, {what}"


def conclusion(finding: BisectResult) -> list[str]:
    """The conclusion of a bisection, in sentences."""
    what = "every step's bits" if finding.on == "bits" else "the scores"
    if not finding.cause:
        return [f"{finding.first} and {finding.second} agree: {what} are the same"]
    if len(finding.cause) > 1:
        names = "; ".join(", ".join(map(str, group)) for group in finding.cause)
        untold = sum(trial.outcome == "unresolved" for trial in finding.trials)
        apart = "none of them was seen to do it alone"
        apart += f", but {plural(untold, 'trial')} could not be resolved" if untold else ""
        return [f"{what} change with these together; {apart}: {names}"]
    (group,) = finding.cause
    others = [change for change in group if change.name != finding.package]
    lines = [f"{what} change with {next(str(change) for change in group if change.name == finding.package)}"]
    if others:
        lines.append(f"  which moves together with {first_of(others, _SHOWN)}")
    if finding.alone is not None:
        by_itself, rest = finding.alone
        lines.append(f"  put in by force, {finding.package} alone: {_WORDS[by_itself.outcome]}{_where(by_itself)}")
        lines.append(f"  the others without it: {_WORDS[rest.outcome]}{_where(rest)}")
    if finding.others is not None:
        lines.append(f"  everything else without it: {_WORDS[finding.others.outcome]}{_where(finding.others)}")
        if finding.others.outcome == "changed":
            lines.append("  so there is another cause; this one was found first")
    return [*lines, *_releases(finding, what)]


def _releases(finding: BisectResult, what: str) -> list[str]:
    """At which releases of the package the result turns, and what could have been missed."""
    if finding.turns is None:
        return []
    name, lines = finding.package, []
    for place, turn in enumerate(finding.turns):
        if place == 0:
            lines.append(f"release: {name} {turn.last} leaves {what} as they were, {turn.next} does not")
        else:
            lines.append(f"  and again: {name} {turn.next} has others than {turn.last}")
    if not finding.turns:
        lines.append(f"release: with {name} alone, and what it needs, {what} change nowhere that was tried")
    if finding.untried:
        lines.append(f"  could not be tried: {', '.join(finding.untried)}")
    if finding.everywhere:
        lines.append(f"  every release was asked, {finding.row[0]} to {finding.row[-1]}: {len(finding.row)}")
    elif len(finding.row) > 2:
        lines.append(
            f"  by halving {len(finding.row)} releases: a change that is undone before the next one tried is not seen;"
        )
        lines.append("  --all tries every release")
    return lines

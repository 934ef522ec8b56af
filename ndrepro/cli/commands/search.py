"""``ndrepro study search``: hyper-parameters for the grid of a study that asks for them, found on validation images."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ndrepro.cli import completion
from ndrepro.cli.display import data_paths, options, output, terminal, words
from ndrepro.cli.display.lines import LineDisplay
from ndrepro.execution.containers.engines import expect_trusted
from ndrepro.execution.runs.run import RunOptions
from ndrepro.execution.studies.hyperparameter_search import SearchObserver, Trial, search_study, targets_of
from ndrepro.execution.studies.search_results import found_file
from ndrepro.execution.studies.study_file import find_study, load_study
from ndrepro.protocol.errors import NdreproError, UsageError
from ndrepro.protocol.image_reference import PinnedImage, is_image
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.study.search_space import Search, SearchOutcome, Target
from ndrepro.text.plurals import plural
from provenance.attestation.key_home import default_home

Name = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        show_default=False,
        autocompletion=completion.studies,
        help="A study with a [search]: its name, or a TOML file.",
    ),
]
Networks = Annotated[
    list[str] | None, typer.Option("--network", metavar="ARCH", help="Only this network; may be given many times.")
]
Datasets = Annotated[
    list[str] | None, typer.Option("--dataset", metavar="D", help="Only this data set; may be given many times.")
]


def search(
    study: Name,
    networks: Networks = None,
    datasets: Datasets = None,
    data: options.StudyData = None,
    trust_code: options.TrustImage = False,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Search hyper-parameters for every network and data set of a study's grid; started again, it resumes.

    Trials are signed runs, scored on validation images: no test image is used. Results are written beside the
    study's file, where the grid reads it. Several of these commands may run at once, on different networks.

    Example: ndrepro study search seeds
    """
    file = find_study(study)
    found_study = load_study(file)
    chosen = _chosen(found_study.name, tuple(targets_of(found_study)), networks or [], datasets or [])
    asked = found_study.search
    assert asked is not None
    for environment in {targets_of(found_study)[target].environment for target in chosen}:
        if is_image(environment):
            expect_trusted(PinnedImage.from_text(environment), own=trust_code)
    paths = data_paths.by_dataset(data_paths.parse(data or []), {target[2] for target in chosen}, found_study.name)
    lines = _Lines(asked, error=as_json)
    how = RunOptions(runs=RunsFolder(runs), home=default_home())
    lines.say(f"{found_study.name}, grid {asked.grid}: {_plan(asked, len(chosen))}")
    rows = search_study(found_study, file, chosen, how, lines, paths)
    if as_json:
        output.print_json(
            {
                "study": found_study.name,
                "grid": asked.grid,
                "file": str(found_file(file)),
                "search": asked.to_document(),
                "found": [row.to_json() for row in rows],
            }
        )
        return output.DONE
    _print_table(asked, rows)
    terminal.write_text(f"\nwritten    {terminal.here(found_file(file))}")
    terminal.write_line(f"next       {terminal.program()} study run {study} --grid {asked.grid}")
    return output.DONE


class _Lines(LineDisplay, SearchObserver):
    """One line as a trial comes to a rung; the training of a piece shows nothing."""

    def __init__(self, search: Search, error: bool) -> None:
        super().__init__(terminal.console(error))
        self._search = search

    def begins(self, target: Target, spent: int, budget: int) -> None:
        recorded = f", {spent} of them recorded already" if spent else ""
        self.say(f"{_name(target)}: up to {budget} epochs{recorded}")

    def reached(self, target: Target, trial: Trial, epochs: int, goes_on: bool, recorded: bool) -> None:
        whole = epochs == self._search.rungs[-1]
        fate = "continues" if goes_on else "whole" if whole else "stopped"
        values = ", ".join(f"{key} {value:g}" for key, value in trial.values.items())
        error = f"validation error {words.percent(trial.error)}"
        known = " (recorded)" if recorded else ""
        self.say(f"  trial {trial.number}, {plural(epochs, 'epoch')}: {error}, {fate}{known}; {values}")

    def failed(self, target: Target, trial: Trial, error: NdreproError) -> None:
        self.say(f"  trial {trial.number} broke: {' '.join(error.message.split())}")

    def found(self, found: SearchOutcome) -> None:
        counts = ", ".join(
            f"{count} with {epochs} epochs" for count, epochs in zip(found.reached, self._search.rungs, strict=True)
        )
        self.say(f"{_name(found.target)}: {found.spent_epochs} epochs, trials: {counts}; the best is {found.trial}")


def _plan(search: Search, count: int) -> str:
    what = "a network on a data set" if count == 1 else f"{count} times a network on a data set"
    rungs = ", ".join(str(rung) for rung in search.rungs)
    kept = f"one trial in {search.reduction} continues"
    return f"{what}, {search.budget_epochs} epochs each; judged after {rungs} epochs, {kept}"


def _chosen(study: str, targets: tuple[Target, ...], networks: list[str], datasets: list[str]) -> tuple[Target, ...]:
    """The targets that were asked for. Raises UsageError for a network or data set that the grid does not have."""
    for option, names, place in (("--network", networks, 0), ("--dataset", datasets, 2)):
        known = tuple(dict.fromkeys(target[place] for target in targets))
        for name in names:
            if name not in known:
                raise UsageError(f"{option} {name}: {study} does not search for it", f"it has {', '.join(known)}")
    chosen = tuple(
        target
        for target in targets
        if (not networks or target[0] in networks) and (not datasets or target[2] in datasets)
    )
    if not chosen:
        asked = f"--network {' '.join(networks)} --dataset {' '.join(datasets)}"
        pairs = ", ".join(dict.fromkeys(f"{network} on {dataset}" for network, _, dataset in targets))
        raise UsageError(f"{asked}: {study} has no such pair", f"it searches for {pairs}")
    return chosen


def _print_table(search: Search, rows: tuple[SearchOutcome, ...]) -> None:
    from rich.text import Text

    keys = tuple(search.space)
    heading = ["network", "data set", "error", "epochs", "trials", *keys]
    lines = [
        [f"{row.arch} {row.method}", row.dataset, words.percent(row.validation_error), *_counts(row, keys)]
        for row in rows
    ]
    widths = [max(len(line[place]) for line in [heading, *lines]) for place in range(len(heading))]
    for number, line in enumerate([heading, *lines]):
        text = "  ".join(
            f"{cell:<{width}}" if place < 2 else f"{cell:>{width}}"
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        terminal.console().print(Text(text, style="" if number else "dim"), soft_wrap=True)


def _counts(row: SearchOutcome, keys: tuple[str, ...]) -> list[Any]:
    return [str(row.epochs), str(row.reached[0]), *(f"{row.values[key]:g}" for key in keys)]


def _name(target: Target) -> str:
    arch, method, dataset = target
    return f"{arch} {method} on {dataset}"

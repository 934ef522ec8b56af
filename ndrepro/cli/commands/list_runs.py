"""``ndrepro list``: the runs that were started, whatever their outcome; or the names that experiments are made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from ndrepro.cli import completion
from ndrepro.cli.display import options, output, terminal, words
from ndrepro.cli.views.run_filter import RunFilter
from ndrepro.execution.own_sources import offered
from ndrepro.execution.runs import run_lookup
from ndrepro.execution.runs.run_lookup import RunSummary
from ndrepro.protocol.experiment.catalogue import ARCHITECTURES, DATASETS, METHODS
from ndrepro.protocol.experiment.settings import FROM_FILES, SOURCE, shown_value
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.run_kind import TRAINING
from ndrepro.text.plurals import plural

if TYPE_CHECKING:
    from rich.text import Text


_STYLES = {"completed": "", "running": "cyan", "interrupted": "yellow"}


def list_runs(
    experiment: Annotated[
        str | None, typer.Option("--experiment", metavar="NAME", help="Only runs of it; * and ? match any letters.")
    ] = None,
    outcome: Annotated[
        str | None,
        typer.Option(
            "--outcome",
            metavar="WORD",
            autocompletion=completion.outcomes,
            help="Only these: completed, failed, running, ...",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="WHEN", help="Only runs started since a date, or 90m, 12h, 3d, 2w ago."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="KEY=VALUE",
            autocompletion=completion.settings,
            help="Only runs with this setting; may be given many times.",
        ),
    ] = None,
    names: Annotated[bool, typer.Option("--names", help="List architectures, methods and data sets instead.")] = False,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """List the runs, latest last. "signed" is a manifest's claim, which `ndrepro verify` checks.

    Example: ndrepro list --experiment 'lenet_*' --where learning_rate=0.05 --since 3d
    """
    if names:
        return _names(as_json)
    wanted = RunFilter.from_options(experiment, outcome, since, where or [], datetime.now(UTC))
    every = run_lookup.summaries(RunsFolder(runs))
    found = wanted.select(every)
    if as_json:
        output.print_json({"runs": found})
    elif found:
        _print(found)
    elif every:
        terminal.write_line(
            f"none of {plural(len(every), 'run')} in {terminal.here(runs)} is selected by these options"
        )
    else:
        terminal.write_line(f"no runs in {terminal.here(runs)}; `{terminal.program()} run` makes one")
    return output.DONE


def _names(as_json: bool) -> int:
    offers = {"networks": offered.networks(), "datasets": offered.datasets()}
    if as_json:
        titles = {name: facts.title for name, facts in DATASETS.items()}
        output.print_json({"architectures": ARCHITECTURES, "methods": METHODS, "datasets": titles, "offered": offers})
        return output.DONE
    from rich.text import Text

    console = terminal.console()
    console.print("An experiment is ARCH_METHOD_EPOCHS[_DATASET], e.g. vgg16_nd_100 or resnet18_bn_20_cifar100.\n")
    console.print("ARCH")
    console.print(Text("  " + ", ".join(ARCHITECTURES)))
    for heading, rows in (
        ("METHOD", METHODS.items()),
        ("DATASET (cifar10 where left out)", ((name, facts.title) for name, facts in DATASETS.items())),
    ):
        console.print(f"\n{heading}")
        for name, text in rows:
            console.print(f"  {name:<15} {text}", soft_wrap=True)
    for kind, found in offers.items():
        if found:
            console.print(f"\n{kind} of installed packages")
            for each in found:
                console.print(Text(f"  {each}"), soft_wrap=True)
    return output.DONE


def _print(found: list[RunSummary]) -> None:
    """Runs under their experiments; the experiment with the latest run comes last, so that it stands at the prompt."""
    from rich.text import Text

    console = terminal.console()
    groups: dict[str, list[RunSummary]] = {}
    for summary in reversed(found):
        groups.setdefault(summary.experiment, []).insert(0, summary)
    heading = f"{'run':<24} {'outcome':<11} {'seed':>4} {'epochs':>7} {'train %':>7} {'test %':>7} {'time':>7} signed"
    console.print(Text(heading, style="dim"), soft_wrap=True)
    for experiment, members in reversed(groups.items()):
        console.print(Text(terminal.single_line(experiment), style="bold"), soft_wrap=True)
        # of runs of one source, or of none, it is left out
        several = len({summary.settings.get(SOURCE) for summary in members}) > 1
        hidden = set(FROM_FILES) - ({SOURCE} if several else set())
        for summary in members:
            console.print(_line(summary), soft_wrap=True)
            changed = ", ".join(
                f"{key}={words.setting(shown_value(key, summary.settings[key]))}"
                for key in summary.changed
                if key not in hidden
            )
            for remark in filter(None, (summary.repeats, changed, summary.problem)):
                console.print(Text(f"    {terminal.hanging(remark, 4)}", style="dim"), soft_wrap=True)


def _line(summary: RunSummary) -> Text:
    from rich.text import Text

    epochs = f"{summary.epochs}/{'?' if summary.total_epochs is None else summary.total_epochs}"
    if summary.build != TRAINING:  # it has no epochs that are known here
        epochs = terminal.single_line(summary.build)
    line = Text(f" {terminal.single_line(summary.run):<23} ")
    line.append(f"{terminal.single_line(summary.outcome):<11}", style=_STYLES.get(summary.outcome, "red"))
    line.append(f" {terminal.single_line(summary.seed or '-'):>4} {epochs:>7}")
    line.append(f" {_percent(summary.train_accuracy):>7} {_percent(summary.test_accuracy):>7}")
    line.append(f" {words.clock(summary.duration_seconds):>7} {'yes' if summary.signers else 'no'}")
    return line


def _percent(fraction: float | None) -> str:
    return words.percent(fraction).removesuffix(" %")

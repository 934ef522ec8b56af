"""``ndrepro show``: one run on one screen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ndrepro import __version__
from ndrepro.analysis.run_curves import run_curves
from ndrepro.cli.display import facts, options, output, terminal, words
from ndrepro.cli.display.facts import ALARMS, Row
from ndrepro.cli.display.run_facts import rows_of
from ndrepro.cli.views.plot import lines
from ndrepro.execution.runs.run_lookup import Recorded, RunSummary, read_recorded, read_results, summary
from ndrepro.protocol import extras
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, Scores, read_json
from ndrepro.protocol.run_kind import TRAINING
from ndrepro.protocol.training_record import TrainingRecord

_EPOCHS_SHOWN = 5
_LABEL_WIDTH = 12


def show(
    run: options.Run = options.LATEST_RUN,
    plot: Annotated[bool, typer.Option("--plot", help="Draw its curves in the terminal as well.")] = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write the run as one HTML page, which opens from disk."),
    ] = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Show a run, the latest where none is named, on one screen. Nothing is verified: use `ndrepro verify`.

    Example: ndrepro show latest --plot
    """
    folder = options.run_folder(runs, run)
    short = summary(folder)
    recorded = read_recorded(folder) if folder.manifest.exists() else None
    scores = read_results(folder) if short.build == TRAINING else ()
    if as_json:
        predicate = recorded.manifest.to_predicate() if recorded else None
        output.print_json({**short.to_json(), "scores": scores, "manifest": predicate})
        return output.DONE
    _print_row("run", ", ".join(filter(None, (f"{short.experiment} {short.run}", short.repeats))))
    _print_row("outcome", _outcome(short, recorded))
    if short.build == TRAINING:
        _print_scores(scores)
    for row in _rows(short, recorded, runs):
        _print_row(*row)
    # in one piece, to be copied
    terminal.write_line(f"{'folder':<{_LABEL_WIDTH}} {terminal.here(short.folder)}")
    if plot:
        _plot(folder)
    if html is not None:
        _write_page(html, folder, short, recorded, runs)
    return output.DONE


def _write_page(path: Path, folder: RunFolder, short: RunSummary, recorded: Recorded | None, runs: Path) -> None:
    for module in ("matplotlib", "jinja2"):
        extras.require(module)
    from ndrepro.report.page.run_page import write_run_page

    title = f"{short.experiment} {short.run}"
    lead = f"Outcome: {'; '.join(filter(None, (_outcome(short, recorded), short.repeats)))}."
    write_run_page(path, title, lead, _rows(short, recorded, runs), run_curves(folder), __version__)
    terminal.write_line(f"{'page':<{_LABEL_WIDTH}} {terminal.here(path)}")


def _plot(folder: RunFolder) -> None:
    """The curves, as wide as the terminal."""
    console = terminal.console()
    panels = run_curves(folder)
    if not panels:
        _print_row("curves", "none: nothing was logged")
    for panel in panels:
        console.print()
        for line in lines(panel, min(console.width, 100), braille=terminal.shows("\u28ff\u2524")):
            console.print(line, soft_wrap=True)


def _outcome(short: RunSummary, recorded: Recorded | None) -> str:
    text = short.outcome + (f": {short.problem}" if short.problem else "")
    if recorded and len(recorded.manifest.attempts) > 1:
        attempts = ", ".join(attempt.outcome for attempt in recorded.manifest.attempts)
        text += f" ({len(recorded.manifest.attempts)} attempts: {attempts})"
    error = TrainingRecord.of(recorded.manifest).error if recorded else ""
    return "; ".join(filter(None, (text, error)))


def _rows(short: RunSummary, recorded: Recorded | None, runs: Path) -> list[Row]:
    """Everything but the outcome and the scores, by the kind of run."""
    if recorded is None:
        rows = _asked(short) if short.build == TRAINING else []
        return [*rows, ("signed by", "nobody: there is no manifest")]
    check = f"{terminal.program()} verify {terminal.run_word(short.folder, runs, options.DEFAULT_RUNS)}"
    signed = f"{', '.join(recorded.signers)}, as the manifest claims; to check: {check}"
    return [*rows_of(recorded.manifest, short.folder), ("signed by", signed)]


def _asked(short: RunSummary) -> list[Row]:
    """What a training run without a manifest was asked for."""
    return facts.experiment_rows(Request.from_json(read_json(RunFolder(short.folder).request)).experiment)


def _print_scores(scores: tuple[Scores, ...]) -> None:
    """Train beside test, an epoch a line; of many the last."""
    if not scores:
        _print_row("accuracy", "no epoch was finished")
        return
    best = max(scores, key=lambda row: row.test_accuracy)
    _print_row(
        "accuracy", f"{words.accuracies(scores[-1])}; best test {words.percent(best.test_accuracy)}, epoch {best.epoch}"
    )
    if scores[-1].test_top5_accuracy is not None:
        last = scores[-1]
        train, test = words.percent(last.train_top5_accuracy), words.percent(last.test_top5_accuracy)
        _print_row("top 5", f"train {train}, test {test}")
    console = terminal.console()
    heading = f"{'':<{_LABEL_WIDTH}} epoch      train       test   train loss    test loss"
    console.print(heading, style="dim", soft_wrap=True)
    for row in scores[-_EPOCHS_SHOWN:]:
        accuracies = f"{words.percent(row.train_accuracy):>10} {words.percent(row.test_accuracy):>10}"
        losses = f"{words.loss(row.train_loss):>12} {words.loss(row.test_loss):>12}"
        console.print(f"{'':<{_LABEL_WIDTH}} {row.epoch:>5} {accuracies} {losses}", soft_wrap=True)
    if len(scores) > _EPOCHS_SHOWN:
        console.print(f"{'':<{_LABEL_WIDTH}} the last {_EPOCHS_SHOWN} of {len(scores)}", style="dim", soft_wrap=True)


def _print_row(label: str, text: str) -> None:
    terminal.write_row(label, text, _LABEL_WIDTH, alarms=ALARMS)

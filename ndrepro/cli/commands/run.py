"""``ndrepro run``: train, record, sign; or resume an interrupted run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from ndrepro.cli import completion
from ndrepro.cli.display import live, options, output, terminal, words
from ndrepro.cli.views.tensorboard import watched_in_tensorboard
from ndrepro.execution.environments.matrix import cell
from ndrepro.execution.own_sources.offered import with_offers
from ndrepro.execution.runs import run as execution
from ndrepro.execution.runs.run import Finished
from ndrepro.protocol.errors import TrainingFailed, UsageError
from ndrepro.protocol.experiment.experiment import DEFAULT_EXPERIMENT, Experiment
from ndrepro.protocol.layout import RunsFolder
from ndrepro.text.plurals import plural
from provenance.attestation.key_home import default_home


def run(
    experiment: Annotated[
        str | None,
        typer.Argument(
            metavar="EXP",
            show_default=False,
            autocompletion=completion.experiments,
            help="ARCH_METHOD_EPOCHS[_DATASET], e.g. vgg16_nd_100; by default a small one on digits. A network of "
            "your own: MODULE:CALLABLE for ARCH; images of your own: own for DATASET. Installed packages may offer "
            "more names: `ndrepro list --names`.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            autocompletion=completion.settings,
            help="A setting; may be given many times. `ndrepro settings` explains them.",
        ),
    ] = None,
    seed: Annotated[str | None, typer.Option("--seed", metavar="N", help="The seed of every random stream.")] = None,
    determinism: Annotated[
        str | None,
        typer.Option("--determinism", metavar="LEVEL", help="free, seeded, deterministic (default) or canonical."),
    ] = None,
    threads: Annotated[
        str | None, typer.Option("--threads", metavar="N", help="CPU threads; another number gives other bits.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", metavar="D", help="auto (default), cpu or cuda.")] = None,
    processes: Annotated[
        str | None,
        typer.Option("--processes", metavar="N", help="Share every batch out to N processes here, one a GPU."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", metavar="PATH", help="Path of the data set: its archive's folder, or train/CLASS/*, test/CLASS/*."
        ),
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option(
            "--env",
            metavar="CELL",
            autocompletion=completion.cells,
            help="Train in a cell of environments/, e.g. torch-1.13.1.",
        ),
    ] = None,
    engine: options.Engine = None,
    image: options.Image = None,
    resume: Annotated[
        str | None,
        typer.Option(
            "--resume", metavar="RUN", autocompletion=completion.runs, help="Resume this run from its last checkpoint."
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option("--tensorboard", metavar="DIR", help="Write TensorBoard event files too, while it runs."),
    ] = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print the run folder and nothing else.")] = False,
) -> int:
    """Train, record and sign. Ctrl-C stops cleanly; --resume continues to the same bits.

    Example: ndrepro run resnet18_nd_20 --seed 3 --set learning_rate=0.05
    """
    folder = RunsFolder(runs)
    chosen = chosen_settings(
        settings or [], seed=seed, determinism=determinism, threads=threads, device=device, processes=processes
    )
    container = options.container(engine, image)
    how = execution.RunOptions(folder, default_home(), data=data, environment=environment, container=container)
    if environment is not None:
        cell(environment)  # a wrong name is wrong usage, not a run that failed
    if resume is not None and (experiment is not None or chosen):
        raise UsageError(f"--resume {resume}: a resumed run keeps its own settings", "leave out EXP and every setting")
    if resume is not None and container is not None:
        raise UsageError("--resume with --in: a run is resumed where it began", "leave out --in and --image")
    with live.watching(quiet=quiet, error=as_json) as shown, watched_in_tensorboard(shown, tensorboard) as observer:
        if resume is not None:
            interrupted = options.run_folder(runs, resume, completed=False, trained=True)
            finished = execution.resume(interrupted, how, observer)
        else:
            name, place = with_offers(experiment or DEFAULT_EXPERIMENT, data)
            finished = execution.run(Experiment.from_name(name, chosen), replace(how, data=place), observer)
    word = terminal.run_word(finished.folder.root, runs, options.DEFAULT_RUNS)
    error = None if finished.outcome == "completed" else _error(finished, word)
    if as_json:
        output.print_json(_document(finished, error))
    elif quiet:
        terminal.write_line(terminal.here(finished.folder.root))
    else:
        _print_end(finished, word)
    if error is None:
        return output.DONE
    output.print_error(error)
    return output.COULD_NOT


def chosen_settings(pairs: list[str], **named: str | None) -> dict[str, str]:
    """``--set`` and the named options as one mapping; a setting given twice is refused, not guessed."""
    chosen: dict[str, str] = {}
    given = [("--set", pair.partition("=")) for pair in pairs]
    given += [(f"--{key}", (key, "=", value)) for key, value in named.items() if value is not None]
    for option, (key, equals, value) in given:
        if not equals or not key:
            raise UsageError(f"{option} {key!r}: expected KEY=VALUE", "e.g. --set learning_rate=0.05")
        if key in chosen:
            raise UsageError(f"{option}: '{key}' is given twice", "give it once")
        chosen[key] = value
    return chosen


def _error(finished: Finished, word: str) -> dict[str, Any]:
    """Why a run is not complete, and how to continue; ``word`` is what to type for it."""
    error = finished.error or TrainingFailed(f"{finished.outcome} before the run was complete")
    cure = error.cure or f"resume it with `{terminal.program()} run --resume {word}`"
    return {**output.record_of(type(error)(error.message, cure)), "exit_code": output.COULD_NOT}


def _document(finished: Finished, error: dict[str, Any] | None) -> dict[str, Any]:
    """The JSON of a run: its outcome, and where it is."""
    document: dict[str, Any] = {
        "experiment": finished.folder.root.parent.name,
        "run": finished.folder.root.name,
        "folder": finished.folder.root.absolute(),
        "outcome": finished.outcome,
        "scores": finished.scores,
        "signer": finished.signer,
        "manifest": finished.manifest and finished.manifest.absolute(),
    }
    return {**document, "error": error} if error else document


def _print_end(finished: Finished, word: str) -> None:
    rows = [("outcome", finished.outcome)]
    if finished.scores:
        accuracies = words.accuracies(finished.scores)
        rows.append(("accuracy", f"{accuracies} after {plural(finished.scores.epoch, 'epoch')}"))
    rows.append(("run", terminal.here(finished.folder.root)))
    rows.append(("signed by", finished.signer if finished.manifest else "nobody: there is no manifest"))
    nexts = ["verify", "show"] if finished.outcome == "completed" else ["run --resume", "show"]
    for command in nexts:
        rows.append(("" if rows[-1][0] == "next" else "next", f"{terminal.program()} {command} {word}"))
    terminal.write_line("")
    for name, text in rows:
        terminal.write_line(f"{name:<10} {text}")

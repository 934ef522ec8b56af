"""``ndrepro reproduce``: run it again from its manifest, judge, and sign the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from ndrepro import api
from ndrepro.api import Reproduction
from ndrepro.cli.display import execution, live, options, output, terminal, words
from ndrepro.execution.reproduce.reexecute import Original, ReexecutionPlan
from ndrepro.protocol.verdicts import ClaimCheck
from ndrepro.text.plurals import first_of, plural

_SHOWN = 8


def reproduce(
    run: options.Run,
    spot: Annotated[
        int | None, typer.Option("--spot", metavar="N", help="Train only N epochs again, drawn at random.")
    ] = None,
    challenge: Annotated[
        str | None, typer.Option("--challenge", metavar="WORD", help="A word of your own, which draws them instead.")
    ] = None,
    beacon: Annotated[
        str | None, typer.Option("--beacon", metavar="VALUE", help="A public random value that draws them, too.")
    ] = None,
    data: options.DataHere = None,
    environment: Annotated[
        str | None, typer.Option("--env", metavar="CELL", help="Run in this environment, not in the recorded one.")
    ] = None,
    engine: options.Engine = None,
    image: options.Image = None,
    repository: Annotated[
        Path | None,
        typer.Option("--repository", metavar="DIR", help="Of a program: a git repository that has its commit."),
    ] = None,
    rebuild_env: Annotated[
        bool, typer.Option("--rebuild-env", help="Of a program: install the recorded distributions, with uv.")
    ] = False,
    sandbox: options.Sandbox = "auto",
    trust_code: options.TrustCode = False,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Verify a run, run it again, judge: identical, close, consistent, inconsistent. Exit 0 if the run stands.

    A recorded program or script is executed again.

    Example: ndrepro reproduce RUN --rebuild-env
    """
    folder = options.run_folder(runs, run).root
    try:
        found = api.reproduce(
            folder,
            spot=spot,
            challenge=challenge,
            beacon=beacon,
            data=data,
            environment=environment,
            engine=engine,
            image=image,
            repository=repository,
            rebuild_env=rebuild_env,
            runs=runs,
            sandbox=sandbox,
            trust_code=trust_code,
            consent=None if as_json else execution.consent,
            on_plan=(lambda original, plan: None) if as_json else _print_plan,
            watching=live.watching(quiet=as_json, error=as_json),
            show_output=not as_json,
        )
    except api.NotReproduced as error:
        record = {**output.record_of(error), "exit_code": output.NO}
        if as_json:
            output.print_json({"error": record})
        output.print_error(record)
        return output.NO
    if as_json:
        output.print_json(found.to_json())
    else:
        _print_verdict(found)
    return output.DONE if found.passes else output.NO


def _write(text: str) -> None:
    """One line, whatever an author wrote into it."""
    terminal.write_line(terminal.single_line(text))


def _write_some(lines: Sequence[str], rest: str) -> None:
    terminal.write_some([terminal.single_line(line) for line in lines], _SHOWN, rest)


def _print_plan(original: Original, chosen: ReexecutionPlan) -> None:
    _write(f"reproducing {terminal.here(original.place)}")
    if chosen.pieces is not None:
        total = original.request.experiment.epochs
        drawn = ", ".join(map(str, chosen.epochs))
        _write(f"epochs drawn: {drawn} of {total}; {plural(chosen.trained_epochs or 0, 'epoch')} to train")
    if chosen.challenge is not None:
        word = "drawn at random" if chosen.challenge.random else "yours"
        _write(f"challenge {chosen.challenge.word} ({word})")
    for line in execution.lines(chosen.execution):
        _write(line)
    _write_some(chosen.elsewhere, "data       and {} more")
    if not chosen.differences:
        _write("code, data and installed distributions are those recorded")
    _write_some([f"differs    {line}" for line in chosen.differences], "differs    and {} more (--json lists them)")
    _write("")


def _print_verdict(found: Reproduction) -> None:
    _write("")
    labels = [f"epoch {epoch}" for epoch in found.plan.epochs] or ["run"]
    for label, judgement in zip(labels, found.judgements, strict=True):
        _write(f"{label:<10} {judgement.verdict}: {judgement.because}")
        if judgement.divergence is not None:
            tensors = first_of(judgement.divergence.tensors, 2) or "the loss alone"
            _write(f"{'':<10} bits differ from step {judgement.divergence.step}: {tensors}")
        if judgement.accuracies is not None:
            then, now = (words.percent(value) for value in judgement.accuracies)
            _write(f"{'':<10} test accuracy {then} then, {now} now")
        _print_claims(judgement.claims)
    _print_claims(found.claims)
    _write("")
    _write(f"verdict    {found.verdict}")
    _write(execution.sandbox_line(found.plan.execution))
    _write(f"signed     {terminal.here(found.attestation)}")


def _print_claims(claims: tuple[ClaimCheck, ...]) -> None:
    for item in claims:
        _write(f"{'':<10} {item.status:<11} {item.name}: {item.evidence}")

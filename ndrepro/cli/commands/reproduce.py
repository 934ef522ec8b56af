"""``ndrepro reproduce``: run it again from its manifest, judge, and sign the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ndrepro.cli.display import live, options, output, terminal, words
from ndrepro.protocol.errors import NdreproError, TrainingFailed, UsageError
from ndrepro.text.plurals import plural

if TYPE_CHECKING:
    from ndrepro.analysis.results.reproduction_verdict import Judgement
    from ndrepro.execution.reproduce.reexecute import Original, ReexecutionPlan
    from ndrepro.execution.runs.run import Finished, RunOptions

_SHOWN = 8


def reproduce(
    run: options.Run,
    spot: Annotated[
        int | None, typer.Option("--spot", metavar="N", help="Train only N epochs again, drawn by the challenge.")
    ] = None,
    challenge: Annotated[
        str | None, typer.Option("--challenge", metavar="WORD", help="Your own word; it draws the epochs of --spot.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", metavar="PATH", help="Where the data set lies here.")] = None,
    environment: Annotated[
        str | None, typer.Option("--env", metavar="CELL", help="Run in this environment, not in the recorded one.")
    ] = None,
    engine: options.Engine = None,
    image: options.Image = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Verify a run, train it again, judge: identical, close, consistent, inconsistent. Exit 0 if the run stands."""
    from ndrepro.execution.reproduce import reexecute
    from ndrepro.execution.runs.run import RunOptions
    from ndrepro.protocol.layout import RunsFolder
    from provenance.attestation.dsse import default_home

    if (spot is None) != (challenge is None):
        raise UsageError("--spot and --challenge belong together", "e.g. --spot 3 --challenge walnut")
    folder = RunsFolder(runs)
    container = options.container(engine, image)
    how = RunOptions(folder, default_home(), data=data, environment=environment, container=container)
    original = _verified(options.run_folder(runs, run).root, how)
    if isinstance(original, NotReproduced):
        record = {**output.record_of(original), "exit_code": output.NO}
        if as_json:
            output.print_json({"error": record})
        output.print_error(record)
        return output.NO
    chosen = reexecute.plan(original, how, spot, challenge or "")
    if not as_json:
        _print_plan(original, chosen)
    with live.watching(quiet=as_json, error=as_json) as observer:
        finished = reexecute.execute(original, chosen, how, observer)
    for piece in finished:
        if piece.outcome != "completed":
            raise piece.error or TrainingFailed(f"{piece.folder.root}: {piece.outcome} before it was complete")
    return _judge(original, chosen, finished, how, challenge, as_json)


class NotReproduced(NdreproError):
    """The run does not verify, so there is nothing to reproduce."""


def _verified(root: Path, how: RunOptions) -> Original | NotReproduced:
    """The run, if every check of its signature, files and story holds; else the first that does not."""
    from ndrepro.execution.reproduce.reexecute import Original
    from ndrepro.execution.runs.run_checks import CHECKS
    from ndrepro.protocol.layout import RunFolder
    from provenance.attestation.trust import TrustPolicy
    from provenance.attestation.verify import verify

    verdict = verify(root, trust=TrustPolicy.load(how.home), extra_checks=CHECKS)
    if verdict.ok and verdict.manifest is not None:
        return Original(RunFolder(root), verdict.manifest)
    where = terminal.here(root)
    first = next(f"{check.name}: {check.message}" for check in verdict.checks if check.status == "fail")
    return NotReproduced(
        f"{where}: it does not verify, so there is nothing to reproduce: {first}",
        f"see every check, and what to do, with `{terminal.program()} verify {where}`",
    )


def _judge(
    original: Original,
    chosen: ReexecutionPlan,
    finished: tuple[Finished, ...],
    how: RunOptions,
    challenge: str | None,
    as_json: bool,
) -> int:
    from ndrepro.analysis.results.replicates import replicates_of
    from ndrepro.analysis.results.reproduction_verdict import judge
    from ndrepro.execution.reproduce.verdict_attestation import attest
    from provenance.attestation.trust import TrustPolicy

    accuracies: tuple[float, ...] = ()
    if chosen.pieces is None:
        accuracies = replicates_of(original.manifest, how.runs, TrustPolicy.load(how.home)).accuracies
    judgements = [judge(original.folder, piece.folder, accuracies) for piece in finished]
    document: dict[str, Any] = {
        "run": original.manifest.invocation_id,
        "verdict": _overall(judgements),
        "challenge": challenge,
        "epochs": list(chosen.epochs),
        "differences": list(chosen.differences),
        "repeated": [
            {"run": piece.folder.root.name, **judgement.to_json()}
            for piece, judgement in zip(finished, judgements, strict=True)
        ],
    }
    path = attest(original.folder, [piece.folder for piece in finished], document, how.runs, how.home)
    if as_json:
        output.print_json({**document, "attestation": str(path)})
    else:
        _print_verdict(chosen, judgements, document["verdict"], path)
    return output.DONE if all(judgement.passes for judgement in judgements) else output.NO


def _overall(judgements: list[Judgement]) -> str:
    """The weakest of the verdicts."""
    from ndrepro.protocol.verdicts import VERDICTS

    return max((judgement.verdict for judgement in judgements), key=VERDICTS.index)


def _print_plan(original: Original, chosen: ReexecutionPlan) -> None:
    terminal.write_line(f"reproducing {terminal.here(original.folder.root)}")
    if chosen.pieces is not None:
        total = original.request.experiment.epochs
        drawn = ", ".join(map(str, chosen.epochs))
        terminal.write_line(f"epochs drawn: {drawn} of {total}; {plural(chosen.trained_epochs or 0, 'epoch')} to train")
    if not chosen.differences:
        terminal.write_line("code and environment are those recorded")
    for line in chosen.differences[:_SHOWN]:
        terminal.write_line(f"differs  {line}")
    if len(chosen.differences) > _SHOWN:
        terminal.write_line(f"differs  and {len(chosen.differences) - _SHOWN} more (--json lists them)")
    terminal.write_line("")


def _print_verdict(chosen: ReexecutionPlan, judgements: list[Judgement], verdict: str, path: Path) -> None:
    terminal.write_line("")
    labels = [f"epoch {epoch}" for epoch in chosen.epochs] or ["run"]
    for label, judgement in zip(labels, judgements, strict=True):
        terminal.write_line(f"{label:<10} {judgement.verdict}: {judgement.because}")
        if judgement.divergence is not None:
            tensors = ", ".join(judgement.divergence.tensors[:2]) or "the loss alone"
            more = len(judgement.divergence.tensors) - 2
            rest = f" and {more} more" if more > 0 else ""
            terminal.write_line(f"{'':<10} bits part at step {judgement.divergence.step}: {tensors}{rest}")
        if judgement.accuracies is not None:
            then, now = (words.percent(value) for value in judgement.accuracies)
            terminal.write_line(f"{'':<10} test accuracy {then} then, {now} now")
    terminal.write_line("")
    terminal.write_line(f"verdict    {verdict}")
    terminal.write_line(f"signed     {terminal.here(path)}")

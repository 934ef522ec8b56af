"""How the commands of ``ndrepro study`` end: what they print, their exit code, and the command to type next."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.cli.display import options, output, study_words, terminal
from ndrepro.execution.studies.carry_out import Outcome
from ndrepro.execution.studies.plan import StudyPlan, only_started
from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.image_reference import PinnedImage


@dataclass(frozen=True)
class NextCommands:
    """The commands that resume a study: ``resume`` for the grids that were started, ``run`` for all of them.

    ``report`` is the one that reports it; "" for a study in an image, whose runs a report by its name does not count.
    """

    run: str
    resume: str
    report: str

    def command(self, plan: StudyPlan) -> str:
        """What to type to get the rest of a plan done."""

        return self.resume if only_started(plan).items == plan.items else self.run


def next_commands(
    study: str, grids: Sequence[str] | None, runs: Path, inside: PinnedImage | None, data: Sequence[str]
) -> NextCommands:
    """The commands for a study, with the options that it was given."""
    run, resume = (study_command(verb, study, grids, runs, inside, data) for verb in ("run", "resume"))
    folder = f" --runs {shlex.quote(os.fspath(runs))}" if runs != options.DEFAULT_RUNS else ""
    report = "" if inside else f"{terminal.program()} report {shlex.quote(study)}{folder}"
    return NextCommands(run, resume, report)


def conclude(outcome: Outcome, again: NextCommands, as_json: bool) -> int:
    """Print how a study ended, and what to type next. Returns the exit code."""
    error = _error(outcome, again)
    if as_json:
        document = study_words.outcome_document(outcome)
        output.print_json({**document, "error": error} if error else document)
    else:
        study_words.print_outcome(outcome)
        if not error and again.report:
            terminal.write_line(f"{'next':<{study_words.LABEL}} {again.report}")
    if error:
        output.print_error(error)
        return int(error["exit_code"])
    return output.DONE


def _error(outcome: Outcome, again: NextCommands) -> dict[str, Any] | None:
    """Why the study is not complete, and how to continue; None where it is."""
    name, total = outcome.plan.study.name, len(outcome.plan.items)
    command = again.command(outcome.plan)
    left = total - outcome.plan.states["done"]
    if outcome.trouble is not None:
        record = output.record_of(outcome.trouble)
        message = f"{name} stopped with {left} of {total} runs not done: {record['message']}"
        return {**record, "message": message, "exit_code": output.COULD_NOT}
    if outcome.interrupted and not outcome.complete:
        stopped = NdreproError(
            f"{name} was interrupted, {left} of {total} runs not done", f"resume it with `{command}`"
        )
        return {**output.record_of(stopped), "exit_code": output.COULD_NOT}
    if outcome.complete:
        return None
    states = ", ".join(f"{count} {state}" for state, count in outcome.plan.states.items() if state != "done")
    labels = ", ".join(failure.run.label for failure in outcome.failures[:3])
    more = ", …" if len(outcome.failures) > 3 else ""
    which = f" ({labels}{more})" if labels else ""
    cure = f"`{command}` tries again"
    if outcome.plan.states["waiting"] == left:
        cure = f"search their hyper-parameters first: `{terminal.program()} study search`"
    undone = NdreproError(f"{left} of {total} runs of {name} are not done: {states}{which}", cure)
    return {**output.record_of(undone), "exit_code": output.NO}


def study_command(
    verb: str,
    study: str,
    grids: Sequence[str] | None,
    runs: Path,
    image: PinnedImage | None = None,
    data: Sequence[str] = (),
) -> str:
    """What to type for another command on the same study."""
    parts = [terminal.program(), "study", verb, shlex.quote(study)]
    parts += [f"--grid {shlex.quote(grid)}" for grid in grids or []]
    parts += [f"--data {shlex.quote(path)}" for path in data]
    parts += map(shlex.quote, image_options(image))
    parts += [f"--runs {shlex.quote(os.fspath(runs))}"] if runs != options.DEFAULT_RUNS else []
    return " ".join(parts)


def image_options(image: PinnedImage | None) -> tuple[str, ...]:
    """The options that ask for it."""
    return () if image is None else ("--in", image.engine, "--image", image.reference)

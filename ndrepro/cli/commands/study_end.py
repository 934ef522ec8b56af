"""How the commands of ``ndrepro study`` end: what they print, their exit code, and the command to type next."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.cli.display import options, output, study_words, terminal
from ndrepro.execution.studies.carry_out import Outcome
from ndrepro.execution.studies.plan import StudyPlan, only_started
from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.image_reference import PinnedImage


@dataclass(frozen=True)
class TypedStudy:
    """A study as it was typed: the word for it, and the options that every further command on it repeats.

    ``image`` is the one that the whole study is run in.
    """

    study: str
    grids: tuple[str, ...] = ()
    runs: Path = options.DEFAULT_RUNS
    data: tuple[str, ...] = ()
    image: PinnedImage | None = None

    @property
    def image_options(self) -> tuple[str, ...]:
        """The options that ask for the image."""
        return () if self.image is None else ("--in", self.image.engine, "--image", self.image.reference)

    def command(self, verb: str) -> str:
        """What to type for another command on the same study, with the options that it takes."""
        grids = [word for grid in self.grids for word in ("--grid", grid)]
        data = [word for path in self.data for word in ("--data", path)] if verb in ("run", "resume") else []
        words = (self.study, *([] if verb == "cancel" else [*grids, *data, *self.image_options]), *self._folder)
        return " ".join([terminal.program(), "study", verb, *map(shlex.quote, words)])

    def rest(self, plan: StudyPlan) -> str:
        """What to type to get the rest of a plan done: to resume it where every run was started, else to run it."""
        return self.command("resume" if only_started(plan).items == plan.items else "run")

    @property
    def report(self) -> str:
        """The command that reports it; "" for a study in an image, whose runs a report by its name does not count."""
        words = " ".join(map(shlex.quote, (self.study, *self._folder)))
        return "" if self.image else f"{terminal.program()} report {words}"

    @property
    def _folder(self) -> tuple[str, ...]:
        return ("--runs", os.fspath(self.runs)) if self.runs != options.DEFAULT_RUNS else ()


def conclude(outcome: Outcome, typed: TypedStudy, as_json: bool) -> int:
    """Print how a study ended, and what to type next. Returns the exit code."""
    error = _error(outcome, typed)
    if as_json:
        document = study_words.outcome_document(outcome)
        output.print_json({**document, "error": error} if error else document)
    else:
        study_words.print_outcome(outcome)
        if not error and typed.report:
            terminal.write_line(f"{'next':<{study_words.LABEL}} {typed.report}")
    if error:
        output.print_error(error)
        return int(error["exit_code"])
    return output.DONE


def _error(outcome: Outcome, typed: TypedStudy) -> dict[str, Any] | None:
    """Why the study is not complete, and how to continue; None where it is."""
    name, total = outcome.plan.study.name, len(outcome.plan.items)
    command = typed.rest(outcome.plan)
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

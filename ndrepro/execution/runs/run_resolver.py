"""Which run a name on the command line means.

A path, an identifier, its beginning or its six last digits mean that one run, whatever it is. An experiment, the folder
of its runs, and the word "latest" mean the latest *completed original* run: not one that failed or is under way, no
repetition (``ndrepro reproduce``) and no segment (``--spot``, a search). Which later runs were passed over is reported,
so that nobody takes the result for that of another run. A program or script that was recorded under the name of an
experiment is none of its runs, and none that "latest" means where a training is to be resumed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ndrepro.execution.runs.run_lookup import ORIGINAL, RunSummary, latest_first
from ndrepro.protocol.errors import RunNotFound, UsageError, suggestion
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.experiment.names import folder_name
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.run_kind import TRAINING

LATEST = "latest"
_SHOWN = 3


@dataclass(frozen=True)
class ResolvedRun:
    """The run that a name means, and a line on what was passed over for it ("" where nothing was)."""

    folder: RunFolder
    note: str = ""


def resolve_run(runs: RunsFolder, text: str, *, completed: bool = True, trained: bool = False) -> ResolvedRun:
    """The run that ``text`` means; see the module.

    Args:
        runs: where runs are looked for, after paths.
        text: a run folder, a manifest file, an identifier, its beginning or last six digits, an experiment, "latest".
        completed: False to let an experiment mean its latest original run whatever its outcome.
        trained: True to let "latest" mean runs of ndrepro's trainer alone, which can be resumed.

    Raises RunNotFound with the nearest names, with the runs between which it cannot choose, or with those that an
    experiment has instead of a completed original one.
    """
    known = runs.runs()
    if text == LATEST and known:
        return _latest(text, known, runs.ledger, completed, trained)
    for path in dict.fromkeys((Path(text), runs.root / text, runs.root / folder_name(text))):
        if text and os.path.lexists(path):  # unlike Path.exists, it never raises for a name that is too long
            if path.is_file():
                return ResolvedRun(_of_manifest(path))
            folder = RunFolder(path)
            if folder.is_run:
                return ResolvedRun(folder)
            if inside := experiment_runs(path):
                return _latest(text, inside, RunsFolder(path.absolute().parent).ledger, completed, _is_experiment(text))
    return ResolvedRun(_by_identifier(runs, known, text))


def experiment_runs(path: Path) -> tuple[RunFolder, ...]:
    """The runs in the folder of an experiment; none where it is no such folder."""
    return tuple(RunFolder(run) for run in sorted(path.glob("*/")) if RunFolder(run).is_run)


def _latest(text: str, folders: Iterable[RunFolder], ledger: Path, completed: bool, trained: bool) -> ResolvedRun:
    passed_over: list[RunSummary] = []
    for summary in latest_first(folders, ledger):
        wanted = summary.kind == ORIGINAL and (not trained or summary.build == TRAINING)
        if wanted and (summary.outcome == "completed" or not completed):
            note = f"{text} is {summary.run}; passed over: {_listed(passed_over)}" if passed_over else ""
            return ResolvedRun(RunFolder(summary.folder), note)
        passed_over.append(summary)
    kind = f"{'completed ' if completed else ''}original {'training ' if trained and text == LATEST else ''}run"
    problem = f"no {kind} in {ledger.parent}" if text == LATEST else f"no {kind} of '{text}'"
    raise RunNotFound(problem, f"name one of its runs: {_listed(passed_over)}")


def _is_experiment(text: str) -> bool:
    """Whether a name is that of an experiment, which a program or script may be recorded under as well."""
    try:
        Experiment.from_name(os.path.basename(os.path.normpath(text)), {})
    except UsageError:
        return False
    return True


def _listed(passed_over: list[RunSummary]) -> str:
    """Runs with why each was passed over, the latest first."""
    shown = ", ".join(f"{each.run} ({_why(each)})" for each in passed_over[:_SHOWN])
    more = len(passed_over) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def _why(run: RunSummary) -> str:
    if run.repeats or run.outcome != "completed" or run.build == TRAINING:
        return run.repeats or run.outcome
    return f"a recorded {run.build}"


def _of_manifest(path: Path) -> RunFolder:
    folder = RunFolder(path.parent)
    if path.name != folder.manifest.name:
        raise RunNotFound(f"{path}: a file, and no {folder.manifest.name}", "name the run's folder")
    return folder


def _by_identifier(runs: RunsFolder, known: tuple[RunFolder, ...], text: str) -> RunFolder:
    matching = [run for run in known if run.root.name == text] or [
        run for run in known if text and (run.root.name.startswith(text) or run.root.name.endswith(f"-{text}"))
    ]
    if len(matching) > 1:
        names = ", ".join(run.root.name for run in matching[-_SHOWN:])
        raise RunNotFound(f"'{text}' is the beginning of {len(matching)} runs", f"type more of it: {names}")
    if not matching:
        raise _not_found(runs, known, text)
    return matching[0]


def _not_found(runs: RunsFolder, known: tuple[RunFolder, ...], text: str) -> RunNotFound:
    if text and os.path.isdir(text):
        # the request is a run's first file, and precedes its entry in the ledger
        cure = "name a run's folder; a run that was stopped before it had either was not started: remove its folder"
        return RunNotFound(f"{text}: a folder with neither request.json nor manifest.dsse.json", cure)
    if not known:
        cure = "`ndrepro run` makes one; --runs DIR names another folder"
        return RunNotFound(f"no run '{text}': {runs.root} has no runs", cure)
    names = dict.fromkeys(name for run in known for name in (run.root.name, run.root.parent.name))
    return RunNotFound(f"no run '{text}' in {runs.root}", suggestion(text, names, "`ndrepro list` has them all"))

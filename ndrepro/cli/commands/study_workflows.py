"""``ndrepro study export`` and ``study collect``: a study on other engines than Slurm, and its results back."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from ndrepro.cli.commands import study as study_commands
from ndrepro.cli.commands.study_end import TypedStudy
from ndrepro.cli.display import options, output, terminal
from ndrepro.execution.imports.countersigned_runs import countersign_runs
from ndrepro.execution.imports.run_import import Imported, expect_unchanged, import_runs
from ndrepro.execution.studies.plan import StudyPlan
from ndrepro.execution.studies.study_file import find_study
from ndrepro.execution.studies.workflow_export import FORMATS, Workflow, jobs_of
from ndrepro.protocol.errors import UsageError
from ndrepro.text.plurals import plural
from provenance.attestation.key_home import default_home
from provenance.attestation.trust import TrustPolicy
from provenance.formats.atomic_io import write_atomically

_SHOWN = 10


def export(
    study: study_commands.Name,
    form: Annotated[
        str, typer.Option("--format", metavar="F", help="joblines (default), snakemake, nextflow or kubernetes.")
    ] = "joblines",
    grids: options.Grids = None,
    data: options.StudyData = None,
    engine: options.Engine = None,
    image: options.Image = None,
    gpus: Annotated[int, typer.Option("--gpus", metavar="N", min=0, help="GPUs for each process of a run.")] = 0,
    apart: Annotated[
        bool, typer.Option("--apart", help="Each job has a folder of runs of its own: for nodes that share no files.")
    ] = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write to this file.")] = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Write what is to do as jobs for another engine.

    Each is an ordinary command, which may be started again at any time: `ndrepro study export first --format snakemake
    -o Snakefile`.

    Example: ndrepro study export smoke -o jobs
    """
    if form not in FORMATS:
        raise UsageError(f"--format {form}: not a format", f"it is one of {', '.join(FORMATS)}")
    plan = study_commands.planned(TypedStudy(study, tuple(grids or ()), runs), engine, image).plan
    file = find_study(study)
    words = [*_program(), "study", "run", str(file.absolute())]
    words += [word for each in data or [] for word in ("--data", _absolute(each))]
    words += [word for name, value in (("--in", engine), ("--image", image)) if value for word in (name, value)]
    workflow = Workflow(
        plan.study.name, tuple(words), str(runs.absolute()), jobs_of(plan, gpus), apart, image or "ndrepro:latest", file
    )
    if not workflow.jobs:
        raise UsageError(
            f"{plan.study.name}: nothing to do: every run is done or under way", "see `ndrepro study status`"
        )
    text = FORMATS[form](workflow)
    if out is not None:
        write_atomically(out, text.encode("utf-8"))
    jobs = [asdict(job) for job in workflow.jobs]
    lines = [f"written    {out}: {plural(len(jobs), 'job')}"] if out else text.splitlines()
    document = {"format": form, "file": str(out) if out else None, "jobs": jobs, "text": text}
    return output.answer(document, lines, as_json)


def collect(
    study: study_commands.Name,
    sources: Annotated[
        list[Path], typer.Argument(metavar="SOURCE...", help="Folders of runs, or archives of them, from the jobs.")
    ],
    into: Annotated[Path, typer.Option("--into", metavar="DIR", help="Folder of imported runs.")] = Path("imported"),
    keys: options.Keys = None,
    sign: Annotated[
        bool, typer.Option("--sign", help="Add your signature to every run that verifies, beside that of its node.")
    ] = False,
    as_json: options.Json = False,
) -> int:
    """Verify and import what jobs made elsewhere, and report what of the study is there. Exit 1 where a run is missing.

    `ndrepro study collect first results/*`

    Example: ndrepro study collect smoke jobs
    """
    trust, folder = TrustPolicy.from_files(keys or []), into / Path(study).stem
    names = [source.name for source in sources]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise UsageError(f"{twice}: two sources have this name, and one would be left out", "give one another name")
    imported: dict[Path, Imported] = {}
    for source in sources:
        if (folder / source.name).exists() and source.name not in ("", ".."):
            expect_unchanged(folder / source.name, trust)  # it was collected before
        else:
            imported[source] = import_runs(source, folder, source.name, trust)
    folders = [each for each in sorted(folder.iterdir()) if each.is_dir()]
    signed = [run for each in folders for run in countersign_runs(each, trust, default_home())] if sign else []
    plans = [study_commands.planned(TypedStudy(study, runs=each)).plan for each in folders or [folder]]
    done, missing = _union(plans)
    refused = [(source, run) for source, found in imported.items() for run in found.runs if not run.taken]
    if as_json:
        problems = [{"source": str(source), "run": run.path, "problem": run.problem} for source, run in refused]
        places = [str(run.absolute()) for run in signed]
        found = {"done": done, "missing": missing, "refused": problems, "signed": places}
        output.print_json({"folder": str(folder.absolute()), **found})
    else:
        for source, run in refused[:_SHOWN]:
            terminal.write_line(f"left out   {source}: {run.path}: {run.problem}")
        terminal.write_line(
            f"collected  {len(done)} of {plural(len(done) + len(missing), 'run')}: {terminal.here(folder)}"
        )
        if sign:
            terminal.write_line(f"signed     {plural(len(signed), 'run')}, beside the signatures that they had")
        lines = [f"missing    {label}" for label in missing]
        terminal.write_some(lines, _SHOWN, "           and {} more (--json has them)")
    return output.NO if missing or refused else output.DONE


def _union(plans: Sequence[StudyPlan]) -> tuple[list[str], list[str]]:
    """The labels of the study's runs that are done in any of these folders, and of those that are in none."""
    states: dict[str, bool] = {}
    for plan in plans:
        for item in plan.items:
            states[item.run.label] = states.get(item.run.label, False) or item.status.state == "done"
    return [label for label, is_done in states.items() if is_done], [
        each for each, is_done in states.items() if not is_done
    ]


def _program() -> list[str]:
    """This installation's command, from any folder."""
    command = Path(sys.executable).parent / "ndrepro"
    return [str(command)] if command.exists() else [sys.executable, "-P", "-m", "ndrepro"]


def _absolute(data: str) -> str:
    """PATH or DATASET=PATH with the path absolute."""
    name, equals, path = data.rpartition("=")
    return f"{name}{equals}{os.path.abspath(path)}"

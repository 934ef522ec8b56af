"""``ndrepro study``: list, plan, run, status, resume. A study is a TOML file; its runs are ordinary signed runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

from ndrepro.cli import completion
from ndrepro.cli.commands.study_end import TypedStudy, conclude
from ndrepro.cli.display import data_paths, options, output, study_live, study_slurm, study_words, terminal
from ndrepro.execution.containers import engines
from ndrepro.execution.runs.run import RunOptions
from ndrepro.execution.slurm.launcher import SlurmLauncher, Spelled, Submitted
from ndrepro.execution.slurm.profile import Profile
from ndrepro.execution.slurm.request import Cluster
from ndrepro.execution.slurm.submissions import cancel as cancel_arrays
from ndrepro.execution.studies.carry_out import StudyObserver, carry_out
from ndrepro.execution.studies.kept_images import keep_images
from ndrepro.execution.studies.launchers import LocalLauncher
from ndrepro.execution.studies.plan import (
    StudyPlan,
    data_of_started_runs,
    image_of_started_runs,
    make_plan,
    only_started,
    with_runs_at_a_time,
)
from ndrepro.execution.studies.run_status import DONE, FAILED, REFUSED
from ndrepro.execution.studies.study_file import find_study, load_study, study_files
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.study.study import inside
from ndrepro.text.plurals import plural
from provenance.attestation.key_home import default_home

Name = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        show_default=False,
        autocompletion=completion.studies,
        help="A study's name, or a TOML file; see `ndrepro study list`.",
    ),
]
Only = Annotated[
    str | None,
    typer.Option("--only", metavar="N", help="Only these runs of the study, counted from 1 in its order: 3, or 1,4-6."),
]
_MOST_NUMBERS = 1_000_000
Jobs = Annotated[int, typer.Option("--jobs", "-j", metavar="N", min=1, help="Runs at the same time on this machine.")]
JobsOrDefault = Annotated[
    int | None, typer.Option("--jobs", "-j", metavar="N", min=1, help="Runs at the same time (slurm: tasks).")
]


def list_studies(as_json: options.Json = False) -> int:
    """List the studies that are known by name.

    Example: ndrepro study list
    """
    found, wrong = [], []
    for path in study_files():
        try:
            found.append((path, load_study(path)))
        except UsageError as error:
            wrong.append(error)
    if as_json:
        output.print_json({"studies": [study_words.study_document(path, study) for path, study in found]})
    for _, study in [] if as_json else found:
        terminal.write_line(f"{study.name:<16} {study.title}")
        for grid in study.grids:
            count = plural(len(study.runs([grid.name])), "run")
            terminal.write_line(f"  {grid.name:<14} {count:>8}  {grid.title}")
    for problem in wrong:
        output.print_error(output.record_of(problem))
    return output.NO if wrong else output.DONE


def plan(
    study: Name,
    grids: options.Grids = None,
    engine: options.Engine = None,
    image: options.Image = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Show a study's size, its status, and the estimated cost of the rest.

    Example: ndrepro study plan smoke
    """
    found = planned(TypedStudy(study, tuple(grids or ()), runs), engine, image, where_begun=True, in_queue=True)
    if as_json:
        output.print_json(study_words.plan_document(found.plan))
        return output.DONE
    study_words.print_plan(found.plan)
    if found.plan.todo:
        terminal.write_line(f"{'next':<{study_words.LABEL}} {found.typed.command('run')}")
    return output.DONE


def status(
    study: Name,
    grids: options.Grids = None,
    engine: options.Engine = None,
    image: options.Image = None,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Show the status of every run. Exit 1 where one failed or does not count.

    Example: ndrepro study status smoke
    """
    found = planned(TypedStudy(study, tuple(grids or ()), runs), engine, image, where_begun=True, in_queue=True)
    plan, place = found.plan, found.how.runs
    wrong = plan.states[FAILED] + plan.states[REFUSED]
    if as_json:
        output.print_json({**study_words.plan_document(plan), "slurm": study_slurm.document(place, plan.study.name)})
    else:
        study_words.print_status(plan)
        done = {item.run.label for item in plan.items if item.status.state == DONE}
        study_slurm.print_tasks(place, plan.study.name, done)
    return output.NO if wrong else output.DONE


def cancel(study: Name, runs: options.Runs = options.DEFAULT_RUNS, as_json: options.Json = False) -> int:
    """Cancel a study's tasks in Slurm; runs under way end signed and can be resumed.

    Example: ndrepro study cancel table1
    """
    name = planned(TypedStudy(study, runs=runs)).plan.study.name
    cancelled = cancel_arrays(RunsFolder(runs), name)
    arrays = ", ".join(f"array {array}" for array in cancelled.arrays)
    lines = [f"cancelled  {arrays}" if arrays else f"nothing of {name} is in Slurm's queue"]
    if cancelled.forgotten:
        lines.append(f"note       Slurm no longer knows array {', '.join(cancelled.forgotten)}")
    document = {"cancelled": list(cancelled.arrays), "forgotten": list(cancelled.forgotten)}
    return output.answer(document, lines, as_json)


def run(
    study: Name,
    grids: options.Grids = None,
    only: Only = None,
    jobs: JobsOrDefault = None,
    data: options.StudyData = None,
    where: study_slurm.On = study_slurm.LOCAL,
    profile: study_slurm.ProfileName = None,
    engine: options.Engine = None,
    image: options.Image = None,
    archive_image: Annotated[
        bool, typer.Option("--archive-image", help="Keep the container image with the runs: RUNS/images.")
    ] = False,
    partition: study_slurm.Partition = None,
    account: study_slurm.Account = None,
    gpus: study_slurm.Gpus = None,
    pack: study_slurm.Pack = None,
    gpu_memory: study_slurm.GpuMemory = None,
    minutes: study_slurm.Minutes = None,
    memory: study_slurm.Memory = None,
    sbatch: study_slurm.Sbatch = None,
    follow: study_slurm.Follow = False,
    no_report: study_slurm.NoReport = False,
    trust_code: options.TrustImage = False,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Run what is not complete, resume what was interrupted, retry what failed. Ctrl-C stops cleanly.

    On a cluster: `ndrepro study run first --on slurm --profile mycluster`.

    Example: ndrepro study run smoke
    """
    if where not in (study_slurm.LOCAL, study_slurm.SLURM):
        raise UsageError(f"--on {where}: not a place to run", "it is local or slurm")
    if profile is not None and where == study_slurm.LOCAL:
        raise UsageError(f"--profile {profile}: not without a cluster", "add --on slurm")
    site = study_slurm.profile_of(profile)
    if engine is None and image is None:
        engine, image = site.engine, site.image
    on_cluster = where == study_slurm.SLURM
    typed = TypedStudy(study, tuple(grids or ()), runs, tuple(data or ()))
    numbers = None if only is None else _numbers(only)
    found = planned(typed, engine, image, in_queue=on_cluster, numbers=numbers, trust_code=trust_code)
    paths = data_paths.parse(typed.data)
    for path in keep_images(found.plan, found.how) if archive_image else ():
        if not as_json:
            terminal.write_line(f"{'image':<{study_words.LABEL}} {terminal.here(path)}")
    if not on_cluster:
        return _carry_out(found, jobs or 1, paths, as_json)
    asked = Profile(
        partition=partition,
        account=account,
        gpus=gpus,
        pack=pack,
        gpu_memory_gib=gpu_memory,
        minutes=minutes,
        memory_gib=memory,
        jobs=jobs,
    )
    cluster = study_slurm.cluster_of(site, sbatch or [], asked)
    return _submit(found, cluster, paths, follow=follow, report=not no_report, as_json=as_json)


def _numbers(text: str) -> set[int]:
    """Run numbers of "3" or "1,4-6". Raises UsageError."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) - int(first) > _MOST_NUMBERS:
            raise UsageError(f"--only {text}: {part!r} is no run's number", "e.g. --only 3, or --only 1,4-6")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def resume(
    study: Name,
    grids: options.Grids = None,
    jobs: Jobs = 1,
    data: options.StudyData = None,
    engine: options.Engine = None,
    image: options.Image = None,
    trust_code: options.TrustImage = False,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Resume a study that was started, with its grids, data and container image; otherwise as run.

    Example: ndrepro study resume smoke
    """
    typed = TypedStudy(study, tuple(grids or ()), runs, tuple(data or ()))
    found = planned(typed, engine, image, where_begun=True, trust_code=trust_code)
    started = only_started(found.plan)
    if not started.items:
        where = f" in {place}" if (place := study_words.where(found.plan)) else ""
        cure = f"begin with `{found.typed.command('run')}`, or name the folder with --runs DIR"
        if elsewhere := found.plan.elsewhere:
            there = replace(typed, image=study_words.image(next(iter(elsewhere)))).command("resume")
            cure = f"it was started {study_words.places(elsewhere)}: `{there}` continues it"
        name = found.plan.study.name
        raise UsageError(f"nothing of {name} has been started{where} in {terminal.here(runs)}", cure)
    paths = {**data_of_started_runs(started), **data_paths.parse(typed.data)}
    return _carry_out(replace(found, plan=started), jobs, paths, as_json)


@dataclass(frozen=True)
class PlannedStudy:
    """A study as it was typed, its plan, and where its runs are."""

    typed: TypedStudy
    plan: StudyPlan
    how: RunOptions

    def paths(self, given: Mapping[str, Path]) -> dict[str, Path]:
        """The paths of the study's data sets. Raises UsageError for one of another data set."""
        datasets = {item.run.experiment.dataset for item in self.plan.items}
        return data_paths.by_dataset(given, datasets, self.plan.study.name)


def planned(
    typed: TypedStudy,
    engine: str | None = None,
    image: str | None = None,
    *,
    where_begun: bool = False,
    in_queue: bool = False,
    numbers: set[int] | None = None,
    trust_code: bool = True,
) -> PlannedStudy:
    """The plan of a study in the image that is asked for, else, with ``where_begun``, in that where it was started.

    ``in_queue``: runs in Slurm's queue are seen as such. ``numbers`` are the only runs to take.
    Raises SandboxError without ``trust_code`` for an image that its engine obeys and that was not asked for here.
    """
    how = RunOptions(runs=RunsFolder(typed.runs), home=default_home())
    found, wanted = load_study(find_study(typed.study)), options.container(engine, image)
    pinned = asked = None if wanted is None else engines.pin(wanted)
    queued = study_slurm.queued(how.runs, found.name) if in_queue else {}
    plan = make_plan(inside(found, pinned) if pinned else found, typed.grids, how, queued, numbers)
    if pinned is None and where_begun and (pinned := image_of_started_runs(plan)):
        plan = make_plan(inside(found, pinned), typed.grids, how, queued, numbers)
    for each in plan.images:
        engines.expect_trusted(each, own=trust_code or each == asked)
    return PlannedStudy(replace(typed, image=pinned), plan, how)


def _carry_out(found: PlannedStudy, jobs: int, data: Mapping[str, Path], as_json: bool) -> int:
    plan, how = with_runs_at_a_time(found.plan, jobs), found.how
    with study_live.watching(jobs=jobs, error=as_json) as observer:
        outcome = carry_out(plan, how, LocalLauncher(jobs, how), observer, found.paths(data))
    return conclude(outcome, found.typed, as_json)


def _submit(
    found: PlannedStudy, cluster: Cluster, data: Mapping[str, Path], *, follow: bool, report: bool, as_json: bool
) -> int:
    """To Slurm; without ``follow`` it is done when the array is submitted."""
    plan, typed = found.plan, found.typed
    spelled = Spelled(plan.study.name, typed.study, typed.image_options)
    estimates = {item.run.identity: item.left for item in plan.todo}
    launcher = SlurmLauncher(cluster, found.how, spelled, estimates, follow=follow, report=report)
    shown = study_live.watching(jobs=cluster.jobs, error=as_json) if follow else nullcontext(StudyObserver())
    paths = found.paths(data)
    with shown as observer:
        outcome = carry_out(plan, found.how, launcher, observer, paths)
    if outcome.trouble is not None or follow:
        return conclude(outcome, typed, as_json)
    submitted = launcher.submitted or Submitted()
    if as_json:
        output.print_json({**study_slurm.submitted_document(submitted), **study_words.plan_document(outcome.plan)})
    else:
        study_slurm.print_submitted(submitted, typed.command("status"), typed.command("cancel"))
    return output.DONE

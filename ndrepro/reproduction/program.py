"""A recorded program's or script's command is executed again, judged, and the verdict signed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ndrepro.protocol.errors import TrainingFailed
from ndrepro.reproduction.reproduction import Permission, Reproduction, attested

if TYPE_CHECKING:
    from ndrepro.analysis.verdicts.program_results import ProgramResults
    from ndrepro.execution.program_reproduction.execute_again import ProgramPlan
    from ndrepro.execution.programs.program_run import FinishedProgram
    from ndrepro.execution.reproduce.reexecute import Original
    from ndrepro.execution.runs.run import RunOptions
    from ndrepro.protocol.layout import RunFolder
    from ndrepro.reproduction.reproduction import OnPlan
    from provenance.observation.process_record import ProcessRecord


def of_program(
    original: Original,
    options: RunOptions,
    permission: Permission,
    on_plan: OnPlan,
    *,
    scratch: Path,
    repositories: Sequence[Path],
    rebuild: bool,
    data: Path | None,
    quiet: bool,
) -> Reproduction:
    """Execute a program's or script's command again, judge it and sign the verdict; see ``ndrepro.api.reproduce``."""
    from ndrepro.analysis.verdicts.program_facts import facts_claim
    from ndrepro.analysis.verdicts.program_verdict import judge_program
    from ndrepro.analysis.verdicts.run_conditions import program_conditions_claim
    from ndrepro.execution.program_reproduction.execute_again import at_recorded_path, plan_program, run_again
    from ndrepro.execution.program_reproduction.nested_runs import manifests_below
    from ndrepro.execution.programs.interpreters import is_python
    from ndrepro.execution.reproduce.reexecute import ReexecutionPlan
    from ndrepro.execution.runs.run_lookup import read_recorded
    from ndrepro.reproduction.environment_claim import environment_claim, imports_claim
    from ndrepro.reproduction.given_claims import given_claims, inputs_claim, stayed_claim
    from ndrepro.reproduction.outputs_computed import BeforeStart

    scratch.mkdir()
    prepared = plan_program(
        original,
        scratch,
        repositories=repositories,
        private=(options.runs.root, options.home),
        sandbox=permission.sandbox,
        rebuild=rebuild,
        data=data,
    )
    prepared = at_recorded_path(prepared, options.runs, options.home)
    plan = ReexecutionPlan(None, (), prepared.differences, prepared.execution, elsewhere=prepared.place.elsewhere)
    on_plan(original, plan)
    plan = replace(plan, execution=permission.given(plan.execution))
    prepared = replace(prepared, execution=plan.execution)
    before = manifests_below(prepared.place.place)
    earlier, given = BeforeStart.of(prepared, original.manifest), given_claims(prepared)
    finished = run_again(original, prepared, options.runs, options.home, quiet=quiet)
    unsigned = finished.exit_code is None or finished.manifest is None or finished.outcome == "interrupted"
    if unsigned or finished.error is not None:  # what was recorded of it cannot be believed
        raise finished.error or TrainingFailed(f"{finished.folder.root}: {finished.outcome}: nothing was judged")
    now = _side_of_program(prepared, finished, original, before)
    place, recorded = prepared.place, prepared.command.working_folder
    now = now.within(place.working_folder, place.place)
    then = _side(original.folder).within(recorded, prepared.command.top or recorded)
    again = read_recorded(finished.folder).manifest
    judgement = judge_program(
        then,
        now,
        inputs=inputs_claim(prepared, finished, again),
        environment=environment_claim(prepared, original, again, finished, now.python),
        conditions=program_conditions_claim(original.manifest, again, prepared.environment.unequal),
        whole=not prepared.place.missing,
        alike=not prepared.environment.differences,
        repeats=_repeats(finished.processes),
    )
    facts = facts_claim(original.manifest, again, is_python=is_python(prepared.environment.executable))
    judgement = replace(
        judgement, claims=(*judgement.claims, *facts, *stayed_claim(original.manifest, again, finished))
    )
    claims = (*earlier.outputs_computed(now), *given, *imports_claim(prepared, finished))
    return attested(original, plan, (finished.folder,), (judgement,), claims, options)


def _repeats(processes: Iterable[ProcessRecord]) -> bool:
    """Whether no process of a repetition computed on a GPU without deterministic algorithms, as far as torch says."""
    moments = [moment for each in processes if each.torch is not None for moment in each.torch.moments]
    return not any("cuda" in each.seeds and not each.flags.get("deterministic_algorithms") for each in moments)


def _side(folder: RunFolder) -> ProgramResults:
    from ndrepro.analysis.verdicts.program_results import ProgramResults
    from ndrepro.execution.runs.run_lookup import read_recorded
    from ndrepro.protocol.run_kind import SCRIPT, run_kind

    manifest = read_recorded(folder).manifest
    return (ProgramResults.of_script if run_kind(manifest) == SCRIPT else ProgramResults.of_program)(folder, manifest)


def _side_of_program(
    prepared: ProgramPlan, finished: FinishedProgram, original: Original, before: frozenset[Path]
) -> ProgramResults:
    """What the repetition left. A script recorded a run of its own in its private folder, which is the one to compare;
    how the script ended is the recorder's word. ``before`` are the manifests that were there already.

    Raises TrainingFailed where it recorded none with the same name and parameters, or several.
    """
    from ndrepro.execution.program_reproduction.nested_runs import runs_of_script
    from ndrepro.protocol.run_kind import SCRIPT

    folder = finished.folder
    if prepared.command.kind != SCRIPT:
        return _side(folder)
    found = runs_of_script(prepared.place.place, original.manifest, before)
    if len(found) != 1:
        raise TrainingFailed(
            f"{folder.root}: the script recorded {len(found)} runs of this name and these parameters, expected 1",
            f"see what it printed in {folder.log}",
        )
    left = _side(found[0])
    return left if finished.exit_code == 0 else replace(left, exit_code=finished.exit_code)

"""A training run is trained again, whole or in segments, judged, and the verdict signed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from ndrepro.protocol.errors import TrainingFailed
from ndrepro.protocol.verdicts import CHECKED, FLAGGED, ClaimCheck, claim
from ndrepro.reproduction.reproduction import Draw, Permission, Reproduction, attested
from ndrepro.text.plurals import bounded

if TYPE_CHECKING:
    from ndrepro.analysis.verdicts.reproduction_verdict import Judgement
    from ndrepro.execution.reproduce.code_execution import RecordedCode
    from ndrepro.execution.reproduce.recorded_code import Rebuilt
    from ndrepro.execution.reproduce.reexecute import Original, ReexecutionPlan
    from ndrepro.execution.runs.observer import Observer
    from ndrepro.execution.runs.run import Finished, RunOptions
    from ndrepro.protocol.layout import RunFolder
    from ndrepro.reproduction.reproduction import OnPlan
    from provenance.attestation.manifest import Manifest


def of_training(
    original: Original,
    options: RunOptions,
    draw: Draw,
    permission: Permission,
    on_plan: OnPlan,
    watching: AbstractContextManager[Observer] | None,
) -> Reproduction:
    """Train a run again, judge it and sign the verdict; see ``ndrepro.api.reproduce``."""
    from ndrepro.analysis.verdicts.code_claim import beside_other_code
    from ndrepro.execution.containers.engines import expect_trusted
    from ndrepro.execution.reproduce import reexecute
    from ndrepro.execution.reproduce.files_beside_data import files_beside_data
    from ndrepro.execution.reproduce.recorded_code import recorded_code
    from ndrepro.execution.reproduce.unread_source import unread_source
    from ndrepro.execution.runs.observer import Observer
    from ndrepro.protocol.experiment.own import is_own_network
    from ndrepro.protocol.messages import Request, read_json
    from ndrepro.reproduction.installed_claim import installed_claim

    container = None if options.environment is not None else options.container or original.request.container
    if container is not None:
        expect_trusted(container, own=original.own or permission.trust_code)
    with recorded_code(original.manifest, original.folder.root) as rebuilt:
        drawn = draw.spot, draw.challenge, draw.beacon
        plan = reexecute.plan(original, options, rebuilt, *drawn, permission.sandbox)
        unread = unread_source(plan.execution.code, rebuilt.code, original.folder)
        on_plan(original, plan)
        plan = replace(plan, execution=permission.given(plan.execution))
        with nullcontext(Observer()) if watching is None else watching as observer:
            repetitions = _completed(reexecute.execute(original, plan, options, observer))
            judgements = _judged(original, plan, repetitions, options)
            evaluated = _evaluated(original, plan, repetitions[0].folder, judgements, options, permission, observer)
        beside = files_beside_data(rebuilt.code, repetitions[0].folder, repetitions[0].data)
    installed = installed_claim(Request.from_json(read_json(repetitions[0].folder.request)))
    claims = (*evaluated, *unread, *beside, *installed, *claims_of_run(original, plan, repetitions, evaluated))
    network = is_own_network(original.request.experiment.arch)
    if network or _is_of_nobody_here(plan.execution.code, rebuilt):
        what = "network/" if network else "code that no commit known here has"
        judgements = tuple(replace(each, claims=beside_other_code(each.claims, what)) for each in judgements)
        claims = beside_other_code(claims, what)
    folders = tuple(piece.folder for piece in repetitions)
    return attested(original, plan, folders, judgements, claims, options)


def _is_of_nobody_here(code: RecordedCode, rebuilt: Rebuilt) -> bool:
    """Whether code of the author's alone was executed: neither this checkout's nor that of a commit in its history."""
    return not code.own and (bool(code.changes()) or rebuilt.claim.status != CHECKED)


def _judged(
    original: Original, plan: ReexecutionPlan, repeated: tuple[Finished, ...], options: RunOptions
) -> tuple[Judgement, ...]:
    from ndrepro.analysis.results.replicates import replicates_of
    from ndrepro.analysis.verdicts.reproduction_verdict import judge
    from ndrepro.protocol.training_state import read_states
    from provenance.attestation.trust import TrustPolicy

    accuracies: tuple[float, ...] = ()
    if plan.pieces is None:
        trust = TrustPolicy.load(options.home)
        accuracies = replicates_of(original.manifest, options.runs, trust).accuracies
    for piece in repeated:
        if read_states(piece.folder.states) != read_states(original.folder.states):
            original.bring_checkpoints_of(piece.folder)
    return tuple(judge(original.folder, piece.folder, accuracies) for piece in repeated)


def _evaluated(
    original: Original,
    plan: ReexecutionPlan,
    repetition: RunFolder,
    judgements: tuple[Judgement, ...],
    options: RunOptions,
    permission: Permission,
    observer: Observer,
) -> tuple[ClaimCheck, ...]:
    """The claims on the signed weights' results, and on the container image that a repetition ran in, if any.

    The weights are evaluated again unless a repetition had the same weights and results bit for bit. What an image of
    the author's choice reports shows nothing of that: then they are evaluated in this machine's own environment.
    """
    from ndrepro.analysis.verdicts.code_claim import image_claim
    from ndrepro.analysis.verdicts.reproduction_claims import evaluation_claim, evaluation_implied
    from ndrepro.execution.reproduce import reexecute
    from ndrepro.protocol.messages import Request, read_json

    request = Request.from_json(read_json(repetition.request))
    image = image_claim(request, named=original.own or options.container is not None)
    if image is not None and image.status == FLAGGED:
        return (*_evaluated_outside(original, plan, options, permission, observer), image)
    if (evaluated := evaluation_implied(judgements)) is None:
        again = _completed(reexecute.execute(original, reexecute.evaluation_of(original, plan), options, observer))
        evaluated = evaluation_claim(original.folder, again[0].folder, stand_in=plan.stands_in)
    return (evaluated, *filter(None, [image]))


def _evaluated_outside(
    original: Original, plan: ReexecutionPlan, options: RunOptions, permission: Permission, observer: Observer
) -> tuple[ClaimCheck, ...]:
    """The claims that this machine's own environment checks of a run in an image of its author's choice."""
    from ndrepro.analysis.verdicts.reproduction_claims import outside_claims, outside_not_possible
    from ndrepro.execution.reproduce import reexecute
    from ndrepro.protocol.image_reference import MAIN
    from provenance.errors import ProvenanceError

    try:
        outside = reexecute.evaluation_outside(original, plan, trust_code=permission.trust_code)
        here = replace(options, environment=MAIN, container=None)
        (again,) = reexecute.execute(original, outside, here, observer)
    except ProvenanceError as error:
        return outside_not_possible(error.message)
    if again.outcome == "failed":
        return outside_not_possible(again.error.message if again.error else again.outcome)
    _completed((again,))
    return outside_claims(original.folder, again.folder, stand_in=plan.stands_in)


def claims_of_run(
    original: Original, plan: ReexecutionPlan, repetitions: tuple[Finished, ...], evaluated: tuple[ClaimCheck, ...]
) -> tuple[ClaimCheck, ...]:
    """The claims that no repetition checks: the code, the machine, and the epochs that were not drawn."""
    from ndrepro.analysis.verdicts.code_claim import IMAGE, code_claim
    from ndrepro.analysis.verdicts.reproduction_claims import READER
    from ndrepro.analysis.verdicts.run_conditions import (
        ASSERTED_OF_TRAINING,
        asserted_claim,
        changes_claim,
        conditions_claim,
        distributions_claim,
        training_variables_claim,
    )
    from ndrepro.analysis.verdicts.unexpected_files import unexpected_claim
    from ndrepro.execution.runs.run_lookup import read_recorded
    from ndrepro.protocol.messages import read_json

    flagged = any(each.name == IMAGE and each.status == FLAGGED for each in evaluated)
    manifests = [read_recorded(piece.folder).manifest for piece in repetitions]
    code = code_claim(original.manifest, manifests, image_alone=flagged)
    conditions = conditions_claim(original.manifest, manifests[0])
    # this checkout's own code reads no others than those that are conditions
    pair = original.manifest, manifests[0]
    variables = () if plan.execution.code.own else (*training_variables_claim(*pair), *distributions_claim(*pair))
    variables += changes_claim(*(read_json(each.environment) for each in (original.folder, repetitions[0].folder)))
    others = unexpected_claim(original.manifest, manifests[0])
    asserted = asserted_claim(ASSERTED_OF_TRAINING)
    unread = [claim(READER, None, piece.data_unread) for piece in repetitions if piece.data_unread][:1]
    checked = (
        *_recorded_code(plan, original.manifest, manifests[0]),
        *unread,
        code,
        conditions,
        *variables,
        asserted,
        *others,
    )
    total, trained = original.request.experiment.epochs, plan.trained_epochs
    if trained is None:
        return checked
    return (*checked, claim("epochs not drawn", None, f"{len(plan.epochs)} of {total} epochs were compared"))


def _recorded_code(plan: ReexecutionPlan, then: Manifest, again: Manifest) -> tuple[ClaimCheck, ...]:
    """The claim on the recorded code, with the files in which it is not that of its commit."""
    from ndrepro.protocol.training_record import CODE
    from provenance.capture.unavailable import at

    if plan.rebuilt is None:
        return ()
    found, changes = plan.rebuilt.claim, "; ".join(plan.execution.code.changes())
    code = [each.dependency(CODE) for each in (then, again)]
    files = [at(each.annotations if each else None, "files") for each in code]
    if files[0] != files[1]:
        found = replace(found, status=FLAGGED, evidence=f"{found.evidence}; files: {files[0]} then, {files[1]} now")
    return (replace(found, evidence=f"{found.evidence}; {bounded(changes)}" if changes else found.evidence),)


def _completed(repetitions: tuple[Finished, ...]) -> tuple[Finished, ...]:
    """The repetitions. Raises TrainingFailed, or the error that ended one, where one did not complete."""
    for piece in repetitions:
        if piece.outcome != "completed":
            raise piece.error or TrainingFailed(f"{piece.folder.root}: {piece.outcome} before it was complete")
    return repetitions

"""A run that was run again: what was planned, what its repetitions show, and the signed verdict.

    verified_copy ──> Original ── of_training, of_program ──> Reproduction, attested

``ndrepro.api.reproduce`` chooses by the kind of run. Nothing is printed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ndrepro.protocol.errors import NdreproError, TrainingFailed, UsageError
from ndrepro.protocol.verdicts import FAILED, FLAGGED, INCONSISTENT, PASSING, UNDECIDED, VERDICTS, ClaimCheck, claim

if TYPE_CHECKING:
    from ndrepro.analysis.results.program_verdict import ProgramResults
    from ndrepro.analysis.results.reproduction_verdict import Judgement
    from ndrepro.execution.program_reproduction.execute_again import ProgramPlan
    from ndrepro.execution.programs.program_run import FinishedProgram
    from ndrepro.execution.reproduce.code_execution import Consent, Execution
    from ndrepro.execution.reproduce.reexecute import Original, ReexecutionPlan
    from ndrepro.execution.runs.observer import Observer
    from ndrepro.execution.runs.run import Finished, RunOptions
    from ndrepro.protocol.layout import RunFolder

    OnPlan = Callable[[Original, ReexecutionPlan], None]


class NotReproduced(NdreproError):
    """The run does not verify, so there is nothing to reproduce."""


@dataclass(frozen=True)
class Reproduction:
    """A run that was trained again, whole or in segments, and the signed verdict on it.

    Attributes:
        run: the identifier of the run.
        plan: the epochs that were drawn, and what differed from the recorded code, data and environment.
        folders: the folder of each repetition.
        judgements: the verdict on each, with its claims and evidence.
        claims: what of the run as a whole was checked beyond the repetitions, and what was not.
        attestation: the file of the signed verdict.
    """

    run: str
    plan: ReexecutionPlan
    folders: tuple[Path, ...]
    judgements: tuple[Judgement, ...]
    claims: tuple[ClaimCheck, ...]
    attestation: Path = Path()

    @property
    def verdict(self) -> str:
        """The weakest of the verdicts (identical, close, consistent, undecided, inconsistent).

        Where a claim of the whole run failed, inconsistent; where one was flagged, undecided at best.
        """
        if any(claim.status == FAILED for claim in self.claims):
            return INCONSISTENT
        flagged = [UNDECIDED for claim in self.claims if claim.status == FLAGGED]
        return max((*(judgement.verdict for judgement in self.judgements), *flagged), key=VERDICTS.index)

    @property
    def passes(self) -> bool:
        """Whether the verdict is identical, close or consistent."""
        return self.verdict in PASSING

    @property
    def predicate(self) -> dict[str, Any]:
        """What is signed: see ``ndrepro.protocol.verdicts``."""
        challenge = self.plan.challenge
        return {
            "run": self.run,
            "verdict": self.verdict,
            "challenge": None if challenge is None else challenge.to_json(),
            "epochs": list(self.plan.epochs),
            "differences": list(self.plan.differences),
            "execution": self.plan.execution.to_json(),
            "claims": [claim.to_json() for claim in self.claims],
            "repeated": [
                {"run": folder.name, **judgement.to_json()}
                for folder, judgement in zip(self.folders, self.judgements, strict=True)
            ],
        }

    def to_json(self) -> dict[str, Any]:
        """The signed verdict's predicate, and ``attestation``, the path of its file."""
        return {**self.predicate, "attestation": str(self.attestation)}


@dataclass(frozen=True)
class Draw:
    """How many epochs a spot check trains again, and what draws them; ``spot`` is ``None`` for the whole run."""

    spot: int | None = None
    challenge: str | None = None
    beacon: str | None = None


@dataclass(frozen=True)
class Permission:
    """The kind of sandbox that is wanted, and who allows recorded code to run where there is none."""

    sandbox: str
    trust_code: bool = False
    consent: Consent | None = None

    def given(self, planned: Execution) -> Execution:
        """The execution as it is allowed. Raises SandboxError where it is not."""
        from ndrepro.execution.reproduce.code_execution import permitted

        return permitted(planned, trust_code=self.trust_code, consent=self.consent)


def expect_no_options(kind: str, **given: object) -> None:
    """Raises UsageError for an option that is set and has no meaning for this kind of run."""
    for name, value in given.items():
        if value is not None and value is not False:
            option = name.replace("_", "-").replace("engine", "in")
            raise UsageError(f"--{option}: it is the run of {kind}, which has no such option", "leave it out")


def of_training(
    original: Original,
    options: RunOptions,
    draw: Draw,
    permission: Permission,
    on_plan: OnPlan,
    watching: AbstractContextManager[Observer] | None,
) -> Reproduction:
    """Train a run again, judge it and sign the verdict; see ``ndrepro.api.reproduce``."""
    from ndrepro.analysis.results.code_claim import beside_own_network
    from ndrepro.execution.reproduce import reexecute
    from ndrepro.execution.reproduce.recorded_code import recorded_code
    from ndrepro.execution.runs.observer import Silent
    from ndrepro.protocol.experiment.own import is_own_network

    with recorded_code(original.manifest, original.folder.root) as rebuilt:
        drawn = draw.spot, draw.challenge, draw.beacon
        plan = reexecute.plan(original, options, rebuilt, *drawn, permission.sandbox)
        on_plan(original, plan)
        plan = replace(plan, execution=permission.given(plan.execution))
        with nullcontext(Silent()) if watching is None else watching as observer:
            repetitions = _completed(reexecute.execute(original, plan, options, observer))
            judgements = _judged(original, plan, repetitions, options)
            evaluated = _evaluated(original, plan, repetitions[0].folder, judgements, options, permission, observer)
    claims = (*evaluated, *_claims_of_run(original, plan, repetitions, evaluated))
    if is_own_network(original.request.experiment.arch):
        judgements = tuple(replace(each, claims=beside_own_network(each.claims)) for each in judgements)
        claims = beside_own_network(claims)
    folders = tuple(piece.folder for piece in repetitions)
    return _attested(original, plan, folders, judgements, claims, options)


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
    from ndrepro.analysis.results.program_verdict import judge_program
    from ndrepro.execution.program_reproduction.execute_again import plan_program, run_again
    from ndrepro.execution.program_reproduction.nested_runs import manifests_below
    from ndrepro.execution.reproduce.reexecute import ReexecutionPlan

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
    plan = ReexecutionPlan(None, (), prepared.differences, prepared.execution)
    on_plan(original, plan)
    plan = replace(plan, execution=permission.given(plan.execution))
    prepared = replace(prepared, execution=plan.execution)
    before = manifests_below(prepared.place.place)
    finished = run_again(original, prepared, options.runs, options.home, quiet=quiet)
    unsigned = finished.exit_code is None or finished.manifest is None or finished.outcome == "interrupted"
    if unsigned or finished.error is not None:  # what was recorded of it cannot be believed
        raise finished.error or TrainingFailed(f"{finished.folder.root}: {finished.outcome}: nothing was judged")
    now = _side_of_program(prepared, finished, original, before)
    then = _side(original.folder)
    inputs, environment = _given(prepared, then, now)
    judgement = judge_program(then, now, inputs=inputs, environment=environment, whole=not prepared.place.missing)
    return _attested(original, plan, (finished.folder,), (judgement,), (), options)


def _side(folder: RunFolder) -> ProgramResults:
    from ndrepro.analysis.results.program_verdict import ProgramResults
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


def _given(prepared: ProgramPlan, then: ProgramResults, now: ProgramResults) -> tuple[ClaimCheck, ClaimCheck]:
    """The claims that the program was given the recorded inputs and environment, made when it has ended."""
    from ndrepro.execution.programs.interpreters import python_of

    place, lines = prepared.place, prepared.environment.differences
    had = f"{place.available} of {place.wanted} that it is known to have read are here, by digest"
    inputs = claim("inputs", None if place.missing else True, "; ".join([had, *place.missing[:3]]))
    if not place.wanted:
        inputs = claim("inputs", None, "which files it read is not known")
    if changed := place.changed():
        inputs = ClaimCheck("inputs", FLAGGED, "; ".join(changed[:3]))
    version = prepared.command.interpreter
    # -I keeps the hook out, so that neither run shows which one it was
    python = now.python or python_of(prepared.environment.executable)
    if not version and python:
        return inputs, claim("environment", None, f"which Python ran was not recorded; {python} now")
    same = f"given Python {version} and its distributions" if version else "no Python seen"
    return inputs, claim("environment", None if lines else True, "; ".join(lines[:3]) or f"{same}, as recorded")


def _attested(
    original: Original,
    plan: ReexecutionPlan,
    folders: tuple[RunFolder, ...],
    judgements: tuple[Judgement, ...],
    claims: tuple[ClaimCheck, ...],
    options: RunOptions,
) -> Reproduction:
    """The reproduction, with its verdict signed."""
    from ndrepro.execution.reproduce.verdict_attestation import attest

    run, roots = original.manifest.invocation_id, tuple(folder.root for folder in folders)
    found = Reproduction(run, plan, roots, judgements, claims)
    file = attest(original.folder, folders, found.predicate, options.runs, options.home)
    return replace(found, attestation=file)


def verified_copy(folder: RunFolder, options: RunOptions, private: Path) -> Original:
    """A copy of the run in the folder ``private``, if it verifies.

    Raises NotReproduced naming the check that fails, StorageError where it cannot be copied.
    """
    from ndrepro.execution.reproduce.reexecute import Original
    from ndrepro.execution.reproduce.signed_copy import SignedCopy
    from ndrepro.execution.verification.checks_by_kind import checks_of
    from provenance.attestation.countersignature import recorded_here
    from provenance.attestation.trust import TrustPolicy
    from provenance.attestation.verify import verify as verify_run
    from provenance.errors import ProvenanceError, StorageError

    trust = TrustPolicy.load(options.home)
    verdict = verify_run(folder.root, trust=trust, extra_checks=checks_of)
    if not verdict.ok or verdict.manifest is None:
        first = verdict.failure
        raise NotReproduced(
            f"{folder.root}: it does not verify, so there is nothing to reproduce"
            + (f": {first.name}: {first.message}" if first else ""),
            f"see every check, and what to do, with `ndrepro verify {folder.root}`",
        )
    try:
        copied = SignedCopy.make(folder, verdict.manifest, verdict.payload_digest, private)
        # the files may have been others while these were checked than when they were hashed
        for check in checks_of(copied.manifest):
            check(copied.folder.root, copied.manifest)
    except StorageError:
        raise
    except Exception as error:  # whatever was signed: it did not pass these checks, only what lay there meanwhile did
        why = error.message if isinstance(error, ProvenanceError) else f"{type(error).__name__}: {error}"
        raise NotReproduced(
            f"{folder.root}: its files changed while they were verified: {why}",
            "wait until nothing writes to the folder any more; its author may still do so",
        ) from None
    own = recorded_here(verdict, folder.ledger, trust)
    return Original(copied.folder, copied.manifest, copied, own=own)


def _judged(
    original: Original, plan: ReexecutionPlan, repeated: tuple[Finished, ...], options: RunOptions
) -> tuple[Judgement, ...]:
    from ndrepro.analysis.results.replicates import replicates_of
    from ndrepro.analysis.results.reproduction_verdict import judge
    from ndrepro.execution.verification.checks_by_kind import checks_of
    from provenance.attestation.trust import TrustPolicy

    accuracies: tuple[float, ...] = ()
    if plan.pieces is None:
        trust = TrustPolicy.load(options.home)
        accuracies = replicates_of(original.manifest, options.runs, trust, checks_of).accuracies
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
    from ndrepro.analysis.results.code_claim import image_claim
    from ndrepro.analysis.results.reproduction_claims import evaluation_claim, evaluation_implied
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
    from ndrepro.analysis.results.reproduction_claims import outside_claims, outside_not_possible
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


def _claims_of_run(
    original: Original,
    plan: ReexecutionPlan,
    repetitions: tuple[Finished, ...],
    evaluated: tuple[ClaimCheck, ...],
) -> tuple[ClaimCheck, ...]:
    """The claims that no repetition checks: the code, the machine, and the epochs that were not drawn."""
    from ndrepro.analysis.results.code_claim import IMAGE, code_claim
    from ndrepro.analysis.unexpected_files import unexpected_claim
    from ndrepro.execution.runs.run_lookup import read_recorded

    flagged = any(each.name == IMAGE and each.status == FLAGGED for each in evaluated)
    manifests = [read_recorded(piece.folder).manifest for piece in repetitions]
    code = code_claim(original.manifest, manifests, image_alone=flagged)
    machine = claim("machine, times and memory", None, "no repetition shows them: asserted by the signer")
    others = unexpected_claim(original.manifest.artifacts)
    checked = (*([plan.rebuilt.claim] if plan.rebuilt else []), code, machine, *others)
    total, trained = original.request.experiment.epochs, plan.trained_epochs
    if trained is None:
        return checked
    return (*checked, claim("epochs not drawn", None, f"{len(plan.epochs)} of {total} epochs were compared"))


def _completed(repetitions: tuple[Finished, ...]) -> tuple[Finished, ...]:
    """The repetitions. Raises TrainingFailed, or the error that ended one, where one did not complete."""
    for piece in repetitions:
        if piece.outcome != "completed":
            raise piece.error or TrainingFailed(f"{piece.folder.root}: {piece.outcome} before it was complete")
    return repetitions

"""The public functions that read, check and repeat recorded runs; ``import ndrepro`` offers them by name.

A run is named as on the command line: the path of its folder or of its manifest, its identifier or the beginning of
it, an experiment, or "latest"; all but paths are looked for in the folder ``runs``. Signatures count when a key of the
key home made them (``$NDREPRO_HOME``, else ``~/.config/ndrepro``), or, where ``keys`` names files of public keys, one
of those and no other. Errors are subclasses of ``provenance.errors.ProvenanceError`` with ``message`` and ``cure``.

Nothing is printed. docs/api.md has an example of each function.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ndrepro.protocol.errors import NdreproError, TrainingFailed, UsageError
from ndrepro.protocol.verdicts import FAILED, FLAGGED, INCONSISTENT, PASSING, UNDECIDED, VERDICTS, ClaimCheck, claim

if TYPE_CHECKING:
    from ndrepro.analysis.comparison.run_comparison import RunComparison
    from ndrepro.analysis.results.reproduction_verdict import Judgement
    from ndrepro.analysis.results.results import Results
    from ndrepro.execution.reproduce.code_execution import Consent
    from ndrepro.execution.reproduce.reexecute import Original, ReexecutionPlan
    from ndrepro.execution.runs.observer import Observer
    from ndrepro.execution.runs.run import Finished, RunOptions
    from ndrepro.protocol.layout import RunFolder
    from provenance.attestation.verify import Verdict

__all__ = ["NotReproduced", "Reproduction", "diff", "read_runs", "reproduce", "verify"]

AnyPath = str | os.PathLike[str]


def verify(
    run: AnyPath,
    *,
    runs: AnyPath = "runs",
    ledger: AnyPath | None = None,
    witness: AnyPath | None = None,
    keys: Iterable[AnyPath] = (),
    manifest_only: bool = False,
    policy: AnyPath | None = None,
) -> Verdict:
    """Check a run's signature, files, ledger and contents, as ``ndrepro verify`` does.

    Args:
        run: the run; with ``manifest_only`` also a manifest file under any name.
        runs: the folder of runs.
        ledger: the ledger file; the one beside the run where it is left out.
        witness: a file of the ledger's heads that were kept elsewhere (``ndrepro ledger head``), which it must contain.
        keys: files of the public keys to trust instead of those of the key home.
        manifest_only: check the manifest alone, without the files that it names.
        policy: the file of a policy that says who may sign what; its checks come after the others.

    Returns:
        ``ok`` says whether the run verifies, ``checks`` what each check found; a failed check never raises.

    Raises:
        RunNotFound: there is no such run.
        NotFoundError: ``ledger``, ``witness``, ``policy`` or a key file does not exist, or no ledger for a witness.
        LedgerError: ``witness`` is no file of heads.
        UsageError: the policy's file is none.
    """
    from ndrepro.analysis.results.policy_checks import load_policy, with_policy
    from ndrepro.execution.verification.checks_by_kind import checks_of
    from ndrepro.protocol.layout import RunFolder
    from provenance.attestation.ledger import Ledger, read_heads
    from provenance.attestation.trust import TrustPolicy
    from provenance.attestation.verify import verify as verify_run
    from provenance.errors import NotFoundError

    alone = manifest_only and Path(run).is_file()
    path = Path(run) if alone else _run_folder(run, runs).root
    if ledger is not None and not Path(ledger).is_file():
        raise NotFoundError(f"ledger {ledger}: no such file", "name a ledger.jsonl; left out, the one beside the run")
    beside = Path(ledger) if ledger is not None else None if alone else RunFolder(path).ledger
    if witness is not None and beside is None:
        raise NotFoundError(f"{path}: no ledger lies beside it", "name the ledger of the witness: --ledger FILE")
    heads = read_heads(Path(witness)) if witness is not None else ()
    rules = None if policy is None else load_policy(Path(policy))
    trust = TrustPolicy.from_files(map(Path, keys))
    verdict = verify_run(
        path,
        trust=trust,
        ledger=Ledger(beside, heads) if beside else None,
        extra_checks=() if manifest_only else checks_of,
        manifest_only=manifest_only,
    )
    return verdict if rules is None else with_policy(verdict, rules, trust, None if alone else RunFolder(path))


def read_runs(folders: AnyPath | Iterable[AnyPath] = "runs", *, keys: Iterable[AnyPath] = ()) -> Results:
    """Read every run below ``folders`` into a table; only verified, completed runs become rows.

    Args:
        folders: a folder of runs, a run folder or a manifest file, or several of them.
        keys: files of the public keys to trust instead of those of the key home.

    Returns:
        Iterating gives one frozen row a run, in the order of their starts: accuracies in percent, losses in nats.
        ``frame()`` and ``pandas.DataFrame(...)`` make a table of them. ``refused``, ``unfinished`` and ``lost`` say
        which runs became no row, and why.

    Raises:
        NotFoundError: a folder or key file does not exist.
    """
    from ndrepro.analysis.results.results import read_results
    from provenance.attestation.trust import TrustPolicy

    given = [folders] if isinstance(folders, str | os.PathLike) else folders
    return read_results([Path(folder) for folder in given], policy=TrustPolicy.from_files(map(Path, keys)))


def diff(first: AnyPath, second: AnyPath, *, runs: AnyPath = "runs", keys: Iterable[AnyPath] = ()) -> RunComparison:
    """Compare two runs: where they diverge, why, and in what else they differ. Both are verified first.

    Args:
        first: a run, or a manifest file under any name.
        second: the other run.
        runs: the folder of runs.
        keys: files of the public keys to trust instead of those of the key home.

    Returns:
        ``identical`` says whether every result is equal bit for bit; ``trails.divergence`` is the first step that
        differs, ``causes`` are the likely reasons, most likely first.

    Raises:
        RunNotFound: there is no such run.
        NdreproError: neither has anything to compare.
    """
    from ndrepro.analysis.comparison.run_comparison import compare_runs, read_side
    from ndrepro.protocol.layout import RunFolder
    from provenance.attestation.trust import TrustPolicy

    trust = TrustPolicy.from_files(map(Path, keys))
    sides = []
    for run in map(Path, (first, second)):
        manifest = run.is_file() and run.name != RunFolder(run.parent).manifest.name
        sides.append(read_side(run if manifest else _run_folder(run, runs).root, trust))
    return compare_runs(*sides)


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


def reproduce(
    run: AnyPath,
    *,
    spot: int | None = None,
    challenge: str | None = None,
    beacon: str | None = None,
    data: AnyPath | None = None,
    environment: str | None = None,
    engine: str | None = None,
    image: str | None = None,
    runs: AnyPath = "runs",
    sandbox: str = "auto",
    trust_code: bool = False,
    consent: Consent | None = None,
    on_plan: Callable[[Original, ReexecutionPlan], None] = lambda original, plan: None,
    watching: AbstractContextManager[Observer] | None = None,
) -> Reproduction:
    """Verify a run, train it again from its manifest, judge the result and sign the verdict.

    Args:
        run: the run.
        spot: train this many epochs only, drawn at random; the whole run where it is left out.
        challenge: a word of the reviewer's own that draws them instead, which nobody could guess.
        beacon: a value that was public only after the run was signed, which draws them too.
        data: the path of the data set here; left out, the recorded one or the default.
        environment: a cell of ``environments/`` to train in instead of the recorded environment.
        engine: a container engine to train in: docker, podman or apptainer.
        image: the image for ``engine``.
        runs: the folder of runs, which the repetitions and the verdict go into.
        sandbox: what confines the recorded code: container, bubblewrap, namespaces, none, or auto for the first of
            these that this machine has.
        trust_code: run the recorded code where there is no sandbox, with all rights of this process.
        consent: asked in that case instead, with how the code would be executed; True lets it run.
        on_plan: called with what will be trained before the training starts.
        watching: gives the observer that is called while the training runs.

    Raises:
        RunNotFound: there is no such run.
        UsageError: ``challenge`` or ``beacon`` without ``spot``, or the run did not complete.
        NotReproduced: the run does not verify.
        SandboxError: the sandbox asked for does not work here, or there is none and nobody allowed to do without.
        TrainingFailed: a repetition did not complete; or the error that ended it.
    """
    from ndrepro.execution.containers.engines import ContainerChoice
    from ndrepro.execution.reproduce import reexecute
    from ndrepro.execution.reproduce.code_execution import permitted
    from ndrepro.execution.reproduce.verdict_attestation import attest
    from ndrepro.execution.runs.observer import Silent
    from ndrepro.execution.runs.run import RunOptions
    from ndrepro.protocol.layout import RunsFolder
    from provenance.attestation.key_home import default_home

    if spot is None and (challenge is not None or beacon is not None):
        raise UsageError("a challenge or a beacon draws the epochs of a spot check", "say how many with --spot N")
    options = RunOptions(
        RunsFolder(Path(runs)),
        default_home(),
        data=None if data is None else Path(data),
        environment=environment,
        container=ContainerChoice.from_options(engine, image),
    )
    with TemporaryDirectory(prefix="ndrepro-original-") as private:
        original = _verified(_run_folder(run, runs), options, Path(private))
        plan = reexecute.plan(original, options, spot, challenge, beacon, sandbox)
        on_plan(original, plan)
        plan = replace(plan, execution=permitted(plan.execution, trust_code=trust_code, consent=consent))
        with nullcontext(Silent()) if watching is None else watching as observer:
            repetitions = _completed(reexecute.execute(original, plan, options, observer))
            judgements = _judged(original, plan, repetitions, options)
            claims = _claims_of_run(original, plan, repetitions, judgements, options, observer)
        run, folders = original.manifest.invocation_id, tuple(piece.folder for piece in repetitions)
        found = Reproduction(run, plan, tuple(folder.root for folder in folders), judgements, claims)
        file = attest(original.folder, folders, found.predicate, options.runs, options.home)
    return replace(found, attestation=file)


def _completed(repetitions: tuple[Finished, ...]) -> tuple[Finished, ...]:
    """The repetitions. Raises TrainingFailed, or the error that ended one, where one did not complete."""
    for piece in repetitions:
        if piece.outcome != "completed":
            raise piece.error or TrainingFailed(f"{piece.folder.root}: {piece.outcome} before it was complete")
    return repetitions


def _run_folder(run: AnyPath, runs: AnyPath) -> RunFolder:
    from ndrepro.execution.runs.run_resolver import resolve_run
    from ndrepro.protocol.layout import RunsFolder

    return resolve_run(RunsFolder(Path(runs)), os.fspath(run)).folder


def _verified(folder: RunFolder, options: RunOptions, private: Path) -> Original:
    """A copy of the run in the folder ``private``, if it verifies.

    Raises NotReproduced naming the check that fails, StorageError where it cannot be copied.
    """
    from ndrepro.execution.reproduce.reexecute import Original
    from ndrepro.execution.reproduce.signed_copy import SignedCopy
    from ndrepro.execution.verification.checks_by_kind import checks_of
    from provenance.attestation.trust import TrustPolicy
    from provenance.attestation.verify import verify as verify_run
    from provenance.errors import ProvenanceError, StorageError

    verdict = verify_run(folder.root, trust=TrustPolicy.load(options.home), extra_checks=checks_of)
    if not verdict.ok or verdict.manifest is None:
        first = verdict.failure
        raise NotReproduced(
            f"{folder.root}: it does not verify, so there is nothing to reproduce"
            + (f": {first.name}: {first.message}" if first else ""),
            f"see every check, and what to do, with `ndrepro verify {folder.root}`",
        )
    try:
        copied = SignedCopy.make(folder, verdict.manifest, verdict.payload_digest, private)
        for check in checks_of(
            copied.manifest
        ):  # the files may have been others while these were checked than when they were hashed
            check(copied.folder.root, copied.manifest)
    except StorageError:
        raise
    except Exception as error:  # whatever was signed: it did not pass these checks, only what lay there meanwhile did
        why = error.message if isinstance(error, ProvenanceError) else f"{type(error).__name__}: {error}"
        raise NotReproduced(
            f"{folder.root}: its files changed while they were verified: {why}",
            "wait until nothing writes to the folder any more; its author may still do so",
        ) from None
    return Original(copied.folder, copied.manifest, copied)


def _judged(
    original: Original, plan: ReexecutionPlan, repeated: tuple[Finished, ...], options: RunOptions
) -> tuple[Judgement, ...]:
    from ndrepro.analysis.results.replicates import replicates_of
    from ndrepro.analysis.results.reproduction_verdict import judge
    from provenance.attestation.trust import TrustPolicy

    accuracies: tuple[float, ...] = ()
    if plan.pieces is None:
        accuracies = replicates_of(original.manifest, options.runs, TrustPolicy.load(options.home)).accuracies
    return tuple(judge(original.folder, piece.folder, accuracies) for piece in repeated)


def _claims_of_run(
    original: Original,
    plan: ReexecutionPlan,
    repetitions: tuple[Finished, ...],
    judgements: tuple[Judgement, ...],
    options: RunOptions,
    observer: Observer,
) -> tuple[ClaimCheck, ...]:
    """The claims that no repetition checks: the signed weights' results, the code, and the epochs that were not drawn.

    The weights are evaluated again unless a repetition had the same weights and results bit for bit.
    """
    from ndrepro.analysis.results.code_claim import code_claim
    from ndrepro.analysis.results.reproduction_claims import evaluation_claim, evaluation_implied
    from ndrepro.execution.reproduce import reexecute
    from ndrepro.execution.runs.run_lookup import read_recorded

    if (evaluated := evaluation_implied(judgements)) is None:
        again = _completed(reexecute.execute(original, reexecute.evaluation_of(original, plan), options, observer))
        evaluated = evaluation_claim(original.folder, again[0].folder)
    code = code_claim(original.manifest, [read_recorded(piece.folder).manifest for piece in repetitions])
    total, trained = original.request.experiment.epochs, plan.trained_epochs
    if trained is None:
        return (evaluated, code)
    return (evaluated, code, claim("epochs not drawn", None, f"{len(plan.epochs)} of {total} epochs were compared"))

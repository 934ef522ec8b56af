"""The public functions that read, check and repeat recorded runs; ``import ndrepro`` offers them by name.

A run is named as on the command line: the path of its folder or of its manifest, its identifier or the beginning of
it, an experiment, or "latest"; all but paths are looked for in the folder ``runs``. Signatures count when a key of the
key home made them (``$NDREPRO_HOME``, else ``~/.config/ndrepro``), or, where ``keys`` names files of public keys, one
of those and no other. Errors are subclasses of ``provenance.errors.ProvenanceError`` with ``message`` and ``cure``.

Nothing is printed. docs/reference/python.md has an example of each function.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from ndrepro.protocol.errors import UsageError
from ndrepro.reproduction.reproduction import NotReproduced, Reproduction
from provenance.formats.folder_tree import temporary_folder

if TYPE_CHECKING:
    from ndrepro.analysis.comparison.run_comparison import RunComparison
    from ndrepro.analysis.results.results import Results
    from ndrepro.execution.reproduce.code_execution import Consent
    from ndrepro.execution.reproduce.reexecute import Original, ReexecutionPlan
    from ndrepro.execution.runs.observer import Observer
    from ndrepro.protocol.layout import RunFolder
    from provenance.attestation.verdict import Verdict
    from provenance.keyless.bundle_checks import KeylessSignature

__all__ = ["NotReproduced", "Reproduction", "diff", "read_runs", "reproduce", "verify"]

AnyPath = str | os.PathLike[str]
# the trusted root of another Sigstore instance than the public one
SIGSTORE_ROOT = "NDREPRO_SIGSTORE_ROOT"


def verify(
    run: AnyPath,
    *,
    runs: AnyPath = "runs",
    ledger: AnyPath | None = None,
    witness: AnyPath | None = None,
    keys: Iterable[AnyPath] = (),
    manifest_only: bool = False,
    policy: AnyPath | None = None,
    timestamp: AnyPath | None = None,
    authority: AnyPath | None = None,
    sigstore_root: AnyPath | None = None,
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
        timestamp: an authority's answer with its time stamp (RFC 3161) of the manifest; checked last.
        authority: the file of that authority's root certificate.
        sigstore_root: the trusted root of another Sigstore instance than the public one, by which a signature has to
            count; left out, that of ``$NDREPRO_SIGSTORE_ROOT``, else the public one, where there are signatures.

    Returns:
        ``ok`` says whether the run verifies, ``checks`` what each check found; a failed check never raises.

    Raises:
        RunNotFound: there is no such run.
        NotFoundError: ``ledger``, ``witness``, ``policy`` or a key file does not exist, or no ledger for a witness.
        LedgerError: ``witness`` is no file of heads.
        TrustError: ``sigstore_root`` is no trusted root.
        UsageError: the policy's file is none, of ``timestamp`` and ``authority`` one is missing, or ``sigstore_root``
            came with the run.
        MissingExtra: a time stamp or a signature by an identity is to be checked that was asked for, and the extra
            [timestamps] or [sigstore] is not installed.
    """
    from ndrepro.analysis.results.policy_checks import load_policy, with_policy
    from ndrepro.execution.verification.checks_by_kind import checks_of
    from ndrepro.protocol import extras
    from ndrepro.protocol.layout import RunFolder
    from provenance.attestation.ledger import Ledger, read_heads
    from provenance.attestation.trust import TrustPolicy
    from provenance.attestation.verify import verify as verify_run
    from provenance.errors import NotFoundError
    from provenance.keyless.bundle_checks import with_bundles
    from provenance.keyless.identities import Identity, accepted_identities
    from provenance.timestamps.authority_stamp import with_timestamp

    if (timestamp is None) != (authority is None):
        raise UsageError("a time stamp and its authority go together", "name both: --timestamp FILE --authority FILE")
    if timestamp is not None:
        extras.require("rfc3161_client")
    if sigstore_root is not None:
        extras.require("sigstore")
    alone = manifest_only and Path(run).is_file()
    path = Path(run) if alone else _run_folder(run, runs).root
    if ledger is not None and not Path(ledger).is_file():
        raise NotFoundError(f"ledger {ledger}: no such file", "name a ledger.jsonl; left out, the one beside the run")
    beside = Path(ledger) if ledger is not None else None if alone else RunFolder(path).ledger
    if witness is not None and beside is None:
        raise NotFoundError(f"{path}: no ledger is beside it", "name the ledger of the witness: --ledger FILE")
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
    listed = [Identity(*each, name) for name, each in rules.identities] if rules else []
    if listed:
        extras.require("sigstore")
    keyless: tuple[KeylessSignature, ...] = ()
    if not alone:
        # the variable is for every run, signed by an identity or not; whoever names a root expects a signature
        known = sigstore_root or (os.environ.get(SIGSTORE_ROOT) if RunFolder(path).bundles.exists() else None)
        identities, required = (*listed, *accepted_identities()), sigstore_root is not None
        verdict, keyless = with_bundles(verdict, path, identities, Path(known) if known else None, required=required)
    if timestamp is not None and authority is not None:
        manifest = path if alone else RunFolder(path).manifest
        verdict = with_timestamp(verdict, manifest, Path(timestamp), Path(authority), trust)
    if rules is not None:
        verdict = with_policy(verdict, rules, trust, None if alone else RunFolder(path), keyless)
    return verdict


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
    from ndrepro.analysis.comparison.run_comparison import compare_runs
    from ndrepro.analysis.comparison.side import read_side
    from ndrepro.protocol.layout import RunFolder
    from provenance.attestation.trust import TrustPolicy

    trust = TrustPolicy.from_files(map(Path, keys))
    sides = []
    for run in map(Path, (first, second)):
        manifest = run.is_file() and run.name != RunFolder(run.parent).manifest.name
        sides.append(read_side(run if manifest else _run_folder(run, runs).root, trust))
    return compare_runs(*sides)


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
    repository: AnyPath | None = None,
    rebuild_env: bool = False,
    runs: AnyPath = "runs",
    sandbox: str = "auto",
    trust_code: bool = False,
    consent: Consent | None = None,
    on_plan: Callable[[Original, ReexecutionPlan], None] = lambda original, plan: None,
    watching: AbstractContextManager[Observer] | None = None,
    show_output: bool = False,
) -> Reproduction:
    """Verify a run, run it again from its manifest, judge the result and sign the verdict.

    A training run is trained again; the command of a recorded program or script is executed again.

    Args:
        run: the run.
        spot: train this many epochs only, drawn at random; the whole run where it is left out.
        challenge: a word of the reviewer's own that draws them instead, which nobody could guess.
        beacon: a value that was public only after the run was signed, which draws them too.
        data: the path of the data set here; left out, the recorded one or the default. Of a program, where inputs are
            looked for, by their digests, that are not where it read them.
        environment: a cell of ``environments/`` to train in instead of the recorded environment.
        engine: a container engine to train in: docker, podman, apptainer or enroot.
        image: the image for ``engine``.
        repository: of a program or script, a folder in a git repository that has the recorded commit; left out, the
            current folder's, or the one where it was recorded.
        rebuild_env: of a program, install the recorded distributions into an environment of its own (uv).
        runs: the folder of runs, which the repetitions and the verdict go into.
        sandbox: what confines the recorded code: container, bubblewrap, namespaces, none, or auto for the first of
            these that this machine has.
        trust_code: run the recorded code where there is no sandbox, with all rights of this process, and an image that
            Enroot does not confine.
        consent: asked in that case instead, with how the code would be executed; True lets it run.
        on_plan: called with what will be trained before the training starts.
        watching: gives the observer that is called while the training runs.
        show_output: of a program, copy what it prints to standard error.

    Raises:
        RunNotFound: there is no such run.
        UsageError: ``challenge`` or ``beacon`` without ``spot``, the run did not complete, or an option is for another
            kind of run; or what a program needs was not recorded, or is not here.
        NotReproduced: the run does not verify.
        SandboxError: the sandbox asked for does not work here, or there is none and nobody allowed to do without.
        TrainingFailed: a repetition did not complete; or the error that ended it.
    """
    from ndrepro.execution.containers.engines import ContainerChoice
    from ndrepro.execution.runs.run import RunOptions
    from ndrepro.protocol.layout import RunsFolder
    from ndrepro.protocol.run_kind import TRAINING, run_kind
    from ndrepro.reproduction.program import of_program
    from ndrepro.reproduction.reproduction import Draw, Permission, expect_no_options
    from ndrepro.reproduction.training import of_training
    from ndrepro.reproduction.verified_copy import verified_copy
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
    permission = Permission(sandbox, trust_code, consent)
    with temporary_folder("ndrepro-original-") as private:
        original = verified_copy(_run_folder(run, runs), options, private)
        if run_kind(original.manifest) == TRAINING:
            expect_no_options("a training run", repository=repository, rebuild_env=rebuild_env)
            draw = Draw(spot, challenge, beacon)
            return of_training(original, options, draw, permission, on_plan, watching)
        expect_no_options("a program or script", spot=spot, env=environment, engine=engine, image=image)
        repositories = [Path(repository)] if repository is not None else [Path.cwd()]
        return of_program(
            original,
            options,
            permission,
            on_plan,
            scratch=private / "again",
            repositories=repositories,
            rebuild=rebuild_env,
            data=options.data,
            quiet=not show_output,
        )


def _run_folder(run: AnyPath, runs: AnyPath) -> RunFolder:
    from ndrepro.execution.runs.run_resolver import resolve_run
    from ndrepro.protocol.layout import RunsFolder

    return resolve_run(RunsFolder(Path(runs)), os.fspath(run)).folder

"""Is this run what its manifest says, and who says so? Numbered checks, each with a name.

    1 envelope       the manifest is a DSSE envelope
    2 signature      a trusted key signed exactly its payload, before it was rotated, revoked or expired; every trusted
                     signer is named, other signatures counted
    3 statement      they are an in-toto statement of a known schema, as a recorder writes it
    4 subjects       subjects and artifacts agree, sorted, none twice, and no name leads out of the folder
    5 present        every artifact is there as a regular file
    6 digests        every artifact has its size and digest
    7 nothing added  nothing else is in the folder but signatures by identities, each on this manifest by its form
    8 ledger         by entries that trusted keys signed, the run began where the manifest says, with its parameters,
                     and ended with this manifest, and none that may be of this run is missing since; skipped beside a
                     list that has no entry of this run nor any by its recorder's keys
    9 ...            the caller's own checks, in the order given

Signatures cover the payload alone, so the envelope is not compared with a file of bytes: another spelling of it, or a
countersignature, leaves a run verified. What stands for the manifest in the ledger and elsewhere is its digest as the
recorder wrote it, one signature and canonical JSON, into which nothing that is unsigned enters (``Verdict.digest``).

A check that depends on one that did not pass is skipped and says so: nothing is read out of bytes that no trusted
key signed. A run verifies (``Verdict.ok``) when checks 1 to 7 pass and none fails. Of a manifest alone, 5 to 7 cannot
be done: that is no verified run unless ``manifest_only`` says that only the manifest was to be verified.

Nothing is changed, nothing is fetched, and nothing of the run is executed.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from provenance.attestation.dsse import MOST_BYTES, read_envelope, verify_parts, write_envelope
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import NOT_RECORDED, Artifact, Manifest
from provenance.attestation.run_files import BUNDLES, MANIFEST, Identity, contents, expect_bundles, inside
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verdict import Check, ExtraCheck, Verdict
from provenance.errors import DigestError, EnvelopeError, LedgerError, ProvenanceError, TrustError
from provenance.formats.bounded_read import ARTIFACT_BYTES, read_bounded
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import FileDigest, bytes_digest, file_digest
from provenance.ledger_entries.summary import LedgerRun, LedgerSummary, SignedEnd, UnrelatedLedger

_SHOWN = 5


def verify(
    run_dir_or_manifest: Path | str,
    *,
    trust: TrustPolicy,
    ledger: Ledger | LedgerSummary | Path | None = None,
    extra_checks: Iterable[ExtraCheck] | Callable[[Manifest | None], Iterable[ExtraCheck]] = (),
    manifest_only: bool = False,
) -> Verdict:
    """Run every check on a run folder, or on a manifest file alone.

    Args:
        run_dir_or_manifest: a run folder, or the file of a manifest.
        trust: whose signatures count.
        ledger: the list of runs beside it, its path, or a summary that was read with the same trust, for many runs;
            check 8 is skipped without one.
        extra_checks: called with (run_dir, manifest) once checks 1 to 7 have passed, numbered on from 9; or a function
            that chooses them for a manifest (``None`` where checks 1 to 3 did not pass).
        manifest_only: verify the manifest and leave the files, for whoever has no more than that.

    A failing check is a result and never raises.
    """
    path = Path(run_dir_or_manifest)
    folder = path if path.is_dir() else None
    ledger = Ledger(ledger) if isinstance(ledger, Path) else ledger
    case = _Case(path / MANIFEST if folder else path, None if manifest_only else folder, trust, ledger)
    checks: list[Check] = []
    for number, name, function, needs in _CHECKS:
        checks.append(_run(number, name, function, needs, case, checks))
    manifest = case.statement.manifest if case.statement else None
    chosen = extra_checks(manifest) if callable(extra_checks) else extra_checks
    for number, extra in enumerate(chosen, len(_CHECKS) + 1):
        checks.append(_run_extra(number, extra, case, checks))
    needed = range(1, 5 if manifest_only else 8)
    ok = all(check.status == "pass" for check in checks if check.number in needed)
    ok = ok and all(check.status != "fail" for check in checks)
    payload = bytes_digest(case.payload) if case.payload else None
    found = (case.signers, ok, case.digests, case.digest, payload, case.changed, case.keyids)
    return Verdict(tuple(checks), manifest, *found)


@dataclass
class _Case:
    """What the checks hand to each other."""

    manifest_path: Path
    folder: Path | None
    trust: TrustPolicy
    ledger: Ledger | LedgerSummary | None
    envelope: tuple[str, bytes, list[tuple[str, bytes]]] = ("", b"", [])
    payload: bytes = b""
    digests: tuple[str, ...] = ()
    digest: str | None = None
    signed_by: tuple[str, ...] = ()
    keyids: tuple[str, ...] = ()
    signers: tuple[str, ...] = ()
    statement: Statement | None = None
    changed: tuple[str, ...] = ()

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        return self.statement.manifest.artifacts if self.statement else ()

    @property
    def run_dir(self) -> Path:
        if self.folder is None:
            raise _Skip("only the manifest is verified, there is no folder")
        return self.folder


class _Failure(Exception):
    def __init__(self, message: str, cure: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cure = cure


class _Skip(Exception):
    """The reason why a check cannot be done."""


def _run(
    number: int, name: str, function: Callable[[_Case], str], needs: tuple[int, ...], case: _Case, done: list[Check]
) -> Check:
    blocked = [check for check in done if check.number in needs and check.status != "pass"]
    if blocked:
        return Check(number, name, "skip", f"check {blocked[0].number} ({blocked[0].name}) did not pass")
    try:
        return Check(number, name, "pass", function(case))
    except _Skip as reason:
        return Check(number, name, "skip", str(reason))
    except (_Failure, ProvenanceError) as failure:
        return Check(number, name, "fail", failure.message, failure.cure)


def _run_extra(number: int, extra: ExtraCheck, case: _Case, done: list[Check]) -> Check:
    name = getattr(extra, "__name__", type(extra).__name__).strip("_").replace("_", " ")
    blocked = [check for check in done if check.number <= 7 and check.status != "pass"]
    if blocked or case.folder is None or case.statement is None:
        return Check(number, name, "skip", f"check {blocked[0].number} ({blocked[0].name}) did not pass")
    try:
        result = extra(case.folder, case.statement.manifest)
    except ProvenanceError as error:
        return Check(number, name, "fail", error.message, error.cure)
    except Exception as error:  # whatever a signer put into the files, what cannot be checked is not verified
        found = f"nothing that can be checked is in the files ({type(error).__name__}: {error})"
        return Check(number, name, "fail", found, "it was signed like this: ask its author")
    return Check(number, result.name, result.status, result.message, result.cure)


def _envelope(case: _Case) -> str:
    """1: a DSSE envelope."""
    try:
        data = read_bounded(case.manifest_path, MOST_BYTES, follow_symlinks=True)
    except OSError as error:
        raise _Failure(
            f"{case.manifest_path}: cannot be read ({error.strerror})",
            "a run has a manifest when it has ended; one that was killed with its recorder has none",
        ) from None
    case.envelope = read_envelope(data)
    _, payload, signatures = case.envelope
    return f"{len(signatures)} signature{'s' if len(signatures) > 1 else ''} over {len(payload)} bytes"


def _signature(case: _Case) -> str:
    """2: a trusted key signed exactly these bytes."""
    try:
        verified = verify_parts(*case.envelope, case.trust.keys())
    except TrustError as error:
        raise _Failure(error.message, error.cure) from None
    except EnvelopeError as error:
        raise _Failure(error.message, error.cure or "get the original again") from None
    accepted, refused = case.trust.accepted(verified.signers, lambda: _signed_on(verified.payload))
    if not accepted:
        raise _Failure("; ".join(refused), "ask the author for a run signed by a key that is valid")
    case.payload = verified.payload
    case.signed_by, case.keyids = verified.signers, tuple(key.keyid for key in accepted)
    case.digests = tuple(
        bytes_digest(write_envelope(case.envelope[0], verified.payload, [signature]))
        for signature in sorted(verified.signatures, key=lambda signature: signature[0] not in case.keyids)
    )
    case.digest = case.digests[0]
    case.signers = tuple(key.name for key in accepted)
    named = ", ".join(f"{key.name} ({', '.join([key.keyid, *map(str, key.limits)])})" for key in accepted)
    named += "".join(f"; not counted: {reason}" for reason in refused)
    count = len(verified.others)
    more = f"; {count} more that no trusted key made, in the name of {_names(list(verified.others))}" if count else ""
    return f"by {named}{more}"


def _signed_on(payload: bytes) -> str | None:
    """When it was signed, by its own account: when the run finished."""
    try:
        return Statement.from_bytes(payload).manifest.finished_on
    except ProvenanceError:
        return None


def _statement(case: _Case) -> str:
    """3: an in-toto statement of a known schema, as a recorder writes it."""
    case.statement = Statement.from_bytes(case.payload)
    recorder = case.statement.manifest.ledger.key
    if recorder not in case.signed_by and case.trust.name_of(recorder):
        raise _Failure(f"the key {recorder}, which it names as its recorder's, did not sign it", "ask its author")
    run = case.statement.manifest.invocation_id
    # a folder may be renamed, so that its name is no failure; whose run it holds is said
    renamed = case.folder is not None and case.folder.resolve().name != run
    return f"{case.statement.schema}{f', of the run {run}' if renamed else ''}"


def _subjects(case: _Case) -> str:
    """4: subjects and artifacts agree, sorted, none twice, and no name leads out of the folder or into a repository."""
    listed = [(artifact.path, artifact.sha256) for artifact in case.artifacts]
    subjects = [(subject.name, subject.sha256) for subject in case.statement.subjects] if case.statement else []
    for kind, names in (("subject", [name for name, _ in subjects]), ("artifact", [name for name, _ in listed])):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise _Failure(f"the {kind} {_names(twice)} comes twice")
    outside = [name for name, _ in listed if not inside(name)]
    if outside:
        words = "leads out of the run folder, or into a repository"
        raise _Failure(f"{_names(outside)} {words}", "do not unpack or run anything of it")
    differ = sorted({name for name, _ in set(subjects) ^ set(listed)})
    if differ:
        raise _Failure(f"subjects and artifacts differ in {_names(differ)}")
    if not subjects == listed == sorted(listed):
        raise _Failure("subjects or artifacts are in another order than a recorder's", "ask its author")
    return f"{len(listed)} artifacts"


def _present(case: _Case) -> str:
    """5: every artifact is there as a regular file."""
    found = contents(case.run_dir)
    listed = {artifact.path for artifact in case.artifacts}
    unlisted = {name: identity for name, identity in found.files.items() if name not in listed}
    problems = []
    for artifact in case.artifacts:
        if artifact.path in found.others:
            problems.append(f"{artifact.path} is {found.others[artifact.path]} now")
        elif artifact.path not in found.files:
            twin = _twin(case, artifact, unlisted)
            problems.append(f"{artifact.path} is missing" + (f"; {twin} has its digest (renamed?)" if twin else ""))
    if problems:
        raise _Failure(_some(problems), "put the files back under their own names")
    return f"{len(listed)} files"


def _twin(case: _Case, artifact: Artifact, unlisted: dict[str, Identity]) -> str | None:
    """A file that was not listed and has the artifact's size and digest."""
    for name, (size, _, _) in sorted(unlisted.items()):
        if size == artifact.size and _digest(case, name) == _expected(artifact):
            return name
    return None


def _digests(case: _Case) -> str:
    """6: every artifact that is there has its size and digest."""
    files = contents(case.run_dir).files
    here = [artifact for artifact in case.artifacts if artifact.path in files]
    found: dict[str, FileDigest | None] = {artifact.path: _digest(case, artifact.path) for artifact in here}
    wrong = {artifact.path: artifact for artifact in here if found[artifact.path] != _expected(artifact)}
    case.changed = tuple(wrong)
    problems = []
    for name, artifact in wrong.items():
        other = next((twin for twin in wrong.values() if found[name] == _expected(twin)), None)
        if other is None:
            actual = found[name]
            size = f", {actual.size} bytes, expected {artifact.size}" if actual and actual.size != artifact.size else ""
            problems.append(f"{name} was changed{size}")
        elif found[other.path] != _expected(artifact):
            problems.append(f"{name} holds what {other.path} held")
        elif name < other.path:
            problems.append(f"{name} and {other.path} were swapped")
    if problems:
        raise _Failure(_some(problems), "get the original files again")
    return f"{len(here)} files, {sum(artifact.size for artifact in here)} bytes"


def _nothing_added(case: _Case) -> str:
    """7: nothing else is in the folder."""
    listed = {artifact.path for artifact in case.artifacts}
    found = contents(case.run_dir)
    added = [name for name in found.files if name not in listed]
    added += [f"{name} ({kind})" for name, kind in found.others.items() if name not in listed]
    noted = case.statement.manifest.byproduct(NOT_RECORDED) if case.statement else None
    known = [name for name in added if name.partition(" (")[0] in ((noted.annotations or {}) if noted else {})]
    if added and len(known) == len(added):
        raise _Failure(
            f"{_names(sorted(known))} could not be recorded, as the manifest says", "move it out of the run folder"
        )
    if added:
        raise _Failure(f"{_names(sorted(added))} was added after signing", "move it out of the run folder")
    if not os.path.lexists(case.run_dir / BUNDLES):
        return "no other file"
    return (
        f"{expect_bundles(case.run_dir / BUNDLES, case.payload)} by identities beside the manifest, and no other file"
    )


def _ledger(case: _Case) -> str:
    """8: the run began where the manifest says, this manifest is how it ended, and no later entry can be missing."""
    manifest = case.statement.manifest if case.statement else None
    if case.ledger is None or manifest is None:
        raise _Skip("no ledger was given")
    began, end = manifest.ledger, signed_end(manifest, case.digests, case.keyids, case.trust)
    ends: list[tuple[LedgerRun, LedgerSummary]] = []
    unrelated = "no ledger was given"
    for path, given in _ledgers(case.ledger, case):
        if not given.exists:
            raise _Skip(f"there is no ledger{f' at {path}' if path else ''}")
        if ends and end.run not in given.runs:
            continue  # a script keeps a list of its own in a folder of others' runs
        try:
            ends.append((given.end_of(end), given))
        except UnrelatedLedger as error:
            unrelated = error.message
        except LedgerError as error:
            raise _Failure(f"{path}: {error.message}" if path else error.message, error.cure) from None
    if not ends:
        raise _Skip(unrelated)
    found, given = ends[0]
    case.digest = found.manifest
    unsigned = " (unsigned: from before entries were signed)" if found.unsigned else ""
    more = f"; {found.ignored} more that no trusted key signed" if found.ignored else ""
    if manifest.invocation_id in given.others:
        more += "; another trusted key has entries of it, which do not count"
    return f"started at entry {began.sequence}, ended at entry {found.last}{unsigned}{more}"


def _ledgers(given: Ledger | LedgerSummary, case: _Case) -> Iterator[tuple[Path | None, LedgerSummary]]:
    """The ledger, with its path; after one that lies directly beside the run the one that its folder of runs has, which
    must not contradict it: any list may be put nearer to a run than its own.
    """
    if not isinstance(given, Ledger):
        yield None, given
        return
    beside = case.manifest_path.absolute().parent.parent
    above = replace(given, path=beside.parent / given.path.name)
    for ledger in (given, above) if given.path.absolute().parent == beside and above.path.is_file() else (given,):
        yield ledger.path, ledger.summary(case.trust.keys())


def signed_end(manifest: Manifest, digests: tuple[str, ...], keyids: tuple[str, ...], trust: TrustPolicy) -> SignedEnd:
    """What a verified manifest says of its run's start and end, to be compared with a ledger.

    Of an earlier release, which names no recorder's key, the first signature is taken for the recorder's.
    """
    recorders = manifest.ledger.recorders(keyids if manifest.ledger.key else keyids[:1])
    return SignedEnd(
        run=manifest.invocation_id,
        start=(manifest.ledger.sequence, manifest.ledger.digest),
        manifests=digests,
        outcome=manifest.outcome,
        parameters=bytes_digest(canonical_bytes(manifest.external_parameters)),
        keyids=tuple(sorted({each for keyid in recorders for each in trust.family(keyid)})),
    )


def _digest(case: _Case, name: str) -> FileDigest | None:
    """A file's digest; None for one that cannot be read, which then has not the digest that it should have."""
    try:
        return file_digest(case.run_dir / name, follow_symlinks=False, beneath=case.run_dir, limit=ARTIFACT_BYTES)
    except DigestError:
        return None


def _expected(artifact: Artifact) -> FileDigest:
    return FileDigest(artifact.size, artifact.sha256)


def _names(names: list[str]) -> str:
    return _some(names, ", ")


def _some(items: list[str], separator: str = "; ") -> str:
    more = len(items) - _SHOWN
    return separator.join(items[:_SHOWN]) + (f"{separator}and {more} more" if more > 0 else "")


_CHECKS: tuple[tuple[int, str, Callable[[_Case], str], tuple[int, ...]], ...] = (
    (1, "envelope", _envelope, ()),
    (2, "signature", _signature, (1,)),
    (3, "statement", _statement, (2,)),
    (4, "subjects", _subjects, (3,)),
    (5, "present", _present, (4,)),
    (6, "digests", _digests, (4,)),
    (7, "nothing added", _nothing_added, (4,)),
    (8, "ledger", _ledger, (3,)),
)

"""Who trained a run again, and what came of it: reviewers' signed verdicts beside verified runs.

    RUNS/verdicts/*.dsse.json ── verified ──> Attestation   on a run that is here
                                         ├──> elsewhere     on a run that is not: counted
                                         └──> Refused       path and reason

``ndrepro reproduce`` signs them. One counts when

1. a trusted key signed it,
2. it is a statement of the verdict's predicate, in full,
3. its first subject is, by digest, the manifest of a verified run that is here, and it names that run,
4. no repetition that it names is that run itself,
5. it does not say "identical" of a repetition that is here and has other results, nor "identical" or "close"
   where a claim failed.

What a reviewer says otherwise is believed as far as the key is trusted: the evidence is in the repetitions' manifests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from ndrepro.analysis.results.examine import Refused
from ndrepro.analysis.results.results import OtherRun, ResultRow, Results
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.verdicts import (
    CLOSE,
    FAILED,
    IDENTICAL,
    PREDICATE,
    PREDICATE_V1,
    SANDBOXES,
    STATEMENT,
    STATUSES,
    VERDICTS,
    ClaimCheck,
)
from ndrepro.text.plain_json import plain
from provenance.attestation.dsse import verify_envelope
from provenance.attestation.trust import TrustedKey, TrustPolicy
from provenance.errors import ManifestError, ProvenanceError, TrustError
from provenance.formats.bounded_read import read_bounded
from provenance.formats.canonical_json import parse
from provenance.formats.strict_json import Field

_MEMBERS = ("run", "verdict", "challenge", "epochs", "differences", "repeated")
# members that not every verdict has
_LATER = ("execution", "signedOn")
_ABOVE = 2  # runs/EXPERIMENT/RUN: verdicts are beside the first of these


_Run = TypeVar("_Run", bound=ResultRow | OtherRun)


@dataclass(frozen=True)
class Attestation(Generic[_Run]):
    """One signed verdict on ``run``. ``epochs`` are those that were trained again, empty for the whole run;
    ``repeated`` the identifiers of the runs that did; ``differences`` what of code and environment differed;
    ``keyids`` identify the signers' keys; ``signed_on`` is the time that the verdict states, if it does; ``sandbox``
    is what confined the recorded code, "" where the verdict does not say; ``by_another``: one of the signers is not
    among the run's, whichever keys they had."""

    path: Path
    run: _Run
    verdict: str
    signer: str
    epochs: tuple[int, ...]
    repeated: tuple[str, ...]
    differences: tuple[str, ...]
    claims: tuple[ClaimCheck, ...] = ()
    keyids: tuple[str, ...] = ()
    signed_on: str | None = None
    sandbox: str = ""
    by_another: bool = False

    def to_json(self) -> dict[str, Any]:
        """Verdict, run, signer and claims."""
        names = ("verdict", "signer", "by_another", "epochs", "repeated", "differences", "claims", "sandbox")
        return {"run": self.run.run_id, **{name: plain(getattr(self, name)) for name in names}}


AnyAttestation = Attestation[ResultRow] | Attestation[OtherRun]


@dataclass(frozen=True)
class Attestations:
    """Every verdict that was found: see the module. ``elsewhere`` counts those on runs that are not here.

    ``on_others`` are the verdicts on scripts and recorded programs.
    """

    held: tuple[Attestation[ResultRow], ...] = ()
    refused: tuple[Refused, ...] = ()
    elsewhere: int = 0
    on_others: tuple[Attestation[OtherRun], ...] = ()

    @property
    def every(self) -> tuple[AnyAttestation, ...]:
        """The verdicts on runs of any kind."""
        return *self.held, *self.on_others

    def of_run(self) -> dict[str, tuple[Attestation[ResultRow], ...]]:
        """The verdicts on each training run that has any, by its identifier."""
        found: dict[str, list[Attestation[ResultRow]]] = {}
        for item in self.held:
            found.setdefault(item.run.run_id, []).append(item)
        return {run: tuple(items) for run, items in found.items()}

    def to_json(self) -> dict[str, Any]:
        """The verdicts that hold, and those that are refused, with reasons."""
        return {
            "verdicts": [item.to_json() for item in self.held],
            "refused": [{"path": str(item.path), "reason": item.reason} for item in self.refused],
            "elsewhere": self.elsewhere,
        }


class _NotHeld(ProvenanceError):
    """A verdict does not count: the message says why."""


def read_attestations(scores: Results, policy: TrustPolicy) -> Attestations:
    """The verdicts that are beside the runs of ``scores``. Copies of one count once."""
    files = tuple(_files(scores.folders))
    held, refused, elsewhere = _read(files, scores.rows, policy)
    on_others: tuple[Attestation[OtherRun], ...] = ()
    if scores.others:
        on_others, others_refused, not_theirs = _read(files, scores.others, policy)
        refused, elsewhere = {**refused, **others_refused}, elsewhere & not_theirs
    return Attestations(held, tuple(refused.values()), len(elsewhere), on_others)


def _read(
    files: Iterable[Path], runs: Iterable[_Run], policy: TrustPolicy
) -> tuple[tuple[Attestation[_Run], ...], dict[Path, Refused], set[bytes]]:
    """The verdicts on ``runs``, those that do not count, and the payloads of those on other runs."""
    by_digest = {digest: run for run in runs for digest in run.manifest_digests}
    held: dict[bytes, Attestation[_Run]] = {}
    refused: dict[Path, Refused] = {}
    elsewhere: set[bytes] = set()
    for path in files:
        try:
            payload, signers = _verified(read_bounded(path, follow_symlinks=True), policy)
            found = _attestation(path, payload, signers, by_digest, policy)
        except OSError as error:
            refused[path] = Refused(path, f"cannot be read ({error.strerror})")
        except ProvenanceError as error:
            refused[path] = Refused(path, error.message)
        else:
            if found is None:
                elsewhere.add(payload)
            else:
                held.setdefault(payload, found)
    ordered = sorted(held.values(), key=lambda item: (item.run.started, item.run.run_id, item.path.name))
    return tuple(ordered), refused, elsewhere


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    """Every verdict's file beside some folders of runs, or beside the runs that they are in."""
    seen: set[Path] = set()
    for folder in (folder.absolute() for folder in folders):
        for place in (folder, *folder.parents[:_ABOVE]):
            verdicts = RunsFolder(place).verdicts
            if verdicts.is_dir() and (place == folder or RunsFolder(place).ledger.is_file()) and verdicts not in seen:
                seen.add(verdicts)
                yield from sorted(verdicts.glob("*.dsse.json"))


def _verified(data: bytes, policy: TrustPolicy) -> tuple[bytes, tuple[TrustedKey, ...]]:
    """The payload of a verdict's envelope, and the trusted keys whose signatures count. Raises ProvenanceError."""
    verified = verify_envelope(data, policy.keys())
    accepted, refused = policy.accepted(verified.signers, lambda: _signed_on(verified.payload))
    if not accepted:
        raise TrustError("; ".join(refused))
    return verified.payload, accepted


def _attestation(
    path: Path, payload: bytes, signers: Sequence[TrustedKey], by_digest: Mapping[str, _Run], policy: TrustPolicy
) -> Attestation[_Run] | None:
    """What is attested; None where it is of a run that is not here. Raises ProvenanceError for what does not count."""
    top = Field(parse(payload), "$", ManifestError).members(("_type", "subject", "predicateType", "predicate"))
    top["_type"].one_of((STATEMENT,))
    first_version = top["predicateType"].one_of((PREDICATE, PREDICATE_V1)) == PREDICATE_V1
    digests = [_digest(item) for item in top["subject"].items()]
    said = top["predicate"].members(_MEMBERS if first_version else (*_MEMBERS, "claims"), _LATER)
    verdict = said["verdict"].one_of(VERDICTS)
    epochs = tuple(item.integer(minimum=1) for item in said["epochs"].items())
    differences = tuple(item.text() for item in said["differences"].items())
    repeated = tuple(item.member("run").text() for item in said["repeated"].items())
    if len(digests) != 1 + len(repeated) or not repeated:
        raise _NotHeld(f"{len(digests)} subjects for a run and {len(repeated)} repetitions")
    run = by_digest.get(digests[0])
    if run is None:
        return None
    if said["run"].text() != run.run_id:
        raise _NotHeld(f"it names the run {said['run'].value}, and its first subject is the manifest of {run.run_id}")
    if digests[0] in digests[1:]:
        raise _NotHeld("the run is named as its own repetition")
    claims = () if first_version else _claims(said)
    failed = next((item.name for item in claims if item.status == FAILED), None)
    if verdict in (IDENTICAL, CLOSE) and failed:
        raise _NotHeld(f"it says {verdict}, and that a claim failed: {failed}")
    if verdict == IDENTICAL and not epochs:
        _same_results(run, [by_digest[digest] for digest in digests[1:] if digest in by_digest])
    names, keyids = zip(*((key.name, key.keyid) for key in signers), strict=True)
    # who rotated a key is one holder still
    trusted = policy.keys()
    own = {policy.holder(key.keyid) for key in trusted if key.name in (run.signer, *run.signer.split(", "))}
    by_another = not {policy.holder(keyid) for keyid in keyids} <= own
    stated = keyids, _signed_on(payload), _sandbox(said), by_another
    signer = ", ".join(names)
    return Attestation(path, run, verdict, signer, epochs, repeated, differences, claims, *stated)


def _claims(said: Mapping[str, Field]) -> tuple[ClaimCheck, ...]:
    """The claims of the whole run and then those of every repetition. Raises ManifestError for one of another form."""
    parts = [said["claims"], *(item.member("claims") for item in said["repeated"].items())]
    members = [item.members(("name", "status", "evidence")) for part in parts for item in part.items()]
    return tuple(
        ClaimCheck(item["name"].text(), item["status"].one_of(STATUSES), item["evidence"].text()) for item in members
    )


def _signed_on(payload: bytes) -> str | None:
    """When a verdict was signed, by its own account; None where it does not say."""
    try:
        predicate = Field(parse(payload)["predicate"]["signedOn"], "$.predicate.signedOn", ManifestError)
        return predicate.time()
    except (ProvenanceError, LookupError, TypeError):
        return None


def _sandbox(said: Mapping[str, Field]) -> str:
    """The sandbox that a verdict names; "" where it is from before there were sandboxes."""
    return said["execution"].member("sandbox").one_of(SANDBOXES) if "execution" in said else ""


def _same_results(run: ResultRow | OtherRun, repeats: Sequence[ResultRow | OtherRun]) -> None:
    if not isinstance(run, ResultRow):
        return
    for row in repeats:
        if not isinstance(row, ResultRow):
            raise _NotHeld(f"it says identical, and {row.run_id} is the run of a {row.kind}")
        if results_of(row) != results_of(run):
            raise _NotHeld(f"it says identical, and the results of {row.run_id} are others than those of {run.run_id}")


def results_of(run: ResultRow) -> tuple[str, ...]:
    """The four results of a run to the last bit; NaN is a result too."""
    return tuple(map(repr, (run.train_accuracy_percent, run.test_accuracy_percent, run.train_loss, run.test_loss)))


def _digest(subject: Field) -> str:
    members = subject.members(("name", "digest"))
    return members["digest"].members(("sha256",))["sha256"].sha256()

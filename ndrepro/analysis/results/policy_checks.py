"""Does a verified run satisfy a policy? Further numbered checks after those of ``verify``, each with what was found.

    author signatures     as many different authors signed the manifest as the policy requires
    reviewer signatures   as many different reviewers signed it too, where the policy requires any
    verdicts              as many different reviewers signed verdicts that count, where it requires any

Different signers have different names in the policy, and are different holders: keys that were rotated to each other
are one holder's, whatever names the policy gives them. Whoever counts as an author of a run, or recorded it, counts as
no reviewer of it; of a manifest that does not name one of its signers as its recorder, nobody who signed it.
The time of a key's signature is the signed document's own statement, so a policy's dates bind honest signers, and a
thief to the dates that it allows; that of an identity's signature is the log's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from glob import escape
from pathlib import Path

from ndrepro.analysis.results.results import read_results
from ndrepro.analysis.results.reviewer_verdicts import AnyAttestation, read_attestations
from ndrepro.protocol.experiment.own import is_own_network
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.run_kind import TRAINING, run_kind
from ndrepro.protocol.signing_policy import AUTHOR, NEVER, REVIEWER, KeylessIdentity, RequiredVerdicts, SigningPolicy
from ndrepro.protocol.training_record import TrainingRecord
from ndrepro.protocol.verdicts import NO_SANDBOX
from provenance.attestation.key_statements import moment
from provenance.attestation.manifest import Manifest
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verdict import Check, Verdict
from provenance.errors import ProvenanceError
from provenance.keyless.bundle_checks import KeylessSignature
from provenance.toml_file import read_toml

_UNCONFINED = ("", NO_SANDBOX)


def load_policy(path: Path) -> SigningPolicy:
    """Read a policy's file. Raises UsageError for what is wrong in it, NotFoundError or StorageError for no file."""
    return SigningPolicy.from_document(read_toml(path, "docs/how-to/keys.md has an example", pipes=True), str(path))


def with_policy(
    verdict: Verdict,
    policy: SigningPolicy,
    trust: TrustPolicy,
    folder: RunFolder | None,
    keyless: Sequence[KeylessSignature] = (),
) -> Verdict:
    """The verdict with the policy's checks, which can only make it worse.

    ``folder`` is the run's; of a manifest alone no verdict is found. ``keyless`` are the signatures by identities that
    hold.
    """
    checks = [*verdict.checks]
    names = [f"{role} signatures" for role in policy.signatures] + ["verdicts"] * bool(policy.verdicts)
    try:
        if verdict.manifest is None:
            raise _Unmet("the manifest does not verify")
        ended = moment(verdict.manifest.finished_on)
        signed: list[_Signed] = [(keyid, ended) for keyid in verdict.keyids]
        signed += [((each.identity, each.issuer), each.signed_on) for each in keyless]
        recorders = verdict.manifest.ledger.recorders(verdict.keyids)
        case = _Case(policy, trust, _name(verdict.manifest), tuple(signed), recorders)
        found = [*_signatures(case), *_verdicts(case, verdict, folder)]
    except ProvenanceError as error:
        found = [(name, _Unmet(error.message, error.cure)) for name in names]
    for name, result in found:
        number, name = len(checks) + 1, f"policy, {name}"
        if isinstance(result, str):
            checks.append(Check(number, name, "pass", result))
        else:
            checks.append(Check(number, name, "fail", result.message, result.cure))
    return replace(verdict, checks=tuple(checks), ok=verdict.ok and all(check.status != "fail" for check in checks))


def _name(manifest: Manifest) -> str:
    """What a policy's ``experiments`` are compared with: the experiment, or with its kind in front a name that an
    author chose: "script:NAME", "program:NAME", or "network:MODULE.CALLABLE_…" of an experiment with an own network.
    """
    kind = run_kind(manifest)
    if kind == TRAINING:
        experiment = TrainingRecord.of(manifest).experiment
        return f"network:{experiment.name}" if is_own_network(experiment.arch) else experiment.name
    return f"{kind}:{manifest.external_parameters.get('name')}"


class _Unmet(ProvenanceError):
    """What the policy requires and is not there."""


_Found = tuple[str, str | _Unmet]
_Signed = tuple[str | KeylessIdentity, datetime | None]


@dataclass(frozen=True)
class _Case:
    """A policy, the trust, the experiment that was signed, by which keys and identities when, and which of these keys
    may be the recorder's.
    """

    policy: SigningPolicy
    trust: TrustPolicy
    experiment: str
    signed: tuple[_Signed, ...]
    recorders: tuple[str, ...]

    def makers(self) -> dict[str, str]:
        """Who counts as an author, or recorded the run, as whatever the policy has him: names by holder."""
        found = self.holders(AUTHOR, self.signed)[0]
        for keyid in self.recorders:
            signer = self.policy.signer(self.trust.introducers(keyid))
            found.setdefault(self.trust.holder(keyid), signer.name if signer else "")
        return found

    def holders(self, role: str, signed: Iterable[_Signed]) -> tuple[dict[str, str], list[str]]:
        """Who of these counts in a role: names by holder; and why the others do not."""
        counted: dict[str, str] = {}
        reasons = []
        for credential, when in signed:
            if isinstance(credential, str):
                holder, what = self.trust.holder(credential), f"the key {credential}"
                keys = self.trust.introducers(credential)[: 1 if self.policy.signer([credential]) else None]
            else:
                holder, what, keys = " ".join(credential), f"the identity {credential[0]}", ()
            signer = self.policy.signer(keys or [credential])
            if signer is None:
                reasons.append(f"the policy names no signer with {what}")
            elif self.policy.revoked == NEVER and self.trust.revoked(keys):
                reasons.append(f"{signer.name}'s key is revoked")
            elif objection := signer.objection(role, self.experiment, when):
                reasons.append(objection)
            else:
                counted.setdefault(holder, signer.name)
        return counted, reasons


def _signatures(case: _Case) -> Iterator[_Found]:
    authors, why = case.holders(AUTHOR, case.signed)
    yield f"{AUTHOR} signatures", _enough(authors, case.policy.signatures[AUTHOR], why, "signed by")
    if REVIEWER in case.policy.signatures:
        reviewers, why = case.holders(REVIEWER, case.signed)
        reviewers, why = _without(case.makers(), reviewers, why)
        found = _enough(reviewers, case.policy.signatures[REVIEWER], why, "signed by")
        yield f"{REVIEWER} signatures", found


def _verdicts(case: _Case, verdict: Verdict, folder: RunFolder | None) -> Iterator[_Found]:
    required = case.policy.verdicts
    if required is None or verdict.manifest is None:
        return
    reasons: list[str] = []
    signed: list[_Signed] = []
    for item in _attestations(folder, verdict.digests, case.trust):
        objection = _objection(item, required)
        reasons += [objection] if objection else []
        when = moment(item.signed_on) if item.signed_on else None
        signed += [] if objection else [(keyid, when) for keyid in item.keyids]
    reviewers, why = case.holders(REVIEWER, signed)
    reviewers, why = _without(case.makers(), reviewers, [*reasons, *why])
    beside = (
        ""
        if folder is None
        else f"; verdicts are looked for in {RunsFolder(folder.root.absolute().parents[1]).verdicts}"
    )
    yield "verdicts", _enough(reviewers, required.at_least, why, "repeated by", beside)


def _attestations(
    folder: RunFolder | None, manifests: Collection[str], trust: TrustPolicy
) -> tuple[AnyAttestation, ...]:
    """The verdicts on a run beside it, compared with those repetitions that are beside it too.

    The run is known by the digest of its manifest: its author may give another one the same identifier.
    """
    if folder is None:
        return ()
    root = folder.root.absolute()
    alone = read_attestations(read_results(root, policy=trust), trust)
    names = sorted({name for item in alone.every for name in item.repeated})
    beside = [place for name in names for place in root.parent.glob(f"{escape(Path(name).name)}/")]
    known = read_results([root, *beside], policy=trust)
    found = read_attestations(known, trust) if beside else alone
    return tuple(item for item in found.every if not {*manifests}.isdisjoint(item.run.manifest_digests))


def _objection(item: AnyAttestation, required: RequiredVerdicts) -> str:
    where = f"{item.signer}'s verdict ({item.path.name})"
    if item.verdict not in required.accept:
        return f"{where} is {item.verdict}"
    if item.epochs and not required.spot_checks:
        return f"{where} is of epochs {', '.join(map(str, item.epochs))} alone"
    if required.sandboxed and item.sandbox in _UNCONFINED:
        return f"{where} was made without a sandbox"
    return ""


def _without(
    makers: Mapping[str, str], reviewers: Mapping[str, str], why: list[str]
) -> tuple[dict[str, str], list[str]]:
    own = {holder: name for holder, name in reviewers.items() if holder in makers or name in makers.values()}
    others = {holder: name for holder, name in reviewers.items() if holder not in own}
    return others, [*why, *(f"{name} is an author of this run, or recorded it" for name in own.values())]


def _enough(counted: Mapping[str, str], wanted: int, why: Iterable[str], how: str, more: str = "") -> str | _Unmet:
    people = sorted(set(counted.values()))
    said = f"{how} {', '.join(people) or 'nobody who counts'}; {len(people)} of {wanted} required"
    if len(people) >= wanted:
        return said
    reasons = "; ".join(dict.fromkeys(why))
    return _Unmet(f"{said}{f' ({reasons})' if reasons else ''}", f"see who may sign what in the policy's file{more}")

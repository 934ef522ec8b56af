"""Signatures by identities: what one proves, and what is put in its place, with a small Sigstore instance."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from sigstore_instance import ADA, ISSUER, SigstoreInstance, b64, new_key
from small_runs import MOMENT, SmallRun

from ndrepro import api
from ndrepro.protocol.errors import MissingExtra, UsageError
from provenance.attestation.dsse import read_envelope
from provenance.attestation.run_files import MOST_BUNDLES
from provenance.attestation.verdict import Check, Verdict
from provenance.errors import DigestError, NotFoundError, TrustError
from provenance.keyless.bundle_checks import with_bundles
from provenance.keyless.identities import Identity, add_identity, load_identities

Document = dict[str, Any]
IDENTITY = Identity(ADA, ISSUER, "Ada")
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def instance() -> SigstoreInstance:
    return SigstoreInstance()


@pytest.fixture(scope="module")
def root(instance: SigstoreInstance, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return instance.write_root(tmp_path_factory.mktemp("root") / "trusted_root.json")


def payload_of(run: SmallRun) -> bytes:
    return read_envelope(run.manifest.read_bytes())[1]


def keep(run: SmallRun, *bundles: Document | bytes) -> Path:
    """Put bundles beside a run's manifest."""
    lines = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in bundles]
    path = run.folder / "manifest.sigstore.jsonl"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def checked(run: SmallRun, root: Path | None, *identities: Identity) -> tuple[Verdict, Check]:
    identities = identities or (IDENTITY,)
    verdict, signatures = with_bundles(run.verify(), run.folder, identities, root, required=root is not None)
    check = verdict.checks[-1]
    assert verdict.ok == all(each.status != "fail" for each in verdict.checks), "it can make a run fail, and never pass"
    assert len(signatures) == sum(each.status == "pass" for each in verdict.checks[8:])
    return verdict, check


def test_who_signed_and_when_is_shown(signed_run: SmallRun, instance: SigstoreInstance, root: Path) -> None:
    keep(signed_run, instance.bundle(payload_of(signed_run)))
    verdict, check = checked(signed_run, root)
    assert (check.number, check.name, check.status, verdict.ok) == (9, "sigstore", "pass", True)
    assert f"by {ADA} (issuer {ISSUER}), known as Ada, on {instance.now:%Y-%m-%dT%H:%M:%S}" in check.message
    assert "of the log says" in check.message
    # a countersignature by a key changes the file of the manifest, and not what is signed
    workflow = "https://example.org/a/b/.github/workflows/c.yml@refs/heads/main"
    keep(signed_run, instance.bundle(payload_of(signed_run)), instance.bundle(payload_of(signed_run), workflow))
    verdict, check = checked(signed_run, root, IDENTITY, Identity(workflow, ISSUER, "CI"))
    assert (
        verdict.ok and check.number == 10 and check.message.startswith(f"by {workflow} (issuer {ISSUER}), known as CI")
    )


def _set(bundle: Document, value: Any, *keys: str | int) -> Document:
    """The bundle with one member changed; None removes it."""
    changed: Document = json.loads(json.dumps(bundle))
    place: Any = changed
    for key in keys[:-1]:
        place = place[key]
    if value is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return changed


ENTRY = ("verificationMaterial", "tlogEntries", 0)
# no signatures on this manifest by their form, which anybody can see: no command takes such a run
OF_NO_FORM = {
    *("of another run", "of another statement about the same files", "with a changed payload", "cut off", "no bundle"),
    *("of the same statement, spelled in another way", "of another type of payload", "over the bytes of a file"),
    *("empty", "60,000 brackets"),
}


@pytest.mark.parametrize("whose", ["tlogs", "ctlogs", "certificateAuthorities"])
def test_a_key_that_the_root_calls_retired_signs_no_more(
    signed_run: SmallRun, instance: SigstoreInstance, tmp_path: Path, whose: str
) -> None:
    """Who stole it signs in anybody's name from then on; before, the end of its validity was not looked at."""
    keep(signed_run, instance.bundle(payload_of(signed_run)))
    document = instance.trusted_root()
    (entry,) = document[whose]
    validity = entry.get("publicKey", entry)["validFor"] = dict(entry.get("publicKey", entry)["validFor"])
    path = tmp_path / "root.json"
    for hours, status in ((1, "pass"), (-1, "fail")):
        validity["end"] = f"{instance.now + hours * HOUR:%Y-%m-%dT%H:%M:%SZ}"
        path.write_text(json.dumps(document))
        _, check = checked(signed_run, path)
        assert check.status == status, check.message
    assert "was not valid on" in check.message


def test_what_is_put_in_its_place_is_refused(
    small_run: Callable[..., SmallRun], instance: SigstoreInstance, root: Path
) -> None:
    run, other = small_run("run"), small_run("other")
    run.record(), other.record()
    own = payload_of(run)
    genuine, another = instance.bundle(own), instance.bundle(own)
    entry, envelope = genuine["verificationMaterial"]["tlogEntries"][0], genuine["dsseEnvelope"]
    statement = json.loads(own)
    same_subjects = json.dumps({**statement, "predicate": {}}).encode()
    flipped = bytearray(own)
    flipped[100] ^= 1
    hashed = b64(b"\1" * 32)
    later = str(int(entry["integratedTime"]) + 1)
    rewritten = json.dumps(json.loads(own), indent=1).encode()
    stranger = SigstoreInstance()
    attempts: dict[str, tuple[Document | bytes, str]] = {
        "of another run": (instance.bundle(payload_of(other)), "other content"),
        "of another statement about the same files": (instance.bundle(same_subjects), "other content"),
        "of the same statement, spelled in another way": (instance.bundle(rewritten), "other content"),
        "of another type of payload": (instance.bundle(own, payload_type="text/plain"), "type text/plain"),
        "by another identity": (
            instance.bundle(own, "eve@example.org"),
            f"by eve@example.org (issuer {ISSUER}), which is",
        ),
        "in the same name by another issuer": (instance.bundle(own, issuer="https://evil.example"), "no trusted"),
        "in a name that contains it": (instance.bundle(own, f"x{ADA}"), "no trusted"),
        "in a name of capital letters": (instance.bundle(own, ADA.upper()), "no trusted"),
        "by an issuer with a letter that looks the same": (
            instance.bundle(own, issuer=ISSUER.replace("a", "\u0430")),
            r"(issuer 'https://\u0430ccounts.ex\u0430mple.org')",
        ),
        "by another instance": (stranger.bundle(own), "no authority of the trusted root"),
        "logged by another log alone": (instance.bundle(own, log_key=new_key()), "invalid log entry"),
        "certified without a log": (instance.bundle(own, logged=False), "failed to verify SCT"),
        "certified by the promise of another log": (instance.bundle(own, logged_by=new_key()), "verify SCT"),
        "by a certificate of a server": (
            instance.bundle(own, usage=ExtendedKeyUsageOID.SERVER_AUTH),
            "does not contain `code signing`",
        ),
        "by a certificate that was expired": (instance.bundle(own, when=instance.now + HOUR), "not valid then"),
        "by a certificate of the future": (instance.bundle(own, start=instance.now + HOUR), "not valid then"),
        "without a time of the log": (_set(genuine, None, *ENTRY, "integratedTime"), "verified time"),
        "without the promise of its time": (_set(genuine, None, *ENTRY, "inclusionPromise"), "inclusion promise"),
        "with another time": (_set(genuine, later, *ENTRY, "integratedTime"), "invalid inclusion promise"),
        "without a proof": (_set(genuine, None, *ENTRY, "inclusionProof"), "does not verify"),
        "with a proof of another tree": (
            _set(genuine, hashed, *ENTRY, "inclusionProof", "rootHash"),
            "invalid root hash",
        ),
        "with a changed path in the tree": (
            _set(genuine, [hashed] * 2, *ENTRY, "inclusionProof", "hashes"),
            "inclusion proof",
        ),
        "with the entry of another signature": (
            _set(genuine, another["verificationMaterial"]["tlogEntries"][0], *ENTRY),
            "log entry signatures do not match",
        ),
        "with the certificate of another signature": (
            _set(genuine, another["verificationMaterial"]["certificate"], "verificationMaterial", "certificate"),
            "invalid signature",
        ),
        "without an entry": (_set(genuine, [], "verificationMaterial", "tlogEntries"), "exactly one log entry"),
        "with two entries": (
            _set(genuine, [entry] * 2, "verificationMaterial", "tlogEntries"),
            "exactly one log entry",
        ),
        "with two signatures": (
            _set(
                genuine, [*envelope["signatures"], *another["dsseEnvelope"]["signatures"]], "dsseEnvelope", "signatures"
            ),
            "exactly one signature",
        ),
        "with the same signature twice": (
            _set(genuine, envelope["signatures"] * 2, "dsseEnvelope", "signatures"),
            "exactly one signature",
        ),
        "with a changed signature": (
            _set(genuine, another["dsseEnvelope"]["signatures"], "dsseEnvelope", "signatures"),
            "invalid signature",
        ),
        "with a changed payload": (_set(genuine, b64(bytes(flipped)), "dsseEnvelope", "payload"), "invalid signature"),
        "over the bytes of a file": (
            _set(_set(genuine, None, "dsseEnvelope"), {"signature": b64(b"x")}, "messageSignature"),
            "does not verify",
        ),
        "cut off": (json.dumps(genuine).encode()[:-9], "does not verify"),
        "no bundle": (b"signed", "does not verify"),
        "empty": (b"", "does not verify"),
        "60,000 brackets": (b"[" * 60_000, "does not verify"),
    }
    for what, (bundle, message) in attempts.items():
        keep(run, bundle)
        _, check = checked(run, root)
        assert check.status == "fail" and message in check.message, (what, check.message)
        assert check.message.isprintable()
        keep(run, genuine, bundle)  # beside one that counts
        verdict, check = checked(run, root)
        assert [each.status for each in verdict.checks[8:]] == ["pass", "skip"] and "not counted" in check.message, what
        assert verdict.ok == (what not in OF_NO_FORM), what
    keep(run, genuine)
    assert checked(run, root)[1].status == "pass", "the control"
    print(f"\n{len(attempts)} bundles in another's place: none passes")


def test_every_byte_of_a_bundle_that_matters_is_covered(
    signed_run: SmallRun, instance: SigstoreInstance, root: Path
) -> None:
    """Any part of its binary members that is changed is refused, or what was verified is the same."""
    genuine = instance.bundle(payload_of(signed_run))
    entry = genuine["verificationMaterial"]["tlogEntries"][0]
    places = [("dsseEnvelope", "payload"), ("dsseEnvelope", "signatures", 0, "sig"), (*ENTRY, "canonicalizedBody")]
    places += [("verificationMaterial", "certificate", "rawBytes"), (*ENTRY, "logId", "keyId")]
    places += [(*ENTRY, "inclusionPromise", "signedEntryTimestamp"), (*ENTRY, "inclusionProof", "rootHash")]
    places += [(*ENTRY, "inclusionProof", "hashes", number) for number in range(len(entry["inclusionProof"]["hashes"]))]
    passed = []
    for place in places:
        value: Any = genuine
        for key in place:
            value = value[key]
        data = base64.b64decode(value)
        for at in range(0, len(data), max(1, len(data) // 12)):
            damaged = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
            keep(signed_run, _set(genuine, b64(damaged), *place))
            if checked(signed_run, root)[1].status != "fail":
                passed.append((place[-1], at))
    assert passed == []
    keep(signed_run, genuine)
    assert checked(signed_run, root)[0].ok, "the control"


def test_a_bundle_of_before_the_run_s_end_is_refused(
    small_run: Callable[..., SmallRun], instance: SigstoreInstance, root: Path
) -> None:
    run = small_run("later")
    run.record(finished="2999-01-01T00:00:00.000000Z", started="2999-01-01T00:00:00.000000Z")
    keep(run, instance.bundle(payload_of(run)))
    assert "before the run ended" in checked(run, root)[1].message


def test_files_that_are_none_are_refused(signed_run: SmallRun, instance: SigstoreInstance, root: Path) -> None:
    genuine = instance.bundle(payload_of(signed_run))
    path = keep(signed_run, *[genuine] * (MOST_BUNDLES + 1))
    assert "expected at most 32" in checked(signed_run, root)[1].message
    path.unlink()
    assert "cannot be read (No such file" in checked(signed_run, root)[1].message, (
        "a root was named, and nothing is there"
    )
    assert with_bundles(signed_run.verify(), signed_run.folder, (IDENTITY,))[0].ok, "none is expected otherwise"
    elsewhere = signed_run.folder.parent / "elsewhere"
    elsewhere.write_text(json.dumps(genuine))
    path.symlink_to(elsewhere)
    assert not checked(signed_run, root)[0].ok and "a symbolic link" in str(signed_run.verify().failure)
    path.unlink()
    os.mkfifo(path)
    assert not checked(signed_run, root)[0].ok
    path.unlink()
    path.mkdir()
    (path / "more").touch()
    assert "more" in str(signed_run.verify().failure)
    below = signed_run.folder / "checkpoints" / path.name
    (path / "more").unlink(), path.rmdir(), below.write_text(json.dumps(genuine))
    assert "nothing added" in str(signed_run.verify().failure), "the name is known beside the manifest alone"


def test_no_trusted_root_comes_with_a_run(signed_run: SmallRun, instance: SigstoreInstance, root: Path) -> None:
    """An author who brings an own instance, with its root in the run's folder or under another name."""
    keep(signed_run, instance.bundle(payload_of(signed_run)))
    _, check = checked(signed_run, None)
    assert check.status == "skip" and "no authority of the trusted root" in check.message, "the public root by default"
    inside = instance.write_root(signed_run.folder / "trusted_root.json")
    link = signed_run.folder.parent / "root.json"
    link.symlink_to(inside)
    for named in (inside, link, signed_run.folder / "checkpoints" / ".." / inside.name):
        with pytest.raises(UsageError, match="came with the run"):
            checked(signed_run, named)
    inside.unlink(), link.unlink()
    empty = signed_run.folder.parent / "empty.json"
    for content in ("", "{}", json.dumps({**instance.trusted_root(), "tlogs": []}), signed_run.manifest.read_text()):
        empty.write_text(content)
        with pytest.raises(TrustError, match=r"no trusted root of a Sigstore instance"):
            checked(signed_run, empty)
    with pytest.raises(NotFoundError, match="no such file"):
        checked(signed_run, empty.with_name("none"))
    assert checked(signed_run, root)[0].ok, "the control"


def test_a_run_cannot_bring_signatures_before_it_is_signed(small_run: Callable[..., SmallRun]) -> None:
    run = small_run()
    recorder = run.open()
    keep(run, b"planted by the program")
    with pytest.raises(DigestError, match="signatures on a manifest that is not written yet"):
        run.close(recorder)
    manifest = run.verify(manifest_only=True).manifest
    assert manifest is not None and manifest.outcome == "failed"


def test_signatures_of_an_earlier_attempt_go_aside_with_its_manifest(
    small_run: Callable[..., SmallRun], instance: SigstoreInstance, root: Path
) -> None:
    run = small_run()
    run.record(outcome="failed", exit_code=1)
    keep(run, instance.bundle(payload_of(run)))
    assert checked(run, root)[0].ok
    run.record()
    assert (run.folder / "attempts" / "1" / "manifest.sigstore.jsonl").is_file()
    assert run.verify().ok and not (run.folder / "manifest.sigstore.jsonl").exists()


def test_without_the_library_nothing_passes_silently(
    signed_run: SmallRun, instance: SigstoreInstance, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(signed_run, instance.bundle(payload_of(signed_run)))
    monkeypatch.setitem(sys.modules, "sigstore", None)
    monkeypatch.setenv("NDREPRO_HOME", str(signed_run.home))
    check = api.verify(signed_run.folder).checks[-1]
    assert (check.name, check.status) == ("sigstore", "skip")
    assert check.message == "manifest.sigstore.jsonl was not checked: pip install 'ndrepro[sigstore]'"
    policy = signed_run.home.parent / "policy.toml"
    policy.write_text(
        f'[signers.ada]\nidentities = [{{ identity = "{ADA}", issuer = "{ISSUER}" }}]\nroles = ["author"]\n'
    )
    for asked in ({"sigstore_root": root}, {"policy": policy}):
        with pytest.raises(MissingExtra, match=r"extra \[sigstore\]"):
            api.verify(signed_run.folder, **asked)


def test_a_policy_counts_identities_and_compares_its_dates_with_the_log(
    signed_run: SmallRun, instance: SigstoreInstance, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Author and reviewer: a key and an identity, two identities, the same person by both."""
    monkeypatch.setenv("NDREPRO_HOME", str(signed_run.home))
    payload, file = payload_of(signed_run), signed_run.home.parent / "policy.toml"
    keyid = signed_run.verify().keyids[0]
    rita = "rita@example.org"
    keep(signed_run, instance.bundle(payload, rita))
    today, tomorrow = (f"{instance.now + timedelta(days=days):%Y-%m-%d}" for days in (0, 1))

    def judged(signers: str, wanted: str = "reviewer = 1") -> str:
        file.write_text(f"{signers}\n[signatures]\n{wanted}\n")
        verdict = api.verify(signed_run.folder, sigstore_root=root, policy=file)
        return "ok" if verdict.ok else "; ".join(each.message for each in verdict.checks if each.status == "fail")

    def signer(name: str, role: str, *credentials: str) -> str:
        return "\n".join((f"[signers.{name}]", f'roles = ["{role}"]', *credentials, ""))

    key, by_rita = f'keys = ["{keyid}"]', f'identities = [{{ identity = "{rita}", issuer = "{ISSUER}" }}]'
    ada = signer("ada", "author", key)
    assert judged(ada + signer("rita", "reviewer", by_rita)) == "ok"
    assert today > MOMENT, "the run states a day of its own"
    assert judged(ada + signer("rita", "reviewer", by_rita, f"from = {today}", f"until = {tomorrow}")) == "ok"
    assert "expected before" in judged(ada + signer("rita", "reviewer", by_rita, f"until = {today}"))
    assert "rita is no reviewer" in judged(
        ada + signer("rita", "author", by_rita) + signer("r", "reviewer", 'keys=["' + "a" * 64 + '"]')
    )
    of_another = by_rita.replace(ISSUER, "https://evil.example")
    assert "no trusted identity" in judged(ada + signer("rita", "reviewer", of_another))
    # one person by a key and by an identity is one
    both = '[signers.ada]\nroles = ["author", "reviewer"]\n' + f"{key}\n{by_rita}\n"
    assert "ada is an author of this run" in judged(both)
    others = signer("ron", "author", 'keys = ["' + "b" * 64 + '"]')
    assert "signed by ada; 1 of 2 required" in judged(both + others, "author = 2")
    assert judged(ada + signer("rita", "author", by_rita), "author = 2") == "ok", "the control"


def test_identities_are_kept_strictly(tmp_path: Path) -> None:
    home = tmp_path / "home"
    added = add_identity(home, ADA, ISSUER, "Ada")
    assert load_identities(home) == (added,) and str(added) == f"{ADA} (issuer {ISSUER})"
    for words in (
        (ADA, ISSUER, "Again"),
        (ADA, "accounts.example.org", "x"),
        ("", ISSUER, "x"),
        ("e\x1b", ISSUER, "x"),
    ):
        with pytest.raises(UsageError):
            add_identity(home, *words)
    file = home / "identities.json"
    genuine = file.read_text()
    for content in ("{}", genuine.replace(":v1", ":v9"), genuine.replace('"issuer"', '"isuer"'), "[" * 60_000):
        file.write_text(content)
        with pytest.raises(TrustError, match=r"identities\.json"):
            load_identities(home)
    file.write_text(genuine)
    file.chmod(0o666)
    with pytest.raises(TrustError, match="others may change"):
        load_identities(home)

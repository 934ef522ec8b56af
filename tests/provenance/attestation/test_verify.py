"""One attack a test, each on a run that verifies untouched; the check that must find it, and what it must say."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from provenance.attestation.dsse import read_envelope, sign_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Artifact, Manifest
from provenance.attestation.statement import Statement, Subject
from provenance.attestation.trust import TrustedKey, TrustPolicy
from provenance.attestation.verdict import Check, Verdict
from provenance.errors import TrailError
from provenance.formats.canonical_json import canonical_bytes, parse
from provenance.formats.digest import bytes_digest
from provenance.ledger_entries.entry import EntryLine
from provenance.signatures.public_key import PublicKey

GOLDEN = Path(__file__).parent / "golden"
NAMES = ["envelope", "signature", "statement", "subjects", "present", "digests", "nothing added", "ledger"]
Run = Any


def failed(verdict: Verdict, *numbers: int) -> str:
    """The message of the first failing check; exactly these checks fail, and so does the whole."""
    assert [check.number for check in verdict.checks if check.status == "fail"] == list(numbers)
    assert not verdict.ok
    return verdict.checks[numbers[0] - 1].message


def skipped(verdict: Verdict) -> list[int]:
    return [check.number for check in verdict.checks if check.status == "skip"]


def edit_envelope(run: Run, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the envelope and write it as the recorder would."""
    document = parse(run.manifest.read_bytes())
    change(document)
    run.manifest.write_bytes(canonical_bytes(document) + b"\n")


def resign(run: Run, change: Callable[[Statement], Statement], home: Path | None = None) -> None:
    """Another statement signed with the run's own key (or another): what the signer could do, and no one else."""
    statement = Statement.from_bytes(read_envelope(run.manifest.read_bytes())[1])
    envelope = sign_envelope(change(statement).to_bytes(), KeyRing(home or run.home).signer())
    run.manifest.write_bytes(envelope)


def with_artifacts(statement: Statement, *artifacts: Artifact) -> Statement:
    return Statement.about(replace(statement.manifest, artifacts=artifacts))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    status = path.stat()
    path.write_bytes(data)
    # size and times as they were: only the bytes tell
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


# -- the control ----------------------------------------------------------------------------------------------------


def test_an_untouched_run_passes_every_check(signed_run: Run) -> None:
    verdict = signed_run.verify()
    assert [(check.number, check.name, check.status) for check in verdict.checks] == [
        (number, name, "pass") for number, name in enumerate(NAMES, 1)
    ]
    assert verdict.ok
    assert verdict.signer == "this machine's key"
    assert isinstance(verdict.manifest, Manifest)
    assert json.loads(json.dumps(verdict.to_json()))["ok"] is True


def test_a_verdict_is_written_with_every_field_of_its_checks(signed_run: Run) -> None:
    flip(signed_run.folder / "weights.bin")
    verdict = signed_run.verify()
    document = verdict.to_json()
    assert document == {
        "ok": False,
        "signer": "this machine's key",
        "signers": ["this machine's key"],
        "checks": [
            {name: getattr(check, name) for name in ("number", "name", "status", "message", "cure")}
            for check in verdict.checks
        ],
    }
    assert document["checks"][5] == {
        "number": 6,
        "name": "digests",
        "status": "fail",
        "message": "weights.bin was changed",
        "cure": "get the original files again",
    }


def test_the_digests_are_those_of_the_manifest_and_of_what_is_signed_in_it(signed_run: Run) -> None:
    data = signed_run.manifest.read_bytes()
    verdict = signed_run.verify()
    assert verdict.digest == bytes_digest(data)
    assert verdict.payload_digest == bytes_digest(read_envelope(data)[1])
    stranger = signed_run.verify(trust=TrustPolicy(signed_run.home, None, ()))
    assert (stranger.digest, stranger.payload_digest, stranger.signer) == (None, None, None)


def test_a_run_that_was_moved_verifies_elsewhere_without_its_ledger(signed_run: Run, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "renamed"
    moved.parent.mkdir()
    shutil.copytree(signed_run.folder, moved)
    verdict = signed_run.verify(path=moved, ledger=None)
    assert verdict.ok
    assert skipped(verdict) == [8]
    assert verdict.checks[7].message == "no ledger was given"
    verdict = signed_run.verify(path=moved, ledger=moved.parent / "ledger.jsonl")
    assert verdict.ok and "there is no ledger at" in verdict.checks[7].message


def test_verifying_changes_nothing(signed_run: Run) -> None:
    def state() -> list[tuple[str, int]]:
        return sorted((str(path), path.stat().st_mtime_ns) for path in signed_run.folder.parent.rglob("*"))

    before = state()
    signed_run.verify()
    assert state() == before


# -- 1: the envelope ------------------------------------------------------------------------------------------------


def test_a_missing_manifest(signed_run: Run) -> None:
    signed_run.manifest.unlink()
    verdict = signed_run.verify()
    assert "manifest.dsse.json: cannot be read" in failed(verdict, 1)
    assert skipped(verdict) == [2, 3, 4, 5, 6, 7, 8]
    assert verdict.checks[1].message == "check 1 (envelope) did not pass"
    assert verdict.manifest is None and verdict.signer is None


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"null"])
def test_a_manifest_that_is_no_envelope(signed_run: Run, data: bytes) -> None:
    signed_run.manifest.write_bytes(data)
    failed(signed_run.verify(), 1)


def test_every_changed_byte_of_the_manifest_fails_a_check_or_is_not_signed(signed_run: Run) -> None:
    """What is not signed (the key's name, white space) may change, and then the run's digest does not."""
    original = signed_run.manifest.read_bytes()
    control = signed_run.verify(ledger=None, manifest_only=True)
    refused = 0
    step = max(1, len(original) // 150)
    for at in [*range(0, len(original), step), *range(len(original) - 150, len(original))]:
        changed = bytearray(original)
        changed[at] ^= 1 << (at % 7)
        signed_run.manifest.write_bytes(bytes(changed))
        verdict = signed_run.verify(ledger=None, manifest_only=True)
        refused += not verdict.ok
        assert {check.number for check in verdict.checks if check.status == "fail"} <= {1, 2}
        if verdict.ok:
            assert (verdict.digest, verdict.manifest) == (control.digest, control.manifest), at
    assert refused > 200
    signed_run.manifest.write_bytes(original)
    assert signed_run.verify(ledger=None, manifest_only=True).ok


def url_safe(document: dict[str, Any]) -> None:
    for holder, name in ((document, "payload"), (document["signatures"][0], "sig")):
        holder[name] = holder[name].replace("+", "-").replace("/", "_")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b"\n",
        lambda data: json.dumps(json.loads(data), indent=4).encode(),
        lambda data: data.replace(b'{"payload"', b'{"comment":"x","payload"'),
        lambda data: json.dumps(
            {key: json.loads(data)[key] for key in ("signatures", "payloadType", "payload")}
        ).encode(),
    ],
)
def test_an_envelope_that_was_written_anew_verifies_with_the_digest_of_the_original(
    signed_run: Run, change: Callable[[bytes], bytes]
) -> None:
    original = signed_run.manifest.read_bytes()
    signed_run.manifest.write_bytes(change(original))
    verdict = signed_run.verify()
    assert signed_run.manifest.read_bytes() != original and verdict.ok
    assert verdict.digest == bytes_digest(original), "the ledger's, whatever the spelling"


@pytest.mark.parametrize(
    "change",
    [
        url_safe,
        lambda document: document["signatures"][0].pop("keyid"),
        lambda document: document["signatures"][0].update(keyid=""),
        lambda document: document["signatures"][0].update(keyid="0" * 64),
    ],
)
def test_other_tools_envelopes_verify_with_the_digest_of_the_original(
    signed_run: Run, change: Callable[[dict[str, Any]], object]
) -> None:
    original = bytes_digest(signed_run.manifest.read_bytes())
    edit_envelope(signed_run, change)
    assert bytes_digest(signed_run.manifest.read_bytes()) != original, "the control"
    verdict = signed_run.verify()
    assert verdict.ok and verdict.digest == original


# -- 2: the signature -----------------------------------------------------------------------------------------------


def test_a_changed_payload(signed_run: Run) -> None:
    def change(document: dict[str, Any]) -> None:
        payload = base64.b64decode(document["payload"]).replace(b'"completed"', b'"interrupt"')
        document["payload"] = base64.b64encode(payload).decode()

    edit_envelope(signed_run, change)
    verdict = signed_run.verify()
    assert "the payload, its type, the signature or the name was changed" in failed(verdict, 2)
    assert skipped(verdict) == [3, 4, 5, 6, 7, 8]
    assert verdict.manifest is None


def test_a_changed_signature(signed_run: Run) -> None:
    def change(document: dict[str, Any]) -> None:
        signature = bytearray(base64.b64decode(document["signatures"][0]["sig"]))
        signature[10] ^= 1
        document["signatures"][0]["sig"] = base64.b64encode(signature).decode()

    edit_envelope(signed_run, change)
    failed(signed_run.verify(), 2)


def test_a_changed_payload_type(signed_run: Run) -> None:
    edit_envelope(signed_run, lambda document: document.update(payloadType="application/json"))
    failed(signed_run.verify(), 2)


def test_a_countersigned_run_names_every_trusted_signer_and_keeps_its_digest(signed_run: Run, tmp_path: Path) -> None:
    original = bytes_digest(signed_run.manifest.read_bytes())
    reviewer, stranger = KeyRing(tmp_path / "reviewer"), KeyRing(tmp_path / "stranger")
    payload = read_envelope(signed_run.manifest.read_bytes())[1]

    def sign(document: dict[str, Any]) -> None:
        for ring in (reviewer, stranger):
            document["signatures"].insert(0, json.loads(sign_envelope(payload, ring.signer()))["signatures"][0])

    edit_envelope(signed_run, sign)
    own = KeyRing(signed_run.home).keyid
    verdict = signed_run.verify()
    assert verdict.ok and verdict.digest == original and verdict.checks[0].message.startswith("3 signatures over")
    more = f"2 more that no trusted key made, in the name of {stranger.keyid}, {reviewer.keyid}"
    assert verdict.checks[1].message == f"by this machine's key ({own}); {more}"
    policy = TrustPolicy.load(signed_run.home)
    policy.add(reviewer.public_key().pem, "a reviewer")
    verdict = signed_run.verify(trust=policy)
    named = f"by a reviewer ({reviewer.keyid}), this machine's key ({own}); 1 more that no trusted key made"
    assert verdict.checks[1].message == f"{named}, in the name of {stranger.keyid}" and verdict.ok
    assert verdict.signer == "a reviewer, this machine's key"
    assert verdict.digest == original, "that of the signature which the ledger knows"
    # the control: a signature over other bytes is none
    edit_envelope(signed_run, lambda document: document.update(payload=base64.b64encode(payload + b" ").decode()))
    assert "is not that key's" in failed(signed_run.verify(), 2)


def test_another_key_that_claims_to_be_the_trusted_one(signed_run: Run, tmp_path: Path) -> None:
    keyid = KeyRing(signed_run.home).keyid
    resign(signed_run, lambda statement: statement, tmp_path / "other")
    edit_envelope(signed_run, lambda document: document["signatures"][0].update(keyid=keyid))
    assert "is not that key's" in failed(signed_run.verify(), 2)


def test_an_unknown_key(signed_run: Run, tmp_path: Path) -> None:
    other = KeyRing(tmp_path / "other")
    resign(signed_run, lambda statement: statement, other.home)
    verdict = signed_run.verify()
    assert f"signed by {other.keyid}, which is no trusted key" in failed(verdict, 2)
    assert "ndrepro keys trust" in verdict.checks[1].cure


def test_a_key_that_is_trusted_by_name(signed_run: Run, tmp_path: Path) -> None:
    policy = TrustPolicy.load(tmp_path / "reviewer")
    failed(signed_run.verify(trust=policy), 2)
    policy.add(KeyRing(signed_run.home).public_key().pem, "the author")
    verdict = signed_run.verify(trust=policy)
    assert verdict.ok and verdict.signer == "the author"
    policy.remove("the author")
    failed(signed_run.verify(trust=policy), 2)


# -- 3: the statement -----------------------------------------------------------------------------------------------


def test_an_unknown_schema(signed_run: Run) -> None:
    resign(signed_run, lambda statement: replace(statement, schema="urn:ndrepro:run:v99"))
    verdict = signed_run.verify()
    assert "'urn:ndrepro:run:v99' is unknown; known: urn:ndrepro:run:v1" in failed(verdict, 3)
    assert skipped(verdict) == [4, 5, 6, 7, 8]


def test_a_statement_of_another_type(signed_run: Run) -> None:
    payload = read_envelope(signed_run.manifest.read_bytes())[1].replace(b"in-toto.io/Statement/v1", b"example.com/v1")
    envelope = sign_envelope(payload, KeyRing(signed_run.home).signer())
    signed_run.manifest.write_bytes(envelope)
    assert "$._type" in failed(signed_run.verify(), 3)


# -- 4: the subjects ------------------------------------------------------------------------------------------------


def test_a_renamed_subject(signed_run: Run) -> None:
    def rename(statement: Statement) -> Statement:
        first, *rest = statement.subjects
        return replace(statement, subjects=(Subject("renamed", first.sha256), *rest))

    resign(signed_run, rename)
    verdict = signed_run.verify()
    assert "subjects and artifacts differ in checkpoints/step 1.bin, renamed" in failed(verdict, 4, 8)
    assert skipped(verdict) == [5, 6, 7]


def test_two_subjects_whose_names_were_swapped(signed_run: Run) -> None:
    """in-toto itself matches by digest only and would not see it."""

    def swap(statement: Statement) -> Statement:
        one, two, *rest = statement.subjects
        return replace(statement, subjects=(Subject(one.name, two.sha256), Subject(two.name, one.sha256), *rest))

    resign(signed_run, swap)
    assert "differ in checkpoints/step 1.bin, log.txt" in failed(signed_run.verify(), 4, 8)


def test_a_subject_that_is_missing_or_comes_twice(signed_run: Run) -> None:
    original = signed_run.manifest.read_bytes()
    resign(signed_run, lambda statement: replace(statement, subjects=statement.subjects[1:]))
    assert "differ in checkpoints/step 1.bin" in failed(signed_run.verify(), 4, 8)
    signed_run.manifest.write_bytes(original)
    resign(signed_run, lambda statement: replace(statement, subjects=statement.subjects * 2))
    assert "comes twice" in failed(signed_run.verify(), 4, 8)


@pytest.mark.parametrize("reversed_too", ["artifacts", "subjects alone"])
def test_another_order_of_subjects_or_artifacts(signed_run: Run, reversed_too: str) -> None:
    """The order would carry what no reader sees."""

    def turn(statement: Statement) -> Statement:
        if reversed_too == "artifacts":
            return with_artifacts(statement, *reversed(statement.manifest.artifacts))
        return replace(statement, subjects=statement.subjects[::-1])

    resign(signed_run, turn)
    assert "in another order than a recorder's" in failed(signed_run.verify(), 4, 8)


@pytest.mark.parametrize(
    "name",
    [
        "../outside",
        "/etc/passwd",
        "a/../../b",
        "checkpoints/./x",
        "a//b",
        ".",
        "..",
        "a/",
        "manifest.dsse.json",
        ".lock",
        ".git/config",
        "data/.Git/config",
        "data/.g\u200cit/config",
        "git~1/config",
        ".git. /config",
    ],
)
def test_a_name_that_leads_out_of_the_folder(signed_run: Run, name: str) -> None:
    digest = bytes_digest(b"")
    resign(signed_run, lambda statement: with_artifacts(statement, Artifact(name, 0, digest)))
    assert "leads out of the run folder" in failed(signed_run.verify(), 4, 8)


# -- 5, 6, 7: the files ---------------------------------------------------------------------------------------------


def test_a_changed_byte_of_a_file(signed_run: Run) -> None:
    flip(signed_run.folder / "weights.bin")
    assert failed(signed_run.verify(), 6) == "weights.bin was changed"


def test_a_file_that_was_cut(signed_run: Run) -> None:
    os.truncate(signed_run.folder / "weights.bin", 100)
    assert failed(signed_run.verify(), 6) == "weights.bin was changed, 100 bytes, expected 256"


def test_an_added_file(signed_run: Run) -> None:
    (signed_run.folder / "checkpoints" / "extra.bin").write_bytes(b"")
    assert "checkpoints/extra.bin was added after signing" in failed(signed_run.verify(), 7)


def test_something_hidden_in_the_lock(signed_run: Run) -> None:
    (signed_run.folder / ".lock").write_bytes(bytes(100))
    assert ".lock was added" in failed(signed_run.verify(), 7)


def test_a_missing_file(signed_run: Run) -> None:
    (signed_run.folder / "metrics.jsonl").unlink()
    assert failed(signed_run.verify(), 5) == "metrics.jsonl is missing"


def test_a_missing_file_hides_neither_a_changed_nor_an_added_one(signed_run: Run) -> None:
    """Checks 5, 6 and 7 depend on the subjects alone."""
    (signed_run.folder / "metrics.jsonl").unlink()
    flip(signed_run.folder / "weights.bin")
    (signed_run.folder / "extra.bin").write_bytes(b"")
    verdict = signed_run.verify()
    failed(verdict, 5, 6, 7)
    assert [check.message for check in verdict.checks[4:7]] == [
        "metrics.jsonl is missing",
        "weights.bin was changed",
        "extra.bin was added after signing",
    ]
    assert verdict.changed == ("weights.bin",)


def test_a_missing_folder(signed_run: Run) -> None:
    shutil.rmtree(signed_run.folder / "checkpoints")
    assert failed(signed_run.verify(), 5) == "checkpoints/step 1.bin is missing"


def test_a_renamed_file(signed_run: Run) -> None:
    (signed_run.folder / "weights.bin").rename(signed_run.folder / "best.bin")
    verdict = signed_run.verify()
    assert failed(verdict, 5, 7) == "weights.bin is missing; best.bin has its digest (renamed?)"
    assert "best.bin was added" in verdict.checks[6].message


def test_two_swapped_files(signed_run: Run) -> None:
    one, other = signed_run.folder / "weights.bin", signed_run.folder / "checkpoints" / "step 1.bin"
    first, second = one.read_bytes(), other.read_bytes()
    one.write_bytes(second)
    other.write_bytes(first)
    assert failed(signed_run.verify(), 6) == "checkpoints/step 1.bin and weights.bin were swapped"


def test_a_file_overwritten_by_a_copy_of_another(signed_run: Run) -> None:
    shutil.copy(signed_run.folder / "weights.bin", signed_run.folder / "metrics.jsonl")
    assert failed(signed_run.verify(), 6) == "metrics.jsonl was changed, 256 bytes, expected 12"


def test_three_files_in_a_ring(signed_run: Run) -> None:
    names = ["checkpoints/step 1.bin", "metrics.jsonl", "weights.bin"]
    contents = [(signed_run.folder / name).read_bytes() for name in names]
    for name, content in zip(names, contents[1:] + contents[:1], strict=True):
        (signed_run.folder / name).write_bytes(content)
    message = failed(signed_run.verify(), 6)
    assert "checkpoints/step 1.bin holds what metrics.jsonl held" in message


@pytest.mark.parametrize("where", ["added", "in place of a file", "in place of a folder", "the manifest"])
def test_a_symbolic_link_slipped_in(signed_run: Run, tmp_path: Path, where: str) -> None:
    """The link leads to the very bytes that were signed: today they are the right ones."""
    folder = signed_run.folder
    if where == "added":
        (folder / "link").symlink_to("weights.bin")
        assert "link (a symbolic link) was added" in failed(signed_run.verify(), 7)
        return
    name = {"in place of a file": "weights.bin", "in place of a folder": "checkpoints"}.get(where, "manifest.dsse.json")
    (folder / name).rename(tmp_path / "moved")
    (folder / name).symlink_to(tmp_path / "moved")
    if where == "in place of a file":
        assert failed(signed_run.verify(), 5) == "weights.bin is a symbolic link now"
    elif where == "in place of a folder":
        verdict = signed_run.verify()
        assert failed(verdict, 5, 7) == "checkpoints/step 1.bin is missing"
        assert "checkpoints (a symbolic link) was added" in verdict.checks[6].message
    else:
        assert "manifest.dsse.json (a symbolic link)" in failed(signed_run.verify(), 7)


def test_many_problems_are_counted_and_not_all_listed(signed_run: Run) -> None:
    for number in range(20):
        (signed_run.folder / f"extra {number:02}").write_text("")
    assert "extra 04, and 15 more was added" in failed(signed_run.verify(), 7)


# -- 8: the ledger --------------------------------------------------------------------------------------------------


@pytest.fixture
def long_ledger(signed_run: Run) -> list[bytes]:
    """The run's two entries before those of other runs."""
    path, signer = signed_run.ledger.path, KeyRing(signed_run.home).signer()
    for name in ("later", "last"):
        signed_run.ledger.append("begun", name, signer)
        signed_run.ledger.append("ended", name, signer, outcome="completed", manifest=None)
    return path.read_bytes().splitlines(keepends=True)


def test_an_edited_ledger_line(signed_run: Run, long_ledger: list[bytes]) -> None:
    assert signed_run.verify().ok
    for number, line in enumerate(long_ledger[:-1]):
        edited = [*long_ledger[:number], line.replace(b'"time":"2', b'"time":"1'), *long_ledger[number + 1 :]]
        signed_run.ledger.path.write_bytes(b"".join(edited))
        message = failed(signed_run.verify(), 8)
        what = f"line {number + 2}: entry {number + 1}, which this one follows, is not there" if number else "entry 1"
        assert f"ledger.jsonl: {what}" in message
    # the last one is another run's, and nothing follows it that could be missing
    signed_run.ledger.path.write_bytes(b"".join(long_ledger[:-1]) + long_ledger[-1].replace(b"completed", b"failed"))
    assert signed_run.verify().ok


def test_a_deleted_ledger_line(signed_run: Run, long_ledger: list[bytes]) -> None:
    for number in range(1, len(long_ledger) - 1):
        signed_run.ledger.path.write_bytes(b"".join(long_ledger[:number] + long_ledger[number + 1 :]))
        assert f"line {number + 1}: entry {number + 1}, which this one follows" in failed(signed_run.verify(), 8)


def test_what_is_missing_before_a_run_began_is_not_of_that_run(
    signed_run: Run, long_ledger: list[bytes], small_run: Callable[..., Run]
) -> None:
    after = small_run("another run")
    after.record()
    lines = signed_run.ledger.path.read_bytes().splitlines(keepends=True)
    signed_run.ledger.path.write_bytes(b"".join(lines[:3] + lines[4:]))
    failed(signed_run.verify(), 8)
    assert after.verify().ok


@pytest.mark.parametrize(("keep", "what"), [(0, "entry 1, which began this run"), (1, "the run began at entry 1 and")])
def test_a_ledger_whose_tail_was_cut_off(signed_run: Run, long_ledger: list[bytes], keep: int, what: str) -> None:
    signed_run.ledger.path.write_bytes(b"".join(long_ledger[:keep]))
    assert signed_run.ledger.verify() == []  # the chain alone cannot tell
    verdict = signed_run.verify()
    assert what in failed(verdict, 8)
    assert "last entries were removed" in verdict.checks[7].cure


def test_the_ledger_of_someone_else(signed_run: Run, tmp_path: Path) -> None:
    other = Ledger(tmp_path / "other.jsonl")
    other.append("begun", signed_run.folder.name, KeyRing(signed_run.home).signer())
    assert "is not there" in failed(signed_run.verify(ledger=other), 8)


def test_a_manifest_replaced_by_an_older_one_of_the_same_run(signed_run: Run) -> None:
    """The older attempt's manifest is genuine, and its files are put back as they were: only the ledger tells."""
    folder = signed_run.folder
    old = folder.parent / "old"
    shutil.copytree(folder, old)
    (folder / "weights.bin").write_bytes(b"worse")
    signed_run.record(outcome="failed", exit_code=1)
    assert signed_run.verify().ok
    shutil.rmtree(folder)
    old.rename(folder)
    message = failed(signed_run.verify(), 8)
    assert "ended (entry 4) with another manifest than this one" in message
    assert signed_run.verify(ledger=None).ok  # the control: everything else is genuine


def test_a_manifest_of_an_attempt_that_was_followed_by_one_without_an_end(signed_run: Run) -> None:
    data = signed_run.manifest.read_bytes()
    signed_run.open().release()
    shutil.rmtree(signed_run.folder / "attempts")
    signed_run.manifest.write_bytes(data)
    assert "a later attempt began at entry 3 and has no end" in failed(signed_run.verify(), 8)


def test_a_ledger_that_tells_another_outcome(signed_run: Run) -> None:
    """The last line, written anew by the holder of the key."""
    *rest, last = signed_run.ledger.path.read_bytes().splitlines(keepends=True)
    began, ended = (EntryLine.from_bytes(line.rstrip()).entry for line in (*rest, last))
    ring = KeyRing(signed_run.home)
    fields = ended.fields | {"outcome": "failed"}
    line = EntryLine.sign("ended", ended.run, fields, after=began, signer=ring.signer(), key=ring.public_key())
    signed_run.ledger.path.write_bytes(b"".join(rest) + line.to_bytes() + b"\n")
    assert signed_run.ledger.verify() == []
    assert "says another outcome than 'completed'" in failed(signed_run.verify(), 8)


# -- a manifest alone, and the caller's own checks ------------------------------------------------------------------


def test_a_manifest_alone_is_no_verified_run_unless_that_was_asked(signed_run: Run) -> None:
    verdict = signed_run.verify(path=signed_run.manifest)
    assert skipped(verdict) == [5, 6, 7]
    assert not verdict.ok and verdict.manifest is not None
    assert signed_run.verify(path=signed_run.manifest, manifest_only=True).ok
    flip(signed_run.folder / "weights.bin")
    assert signed_run.verify(manifest_only=True).ok
    flip(signed_run.manifest)
    assert not signed_run.verify(manifest_only=True).ok


def test_the_golden_manifest_still_verifies(signed_run: Run) -> None:
    key = PublicKey.from_pem((GOLDEN / "v1.public-key.pem").read_text())
    trust = TrustPolicy(signed_run.home, None, (TrustedKey(key.pem, key.keyid, "golden", ""),))
    path = GOLDEN / "v1.manifest.dsse.json"
    verdict = signed_run.verify(path=path, trust=trust, ledger=None, manifest_only=True)
    assert verdict.ok and verdict.signer == "golden"
    assert [check.status for check in verdict.checks] == ["pass"] * 4 + ["skip"] * 4


def request_agrees(run_dir: Path, manifest: Manifest) -> Check:
    same = json.loads((run_dir / "metrics.jsonl").read_text()) == {"step": manifest.external_parameters["seed"] + 1}
    return Check(0, "request agrees", "pass" if same else "fail", "looked", "" if same else "look again")


def trail_is_well_formed(run_dir: Path, manifest: Manifest) -> Check:
    raise TrailError("trail.bin: torn", "resume the run")


def test_the_callers_checks_are_numbered_on_and_count(signed_run: Run) -> None:
    verdict = signed_run.verify(extra_checks=[request_agrees])
    assert verdict.ok and verdict.checks[8] == Check(9, "request agrees", "pass", "looked")
    verdict = signed_run.verify(extra_checks=[request_agrees, trail_is_well_formed])
    failed(verdict, 10)
    assert verdict.checks[9] == Check(10, "trail is well formed", "fail", "trail.bin: torn", "resume the run")


def reads_what_is_not_there(run_dir: Path, manifest: Manifest) -> Check:
    raise KeyError("experiment")


def test_a_check_that_stumbles_over_what_was_signed_fails_and_never_raises(signed_run: Run) -> None:
    verdict = signed_run.verify(extra_checks=[reads_what_is_not_there, request_agrees])
    assert not verdict.ok and "KeyError: 'experiment'" in failed(verdict, 9)
    assert verdict.checks[9].status == "pass", "the control: what can be checked is"


@pytest.mark.parametrize("manifest_only", [True, False])
def test_the_callers_checks_are_skipped_where_there_are_no_files(signed_run: Run, manifest_only: bool) -> None:
    path = signed_run.folder if manifest_only else signed_run.manifest
    verdict = signed_run.verify(path=path, manifest_only=manifest_only, extra_checks=[reads_what_is_not_there])
    assert verdict.checks[8:] == (Check(9, "reads what is not there", "skip", "check 5 (present) did not pass"),)
    assert verdict.ok is manifest_only


def test_the_callers_checks_are_skipped_where_the_files_cannot_be_believed(signed_run: Run) -> None:
    flip(signed_run.folder / "weights.bin")
    verdict = signed_run.verify(extra_checks=[request_agrees, trail_is_well_formed])
    failed(verdict, 6)
    reason = "check 6 (digests) did not pass"
    assert verdict.checks[8:] == (
        Check(9, "request agrees", "skip", reason),
        Check(10, "trail is well formed", "skip", reason),
    )

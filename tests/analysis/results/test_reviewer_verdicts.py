"""Verdicts on runs that were trained again count where a trusted key signed them about the very runs that are here."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from reviewed_runs import Reviewed

from provenance.attestation.dsse import read_envelope, sign_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.trust import OWN_NAME
from provenance.formats.canonical_json import canonical_bytes


@pytest.fixture
def reviewed(tmp_path: Path) -> Reviewed:
    return Reviewed(tmp_path)


def test_a_reviewer_s_verdict_counts_for_the_run_it_is_about(reviewed: Reviewed) -> None:
    reviewed.sign(reviewed.run, reviewed.same, "identical")
    reviewed.sign(reviewed.other, reviewed.unlike, "inconsistent", differences=["torch: 2.13.0 then, 2.0.1 now"])
    _, found = reviewed.read()
    assert [(item.run.folder, item.verdict, item.signer, item.by_another) for item in found.held] == [
        (reviewed.run, "identical", "reviewer", True),
        (reviewed.other, "inconsistent", "reviewer", True),
    ]
    assert (found.refused, found.elsewhere) == ((), 0)
    assert set(found.of_run()) == {reviewed.run.name, reviewed.other.name}


def test_the_author_s_own_verdict_is_told_apart(reviewed: Reviewed) -> None:
    reviewed.sign(reviewed.run, reviewed.same, "identical", home=reviewed.author.home)
    (held,) = reviewed.read()[1].held
    assert (held.signer, held.by_another) == (OWN_NAME, False)


def test_a_verdict_on_another_run_is_counted_and_says_nothing_here(reviewed: Reviewed) -> None:
    reviewed.sign(reviewed.run, reviewed.same, "identical")
    _, found = reviewed.read(reviewed.reviewer.runs)
    assert (found.held, found.refused, found.elsewhere) == ((), (), 1)


def test_a_verdict_is_found_from_a_run_s_own_folder(reviewed: Reviewed) -> None:
    reviewed.sign(reviewed.same, reviewed.unlike, "consistent", epochs=[1])
    assert len(reviewed.read(reviewed.same)[1].held) == 1


def test_a_stranger_s_verdict_does_not_count(reviewed: Reviewed, tmp_path: Path) -> None:
    reviewed.sign(reviewed.run, reviewed.same, "identical", home=tmp_path / "stranger")
    _, found = reviewed.read()
    assert found.held == () and "no trusted key" in found.refused[0].reason


def test_a_changed_verdict_does_not_count(reviewed: Reviewed) -> None:
    path = reviewed.sign(reviewed.other, reviewed.unlike, "inconsistent")
    envelope = json.loads(path.read_bytes())
    payload = base64.b64decode(envelope["payload"]).replace(b'"inconsistent"', b'"identical"')
    path.write_text(json.dumps({**envelope, "payload": base64.b64encode(payload).decode()}))
    _, found = reviewed.read()
    assert found.held == () and len(found.refused) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"verdict": "splendid"}, "splendid"),
        ({"run": "another"}, "names the run another"),
        ({"repeated": []}, "2 subjects"),
        ({"epochs": [0]}, "at least 1"),
        ({"more": 1}, "unknown"),
    ],
)
def test_a_statement_that_is_no_verdict_does_not_count(
    changes: dict[str, Any], reason: str, reviewed: Reviewed
) -> None:
    verdict = changes.pop("verdict", "identical")
    reviewed.sign(reviewed.run, reviewed.same, verdict, **changes)
    _, found = reviewed.read()
    assert found.held == () and reason in found.refused[0].reason


def test_a_run_is_not_its_own_repetition(reviewed: Reviewed) -> None:
    reviewed.sign(reviewed.run, reviewed.run, "identical")
    assert "its own repetition" in reviewed.read()[1].refused[0].reason


def test_identical_with_other_results_is_refused_where_the_repetition_is_here(reviewed: Reviewed) -> None:
    reviewed.sign(reviewed.other, reviewed.unlike, "identical")
    assert "other" in reviewed.read()[1].refused[0].reason
    _, unseen = reviewed.read(reviewed.author.runs)
    assert (unseen.held, unseen.refused) == ((), ()), "the verdicts lie beside the reviewer's runs"


def test_a_copy_of_a_verdict_counts_once(reviewed: Reviewed) -> None:
    path = reviewed.sign(reviewed.run, reviewed.same, "identical")
    path.with_name("copy.dsse.json").write_bytes(path.read_bytes())
    assert len(reviewed.read()[1].held) == 1


CLAIMS = [
    {"name": "epoch results", "status": "checked", "evidence": "1 epoch"},
    {"name": "end state", "status": "not checked", "evidence": "nothing kept"},
]


def test_claims_are_read_those_of_the_run_first(reviewed: Reviewed) -> None:
    repeated = [{"run": reviewed.same.name, "claims": CLAIMS[1:]}]
    reviewed.sign(reviewed.run, reviewed.same, "close", claims=CLAIMS[:1], repeated=repeated)
    (held,) = reviewed.read()[1].held
    assert [asdict(item) for item in held.claims] == CLAIMS == held.to_json()["claims"]


@pytest.mark.parametrize("verdict", ["identical", "close", "inconsistent"])
def test_a_verdict_that_passes_a_failed_claim_does_not_count(reviewed: Reviewed, verdict: str) -> None:
    failed = {"name": "final weights", "status": "failed", "evidence": "they differ"}
    reviewed.sign(reviewed.run, reviewed.same, verdict, claims=[failed])
    _, found = reviewed.read()
    if verdict == "inconsistent":
        assert len(found.held) == 1, "the control"
    else:
        assert found.held == () and "a claim failed: final weights" in found.refused[0].reason


def test_a_verdict_of_the_first_version_stays_readable(reviewed: Reviewed) -> None:
    path = reviewed.sign(reviewed.run, reviewed.same, "identical", challenge="walnut")
    statement = json.loads(read_envelope(path.read_bytes())[1])
    statement["predicateType"] = "urn:ndrepro:verdict:v1"
    for part in (statement["predicate"], *statement["predicate"]["repeated"]):
        del part["claims"]
    signed = sign_envelope(canonical_bytes(statement), KeyRing(reviewed.reviewer.home).signer())
    path.write_bytes(signed)
    (held,) = reviewed.read()[1].held
    assert (held.verdict, held.claims) == ("identical", ())


def test_the_sandbox_of_a_verdict_is_read_and_one_without_is_readable(reviewed: Reviewed) -> None:
    reviewed.sign(reviewed.run, reviewed.same, "identical", execution={"sandbox": "bubblewrap", "code": {}})
    reviewed.sign(reviewed.other, reviewed.unlike, "inconsistent")
    found = reviewed.read()[1]
    assert [item.sandbox for item in found.held] == ["bubblewrap", ""]
    assert found.to_json()["verdicts"][0]["sandbox"] == "bubblewrap"


@pytest.mark.parametrize("execution", [{}, {"sandbox": "chroot"}, {"sandbox": 1}, "none", None])
def test_a_sandbox_of_no_known_kind_does_not_count(reviewed: Reviewed, execution: object) -> None:
    reviewed.sign(reviewed.run, reviewed.same, "identical", execution=execution)
    found = reviewed.read()[1]
    assert not found.held and "execution" in found.refused[0].reason

"""Attacks on a policy: on its file, on who counts as whom, and on which verdicts count."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from policy_venue import VERDICTS, Venue
from recorded_programs import Programs
from signed_runs import SignedRuns, rows

from ndrepro.analysis.results.policy_checks import load_policy, with_policy
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.signing_policy import Signer, SigningPolicy
from provenance.attestation import key_lifecycle
from provenance.attestation.key_home import KeyRing
from provenance.attestation.key_statements import ROTATED, KeyStatement, keep
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify


@pytest.fixture
def venue(tmp_path: Path) -> Venue:
    return Venue(tmp_path)


def test_what_a_policy_asks_for_is_met_and_missed(venue: Venue) -> None:
    assert venue.judge() == {"author signatures": "pass", "ok": "True"}
    wanted: dict[str, Any] = {"signatures": {"author": 1, "reviewer": 1}, "verdicts": VERDICTS}
    found = venue.judge(**wanted)
    assert found["reviewer signatures"].startswith("signed by nobody who counts; 0 of 1 required")
    assert found["verdicts"].startswith("repeated by nobody who counts; 0 of 1 required") and found["ok"] == "False"
    venue.countersign(venue.ron)  # one of two reviewers
    venue.reproduce(venue.rita)
    assert set(venue.judge(**wanted).values()) == {"pass", "True"}
    with pytest.raises(Exception, match="signed it already"):
        venue.countersign(venue.ron)


def test_one_reviewer_who_signs_twice_counts_once(venue: Venue) -> None:
    """Copies, several verdicts, a second key in the policy, and a rotated one under another name are one person's."""
    two = {"verdicts": {**VERDICTS, "at_least": 2}}
    path = venue.reproduce(venue.rita)
    shutil.copy(path, path.with_name("copy.dsse.json"))
    venue.reproduce(venue.rita, differences=["another day"])
    assert venue.judge(**two)["verdicts"].startswith("repeated by rita; 1 of 2 required")
    change = key_lifecycle.rotate(venue.rita, None, None)
    for home in (venue.reader, venue.ron.home):
        keep(home, change.statements[0].read_bytes())
    venue.signers["rosa"] = {"keys": [venue.rita.keyid], "roles": ["reviewer"]}
    venue.reproduce(venue.rita, differences=["a new key"])
    assert "1 of 2 required" in venue.judge(**two)["verdicts"]
    venue.reproduce(venue.ron)
    assert venue.judge(**two)["verdicts"] == "pass"  # the control


def test_an_author_is_no_reviewer_of_the_own_run(venue: Venue) -> None:
    venue.signers["ada"]["roles"] = ["author", "reviewer"]
    venue.reproduce(venue.author)
    found = venue.judge(verdicts=VERDICTS, signatures={"reviewer": 1})
    assert "ada is an author of this run" in found["verdicts"]
    assert "ada is an author of this run" in found["reviewer signatures"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"verdict": "consistent"}, "is consistent"),
        ({"verdict": "inconsistent"}, "is inconsistent"),
        ({"epochs": [1]}, "is of epochs 1 alone"),
    ],
)
def test_a_weaker_verdict_does_not_count(venue: Venue, said: dict[str, Any], message: str) -> None:
    venue.reproduce(venue.rita, **said)
    assert message in venue.judge(verdicts=VERDICTS)["verdicts"]


def test_a_verdict_without_a_sandbox_does_not_count_where_one_is_required(venue: Venue) -> None:
    required = {"at_least": 1}
    venue.reproduce(venue.rita)  # from before there were sandboxes
    venue.reproduce(venue.rita, execution={"sandbox": "none"})
    assert "made without a sandbox" in venue.judge(verdicts=required)["verdicts"]
    venue.reproduce(venue.rita, execution={"sandbox": "bubblewrap"})
    assert venue.judge(verdicts=required)["verdicts"] == "pass"


def test_a_backdated_signature_is_refused_outside_the_policys_dates_and_passes_inside(venue: Venue) -> None:
    """The run states that it finished on 2026-11-21: whoever has the key can state any day."""
    ada = venue.signers["ada"]
    ada["until"] = "x"
    for key, day, message in (
        ("until", "2026-11-21", "expected before 2026-11-21"),
        ("from", "2026-11-22", "expected 2026-11-22 or later"),
        ("until", "2026-11-22", "pass"),
    ):
        venue.signers["ada"] = {"keys": ada["keys"], "roles": ada["roles"], key: _day(day)}
        assert message in venue.judge()["author signatures"]


def test_a_policy_can_refuse_all_that_a_revoked_key_signed(venue: Venue) -> None:
    _, statement = key_lifecycle.revoke(venue.author, None, "2026-11-25T00:00:00Z", "stolen")
    keep(venue.reader, statement.read_bytes())
    assert venue.judge()["author signatures"] == "pass"
    assert "ada's key is revoked" in venue.judge(revoked="never")["author signatures"]


def test_a_policy_s_signer_is_nobody_who_brought_himself_in_by_an_ended_key(venue: Venue) -> None:
    """Ron has a key that the reader trusts, the policy does not name, and joins to Rita's, which he stole."""
    del venue.signers["ron"]
    venue.reproduce(venue.ron)
    rotation = KeyStatement(ROTATED, venue.ron.public_key(), "2099-01-01T00:00:00Z", successor=venue.rita.public_key())
    path = keep(venue.reader, rotation.sign(venue.ron.signer(), venue.rita.signer()))[1]
    wanted: dict[str, Any] = {"verdicts": VERDICTS}
    assert venue.judge(**wanted)["verdicts"] == "pass", "the control"
    _, revocation = key_lifecycle.revoke(venue.rita, None, "2026-11-25T00:00:00Z", "stolen")
    keep(venue.reader, revocation.read_bytes())
    assert f"names no signer with the key {venue.ron.keyid}" in venue.judge(**wanted)["verdicts"]
    # one that came in time counts, unless the policy takes nothing that a revoked key signed
    path.rename(path.with_name(f"20260101T000000.000000Z-{path.name.partition('-')[2]}"))
    assert venue.judge(**wanted)["verdicts"] == "pass"
    assert "rita's key is revoked" in venue.judge(revoked="never", **wanted)["verdicts"]


def test_who_may_not_sign_this_experiment_does_not_count(venue: Venue) -> None:
    venue.signers["ada"]["experiments"] = ["vgg*", "lenet_nd_*"]
    assert "ada may not sign lenet_bn_1_digits" in venue.judge()["author signatures"]
    venue.signers["ada"]["experiments"] = ["lenet_b?_*"]
    assert venue.judge()["author signatures"] == "pass"


@pytest.mark.parametrize(
    ("name", "covered", "others"),
    [
        ("lenet_nd_1_digits", ("lenet_*", "*_digits"), ("*:lenet_*", "program:*")),
        ("program:fit", ("program:fit", "*:f*"), ("fit", "f*", "*fit")),
        ("program:lenet_nd_1_digits", ("program:lenet_*", "*:*"), ("lenet_*", "*lenet_*", "?rogram?*", "script:*")),
        ("network:lenet_nets.Net_bn_1_digits", ("network:lenet_nets.*",), ("lenet_*", "*_digits", "program:*")),
    ],
)
def test_a_name_that_an_author_chooses_is_no_experiment_of_the_policy(
    name: str, covered: tuple[str, ...], others: tuple[str, ...]
) -> None:
    def objection(*patterns: str) -> str:
        return Signer("ada", (KEY,), ("author",), patterns).objection("author", name, None)

    assert not any(objection(pattern) for pattern in (*covered, "*"))
    assert all(f"ada may not sign {name}" in objection(pattern) for pattern in others)


def test_a_network_whose_module_is_named_as_an_experiment_is_none(tmp_path: Path) -> None:
    """Its name has a dot, and no colon. Before: covered by "lenet_*", and by nothing that the docs said."""
    runs = SignedRuns(tmp_path)
    run = runs.add(Experiment.from_name("lenet_nd_5_digits:Net_bn_1_digits"), rows(1, 0.5))
    runs.close()
    trust = TrustPolicy.load(runs.home)
    for pattern, passes in (("lenet_*", False), ("program:*", False), ("network:lenet_nd_5_digits.*", True)):
        signers = {"ada": {"keys": [KeyRing(runs.home).keyid], "roles": ["author"], "experiments": [pattern]}}
        policy = SigningPolicy.from_document({"signers": signers}, "policy.toml")
        verdict = with_policy(verify(run, trust=trust), policy, trust, RunFolder(run))
        assert (verdict.checks[-1].status == "pass") == passes, verdict.checks[-1].message


def test_a_program_that_is_named_as_an_experiment_is_none(tmp_path: Path) -> None:
    project = Programs(tmp_path / "project")
    key = KeyRing(project.home).keyid
    for name, pattern, passes in (
        ("lenet_nd_100_digits", "lenet_*", False),
        ("lenet_nd_100_digits", "program:lenet_*", True),
        ("lenet-nd_5_digits", "lenet*", False),
        ("myresnet18_nd_100_cifar10", "*_cifar10", False),
        ("fit", "fit", False),
        ("fit", "program:f*", True),
    ):
        folder = project.record(sys.executable, "-c", "print(1)", name=name).folder
        signers = {"ada": {"keys": [key], "roles": ["author"], "experiments": [pattern]}}
        policy, trust = SigningPolicy.from_document({"signers": signers}, "policy.toml"), TrustPolicy.load(project.home)
        verdict = with_policy(verify(folder.root, trust=trust), policy, trust, folder)
        assert (verdict.checks[-1].status == "pass") == passes, verdict.checks[-1].message


def test_a_trusted_key_that_the_policy_does_not_name_does_not_count(venue: Venue) -> None:
    venue.signers["ada"]["keys"] = ["0" * 64]
    assert f"names no signer with the key {venue.author.keyid}" in venue.judge()["author signatures"]


KEY = "0" * 64
GOOD = f'[signers.ada]\nkeys = ["{KEY}"]\nroles = ["author"]\n'


@pytest.mark.parametrize(
    ("text", "message", "cure"),
    [
        ("", "signers: there are none", "add one"),
        ("signers = 3", "signers: 3, expected a table", ""),
        ("[signer.ada]", "unknown key 'signer'", "did you mean signers"),
        (GOOD + 'role = ["reviewer"]', "signers.ada: unknown key 'role'", "did you mean roles"),
        (GOOD + "untill = 2027-01-01", "unknown key 'untill'", "did you mean until"),
        (GOOD + 'until = "2027-01-01"', "signers.ada.until: '2027-01-01', expected a date", "without quotes"),
        (GOOD + "until = 2027-01-01T00:00:00", "has no time zone", ""),
        (GOOD + "from = 2027-01-01\nuntil = 2027-01-01", "is not before until", ""),
        (GOOD.replace('"author"', '"auther"'), "'auther' is not known", "did you mean author"),
        (GOOD.replace(KEY, "ada.pub"), "expected a key's identifier", "keys list"),
        (GOOD.replace(f'"{KEY}"', ""), "missing, expected a list", ""),
        (GOOD + GOOD.replace("ada", "eve"), "ada and eve have the same key", ""),
        (GOOD + "[signatures]\nauthor = 0", "signatures.author: 0, expected a whole number above 0", "leave it out"),
        (GOOD + "[signatures]\nauthor = true", "True, expected a whole number", ""),
        (GOOD + "[signatures]\nauthor = 2", "2 signers in the role author are required, and 1 have it", ""),
        (GOOD + "[signatures]\nreviewers = 1", "unknown key 'reviewers'", "did you mean reviewer"),
        (GOOD + "[verdicts]", "verdicts.at_least: None, expected a whole number", ""),
        (GOOD + '[verdicts]\nat_least = 1\naccept = ["inconsistent"]', "'inconsistent' is not known", "consistent"),
        (GOOD + '[verdicts]\nat_least = 1\nsandboxed = "no"', "'no', expected true or false", ""),
        ('revoked = "always"\n' + GOOD, "revoked: 'always' is not known", "it is one of before, never"),
        (GOOD + GOOD, "not TOML", ""),
        ("a = " + "[" * 5000, "not TOML", ""),
        ("\xff", "", ""),
    ],
)
def test_a_policy_that_could_be_misread_is_refused(tmp_path: Path, text: str, message: str, cure: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        load_policy(file)
    assert str(file) in caught.value.message and message in caught.value.message and cure in caught.value.cure


def _day(text: str) -> Any:
    import tomllib

    return tomllib.loads(f"day = {text}")["day"]

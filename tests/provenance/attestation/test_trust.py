"""Who may sign: kept on disk, whole, with identifiers that are checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from provenance.attestation.dsse import KeyRing
from provenance.attestation.trust import OWN_NAME, TrustPolicy
from provenance.errors import KeyFileError, TrustError, UsageError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def alice(tmp_path: Path) -> str:
    return KeyRing(tmp_path / "alice").public_key_pem()


def test_an_empty_home_trusts_nobody_and_stays_empty(home: Path) -> None:
    assert TrustPolicy.load(home).keys() == ()
    assert not home.exists()


def test_the_own_key_is_trusted_where_it_exists_and_is_not_written_down(home: Path, alice: str) -> None:
    own = KeyRing(home).keyid
    policy = TrustPolicy.load(home)
    (key,) = policy.keys()
    assert (key.name, key.keyid) == (OWN_NAME, own)
    policy.add(alice, "alice")
    assert own not in (home / "trust.json").read_text()


def test_keys_are_added_kept_and_removed(home: Path, alice: str) -> None:
    policy = TrustPolicy.load(home)
    added = policy.add(alice, "alice")
    assert policy.keys() == (added,) == TrustPolicy.load(home).keys()
    assert policy.name_of(added.keyid) == "alice"
    for word in ("alice", added.keyid):
        assert policy.remove(word) == added
        assert policy.keys() == () == TrustPolicy.load(home).keys()
        policy.add(alice, "alice")
        added = policy.keys()[0]


def test_a_key_or_name_that_is_there_already_is_refused(home: Path, tmp_path: Path, alice: str) -> None:
    KeyRing(home).signer()
    policy = TrustPolicy.load(home)
    policy.add(alice, "alice")
    with pytest.raises(UsageError, match="trusted already, as 'alice'"):
        policy.add(alice, "other")
    with pytest.raises(UsageError, match="the name 'alice' is taken"):
        policy.add(KeyRing(tmp_path / "bob").public_key_pem(), "alice")
    with pytest.raises(UsageError, match='trusted already, as "this machine\'s key"'):
        policy.add(KeyRing(home).public_key_pem(), "me")
    with pytest.raises(UsageError, match="expected a name"):
        policy.add(KeyRing(tmp_path / "bob").public_key_pem(), " ")
    with pytest.raises(UsageError, match="own key is always trusted"):
        policy.remove(OWN_NAME)
    with pytest.raises(KeyFileError):
        policy.add("nonsense", "nobody")
    assert len(TrustPolicy.load(home).keys()) == 2


def test_an_identifier_that_is_not_the_keys_own_is_refused(home: Path, alice: str) -> None:
    TrustPolicy.load(home).add(alice, "alice")
    file = home / "trust.json"
    document = json.loads(file.read_text())
    document["keys"][0]["keyid"] = "0" * 64
    file.write_text(json.dumps(document))
    with pytest.raises(TrustError, match=r"trust.json: \$\.keys\[0\]\.keyid"):
        TrustPolicy.load(home)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema":"other","keys":[]}', '{"schema":"urn:ndrepro:trust:v1"}'])
def test_a_file_that_is_no_policy_is_refused_and_not_overwritten(home: Path, alice: str, text: str) -> None:
    home.mkdir(mode=0o700)
    (home / "trust.json").write_text(text)
    with pytest.raises(TrustError, match=r"trust\.json"):
        TrustPolicy.load(home)
    with pytest.raises(TrustError):
        TrustPolicy(home, None, ()).add(alice, "alice")
    assert (home / "trust.json").read_text() == text


def test_two_that_add_at_once_both_stay(home: Path, tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\nfrom provenance.attestation.dsse import KeyRing\n"
        "from provenance.attestation.trust import TrustPolicy\n"
        "home, name = map(pathlib.Path, sys.argv[1:])\n"
        "TrustPolicy.load(home).add(KeyRing(name).public_key_pem(), name.name)"
    )
    names = [f"k{number}" for number in range(4)]
    children = [subprocess.Popen([sys.executable, "-c", script, str(home), str(tmp_path / name)]) for name in names]
    assert [child.wait() for child in children] == [0] * 4
    keys = TrustPolicy.load(home).keys()
    assert sorted(key.name for key in keys) == names

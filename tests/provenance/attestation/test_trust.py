"""Who may sign: kept on disk, whole, with identifiers that are checked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from provenance.attestation.key_home import KeyRing
from provenance.attestation.trust import OWN_NAME, TrustPolicy
from provenance.errors import KeyFileError, NotFoundError, StorageError, TrustError, UsageError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def alice(tmp_path: Path) -> str:
    return KeyRing(tmp_path / "alice").public_key().pem


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
        policy.add(KeyRing(tmp_path / "bob").public_key().pem, "alice")
    with pytest.raises(UsageError, match='trusted already, as "this machine\'s key"'):
        policy.add(KeyRing(home).public_key().pem, "me")
    with pytest.raises(UsageError, match="expected a name"):
        policy.add(KeyRing(tmp_path / "bob").public_key().pem, " ")
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


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda document: document.update(keys={}), r"\$\.keys: \{\}, expected an array"),
        (lambda document: document.update(keys=["alice"]), r"\$\.keys\[0\]: 'alice', expected an object"),
        (lambda document: document.update(more=1), r"\$\.more: unknown"),
        (lambda document: document["keys"][0].pop("name"), r"\$\.keys\[0\]\.name: missing"),
        (lambda document: document["keys"][0].update(name=""), r"\$\.keys\[0\]\.name: '', expected a string"),
        (lambda document: document["keys"][0].update(added="today"), r"\$\.keys\[0\]\.added: 'today', expected a time"),
        (lambda document: document["keys"][0].update(publicKey="x"), r"\$\.keys\[0\]\.publicKey: not a public key"),
    ],
)
def test_a_malformed_policy_is_refused_by_path(
    home: Path, alice: str, change: Callable[[dict[str, Any]], object], what: str
) -> None:
    TrustPolicy.load(home).add(alice, "alice")
    document = json.loads((home / "trust.json").read_text())
    change(document)
    (home / "trust.json").write_text(json.dumps(document))
    with pytest.raises(TrustError, match=rf"trust\.json: {what}") as caught:
        TrustPolicy.load(home)
    assert caught.value.cure == "put the right file back, or move it away"


def test_a_policy_that_cannot_be_read_trusts_nobody(home: Path) -> None:
    """A folder in its place: whoever may read everything cannot read that either."""
    (home / "trust.json").mkdir(parents=True)
    with pytest.raises(StorageError, match=r"trust\.json"):
        TrustPolicy.load(home)


def test_a_policy_is_text_that_people_can_read_in_a_private_folder(home: Path, alice: str) -> None:
    added = TrustPolicy.load(home).add(alice, "Žofie")
    assert home.stat().st_mode & 0o777 == 0o700
    text = (home / "trust.json").read_text(encoding="utf-8")
    assert text.startswith('{\n "schema": "urn:ndrepro:trust:v1",\n "keys": [\n  {\n   "name": "Žofie",\n')
    assert json.loads(text)["keys"] == [added.to_json()]
    assert sorted(path.name for path in home.iterdir()) == ["trust.json", "trust.json.lock"]


def test_what_was_refused_is_not_written(home: Path, alice: str) -> None:
    policy = TrustPolicy.load(home)
    with pytest.raises(NotFoundError, match=r"'bob': no key that was added \(added: none\)"):
        policy.remove("bob")
    assert not (home / "trust.json").exists()
    policy.add(alice, "alice")
    before = (home / "trust.json").stat()
    with pytest.raises(NotFoundError, match=r"\(added: 'alice'\)") as caught:
        policy.remove("bob")
    assert caught.value.cure == "name one of those"
    after = (home / "trust.json").stat()  # whose time of access may have moved
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_of_several_keys_the_one_named_is_removed(home: Path, tmp_path: Path, alice: str) -> None:
    own = KeyRing(home).keyid
    policy = TrustPolicy.load(home)
    policy.add(alice, "alice")
    bob = policy.add(KeyRing(tmp_path / "bob").public_key().pem, "bob")
    assert list(map(policy.name_of, (own, KeyRing(tmp_path / "alice").keyid, bob.keyid))) == [OWN_NAME, "alice", "bob"]
    assert policy.name_of("0" * 64) is None
    policy.remove("alice")
    assert policy.keys()[1:] == (bob,) == TrustPolicy.load(home).keys()[1:]
    with pytest.raises(UsageError, match=f"'{own}': this machine's own key is always trusted"):
        policy.remove(own)


def test_key_files_take_the_place_of_the_key_home(
    home: Path, tmp_path: Path, alice: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NDREPRO_HOME", str(home))
    own = KeyRing(home).keyid
    file = tmp_path / "alice.pub"
    file.write_text(alice)
    (key,) = TrustPolicy.from_files([]).keys()
    assert (key.name, key.keyid) == (OWN_NAME, own)
    (key,) = TrustPolicy.from_files([file]).keys()
    assert (key.name, key.pem) == (str(file), alice)
    with pytest.raises(NotFoundError, match=r"no\.pub: no such file"):
        TrustPolicy.from_files([file, tmp_path / "no.pub"])
    with pytest.raises(StorageError, match="cannot be read"):
        TrustPolicy.from_files([tmp_path])


def test_two_that_add_at_once_both_stay(home: Path, tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\nfrom provenance.attestation.key_home import KeyRing\n"
        "from provenance.attestation.trust import TrustPolicy\n"
        "home, name = map(pathlib.Path, sys.argv[1:])\n"
        "TrustPolicy.load(home).add(KeyRing(name).public_key().pem, name.name)"
    )
    names = [f"k{number}" for number in range(4)]
    children = [subprocess.Popen([sys.executable, "-c", script, str(home), str(tmp_path / name)]) for name in names]
    assert [child.wait() for child in children] == [0] * 4
    keys = TrustPolicy.load(home).keys()
    assert sorted(key.name for key in keys) == names

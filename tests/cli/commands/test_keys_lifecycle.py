"""A key's life on the command line: made, protected, replaced, revoked, handed over; background runs with it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_runs import Answer
from signed_runs import SignedRuns, rows

from ndrepro.protocol.experiment.experiment import Experiment
from provenance.attestation.countersignature import countersign
from provenance.attestation.key_home import KeyRing
from provenance.attestation.passphrases import VARIABLE
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """The file of a passphrase."""
    file = tmp_path / "passphrase"
    file.write_text("correct horse\n")
    file.chmod(0o600)
    return file


def test_a_protected_key_is_made_shown_replaced_and_revoked(
    ndrepro: Callable[..., Answer], own_home: Path, secret: Path
) -> None:
    made = ndrepro("keys", "new", "--passphrase-file", str(secret), "--expires", "2099-12-31", "--json").json
    assert b"ENCRYPTED" in (own_home / "signing-key.pem").read_bytes()
    shown = ndrepro("keys", "show", "--json").json  # the public half, without the passphrase
    assert shown["keyid"] == made["keyid"] and shown["state"] == "trusted, expires on 2099-12-31 00:00:00 UTC"
    assert shown["statements"] == made["statements"]
    assert ndrepro("keys", "new").code == 2
    refused = ndrepro("keys", "rotate")
    assert refused.code == 3 and "there is nobody to ask" in refused.err and VARIABLE in refused.err
    rotated = ndrepro("keys", "rotate", "--passphrase-file", str(secret), "--json").json
    assert rotated["before"] == made["keyid"] and KeyRing(own_home).protected
    assert "rotated on" in ndrepro("keys", "list").out
    revoked = ndrepro("keys", "revoke", "--reason", "lost", "--passphrase-file", str(secret), "--json").json
    assert revoked["keyid"] == rotated["keyid"] and revoked["state"].endswith(": lost")
    assert "revoked since" in ndrepro("keys", "show").out
    again = ndrepro("keys", "new").out
    assert "signs now" in again and f"before     {rotated['keyid']}" in again
    assert len(TrustPolicy.load(own_home).keys()) == 3


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("rotate",), 2, "no signing key to rotate"),
        (("revoke", "--reason", "x"), 2, "no signing key to revoke"),
        (("new", "--expires", "tomorrow"), 2, "'tomorrow': no date"),
        (("new", "--passphrase-file", "none"), 3, "passphrase file none: cannot be read"),
        (("use", "none"), 3, "none: no such file"),
        (("use", "gcpkms:projects/x"), 3, "needs its public key"),
        (("import", "none"), 3, "none: no such file"),
        (("trust", "none", "--name", "x"), 3, "none: no such file"),
    ],
)
def test_what_cannot_be_done_says_why(
    ndrepro: Callable[..., Answer], words: tuple[str, ...], code: int, message: str
) -> None:
    answer = ndrepro("keys", *words)
    assert answer.code == code and message in answer.err


def test_one_revokes_ones_own_keys_and_only_up_to_now(ndrepro: Callable[..., Answer], own_home: Path) -> None:
    ndrepro("keys", "new")
    assert "only its holder can revoke it" in ndrepro("keys", "revoke", "0" * 64, "--reason", "x").err
    assert "is to come" in ndrepro("keys", "revoke", "--since", "2099-01-01", "--reason", "x").err
    old = KeyRing(own_home).keyid
    ndrepro("keys", "rotate")
    assert ndrepro("keys", "revoke", old, "--since", "2026-01-01", "--reason", "old disk").code == 0
    KeyRing(own_home).signer()  # the successor signs on


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not on the PATH")
def test_an_openssh_key_signs_and_its_public_line_is_trusted(
    ndrepro: Callable[..., Answer], own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    file = folder / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ada@lab", "-f", file], check=True)
    keyid = ndrepro("keys", "use", str(file), "--json").json["keyid"]
    assert KeyRing(own_home).keyid == keyid and str(file) in ndrepro("keys", "show").out
    assert not (own_home / "signing-key.pem").exists()
    KeyRing(own_home).signer()
    monkeypatch.setenv("NDREPRO_HOME", str(tmp_path / "reader"))
    assert keyid in ndrepro("keys", "trust", f"{file}.pub", "--name", "Ada").out
    two = tmp_path / "two.pub"
    two.write_text(2 * Path(f"{file}.pub").read_text())
    assert "2 public keys, expected one" in ndrepro("keys", "trust", str(two), "--name", "x").err
    two.write_text("sk-ssh-ed25519@openssh.com AAAA x")
    assert "not a public key that can be used" in ndrepro("keys", "trust", str(two), "--name", "x").err


def test_a_signers_uri_signs(ndrepro: Callable[..., Answer], own_home: Path, tmp_path: Path) -> None:
    elsewhere = KeyRing(tmp_path / "token")
    public = tmp_path / "token.pub"
    public.write_text(elsewhere.public_key().pem)
    ndrepro("keys", "new")
    old = KeyRing(own_home).keyid
    uri = f"file2:{elsewhere.path}"
    change = ndrepro("keys", "use", uri, str(public), "--json").json
    assert (change["keyid"], change["before"]) == (elsewhere.keyid, old)
    assert f"signs by   {uri}" in ndrepro("keys", "show").out
    KeyRing(own_home).signer()
    elsewhere.path.unlink()
    assert "No such file" in ndrepro("keys", "rotate").err


def test_a_reader_imports_what_the_author_hands_over(
    ndrepro: Callable[..., Answer], own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ndrepro("keys", "export", "--out", str(tmp_path / "author.pub"))
    statement = ndrepro("keys", "rotate", "--json").json["statements"][0]
    monkeypatch.setenv("NDREPRO_HOME", str(tmp_path / "reader"))
    assert "(no key that is trusted here): rotated on" in ndrepro("keys", "import", statement).out
    ndrepro("keys", "trust", str(tmp_path / "author.pub"), "--name", "Ada")
    assert [row["name"] for row in ndrepro("keys", "import", statement, "--json").json["statements"]] == ["Ada"]
    assert ndrepro("keys", "list").out.count("Ada") == 2


def test_a_study_with_a_protected_key_starts_nothing(
    ndrepro: Callable[..., Answer], own_home: Path, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runs have no terminal; so it is with Slurm's tasks."""
    ndrepro("keys", "new", "--passphrase-file", str(secret))
    answer = ndrepro("study", "run", "smoke")
    assert answer.code == 3 and "there is nobody to ask for it" in answer.err and VARIABLE in answer.err
    assert not Path("runs").exists()
    single = ndrepro("run", "lenet_bn_1_digits")
    assert single.code == 3 and "there is nobody to ask for it" in single.err
    monkeypatch.setenv(VARIABLE, str(secret))
    KeyRing(own_home).check_unattended()


def test_a_run_gets_a_second_signature_and_meets_a_policy(
    ndrepro: Callable[..., Answer], own_home: Path, tmp_path: Path
) -> None:
    author = SignedRuns(tmp_path / "author")
    run = author.add(Experiment.from_name("lenet_bn_1_digits", {}), rows(1, 0.5))
    author.close()
    policy = tmp_path / "policy.toml"
    own = ndrepro("keys", "export", "--json").json["keyid"]
    policy.write_text(
        f'[signers.ada]\nkeys = ["{KeyRing(author.home).keyid}"]\nroles = ["author"]\n'
        f'[signers.rita]\nkeys = ["{own}"]\nroles = ["reviewer"]\n[signatures]\nreviewer = 1\n'
    )
    assert ndrepro("keys", "sign", str(run)).code == 2  # not before its author is trusted
    TrustPolicy.load(own_home).add(KeyRing(author.home).public_key().pem, "Ada")
    words = ("verify", str(run / "manifest.dsse.json"), "--manifest-only", "--policy", str(policy))
    refused = ndrepro(*words)
    assert refused.code == 1 and "policy, reviewer signatures: signed by nobody who counts" in refused.out
    manifest = run / "manifest.dsse.json"
    verdict = verify(run, trust=TrustPolicy.load(own_home))
    assert verdict.payload_digest
    countersign(manifest, verdict.payload_digest, KeyRing(own_home))
    answer = ndrepro(*words)
    assert answer.code == 0 and "policy, reviewer signatures: signed by rita; 1 of 1 required" in answer.out
    policy.write_text("[signer]")
    assert ndrepro(*words).code == 2

"""Signing by an identity on the command line, with the servers of a small Sigstore instance on this machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from recorded_runs import Answer
from sigstore_instance import ADA, ISSUER, SigstoreInstance, identity_token
from small_runs import SmallRun, signed_run, small_run

from ndrepro.cli.app import invoke
from provenance.attestation.key_home import KeyRing
from provenance.keyless.identities import load_identities

__all__ = ["signed_run", "small_run"]


@pytest.fixture
def run(signed_run: SmallRun, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of this user's, which verifies."""
    monkeypatch.setenv("NDREPRO_HOME", str(signed_run.home))
    return signed_run.folder


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    """A client's configuration of an instance that answers, beside the trusted root for readers."""
    instance = SigstoreInstance()
    instance.write_root(tmp_path / "trusted_root.json")
    with instance.serve() as described:
        file = tmp_path / "config.json"
        file.write_text(json.dumps(described))
        yield file


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(identity_token() + "\n")
    return file


def test_a_run_is_signed_by_an_identity_and_travels(
    ndrepro: Callable[..., Answer],
    run: Path,
    config: Path,
    token: Path,
    own_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = ("--sigstore-root", str(tmp_path / "trusted_root.json"))
    words = ("keys", "sign", str(run), "--keyless", "--identity-token", str(token), "--trust-config", str(config))
    assert ndrepro("verify", str(run), *root).code == 1, "a signature is expected"
    answer = ndrepro(*words)
    assert answer.code == 0 and answer.out.endswith(f"signed by {ADA} (issuer {ISSUER}) too\n"), answer.err
    answer = ndrepro("verify", str(run), *root)
    assert answer.code == 0 and f"ok   sigstore: by {ADA} (issuer {ISSUER}), on 20" in answer.out
    other = ndrepro("verify", str(run))
    assert other.code == 0 and "not counted: its certificate is of no authority of the trusted root" in other.out
    refused = ndrepro(
        "verify", str(run), "--sigstore-root", str(SigstoreInstance().write_root(tmp_path / "other.json"))
    )
    assert refused.code == 1 and "no authority of the trusted root" in refused.out
    # another reader, of an archive
    key = KeyRing(own_home).public_key().pem
    monkeypatch.setenv("NDREPRO_SIGSTORE_ROOT", root[1])
    assert invoke(["archive", str(run), "-o", str(tmp_path / "runs.zip")]) == 0
    shutil.rmtree(own_home)
    (tmp_path / "author.pub").write_text(key)
    assert ndrepro("keys", "trust", str(tmp_path / "author.pub"), "--name", "Ada").code == 0
    imported = ndrepro("import", str(tmp_path / "runs.zip"), "--name", "hers", "--into", str(tmp_path / "imported"))
    assert imported.code == 0, imported.err
    theirs = next((tmp_path / "imported").rglob("manifest.sigstore.jsonl")).parent
    assert theirs.joinpath("manifest.sigstore.jsonl").read_bytes() == (run / "manifest.sigstore.jsonl").read_bytes()
    unknown = ndrepro("verify", str(theirs))
    assert unknown.code == 0 and f"not counted: it is by {ADA} (issuer {ISSUER}), which is no" in unknown.out
    assert "hint: if it is the right one: ndrepro keys trust --identity ID --issuer URL --name WHOSE" in unknown.out
    assert ndrepro("verify", str(theirs), *root).code == 1, "where one is required"
    trust = ("keys", "trust", "--identity", ADA, "--issuer", ISSUER, "--name", "Ada Author")
    assert ndrepro(*trust).out == f"trusted: {ADA} (issuer {ISSUER}) as Ada Author\n"
    assert f"ok   sigstore: by {ADA}" in ndrepro("verify", str(theirs)).out
    assert f"{ADA} (issuer {ISSUER})  Ada Author, since 20" in ndrepro("keys", "list").out
    (listed,) = ndrepro("keys", "list", "--json").json["identities"]
    assert ndrepro("keys", "remove", "Ada Author", "--json").json.items() >= listed.items()
    assert "not counted" in ndrepro("verify", str(theirs)).out
    assert ndrepro(*trust, "--json").json["issuer"] == ISSUER


def test_a_second_identity_signs_and_the_own_ones_are_trusted(
    ndrepro: Callable[..., Answer], run: Path, config: Path, token: Path, own_home: Path, tmp_path: Path
) -> None:
    words = ("keys", "sign", str(run), "--keyless", "--trust-config", str(config), "--identity-token", str(token))
    assert ndrepro(*words).code == 0
    token.write_text(identity_token("ron@example.org"))
    answer = ndrepro(*words, "--json")
    assert answer.code == 0 and answer.json["identity"] == "ron@example.org", answer.err
    assert [each.identity for each in load_identities(own_home)] == [ADA, "ron@example.org"]
    document = ndrepro("verify", str(run), "--sigstore-root", str(config), "--json").json
    names = [(check["name"], check["status"]) for check in document["checks"]]
    assert document["ok"] and names.count(("sigstore", "pass")) == 2
    (run / "manifest.sigstore.jsonl").write_text("broken\n")
    refused = ndrepro(*words)
    assert refused.code == 2 and "it does not verify, and is not signed" in refused.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--identity-token", "none"), 2, "add --keyless"),
        (("--keyless", "--identity-token", "none"), 3, "none: no such file"),
        (("--keyless", "--trust-config", "none"), 3, "none: no such file"),
        (("--keyless", "--trust-config", "empty", "--identity-token", "token"), 3, "not signed by Sigstore"),
        (("--keyless", "--trust-config", "config", "--identity-token", "empty"), 3, "not signed by Sigstore"),
        (("--keyless", "--trust-config", "config", "--identity-token", "config"), 3, "Identity token is malformed"),
    ],
)
def test_what_cannot_be_signed_says_why_and_writes_nothing(
    ndrepro: Callable[..., Answer],
    run: Path,
    config: Path,
    token: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    code: int,
    message: str,
) -> None:
    # a CI job that was given no permission to name itself
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", raising=False)
    Path("empty").touch()
    shutil.copy(config, "config"), shutil.copy(token, "token")
    answer = ndrepro("keys", "sign", str(run), *words)
    assert answer.code == code and message in answer.err and "hint: " in answer.err, answer.err
    assert not (run / "manifest.sigstore.jsonl").exists()


def test_an_instance_that_is_not_there_is_an_error(
    ndrepro: Callable[..., Answer], run: Path, token: Path, tmp_path: Path
) -> None:
    with SigstoreInstance().serve() as described:
        (tmp_path / "config.json").write_text(json.dumps(described))
    words = ("--keyless", "--identity-token", str(token), "--trust-config", str(tmp_path / "config.json"))
    answer = ndrepro("keys", "sign", str(run), *words)
    assert answer.code == 3 and "not signed by Sigstore" in answer.err and "refused" in answer.err
    assert not (run / "manifest.sigstore.jsonl").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--name", "Ada"),
        ("author.pub", "--identity", ADA, "--issuer", ISSUER, "--name", "Ada"),
        ("--identity", ADA, "--name", "Ada"),
        ("--issuer", ISSUER, "--name", "Ada"),
        ("--identity", ADA, "--issuer", "accounts.example.org", "--name", "Ada"),
    ],
)
def test_a_key_or_an_identity_with_its_issuer_is_trusted(
    ndrepro: Callable[..., Answer], words: tuple[str, ...]
) -> None:
    answer = ndrepro("keys", "trust", *words)
    assert answer.code == 2 and "hint: " in answer.err

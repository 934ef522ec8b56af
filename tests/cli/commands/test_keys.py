"""Keys: shown without being made, exported, trusted by name, removed."""

from __future__ import annotations

import pwd
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_runs import Answer, begin_run

from ndrepro.protocol.layout import RunsFolder
from provenance.attestation.key_home import KeyRing


def test_show_makes_no_key_and_export_does(ndrepro: Callable[..., Answer], own_home: Path) -> None:
    assert ndrepro("keys", "show").out.startswith("no key yet")
    assert ndrepro("keys", "show", "--json").json["keyid"] is None
    assert not own_home.exists()
    pem = ndrepro("keys", "export").out
    assert pem.startswith("-----BEGIN PUBLIC KEY-----\n") and pem.endswith("-----END PUBLIC KEY-----\n")
    assert ndrepro("keys", "show", "--json").json["public_key"] == pem
    assert KeyRing(own_home).keyid in ndrepro("keys", "show").out


def test_a_key_travels_from_its_author_to_a_reader(
    ndrepro: Callable[..., Answer], tmp_path: Path, own_home: Path
) -> None:
    author = KeyRing(tmp_path / "author")
    (tmp_path / "author.pub").write_text(author.public_key().pem)
    words = ("keys", "trust", str(tmp_path / "author.pub"), "--name", "Ada Author")
    assert ndrepro(*words).out == f"trusted: {author.keyid} as Ada Author\n"
    assert f"{author.keyid}  Ada Author, since 20" in ndrepro("keys", "list").out
    assert [key["name"] for key in ndrepro("keys", "list", "--json").json["keys"]] == ["Ada Author"]
    assert ndrepro(*words).code == 2  # trusted already
    assert ndrepro("keys", "remove", "Ada Author").out == f"no longer trusted: {author.keyid}, Ada Author\n"
    assert ndrepro("keys", "remove", "Ada Author").code == 3
    assert ndrepro("keys", "list").out.startswith("none yet")


def test_export_to_a_file(ndrepro: Callable[..., Answer], tmp_path: Path, own_home: Path) -> None:
    out = tmp_path / "author.pub"
    assert ndrepro("keys", "export", "--out", str(out)).code == 0
    assert out.read_text() == KeyRing(own_home).public_key().pem
    answer = ndrepro("keys", "export", "--out", str(tmp_path / "no" / "folder"))
    assert answer.code == 3 and answer.err.startswith(f"error: {tmp_path}/no/folder: No such file")


@pytest.mark.parametrize("words", [("keys", "show"), ("keys", "list"), ("verify", "a"), ("run", "lenet_bn_1_digits")])
def test_no_home_at_all_is_an_error_with_a_cure(
    words: tuple[str, ...], ndrepro: Callable[..., Answer], runs: RunsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_run(runs, "lenet_bn_2_digits", "a")
    for name in ("NDREPRO_HOME", "HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])  # a user whom the password database does not know
    answer = ndrepro(*words)
    assert answer.code == 3 and "HOME is not set" in answer.err
    assert "  hint: set NDREPRO_HOME" in answer.err


@pytest.mark.parametrize(("words", "code"), [(("keys", "show"), 3), (("keys", "list"), 3), (("doctor",), 1)])
def test_a_home_that_is_a_file_is_no_home_of_keys(
    words: tuple[str, ...], code: int, ndrepro: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "file"
    home.touch()
    monkeypatch.setenv("NDREPRO_HOME", str(home))
    answer = ndrepro(*words)
    assert answer.code == code and "not a folder that can hold a key" in " ".join((answer.out + answer.err).split())


def test_a_key_that_others_can_read_is_refused_with_the_cure(ndrepro: Callable[..., Answer], own_home: Path) -> None:
    ndrepro("keys", "export")
    path = KeyRing(own_home).path
    path.chmod(stat.S_IMODE(path.stat().st_mode) | 0o044)
    answer = ndrepro("keys", "show")
    assert answer.code == 3 and "chmod 600" in answer.err

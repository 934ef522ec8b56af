"""Every installed distribution, as importlib.metadata finds them, pinned by its RECORD."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import zipfile
from pathlib import Path

import pytest

from provenance.capture import distributions
from provenance.redaction.redact import redact_tree


def install(site: Path, name: str, version: str, record: bytes | None = b"a.py,sha256=x,1\r\n") -> Path:
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: not this\n")
    if record is not None:
        (info / "RECORD").write_bytes(record)
    return info


def test_it_finds_what_importlib_finds() -> None:
    captured = distributions.capture()
    found = {(item["name"], item["version"]) for item in captured["installed"]}
    known = {(distributions.normalized(item.name), item.version) for item in importlib.metadata.distributions()}
    assert found == known and len(found) == captured["count"] > 40
    for item in captured["installed"]:
        record = importlib.metadata.distribution(item["name"]).read_text("RECORD")
        assert isinstance(item["record_sha256"], str) == bool(record)


def test_the_digest_is_that_of_records_bytes(tmp_path: Path) -> None:
    info = install(tmp_path, "Some.Thing", "1.0")
    (found,) = distributions.capture([str(tmp_path)])["installed"]
    digest = hashlib.sha256(b"a.py,sha256=x,1\r\n").hexdigest()
    assert found == {"name": "some-thing", "version": "1.0", "record_sha256": digest}
    (info / "RECORD").write_bytes(b"a.py,sha256=y,1\r\n")
    (changed,) = distributions.capture([str(tmp_path)])["installed"]
    assert changed["record_sha256"] != digest


def test_without_a_record_it_says_why(tmp_path: Path) -> None:
    install(tmp_path, "bare", "1", None)
    (tmp_path / "old-2.egg-info").write_text("Name: old\nVersion: 2\n")
    (tmp_path / "older-3.egg-info").mkdir()
    (tmp_path / "older-3.egg-info" / "PKG-INFO").write_text("Name: older\nVersion: 3\n")
    (tmp_path / "broken-4.dist-info").mkdir()
    install(tmp_path, "locked", "5").joinpath("RECORD").unlink()
    (tmp_path / "locked-5.dist-info" / "RECORD").mkdir()
    found = distributions.capture([str(tmp_path)])["installed"]
    assert [(item["name"], item["version"]) for item in found] == [
        ("bare", "1"),
        ("broken", "4"),
        ("locked", "5"),
        ("old", "2"),
        ("older", "3"),
    ]
    assert all(list(item["record_sha256"]) == ["unavailable"] for item in found)
    assert "cannot be read" in found[2]["record_sha256"]["unavailable"]


def test_the_first_on_the_path_counts_and_the_others_are_named(tmp_path: Path) -> None:
    install(tmp_path / "a", "twice", "1.0")
    install(tmp_path / "b", "Twice", "2.0")
    path = [str(tmp_path / "a"), str(tmp_path / "missing"), str(tmp_path / "b"), str(tmp_path / "a")]
    captured = distributions.capture(path)
    assert [item["version"] for item in captured["installed"]] == ["1.0"]
    assert [(item["version"], item["folder"]) for item in captured["shadowed"]] == [("2.0", str(tmp_path / "b"))]
    assert [item["version"] for item in distributions.capture(path[::-1][1:])["installed"]] == ["2.0"]


def test_inside_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("packed-1.5.dist-info/METADATA", "Name: packed\nVersion: 1.5\n")
    (tmp_path / "no.zip").write_text("text")
    captured = distributions.capture([str(tmp_path / "all.zip"), str(tmp_path / "no.zip")])
    (found,) = captured["installed"]
    assert (found["name"], found["version"]) == ("packed", "1.5")
    assert "unavailable" in found["record_sha256"]


def test_where_it_came_from_without_the_token(tmp_path: Path) -> None:
    info = install(tmp_path, "forked", "1")
    origin = {"url": "https://user:hunter2@host/x.git", "vcs_info": {"vcs": "git", "commit_id": "0" * 40}}
    (info / "direct_url.json").write_text(json.dumps(origin))
    (found,) = redact_tree(distributions.capture([str(tmp_path)]))["installed"]
    assert found["origin"]["url"] == "https://[redacted:url-userinfo]@host/x.git"
    assert found["origin"]["vcs_info"] == origin["vcs_info"]


@pytest.mark.parametrize("name", ["Some.Thing", "some--thing", "SOME_thing"])
def test_names(name: str) -> None:
    assert distributions.normalized(name) == "some-thing"

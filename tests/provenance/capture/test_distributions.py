"""Every distribution that an import would find, pinned by its RECORD, whatever other metadata lie about."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from site_folders import INIT, NUMPY, row, site

from provenance.capture import distributions
from provenance.capture.editable_source import COPY_MARK
from provenance.code.snapshot import CodeCopy
from provenance.redaction.redact import redact_tree


def install(site: Path, name: str, version: str, record: bytes | None = b"a.py,sha256=x,1\r\n") -> Path:
    info = site / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: not this\n")
    if record is not None:
        (info / "RECORD").write_bytes(record)
        (site / "a.py").touch()
    return info


def versions(*path: Path) -> dict[str, Any]:
    return {item["name"]: item["version"] for item in distributions.capture([str(each) for each in path])["installed"]}


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
    digest, content = (hashlib.sha256(b"a.py,sha256=x,1" + end).hexdigest() for end in (b"\r\n", b""))
    assert found == {"name": "some-thing", "version": "1.0", "record_sha256": digest, "content_sha256": content}
    (info / "RECORD").write_bytes(b"a.py,sha256=y,1\r\n")
    (changed,) = distributions.capture([str(tmp_path)])["installed"]
    assert changed["record_sha256"] != digest


def test_without_a_record_it_says_why(tmp_path: Path) -> None:
    install(tmp_path, "bare", "1", None)
    (tmp_path / "old-2.egg-info").write_text("Name: old\nVersion: 2\n")
    (tmp_path / "older-3.egg-info").mkdir()
    (tmp_path / "older-3.egg-info" / "PKG-INFO").write_text("Name: older\nVersion: 3\n")
    install(tmp_path, "locked", "5").joinpath("RECORD").unlink()
    (tmp_path / "locked-5.dist-info" / "RECORD").mkdir()
    found = distributions.capture([str(tmp_path)])["installed"]
    assert [(item["name"], item["version"]) for item in found] == [
        ("bare", "1"),
        ("locked", "5"),
        ("old", "2"),
        ("older", "3"),
    ]
    assert all(list(item["record_sha256"]) == ["unavailable"] for item in found)
    assert "cannot be read" in found[1]["record_sha256"]["unavailable"]


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


OLDER = "Name: numpy\nVersion: 1.25.0\n"


@pytest.mark.parametrize(
    ("leftover", "reason"),
    [
        ({"-umpy-1.25.0.dist-info/METADATA": OLDER}, "no installed distribution is named like this"),
        ({"~umpy-1.25.0.dist-info/METADATA": OLDER, "~umpy-1.25.0.dist-info/RECORD": ""}, "no installed distribution"),
        ({"numpy-1.25.0.dist-info/REQUESTED": ""}, "neither METADATA nor RECORD is in it"),
        ({"numpy-1.25.0.dist-info/METADATA": ""}, "neither METADATA nor RECORD is in it"),
        ({"numpy-1.25.0.dist-info/METADATA": OLDER}, "described by numpy-2.4.6.dist-info"),
        ({"numpy-1.25.0.egg-info/PKG-INFO": OLDER}, "described by numpy-2.4.6.dist-info"),
        ({"numpy-1.25.0-py3.11.egg-info": OLDER}, "described by numpy-2.4.6.dist-info"),
        (
            {
                "numpy-1.25.0.dist-info/METADATA": OLDER,
                "numpy-1.25.0.dist-info/RECORD": row("numpy/__init__.py", "__version__ = '1.25.0'\n"),
            },
            "described by numpy-2.4.6.dist-info",
        ),
        (
            {
                "numpy-1.25.0.dist-info/METADATA": OLDER,
                "numpy-1.25.0.dist-info/RECORD": row("Numeric/__init__.py", ""),
            },
            "none of the files that its RECORD lists is there",
        ),
    ],
)
def test_leftover_metadata_are_listed_and_never_taken_for_what_is_installed(
    leftover: dict[str, str | bytes], reason: str, tmp_path: Path
) -> None:
    captured = distributions.capture([str(site(tmp_path, {**NUMPY, **leftover}))])
    assert [(item["name"], item["version"]) for item in captured["installed"]] == [("numpy", "2.4.6")]
    (found,) = captured["leftovers"]
    assert found["version"] == "1.25.0" and found["folder"] == str(tmp_path)
    assert found["metadata"] == next(iter(leftover)).partition("/")[0]
    assert reason in found["reason"]


def test_leftover_metadata_ahead_on_the_path_do_not_hide_what_is_imported(tmp_path: Path) -> None:
    ahead = site(tmp_path / "user", {"numpy-1.25.0.dist-info/METADATA": OLDER})
    behind = site(tmp_path / "site", NUMPY)
    captured = distributions.capture([str(ahead), str(behind)])
    assert [item["version"] for item in captured["installed"]] == ["2.4.6"]
    assert [item["folder"] for item in captured["leftovers"]] == [str(ahead)]
    assert captured["disagreements"] == [{"name": "numpy", "reason": "versions 1.25.0 and 2.4.6 claim to be installed"}]


def test_a_module_ahead_on_the_path_is_what_is_recorded(tmp_path: Path) -> None:
    ahead = site(
        tmp_path / "build",
        {"numpy/__init__.py": "from .version import x\n", "numpy/version.py": 'version: str = "3.0.dev1"'},
    )
    behind = site(tmp_path / "site", NUMPY)
    captured = distributions.capture([str(ahead), str(behind)])
    (found,) = captured["installed"]
    assert (found["version"], found["imported_from"]) == ("3.0.dev1", str(ahead))
    assert "no RECORD describes" in found["record_sha256"]["unavailable"]
    (disagreement,) = captured["disagreements"]
    assert f"installed in {behind} as version 2.4.6, imported from {ahead}" == disagreement["reason"]
    # a folder without __init__ is a namespace, which an import passes over
    (ahead / "numpy" / "__init__.py").unlink()
    assert versions(ahead, behind) == {"numpy": "2.4.6"}


@pytest.mark.parametrize(
    ("metadata", "remark"),
    [
        (b"", "gives no name and no version"),
        (b"Metadata-Version: 2.1\nName: numpy\n\nVersion: 9\n", "gives no version"),
        (b"Name: numpy\nVersion: 2.4.6\nAuthor: Ren\xe9\xff\n", ""),
        (b"\xef\xbb\xbfName: numpy\nVersion: 2.4.6\n", ""),
        ("Name: numpy\nVersion: 2.4.6\n".encode("utf-16"), "gives no name and no version"),
        (b"Name: numpy\nVersion: 2.4.6\n\n" + b"x" * (1 << 25), ""),
        (b"x" * (1 << 20), "gives no name and no version"),
    ],
)
def test_metadata_that_are_damaged_or_odd(metadata: bytes, remark: str, tmp_path: Path) -> None:
    captured = distributions.capture([str(site(tmp_path, {**NUMPY, "numpy-2.4.6.dist-info/METADATA": metadata}))])
    assert [(item["name"], item["version"]) for item in captured["installed"]] == [("numpy", "2.4.6")]
    reasons = [item["reason"] for item in captured.get("disagreements", [])]
    assert len(reasons) == bool(remark) and all(remark in reason for reason in reasons)


def test_metadata_that_contradict_themselves_are_named(tmp_path: Path) -> None:
    odd = {"numpy-2.4.6.dist-info/METADATA": "Name: numpy\nVersion: 2.4.7\n", "numpy-2.4.6.dist-info/RECORD": ""}
    captured = distributions.capture([str(site(tmp_path, {**NUMPY, **odd}))])
    first, second = (item["reason"] for item in captured["disagreements"])
    assert "gives version 2.4.7, the folder's name 2.4.6" in first and "RECORD is empty" in second


def test_metadata_without_a_record_beside_a_module_of_another_version(tmp_path: Path) -> None:
    files = {"numpy/__init__.py": INIT, "numpy-1.25.0.egg-info/PKG-INFO": OLDER}
    (found,) = distributions.capture([str(site(tmp_path, files))])["disagreements"]
    assert found["reason"] == "numpy-1.25.0.egg-info beside a module of version 2.4.6"


def test_eggs_folders_and_archives(tmp_path: Path) -> None:
    folder = site(tmp_path / "old-1.0-py3.11.egg", {"EGG-INFO/PKG-INFO": "Name: old\nVersion: 1.0\n", "old.py": ""})
    with zipfile.ZipFile(tmp_path / "packed-2.0-py3.11.egg", "w") as archive:
        archive.writestr("EGG-INFO/PKG-INFO", "Name: packed\nVersion: 2.0\n")
        archive.writestr("packed.py", "")
    assert versions(folder, tmp_path / "packed-2.0-py3.11.egg") == {"old": "1.0", "packed": "2.0"}


def test_a_folder_named_by_a_pth_file_is_searched_as_an_import_does(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    (packages,) = (tmp_path / "env").glob("lib/python3*/site-packages")
    elsewhere = site(tmp_path / "elsewhere", NUMPY)
    (packages / "more.pth").write_text(f"{elsewhere}\n")
    site(packages, {"~umpy-1.25.0.dist-info/METADATA": OLDER})
    root = Path(distributions.__file__).parents[2]
    code = f"import json, sys, numpy; sys.path.append({str(root)!r}); from provenance.capture import distributions;"
    code += "print(json.dumps([distributions.capture(), numpy.__version__]))"
    command = [str(tmp_path / "env/bin/python"), "-I", "-W", "error", "-c", code]
    captured, imported = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert {item["name"]: item["version"] for item in captured["installed"]}["numpy"] == imported == "2.4.6"
    assert [item["metadata"] for item in captured["leftovers"]] == ["~umpy-1.25.0.dist-info"]


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_an_editable_installation_has_its_sources_commit_and_what_differs(tmp_path: Path) -> None:
    source = site(tmp_path / "my library", {"mine.py": "x = 1\n"})
    git(source, "init", "-q")
    git(source, "add", ".")
    git(source, "commit", "-q", "-m", "x")
    info = install(tmp_path / "site", "mine", "0.1", row("__editable__.mine.pth", "").encode())
    origin = {"url": source.as_uri(), "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(origin))
    (found,) = distributions.capture([str(tmp_path / "site"), str(source)])["installed"]
    assert found["origin"] == origin
    assert found["source"] == {"commit": git(source, "rev-parse", "HEAD"), "dirty": False}
    site(source, {"mine.py": "x = 2\n", "new.py": ""})
    (found,) = distributions.capture([str(tmp_path / "site"), str(source)])["installed"]
    assert found["source"]["dirty"] is True and found["source"]["differing"] == ["mine.py", "new.py"]
    # setuptools' older way: the source itself on the path
    site(source, {"mine.egg-info/PKG-INFO": "Name: mine\nVersion: 0.2\n"})
    (found,) = distributions.capture([str(source)])["installed"]
    assert found["version"] == "0.2" and found["source"]["dirty"] is True
    (info / "direct_url.json").write_text(json.dumps({**origin, "url": (tmp_path / "gone").as_uri()}))
    (found,) = distributions.capture([str(tmp_path / "site")])["installed"]
    assert "unavailable" in found["source"]
    (info / "direct_url.json").write_bytes(b"[\xff")
    (found,) = distributions.capture([str(tmp_path / "site")])["installed"]
    assert "unavailable" in found["origin"]


def test_the_checkout_that_a_private_copy_was_made_from_is_this_project_itself(tmp_path: Path) -> None:
    checkout = Path(__file__).resolve().parents[3]
    ask = "import sys; from pathlib import Path; from provenance.capture.editable_source import source_state as s; "
    words = [sys.executable, "-c", f"{ask}print(*s(Path(sys.argv[1])))", str(checkout)]
    with CodeCopy([checkout / "provenance"], tmp_path / ".code") as copy:

        def answer() -> str:
            variables = {**os.environ, "PYTHONPATH": str(copy.place)}
            return subprocess.run(words, cwd=copy.place, env=variables, capture_output=True, text=True).stdout.strip()

        assert answer() == "none"
        (copy.place / COPY_MARK).unlink()
        assert answer() != "none", "the control: a folder of somebody else's"


def test_metadata_that_were_read_once_are_read_again_after_a_change(tmp_path: Path) -> None:
    info = install(tmp_path, "mine", "0.1", b"a.py,sha256=x,1\n")
    (before,) = distributions.capture([str(tmp_path)])["installed"]
    for name, content in (("RECORD", b"a.py,sha256=y,1\n"), ("METADATA", b"Name: mine\nVersion: 9.1\n")):
        status = (info / name).stat()
        (info / name).write_bytes(content)
        os.utime(info / name, ns=(status.st_atime_ns, status.st_mtime_ns))
    (after,) = distributions.capture([str(tmp_path)])["installed"]
    assert (before["version"], after["version"]) == ("0.1", "9.1")
    assert before["record_sha256"] != after["record_sha256"] and before["content_sha256"] != after["content_sha256"]

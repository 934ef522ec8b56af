"""Library files that were edited after their installation are found behind an unchanged version and RECORD."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from site_folders import INIT, NUMPY, row, site

from provenance.capture import distributions, imported_files
from provenance.capture.imported_files import merged
from provenance.formats.digest import file_digest
from provenance.formats.digest_cache import DigestCache

ROOT = Path(distributions.__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NDREPRO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def compare(folder: Path, *loaded: str) -> dict[str, Any]:
    installed = distributions.search([str(folder)]).installed.values()
    return imported_files.compare(installed, [str(folder / name) for name in loaded])


def test_a_real_package_edited_by_hand(tmp_path: Path) -> None:
    """A copy of psutil, never the installed files: those are links into a cache that every environment shares."""
    here = Path(sysconfig.get_path("purelib"))
    copied = tmp_path / "copied"
    for name in ("psutil", *(each.name for each in here.glob("psutil-*.dist-info"))):
        shutil.copytree(here / name, copied / name)
    code = "import json, psutil, psutil._common; from provenance.capture import environment;"
    code += "found = environment.capture(); print(json.dumps([psutil.__file__, found['imported_files']]))"
    command = [sys.executable, "-c", code]
    variables = {**os.environ, "PYTHONPATH": f"{copied}{os.pathsep}{ROOT}"}

    def seen() -> dict[str, Any]:
        done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=True)
        file, found = json.loads(done.stdout)
        assert Path(file).is_relative_to(copied)
        assert "psutil" in found["imported"] and found["checked"] > 2
        return dict(found["edited"])

    assert seen() == {}
    target = copied / "psutil" / "_common.py"
    recorded = file_digest(target).sha256
    target.write_text(target.read_text() + "\nEDITED = True\n")
    assert seen() == {
        "psutil/_common.py": {"distribution": "psutil", "recorded": recorded, "actual": file_digest(target).sha256}
    }


def test_what_no_record_lists_or_gives_no_digest_for_is_counted(tmp_path: Path) -> None:
    record = row("numpy/__init__.py", INIT) + "numpy/bare.py,,\n" + "numpy/md5.py,md5=x,3\n"
    files = {"numpy-2.4.6.dist-info/RECORD": record, "numpy/added.py": "", "numpy/bare.py": "", "alone.py": ""}
    found = compare(
        site(tmp_path / "site", {**NUMPY, **files}),
        "numpy/__init__.py",
        "numpy/added.py",
        "numpy/bare.py",
        "numpy/md5.py",
        "alone.py",
    )
    assert found == {
        "imported": ["numpy"],
        "checked": 1,
        "edited": {},
        "unlisted": {"count": 1, "first": ["numpy/added.py"]},
        "without_digest": {"count": 2, "first": ["numpy/bare.py", "numpy/md5.py"]},
    }


def test_a_file_that_is_gone_or_was_replaced_under_the_process_is_not_what_was_installed(tmp_path: Path) -> None:
    folder = site(tmp_path / "site", NUMPY)
    found = compare(folder, "numpy/core.so (deleted)")
    assert "replaced after" in found["edited"]["numpy/core.so"]["actual"]["unavailable"]
    (folder / "numpy" / "__init__.py").unlink()
    found = compare(folder, "numpy/__init__.py")
    assert "unavailable" in found["edited"]["numpy/__init__.py"]["actual"]


def test_a_quoted_row_of_a_record(tmp_path: Path) -> None:
    record = '"numpy/a,b.py"' + row("", INIT)
    found = compare(
        site(tmp_path, {**NUMPY, "numpy/a,b.py": INIT, "numpy-2.4.6.dist-info/RECORD": record}), "numpy/a,b.py"
    )
    assert (found["checked"], found["edited"]) == (1, {})


def test_a_mapped_library_is_found_below_a_linked_folder(tmp_path: Path) -> None:
    folder = site(tmp_path / "site", NUMPY)
    (tmp_path / "link").symlink_to(folder)
    installed = distributions.search([str(tmp_path / "link")]).installed.values()
    assert imported_files.compare(installed, [str(folder / "numpy/__init__.py")])["checked"] == 1
    assert imported_files.compare(installed, [str(tmp_path / "link/numpy/__init__.py")])["checked"] == 1


def test_this_process_s_own_modules_and_libraries_are_loaded() -> None:
    loaded = imported_files.loaded_files()
    assert imported_files.__file__ in loaded
    assert any(".so" in path for path in loaded)


def test_digests_are_remembered_until_a_file_changes_even_where_its_time_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = site(tmp_path / "site", NUMPY)
    assert compare(folder, "numpy/__init__.py")["edited"] == {}
    target = folder / "numpy" / "__init__.py"
    status = target.stat()

    def unread(*_: object) -> None:
        raise AssertionError("read again")

    with monkeypatch.context() as patched:
        patched.setattr("provenance.formats.digest_cache.file_digest", unread)
        assert compare(folder, "numpy/__init__.py")["checked"] == 1
    target.write_text(INIT.replace("6", "7"))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert list(compare(folder, "numpy/__init__.py")["edited"]) == ["numpy/__init__.py"]


def test_a_damaged_cache_remembers_nothing_and_one_that_cannot_be_written_stops_nothing(
    tmp_path: Path, cache: Path
) -> None:
    folder = site(tmp_path / "site", NUMPY)
    compare(folder, "numpy/__init__.py")
    (kept,) = cache.glob("digests/*.tsv")
    whole = kept.read_text()
    for damage in ("", whole[:-1], whole.replace("\t", " "), "other\n" + whole):
        kept.write_text(damage)
        assert compare(folder, "numpy/__init__.py")["edited"] == {}
    shutil.rmtree(cache)
    cache.write_text("a file in its place")
    assert compare(folder, "numpy/__init__.py")["checked"] == 1
    again = DigestCache(folder)
    again.sha256("numpy/__init__.py")
    assert str(cache) in again.save()


def test_a_file_that_was_edited_at_either_moment_is_edited() -> None:
    first, second = {"edited": {"a": 1, "b": 1}, "checked": 1}, {"edited": {"b": 2, "c": 2}, "checked": 2}
    assert merged(first, second) == {"edited": {"a": 1, "b": 2, "c": 2}, "checked": 2}
    lost = {"unavailable": "x"}
    assert merged(first, lost) == merged(first, None) == first and merged(lost, second) == second
    assert merged(lost, lost) == lost

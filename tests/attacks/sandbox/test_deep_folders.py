"""Attack: a confined program nests folders more deeply than Python's functions, and takes its rights on them away.

Before, ``reproduce`` ended in a RecursionError after the repetition was signed, and left the program's folder in /tmp
and the hook's in the signed run.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from strange_programs import Stranger, statuses

from ndrepro.execution.programs.declared_files import declared_files
from ndrepro.execution.programs.input_files import declared_data
from ndrepro.protocol.layout import RunFolder
from provenance.capture.source import package_digest
from provenance.errors import StorageError
from provenance.formats.folder_tree import DEEPEST, files_below, remove_tree, temporary_folder, walk
from provenance.git.untracked_files import _code_in

DEEP = 1500  # folders; the interpreter's limit of nested calls is 1000
NESTS = f"""
import os
open('out.txt', 'w').write('0.6')
if not os.path.exists({{author!r}}):
    for top in (os.environ['NDREPRO_HOOK_OUT'], '.'):
        folder = os.open(top, os.O_RDONLY)
        for _ in range({DEEP}):
            os.mkdir('a', dir_fd=folder)
            folder, above = os.open('a', os.O_RDONLY, dir_fd=folder), folder
            os.close(above)
"""


def nest(top: Path, depth: int = DEEP) -> None:
    """Folders too deep to be named by one path."""
    top.mkdir()
    folder = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("deeper", dir_fd=folder)
        folder, above = os.open("deeper", os.O_RDONLY, dir_fd=folder), folder
        os.close(above)
    with os.fdopen(os.open("a.py", os.O_WRONLY | os.O_CREAT, dir_fd=folder), "w") as file:
        file.write("1")
    os.close(folder)


def test_a_program_that_nests_folders_is_judged_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    author = Stranger.make(tmp_path / "a", {"train.py": NESTS.format(author=str(tmp_path / "a" / "author"))})
    run = author.record(outputs=("out.txt",))
    found = author.reproduce(run)
    assert (found.verdict, statuses(found)["outputs"]) == ("identical", "checked")
    again = RunFolder(tmp_path / "a" / "review" / found.folders[0])
    assert not (again.root / ".hook").exists()
    assert not [name for name in os.listdir(scratch) if name.startswith("ndrepro-")]


def test_a_deep_folder_is_removed_and_what_its_links_lead_to_stays(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(0o750)
    (outside / "kept").write_text("of the reviewer")
    (outside / "kept").chmod(0o640)
    with temporary_folder("ndrepro-test-") as place:
        nest(place / "top")
        locked = place / "a" / "locked"
        locked.mkdir(parents=True)
        (locked / "link").symlink_to(outside / "kept")
        (place / "linked").symlink_to(outside)
        locked.chmod(0)
        locked.parent.chmod(0o500)
    assert not place.exists()
    assert (outside / "kept").stat().st_mode & 0o777 == 0o640 and outside.stat().st_mode & 0o777 == 0o750
    (tmp_path / "link").symlink_to(outside)
    with pytest.raises(OSError, match="a symbolic link"):
        remove_tree(tmp_path / "link")
    assert (outside / "kept").exists()


def test_what_looks_through_folders_says_that_they_are_too_deep(tmp_path: Path) -> None:
    nest(tmp_path / "deep")
    try:
        with pytest.raises(StorageError, match=f"nested more than {DEEPEST} deep"):
            list(walk(tmp_path / "deep"))
        assert "nested too deeply" in declared_files(tmp_path, ["deep"]).problem
        assert "nested too deeply" in declared_files(tmp_path, ["deep/**"]).problem
        assert f"more than {DEEPEST} deep" in str(declared_data([tmp_path / "deep"], tmp_path)[0].annotations)
        assert f"more than {DEEPEST} deep" in str(package_digest([tmp_path / "deep"]))
        assert list(_code_in(tmp_path, "deep/")), "what could not be looked through is taken for code"
    finally:
        remove_tree(tmp_path / "deep")


def test_folders_of_ordinary_depth_are_walked_as_the_library_does(tmp_path: Path) -> None:
    for name in ("b/c", "a/d/e", "a/.f"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x").touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert list(walk(tmp_path)) == list(os.walk(tmp_path))
    assert files_below(tmp_path, "x") == sorted(tmp_path.rglob("x"))

"""Attack: code that is executed and that nobody reads, under names that say nothing of it, in code or in data."""

from __future__ import annotations

import io
import pickle
import py_compile
import sys
import zipfile
from pathlib import Path

import pytest
from strange_programs import CONFINED, Stranger, statuses

from ndrepro.execution.reproduce.unread_files import unread_files
from ndrepro.execution.reproduce.unread_words import UNREAD_FILES
from provenance.formats.digest import bytes_digest

HONEST, EVIL = b"def accuracy(): return 0.6123\n", "def accuracy(): return 0.9999\n"
TRAINS = "from data.loader import accuracy\nopen('out.txt', 'w').write(str(accuracy()))\n"


def bytecode(folder: Path) -> bytes:
    (folder / "evil.py").write_text(EVIL)
    made = py_compile.compile(
        str(folder / "evil.py"),
        str(folder / "evil.bin"),
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    return Path(str(made)).read_bytes()


def test_an_archive_behind_source_is_named(tmp_path: Path) -> None:
    """Python executes the archive; a reader sees an honest program."""
    main = "open('out.txt', 'w').write('0.9999')\n"
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        made.writestr("__main__.py", main)
    author = Stranger.make(tmp_path / "a", {"train.py": main.replace("0.9999", "0.6123").encode() + stream.getvalue()})
    found = author.reproduce(author.record(outputs=("out.txt",)))
    assert (Path(found.folders[0]) / "outputs" / "out.txt").read_text() == "0.9999"
    (named,) = (each for each in found.claims if each.name == UNREAD_FILES)
    assert named.status == "not checked" and named.evidence == "1 of 2: not text (1): train.py"


def test_one_file_of_code_is_named_before_others_that_are_executed_and_before_data(tmp_path: Path) -> None:
    """Before: three names were shown in the order of the alphabet, and weights stood before it."""
    for number in range(200):
        (tmp_path / f"a{number}.pt").write_bytes(pickle.dumps([number]))
        (tmp_path / f"b{number}.py").write_text("# \u2026\n")
    (tmp_path / "zmodel.py").write_bytes(HONEST + b"# nothing here\revil()\n")
    (tmp_path / "plain.py").write_bytes(HONEST)
    (named,) = unread_files(tmp_path, (), (), ())
    assert named.status == "not checked"
    assert named.evidence.startswith(
        "401 of 402: a carriage return (1): zmodel.py:2; signs beyond ASCII (200): b0.py:1"
    )
    assert "not text (200); " in named.evidence and named.evidence.endswith(" .py") and len(named.evidence) < 2000


def test_of_data_some_of_each_kind_are_named_and_what_the_command_starts_is_none(tmp_path: Path) -> None:
    for name in ("labels.bin", "train.bin", *(f"{number}.png" for number in range(9))):
        (tmp_path / name).write_bytes(b"\0")
    (named,) = unread_files(tmp_path, (), (), {str(tmp_path / "train.bin")})
    words = "train.bin, labels.bin, 0.png, 1.png, 2.png; 6 of them not named here: 6 .png"
    assert named.evidence == f"11 of 11: not text (11): {words}"


def test_names_links_and_what_is_not_looked_at_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code := tmp_path / "code").mkdir()
    (data := tmp_path / "data").mkdir()
    for name in ("m\u043edel.py", "train.py ", "x" * 201 + ".py", "honest.py"):
        (code / name).write_bytes(HONEST)
    (code / "self").symlink_to("/proc/self")
    (code / "out.py").symlink_to("/etc/hostname")
    (code / "data").symlink_to(data)
    (code / "honest").symlink_to("honest.py")
    (data / "pipe").symlink_to("nothing")
    (named,) = unread_files(code, (data,), (), ())
    assert "a link that leads out (2): out.py, self; " in named.evidence and "cannot be read (1): " in named.evidence
    assert "a name that is not seen whole (3): m\\u043edel.py, xxx" in named.evidence
    assert not unread_files(code / "honest.py", (), (), ())
    monkeypatch.setattr("ndrepro.execution.reproduce.unread_files._MOST_FILES", 1)
    (named,) = unread_files(code, (), (), ())
    assert "not looked at (7)" in named.evidence


@pytest.mark.skipif(not CONFINED, reason="without a sandbox nothing is shown under another path")
def test_code_in_declared_data_is_named(tmp_path: Path) -> None:
    author = Stranger.make(tmp_path / "a", {"train.py": TRAINS, ".gitignore": "runs\ndata\n"})
    data = author.root / "data"
    (data / "__pycache__").mkdir(parents=True)
    (data / "loader.py").write_bytes(HONEST)
    (data / "score.pl").write_text("print 0.9999"), (data / "Makefile").write_text("all:")
    (data / "bench").write_text("#!/bin/sh\necho 0.9999\n"), (data / "labels").write_text("1")
    (data / "__pycache__" / f"loader.{sys.implementation.cache_tag}.pyc").write_bytes(bytecode(tmp_path))
    run = author.record(outputs=("out.txt",), data=(Path("data"),))
    data.rename(handed := author.top / "data")
    found = author.reproduce(run, data=handed)
    claims = {each.name: each for each in found.claims}
    assert "loader.cpython" in claims[UNREAD_FILES].evidence
    named = claims["code of no commit"].evidence
    assert all(f"data: {name}" in named for name in ("loader.py", "Makefile", "score.pl", "bench"))
    assert "labels" not in named


def pointer(content: bytes) -> str:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{bytes_digest(content)}\nsize {len(content)}\n"


@pytest.mark.skipif(not CONFINED, reason="without a sandbox nothing is shown under another path")
@pytest.mark.parametrize("how", ["opened", "declared", "declared with its folder"])
def test_source_behind_a_pointer_of_git_lfs_is_named_and_had(tmp_path: Path, how: str) -> None:
    """Whoever reads the commit sees no code; the content is the commit's all the same, and found by its digest."""
    files = {"train.py": TRAINS, "data/loader.py": pointer(HONEST), "data/notes.txt": "notes"}
    author = Stranger.make(tmp_path / "a", files)
    (author.root / "data" / "loader.py").write_bytes(HONEST)
    author.git("update-index", "--skip-worktree", "data/loader.py")
    data = {"opened": (), "declared": (Path("data/loader.py"),), "declared with its folder": (Path("data"),)}[how]
    run = author.record(outputs=("out.txt",), data=data)
    (handed := author.top / "handed").mkdir()
    (handed / "weights.bin").write_bytes(HONEST)
    found = author.reproduce(run, data=handed)
    assert found.verdict == "identical", (found.plan.differences, found.judgements)
    (named,) = (each for each in found.claims if each.name == "code of no commit")
    assert named.status == "not checked" and "loader.py" in named.evidence
    assert statuses(found)["inputs"] != "flagged"


@pytest.mark.parametrize(
    "name",
    [
        "sitecustomize.py",
        "lib/usercustomize.py",
        "sitecustomize/__init__.py",
        ".local/lib/python3.11/site-packages/evil.pth",
        "helper-1.0.dist-info/entry_points.txt",
        "helper-1.0.Dist-Info/entry_points.txt",
        "EGG-INFO/entry_points.txt",
        "matplotlibrc",
    ],
)
def test_what_is_executed_whatever_the_program_imports_is_named(tmp_path: Path, name: str) -> None:
    """Plain text of the commit, which no import of the program leads to."""
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(HONEST)
    (tmp_path / "train.py").write_bytes(HONEST)
    (named,) = unread_files(tmp_path, (), (), ())
    assert named.evidence == f"1 of 2: may be executed whatever the program imports (1): {name}"


def test_entry_points_behind_a_link_are_named(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/entry_points.txt").write_bytes(HONEST)
    (tmp_path / "helper-1.0.dist-info").symlink_to("notes")
    (named,) = unread_files(tmp_path, (), (), ())
    assert named.evidence.endswith("may be executed whatever the program imports (1): helper-1.0.dist-info")

"""Programs and repositories of every kind: isolated Pythons, static binaries, launchers, submodules, work trees."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from recorded_programs import Programs, RecordedProgram

LDCONFIG = Path("/sbin/ldconfig")  # statically linked on every Debian
RANKS = """
import os, torch
torch.manual_seed(int(os.environ["RANK"]))
torch.distributed.init_process_group("gloo")
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
model(torch.ones(4, 2)).sum().backward()
optimizer.step()
torch.distributed.destroy_process_group()
"""


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=A", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


def repository(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q")
    (folder / "train.py").write_text("print('trained')\n")
    git(folder, "add", "train.py")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def source_of(recorded: RecordedProgram) -> dict[str, Any]:
    found = recorded.manifest.dependency("source")
    assert found is not None and found.annotations is not None
    return dict(found.annotations)


@pytest.mark.parametrize("flag", ["-E", "-S"])
def test_a_python_that_ignores_the_hook_is_said_to_be_unobserved(programs: Programs, flag: str) -> None:
    record = programs.record(sys.executable, flag, "-c", "raise SystemExit(5)").record
    assert record.exit_code == 5 and record.unobserved != ""
    assert programs.record(sys.executable, "-c", "pass").record.unobserved == "", "the control"


def test_a_static_binary_is_recorded_by_its_digest(programs: Programs) -> None:
    if not LDCONFIG.exists():
        pytest.skip("no static binary is known here")
    recorded = programs.record(str(LDCONFIG), "--version")
    assert (recorded.record.outcome, recorded.record.interpreters) == ("completed", ())
    assert recorded.record.executable.digest is not None and b"ldconfig" in recorded.log
    assert "no Python" in recorded.record.unobserved


@pytest.mark.slow
def test_each_rank_of_torchrun_is_recorded_with_a_trail(programs: Programs) -> None:
    Path("ranks.py").write_text(RANKS)
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "ranks.py")
    recorded = programs.record(*launcher)
    assert recorded.record.outcome == "completed", recorded.log.decode(errors="replace")
    trails = sorted(path.name for path in (recorded.folder.root / "trail").iterdir())
    assert len(trails) == 2, trails


def test_a_work_tree_beside_its_repository_is_a_source(programs: Programs) -> None:
    main = repository(programs.place / "main")
    git(main, "worktree", "add", "-q", str(programs.work / "tree"))
    os.chdir(programs.work / "tree")
    Path("train.py").write_text("print('changed')\n")
    recorded = programs.record(sys.executable, "train.py")
    source = source_of(recorded)
    assert len(source["commit"]) == 40 and source["dirty"] is True
    assert "changed" in (recorded.folder.root / "source.patch").read_text()


def test_a_changed_submodule_is_a_change_of_the_source(programs: Programs) -> None:
    part = repository(programs.place / "part")
    repository(programs.work)
    git(programs.work, "submodule", "--quiet", "add", str(part), "part")
    git(programs.work, "commit", "-q", "-m", "with a part")
    clean = source_of(programs.record(sys.executable, "train.py"))
    assert clean["dirty"] is False and clean["submodules"]["changed"] == [], "the commit names theirs"
    Path("part/train.py").write_text("print('changed')\n")
    changed = source_of(programs.record(sys.executable, "train.py"))
    assert "part" in str(changed["submodules"]["changed"]) and changed["dirty"] is not False


def test_pointers_of_large_files_are_source_as_they_lie_there(programs: Programs) -> None:
    """Without git-lfs a checkout holds pointers: they are what the program reads."""
    repository(programs.work)
    Path(".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    Path("w.bin").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n")
    git(programs.work, "-c", "filter.lfs.clean=cat", "add", ".gitattributes", "w.bin")
    git(programs.work, "commit", "-q", "-m", "a pointer")
    recorded = programs.record(sys.executable, "-c", "print(open('w.bin').readline())")
    assert source_of(recorded)["dirty"] is False and b"git-lfs" in recorded.log


def test_very_many_untracked_files_are_bounded_and_said(programs: Programs) -> None:
    repository(programs.work)
    Path("cache").mkdir()
    for number in range(2100):
        Path(f"cache/{number}").touch()
    source = source_of(programs.record(sys.executable, "train.py"))
    assert source["dirty"] is True and "untracked" in source
    assert "more than 2000 untracked files" in str(source["untracked"])

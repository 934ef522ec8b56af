"""A small program in a git repository, really recorded by ``ndrepro record``, for those who read or repeat its run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ndrepro.execution.programs.command import resolve_command
from ndrepro.execution.programs.program_run import ProgramRequest, record_program
from ndrepro.protocol.layout import RunFolder, RunsFolder

TRAIN = """
import json, pathlib, sys, helper
rate = float(sys.argv[1])
start = float(pathlib.Path("data.txt").read_text())
with open("log.jsonl", "w") as log:
    for step in range(3):
        start = helper.step(start, rate)
        log.write(json.dumps({"step": step, "loss": start}) + "\\n")
pathlib.Path("model.txt").write_text(repr(start))
"""
HELPER = "def step(value, rate):\n    return value - rate * value\n"


@dataclass(frozen=True)
class Project:
    """A repository with train.py, helper.py, which is changed against its commit, and data.txt, which git ignores."""

    root: Path

    @classmethod
    def make(cls, root: Path, train: str = TRAIN) -> Project:
        root.mkdir(parents=True)
        made = cls(root)
        for name, text in (("train.py", train), ("helper.py", HELPER), (".gitignore", "data.txt\nruns\n")):
            (root / name).write_text(text)
        made.git("init", "-q")
        made.git("add", ".")
        made.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first")
        (root / "helper.py").write_text(HELPER + "# a change that was not committed\n")
        (root / "data.txt").write_text("1.0")
        return made

    def git(self, *words: str) -> None:
        subprocess.run(["git", *words], cwd=self.root, check=True)

    def record(self, runs: Path, home: Path, *words: str, name: str = "fit", **more: Any) -> RunFolder:
        """Run ``words`` in the repository, recorded; train.py where there are none."""
        asked: dict[str, Any] = {"outputs": ("model.txt",), "metrics": ("log.jsonl",), "trail": "off", **more}
        command = resolve_command(words or (sys.executable, "train.py", "0.25"), name)
        place = RunsFolder(runs.absolute())
        with current_folder(self.root):
            return record_program(ProgramRequest(command, **asked), place, home).folder


@contextmanager
def current_folder(folder: Path) -> Iterator[None]:
    """Be in a folder for a while."""
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)

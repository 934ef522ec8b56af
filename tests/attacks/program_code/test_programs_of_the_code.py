"""Attack: a file of the recorded commit is called like an installed program, and the command names it."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from strange_programs import CONFINED, Stranger

from ndrepro.protocol.verdicts import RECORDED_CODE, ClaimCheck

TRAIN = "import sys\nopen('o', 'w').write('0.5' if sys.flags.optimize else '0.9999')\n"


def recorded_code(claims: tuple[ClaimCheck, ...]) -> str:
    return next(each.evidence for each in claims if each.name == RECORDED_CODE)


@pytest.mark.skipif(not CONFINED, reason="what nothing confines sees everything")
@pytest.mark.parametrize("word", ["tools/python3", "./tools/python3", "{top}/tools/python3"])
def test_a_rebuilt_environment_takes_no_place_of_a_file_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    """Before: its Python was executed, without the option, and the claim had the command."""
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    files = {"train.py": TRAIN, "tools/python3": '#!/bin/sh\nexec python3 -O "$@"\n'}
    author = Stranger.make(tmp_path / "a", files)
    monkeypatch.chdir(author.root)
    run = author.record(word.format(top=author.root), "train.py", outputs=("o",))
    found = author.reproduce(run, rebuild_env=True)
    assert (found.verdict, (author.root / "o").read_text()) == ("identical", "0.5")
    assert "its program is tools/python3 of the recorded code" in recorded_code(found.claims)


@dataclass(frozen=True)
class Installed(Stranger):
    """An author whose repository is where programs are installed."""

    @property
    def root(self) -> Path:
        return self.top / "opt" / "conda"


def test_many_words_of_a_command_push_nothing_out_of_the_claim(tmp_path: Path) -> None:
    """Before, with forty inputs by their absolute paths: cut off, and the claim stayed checked."""
    rows = {f"rows/of-a-measurement-that-has-a-long-name-{number}.csv": "0.5\n" for number in range(40)}
    author = Stranger.make(tmp_path / "a", {"train.py": TRAIN, **rows})
    author.git("commit", "-q", "--allow-empty", "-m", "second")
    run = author.record(sys.executable, "train.py", *(str(author.root / name) for name in rows), outputs=("o",))
    claimed = recorded_code(author.reproduce(run).claims)
    assert "more characters are not shown" in claimed
    assert (
        "; what its code looks for by the path of " in claimed
        and f"; commit {author.git('rev-parse', 'HEAD')}" in claimed
    )
    assert "; git has the files of no earlier commit here; " in claimed


def test_files_of_the_code_that_absolute_paths_lead_to_are_named(tmp_path: Path) -> None:
    """Before: "command: /opt/conda/bin/torchrun /opt/conda/share/train.py", as if both were installed."""
    launches = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
    author = Installed.make(tmp_path / "a", {"share/train.py": TRAIN, "bin/torchrun": launches})
    program, script = (str(author.root / name) for name in ("bin/torchrun", "share/train.py"))
    found = author.reproduce(author.record(program, script, f"--out={author.root}/o", outputs=("o",)))
    assert found.verdict == "identical"
    told = f"; its program is bin/torchrun of the recorded code; {script} is share/train.py of the recorded code; "
    assert told in recorded_code(found.claims)

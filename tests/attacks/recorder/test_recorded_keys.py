"""No signing key, nor a digest of one, is in a record of a program that signs runs of its own."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from strange_programs import CONFINED, Stranger, manifest_of

from ndrepro.api import Reproduction
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import ProgramRecord
from provenance.attestation.key_home import KeyRing
from provenance.formats.digest import file_digest

ROOT = Path(__file__).parents[3]
RECORDS = f"""
import sys
sys.path.append({str(ROOT)!r})
import provenance
with provenance.record(name="inner"{{where}}) as run:
    run.log(step=1, loss=0.5)
    open("o.txt", "w").write("0.5")
"""


def _everything(run: RunFolder) -> str:
    return "\n".join(path.read_text(errors="replace") for path in run.root.rglob("*") if path.is_file())


def _record(author: Stranger, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    monkeypatch.setenv("HOME", str(author.top / "person"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv(
        "PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )  # signing needs packages
    return author.record(outputs=("o.txt",))


def _names(run: RunFolder) -> set[str]:
    record = ProgramRecord.of(manifest_of(run))
    return {file.path for file in (*record.inputs, *record.outputs)}


@pytest.mark.parametrize("made", ["before", "by the program"])
@pytest.mark.parametrize("where", ["", ", home='../other-keys'", ", home='keys'"])
def test_the_key_that_a_program_signs_with_is_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: str, where: str
) -> None:
    """Before: its path and digest were among inputs, or outputs where the program made it."""
    author = Stranger.make(tmp_path / "a", {".gitignore": "runs\n", "train.py": RECORDS.format(where=where)})
    homes = {"": author.top / "person" / ".config" / "ndrepro", ", home='../other-keys'": author.top / "other-keys"}
    if where not in homes:  # a folder that is no work tree of git's
        (author.root / ".git").rename(author.top / "git")
        homes[where] = author.root / "keys"
    home = homes[where]
    if made == "before":
        KeyRing(home).signer()
    run = _record(author, monkeypatch)
    key = home / "signing-key.pem"
    assert not any("signing-key" in name for name in _names(run))
    assert file_digest(key).sha256 not in _everything(run) and key.read_text()[40:80] not in _everything(run)


def test_what_leads_to_a_key_is_none_of_the_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a word, by a link, by standard input's folder, and as declared data, of the recorder's home as well."""
    reads = "import sys; [open(name).read() for name in sys.argv[1:]]; open('o.txt', 'w').write('0.5')"
    author = Stranger.make(tmp_path / "a", {".gitignore": "runs\nlink\n", "train.py": reads})
    key = author.home / "signing-key.pem"
    (author.root / "link").symlink_to(key)
    (author.home / "notes.txt").write_text("of the recorder's key home")
    words = (sys.executable, "train.py", "link", str(key), str(author.home / "notes.txt"))
    run = author.record(*words, outputs=("o.txt",), data=(author.home,))
    assert _names(run) == {"train.py", "o.txt"}
    for path in (key, author.home / "notes.txt"):
        assert file_digest(path).sha256 not in _everything(run)


def _reproduced(author: Stranger, monkeypatch: pytest.MonkeyPatch) -> tuple[RunFolder, Reproduction]:
    run = _record(author, monkeypatch)
    return run, author.reproduce(run)


@pytest.mark.skipif(not CONFINED, reason="no sandbox here")
def test_a_record_below_a_record_is_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before: undecided for its key, and the lock and log of its own run. Also where the list of runs was there."""
    author = Stranger.make(tmp_path / "a", {".gitignore": "runs\n", "train.py": RECORDS.format(where="")})
    for _ in range(2):
        run, found = _reproduced(author, monkeypatch)
        assert not any(name.startswith("runs/") for name in _names(run))
        assert found.verdict == "identical", found.judgements[0].because


@pytest.mark.skipif(not CONFINED, reason="no sandbox here")
def test_what_earlier_runs_hold_is_still_an_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Control: a program that takes its result from an earlier run, or from the list of runs, does not get it again."""
    takes = RECORDS.format(where="") + (
        "import pathlib\nold = [*pathlib.Path('runs/inner').glob('*/kept.txt')]\n"
        "open('o.txt', 'w').write(old[0].read_text() if old else 'none')\n"
    )
    author = Stranger.make(tmp_path / "a", {".gitignore": "runs\n", "train.py": takes})
    _record(author, monkeypatch)
    (earlier,) = (author.root / "runs" / "inner").iterdir()
    (earlier / "kept.txt").write_text("0.99")
    run, found = _reproduced(author, monkeypatch)
    assert f"runs/inner/{earlier.name}/kept.txt" in _names(run)
    assert found.verdict == "identical", "it is here, with this digest"
    (earlier / "kept.txt").unlink()
    shutil.rmtree(author.top / "review")
    found = author.reproduce(run)
    assert found.verdict == "undecided" and "kept.txt" in str(found.plan.differences)

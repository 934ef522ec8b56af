"""A command is looked up before anything is recorded, and what cannot be executed has the exit code of a shell."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ndrepro.execution.programs.command import CommandError, default_name, resolve_command
from ndrepro.protocol.errors import UsageError


@pytest.mark.parametrize("word", ["no-such-program-anywhere", "./nothing", "./a.txt", "."])
def test_what_cannot_be_executed_ends_as_a_shell_ends(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("text")
    with pytest.raises(CommandError) as caught:
        resolve_command([word if word != "." else "./"])
    shell = subprocess.run(["bash", "-c", f"exec {word if word != '.' else './'}"], stderr=subprocess.DEVNULL)
    assert caught.value.exit_code == shell.returncode and caught.value.cure


@pytest.mark.parametrize(("words", "name"), [([], None), ([""], None), (["a\0b"], None)])
def test_no_command_is_wrong_usage(words: list[str], name: str | None) -> None:
    with pytest.raises(UsageError):
        resolve_command(words, name)


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "x" * 101, "a.segments", "a b"])
def test_a_name_that_is_no_folders_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="--name"):
        resolve_command(["true"], name)


def test_runs_are_called_after_the_script_or_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("train.py", "ü.py", "run.sh"):
        Path(file).touch()
    assert default_name(["python", "-u", "train.py", "--lr", "1"]) == "train"
    assert default_name(["torchrun", "--nproc-per-node", "2", "train.py"]) == "train"
    assert default_name(["python", "-m", "package.module"]) == "package.module"
    assert default_name(["bash", "run.sh"]) == "run"
    assert default_name(["/usr/bin/true"]) == "true"
    assert default_name(["python", "missing.py"]) == "python"
    assert default_name(["python", "ü.py"]) == "program"

"""The README's commands, names and exit codes are those of the program."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

import pytest
from recorded_runs import ROOT, Answer

from ndrepro.cli.display import output
from ndrepro.protocol.experiment.catalogue import METHODS
from ndrepro.protocol.experiment.determinism import LEVELS
from ndrepro.protocol.experiment.experiment import Experiment

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [line[4:] for line in README.splitlines() if line.startswith("    ")]
COMMANDS = [
    line.partition("  #")[0].strip() for line in BLOCKS if line.startswith("ndrepro ") and "/ " not in line[:12]
]


def test_there_are_commands_to_look_at() -> None:
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("command", [command for command in COMMANDS if not command.startswith("ndrepro/")])
def test_every_command_and_option_exists(command: str, ndrepro: Callable[..., Answer]) -> None:
    _, *words = shlex.split(command)
    names = words[:2] if words[0] in ("keys", "ledger") else words[:1]
    answer = ndrepro(*names, "--help")
    assert answer.code == 0
    assert all(word in answer.out for word in words if word.startswith("--"))
    if names == ["run"] and not words[1].startswith("--"):
        settings = dict(word.split("=") for word in words if "=" in word)
        assert Experiment.from_name(words[1], settings)


def test_make_targets_and_experiments_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake ([a-z-]+)", README)) - {"and"}
    assert {"run", "test", "lint", "bench"} <= targets
    assert all(re.search(rf"(?m)^{target}:", makefile) for target in targets)
    for name in re.findall(r"EXP=(\w+)|`(vgg16_nd_\d+)`", README):
        assert Experiment.from_name("".join(name))


def test_the_words_are_those_of_the_program() -> None:
    assert all(f"`{name}`" in README for name in (*METHODS, *LEVELS))
    table = dict(re.findall(r"(?m)^\| (\d) \| (.+) \|$", README))
    assert list(table) == [str(code) for code in (output.DONE, output.NO, output.USAGE, output.COULD_NOT)]


def test_it_is_a_page() -> None:
    assert len(README.splitlines()) <= 150
    assert "@@" not in README

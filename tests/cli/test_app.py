"""The tree of commands: help that is current, the version, words that cannot be parsed."""

from __future__ import annotations

import inspect
import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from recorded_runs import Answer

import ndrepro as package
from ndrepro.cli.app import command_tree
from ndrepro.protocol.experiment.declaration import DEVICES
from ndrepro.protocol.experiment.determinism import LEVELS

TREE = command_tree(whole=True)
GROUPS = [name for name, command in TREE.commands.items() if hasattr(command, "commands")]
COMMANDS = [name for name in TREE.commands if name not in GROUPS] + [
    f"{group} {name}" for group in GROUPS for name in TREE.commands[group].commands
]


def test_help_names_every_command_and_exit_code(ndrepro: Callable[..., Answer]) -> None:
    answer = ndrepro("--help")
    assert answer.code == 0
    assert all(f"\n  {command} " in answer.out for command in TREE.commands)
    assert "0 done, 1 the answer is no, 2 wrong usage, 3 could not run" in answer.out


@pytest.mark.parametrize("group", ["", *GROUPS])
def test_no_description_is_cut_short(group: str, ndrepro: Callable[..., Answer]) -> None:
    answer = ndrepro(*group.split(), "--help")
    assert all(len(line) <= 80 for line in answer.out.splitlines())
    assert "..." not in answer.out.partition("Commands:")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(command: str, ndrepro: Callable[..., Answer]) -> None:
    answer = ndrepro(*command.split(), "-h")
    assert answer.code == 0 and f"Usage: ndrepro {command}" in answer.out
    assert "--json" in answer.out


def leaf(name: str) -> Any:
    command = TREE
    for word in name.split():
        command = command.commands[word]
    return command


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_has_an_example_that_can_be_typed(name: str) -> None:
    examples = re.findall(r"(?m)^ *Example: (ndrepro .*)$", leaf(name).help)
    assert examples, f"{name}: no line Example: ndrepro ..."
    for example in examples:
        _, *words = shlex.split(example.partition(" >")[0])
        assert words[: len(name.split())] == name.split()
        leaf(name).make_context(name, words[len(name.split()) :])


def test_an_example_with_a_wrong_option_is_found() -> None:
    with pytest.raises(Exception, match="--sed"):
        leaf("run").make_context("run", ["--sed", "3"])


def test_help_of_run_is_current(ndrepro: Callable[..., Answer]) -> None:
    text = " ".join(ndrepro("run", "--help").out.split())
    assert all(name in text for name in (*LEVELS, *DEVICES, "--set", "--resume", "--env", "--data", "--seed"))


def test_version(ndrepro: Callable[..., Answer]) -> None:
    assert ndrepro("--version").out == f"ndrepro {package.__version__}\n"


@pytest.mark.parametrize("words", [(), ("keys",)])
def test_no_command_shows_the_help_and_is_wrong_usage(words: tuple[str, ...], ndrepro: Callable[..., Answer]) -> None:
    answer = ndrepro(*words)
    assert answer.code == 2 and answer.out.startswith("Usage: ndrepro")


def test_the_first_commands_are_shown_where_none_is_given(ndrepro: Callable[..., Answer]) -> None:
    answer = ndrepro()
    shown = re.findall(r"(?m)^  ndrepro (\w+)(.*?)  +(\w.*)$", answer.out)
    assert [name for name, _, _ in shown][:3] == ["run", "record", "verify"]
    assert all(name in COMMANDS for name, _, _ in shown)
    assert len(answer.out.splitlines()) < 20 and "--debug" not in answer.out


def test_no_two_commands_are_described_alike() -> None:
    texts = [leaf(name).get_short_help_str(200) for name in COMMANDS]
    assert [text for text in texts if texts.count(text) > 1] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("rnu",), "Did you mean 'run'?"),
        (("run", "--sedd", "3"), "--seed"),
        (("reproduce",), "RUN"),
        (("verify", "a", "b"), "b"),
        (("keys", "trust", "file"), "--name"),
    ],
)
def test_words_that_cannot_be_parsed_are_two_lines_and_exit_2(
    words: tuple[str, ...], said: str, ndrepro: Callable[..., Answer]
) -> None:
    answer = ndrepro(*words)
    assert (answer.code, answer.out) == (2, "")
    what, cure = answer.err.splitlines()
    assert what.startswith("error: ") and said in what
    assert cure.startswith("  hint: see `ndrepro") and cure.endswith("--help`")
    assert ndrepro(*words, "--json").json["error"]["exit_code"] == 2


def test_debug_counts_wherever_it_stands(ndrepro: Callable[..., Answer]) -> None:
    assert "Traceback" not in ndrepro("show", "nope").err
    assert "Traceback" in ndrepro("--debug", "show", "nope").err
    assert "Traceback" in ndrepro("show", "nope", "--debug").err


def test_a_defect_of_our_own_is_two_lines_too(ndrepro: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    from ndrepro.execution.runs import run_lookup

    assert inspect.isfunction(run_lookup.summaries)
    monkeypatch.setattr(run_lookup, "summaries", lambda folder: 1 / 0)
    answer = ndrepro("list")
    assert answer.code == 3
    assert answer.err == (
        "error: ZeroDivisionError: division by zero\n"
        "  hint: this is a defect of ndrepro: the same command with --debug shows where\n"
    )

"""The plain form of ``ndrepro record`` is parsed as the command line's library parses it, and without that library."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from recorded_programs import Programs

from ndrepro.cli.app import command_tree
from ndrepro.cli.commands.record_options import FLAGS, REPEATED, SINGLE, RecordOptions, plain_options

RECORD = command_tree(whole=True).commands["record"]  # type: ignore[attr-defined]


def by_the_library(words: Sequence[str]) -> dict[str, Any]:
    parsed: dict[str, Any] = RECORD.make_context("record", [*words]).params
    return {**parsed, "runs": Path(parsed["runs"])}


def test_every_option_is_known_with_its_kind() -> None:
    for each in RECORD.params:
        if each.param_type_name == "argument" or each.name == "help":
            continue
        table = FLAGS if each.is_flag else REPEATED if each.multiple else SINGLE
        assert {option: each.name for option in each.opts}.items() <= table.items(), each.name
    assert len({*FLAGS.values(), *REPEATED.values(), *SINGLE.values()}) == len(vars(RecordOptions())) - 1


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--", "true"),
        ("-q", "python", "x.py", "--out", "theirs", "--", "-q"),
        ("--name", "a", "--out", "*.pt", "--out=b", "--data", "d", "--seed", "x=1", "--metrics", "m", "--", "--", "x"),
        ("--trail=every=3", "--runs", "r", "--json", "--quiet", "--name", "a", "--name", "b", "--", "true", ""),
        ("--name", "-q", "true"),
        ("--name=", "--", "true"),
    ],
)
def test_plain_words_mean_what_they_mean_to_the_library(words: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("", "elsewhere"):
        monkeypatch.setenv("NDREPRO_RUNS", variable)
        asked = plain_options(words)
        assert asked is not None and vars(asked) == by_the_library(words)


@pytest.mark.parametrize(
    "words", [("--help",), ("--nam", "a", "true"), ("--name",), ("-x", "true"), ("--json=1", "true"), ("--out", "ä")]
)
def test_what_is_not_plain_is_left_to_the_library(words: Sequence[str]) -> None:
    assert plain_options(words) is None


def test_a_plain_recording_imports_no_library_of_command_lines(tmp_path: Path) -> None:
    programs = Programs(tmp_path / "recorded")
    script = (
        "import sys; from ndrepro.cli import main; code = main(sys.argv[1:]); "
        "print(code, [name for name in ('typer', 'rich', 'securesystemslib') if name in sys.modules])"
    )
    words = [sys.executable, "-c", script, *programs.command("true")[3:]]
    done = subprocess.run(words, cwd=programs.work, env=programs.variables, capture_output=True, text=True)
    assert done.stdout == "0 []\n", done.stderr
    unusual = subprocess.run(
        [sys.executable, "-c", script, "record", "--help"], env=programs.variables, capture_output=True, text=True
    )
    assert "'typer'" in unusual.stdout, "the control"

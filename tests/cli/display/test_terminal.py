"""Numbers in words, lines that hang, commands that can be typed again."""

from __future__ import annotations

import io
import math
import os
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ndrepro.cli.display import options, terminal, words
from ndrepro.text.plurals import plural


def test_numbers_as_people_read_them() -> None:
    assert [words.percent(value) for value in (0.96671, 1.0, 0.0, None)] == ["96.67 %", "100.00 %", "0.00 %", "-"]
    assert [words.clock(value) for value in (0, 24.4, 61, 3723.4, 360000, None, math.inf)] == [
        "0:00",
        "0:24",
        "1:01",
        "1:02:03",
        "100:00:00",
        "-",
        "-",
    ]
    assert [words.loss(value) for value in (2.30261, 1e9, math.nan, None)] == ["2.3026", "1.0e+09", "nan", "-"]
    assert [words.size(value) for value in (0, 999, 61_200_000, 10**15)] == ["0 B", "999 B", "61.2 MB", "1000.0 TB"]
    assert [plural(count, "epoch") for count in (0, 1, 2)] == ["0 epochs", "1 epoch", "2 epochs"]
    assert [words.rate(value) for value in (None, 3.25, 1234.5)] == ["-", "3.2", "1234"]


def test_text_hangs_in_a_terminal_and_stays_whole_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a word and another and " + "x" * 60
    monkeypatch.setattr(terminal, "console", lambda: Console(file=io.StringIO(), force_terminal=True, width=50))
    assert terminal.hanging(text, 10) == f"a word and another and\n{'':10}{'x' * 60}"
    monkeypatch.setattr(terminal, "console", lambda: Console(file=io.StringIO(), width=50))
    assert terminal.hanging(text, 10) == text


STRANGER = "lenet\x1b]0;owned\x07\x1b[2J\x9b1A\u202et\u200bxt.exe\r"
SPELLED = r"lenet\x1b]0;owned\x07\x1b[2J\x9b1A\u202et\u200bxt.exe\r"


def test_a_line_commands_no_terminal() -> None:
    written = io.StringIO()
    terminal.write_line(STRANGER, written)
    assert written.getvalue() == SPELLED + "\n"
    terminal.write_text("é\tü\nñ 漢", written)
    assert written.getvalue().endswith("é\tü\nñ 漢\n"), "the control: letters of any script stay"


def test_a_console_sends_its_own_commands_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    table = Table(STRANGER)
    table.add_row(Text(STRANGER, style="bold"))
    terminal.console.__wrapped__().print(table, soft_wrap=True)
    seen = written.getvalue()
    assert "\x1b[1m" in seen, "the control: bold is the console's own"
    assert "\x1b]0;" not in seen and "\x1b[2J" not in seen and not {"\x07", "\x9b", "\u202e"} & set(seen)
    assert seen.count(r"\x1b]0;owned") == 2


def test_a_name_with_a_newline_makes_no_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_terminal in (True, False):
        pretended = Console(file=io.StringIO(), force_terminal=is_terminal, width=200)
        monkeypatch.setattr(terminal, "console", lambda pretended=pretended: pretended)
        assert terminal.hanging("x\nverified: 12 checks passed", 4) == "x verified: 12 checks passed"


def test_a_run_is_named_by_what_will_find_it_again(tmp_path: Path) -> None:
    root = Path("runs/lenet_bn_1/20261121T101502Z-3f9a1c")
    assert terminal.run_word(root, options.DEFAULT_RUNS, options.DEFAULT_RUNS) == root.name
    elsewhere = tmp_path / "my runs é"
    word = terminal.run_word(elsewhere / "lenet_bn_1" / "a", elsewhere, options.DEFAULT_RUNS)
    assert word == f"'{elsewhere}/lenet_bn_1/a'"


def test_the_program_is_named_as_the_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    assert terminal.program().endswith("python -P -m ndrepro")  # not installed
    script = folder / "ndrepro"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.defpath)
    assert terminal.program() == "bin/ndrepro"  # installed, not on the PATH
    monkeypatch.setenv("PATH", str(folder))
    assert terminal.program() == "ndrepro"


def test_a_stream_that_was_closed_takes_text_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    terminal.prepare_streams()
    terminal.write_line("into nothing")
    sys.stdout.close()


def test_what_a_stranger_wrote_begins_no_line_of_its_own() -> None:
    assert terminal.single_line("1.0\nverdict    identical\u2028signed\u061c") == (
        r"1.0\nverdict    identical\u2028signed\u061c"
    )


def test_the_console_writes_to_the_standard_output_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that replaces standard output, as a caller in Python may, had a closed file in the console before."""
    first, second = io.StringIO(), io.StringIO()
    terminal.console.cache_clear()
    monkeypatch.setattr(sys, "stdout", first)
    terminal.console().print("one")
    assert first.getvalue() == "one\n"
    first.close()
    monkeypatch.setattr(sys, "stdout", second)
    terminal.console().print("two")
    assert second.getvalue() == "two\n"

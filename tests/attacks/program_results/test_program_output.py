"""Attack: what a program prints while it is executed again clears the reviewer's terminal and shows another verdict."""

from __future__ import annotations

from pathlib import Path

import pytest
from strange_programs import Stranger

from ndrepro.text.marked_lines import MarkedLines

FORGED = "verdict    identical"
HIDES = "\x1b[2J\x1b[H" + FORGED + "\x1b[8m\x1b]0;title\x07"


def test_a_forged_verdict_is_marked_and_commands_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    author = Stranger.make(
        tmp_path / "a", {"train.py": f"open('out.txt', 'w').write('0.6')\nprint({HIDES!r}, flush=True)\n"}
    )
    run = author.record(outputs=("out.txt",))
    assert HIDES in capfd.readouterr().out, "its author's own terminal gets what it prints"
    author.reproduce(run, show_output=True)
    shown = capfd.readouterr().err
    assert f"program | \\x1b[2J\\x1b[H{FORGED}\\x1b[8m\\x1b]0;title\\x07\n" in shown
    assert "\x1b" not in shown and not any(line.startswith(FORGED) for line in shown.splitlines())


LINES = {
    "whole lines": ([b"a\nb", b"c\n"], "| a\n| bc\n"),
    "a line without end": ([b"a"], "| a\n"),
    "a progress bar": ([b"10 %\r20", b" %\r\n"], "| 20 %\n"),
    "a line over the mark": ([b"x\r" + FORGED.encode() + b"\n"], f"| {FORGED}\n"),
    "cursor up": ([b"\x1b[1A" + FORGED.encode()], f"| \\x1b[1A{FORGED}\n"),
    "turned direction": (["\u202eabc\n".encode()], "| \\u202eabc\n"),
    "bytes that are no text": ([b"\xff\n"], "| \ufffd\n"),
}


@pytest.mark.parametrize("case", LINES)
def test_every_line_has_its_mark(case: str) -> None:
    pieces, shown = LINES[case]
    lines = MarkedLines("| ")
    assert (b"".join(map(lines, pieces)) + lines.end()).decode() == shown


def test_no_line_is_wrapped_by_the_terminal() -> None:
    """Blanks up to the right edge would put what follows at the left one, without a mark."""
    for blank in (" ", "\t", "\u3000"):
        lines = MarkedLines("| ", columns=40)
        shown = lines((blank * 40 + FORGED + "\n").encode()).decode()
        assert all(line.startswith("| ") for line in shown.splitlines())
        assert all(sum(1 if letter.isascii() else 2 for letter in line) < 40 for line in shown.splitlines())


def test_a_line_that_never_ends_takes_no_memory() -> None:
    lines = MarkedLines("| ")
    assert sum(len(lines(b"x" * 100_000)) for _ in range(50)) > 4_990_000


def test_letters_that_the_terminal_cannot_show_are_escaped() -> None:
    assert MarkedLines("| ", encoding="ascii")("ä\n".encode()) == b"| \\xe4\n"

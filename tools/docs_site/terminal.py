"""Commands run on a real pseudo-terminal, and what the screen shows in the end, as an SVG.

The picture does not move: an animated one is faint or empty wherever a browser shows its first frame (in print, in a
preview, below the fold).
"""

from __future__ import annotations

import codecs
import io
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path

from rich.color import parse_rgb_hex
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

_DIM = ["#484f58", "#ff7b72", "#56d364", "#e3b341", "#79c0ff", "#d2a8ff", "#56d4dd", "#b1bac4"]
_BRIGHT = ["#8b949e", "#ffa198", "#7ee787", "#f0c674", "#a5d6ff", "#e2c5ff", "#b3f0ff", "#f0f6fc"]
_THEME = TerminalTheme(
    (22, 27, 34),
    (230, 237, 243),
    [parse_rgb_hex(color[1:]) for color in _DIM],
    [parse_rgb_hex(color[1:]) for color in _BRIGHT],
)
# no font is fetched: the reader's own monospaced one
_FORMAT = """<svg class="rich-terminal" viewBox="0 0 {width} @HEIGHT@" xmlns="http://www.w3.org/2000/svg" role="img">
<title>@TITLE@</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
 font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="@HEIGHT@"/></clipPath>
{lines}
</defs>
<rect fill="#161b22" x="0" y="0" width="{width}" height="@HEIGHT@" rx="8"/>
<g transform="translate({terminal_x}, 16)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
_CONTROL = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])|[\r\n]")


@dataclass
class Screen:
    """The lines of a terminal, as far as this program's output needs it: text, colours, one line drawn again."""

    lines: list[str] = field(default_factory=lambda: [""])
    row: int = 0
    _again: bool = False

    def write(self, text: str) -> None:
        """Show what a program wrote."""
        last = 0
        for control in _CONTROL.finditer(text):
            self._put(text[last : control.start()])
            last = control.end()
            self._obey(control)
        self._put(text[last:])

    def _put(self, text: str) -> None:
        if not text:
            return
        if self._again or not self.lines[self.row]:
            self.lines[self.row] = ""
        self.lines[self.row] += text
        self._again = False

    def _obey(self, control: re.Match[str]) -> None:
        parameter, final = control[1], control[2]
        if control[0] == "\n":
            self.row += 1
            self._again = False
            if self.row == len(self.lines):
                self.lines.append("")
        elif control[0] == "\r":
            self._again = True
        elif final == "K":
            self.lines[self.row] = ""
        elif final == "A":
            self.row = max(self.row - int(parameter or 1), 0)
        elif final == "m":
            self._put(control[0])


def record(commands: Sequence[Sequence[str]], folder: Path, variables: Mapping[str, str], width: int) -> Screen:
    """Run commands one after the other in ``folder`` on a terminal ``width`` columns wide.

    Raises RuntimeError for an exit code other than 0 and 1, which is an answer.
    """
    screen = Screen()
    for words in commands:
        shown = " ".join(words)
        screen.write(f"\x1b[1;32m$\x1b[0m \x1b[1m{shown}\x1b[0m\r\n")
        code = _run(words, folder, variables, width, screen)
        if code not in (0, 1):
            raise RuntimeError(f"{shown}: exit code {code}\n" + "\n".join(screen.lines))
        screen.write("\n")
    return screen


def _run(words: Sequence[str], folder: Path, variables: Mapping[str, str], width: int, screen: Screen) -> int:
    """Run one command on a pseudo-terminal and show what it writes; returns its exit code."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    command = subprocess.Popen(
        words, cwd=folder, env=dict(variables), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    decoder = codecs.getincrementaldecoder("utf-8")()
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        screen.write(decoder.decode(data))
    os.close(ours)
    return command.wait()


def picture(screen: Screen, title: str, width: int) -> str:
    """The SVG of a screen."""
    lines = [line.rstrip() for line in screen.lines]
    while lines and not Text.from_ansi(lines[-1]).plain.strip():
        lines.pop()
    console = Console(record=True, width=width + 1, file=io.StringIO(), force_terminal=True)
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True, overflow="ignore", crop=True)
    svg = console.export_svg(theme=_THEME, code_format=_FORMAT, unique_id="t").replace("@TITLE@", title)
    # without the title bar that rich leaves room for
    return svg.replace("@HEIGHT@", f"{len(lines) * 24.4 + 32:.0f}")

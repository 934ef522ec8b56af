"""Commands run on a real pseudo-terminal, and what the screen shows in the end, as an SVG.

Every line of the picture, faint before, appears at the moment at which it appeared on the terminal, pauses shortened.
Where the reader wishes no motion, or animations are not supported, all of it is there at once.
"""

from __future__ import annotations

import codecs
import os
import pty
import re
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fcntl import ioctl
from pathlib import Path

from rich.color import parse_rgb_hex
from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

# seconds that a pause on the terminal takes in the picture, at most
LONGEST_PAUSE = 0.25
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
@keyframes appear {{ from {{ opacity: .25 }} to {{ opacity: 1 }} }}
@media (prefers-reduced-motion: no-preference) {{ .{unique_id}-matrix text {{ animation: appear .05s both; }} }}
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
    born: list[float] = field(default_factory=lambda: [0.0])
    row: int = 0
    _again: bool = False

    def write(self, text: str, now: float) -> None:
        """Show what a program wrote at second ``now``."""
        last = 0
        for control in _CONTROL.finditer(text):
            self._put(text[last : control.start()], now)
            last = control.end()
            self._obey(control, now)
        self._put(text[last:], now)

    def _put(self, text: str, now: float) -> None:
        if not text:
            return
        if self._again or not self.lines[self.row]:
            self.lines[self.row], self.born[self.row] = "", now
        self.lines[self.row] += text
        self._again = False

    def _obey(self, control: re.Match[str], now: float) -> None:
        parameter, final = control[1], control[2]
        if control[0] == "\n":
            self.row += 1
            self._again = False
            if self.row == len(self.lines):
                self.lines.append("")
                self.born.append(now)
        elif control[0] == "\r":
            self._again = True
        elif final == "K":
            self.lines[self.row] = ""
        elif final == "A":
            self.row = max(self.row - int(parameter or 1), 0)
        elif final == "m":
            self._put(control[0], now)


def record(commands: Sequence[Sequence[str]], folder: Path, variables: Mapping[str, str], width: int) -> Screen:
    """Run commands one after the other in ``folder`` on a terminal ``width`` columns wide.

    Raises RuntimeError for an exit code other than 0 and 1, which is an answer.
    """
    screen, start = Screen(), time.monotonic()
    for words in commands:
        shown = " ".join(words)
        screen.write(f"\x1b[1;32m$\x1b[0m \x1b[1m{shown}\x1b[0m\r\n", time.monotonic() - start)
        code = _run(words, folder, variables, width, screen, start)
        if code not in (0, 1):
            raise RuntimeError(f"{shown}: exit code {code}\n" + "\n".join(screen.lines))
        screen.write("\n", time.monotonic() - start)
    return screen


def _run(
    words: Sequence[str], folder: Path, variables: Mapping[str, str], width: int, screen: Screen, start: float
) -> int:
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
        screen.write(decoder.decode(data), time.monotonic() - start)
    os.close(ours)
    return command.wait()


def picture(screen: Screen, title: str, width: int) -> str:
    """The SVG of a screen."""
    lines = [line.rstrip() for line in screen.lines]
    while lines and not Text.from_ansi(lines[-1]).plain.strip():
        lines.pop()
    console = Console(record=True, width=width + 1, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    for line in lines:
        console.print(Text.from_ansi(line), soft_wrap=True, overflow="ignore", crop=True)
    svg = console.export_svg(theme=_THEME, code_format=_FORMAT, unique_id="t").replace("@TITLE@", title)
    # without the title bar that rich leaves room for
    svg = svg.replace("@HEIGHT@", f"{len(lines) * 24.4 + 32:.0f}")
    delays = _delays(screen.born[: len(lines)])
    return re.sub(
        r'<text class="(t-r\d+)"([^>]*clip-path="url\(#t-line-(\d+)\)")',
        lambda text: f'<text class="{text[1]}" style="animation-delay:{delays[int(text[3])]:.2f}s"{text[2]}',
        svg,
    )


def _delays(born: Sequence[float]) -> list[float]:
    """When each line appears: as on the terminal, but no pause longer than ``LONGEST_PAUSE``."""
    delays, latest, at = [], 0.0, 0.0
    for moment in born:
        at += min(max(moment - latest, 0.0), LONGEST_PAUSE)
        latest = max(latest, moment)
        delays.append(at)
    return delays

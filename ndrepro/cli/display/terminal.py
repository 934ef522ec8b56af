"""The terminal, as it is: wide or narrow, coloured or not, ASCII only, a pipe, or gone.

Output never decides a command's fate: letters that the locale cannot show are written as escapes, and when the
reader of a pipe leaves (``| head``), the rest is dropped and the exit code stays that of the answer. Nor does what is
shown command the terminal: manifests and file names come from strangers, and their control characters are spelled out.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import shlex
import sys
from collections.abc import Collection, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ndrepro.text.visible import visible
from provenance.system_programs import find_any_program

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

PIPE_WIDTH = 120


def prepare_streams() -> None:
    """Make standard output and error safe to write any text to; a closed one becomes the null device.

    Paths that are not UTF-8 reach a pipe or file byte for byte, so that a script can use them, and a terminal escaped.
    """
    codecs.register_error("ndrepro-path", _bytes_of_path)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (open as long as the process)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace" if stream.isatty() else "ndrepro-path")


def _bytes_of_path(error: UnicodeError) -> tuple[bytes, int]:
    """The bytes that ``os.fsdecode`` kept as lone surrogates; what else cannot be encoded as an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    pieces = (
        bytes([ord(letter) - 0xDC00]) if "\udc80" <= letter <= "\udcff" else letter.encode("ascii", "backslashreplace")
        for letter in letters
    )
    return b"".join(pieces), error.end


def single_line(text: str) -> str:
    """``visible`` text that cannot begin a line of its own, for what strangers wrote."""
    return visible(text).replace("\n", r"\n")


def write_line(text: str, stream: IO[str] | None = None) -> None:
    """Write one line to ``stream`` (default: standard output), unwrapped; a line end in ``text`` is spelled out."""
    write_text(single_line(text), stream)


def write_text(text: str, stream: IO[str] | None = None) -> None:
    """Write lines to ``stream`` (default: standard output), unwrapped; a reader that left is no error."""
    stream = stream or sys.stdout
    try:
        stream.write(visible(text) + "\n")
        stream.flush()
    except BrokenPipeError:
        drop(stream)


def flush() -> None:
    """Flush both streams, so that the interpreter has nothing left to fail at when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            drop(stream)


def drop(stream: IO[str]) -> None:
    """Send what ``stream`` still holds, and all that follows, to the null device."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file descriptor has nothing to drop
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, stream.fileno())
        os.close(sink)


@cache
def console(error: bool = False) -> Console:
    """The rich console on standard output, or on standard error: one each, made when first something is printed."""
    from rich.console import Console
    from rich.segment import Segment

    class PatientConsole(Console):
        """A console that outlives the reader of its pipe, and sends no command that is not its own."""

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else visible(text), style, control)

        def on_broken_pipe(self) -> None:
            self.quiet = True
            drop(self.file)

    stream = sys.stderr if error else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    return PatientConsole(stderr=error, width=width, highlight=False, markup=False, emoji=False)


def write_styled(*parts: str | tuple[str, str]) -> None:
    """Print one line of texts, each alone or with its style."""
    from rich.text import Text

    console().print(Text.assemble(*parts), soft_wrap=True)


def write_row(label: str, text: str, width: int, style: str = "", alarms: Collection[str] = ()) -> None:
    """Print a dim label, ``width`` columns wide, and a text beside it; words among ``alarms`` stand out."""
    from rich.text import Text

    body = Text(hanging(text, width + 1), style=style)
    body.highlight_words(alarms, style="bold yellow")
    console().print(Text.assemble((f"{label:<{width}} ", "dim"), body), soft_wrap=True)


def write_some(lines: Sequence[str], most: int, rest: str = "and {} more (--json has them)") -> None:
    """Print the first ``most`` lines, and how many there are more: ``rest`` with their number."""
    for line in lines[:most]:
        write_line(line)
    if len(lines) > most:
        write_line(rest.format(len(lines) - most))


def shows(letters: str) -> bool:
    """Whether standard output can show these letters as they are."""
    try:
        letters.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def hanging(text: str, indent: int) -> str:
    """``text`` broken so that its further lines stand below its first, ``indent`` columns in; one line in a pipe."""
    import textwrap

    text = re.sub(r"\s", " ", text)  # a line of its own would look like the program's
    if not console().is_terminal:
        return text
    width = max(console().width - indent, 30)
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return f"\n{'':<{indent}}".join(lines)


def program() -> str:
    """What to type to run this program again, as shell words: its name if the shell finds this very one by it."""
    beside = Path(sys.executable).with_name("ndrepro")
    found = find_any_program("ndrepro")
    if found and beside.is_file() and os.path.samefile(found, beside):
        return "ndrepro"
    if beside.is_file():
        return shlex.quote(here(beside))
    return f"{shlex.quote(here(Path(sys.executable)))} -P -m ndrepro"


def run_word(root: Path, runs: Path, default_runs: Path) -> str:
    """What to type for the run at ``root``: its identifier where that will be found, else its path, as a shell word."""
    inside = runs == default_runs and root.absolute().parents[1] == runs.absolute()
    return shlex.quote(root.name if inside else here(root))


def here(path: Path) -> str:
    """A path as it is shortest to type: relative to the current folder where it is inside it."""
    absolute = Path(os.path.abspath(path))
    with contextlib.suppress(OSError, ValueError):  # the current folder may be gone
        return str(absolute.relative_to(Path.cwd()))
    return str(absolute)

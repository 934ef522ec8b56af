"""``ndrepro watch``: many runs, live in the terminal; in a pipe once, as plain lines."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from ndrepro.cli import completion
from ndrepro.cli.display import options, output, terminal
from ndrepro.cli.views.watching import Watched, WatchedRun, any_running, cells, table

if TYPE_CHECKING:
    from rich.console import Group


def watch(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUNS]...",
            show_default=False,
            autocompletion=completion.runs,
            help="Experiments, identifiers of runs or their beginnings, or latest; by default running and new ones.",
        ),
    ] = None,
    every: Annotated[float, typer.Option("--every", metavar="S", min=0.2, help="Seconds between two looks.")] = 2.0,
    runs: options.Runs = options.DEFAULT_RUNS,
    as_json: options.Json = False,
) -> int:
    """Watch runs while they run. q or Ctrl-C ends it, and no run. In a pipe each run is printed once.

    Example: ndrepro watch lenet_nd_5_digits
    """
    watched = Watched(runs, names or [])
    if as_json:
        output.print_json({"runs": watched.look()})
    elif terminal.console().is_terminal:
        _live(watched, every)
    else:
        found = watched.look()
        for each in found:
            terminal.write_line("  ".join(cells(each)))
        if not found:
            cure = f"`{terminal.program()} watch latest` shows the last one, `{terminal.program()} list` all"
            terminal.write_line(
                f"no run {'of these names' if names else 'is running'} in {terminal.here(runs)}: {cure}"
            )
    return output.DONE


def _live(watched: Watched, every: float) -> None:
    """Look again and again until q is typed; the last view stays."""
    from rich.live import Live

    console = terminal.console()
    with _key() as typed, Live(console=console, auto_refresh=False, transient=False) as live:
        while True:
            live.update(_view(watched.look(), console.height - 3), refresh=True)
            if _waits_for_q(typed, every):
                return


def _view(runs: list[WatchedRun], rows: int) -> Group:
    from rich.console import Group
    from rich.text import Text

    hint = "q ends the view" if any_running(runs) else "nothing runs now; new runs appear here; q ends the view"
    more = f"{len(runs) - rows} earlier runs not shown; " if len(runs) > rows else ""
    return Group(*([table(runs, rows)] if runs else []), Text(f"{more}{hint}", style="dim"))


def _waits_for_q(typed: Callable[[float], str], seconds: float) -> bool:
    """Wait so long; True at once where q is typed or Ctrl-C comes."""
    end = time.monotonic() + seconds
    try:
        while (left := end - time.monotonic()) > 0:
            if typed(left).lower() == "q":
                return True
    except KeyboardInterrupt:
        return True
    return False


@contextmanager
def _key() -> Iterator[Callable[[float], str]]:
    """What waits for a key at most so many seconds: "" for none; where standard input is no terminal it only waits."""
    import select

    def wait(seconds: float) -> str:
        time.sleep(seconds)
        return ""

    if not sys.stdin or not sys.stdin.isatty():
        yield wait
        return

    try:
        import termios
        import tty
    except ImportError:  # no terminal of this kind: Ctrl-C ends the view
        yield wait
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)

    def read(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return os.read(descriptor, 1).decode("ascii", "replace") if ready else ""

    try:
        tty.setcbreak(descriptor)  # Ctrl-C still interrupts
        yield read
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

"""The command line: ``ndrepro run | verify | show | list | doctor | keys``.

A command parses, calls one function and prints. Whatever goes wrong, anywhere below, arrives here as an exception
and leaves as two lines on standard error (what, and the cure) and an exit code (``output``). Of all commands the
one that is named is imported, torch never, and rich only to print.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that ``arguments`` (default: the process's own) name; returns the exit code, never raises."""
    if arguments is None:
        _import_installed_code_first()
    try:
        return _main(arguments)
    except KeyboardInterrupt:  # before what reports errors is there, or while it reports one
        sys.stderr.write("error: interrupted\n  hint: type the command again\n")
        return 3


def _main(arguments: Sequence[str] | None) -> int:
    from ndrepro.cli.commands.record_options import own_words
    from ndrepro.cli.display import output, terminal

    # no list() in this file: the command's module, once imported, is this package's attribute of that name
    words = [*(sys.argv[1:] if arguments is None else arguments)]
    # looked for by hand, wherever they stand: they must hold even when the words themselves cannot be parsed
    own = own_words(words)
    debug, as_json = "--debug" in own, "--json" in own
    terminal.prepare_streams()
    _await_children()
    try:
        code = _invoke([*(word for word in own if word != "--debug"), *words[len(own) :]])
    except (Exception, KeyboardInterrupt) as error:
        code = output.report(error, as_json=as_json, debug=debug)
    terminal.flush()
    return code


def _import_installed_code_first() -> None:
    """Take the current folder and what is in it off the search path, and what else PYTHONPATH names to its end.

    The variable is for the program that is recorded or repeated, which gets it as it is. This process holds the signing
    key, and an author's checkout may have a ``json.py`` or ``typer.py``.
    """
    try:
        here = os.path.realpath(".")
    except FileNotFoundError:  # nothing can be imported from a folder that is gone
        return
    own = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    given = [os.path.realpath(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    first = [entry for entry in sys.path if os.path.realpath(entry) not in (*given, here) or entry == own]
    later = [entry for entry in dict.fromkeys(given) if entry != own and not f"{entry}/".startswith(f"{here}/")]
    sys.path[:] = [*first, *(entry for entry in later if entry not in first)]


def _await_children() -> None:
    """Have the kernel report how children end, also where whoever started this process ignores it for their own.

    Ignored, they would leave no exit code: a program would never be seen to end, and errors of git would be none.
    """
    if hasattr(signal, "SIGCHLD") and signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        with suppress(ValueError):  # not in the main thread
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _invoke(words: Sequence[str]) -> int:
    """Run a command; a plain ``record`` without the library that parses all others."""
    from ndrepro.cli.commands.record_options import plain_options

    if words[:1] == ["record"] and (asked := plain_options(words[1:])) is not None:
        gc.disable()  # what is imported stays
        from ndrepro.cli.commands.recording import record_command

        gc.freeze()
        gc.enable()
        return record_command(asked)
    from ndrepro.cli.app import invoke

    return invoke(words)

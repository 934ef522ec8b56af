"""Completion is installed by ``--install-completion`` and works on the line of a real bash, zsh and fish.

Each shell runs in a terminal of its own. Words are typed in part, each with Tab; the command that is executed at the
end prints its answer only where all of them were completed.
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from recorded_runs import ROOT

# the shell's start-up file, and a prompt that shows that it is ready
PROMPTS = {
    "bash": (".bashrc", "PS1='ready> '\n"),
    "zsh": (".zshrc", "PROMPT='ready> '\n"),
    "fish": (".config/fish/config.fish", "function fish_prompt; echo 'ready> '; end\nset -g fish_greeting\n"),
}
_PATIENCE = 120


@contextmanager
def typed_into(shell: str, home: Path, path: str) -> Iterator[Terminal]:
    """An interactive shell in a terminal, with ``home``, ended at the end."""
    child, terminal = pty.fork()
    if child == 0:
        variables = {"HOME": str(home), "PATH": path, "TERM": "xterm", "SHELL": shell, "PYTHONPATH": str(ROOT)}
        os.execve(shell, [shell, "-i"], {**variables, "LANG": "C.UTF-8", "COLUMNS": "200"})
    try:
        yield Terminal(terminal)
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(child, 0)


class Terminal:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._shown = ""

    def type(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def expect(self, text: str) -> None:
        """Wait until ``text`` is shown after what was expected before."""
        end = time.monotonic() + _PATIENCE
        while text not in self._shown:
            ready = select.select([self._descriptor], [], [], max(0.0, end - time.monotonic()))[0]
            assert ready, f"{text!r} was not shown, but {self._shown[-2000:]!r}"
            self._shown += os.read(self._descriptor, 65536).decode(errors="replace")
        self._shown = self._shown.partition(text)[2]


@pytest.mark.parametrize("name", PROMPTS)
def test_a_command_an_experiment_and_an_option_are_completed(name: str, tmp_path: Path) -> None:
    shell = shutil.which(name)
    if shell is None:
        pytest.skip(f"no {name} here")
    program = tmp_path / "bin" / "ndrepro"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m ndrepro "$@"\n')
    program.chmod(0o755)
    home = tmp_path / "home"
    settings = home / PROMPTS[name][0]
    settings.parent.mkdir(parents=True)
    settings.write_text(PROMPTS[name][1])
    path = f"{program.parent}:{os.environ['PATH']}"
    with typed_into(shell, home, path) as terminal:
        terminal.expect("ready> ")
        terminal.type("ndrepro --install-completion\n")
        terminal.expect(f"{name} completion installed in {home}")
        terminal.expect("ready> ")
    with typed_into(shell, home, path) as terminal:
        terminal.expect("ready> ")
        for keys, completed in (("ndrepro sett\t", "ings"), ("vgg16_nd_100_dig\t", "its"), ("--js\t", "on")):
            terminal.type(keys)
            terminal.expect(completed)
        terminal.type("\n")
        terminal.expect('"key": "learning_rate"')

"""A line that moves is for a person at a terminal: nothing of it is in a pipe or in JSON."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from ndrepro.cli.display.counting import counted
with counted(sys.argv[1] == "json") as watch:
    watch(200, 100_000)
    watch(100_000, 100_000)
"""
IMAGES = """
import time
from ndrepro.cli.display.counting import ImagesCounter
counter = ImagesCounter("own")
counter.show("train", 3000, 9000)
time.sleep(0.5)  # it is drawn ten times a second
counter.stop()
"""


def on_a_terminal(word: str, script: str = SCRIPT) -> str:
    """What the terminal gets on standard error."""
    ours, theirs = pty.openpty()
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    folder = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", script, word], stderr=theirs, env=variables, cwd=folder, check=True)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # how Linux reports that the other end is closed
        pass
    os.close(ours)
    return shown.decode()


def test_a_person_at_a_terminal_sees_how_far_it_is() -> None:
    assert "verifying manifests" in on_a_terminal("text") and "100,000" in on_a_terminal("text")


def test_nobody_else_does() -> None:
    assert on_a_terminal("json") == ""
    piped = subprocess.run([sys.executable, "-c", SCRIPT, "text"], capture_output=True, check=True)
    assert piped.stdout == piped.stderr == b""


def test_images_that_are_read_are_counted_on_a_terminal_alone() -> None:
    assert "reading own: train, 3,000 of 9,000 images" in on_a_terminal("", IMAGES)
    folder = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", IMAGES], capture_output=True, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

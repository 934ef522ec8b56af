"""Runs are watched live in a real terminal, and printed once in a pipe; what appears, ends or is damaged is shown."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable

from recorded_runs import ROOT, Answer, begin_run, open_run, sign_run

from ndrepro.cli.views.watching import Watched
from ndrepro.protocol.layout import RunsFolder


def test_a_pipe_gets_each_run_once(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa")
    alive = open_run(runs, begin_run(runs, "lenet_nd_2_digits", "20261121T110000Z-bbbbbb", epochs=1))
    assert ndrepro("watch").out == "lenet_nd_2_digits  bbbbbb  running  1/2  -  -  30.00  25.00\n"
    assert (
        ndrepro("watch", "lenet_bn_2_digits").out == "lenet_bn_2_digits  aaaaaa  completed  2/2  -  -  60.00  50.00\n"
    )
    (run,) = ndrepro("watch", "20261121T11", "--json").json["runs"]
    assert (run["outcome"], run["step"]) == ("running", None)
    alive.release()
    assert ndrepro("watch").out.startswith("no run is running in runs: ")
    assert ndrepro("watch", "lenet_nd").out.startswith("no run of these names in runs: ")
    assert ndrepro("watch", "latest").out == "lenet_nd_2_digits  bbbbbb  no end  1/2  -  -  30.00  25.00\n"


def test_runs_that_appear_end_and_are_damaged_are_shown(runs: RunsFolder) -> None:
    sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa")
    watched = Watched(runs.root, ())
    assert watched.look() == []
    folder = begin_run(runs, "lenet_nd_2_digits", "20261121T110000Z-bbbbbb", epochs=1)
    recorder = open_run(runs, folder)
    (run,) = watched.look()
    assert (run.summary.outcome, run.progress) == ("running", "1/2")
    recorder.release()
    (run,) = watched.look()
    assert run.summary.outcome == "no end"
    folder.metrics.write_text("{}\n")
    folder.trail.write_bytes(b"no trail")
    (run,) = watched.look()
    assert (run.summary.outcome, run.step) == ("unreadable", None)


def test_q_ends_the_view_in_a_terminal_and_leaves_it_as_it_was(runs: RunsFolder) -> None:
    alive = open_run(runs, begin_run(runs, "lenet_nd_2_digits", "20261121T110000Z-bbbbbb", epochs=1))
    ours, theirs = pty.openpty()
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100", "LINES": "24"}
    words = [sys.executable, "-m", "ndrepro", "watch", "--every", "0.2"]
    process = subprocess.Popen(words, env=variables, stdin=theirs, stdout=theirs)
    os.close(theirs)
    seen = _until(ours, "q ends the view")
    assert "bbbbbb" in seen and "running" in seen
    os.write(ours, b"xq")
    assert process.wait() == 0
    assert "\x1b[?25h" in _until(ours, "\x1b[?25h"), "the cursor is back"
    os.close(ours)
    alive.release()


def _until(descriptor: int, text: str) -> str:
    """What the terminal showed, up to and with ``text``."""
    seen = ""
    while text not in seen:
        ready, _, _ = select.select([descriptor], [], [], 300)
        assert ready, seen
        try:
            seen += os.read(descriptor, 4096).decode("utf-8", "replace")
        except OSError:  # the other side is closed
            break
    return seen

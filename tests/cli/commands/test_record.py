"""A program behaves as without a recorder: its output, its exit code, its terminal, its signals. And bad input."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from recorded_programs import Programs, wait_for
from recorded_runs import Answer

from ndrepro.cli import main

STREAMS = """
import os, sys
print(sys.argv[1:], sys.stdin.read().upper(), flush=True)
os.write(2, bytes(range(256)) + b"no end of line")
sys.exit(3)
"""
TERMINAL = "import os; print([os.isatty(n) for n in range(3)], os.get_terminal_size(1), 'ü')"
# waits for a signal, and then for a second one that should not come
COUNTING = """
import pathlib, signal, time
came = []
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, frame: came.append(number))
pathlib.Path("ready").write_text("yes")
while not came:
    time.sleep(0.01)
time.sleep(0.7)
pathlib.Path("came").write_text(" ".join(map(str, came)))
"""


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path / "recorded")


@pytest.mark.parametrize(
    "words",
    [
        (sys.executable, "-c", STREAMS, "--debug", "--json", "", "a b", "-- x"),
        ("sh", "-c", "echo before; kill -TERM $$"),
        ("sh", "-c", "kill -9 $$"),
        ("bash", "-c", "exec >&-; exit 255"),
    ],
    ids=["streams", "signal", "kill", "closed output"],
)
def test_output_and_exit_code_are_those_without_a_recorder(words: Sequence[str], programs: Programs) -> None:
    bare, recorded = (
        subprocess.run(each, cwd=programs.work, env=programs.variables, input=b"typed", capture_output=True)
        for each in (words, programs.command(*words))
    )
    assert (recorded.returncode, recorded.stdout, recorded.stderr) == (bare.returncode, bare.stdout, bare.stderr)
    assert programs.only().record.exit_code == bare.returncode


def test_a_reader_that_leaves_ends_the_program(programs: Programs) -> None:
    words = subprocess.list2cmdline(programs.command("yes"))
    done = subprocess.run(
        ["bash", "-c", f"{words} | head -1; echo ${{PIPESTATUS[0]}}"],
        cwd=programs.work,
        env=programs.variables,
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"y\n{128 + signal.SIGPIPE}\n"
    assert programs.only().record.streams["stdout"]["left"] is True


def _at_terminal(words: Sequence[str], programs: Programs) -> bytes:
    """What a command shows at a terminal of 57 columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 23, 57, 0, 0))
    process = subprocess.Popen(
        words, cwd=programs.work, env=programs.variables, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""
    try:
        while data := os.read(ours, 4096):
            shown += data
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    return shown


def test_at_a_terminal_the_program_has_one_too(programs: Programs) -> None:
    words = (sys.executable, "-c", TERMINAL)
    bare = _at_terminal(words, programs)
    assert b"[True, True, True]" in bare and b"columns=57" in bare
    assert _at_terminal(programs.command(*words), programs) == bare
    assert programs.only().log == bare.replace(b"\r\n", b"\n")


def _ctrl_c(process: subprocess.Popen[bytes], keyboard: int) -> None:
    os.write(keyboard, b"\x03")


def _kill_recorder(process: subprocess.Popen[bytes], keyboard: int) -> None:
    process.terminate()


def _kill_group(process: subprocess.Popen[bytes], keyboard: int) -> None:
    os.killpg(process.pid, signal.SIGTERM)


@pytest.mark.parametrize(
    ("stop", "number"),
    [(_ctrl_c, signal.SIGINT), (_kill_recorder, signal.SIGTERM), (_kill_group, signal.SIGTERM)],
)
def test_a_stop_reaches_the_program_once(
    stop: Callable[[subprocess.Popen[bytes], int], None], number: signal.Signals, programs: Programs
) -> None:
    keyboard, theirs = pty.openpty()

    def own_the_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = programs.start(
        sys.executable, "-c", COUNTING, stdin=theirs, stdout=subprocess.DEVNULL, preexec_fn=own_the_terminal
    )
    os.close(theirs)
    wait_for(programs.work / "ready", process)
    stop(process, keyboard)
    assert process.wait() == 0
    os.close(keyboard)
    assert (programs.work / "came").read_text() == str(int(number)), "once"
    record = programs.only().record
    assert (record.outcome, record.exit_code, record.stops) == ("interrupted", 0, (number.name,))


def test_a_program_that_dies_of_ctrl_c_ends_the_recorder_in_the_same_way(programs: Programs) -> None:
    process = programs.start("sh", "-c", "touch ready; echo yes > ready; exec sleep 60", start_new_session=True)
    wait_for(programs.work / "ready", process)
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == -signal.SIGINT
    assert (programs.only().record.outcome, programs.only().record.exit_code) == ("interrupted", -signal.SIGINT)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("record",), 2, "no command to record"),
        (("record", "--", "no-such-program"), 127, "no-such-program: command not found"),
        (("record", "--", "./data.txt"), 126, "./data.txt: not executable"),
        (("record", "--seed", "torch", "--", "true"), 2, "--seed 'torch'"),
        (("record", "--seed", "a=1", "--seed", "a=2", "--", "true"), 2, "given twice"),
        (("record", "--data", "nothing", "--", "true"), 3, "--data nothing"),
        (("record", "--trail", "every=0", "--", "true"), 2, "every=0"),
    ],
)
def test_bad_input_starts_nothing(
    words: Sequence[str], code: int, said: str, ndrepro: Callable[..., Answer], own_home: Path
) -> None:
    Path("data.txt").write_text("text")
    answer = ndrepro(*words)
    error, hint = answer.err.splitlines()
    assert answer.code == code and error.startswith("error: ") and said in error and hint.startswith("  hint: ")
    assert not Path("runs").exists() and answer.out == ""


def test_standard_error_says_where_the_run_is_and_what_is_not_there(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["record", "--out", "missing", "--name", "nothing", "echo", "--debug"]) == 0
    said = capfd.readouterr()
    assert said.out == "--debug\n" and "outcome    completed" in said.err
    assert "--out missing: no file matches" in said.err and "runs/nothing/" in said.err
    assert main(["record", "--json", "--name", "nothing", "--", "sh", "-c", "echo own; exit 5"]) == 5
    said = capfd.readouterr()
    document = json.loads(said.err)
    assert said.out == "own\n" and (document["outcome"], document["exit_code"]) == ("failed", 5)
    assert main(["verify", document["folder"]]) == 0, capfd.readouterr().out

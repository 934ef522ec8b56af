"""``ndrepro run`` from the first word to the last line: what it refuses, what it shows, how it ends, how it goes on."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
from real_runs import wait_for
from recorded_runs import ROOT, Answer, sign_run

from ndrepro.execution.runs import run as execution
from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.experiment import DEFAULT_EXPERIMENT, Experiment
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.messages import Scores

SMALL = ("--set", "train_images=64", "--set", "test_images=32", "--set", "batch_size=32", "--threads", "1")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("vgg16_dn_1",), "vgg16_nd_1"),
        (("vgg16",), "vgg16 is a network: an experiment is ARCH_METHOD_EPOCHS"),
        (("nets.py:net_bn_1_digits",), "without .py: nets:net"),
        (("vgg16_nd_1", "--set", "lerning_rate=1"), "learning_rate"),
        (("vgg16_nd_1", "--set", "learning_rate"), "expected KEY=VALUE"),
        (("vgg16_nd_1", "--set", "=3"), "expected KEY=VALUE"),
        (("vgg16_nd_1", "--seed", "x"), "expected a whole number"),
        (("vgg16_nd_1", "--seed", "1", "--set", "seed=2"), "'seed' is given twice"),
        (("vgg16_nd_1", "--determinism", "canonicle"), "did you mean canonical"),
        (("vgg16_nd_1", "--device", "tpu"), "cpu, cuda"),
        (("vgg16_nd_1_digits", "--env", "torch-1.13"), "torch-1.13.1"),
        (("vgg16_nd_1", "--resume", "a"), "leave out EXP"),
        (("--resume", "a", "--seed", "1"), "leave out EXP"),
    ],
)
def test_wrong_usage_exits_2_and_leaves_nothing(
    words: tuple[str, ...], said: str, ndrepro: Callable[..., Answer], runs: RunsFolder
) -> None:
    answer = ndrepro("run", *words)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err and len(answer.err.splitlines()) == 2
    assert not runs.root.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("vgg16_nd_1", "--data", "/no/such"), "--data /no/such"),
        (("lenet_bn_1_digits", "--runs", "/dev/null/runs"), "/dev/null/runs"),
        (("--resume", "nope"), "no run 'nope'"),
    ],
)
def test_what_cannot_run_exits_3(words: tuple[str, ...], said: str, ndrepro: Callable[..., Answer]) -> None:
    answer = ndrepro("run", *words)
    assert (answer.code, answer.out) == (3, "")
    assert said in answer.err and len(answer.err.splitlines()) == 2


class Told:
    """Stands for ``execution.run``: remembers what it was asked, and returns what it is told to."""

    def __init__(self, finished: execution.Finished) -> None:
        self.finished = finished
        self.experiment: Experiment | None = None
        self.options: execution.RunOptions | None = None

    def __call__(self, experiment: Experiment, options: execution.RunOptions, observer: object) -> execution.Finished:
        self.experiment, self.options = experiment, options
        return self.finished


@pytest.fixture
def told(runs: RunsFolder, monkeypatch: pytest.MonkeyPatch) -> Told:
    folder = sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa")
    scores = Scores(2, 24, 1.0, 0.6, 0.95, 0.5, 0.1)
    double = Told(execution.Finished(folder, "completed", scores, "c0ffee", folder.manifest, None))
    monkeypatch.setattr(execution, "run", double)
    return double


def test_words_become_an_experiment_and_options(ndrepro: Callable[..., Answer], told: Told) -> None:
    assert ndrepro("run").code == 0
    assert told.experiment == Experiment.from_name(DEFAULT_EXPERIMENT)
    ndrepro(
        "run",
        "vgg16_nd_1",
        "--set",
        "deconv.block=32",
        "--seed",
        "7",
        "--determinism",
        "canonical",
        "--env",
        "torch-2.0.1",
    )
    settings = {"deconv.block": "32", "seed": "7", "determinism": "canonical"}
    assert told.experiment == Experiment.from_name("vgg16_nd_1", settings)
    assert told.options is not None and told.options.environment == "torch-2.0.1"


def test_the_end_says_what_came_out_and_what_to_type(ndrepro: Callable[..., Answer], told: Told) -> None:
    lines = ndrepro("run").out.splitlines()
    assert lines[:5] == [
        "",
        "outcome    completed",
        "accuracy   train 60.00 %, test 50.00 % after 2 epochs",
        "run        runs/lenet_bn_2_digits/20261121T100000Z-aaaaaa",
        "signed by  c0ffee",
    ]
    assert lines[5].startswith("next ") and lines[5].endswith(" verify 20261121T100000Z-aaaaaa")
    assert lines[6].endswith(" show 20261121T100000Z-aaaaaa")
    assert ndrepro("run", "--quiet").out == "runs/lenet_bn_2_digits/20261121T100000Z-aaaaaa\n"


@pytest.mark.parametrize("outcome", ["failed", "killed", "interrupted"])
def test_a_run_that_is_not_complete_exits_3_and_says_how_to_go_on(
    outcome: str, ndrepro: Callable[..., Answer], told: Told
) -> None:
    folder = told.finished.folder
    told.finished = execution.Finished(folder, outcome, None, "c0ffee", folder.manifest, None)
    answer = ndrepro("run")
    assert answer.code == 3
    assert f"outcome    {outcome}" in answer.out and "run --resume 20261121T100000Z-aaaaaa" in answer.out
    what, cure = answer.err.splitlines()
    assert what == f"error: {outcome} before the run was complete"
    assert cure.endswith("run --resume 20261121T100000Z-aaaaaa`")
    document = ndrepro("run", "--json").json
    assert (document["outcome"], document["scores"], document["error"]["exit_code"]) == (outcome, None, 3)


def test_the_child_s_own_error_and_cure_reach_the_terminal(ndrepro: Callable[..., Answer], told: Told) -> None:
    error = DataError("data/a.png: not a whole image", "replace the file")
    told.finished = execution.Finished(told.finished.folder, "failed", None, "c0ffee", None, error)
    answer = ndrepro("run", "--json")
    assert answer.code == 3
    assert answer.json["error"]["type"] == "DataError" and answer.json["manifest"] is None
    assert answer.err.endswith("error: data/a.png: not a whole image\n  hint: replace the file\n")


def test_a_complete_run_is_not_resumed(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa")
    answer = ndrepro("run", "--resume", "aaaaaa")
    assert answer.code == 2 and "this run is complete" in answer.err


def test_a_recorded_program_is_not_resumed(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    folder = sign_run(runs, "lenet_bn_2_digits", "20261121T100000Z-aaaaaa")
    folder.request.unlink()
    answer = ndrepro("run", "--resume", "aaaaaa")
    assert answer.code == 2 and "a recorded program, which is not resumed" in answer.err


def in_terminal(*words: str, columns: int = 80) -> tuple[int, str]:
    """Run the command in a terminal of its own; its exit code and all that it drew."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "ndrepro", *words], env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    drawn = b""
    try:
        while piece := os.read(ours, 65536):
            drawn += piece
    except OSError:  # the terminal's other end is closed
        pass
    os.close(ours)
    return process.wait(), drawn.decode()


def test_a_run_in_a_terminal_is_drawn_signed_and_verifies(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    code, drawn = in_terminal("run", "lenet_bn_2_digits", *SMALL)
    assert code == 0, drawn
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)
    assert "epoch      loss      train       test   images/s      left" in text
    assert re.search(r"1/2 +\d\.\d{4} +\d+\.\d\d % +\d+\.\d\d % +[\d.]+ +[\d:-]+", text)
    assert "starting" in text and "\x1b[?25l" in drawn and "\x1b[?25h" in drawn  # the cursor comes back
    assert re.search(r"accuracy +train \d+\.\d\d %, test \d+\.\d\d % after 2 epochs", text)
    (folder,) = runs.runs()
    assert f"verify {folder.root.name}" in text
    answer = ndrepro("verify", folder.root.name)
    assert answer.code == 0, answer.out
    assert "14 checks passed; signed by this machine's key" in answer.out
    shown = ndrepro("show", "lenet_bn_2_digits").out
    assert "NOT KNOWN (not recorded)" not in shown  # every field that is shown is one that a run records
    line, settings = ndrepro("list").out.splitlines()[-2:]
    assert line.split()[-1] == "yes", line
    assert settings.split(", ")[1:3] == ["train_images=64", "test_images=32"]


def test_ctrl_c_ends_in_a_signed_run_that_can_go_on(ndrepro: Callable[..., Answer], runs: RunsFolder) -> None:
    command = [sys.executable, "-m", "ndrepro", "run", "lenet_bn_60_digits", *SMALL, "--json"]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: any(run.metrics.exists() and run.metrics.stat().st_size for run in runs.runs()), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 3, err
    document = json.loads(out)
    assert document["outcome"] == "interrupted" and Path(document["manifest"]).is_file()
    assert "epoch 1/60  loss" in err  # progress goes to standard error, where standard output is kept for JSON
    assert err.splitlines()[-2] == "error: interrupted before the run was complete"
    assert ndrepro("verify", document["run"], "--json").json["ok"] is True
    again = ndrepro("run", "--resume", document["run"], "--quiet")
    assert (again.code, again.out) == (0, f"runs/lenet_bn_60_digits/{document['run']}\n"), again.err
    assert "completed (2 attempts: interrupted, completed)" in ndrepro("show", document["run"]).out

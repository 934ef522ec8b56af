from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_runs import Answer
from rich.console import Console
from small_studies import write_study

from ndrepro.cli.display import study_words
from ndrepro.cli.display.study_live import LiveBar, StudyLines
from ndrepro.execution.runs.observer import Progress
from ndrepro.execution.runs.run import RunOptions
from ndrepro.execution.studies.launchers import Began, Ended, Ending, Job, Moved
from ndrepro.execution.studies.plan import StudyPlan, make_plan
from ndrepro.execution.studies.run_status import DONE, RunStatus
from ndrepro.execution.studies.study_file import load_study
from ndrepro.protocol.errors import TrainingFailed
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.messages import Scores

Command = Callable[..., Answer]
ONE = "[grids.main]\naxes = { method = ['bn'], seed = [0] }"
BROKEN = {
    "unknown key": ("[grids.main]\naxis = { seed = [0] }", "grids.main: unknown key 'axis'", "axes"),
    "unknown setting": ("[grids.main]\naxes = { sead = [0] }", "grids.main.axes: unknown key 'sead'", "seed"),
    "network": ("[grids.main]\naxes = { arch = ['vg16'], method = ['bn'] }", "arch='vg16'", "vgg16"),
    "data set": ("[grids.main]\naxes = { dataset = ['cifr10'], method = ['bn'] }", "dataset='cifr10'", "cifar10"),
    "method": ("[grids.main]\naxes = { method = ['nf'] }", "method='nf'", "bn"),
    "network on a data set": ("[grids.main]\naxes = { arch = ['lenet'], dataset = ['imagenet'] }", "lenet", "vgg11"),
    "empty grid": ("[grids.main]\naxes = { method = ['bn'], seed = [] }", "seed is empty", "values"),
    "no grid": ("", "grids: there are none", "grids.main"),
    "duplicate runs": (f"{ONE}\ninclude = [{{ method = 'bn', seed = 0 }}]", "comes twice", "keep one"),
    "environment": ("[grids.main]\naxes = { method = ['bn'], environment = ['torch-1.13'] }", "torch-1.13'", "1.13.1"),
    "not TOML": ("[grids.main", "not TOML", "smoke.toml"),
    "deep TOML": ("x = " + "[" * 5000, "nested too deeply", "smoke.toml"),
    "long number": ("x = 1" + "0" * 5000, "a number of more than 4300 digits", "smoke.toml"),
}


@pytest.mark.parametrize("verb", ["run", "plan", "status", "resume"])
@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_study_file_is_wrong_usage_and_starts_nothing(
    ndrepro: Command, tmp_path: Path, kind: str, verb: str
) -> None:
    grids, message, cure = BROKEN[kind]
    path = write_study(tmp_path, grids, settings="[settings]\narch = 'lenet'\nmethod = 'bn'\nepochs = 1\n")
    if "method" in grids:
        path.write_text(path.read_text().replace("method = 'bn'\nepochs", "epochs"))
    answer = ndrepro("study", verb, str(path))
    assert answer.code == 2
    what, how = answer.err.splitlines()
    assert str(path) in what and message in what
    assert cure in how
    assert answer.out == ""
    assert not Path("runs").exists()


def test_the_studies_are_listed_with_their_grids(ndrepro: Command) -> None:
    answer = ndrepro("study", "list")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert any(line.startswith("table1 ") for line in lines)
    assert any(line.split()[:3] == ["main", "360", "runs"] for line in lines)
    named = {study["name"]: study for study in ndrepro("study", "list", "--json").json["studies"]}
    assert named["table1"]["grids"][0]["runs"] == 360


def test_a_study_that_does_not_load_is_told_beside_those_that_do(
    ndrepro: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = write_study(tmp_path, ONE), write_study(tmp_path, "", name="bad")
    monkeypatch.setattr("ndrepro.execution.studies.study_file.studies_folder", lambda: tmp_path)
    answer = ndrepro("study", "list")
    assert answer.code == 1
    assert good.stem in answer.out and f"{bad}: grids: there are none" in answer.err


def test_a_plan_says_runs_time_and_disk_and_where_the_figures_are_from(ndrepro: Command) -> None:
    answer = ndrepro("study", "plan", "table1")
    assert answer.code == 0
    rows = [line.split() for line in answer.out.splitlines()]
    assert next(row for row in rows if row[:1] == ["main"])[1:8] == ["360", "0", "0", "0", "0", "0", "360"]
    assert next(row for row in rows if row[:1] == ["all"])[1] == "432"
    assert "of device time" in answer.out and "GB of disk" in answer.out
    assert "by the model" in answer.out and "on V100s" in answer.out
    assert answer.out.splitlines()[-1].endswith("study run table1")
    assert not Path("runs").exists()


def test_a_plan_in_json_has_every_run(ndrepro: Command) -> None:
    document = ndrepro("study", "plan", "table1", "--grid", "main", "--json").json
    assert len(document["runs"]) == document["to_run"] == 360
    assert document["states"] == {"to do": 360}
    first = document["runs"][0]
    assert first["label"] == "vgg16_bn_1 seed=0"
    assert first["resources"] == {"gpu_memory_gib": 16.0, "minutes": 45.0, "nodes": None, "memory_gib": None}
    assert first["estimate"] == "model" and first["seconds"] > 0 and first["bytes"] > 0


@pytest.mark.parametrize(
    ("words", "code", "message", "cure"),
    [
        (("plan", "tabel1"), 2, "no study 'tabel1'", "table1"),
        (("plan", "table1", "--grid", "mian"), 2, "no grid 'mian'", "main"),
        (("run", "smoke", "--jobs", "0"), 2, "--jobs", "--help"),
        (("run", "versions", "--grid", "nudge", "--only", "1-4"), 2, "--only 1: no run of --grid nudge", "here "),
        (("run", "versions", "--grid", "nudge", "--only", "1-²"), 2, "'1-²' is no run's number", "e.g. --only 3"),
        (("run", "smoke", "--data", "cifar10=x"), 2, "smoke has no runs on it", "digits"),
        (("run", "smoke", "--data", "a", "--data", "b"), 2, "given twice", "once"),
        (("run", "smoke", "--profile", "site"), 2, "not without a cluster", "add --on slurm"),
        (
            ("run", "smoke", "--on", "slurm", "--profile", "site"),
            2,
            "--profile site: there is no ",
            "runbooks/cluster.md",
        ),
        (("run", "smoke", "--data", "nowhere"), 3, "nowhere: no such file", "folder"),
        (("resume", "smoke"), 2, "nothing of smoke has been started", "study run smoke"),
    ],
)
def test_what_cannot_be_meant_is_said_and_starts_nothing(
    ndrepro: Command, words: tuple[str, ...], code: int, message: str, cure: str
) -> None:
    answer = ndrepro("study", *words)
    assert answer.code == code
    assert message in answer.err and cure in answer.err
    assert not Path("runs").exists()


def test_a_study_from_plan_to_done(ndrepro: Command, tmp_path: Path) -> None:
    path = str(write_study(tmp_path, ONE))
    assert ndrepro("study", "status", path).code == 0
    answer = ndrepro("study", "run", path)
    assert (answer.code, answer.err) == (0, "")
    assert "mini: 0 of 1 done; 1 run to do" in answer.out
    assert "[1/1] lenet_bn_1_digits seed=0 starts in runs/lenet_bn_1_digits/" in answer.out
    assert "lenet_bn_1_digits seed=0: completed, train " in answer.out
    assert "done       1 of 1 run of mini" in answer.out
    assert re.search(r"(?m)^next .*\breport \S*mini\.toml$", answer.out)
    assert ndrepro("verify", "lenet_bn_1_digits").code == 0

    for verb in ("run", "resume"):
        again = ndrepro("study", verb, path, "--json")
        assert again.code == 0
        assert again.json["complete"] and again.json["failures"] == []
    assert "nothing: every run is done" in ndrepro("study", "plan", path).out
    assert len(list(Path("runs").glob("*/*/manifest.dsse.json"))) == 1


def test_a_failing_run_is_exit_1_with_its_reason_there_and_in_the_status(
    ndrepro: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    path = str(write_study(tmp_path, "[grids.main]\naxes = { method = ['bn'], precision = ['tf32'] }"))
    answer = ndrepro("study", "run", path, "--json")
    assert answer.code == 1
    assert answer.json["failures"][0]["outcome"] == "failed"
    assert answer.json["failures"][0]["error"]["type"] == "DeviceError"
    assert answer.json["error"]["exit_code"] == 1
    assert "1 of 1 runs of mini are not done: 1 failed (lenet_bn_1_digits precision=tf32)" in answer.err

    status = ndrepro("study", "status", path)
    assert status.code == 1
    assert "precision=tf32 on the CPU" in status.out
    told = ndrepro("study", "run", path)
    assert told.code == 1
    assert "resumes in runs/" in told.out and "hint: choose precision=fp32" in told.out


@pytest.fixture
def plan(tmp_path: Path) -> StudyPlan:
    path = write_study(tmp_path, "[grids.main]\naxes = { method = ['bn'], seed = [0, 1, 2] }")
    return make_plan(load_study(path), (), RunOptions(RunsFolder(tmp_path / "runs"), tmp_path / "keys"))


def play(display: StudyLines, plan: StudyPlan) -> None:
    """One run that completes, one that fails, one that was done already; then Ctrl-C, twice."""
    first, second, third = (Job("mini", item.run) for item in plan.items)
    folder = RunFolder(Path("runs/lenet_bn_1_digits/20261121T101502Z-3f9a1c"))
    with display:
        display.started(plan)
        display.event(Began(first, folder))
        display.event(Moved(first, Progress("training", 2, 3, 2.3, 1.0, 10.0, 1.0)))
        display.event(Ended(first, Ending("completed", folder, Scores(1, 3, 2.3, 0.5, 2.2, 0.25, 0.1), signed=True)))
        display.event(Began(second, folder))
        display.event(Ended(second, Ending("failed", folder, error=TrainingFailed("it\nbroke", "mend it"))))
        display.passed(third.run, RunStatus(DONE))
        display.stopping(1)
        display.stopping(2)


def test_in_a_pipe_every_line_stands_for_itself(plan: StudyPlan) -> None:
    stream = io.StringIO()
    play(StudyLines(Console(file=stream, width=120, highlight=False, markup=False), 1), plan)
    lines = stream.getvalue().splitlines()
    assert lines[1].startswith("[1/3] lenet_bn_1_digits seed=0 starts in runs/")
    assert lines[2].startswith("lenet_bn_1_digits seed=0: completed, train 50.00 %, test 25.00 %, 0:0")
    assert lines[3].startswith("[2/3] ")
    assert lines[4].startswith("lenet_bn_1_digits seed=1: failed, 0:0") and lines[4].endswith(": it broke")
    assert lines[5] == "lenet_bn_1_digits seed=2: done already"
    assert lines[6].startswith("stopping:") and lines[7].startswith("killing")


def test_in_a_terminal_one_bar_covers_the_study(plan: StudyPlan) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True, highlight=False, markup=False, color_system=None)
    play(LiveBar(console, 1), plan)
    drawn = stream.getvalue()
    assert "0/3" in drawn and "1/3" in drawn and "2/3  1 failed" in drawn and "left" in drawn
    assert "2/3 steps" in drawn
    assert "lenet_bn_1_digits seed=0: completed" in drawn
    assert drawn.endswith("\x1b[?25h") or "\x1b[?25h" in drawn, "the cursor is shown again"


@pytest.mark.parametrize("kind", [StudyLines, LiveBar])
def test_a_display_that_cannot_print_stops_nothing(plan: StudyPlan, kind: type[StudyLines]) -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("no space left on device")

    play(kind(Console(file=Broken(), width=100, force_terminal=True), 1), plan)


def test_durations_are_as_coarse_as_an_estimate() -> None:
    seconds = (0.4, 83, 3240, 44_280, 44_280_000)
    assert [study_words.duration(each) for each in seconds] == ["0 s", "83 s", "54 min", "12.3 h", "12,300 h"]

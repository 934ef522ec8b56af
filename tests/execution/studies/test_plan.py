"""Whole studies with real processes: run, passed over, failing, killed, interrupted, resumed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dishonest_author import planned as to_repeat
from real_runs import SMALL, Bench, alive, children_of, wait_for
from small_studies import SETTINGS, Watched, write_study

from ndrepro.execution.reproduce.reexecute import Original
from ndrepro.execution.reproduce.reexecute import execute as reexecute
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import Finished, RunOptions
from ndrepro.execution.runs.run_checks import CHECKS
from ndrepro.execution.studies.carry_out import Outcome, carry_out
from ndrepro.execution.studies.launchers import NOT_STARTED, Began, Ended, Ending, Job, LocalLauncher
from ndrepro.execution.studies.plan import StudyPlan, data_of_started_runs, make_plan, only_started, with_runs_at_a_time
from ndrepro.execution.studies.run_status import DONE, FAILED, INTERRUPTED, MISSING, QUEUED, REFUSED, WAITING, Survey
from ndrepro.execution.studies.study_file import find_study, load_study, study_files
from ndrepro.protocol.errors import DataError, DeviceError, TrainingFailed, UsageError
from ndrepro.protocol.layout import RunFolder, RunsFolder
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Manifest
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verdict import Verdict
from provenance.attestation.verify import verify
from provenance.errors import KeyFileError, LedgerError, StorageError

TWO = "[grids.main]\naxes = { seed = [0, 1], method = ['bn'] }"
# the run of the fixture ``finished``, which was never interrupted
LONG = "[grids.main]\naxes = { seed = [0], method = ['nd'], epochs = [5] }\n[grids.main.settings]\n" + "\n".join(
    f"{key} = {value}" for key, value in SMALL.items()
)
RESULTS = ("metrics.jsonl", "trail.bin", "weights.safetensors")


def planned(bench: Bench, path: Path, *grids: str) -> StudyPlan:
    return make_plan(load_study(path), grids, bench.options)


def carried_out(bench: Bench, plan: StudyPlan, jobs: int = 1, **data: Path) -> tuple[Outcome, Watched]:
    watched = Watched()
    return carry_out(plan, bench.options, LocalLauncher(jobs, bench.options), watched, data), watched


def verified(options: RunOptions, folder: RunFolder) -> Verdict:
    trust = TrustPolicy.load(options.home)
    return verify(folder.root, trust=trust, ledger=Ledger(options.runs.ledger), extra_checks=CHECKS)


def manifest_of(options: RunOptions, folder: RunFolder) -> Manifest:
    manifest = verified(options, folder).manifest
    assert manifest is not None
    return manifest


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Path, Outcome, Watched]:
    """A study of two runs, run at the same time and undisturbed; no test changes it."""
    bench = Bench(tmp_path_factory.mktemp("study"))
    path = write_study(bench.root, TWO)
    return bench, path, *carried_out(bench, planned(bench, path), jobs=2)


@pytest.fixture
def copied(done: tuple[Bench, Path, Outcome, Watched], tmp_path: Path) -> tuple[Bench, Path]:
    """The same folder of runs and keys, to be damaged."""
    original, path, _, _ = done
    bench = Bench(tmp_path)
    shutil.copytree(original.options.runs.root, bench.options.runs.root)
    shutil.copytree(original.options.home, bench.options.home)
    return bench, path


@pytest.mark.parametrize("path", study_files(), ids=lambda path: path.stem)
def test_every_study_that_ships_plans(path: Path, bench: Bench) -> None:
    plan = planned(bench, path)
    searched = {plan.study.search.grid} if plan.study.search else set()
    assert {item.run.grid for item in plan.items if item.status.state == WAITING} == searched
    assert plan.states[MISSING] + plan.states[WAITING] == len(plan.items)
    assert len(plan.todo) == plan.states[MISSING] > 0
    assert plan.seconds > 0 and plan.disk_bytes > 0 and plan.free_bytes > 0
    assert plan.recorded == 0
    assert sum(len(plan.of_grid(name).items) for name in plan.grids()) == len(plan.items)


def test_table_1_plans_360_runs_in_its_main_grid(bench: Bench) -> None:
    assert len(planned(bench, find_study("table1"), "main").todo) == 360


def test_more_threads_than_processors_are_noted_and_not_changed(tmp_path: Path, bench: Bench) -> None:
    plan = planned(
        bench, write_study(tmp_path, TWO, settings=SETTINGS.replace("threads = 1", 'threads = 2\ndevice = "cpu"'))
    )
    assert with_runs_at_a_time(plan, 2, processors=4) is plan  # they fit
    assert with_runs_at_a_time(plan, 1, processors=1) is plan
    crowded = with_runs_at_a_time(plan, 8, processors=2)
    assert crowded.items == plan.items
    assert crowded.notes == (
        "2 runs at a time have 4 threads, more than processors (2), and slow each other down: -j 1 fits, or threads = "
        "1 in the study's settings",
    )


def test_a_study_runs_to_its_end_and_everything_verifies(done: tuple[Bench, Path, Outcome, Watched]) -> None:
    bench, _, outcome, watched = done
    assert outcome.complete and not outcome.failures and not outcome.interrupted
    folders = bench.options.runs.runs()
    assert len(folders) == 2
    for folder in folders:
        verdict = verified(bench.options, folder)
        assert verdict.ok and len(verdict.checks) >= 12
    began, ended = ([event for event in watched.events if isinstance(event, kind)] for kind in (Began, Ended))
    assert len(began) == len(ended) == 2
    assert watched.events.index(began[1]) < watched.events.index(ended[0]), "two at the same time"


def test_a_manifest_tells_the_study_that_it_was_made_for(done: tuple[Bench, Path, Outcome, Watched]) -> None:
    bench, *_ = done
    command = manifest_of(bench.options, bench.options.runs.runs()[0]).external_parameters["command"]
    assert command[command.index("--study") + 1] == "mini"
    assert "lenet_bn_1_digits" in command


def test_what_is_done_is_passed_over_and_its_timing_recorded(done: tuple[Bench, Path, Outcome, Watched]) -> None:
    bench, path, _, _ = done
    before = bench.options.runs.ledger.read_bytes()
    outcome, watched = carried_out(bench, planned(bench, path))
    assert outcome.complete and watched.events == []
    assert bench.options.runs.ledger.read_bytes() == before
    more = planned(bench, write_study(bench.root, TWO.replace("[0, 1]", "[0, 1, 2]"), name="more"))
    assert more.states == {DONE: 2, MISSING: 1}
    assert more.recorded == 1, "the third seed is estimated from the first two"


def test_a_run_is_known_by_what_it_did_not_by_the_study_that_asked(
    done: tuple[Bench, Path, Outcome, Watched], tmp_path: Path
) -> None:
    bench, *_ = done
    other = "[grids.other]\ninclude = [{ method = 'bn', seeds = { init = 1 }, seed = 1 }]"
    assert planned(bench, write_study(tmp_path, other, name="other")).states == {DONE: 1}
    unlike = "[grids.other]\ninclude = [{ method = 'bn', seeds = { init = 2 }, seed = 1 }]"
    assert planned(bench, write_study(tmp_path, unlike, name="unlike")).states == {MISSING: 1}
    cell = "[grids.other]\ninclude = [{ method = 'bn', seed = 1, environment = 'torch-2.2.2' }]"
    assert planned(bench, write_study(tmp_path, cell, name="cell")).states == {MISSING: 1}


def test_a_study_s_run_is_its_original_and_not_a_later_repetition(copied: tuple[Bench, Path]) -> None:
    bench, path = copied
    item = planned(bench, path).items[0]
    folder = item.status.folder
    assert folder is not None
    original = Original(folder, manifest_of(bench.options, folder))
    nothing_seen = Observer()
    repetition = to_repeat(original, bench.options)
    (again,) = reexecute(original, repetition, bench.options, nothing_seen)
    assert again.outcome == "completed" and again.folder.root.parent == folder.root.parent
    assert planned(bench, path).items[0].status.folder == folder


@pytest.mark.slow
def test_a_failing_run_is_told_and_stops_no_other(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    path = write_study(bench.root, "[grids.main]\naxes = { method = ['bn'], precision = ['tf32', 'fp32'] }")
    outcome, _ = carried_out(bench, planned(bench, path))
    assert not outcome.complete and not outcome.trouble
    (failure,) = outcome.failures
    assert failure.run.label == "lenet_bn_1_digits precision=tf32"
    assert isinstance(failure.ending.error, DeviceError)
    assert outcome.plan.states == {FAILED: 1, DONE: 1}
    assert "TF32 is a mode of NVIDIA GPUs" in outcome.plan.items[0].status.reason
    assert all(verified(bench.options, folder).ok for folder in bench.options.runs.runs())

    again, watched = carried_out(bench, planned(bench, path))
    assert [event.job.resume for event in watched.events if isinstance(event, Began)] == [failure.ending.folder], (
        "tried once more, in its own folder"
    )
    assert again.plan.states == {FAILED: 1, DONE: 1}


def test_a_run_that_needs_another_device_is_not_started_and_stops_no_other(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    path = write_study(bench.root, "[grids.main]\naxes = { method = ['bn'], device = ['cuda', 'cpu'] }")
    outcome, _ = carried_out(bench, planned(bench, path))
    (failure,) = outcome.failures
    assert isinstance(failure.ending.error, DeviceError) and "torch sees no GPU" in failure.ending.error.message
    assert failure.ending.folder is None
    assert outcome.plan.states == {MISSING: 1, DONE: 1}


def test_data_that_are_not_there_are_refused_before_anything_starts(bench: Bench) -> None:
    path = write_study(bench.root, TWO)
    with pytest.raises(DataError, match="nowhere"):
        carried_out(bench, planned(bench, path), digits=bench.root / "nowhere")
    assert not bench.options.runs.root.exists()


def start(bench: Bench, path: Path) -> subprocess.Popen[str]:
    """``ndrepro study run`` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ndrepro", "study", "run", str(path), "--runs", str(bench.options.runs.root)],
        env={**os.environ, "NDREPRO_HOME": str(bench.options.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_went_on_to_the_same_bits(bench: Bench, path: Path, finished: Finished, outcomes: list[str]) -> None:
    outcome, watched = carried_out(bench, planned(bench, path))
    assert outcome.complete
    (folder,) = bench.options.runs.runs()
    assert [event.job.resume for event in watched.events if isinstance(event, Began)] == [folder]
    for name in RESULTS:
        assert (folder.root / name).read_bytes() == (finished.folder.root / name).read_bytes(), name
    verdict = verified(bench.options, folder)
    assert verdict.ok and verdict.manifest is not None
    assert [attempt.outcome for attempt in verdict.manifest.attempts] == outcomes


def test_ctrl_c_ends_the_study_signed_and_it_goes_on_to_the_same_bits(
    bench: Bench, finished: Finished, reap: Callable[[object], None]
) -> None:
    path = write_study(bench.root, LONG.replace("[0]", "[0, 1]"))
    process = start(bench, path)
    reap(process)
    wait_for(lambda: any(folder.checkpoint_steps() for folder in bench.options.runs.runs()), process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert process.returncode == 3
    assert "interrupted" in errors and "study resume" in errors and "Traceback" not in errors
    assert "stopping" in output
    (folder,) = bench.options.runs.runs()
    assert manifest_of(bench.options, folder).outcome == "interrupted"
    assert verified(bench.options, folder).ok
    one = write_study(bench.root, LONG)
    plan = planned(bench, one)
    assert plan.states == {INTERRUPTED: 1} and 1 <= plan.items[0].epochs_done < 5
    assert_went_on_to_the_same_bits(bench, one, finished, ["interrupted", "completed"])


@pytest.mark.slow
def test_a_study_that_is_killed_with_all_its_processes_goes_on_to_the_same_bits(
    bench: Bench, finished: Finished, reap: Callable[[object], None]
) -> None:
    path = write_study(bench.root, LONG)
    process = start(bench, path)
    reap(process)
    wait_for(lambda: any(folder.checkpoint_steps() for folder in bench.options.runs.runs()), process)
    (job,) = children_of(process.pid)
    (training,) = children_of(job)
    for pid in (process.pid, job, training):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not alive(job) and not alive(training))
    (status,) = [item.status for item in planned(bench, path).items]
    assert status.state == INTERRUPTED and "killed" in status.reason
    assert_went_on_to_the_same_bits(bench, path, finished, ["killed", "completed"])


def test_a_key_that_cannot_sign_stops_the_whole_study(copied: tuple[Bench, Path]) -> None:
    bench, _ = copied
    path = write_study(bench.root, TWO.replace("[0, 1]", "[0, 5, 6]"), name="more")
    plan = planned(bench, path)
    assert plan.states == {DONE: 1, MISSING: 2}
    next(bench.options.home.rglob("*.pem")).chmod(0o644)
    with pytest.raises(KeyFileError):
        carried_out(bench, plan)


class Refusing(LocalLauncher):
    """A launcher whose jobs end as they are told to, without a process."""

    def __init__(self, options: RunOptions, ending: object) -> None:
        super().__init__(1, options)
        self.started = 0
        self._told = ending
        self._waiting: list[Ended] = []

    @property
    def busy(self) -> bool:
        return bool(self._waiting)

    @property
    def free(self) -> bool:
        return not self.busy

    def start(self, job: object) -> None:
        self.started += 1
        self._waiting.append(Ended(job, self._told))  # type: ignore[arg-type]

    def events(self, seconds: float) -> list[Ended]:
        told, self._waiting = self._waiting, []
        return told


@pytest.mark.parametrize("stops", [True, False])
def test_trouble_that_concerns_every_run_starts_no_other(bench: Bench, stops: bool) -> None:
    error = StorageError("no space left") if stops else TrainingFailed("diverged")
    launcher = Refusing(bench.options, Ending("failed", error=error))
    plan = planned(bench, write_study(bench.root, TWO))
    outcome = carry_out(plan, bench.options, launcher, Watched(), {})
    assert launcher.started == (1 if stops else 2)
    assert (outcome.trouble is error) is stops


def test_a_run_that_another_study_has_meanwhile_done_is_passed_over(copied: tuple[Bench, Path], tmp_path: Path) -> None:
    bench, path = copied
    empty = Bench(tmp_path / "empty")
    stale = planned(empty, path)
    assert stale.states == {MISSING: 2}
    outcome, watched = carried_out(bench, stale)
    assert outcome.complete and watched.events == []
    assert [status.state for _, status in watched.passed_over] == [DONE, DONE]


def test_what_a_queue_has_is_not_to_do_and_a_job_from_it_leaves_alone_what_is_done(
    copied: tuple[Bench, Path], tmp_path: Path
) -> None:
    bench, path = copied
    first, second = planned(Bench(tmp_path / "empty"), path).items
    queued = {first.run.identity: "Slurm's task 12_0 PENDING", second.run.label: "Slurm's task 12_1 RUNNING"}
    waiting = make_plan(load_study(path), (), Bench(tmp_path / "empty").options, queued)
    assert waiting.states == {QUEUED: 2} and not waiting.todo
    assert make_plan(load_study(path), (), bench.options, queued).states == {DONE: 2}, "what is done stays so"
    words = Job("mini", first.run).words(bench.options, "--recheck")
    variables = {**os.environ, "NDREPRO_HOME": str(bench.options.home)}
    ended = subprocess.run(words, env=variables, capture_output=True, text=True)
    assert (ended.returncode, json.loads(ended.stdout)["outcome"]) == (0, "completed"), ended.stderr
    assert planned(bench, path).states == {DONE: 2}
    assert len(list(bench.options.runs.root.glob("*/*/request.json"))) == 2, "none was made anew"


def first_item_after(bench: Bench, path: Path) -> tuple[str, str]:
    status = planned(bench, path).items[0].status
    return status.state, status.reason


def folder_of_first(bench: Bench, path: Path) -> RunFolder:
    folder = planned(bench, path).items[0].status.folder
    assert folder is not None
    return folder


def damage_envelope(folder: RunFolder) -> None:
    content = folder.manifest.read_text()
    folder.manifest.write_text(content.replace('"payload":"', '"payload":"AA', 1))


def lose_weights(folder: RunFolder) -> None:
    folder.weights.unlink()


def shorten_metrics(folder: RunFolder) -> None:
    folder.metrics.write_text("")


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (damage_envelope, "does not verify"),
        (lose_weights, "weights.safetensors is missing"),
        (shorten_metrics, "metrics.jsonl has 0 bytes"),
    ],
)
def test_a_run_that_does_not_hold_is_not_counted(
    copied: tuple[Bench, Path], attack: Callable[[RunFolder], None], reason: str
) -> None:
    bench, path = copied
    assert first_item_after(bench, path) == (DONE, "")
    attack(folder_of_first(bench, path))
    state, said = first_item_after(bench, path)
    assert state == REFUSED and reason in said
    assert len(planned(bench, path).todo) == 1


def test_the_manifest_of_another_run_in_its_place_is_not_counted(copied: tuple[Bench, Path]) -> None:
    bench, path = copied
    first, second = (item.status.folder for item in planned(bench, path).items)
    assert first is not None and second is not None
    shutil.copyfile(second.manifest, first.manifest)
    state, _ = first_item_after(bench, path)
    assert state in (REFUSED, MISSING)


def test_a_run_of_a_key_that_is_not_trusted_is_not_counted(copied: tuple[Bench, Path]) -> None:
    bench, path = copied
    shutil.rmtree(bench.options.home)
    state, said = first_item_after(bench, path)
    assert state == REFUSED and "no trusted key" in said


def test_a_run_of_other_libraries_is_not_counted(copied: tuple[Bench, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    bench, path = copied
    monkeypatch.setattr("ndrepro.execution.studies.run_status.libraries_of", lambda environment: {"torch": "9.9.9"})
    state, said = first_item_after(bench, path)
    assert state == REFUSED and "where main has 9.9.9 now" in said


def test_a_run_whose_manifest_is_gone_is_made_again(copied: tuple[Bench, Path]) -> None:
    """The ledger knows that it was signed: who took it away is not ours to guess, and there is nothing to believe."""
    bench, path = copied
    folder_of_first(bench, path).manifest.unlink()
    state, said = first_item_after(bench, path)
    assert state == REFUSED and "is gone" in said


def test_a_run_whose_recorder_was_killed_while_it_signed_is_gone_on_with(copied: tuple[Bench, Path]) -> None:
    bench, path = copied
    ledger = bench.options.runs.ledger
    last = Ledger(ledger).entries()[-1]
    (folder,) = (folder for folder in bench.options.runs.runs() if folder.root.name == last.run)
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:-1]))
    folder.manifest.unlink()
    plan = planned(bench, path)
    assert plan.states == {DONE: 1, INTERRUPTED: 1}
    assert [item.status.folder for item in plan.todo] == [folder]


def test_an_edited_ledger_stops_everything_and_a_torn_end_nothing(copied: tuple[Bench, Path]) -> None:
    bench, path = copied
    ledger = bench.options.runs.ledger
    whole = ledger.read_bytes()
    ledger.write_bytes(whole + b'{"check":"torn')
    assert planned(bench, path).states == {DONE: 2}
    ledger.write_bytes(whole.replace(b'"sequence":1,', b'"sequence":7,'))
    with pytest.raises(LedgerError, match=r"ledger.jsonl: line \d"):
        planned(bench, path)


def test_runs_of_two_states_of_the_code_are_worth_a_note(
    copied: tuple[Bench, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, path = copied
    assert planned(bench, path).notes == ()
    monkeypatch.setattr(
        "ndrepro.execution.studies.plan.code_and_data", lambda standings: {"code": {"a", "b"}, "dataset:digits": {"a"}}
    )
    assert planned(bench, path).notes == ("the runs that are done were made with 2 states of the code",)


def test_a_survey_sees_only_its_own_folder(done: tuple[Bench, Path, Outcome, Watched], tmp_path: Path) -> None:
    bench, path, _, _ = done
    elsewhere = Survey(RunsFolder(tmp_path), bench.options.home)
    assert {elsewhere.status(run).state for run in load_study(path).runs()} == {MISSING}


def test_resuming_takes_the_grids_and_the_data_that_were_begun(copied: tuple[Bench, Path]) -> None:
    bench, _ = copied
    path = write_study(bench.root, f"{TWO}\n[grids.later]\naxes = {{ method = ['nd'], seed = [0] }}")
    plan = planned(bench, path)
    assert plan.grids() == ("main", "later")
    started = only_started(plan)
    assert started.grids() == ("main",)
    assert data_of_started_runs(started)["digits"].name == "digits.csv.gz"


def test_an_unknown_grid_is_refused(bench: Bench) -> None:
    with pytest.raises(UsageError, match="no grid 'mian'"):
        planned(bench, write_study(bench.root, TWO), "mian")


class Elsewhere(LocalLauncher):
    """A launcher as a cluster's: what its runs will read is not at hand, so each of them looks for itself."""

    here = False

    def __init__(self, options: RunOptions) -> None:
        super().__init__(1, options)
        self.started: list[str] = []

    def start(self, job: Job) -> None:
        self.started.append(job.run.experiment.dataset)
        super().start(job)


def test_data_that_cannot_be_read_are_not_tried_by_every_run(bench: Bench, tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "broken" / split / "airplane").mkdir(parents=True)
    settings = SETTINGS.replace('dataset = "digits"\n', "")
    grids = """
[grids.main]
include = [
    { seed = [0, 1, 2, 3, 4], dataset = "cifar10", method = "bn" },
    { dataset = "digits", method = "bn" },
]"""
    path = write_study(bench.root, grids, settings=settings)
    plan, data = planned(bench, path), {"cifar10": tmp_path / "broken"}
    with pytest.raises(DataError, match="1 class folders"):
        carried_out(bench, plan, **data)
    assert not bench.options.runs.root.exists(), "here nothing is tried at all"
    launcher = Elsewhere(bench.options)
    outcome = carry_out(plan, bench.options, launcher, Watched(), data)
    assert launcher.started == ["cifar10", "cifar10", "digits"], "the other data set is not held up"
    assert [failure.ending.outcome for failure in outcome.failures] == [NOT_STARTED] * 5
    assert all("class folders" in str(failure.ending.error) for failure in outcome.failures)
    assert outcome.plan.states == {MISSING: 5, DONE: 1}


def test_some_runs_of_a_study_by_number(copied: tuple[Bench, Path]) -> None:
    bench, path = copied
    second = make_plan(load_study(path), (), bench.options, numbers=[2])
    assert second.items == planned(bench, path).items[1:]
    outcome, watched = carried_out(bench, second)
    assert outcome.complete and len(outcome.plan.items) == 1 and watched.events == []
    with pytest.raises(UsageError, match="--only 3: mini has the runs 1 to 2"):
        make_plan(load_study(path), (), bench.options, numbers=[1, 3])

"""A run ends in a signed manifest that says what happened, whatever happened, and can be taken up to the same bits."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from real_runs import Bench, alive, children_of, wait_for

from ndrepro.execution.runs.child_outcome import ending
from ndrepro.execution.runs.observer import Observer, Progress
from ndrepro.execution.runs.run import Finished, RunOptions, run
from ndrepro.execution.runs.run_checks import CHECKS
from ndrepro.protocol.errors import DataError, DeviceError, UsageError
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.messages import Request, Result, read_json
from ndrepro.protocol.project_folders import CODE
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Manifest, Resource
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verdict import Verdict
from provenance.attestation.verify import verify
from provenance.errors import BusyError, KeyFileError, StorageError
from provenance.formats.trail import Trail, compare

RESULTS = ("metrics.jsonl", "trail.bin", "weights.safetensors")


def verified(bench_or_options: Bench | RunOptions, folder: RunFolder) -> Verdict:
    options = bench_or_options if isinstance(bench_or_options, RunOptions) else bench_or_options.options
    return verify(
        folder.root, trust=TrustPolicy.load(options.home), ledger=Ledger(options.runs.ledger), extra_checks=CHECKS
    )


def options_of(finished: Finished) -> RunOptions:
    runs = RunsFolder(finished.folder.root.parents[1])
    return RunOptions(runs=runs, home=runs.root.parent / "keys")


def manifest_of(bench_or_options: Bench | RunOptions, folder: RunFolder) -> Manifest:
    manifest = verified(bench_or_options, folder).manifest
    assert manifest is not None
    return manifest


def failed_checks(verdict: Verdict) -> list[str]:
    return [f"{check.name}: {check.message}" for check in verdict.checks if check.status != "pass"]


def test_a_run_verifies_in_every_check(finished: Finished) -> None:
    assert finished.outcome == "completed"
    assert finished.error is None
    verdict = verified(options_of(finished), finished.folder)
    assert failed_checks(verdict) == []
    assert len(verdict.checks) == 14
    assert verdict.ok


def test_the_manifest_says_what_ran(finished: Finished) -> None:
    manifest = manifest_of(options_of(finished), finished.folder)
    names = [resource.name for resource in manifest.dependencies]
    assert {"source", "code", "dataset:digits", "distribution:torch", "distribution:numpy"} <= set(names)
    torch = next(resource for resource in manifest.dependencies if resource.name == "distribution:torch")
    assert torch.digest is not None and len(torch.digest["sha256"]) == 64
    determinism = manifest.internal_parameters["determinism"]
    assert determinism["start"]["deterministic_algorithms"] is determinism["end"]["deterministic_algorithms"] is True
    assert manifest.external_parameters["seeds"]["order"] == "0"
    assert "none" in json.dumps(manifest.machine["gpus"]) or "name" in json.dumps(manifest.machine["gpus"])
    census = next(resource for resource in manifest.byproducts if resource.name == "layer census")
    assert census.annotations is not None and census.annotations["batchnorm2d_layers"] == 0


def test_the_key_stays_away_from_the_child(finished: Finished) -> None:
    secret = next((options_of(finished).home).rglob("*.pem")).read_bytes()
    for path in finished.folder.root.rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes()
    assert "NDREPRO_HOME" not in finished.folder.environment.read_text()


@pytest.mark.slow
def test_the_same_run_twice_gives_the_same_bits(bench: Bench, finished: Finished) -> None:
    again = bench.run()
    for name in RESULTS:
        assert (again.folder.root / name).read_bytes() == (finished.folder.root / name).read_bytes(), name
    other = bench.run(**{"seeds.augment": "1"})
    comparison = compare(Trail(finished.folder.trail), Trail(other.folder.trail))
    assert comparison.divergence is not None and comparison.divergence.step == 1, "the control"


def test_a_killed_child_is_signed_as_killed_and_resumes_to_the_same_bits(
    bench: Bench, finished: Finished, reap: Callable[[object], None]
) -> None:
    process = bench.start()
    reap(process)
    wait_for(lambda: any(folder.checkpoint_steps() for folder in bench.options.runs.runs()), process)
    for child in children_of(process.pid):
        os.kill(child, signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode == 3
    assert "killed by SIGKILL" in errors and "--resume" in errors
    (folder,) = bench.options.runs.runs()
    assert manifest_of(bench, folder).outcome == "killed"
    assert verified(bench, folder).ok
    resumed = bench.resume(folder)
    assert resumed.outcome == "completed"
    assert_resumed_like(bench, folder, finished, ["killed", "completed"])


def test_a_killed_run_without_a_checkpoint_is_not_told_to_go_on_from_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    _, error = ending(folder, -signal.SIGSEGV)
    assert error is not None and "SIGSEGV" in error.message and "starts over" in error.cure
    folder.checkpoints.mkdir()
    folder.checkpoint(1).touch()
    _, error = ending(folder, -signal.SIGSEGV)
    assert error is not None and "resumes from the last checkpoint" in error.cure, "the control"


def test_a_killed_parent_takes_its_child_along_and_leaves_a_beginning(
    bench: Bench, finished: Finished, reap: Callable[[object], None]
) -> None:
    process = bench.start()
    reap(process)
    wait_for(lambda: any(folder.checkpoint_steps() for folder in bench.options.runs.runs()), process)
    (child,) = children_of(process.pid)
    process.kill()
    wait_for(lambda: not alive(child))
    (folder,) = bench.options.runs.runs()
    assert not folder.manifest.exists()
    began, *more = Ledger(bench.options.runs.ledger).entries()
    assert began.event == "begun" and {entry.event for entry in more} <= {"checkpoint"}
    bench.resume(folder)
    assert_resumed_like(bench, folder, finished, ["killed", "completed"])


def test_a_reproduction_that_is_resumed_still_says_what_it_reproduces(bench: Bench, tmp_path: Path) -> None:
    origin = Resource("reproduced run", digest={"sha256": "ab" * 32}, annotations={"run": "20261121T101500Z-aaaaaa"})
    nothing = replace(bench.options, code=tmp_path / "nothing")
    for package in ("ndrepro", "provenance"):
        (nothing.code / package).mkdir(parents=True)
        (nothing.code / package / "__init__.py").touch()
    failed = run(bench.experiment("lenet_nd_1_digits", train_images="16"), nothing, Observer(), origin=origin)
    assert failed.outcome == "failed"
    resumed = bench.resume(failed.folder)
    assert resumed.outcome == "completed"
    assert manifest_of(bench, failed.folder).dependencies[0] == origin
    assert failed_checks(verified(bench, failed.folder)) == []


def test_ctrl_c_stops_cleanly_and_is_signed_as_interrupted(
    bench: Bench, finished: Finished, reap: Callable[[object], None]
) -> None:
    process = bench.start()
    reap(process)
    wait_for(lambda: any(folder.trail.exists() for folder in bench.options.runs.runs()), process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    (folder,) = bench.options.runs.runs()
    assert process.returncode == 3
    assert "Traceback" not in errors
    assert manifest_of(bench, folder).outcome == "interrupted"
    assert verified(bench, folder).ok
    bench.resume(folder)
    assert_resumed_like(bench, folder, finished, ["interrupted", "completed"])


KILLED_WHILE_SIGNING = """
import os, signal, sys
from pathlib import Path
from real_runs import Bench
from ndrepro.execution.runs import run
from ndrepro.execution.runs.observer import Observer

class Dying(Observer):
    def progress(self, progress):
        if progress.phase == "signing":
            os.kill(os.getpid(), signal.SIGKILL)

bench = Bench(Path(sys.argv[1]))
run.run(bench.experiment(), bench.options, Dying())
"""


class Impatient(Observer):
    """Presses Ctrl-C when the run has started, or while it is signed."""

    def __init__(self, when: str) -> None:
        self.when, self.pressed = when, 0

    def began(self, folder: RunFolder, request: Request) -> None:
        self._press("began")

    def progress(self, progress: Progress) -> None:
        self._press(progress.phase)

    def _press(self, now: str) -> None:
        if now == self.when:
            self.pressed += 1
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_before_the_child_is_there_is_signed_as_interrupted(
    bench: Bench, finished: Finished, hears_ctrl_c: None
) -> None:
    early = run(bench.experiment(), bench.options, Impatient("began"))
    assert early.outcome == "interrupted" and verified(bench, early.folder).ok
    assert bench.resume(early.folder).outcome == "completed"
    assert_resumed_like(bench, early.folder, finished, ["interrupted", "completed"])


def test_ctrl_c_while_signing_leaves_no_run_unsigned(bench: Bench, hears_ctrl_c: None) -> None:
    late = Impatient("signing")
    signed = run(bench.experiment("lenet_bn_1_digits"), bench.options, late)
    assert late.pressed and signed.outcome == "completed" and verified(bench, signed.folder).ok
    with pytest.raises(KeyboardInterrupt):  # the control: afterwards it is heard again
        os.kill(os.getpid(), signal.SIGINT)
        signal.sigtimedwait([], 1)


def test_what_was_trained_to_its_end_when_its_recorder_was_killed_is_signed_by_going_on(
    bench: Bench, finished: Finished, tmp_path: Path
) -> None:
    """From its last checkpoint, the run's end, to the same bits; signed as complete, it is not resumed once more."""
    script = tmp_path / "killed_while_signing.py"
    script.write_text(KILLED_WHILE_SIGNING, encoding="utf-8")
    helpers = Path(__file__).resolve().parents[2] / "helpers"
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(CODE), str(helpers)])}
    killed = subprocess.run([sys.executable, str(script), str(bench.root)], env=variables)
    assert killed.returncode == -signal.SIGKILL
    (folder,) = bench.options.runs.runs()
    assert Result.from_json(read_json(folder.result)).outcome == "completed" and not folder.manifest.exists()
    assert bench.resume(folder).outcome == "completed"
    assert_resumed_like(bench, folder, finished, ["killed", "completed"])
    for damage in ("", "{"):
        folder.manifest.write_text(damage + folder.manifest.read_text(encoding="utf-8"), encoding="utf-8")
        with pytest.raises(UsageError, match="this run is complete"):
            bench.resume(folder)


def assert_resumed_like(bench: Bench, folder: RunFolder, undisturbed: Finished, outcomes: list[str]) -> None:
    for name in RESULTS:
        assert (folder.root / name).read_bytes() == (undisturbed.folder.root / name).read_bytes(), name
    verdict = verified(bench, folder)
    assert failed_checks(verdict) == []
    assert verdict.manifest is not None
    assert [attempt.outcome for attempt in verdict.manifest.attempts] == outcomes
    with pytest.raises(UsageError, match="complete"):
        bench.resume(folder)


def test_a_running_run_cannot_be_resumed(bench: Bench, reap: Callable[[object], None]) -> None:
    process = bench.start("lenet_nd_500_digits")
    reap(process)
    wait_for(lambda: any(folder.trail.exists() for folder in bench.options.runs.runs()), process)
    (folder,) = bench.options.runs.runs()
    with pytest.raises(BusyError):
        bench.resume(folder)


@pytest.mark.slow
def test_two_runs_at_once_share_one_ledger(bench: Bench, reap: Callable[[object], None]) -> None:
    processes = [bench.start(), bench.start()]
    for process in processes:
        reap(process)
    for process in processes:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    first, second = bench.options.runs.runs()
    assert first.root != second.root
    assert verified(bench, first).ok and verified(bench, second).ok
    events = [entry.event for entry in Ledger(bench.options.runs.ledger).entries()]
    assert (events.count("begun"), events.count("ended")) == (2, 2)


def test_missing_data_are_refused_before_anything_begins(bench: Bench) -> None:
    with pytest.raises(DataError, match="no such file"):
        Bench.run(replace_data(bench, bench.root / "nowhere"))
    assert not bench.options.runs.root.exists()


def replace_data(bench: Bench, data: Path) -> Bench:
    bench.options = replace(bench.options, data=data)
    return bench


@pytest.mark.skipif(os.path.exists("/dev/nvidiactl"), reason="there is a GPU")
def test_a_gpu_that_is_not_there_starts_no_run(bench: Bench) -> None:
    with pytest.raises(DeviceError, match="device=cuda: torch sees no GPU here: no NVIDIA GPU") as refused:
        bench.run(device="cuda")
    assert "--device cpu" in refused.value.cure
    assert not bench.options.runs.root.exists()


def test_an_odd_path_is_as_good_as_any(tmp_path: Path, finished: Finished) -> None:
    bench = Bench(tmp_path / "Läufe und mehr ✓")
    ended = bench.run()
    assert verified(bench, ended.folder).ok
    assert ended.folder.trail.read_bytes() == finished.folder.trail.read_bytes()


def test_a_folder_that_cannot_be_written_is_refused(bench: Bench) -> None:
    (bench.root / "runs").write_text("a file, not a folder")
    with pytest.raises(StorageError, match=r"--runs|cannot be made"):
        bench.run()


def test_a_key_that_others_can_read_signs_nothing(bench: Bench, finished: Finished) -> None:
    bench.run(epochs="0")
    key = next(bench.options.home.rglob("*.pem"), None)
    assert key is not None
    key.chmod(0o644)
    with pytest.raises(KeyFileError):
        bench.run(epochs="0")


@pytest.fixture
def small_disk(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A file system of sixteen megabytes."""
    mount = tmp_path / "disk"
    mount.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", mount]).returncode:
        pytest.skip("a tmpfs cannot be mounted here")
    yield mount
    subprocess.run(["umount", "--lazy", mount], check=True)


def test_a_full_disk_ends_in_no_half_manifest_and_a_ledger_that_says_so(small_disk: Path, tmp_path: Path) -> None:
    bench = Bench(small_disk)
    bench.options = replace(bench.options, home=tmp_path / "keys")
    runs = bench.options.runs
    runs.root.mkdir(parents=True)
    room = os.statvfs(small_disk)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(room.f_bavail * room.f_frsize - 150_000))
    ended: Finished | None = None
    try:
        ended = bench.run()
    except StorageError as error:
        assert "space" in (error.message + error.cure).lower()
    filler.unlink()
    (folder,) = runs.runs()
    entries = (entry for entry in Ledger(runs.ledger).entries() if entry.event != "checkpoint")
    events = [(entry.event, entry.fields.get("outcome")) for entry in entries]
    assert events in ([("begun", None), ("ended", "failed")], [("begun", None)])
    if ended is not None:
        assert ended.outcome == "failed"
        assert isinstance(ended.error, StorageError) and "the disk is full" in ended.error.message
    if ended is not None and ended.manifest is not None:
        assert verified(bench, folder).ok
    else:
        assert not folder.manifest.exists()
    assert not list(folder.root.glob("*.tmp"))

    elsewhere = Bench(tmp_path / "elsewhere")
    elsewhere.options = replace(elsewhere.options, home=bench.options.home)
    assert elsewhere.resume(folder).outcome == "completed"
    assert verified(bench, folder).ok, "what the first attempt wrote is gone, and the ledger is the run's own"
    assert not elsewhere.options.runs.ledger.exists()

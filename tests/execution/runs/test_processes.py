"""A run by two processes is recorded, stopped, killed and gone on with as one, and is the run of one process."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from real_runs import Bench, alive, children_of, wait_for

from ndrepro.execution.runs import process_group
from ndrepro.execution.runs.child_outcome import ending
from ndrepro.execution.runs.child_process import child_variables
from ndrepro.execution.runs.run import Finished
from ndrepro.execution.runs.run_checks import CHECKS
from ndrepro.protocol.errors import DataError, PeerLost, TrainingFailed, UsageError, to_record
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, Result, write_json
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Manifest
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.formats.trail import Trail

NAME = "lenet_bn_4_digits"
TWO = {"processes": "2"}
RESULTS = ("metrics.jsonl", "trail.bin", "weights.safetensors")


def checked(bench: Bench, folder: RunFolder) -> Manifest:
    """The manifest, after every check has passed."""
    trust, ledger = TrustPolicy.load(bench.options.home), Ledger(bench.options.runs.ledger)
    verdict = verify(folder.root, trust=trust, ledger=ledger, extra_checks=CHECKS)
    assert [check.message for check in verdict.checks if check.status == "fail"] == []
    assert verdict.manifest is not None
    return verdict.manifest


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bench, Finished]:
    bench = Bench(tmp_path_factory.mktemp("two"))
    return bench, bench.run(NAME, **TWO)


@pytest.mark.slow
@pytest.mark.numerics
def test_two_processes_compute_what_one_does_but_for_rounding(bench: Bench) -> None:
    """That it is the same algebra is shown in float64 (tests/training/test_process_group.py); here it is a whole run.

    In float32 kernels may depend on the size of a share, and a maximum over nearly equal numbers falls on either of
    them: how far weights are apart in the end is a matter of the processor. The first loss of a network with batch
    norm is not.
    """
    name, few = "small_inception_bn_1_digits", {"train_images": "16", "test_images": "8"}
    ways = ({}, TWO, {**TWO, "statistics": "process"})
    trails = [Trail(bench.run(name, **few, **way).folder.trail) for way in ways]
    assert [len(trail) for trail in trails] == [2] * 3 and trails[0].tensors == trails[1].tensors
    assert (trails[0].records[0] == trails[1].records[0]).all(), "first weights"
    alone, shared, apart = (float(trail.records[1, 1:2].view(np.float64)[0]) for trail in trails)
    assert abs(shared - alone) < 0.01 * abs(apart - alone), "statistics of each share are another computation"


def test_the_manifest_tells_of_both(by_two: tuple[Bench, Finished]) -> None:
    bench, two = by_two
    manifest = checked(bench, two.folder)
    told = manifest.internal_parameters["processes"]
    assert (told["count"], told["backend"], [each["rank"] for each in told["ranks"]]) == (2, "gloo", [0, 1])
    assert len({each["pid"] for each in told["ranks"]}) == 2
    assert manifest.external_parameters["experiment"]["processes"] == 2
    assert not list(two.folder.root.glob("result-rank-*"))


def test_stopped_and_then_killed_it_goes_on_to_the_same_bits(
    bench: Bench, by_two: tuple[Bench, Finished], reap: Callable[[object], None]
) -> None:
    process = bench.start(NAME, **TWO)
    reap(process)
    wait_for(lambda: any(folder.trail.exists() for folder in bench.options.runs.runs()), process)
    (folder,) = bench.options.runs.runs()
    children = children_of(process.pid)
    assert len(children) == 2
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert checked(bench, folder).outcome == "interrupted"
    assert not any(map(alive, children))

    again = subprocess.Popen(
        bench.command("run", "--resume", folder.root.name, "--runs", str(bench.options.runs.root)),
        env={**os.environ, "NDREPRO_HOME": str(bench.options.home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    reap(again)
    wait_for(lambda: len(children_of(again.pid)) == 2, again)
    children = sorted(children_of(again.pid))
    os.kill(children[1], signal.SIGKILL)
    _, errors = again.communicate()
    assert "one of the 2 training processes was killed by SIGKILL" in errors
    assert checked(bench, folder).outcome == "killed"
    assert not any(map(alive, children)), "the other does not wait for it"

    assert bench.resume(folder).outcome == "completed"
    assert [attempt.outcome for attempt in checked(bench, folder).attempts] == ["interrupted", "killed", "completed"]
    undisturbed = by_two[1].folder.root
    for name in RESULTS:
        assert (folder.root / name).read_bytes() == (undisturbed / name).read_bytes(), name


def told(folder: RunFolder, *errors: Exception | None) -> None:
    for path, error in zip(folder.results(len(errors)), errors, strict=True):
        if error is not None:
            write_json(path, Result("failed", 0, 0, "cpu", to_record(error)).to_json())


def test_the_reason_is_that_of_the_process_that_failed_first(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log.write_text("one line\n")
    told(folder, PeerLost("connection closed"), DataError("a.jpg: damaged", "replace it"))
    outcome, error = ending(folder, 1, 2)
    assert (outcome, type(error)) == ("failed", DataError)
    assert error is not None and (error.message, error.cure) == ("process 1 of 2: a.jpg: damaged", "replace it")
    folder.rank_result(1).unlink()
    assert isinstance(ending(folder, 1, 2)[1], PeerLost), "nothing better is known"
    folder.result.unlink()
    assert isinstance(ending(folder, 1, 2)[1], TrainingFailed)


CODE = "import os, sys, time; rank = int(os.environ['RANK']); "


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("sys.exit(0)", 0),
        ("sys.exit(75)", 75),
        ("sys.exit([0, 75][rank])", 1),
        ("sys.exit(1) if rank else time.sleep(3000)", 1),
        ("os.kill(os.getpid(), 9) if rank == 0 else time.sleep(3000)", -9),
        ("os.kill(os.getpid(), 9) if rank else (time.sleep(0.2), sys.exit(1))", -9),
    ],
)
def test_several_processes_end_as_one(script: str, expected: int) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def one(place: dict[str, str]) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen([sys.executable, "-S", "-c", CODE + script], env={**os.environ, **place}))
        return started[-1]

    begun = time.monotonic()
    assert process_group.start(2, one).wait() == expected  # type: ignore[arg-type]
    assert time.monotonic() - begun < 2500 and all(process.poll() is not None for process in started)


def test_what_torchrun_told_another_job_is_not_told_to_this_one() -> None:
    inherited = {"RANK": "3", "WORLD_SIZE": "8", "MASTER_PORT": "1", "HOME": "/home/a"}
    found = child_variables(Request(Experiment.from_name("lenet_bn_1_digits"), "data"), Path("/code"), inherited)
    assert not set(process_group.VARIABLES) & set(found) and found["HOME"] == "/home/a"
    places = process_group.places(3, 3)
    assert [place["RANK"] for place in places] == ["0", "1", "2"]
    assert len({json.dumps({**place, "RANK": "", "LOCAL_RANK": ""}, sort_keys=True) for place in places}) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"processes": "2", "determinism": "canonical"}, "processes=2 under determinism=canonical"),
        ({"processes": "32", "batch_size": "16"}, "processes=32, batch_size=16"),
        ({"processes": "0"}, "at least 1"),
        ({"statistics": "local"}, "statistics='local' is not known"),
        ({"processes": "2", "compile": "true"}, "compile=true with processes=2"),
    ],
)
def test_what_no_processes_could_do_is_refused(settings: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Experiment.from_name("lenet_nd_1_digits", settings)


def test_a_last_batch_that_leaves_a_process_without_images_is_refused(bench: Bench) -> None:
    with pytest.raises(DataError, match="last batch of an epoch has 1 images, fewer than the 2 processes"):
        bench.run("lenet_bn_1_digits", processes="2", train_images="97")
    assert not bench.options.runs.root.exists()

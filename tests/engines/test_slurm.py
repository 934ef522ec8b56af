"""A study on a real cluster of one node: one array, put back and gone on with to the same bits, told, cancelled."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import real_slurm
from real_engines import need, run
from small_studies import SETTINGS, write_study

from ndrepro.execution.containers import Wanted, pin
from ndrepro.spec.layout import RunFolder
from provenance.ledger import Ledger

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]
LONG = 'arch = "lenet"\nepochs = 60\ncheckpoint_epochs = 1\n'
RESULTS = ("trail.bin", "metrics.jsonl", "weights.safetensors")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_slurm.Cluster]:
    need(*real_slurm.PROGRAMS)
    if os.getuid():
        pytest.fail("needs root") if os.environ.get("CI") else pytest.skip("needs root")
    made = real_slurm.Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        made.start()
        for name, value in made.variables.items():
            os.environ[name] = value
        yield made
    finally:
        made.stop()
        for name in made.variables:
            os.environ.pop(name, None)


@pytest.fixture
def study(tmp_path: Path, cluster: real_slurm.Cluster) -> "Study":
    return Study(tmp_path, cluster)


class Study:
    """A study file, a folder of runs, a key home, and the command line on them."""

    def __init__(self, folder: Path, cluster: real_slurm.Cluster) -> None:
        self.folder = folder
        self.cluster = cluster
        self.runs = folder / "runs"

    def write(self, grids: str, settings: str = SETTINGS) -> None:
        write_study(self.folder, grids, settings=settings)

    def command(self, verb: str, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "ndrepro", "study", verb, "mini.toml", "--runs=runs", *words],
            cwd=self.folder,
            env={**os.environ, "NDREPRO_HOME": str(self.folder / "keys")},
            capture_output=True,
            text=True,
        )

    def submit(self, *words: str) -> str:
        """The array's number."""
        done = self.command("run", "--on=slurm", "--minutes=20", "--json", *words)
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["array"])

    def status(self) -> dict[str, object]:
        document: dict[str, object] = json.loads(self.command("status", "--json").stdout)
        return document

    def queue(self) -> dict[str, str]:
        return {task["task"]: task["state"] for task in self.status()["slurm"]}  # type: ignore[attr-defined]

    def wait_over(self, array: str, seconds: float = 300.0) -> dict[str, str]:
        real_slurm.until(lambda: not self.cluster.ask("squeue", "-h", "-j", array), f"array {array}", seconds)
        # accounting is told a little later
        real_slurm.until(lambda: "UNKNOWN" not in self.queue().values(), f"accounts of array {array}")
        return self.queue()

    def folders(self) -> list[RunFolder]:
        return [RunFolder(path.parent) for path in sorted(self.runs.glob("*/*/request.json"))]

    def wait_checkpoint(self) -> RunFolder:
        real_slurm.until(lambda: any(each.checkpoint_steps() for each in self.folders()), "a checkpoint", 180)
        return next(each for each in self.folders() if each.checkpoint_steps())

    def verify(self, folder: RunFolder) -> None:
        words = ["-m", "ndrepro", "verify", str(folder.root)]
        run(sys.executable, *words, cwd=self.folder, NDREPRO_HOME=str(self.folder / "keys"))

    def outcomes(self) -> list[str]:
        return [
            json.loads(line)["fields"].get("outcome", "")
            for line in (self.runs / "ledger.jsonl").read_text().splitlines()
        ]


def grid(text: str) -> str:
    return f'[grids.main]\ntitle = "runs"\n{text}\n'


def test_a_study_is_one_array_with_a_failing_task_told_and_a_report(study: Study) -> None:
    study.write(grid('axes.method = ["bn", "nd"]\naxes.seed = [0, 1]\naxes.device = ["cpu", "cuda"]'))
    array = study.submit("--jobs=3")
    states = study.wait_over(array)
    assert set(states) == {f"{array}_{number}" for number in range(8)}
    status = study.command("status")
    assert status.returncode == 1, "runs without their GPU failed, and are told"
    assert "done       4 of 8 runs" in status.stdout
    assert status.stdout.count("failed") >= 4
    assert Ledger(study.runs / "ledger.jsonl").verify() == []
    for folder in study.folders():
        study.verify(folder)
    (submission,) = study.runs.glob(".slurm/mini/*")
    real_slurm.until((submission / "status.json").exists, "the report", 120)
    report = json.loads((submission / "status.json").read_text())
    assert report["study"] == "mini"


def test_a_task_that_is_put_back_goes_on_to_the_same_bits(study: Study, tmp_path: Path) -> None:
    study.write(grid('axes.method = ["nd"]'), settings=SETTINGS.replace('arch = "lenet"\nepochs = 1\n', LONG))
    array = study.submit()
    folder = study.wait_checkpoint()
    # as before a time limit: a warning, upon which the task is stopped, signed as interrupted and put back
    study.cluster.ask("scancel", "--signal=USR2", array)
    study.cluster.put_forward(array)
    real_slurm.until(lambda: study.outcomes().count("") >= 2, "the task to go on", 120)
    # as when its node is lost: killed without a warning, and put back by Slurm
    steps = folder.checkpoint_steps()
    real_slurm.until(lambda: folder.checkpoint_steps() > steps, "another checkpoint", 120)
    study.cluster.ask("scontrol", "requeue", array)
    study.cluster.put_forward(array)
    study.wait_over(array)
    assert study.folders() == [folder], "one run, in one folder"
    assert next(each for each in study.outcomes() if each) == "interrupted"
    assert study.outcomes()[-1] == "completed"
    study.verify(folder)
    other = Study(tmp_path / "undisturbed", study.cluster)
    other.folder.mkdir()
    other.write(grid('axes.method = ["nd"]'), settings=SETTINGS.replace('arch = "lenet"\nepochs = 1\n', LONG))
    assert other.command("run").returncode == 0
    (reference,) = other.folders()
    for name in RESULTS:
        assert (folder.root / name).read_bytes() == (reference.root / name).read_bytes(), name


def test_cancelling_ends_runs_signed_and_resumable(study: Study) -> None:
    settings = SETTINGS.replace('arch = "lenet"\nepochs = 1\n', LONG.replace("60", "400"))
    study.write(grid('axes.method = ["nd"]\naxes.seed = [0, 1, 2]'), settings=settings)
    array = study.submit("--jobs=1")
    folder = study.wait_checkpoint()
    done = study.command("cancel")
    assert (done.returncode, array in done.stdout) == (0, True)
    states = study.wait_over(array)
    assert set(states.values()) == {"CANCELLED"}
    assert study.outcomes()[-1] == "interrupted"
    study.verify(folder)
    assert study.command("cancel").stdout.startswith("nothing of mini")
    plan = json.loads(study.command("plan", "--json").stdout)
    assert len(plan["runs"]) == 3


def test_small_runs_share_one_task_and_the_study_can_be_followed(study: Study) -> None:
    need_of = "\n[[resources]]\ngpu_memory_gib = 4\nminutes = 5\n"
    study.write(grid('axes.method = ["bn"]\naxes.seed = [0, 1, 2]') + need_of)
    done = study.command(
        "run", "--on=slurm", "--pack=2", "--gpus=1", "--gpu-memory=8", "--follow", "--minutes=10", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert len(study.queue()) == 2
    seen = [json.loads((folder.root / "environment.json").read_text()) for folder in study.folders()]
    given = [each["start"]["environment"]["variables"]["recorded"]["CUDA_VISIBLE_DEVICES"] for each in seen]
    assert len(given) == 3
    assert set(given) <= {"0", "1"}


def test_what_slurm_refuses_is_said_and_nothing_is_begun(study: Study) -> None:
    study.write(grid('axes.method = ["bn"]'))
    for words, said in (
        (["--partition=nowhere"], "partition"),
        (["--sbatch=mem=900000G"], ""),
        (["--sbatch=no-such-option=1"], "option"),
    ):
        done = study.command("run", "--on=slurm", *words)
        assert done.returncode == 3, (words, done.stdout, done.stderr)
        assert "Slurm refuses the array" in done.stderr
        assert said in done.stderr
    done = study.command("run", "--on=nowhere")
    assert done.returncode == 2
    assert not study.folders()


def test_without_slurm_it_says_so(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study.write(grid('axes.method = ["bn"]'))
    monkeypatch.setenv("PATH", str(tmp_path))
    done = study.command("run", "--on=slurm")
    assert (done.returncode, "no Slurm cluster" in done.stderr) == (3, True)


def test_a_run_in_a_container_as_a_task(study: Study, sif: Path) -> None:
    study.write(grid('axes.method = ["nd"]'))
    array = study.submit("--in=apptainer", f"--image={sif}")
    study.wait_over(array)
    (folder,) = study.folders()
    study.verify(folder)
    assert json.loads(folder.request.read_text())["container"]["engine"] == "apptainer"


def test_an_image_of_the_study_file_is_a_task_beside_the_others(study: Study, sif: Path) -> None:
    image = pin(Wanted.from_words("apptainer", str(sif)))
    study.write(grid(f'axes.method = ["nd"]\naxes.environment = ["main", "{image}"]'))
    study.wait_over(study.submit())
    assert study.status()["states"] == {"done": 2}
    inside = [json.loads(folder.request.read_text())["container"] for folder in study.folders()]
    assert sorted(each["digest"] if each else "" for each in inside) == ["", image.digest]
    for folder in study.folders():
        study.verify(folder)


def test_many_writers_leave_a_whole_ledger(tmp_path: Path) -> None:
    """Threads of one process would share a lock's owner: these are processes, as the nodes' are."""
    path = tmp_path / "ledger.jsonl"
    script = f"from pathlib import Path; from provenance.ledger import Ledger; l = Ledger(Path({str(path)!r}))\n"
    script += "import sys\nfor n in range(50): l.append('begun', f'run-{sys.argv[1]}-{n}')"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: run(sys.executable, "-c", script, str(number)), range(8)))
    ledger = Ledger(path)
    assert len(ledger.entries()) == 400
    assert ledger.verify() == []

"""A study on a real cluster: one array, put back and gone on with to the same bits, told, cancelled.

Its two nodes are both this machine, each with a slurmd of its own: everything of several nodes is seen here but a
network between them, and a second kernel. Only what asks for the partition "all" uses the second.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import real_slurm
from real_engines import ROOT, SMALL, need, run
from runbook_commands import pyxis_line
from small_studies import SETTINGS, write_study

from ndrepro.execution.containers.engines import ContainerChoice, pin
from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.protocol.layout import RunFolder
from provenance.attestation.dsse import read_envelope
from provenance.attestation.ledger import Ledger
from provenance.formats.digest import file_digest

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]
LONG = 'arch = "lenet"\nepochs = 60\ncheckpoint_epochs = 1\n'
LONG_SETTINGS = SETTINGS.replace('arch = "lenet"\nepochs = 1\n', LONG)
# two processes share two cores: each step takes longer
TWO = '{ method = "nd", processes = 2, epochs = 16 }'
RESULTS = ("trail.bin", "metrics.jsonl", "weights.safetensors")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[real_slurm.Cluster]:
    need(*real_slurm.PROGRAMS)
    if os.getuid():
        pytest.fail("needs root") if os.environ.get("CI") else pytest.skip("needs root")
    made = real_slurm.Cluster(tmp_path_factory.mktemp("slurm"), nodes=2)
    try:
        made.start()
        for name, value in made.variables.items():
            os.environ[name] = value
        yield made
    finally:
        made.stop()
        for name in made.variables:
            os.environ.pop(name, None)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cluster: real_slurm.Cluster) -> "Study":
    """What the long run comes to on this machine, without Slurm."""
    return without_slurm(Study(tmp_path_factory.mktemp("undisturbed"), cluster), 'axes.method = ["nd"]')


@pytest.fixture(scope="module")
def undisturbed_two(tmp_path_factory: pytest.TempPathFactory, cluster: real_slurm.Cluster) -> "Study":
    """And that of two processes."""
    return without_slurm(Study(tmp_path_factory.mktemp("undisturbed"), cluster), f"include = [{TWO}]")


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

    def submit(self, *words: str, minutes: int = 20) -> str:
        """The array's number."""
        (array,) = self.submit_arrays(*words, minutes=minutes)
        return array

    def submit_arrays(self, *words: str, minutes: int = 20) -> list[str]:
        """The numbers of the arrays, one for each resource class."""
        done = self.command("run", "--on=slurm", f"--minutes={minutes}", "--json", *words)
        assert done.returncode == 0, done.stderr
        arrays: list[str] = json.loads(done.stdout)["arrays"]
        return arrays

    def status(self) -> dict[str, object]:
        document: dict[str, object] = json.loads(self.command("status", "--json").stdout)
        return document

    def queue(self) -> dict[str, str]:
        return {task["task"]: task["state"] for task in self.status()["slurm"]}  # type: ignore[attr-defined]

    def wait_over(self, array: str, seconds: float = 300.0) -> dict[str, str]:
        real_slurm.until(lambda: not self.cluster.ask("squeue", "-h", "-j", array), f"array {array}", seconds)
        # accounting is updated a little later
        real_slurm.until(lambda: "UNKNOWN" not in self.queue().values(), f"accounts of array {array}", 400)
        return self.queue()

    def folders(self) -> list[RunFolder]:
        return [RunFolder(path.parent) for path in sorted(self.runs.glob("*/*/request.json"))]

    def wait_checkpoint(self) -> RunFolder:
        real_slurm.until(lambda: any(each.checkpoint_steps() for each in self.folders()), "a checkpoint", 180)
        return next(each for each in self.folders() if each.checkpoint_steps())

    def verify(self, folder: RunFolder) -> None:
        words = ["-m", "ndrepro", "verify", str(folder.root)]
        run(sys.executable, *words, cwd=self.folder, NDREPRO_HOME=str(self.folder / "keys"))

    def same_as(self, other: "Study") -> None:
        """The one run here has the bits of the other's."""
        (folder,), (reference,) = self.folders(), other.folders()
        for name in RESULTS:
            assert (folder.root / name).read_bytes() == (reference.root / name).read_bytes(), name

    def wait_warned(self) -> None:
        """Until Slurm's warning has reached a task, which is then between stopping its runs and being put back."""
        logs = self.runs / ".slurm" / "mini"
        real_slurm.until(
            lambda: any("Caught signal SIGUSR2" in log.read_text() for log in logs.glob("*/log/*.err")),
            "a warning",
            150,
        )

    def outcomes(self) -> list[str]:
        entries = Ledger(self.runs / "ledger.jsonl").entries()
        return [str(entry.fields.get("outcome", "")) for entry in entries if entry.event != "checkpoint"]


def grid(text: str) -> str:
    return f'[grids.main]\ntitle = "runs"\n{text}\n'


def without_slurm(made: "Study", text: str) -> "Study":
    made.write(grid(text), settings=LONG_SETTINGS)
    assert made.command("run").returncode == 0
    return made


def manifest(folder: RunFolder) -> dict[str, Any]:
    _, payload, _ = read_envelope(folder.manifest.read_bytes())
    predicate: dict[str, Any] = json.loads(payload)["predicate"]
    return predicate


def pids(words: str) -> list[int]:
    """The processes whose command line has these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if words in path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"):
                found.append(int(path.parent.name))
    return [number for number in found if number != os.getpid()]


def variable(number: int, name: str) -> str:
    entries = Path(f"/proc/{number}/environ").read_bytes().decode().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry).get(name, "")


def send(sig: signal.Signals, words: str) -> None:
    for number in pids(words):
        os.kill(number, sig)


def test_forty_tasks_submitted_twice_by_mistake_end_done_or_named(study: Study) -> None:
    """Three classes of memory: one run fails, one is killed for its memory, one meets its time limit."""
    sound = f"{{ method = ['bn', 'nd'], seed = {list(range(18))} }}"
    # a last batch of one image, whose last feature map has one value a channel: batch norm refuses it while training
    fails = '{ arch = "resnet18d", method = "bn", train_images = 65, batch_size = 64, seed = 0 }'
    large = '{ arch = "resnet18d", method = "bn", train_images = 64, batch_size = 64, seed = 1 }'
    starved = '{ method = "nd", seed = 18 }'
    # first, so that the others run while it waits
    late = '{ method = "nd", seed = 19, epochs = 200, checkpoint_epochs = 1 }'
    needs = "\n".join(
        f"[[resources]]\n{each}"
        for each in (
            "memory_gib = 1.5",
            'when = { arch = "resnet18d" }\nmemory_gib = 2',
            "when = { seed = 18 }\nmemory_gib = 0.15",
        )
    )
    study.write(grid(f"include = [{', '.join((late, fails, large, starved, sound))}]\n{needs}"))
    nodes = (study.cluster.ask("sinfo", "-h", "-o", "%N") or "").strip()
    study.cluster.ask("scontrol", "update", f"nodename={nodes}", "state=drain", "reason=test")  # so that nothing starts
    arrays = study.submit_arrays("--jobs=3", minutes=2)
    asked = {
        array: set((study.cluster.ask("squeue", "-h", "-r", "-j", array, "-o", "%m %l") or "").strip().split("\n"))
        for array in arrays
    }
    classes = {("1.50G 2:00",), ("2G 2:00",), ("154M 2:00",)}
    assert {tuple(each) for each in asked.values()} == classes, "one array for each, in pieces"
    assert study.submit_arrays(minutes=2) == [], "by mistake: all of it is in the queue"
    waiting = study.status()
    assert set(waiting["states"]) == {"queued"}  # type: ignore[call-overload]
    assert all(task["reason"] not in ("", "None") for task in waiting["slurm"]), waiting  # type: ignore[attr-defined]
    study.cluster.ask("scontrol", "update", f"nodename={nodes}", "state=resume")
    # halted until Slurm's own clock has warned it
    real_slurm.until(lambda: any("lenet_nd_200" in str(each.root) for each in study.folders()), "the long run", 400)
    (halted,) = (each for each in study.folders() if "lenet_nd_200" in str(each.root))
    real_slurm.until(lambda: bool(halted.checkpoint_steps()), "a checkpoint", 180)
    send(signal.SIGSTOP, f"ndrepro.training {halted.root}")
    study.wait_warned()
    send(signal.SIGCONT, f"ndrepro.training {halted.root}")
    for array in arrays:
        study.cluster.see_through(array, 800)
    for array in arrays:
        study.wait_over(array)
    ended = list(study.queue().values())
    assert (len(ended), ended.count("COMPLETED")) == (40, 38), "a failed run is a failed task"
    status = study.command("status")
    assert status.returncode == 1, "what failed is reported"
    assert "done       38 of 40 runs" in status.stdout
    assert "Expected more than 1 value per channel" in status.stdout
    assert (
        "lenet_nd_1_digits seed=18 checkpoint_epochs=10 train_images=48 batch_size=16: it was killed for its memory"
        in (status.stdout)
    )
    entries = Ledger(study.runs / "ledger.jsonl").entries()
    late_ends = [e.fields["outcome"] for e in entries if e.run == halted.root.name and "outcome" in e.fields]
    assert (late_ends[0], late_ends[-1]) == ("interrupted", "completed"), (
        "on a slow machine it may meet its limit again"
    )
    assert Ledger(study.runs / "ledger.jsonl").verify() == []
    signed = [each for each in study.folders() if each.manifest.exists()]
    (failed,) = (each for each in signed if read_recorded(each).manifest.outcome == "failed")
    for folder in (failed, halted, study.folders()[0]):
        study.verify(folder)
    submission = next(study.runs.glob(".slurm/mini/*/submission.json")).parent
    real_slurm.until((submission / "status.json").exists, "the report", 120)
    report = json.loads((submission / "status.json").read_text())
    assert report["study"] == "mini"


def test_a_task_that_is_put_back_goes_on_to_the_same_bits(study: Study, undisturbed: Study) -> None:
    study.write(grid('axes.method = ["nd"]'), settings=LONG_SETTINGS)
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
    study.same_as(undisturbed)


def test_a_task_that_meets_its_time_limit_is_put_back_and_goes_on_to_the_same_bits(
    study: Study, undisturbed: Study
) -> None:
    """Slurm's own clock: the training is halted until the warning has come."""
    study.write(grid('axes.method = ["nd"]'), settings=LONG_SETTINGS)
    array = study.submit(minutes=2)
    folder = study.wait_checkpoint()
    send(signal.SIGSTOP, f"ndrepro.training {folder.root}")
    study.wait_warned()
    send(signal.SIGCONT, f"ndrepro.training {folder.root}")
    study.cluster.see_through(array)
    study.wait_over(array)
    told = [each for each in study.outcomes() if each]
    assert (told[0], told[-1]) == ("interrupted", "completed"), "on a slow machine it may meet its limit again"
    study.verify(folder)
    study.same_as(undisturbed)


def test_a_task_that_dies_without_a_word_is_told_with_slurms_reason(study: Study) -> None:
    study.write(grid('axes.method = ["nd"]'))
    done = study.command("run", "--on=slurm", "--minutes=10", "--memory=0.15", "--follow")
    assert done.returncode == 1, done.stderr
    (state,) = study.queue().values()
    assert state in ("FAILED", "OUT_OF_MEMORY"), "which of them is for what watches over its memory"
    assert f"ended as {state} before the run reported its own end" in done.stderr + done.stdout
    assert "it was killed for its memory: it had 154M" in study.command("status").stdout
    assert study.outcomes() in ([], [""]), "not started, or never ended"


def test_two_processes_in_a_task_are_one_run_killed_and_gone_on_with(study: Study, undisturbed_two: Study) -> None:
    study.write(grid(f"include = [{TWO}]"), settings=LONG_SETTINGS)
    array = study.submit()
    folder = study.wait_checkpoint()
    assert study.cluster.ask("squeue", "-h", "-j", array, "-o", "%C") == "2\n", "a core for each"
    study.cluster.ask("scontrol", "requeue", array)
    study.cluster.put_forward(array)
    study.wait_over(array)
    assert study.outcomes()[-1] == "completed"
    study.verify(folder)
    study.same_as(undisturbed_two)
    told = manifest(folder)["buildDefinition"]["internalParameters"]["processes"]
    assert (told["count"], [each["slurm_node"] for each in told["ranks"]]) == (2, ["node1", "node1"])
    variables = json.loads(folder.environment.read_text())["start"]["environment"]["variables"]["recorded"]
    assert (variables["SLURM_JOB_ID"], variables["SLURM_RESTART_COUNT"]) == (array, "1")


def test_two_nodes_share_the_processes_of_a_run_stopped_killed_and_gone_on_with(
    study: Study, undisturbed_two: Study
) -> None:
    nodes = "\n[[resources]]\nnodes = 2\n"
    study.write(grid(f"include = [{TWO}]") + nodes, settings=LONG_SETTINGS)
    array = study.submit("--partition=all")
    folder = study.wait_checkpoint()
    study.cluster.ask("scancel", "--signal=USR2", array)
    study.cluster.put_forward(array)
    real_slurm.until(lambda: study.outcomes().count("") >= 2, "the task to go on", 120)
    steps = folder.checkpoint_steps()
    real_slurm.until(lambda: folder.checkpoint_steps() > steps, "another checkpoint", 120)
    (lost,) = [number for number in pids(f"ndrepro.training {folder.root}") if variable(number, "RANK") == "1"]
    assert variable(lost, "SLURMD_NODENAME") == "node2"
    os.kill(lost, signal.SIGKILL)
    study.wait_over(array)
    assert [each for each in study.outcomes() if each] == ["interrupted", "killed"]
    study.verify(folder)
    study.wait_over(study.submit("--partition=all"))
    assert study.outcomes()[-1] == "completed"
    study.verify(folder)
    study.same_as(undisturbed_two)
    told = manifest(folder)["buildDefinition"]["internalParameters"]["processes"]
    assert [(each["rank"], each["local_rank"], each["slurm_node"]) for each in told["ranks"]] == [
        (0, 0, "node1"),
        (1, 0, "node2"),
    ]
    assert not pids(f"ndrepro.training {folder.root}")


def test_a_single_run_is_spread_over_the_nodes_of_its_allocation_where_it_divides(study: Study) -> None:
    (study.folder / "start.sh").write_text(
        f"""#!/bin/sh
one="{sys.executable} -m ndrepro run lenet_nd_1_digits --runs={study.runs} {" ".join(SMALL)}"
$one --processes=3
srun --nodes=1 --ntasks=1 --overlap $one --processes=2
"""
    )
    words = ["--nodes=2", "--partition=all", "--ntasks-per-node=1", "--wait", "--output=said", "start.sh"]
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "NDREPRO_HOME": str(study.folder / "keys")}
    done = subprocess.run(["sbatch", *words], cwd=study.folder, env=variables, capture_output=True, text=True)
    said = (study.folder / "said").read_text()
    assert done.returncode == 0, (done.stderr, said)
    assert "processes=3 on the 2 nodes of Slurm's job" in said
    (folder,) = study.folders()
    study.verify(folder)
    told = manifest(folder)["buildDefinition"]["internalParameters"]["processes"]
    assert [each["slurm_node"] for each in told["ranks"]] == ["node1", "node2"]
    study.write(grid('axes.method = ["nd"]\naxes.processes = [3]') + "\n[[resources]]\nnodes = 2\n")
    refused = study.command("run", "--on=slurm", "--partition=all")
    assert (refused.returncode, "processes=3 on 2 nodes" in refused.stderr) == (2, True), refused.stderr


def test_cancelling_ends_runs_signed_and_resumable(study: Study) -> None:
    settings = SETTINGS.replace('arch = "lenet"\nepochs = 1\n', LONG.replace("60", "400"))
    study.write(grid('axes.method = ["nd"]\naxes.seed = [0, 1, 2]'), settings=settings)
    array = study.submit("--jobs=1")
    folder = study.wait_checkpoint()
    forgotten = study.runs / ".slurm" / "mini" / "old" / "submission.json"
    forgotten.parent.mkdir()
    forgotten.write_text('{"array": "999999", "tasks": [["a run of long ago"]]}', encoding="utf-8")
    done = study.command("cancel")
    assert (done.returncode, f"array {array}\n" in done.stdout) == (0, True), done.stdout + done.stderr
    assert "Slurm no longer knows array 999999" in done.stdout
    real_slurm.until(lambda: not study.cluster.ask("squeue", "-h", "-j", array), f"array {array}", 300)
    real_slurm.until(lambda: study.queue()[f"{array}_0"] == "CANCELLED", "the account of the first", 200)
    # an element that was cancelled while it waited may never be in Slurm's accounts
    assert set(study.queue().values()) <= {"CANCELLED", "UNKNOWN"}
    forgotten.unlink()
    assert study.outcomes()[-1] == "interrupted"
    study.verify(folder)
    assert study.command("cancel").stdout.startswith("nothing of mini")
    plan = json.loads(study.command("plan", "--json").stdout)
    assert len(plan["runs"]) == 3


def test_small_runs_share_one_task_and_the_study_can_be_followed(study: Study) -> None:
    need_of = "\n[[resources]]\ngpu_memory_gib = 4\nminutes = 5\n"
    study.write(grid('axes.method = ["bn"]\naxes.seed = [0, 1, 2]') + need_of)
    scratch = study.folder / "scratch"
    scratch.mkdir()
    profile = study.folder / "site.toml"
    settings = 'pack = 2\ngpus = 1\ngpu_memory_gib = 8\nminutes = 10\nscratch = "$SITE_SCRATCH"\n'
    profile.write_text(f'{settings}prologue = ["export SITE_SCRATCH={scratch}"]\n', encoding="utf-8")
    done = study.command("run", "--on=slurm", "--profile=site.toml", "--follow", "--json")
    assert done.returncode == 0, done.stderr
    assert len(list(scratch.glob("ndrepro-*/*/*"))) == 1, "one copy of the data for all tasks of the node"
    assert len(study.queue()) == 2
    seen = [json.loads((folder.root / "environment.json").read_text()) for folder in study.folders()]
    given = [each["start"]["environment"]["variables"]["recorded"]["CUDA_VISIBLE_DEVICES"] for each in seen]
    assert len(given) == 3
    assert set(given) <= {"0", "1"}


def test_what_slurm_refuses_is_said_and_nothing_is_begun(study: Study) -> None:
    study.write(grid('axes.method = ["bn"]'))
    for words, code, said in (
        (["--memory=900000"], 3, "Slurm refuses the array"),
        (["--sbatch=no-such-option=1"], 3, "Slurm refuses the array: sbatch: unrecognized option"),
        (["--partition=nowhere"], 3, "the cluster has no partition 'nowhere'"),
        (["--minutes=61"], 2, "--minutes 61: MaxTime of the partition main allows 60"),
        (["--sbatch=array=0-3"], 2, "--sbatch array: this command sets it itself"),
    ):
        done = study.command("run", "--on=slurm", *words)
        assert (done.returncode, said in done.stderr) == (code, True), (words, done.stdout, done.stderr)
    done = study.command("run", "--on=nowhere")
    assert done.returncode == 2
    study.cluster.ask("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=1")
    try:
        done = study.command("run", "--on=slurm")
        assert "the queue takes no more jobs: MaxSubmit of the account root allows 1" in done.stderr
    finally:
        study.cluster.ask("sacctmgr", "-i", "modify", "user", "root", "set", "MaxSubmitJobs=-1")
    assert not study.folders()
    assert not list(study.runs.glob(".slurm/mini/*/submission.json"))


def test_the_doctor_tries_a_cluster_with_two_tasks_and_names_what_a_profile_has_wrong(study: Study) -> None:
    def doctor(profile: str) -> tuple[int, dict[str, tuple[str, str]]]:
        (study.folder / "site.toml").write_text(profile, encoding="utf-8")
        words = [sys.executable, "-m", "ndrepro", "doctor", "--cluster", "--profile=site.toml", "--runs=runs", "--json"]
        done = subprocess.run(words, cwd=study.folder, capture_output=True, text=True)
        findings = json.loads(done.stdout)["findings"]
        return done.returncode, {each["name"]: (each["status"], each["message"]) for each in findings}

    code, found = doctor(f'prologue = ["export S={study.folder}"]\nscratch = "$S"\n')
    assert (code, {name for name, (status, _) in found.items() if status == "problem"}) == (0, set()), found
    assert "60 minutes a job (MaxTime of the partition main)" in found["limits"][1]
    assert found["locks"] == ("ok", f"what one task locks is refused to the other ({study.cluster.host})")
    assert found["clocks"][0] == found["scratch"][0] == "ok"
    code, found = doctor('prologue = ["module-of-no-site load x || exit 7"]\n')
    assert code == 1
    assert "exit code 7: " in found["job"][1] and "module-of-no-site: command not found" in found["job"][1]
    code, found = doctor('partition = "nowhere"\n')
    assert (code, found["limits"][1]) == (1, "the cluster has no partition 'nowhere'")


def test_an_array_that_would_be_too_large_is_submitted_in_pieces_and_cancelled_whole(study: Study) -> None:
    """The cluster allows five elements; nothing starts within the hour."""
    study.write(grid('axes.method = ["bn"]\naxes.seed = [0, 1, 2, 3, 4, 5, 6]'))
    arrays = study.submit_arrays("--sbatch=begin=now+1hour", "--no-report")
    tasks = [str(study.cluster.ask("squeue", "-h", "-r", "-j", array, "-o", "%i")).split() for array in arrays]
    assert [len(each) for each in tasks] == [5, 2]

    def reasons() -> set[str]:
        return {task["reason"] for task in study.status()["slurm"]}  # type: ignore[attr-defined]

    real_slurm.until(lambda: reasons() == {"BeginTime"}, "Slurm to look at each task", 60)
    assert study.command("cancel").stdout == f"cancelled  array {arrays[0]}, array {arrays[1]}\n"
    assert not study.cluster.ask("squeue", "-h", "-o", "%i")


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
    image = pin(ContainerChoice.from_words("apptainer", str(sif)))
    study.write(grid(f'axes.method = ["nd"]\naxes.environment = ["main", "{image}"]'))
    study.wait_over(study.submit())
    assert study.status()["states"] == {"done": 2}
    inside = [json.loads(folder.request.read_text())["container"] for folder in study.folders()]
    assert sorted(each["digest"] if each else "" for each in inside) == ["", image.digest]
    for folder in study.folders():
        study.verify(folder)


def test_a_task_signs_with_the_nodes_key_and_the_login_node_adds_its_own(study: Study) -> None:
    """The login node's key is made after the task has ended: nothing on the node can have read it."""
    study.write(grid('axes.method = ["nd"]'))
    study.wait_over(study.submit())
    (folder,) = study.folders()
    nodes, login = study.folder / "keys", study.folder / "login"
    assert not login.exists()

    def ndrepro(home: Path, *words: str) -> str:
        return run(sys.executable, "-m", "ndrepro", *words, cwd=study.folder, NDREPRO_HOME=str(home))

    collect = ["study", "collect", "mini.toml", "runs", "--sign", "--json"]
    ndrepro(nodes, "keys", "export", "--out=node.pub")
    ndrepro(login, "keys", "new")
    with pytest.raises(AssertionError, match="no trusted key"):
        ndrepro(login, *collect, "--into=control")
    ndrepro(login, "keys", "trust", "node.pub", "--name=cluster nodes")
    (signed,) = json.loads(ndrepro(login, *collect, "--into=imported"))["signed"]
    assert Path(signed).name == folder.root.name
    assert "cluster nodes" in ndrepro(login, "verify", signed)
    ids = [len(read_envelope((root / "manifest.dsse.json").read_bytes())[2]) for root in (folder.root, Path(signed))]
    assert ids == [1, 2], "the nodes' signature, then both"


# https://github.com/NVIDIA/pyxis lists them
PYXIS = {"--container-image", "--container-mounts", "--no-container-mount-home", "--container-readonly"}


def test_the_runbooks_line_for_pyxis_runs_but_for_what_pyxis_adds(study: Study) -> None:
    """No registry has Pyxis: where its mounts would be, the folders are named themselves."""
    words = pyxis_line().replace("$PWD", str(study.folder)).split()
    options = {word.partition("=")[0]: word.partition("=")[2] for word in words if "container-" in word}
    assert set(options) == PYXIS
    refused = subprocess.run([*words[:2], "true"], cwd=study.folder, capture_output=True, text=True)
    assert refused.returncode and "unrecognized option '--container-image" in refused.stderr, refused.stderr
    left = " ".join(word for word in words if word.partition("=")[0] not in options)
    for mount in options["--container-mounts"].split(","):
        outside, inside = mount.split(":")
        left = left.replace(f" {inside}", f" {outside}").replace(f"={inside} ", f"={outside} ")
    (study.folder / "ndrepro.sqsh").write_text("an image", encoding="utf-8")
    left = left.replace("/opt/ndrepro/bin/", f"{Path(sys.executable).parent}/")
    run("sh", "-c", f"{left} {' '.join(SMALL)}", cwd=study.folder, PYTHONPATH=str(ROOT))
    (folder,) = study.folders()
    digest = f"sha256:{file_digest(study.folder / 'ndrepro.sqsh').sha256}"
    assert read_recorded(folder).manifest.machine["container"]["image"] == {"name": "ndrepro.sqsh", "digest": digest}
    run(sys.executable, "-m", "ndrepro", "verify", str(folder.root), NDREPRO_HOME=str(study.folder / "node-keys"))


def test_many_writers_leave_a_whole_ledger(tmp_path: Path) -> None:
    """Threads of one process would share a lock's owner: these are processes, as the nodes' are."""
    path = tmp_path / "ledger.jsonl"
    script = (
        f"from pathlib import Path; from provenance.attestation.ledger import Ledger; l = Ledger(Path({str(path)!r}))\n"
        "from provenance.attestation.key_home import KeyRing\n"
        f"signer = KeyRing(Path({str(tmp_path / 'keys')!r})).signer()\n"
    )
    script += "import sys\nfor n in range(50): l.append('begun', f'run-{sys.argv[1]}-{n}', signer)"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: run(sys.executable, "-c", script, str(number)), range(8)))
    ledger = Ledger(path)
    assert len(ledger.entries()) == 400
    assert ledger.verify() == []

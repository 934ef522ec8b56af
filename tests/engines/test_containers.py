"""Runs in real containers: the same bits as outside, nothing let in that was not named, and no run that vanishes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from real_engines import ROOT, SMALL, run
from real_runs import wait_for

from ndrepro.execution.containers import docker_engine, engines
from ndrepro.execution.containers.container_spec import Enclosure
from ndrepro.execution.containers.engines import ENGINES, ContainerChoice
from ndrepro.execution.runs.run_lookup import is_running, read_recorded
from ndrepro.protocol.errors import DeviceError, EngineError
from ndrepro.protocol.layout import RunFolder, RunsFolder
from provenance.attestation.ledger import Ledger

pytestmark = [pytest.mark.engines, pytest.mark.timeout(1200)]
NAME = "lenet_nd_2_digits"
RESULTS = ("trail.bin", "metrics.jsonl", "weights.safetensors")


@pytest.fixture(params=["podman", "apptainer"])
def place(request: pytest.FixtureRequest) -> ContainerChoice:
    """An engine and the image as that engine has it."""
    fixture = {"podman": "image", "apptainer": "sif"}[request.param]
    return ContainerChoice.from_words(request.param, str(request.getfixturevalue(fixture)))


def train(python: str, folder: Path, *more: str) -> RunFolder:
    words = [python, "-m", "ndrepro", "run", NAME, *SMALL, f"--runs={folder / 'runs'}", "--quiet", *more]
    said = run(*words, NDREPRO_HOME=str(folder / "keys"))
    return RunFolder(Path(said.strip()).absolute())


@pytest.fixture(scope="session")
def outside(python: str, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The run to which every other is compared."""
    return train(python, tmp_path_factory.mktemp("native"))


def inside(place: ContainerChoice, *command: str, **changes: object) -> tuple[int, str]:
    enclosure = replace(Enclosure(command, {}), **changes)  # type: ignore[arg-type]
    return ENGINES[place.engine].output(place.engine, place.image, enclosure)


def test_inside_and_outside_one_run_has_the_same_bits(
    place: ContainerChoice, python: str, outside: RunFolder, tmp_path: Path
) -> None:
    folder = train(sys.executable, tmp_path, f"--in={place.engine}", f"--image={place.image}")
    for name in RESULTS:
        assert (folder.root / name).read_bytes() == (outside.root / name).read_bytes(), name
    control = train(python, tmp_path, "--seed=1")
    assert (control.root / "trail.bin").read_bytes() != (outside.root / "trail.bin").read_bytes()

    manifest = read_recorded(folder).manifest
    image = ENGINES[place.engine].find(place.engine, place.image)
    asked = manifest.external_parameters["container"]
    assert (asked["engine"], asked["digest"]) == (place.engine, image.digest)
    assert asked["engine_version"] == image.engine_version
    (resource,) = (each for each in manifest.dependencies if each.name == "container image")
    assert resource.digest == {"sha256": image.digest.removeprefix("sha256:")}
    seen = manifest.machine["container"]
    assert (seen["engine"], seen["image"]["digest"]) == (place.engine, image.digest)
    run(sys.executable, "-m", "ndrepro", "verify", str(folder.root), NDREPRO_HOME=str(tmp_path / "keys"))


def test_an_image_that_prints_without_end_fills_neither_disk_nor_memory(place: ContainerChoice) -> None:
    script = "for _ in range(64): print('x' * (1 << 20))"
    if place.engine == "apptainer":
        with pytest.raises(EngineError, match="prints more than 16 MiB"):
            inside(place, "python3", "-c", script)
    else:  # the engine itself keeps it
        status, said = inside(place, "python3", "-c", script)
        assert status == 0 and len(said) < 32 << 20


def test_there_is_no_network_inside(place: ContainerChoice) -> None:
    script = "import socket; print([name for _, name in socket.if_nameindex()])"
    status, said = inside(place, "python3", "-c", script)
    assert status == 0
    assert set(eval(said.splitlines()[-1])) <= {"lo", "tunl0", "sit0", "ip6tnl0", "gre0", "erspan0", "gretap0"}


def test_nothing_can_be_written_but_what_was_named(place: ContainerChoice, tmp_path: Path) -> None:
    own, foreign = tmp_path / "own", tmp_path / "foreign"
    own.mkdir()
    foreign.mkdir()
    script = f"touch {own}/x && ! touch {foreign}/x && ! touch /srv/x && touch /tmp/x"
    status, said = inside(place, "sh", "-c", script, writable=(own,), readable=(foreign,))
    assert status == 0, said
    assert (own / "x").stat().st_uid == os.getuid()


def test_the_key_and_the_callers_files_and_variables_are_not_inside(
    place: ContainerChoice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("s", encoding="utf-8")
    monkeypatch.setenv("NDREPRO_HOME", str(tmp_path))
    monkeypatch.setenv("ACCOUNT", "not to be told")
    status, said = inside(place, "sh", "-c", f"env; ls {tmp_path}/secret")
    assert status != 0
    assert "not to be told" not in said
    assert "NDREPRO_HOME" not in said


def test_one_that_asks_for_more_memory_than_its_limit_is_killed(image: str) -> None:
    enclosure = Enclosure(("python3", "-c", "x = b'1' * (1 << 30)"), {}, memory_bytes=128 << 20)
    assert docker_engine.start("podman", image, enclosure).wait(60) == -signal.SIGKILL
    assert not (ROOT / "oom").exists(), "what the engine notes of it is no dirt in the source"
    enough = replace(enclosure, memory_bytes=2 << 30)
    assert docker_engine.start("podman", image, enough).wait(60) == 0


def test_a_gpu_that_the_engine_did_not_hand_in_is_missed(place: ContainerChoice) -> None:
    """podman ignores the request without a word, and Apptainer warns: the question must be asked inside."""
    status, _ = inside(place, "true", gpu=True)
    assert status == 0, "the engine itself sees nothing wrong"
    found = engines.find(place, "cpu")
    with pytest.raises(DeviceError, match="sees no GPU"):
        engines._ask_for_gpu(replace(found, driver="580.0"))


def start(place: ContainerChoice, folder: Path, *more: str) -> "subprocess.Popen[str]":
    """A run long enough to be stopped."""
    words = [sys.executable, "-m", "ndrepro", "run", "lenet_nd_40_digits", *SMALL, f"--runs={folder / 'runs'}"]
    words += ["--set=checkpoint_epochs=1", f"--in={place.engine}", f"--image={place.image}", *more]
    variables = {**os.environ, "NDREPRO_HOME": str(folder / "keys")}
    return subprocess.Popen(words, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def folder_with_checkpoint(process: "subprocess.Popen[str]", tmp_path: Path) -> RunFolder:
    wait_for(lambda: list(tmp_path.glob("runs/lenet_nd_40_digits/*/checkpoints/*.safetensors")), process, 180)
    return RunFolder(next(tmp_path.glob("runs/lenet_nd_40_digits/*")))


def test_ctrl_c_reaches_the_child_which_ends_signed(place: ContainerChoice, tmp_path: Path) -> None:
    process = start(place, tmp_path)
    folder = folder_with_checkpoint(process, tmp_path)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 3
    assert read_recorded(folder).manifest.outcome == "interrupted"


def test_a_child_whose_parent_is_killed_ends_too(place: ContainerChoice, tmp_path: Path) -> None:
    process = start(place, tmp_path)
    folder = folder_with_checkpoint(process, tmp_path)
    process.kill()
    process.communicate()
    wait_for(lambda: not is_running(folder), seconds=60)
    size = folder.trail.stat().st_size
    assert not folder.manifest.exists()
    with pytest.raises(AssertionError, match="waited in vain"):
        wait_for(lambda: folder.trail.stat().st_size != size, seconds=3)


def cli(*words: str, **variables: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "ndrepro", "run", NAME, *SMALL, *words],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stderr


def refused(error: str, said: str, code: int) -> bool:
    """Said in one line, with the cure in another, and exit code 3."""
    lines = error.splitlines()
    return (code, len(lines), said in lines[0], lines[1].startswith("  hint: ")) == (3, 2, True, True)


def test_what_is_not_there_is_said_and_nothing_begun(image: str, sif: Path, tmp_path: Path) -> None:
    wrong = f"{image}@sha256:{'0' * 64}"
    empty, conf = tmp_path / "empty", tmp_path / "containers.conf"
    empty.mkdir()
    conf.write_text('[engine]\nruntime = "no-such-runtime"\n', encoding="utf-8")
    no_socket = {"CONTAINER_HOST": "", "XDG_RUNTIME_DIR": str(empty)}
    for words, variables, said in (
        (("--in=podman", "--image=localhost/no-such-image"), {}, "no image localhost/no-such-image"),
        (("--in=podman", f"--image={wrong}"), {}, "asked for is sha256:0000"),
        (("--in=podman", f"--image={image}", "--device=cuda"), {}, "no NVIDIA driver"),
        (("--in=podman",), {"PATH": str(empty), **no_socket}, "podman is not installed"),
        (("--in=podman",), {"CONTAINERS_CONF": str(conf), **no_socket}, 'runtime "no-such-runtime" not found'),
        (("--in=docker",), {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}, "daemon does not answer"),
        (("--in=apptainer", f"--image={tmp_path}/none.sif"), {}, "no such image file"),
        (("--in=apptainer", f"--image={sif}", "--device=cuda"), {}, "no NVIDIA driver"),
        (("--in=apptainer", f"--image={sif}"), {"PATH": str(empty)}, "apptainer is not installed"),
    ):
        code, error = cli(f"--runs={tmp_path / 'runs'}", *words, NDREPRO_HOME=str(tmp_path / "keys"), **variables)
        assert refused(error, said, code), (words, code, error)
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of sixteen megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder]).returncode:
        pytest.fail("no tmpfs can be mounted") if os.environ.get("CI") else pytest.skip("no tmpfs can be mounted")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_ends_in_no_half_manifest_and_a_ledger_that_says_so(
    place: ContainerChoice, small_disk: Path, tmp_path: Path
) -> None:
    runs = RunsFolder(small_disk / "runs")
    runs.root.mkdir()
    filler, room = small_disk / "filler", os.statvfs(small_disk)
    filler.write_bytes(bytes(room.f_bavail * room.f_frsize - 150_000))
    words = [f"--runs={runs.root}", f"--in={place.engine}", f"--image={place.image}"]
    code, error = cli(*words, NDREPRO_HOME=str(tmp_path / "keys"))
    assert refused(error, "space", code) or refused(error, "disk is full", code), (code, error)
    filler.unlink()

    (folder,) = runs.runs()
    entries = (entry for entry in Ledger(runs.ledger).entries() if entry.event != "checkpoint")
    events = [(entry.event, entry.fields.get("outcome")) for entry in entries]
    assert events in ([("begun", None), ("ended", "failed")], [("begun", None)])
    verify = [sys.executable, "-m", "ndrepro", "verify", str(folder.root)]
    if folder.manifest.exists():
        assert read_recorded(folder).manifest.outcome == "failed"
        run(*verify, NDREPRO_HOME=str(tmp_path / "keys"))
    assert not list(folder.root.glob("*.tmp"))
    resume = [sys.executable, "-m", "ndrepro", "run", f"--resume={folder.root}", "--quiet"]
    run(*resume, NDREPRO_HOME=str(tmp_path / "keys"))
    assert read_recorded(folder).manifest.outcome == "completed"
    run(*verify, NDREPRO_HOME=str(tmp_path / "keys"))


def test_the_sites_apptainer_variables_stay_outside_unless_they_are_asked_for(
    sif: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "file").touch()
    monkeypatch.setenv("APPTAINER_BIND", f"{tmp_path}/site:/mnt")
    monkeypatch.setenv("APPTAINERENV_SITE", "1")
    monkeypatch.setenv("SINGULARITYENV_OTHER", "1")
    place = ContainerChoice.from_words("apptainer", str(sif))
    script = "import os; print(os.listdir('/mnt'), 'SITE' in os.environ, 'OTHER' in os.environ)"
    assert inside(place, "python3", "-c", script)[1].strip() == "[] False False"
    assert engines.find(place, "cpu").host_variables == ""
    monkeypatch.setenv("NDREPRO_APPTAINER_PASS", "APPTAINER_BIND,APPTAINERENV_SITE")
    assert inside(place, "python3", "-c", script)[1].strip() == "['file'] True False"
    assert engines.find(place, "cpu").host_variables == f"APPTAINER_BIND={tmp_path}/site:/mnt, APPTAINERENV_SITE"


def test_the_image_is_a_command_and_its_file_names_it(image: str, sif: Path) -> None:
    for words in (["podman", "run", "--rm", "--network=none", image], ["apptainer", "run", "--containall", str(sif)]):
        assert "lenet" in run(*words, "list", "--names")
    found = engines.find(ContainerChoice.from_words("apptainer", str(sif)), "cpu")
    assert found.identifier == engines.find(ContainerChoice("podman", image), "cpu").identifier
    assert found.identifier != found.digest, "of the file itself: another one of the same image has another"


def test_a_file_that_is_not_the_recorded_image_is_refused(sif: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.sif"
    image.symlink_to(sif)
    folder = train(sys.executable, tmp_path, "--in=apptainer", f"--image={image}")
    image.unlink()
    image.write_bytes(b"another")
    words = [sys.executable, "-m", "ndrepro", "reproduce", str(folder.root), f"--runs={tmp_path / 'runs'}"]
    variables = {**os.environ, "NDREPRO_HOME": str(tmp_path / "keys")}
    done = subprocess.run(words, env=variables, capture_output=True, text=True)
    assert refused(done.stderr, "asked for is sha256:", done.returncode), done.stderr


def runs_of(folder: Path) -> tuple[RunFolder, ...]:
    return RunsFolder(folder / "runs").runs()


def test_a_run_is_reproduced_in_its_own_image_and_in_no_other(image: str, tmp_path: Path) -> None:
    tag = "localhost/ndrepro-reproduced:latest"
    run("podman", "tag", image, tag)
    folder = train(sys.executable, tmp_path, "--in=podman", f"--image={tag}")
    words = [sys.executable, "-m", "ndrepro", "reproduce", str(folder.root), f"--runs={tmp_path / 'runs'}"]
    assert "verdict    identical" in run(*words, NDREPRO_HOME=str(tmp_path / "keys"))
    run("podman", "untag", tag, tag)
    run("podman", "tag", "localhost/ndrepro-base:latest", tag)
    # the name means another image now; the very image is still there, under another name
    said = run(*words, NDREPRO_HOME=str(tmp_path / "keys"))
    run("podman", "untag", tag, tag)
    assert "verdict    identical" in said
    containers = [read_recorded(each).manifest.external_parameters["container"] for each in runs_of(tmp_path)]
    assert len({each["identifier"] for each in containers}) == 1 and len(containers) == 3
    done = subprocess.run(
        [*words, "--in=podman", f"--image={tag}"],
        env={**os.environ, "NDREPRO_HOME": str(tmp_path / "keys")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3 and "no image" in done.stderr, "the control: an image that is asked for by name"


def test_no_podman_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CONTAINER_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setattr(docker_engine, "_started", [])
    assert shutil.which("podman") is None
    with pytest.raises(EngineError, match="not installed"):
        docker_engine._podman_address()


def test_podmans_own_service_that_ended_of_idleness_is_started_again(
    image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_engine, "_SERVICE_IDLE_SECONDS", 1)
    monkeypatch.setattr(docker_engine, "_podman_sockets", lambda: iter(()))
    monkeypatch.setattr(docker_engine, "_started", [])
    found = docker_engine.find("podman", image)
    (address,) = docker_engine._started
    wait_for(lambda: not Path(address.removeprefix("unix://")).exists(), seconds=30)
    assert not docker_engine._answers(address)
    assert docker_engine.find("podman", image) == found
    assert len(docker_engine._started) == 2


def test_podmans_service_rests_while_a_container_runs(image: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it answered the wait that podman shares with docker, it took 65 % of a core; now 3 %."""
    monkeypatch.setattr(docker_engine, "_podman_sockets", lambda: iter(()))
    monkeypatch.setattr(docker_engine, "_started", [])
    process = docker_engine.start("podman", image, Enclosure(("sleep", "4"), {}))
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    services = [each for each in children if b"system\0service" in Path(f"/proc/{each}/cmdline").read_bytes()]
    stat = Path(f"/proc/{max(services, key=int)}/stat")

    def cpu_seconds() -> float:
        return sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")

    before, started = cpu_seconds(), time.monotonic()
    assert process.wait(120) == 0
    assert cpu_seconds() - before < 0.25 * (time.monotonic() - started)

"""An author records a data path that is none: a socket of the reviewer's, settings, other runs, data inside the run."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import socket
import stat
import sys
import tarfile
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from compared_runs import manifest
from dishonest_author import planned

from ndrepro.execution.own_sources.network_files import with_source
from ndrepro.execution.reproduce.reexecute import Original
from ndrepro.execution.reproduce.step_replay import request_of
from ndrepro.execution.resumption.resume_start import choose_start
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import Finished, RunOptions, resume
from ndrepro.execution.runs.run_account import open_recorder
from ndrepro.execution.sandbox.confinement import Confinement
from ndrepro.execution.sandbox.recorded_data import recorded_data
from ndrepro.execution.sandbox.sandbox import Sandbox, why_not
from ndrepro.protocol.errors import CheckpointError, DataError, SandboxError, UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunFolder, RunsFolder
from ndrepro.protocol.messages import Container, Request, write_json
from ndrepro.training.data.readers import digits, idx, published
from ndrepro.training.data.readers.images import gunzip
from ndrepro.training.data.readers.published import PublishedFile
from provenance.attestation.dsse import read_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import REPRODUCED_RUN, Resource
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustPolicy
from provenance.formats.digest import file_digest

CIFAR = Experiment.from_name("lenet_bn_1")
CONNECTIONS = """
import json, socket, sys
found = {}
def attempt(name, function):
    try:
        found[name] = function() or "yes"
    except OSError as error:
        found[name] = "refused"
def connect():
    socket.socket(socket.AF_UNIX).connect(PLACE + "/service")
def send(kind):
    first, second = socket.socketpair(socket.AF_UNIX, kind)
    first.sendto(b"run this", PLACE + "/messages")
def talk():
    first, second = socket.socketpair()
    first.send(b"x")
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()
attempt("connects to a service", connect)
attempt("sends to a service from a pair", lambda: send(socket.SOCK_DGRAM))
attempt("sends from a raw pair", lambda: send(socket.SOCK_RAW))
attempt("talks to itself", talk)
print(json.dumps(found))
"""


@pytest.fixture
def services() -> Iterator[Path]:
    """A folder with data, and two services of the reviewer's that listen there."""
    with (
        tempfile.TemporaryDirectory(prefix="nd") as folder,  # a socket's path is at most 107 bytes long
        socket.socket(socket.AF_UNIX) as service,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messages,
    ):
        (Path(folder) / "train").mkdir()
        service.bind(f"{folder}/service")
        service.listen()
        messages.bind(f"{folder}/messages")
        yield Path(folder)


@pytest.fixture(params=["bubblewrap", "namespaces"])
def kind(request: pytest.FixtureRequest) -> str:
    chosen = str(request.param)
    if reason := why_not(chosen):
        pytest.skip(f"no sandbox {chosen} here: {reason}")
    return chosen


def confined(kind: str, services: Path, *, processes: int, gpu: bool) -> dict[str, str]:
    with tempfile.TemporaryFile() as log:
        script = f"PLACE = {str(services)!r}\n{CONNECTIONS}"
        seen = Confinement((services,), (), Path("/"), gpu=gpu)
        command = [sys.executable, "-I", "-S", "-c", script]
        assert Sandbox(kind).start(command, {}, seen, processes=[{}] * processes, log=log).wait(60) == 0
        log.seek(0)
        found: dict[str, str] = json.loads(log.readline())
    print(f"\n{kind}:", found)
    return found


def test_no_service_is_reached_through_a_read_only_folder(kind: str, services: Path) -> None:
    found = confined(kind, services, processes=1, gpu=False)
    assert found.pop("talks to itself") == "yes"
    assert set(found.values()) == {"refused"} and len(found) == 3


def test_a_read_only_folder_alone_keeps_nobody_from_its_sockets(kind: str, services: Path) -> None:
    """The control: with Unix sockets, which processes that share GPUs need, the services are reached."""
    found = confined(kind, services, processes=2, gpu=True)
    assert found["connects to a service"] == "yes"


def test_a_recorded_path_that_is_no_data_is_refused(
    services: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, runs = tmp_path / "user", tmp_path / "project" / "runs"
    fifo, linked, data = tmp_path / "fifo", tmp_path / "linked", tmp_path / "data"
    others = [home / ".local" / "share", home / ".cache", runs / "lenet_bn_1" / "other", runs / "verdicts"]
    for folder in (*others, fifo / "train", linked, data / "train"):
        folder.mkdir(parents=True)
    os.mkfifo(fifo / "train" / "commands")
    (linked / "train").symlink_to(services / "service")
    (tmp_path / "settings").symlink_to(home / ".local")
    monkeypatch.setenv("HOME", str(home))
    system = [
        Path(name) for name in ("/run", "/var", "/var/tmp", "/proc", "/proc/self", "/sys", "/dev", "/etc", "/tmp", "/")
    ]
    paths = [*system, *others, runs, runs.parent, home, services, fifo, linked, tmp_path / "settings"]
    monkeypatch.chdir(tmp_path)
    for path in (*paths, Path("data"), Path("runs/lenet_bn_1/other/data"), Path("~")):
        with pytest.raises(SandboxError) as refused:
            recorded_data(CIFAR, path, (runs,))
        assert "--data" in str(refused.value.cure), path
        asked = {**manifest().external_parameters, "experiment": CIFAR.to_json(), "data": str(path)}
        with pytest.raises(SandboxError):
            request_of(replace(manifest(), external_parameters=asked), None, (runs,))
    assert recorded_data(CIFAR, data, (runs,)) == data
    assert recorded_data(CIFAR, tmp_path / "gone", (runs,)) is None


LATE_FIFO = """
import os, sys, time
while not os.path.exists(PLACE + "/asks"):
    time.sleep(0.01)
with open(PLACE + "/asks") as asks, open(PLACE + "/answers", "w") as answers:
    answers.write("the data are " + asks.read())
"""


def test_data_of_an_installed_package_are_shown_though_its_environment_is_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o755)
    site = tmp_path / ".venv" / "lib" / "site-packages"
    for folder in (site / "flowers", site / ".hidden"):
        folder.mkdir(parents=True)
        (folder / "data.npz").write_bytes(b"")
    with pytest.raises(SandboxError, match="hidden folders"):  # the control: nothing of this interpreter's
        recorded_data(CIFAR, site / "flowers" / "data.npz", [], own=True)
    monkeypatch.syspath_prepend(str(site))
    assert recorded_data(CIFAR, site / "flowers" / "data.npz", [], own=True)
    with pytest.raises(SandboxError, match="hidden folders"):
        recorded_data(CIFAR, site / ".hidden" / "data.npz", [], own=True)


def test_a_fifo_that_is_made_later_is_a_way_out_that_no_recorded_path_gives(kind: str, tmp_path: Path) -> None:
    """Its maker must be able to write there: a folder of which that is so is refused, however clean it is when seen."""
    data = tmp_path / "data"
    data.mkdir()
    with tempfile.TemporaryFile() as log:  # the control: a reviewer who names the folder with --data
        command = [sys.executable, "-I", "-S", "-c", f"PLACE = {str(data)!r}\n{LATE_FIFO}"]
        process = Sandbox(kind).start(command, {}, Confinement((data,), (), Path("/")), log=log)
        os.mkfifo(data / "answers")
        os.mkfifo(data / "asks.new")
        os.rename(data / "asks.new", data / "asks")
        (data / "asks").write_text("0000", encoding="utf-8")
        assert (data / "answers").read_text(encoding="utf-8") == "the data are 0000"
        assert process.wait(60) == 0
    (data / "asks").unlink()
    (data / "answers").unlink()
    assert recorded_data(CIFAR, data, ()) == data, "the control: nobody else may write there"
    (data / "train").mkdir()
    for folder, mode in ((data, 0o777), (data, 0o775 | stat.S_ISVTX | stat.S_IWOTH), (data / "train", 0o757)):
        folder.chmod(mode)
        with pytest.raises(SandboxError, match="everybody may write") as refused:
            recorded_data(CIFAR, data, ())
        assert "--data" in refused.value.cure
        assert recorded_data(CIFAR, data, (), own=True) == data, "who recorded the run knows his folders"
        folder.chmod(0o755)
    parent = tmp_path / "shared"
    (parent / "data").mkdir(parents=True)
    (parent / "link").symlink_to(data)
    parent.chmod(0o777)
    for path in (parent / "data", parent / "link"):
        with pytest.raises(SandboxError, match="everybody may write"):
            recorded_data(CIFAR, path, ())
    parent.chmod(0o1777)
    assert recorded_data(CIFAR, parent / "data", ()) == parent / "data", "as below /tmp"


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to another user")
def test_data_of_another_user_are_named_by_the_reviewer_or_not_used(tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "train").mkdir(parents=True)
    os.chown(data / "train", 12345, 12345)
    with pytest.raises(SandboxError, match="the user 12345 may write"):
        recorded_data(CIFAR, data, ())
    os.chown(data / "train", 0, 12345)
    assert recorded_data(CIFAR, data, ()) == data
    (data / "train").chmod(0o775)
    with pytest.raises(SandboxError, match="the group 12345 may write"):
        recorded_data(CIFAR, data, ())
    os.chown(data / "train", 0, 0)
    assert recorded_data(CIFAR, data, ()) == data, "the user's own group"


def test_what_is_not_the_authors_data_stops_a_reproduction(
    honest: Finished, services: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "runs" / "author" / "run")
    shutil.copytree(honest.folder.root, folder.root, ignore=shutil.ignore_patterns(".lock"))
    document = json.loads(folder.request.read_text())
    signed = Statement.from_bytes(read_envelope(folder.manifest.read_bytes())[1]).manifest
    options = RunOptions(RunsFolder(tmp_path / "runs"), tmp_path / "keys")
    document["experiment"]["dataset"] = "mnist"
    for path in (str(services), str(folder.root), os.path.relpath(folder.root)):
        folder.request.write_text(json.dumps({**document, "data": path}))
        with pytest.raises(SandboxError, match="not shown to recorded code"):
            planned(Original(folder, signed), options)
        assert planned(Original(folder, signed), replace(options, data=services)).pieces is None, "--data"
    # the author's folder, unpacked, with links at its top, of which the sandbox shows what they lead to
    data, settings, others = tmp_path / "data", tmp_path / ".settings", tmp_path / "others"
    for each in (data, settings, others):
        each.mkdir()
    (data / "link").symlink_to(settings)
    for named in (data, None):
        if named is None:
            folder.request.write_text(json.dumps({**document, "data": "/gone"}))
            monkeypatch.setenv("NDREPRO_DATA", str(data))
        with pytest.raises(SandboxError, match="hidden folders"):
            planned(Original(folder, signed), replace(options, data=named))
    (data / "link").unlink()
    (data / "link").symlink_to(others)
    differences = planned(Original(folder, signed), replace(options, data=data)).differences
    assert f"data: {data / 'link'} leads to {others}, which the recorded code may read" in differences


def test_a_run_that_somebody_else_started_is_not_resumed_from_any_path(tmp_path: Path) -> None:
    """It trains with all rights of whoever resumes it; before, whatever path it named was read."""
    home, runs = tmp_path / "home" / "ndrepro", RunsFolder(tmp_path / "imported")
    folder = runs.run("lenet_bn_1", "20261121T101500Z-aaaaaa")
    folder.root.mkdir(parents=True)
    write_json(folder.request, Request(CIFAR, str(home)).to_json())
    options, signer = RunOptions(runs, home), KeyRing(home).signer()
    with pytest.raises(SandboxError, match="not shown to recorded code") as caught:
        resume(folder, options, Observer())
    assert "--data PATH" in caught.value.cure
    Ledger(runs.ledger).append("begun", folder.root.name, KeyRing(tmp_path / "another").signer())
    with pytest.raises(SandboxError):
        resume(folder, options, Observer())
    Ledger(runs.ledger).append("begun", folder.root.name, signer)
    with pytest.raises(SandboxError):  # the own key began a run of this name, and not with this request
        resume(folder, options, Observer())
    Ledger(runs.ledger).append("begun", folder.root.name, signer, request=file_digest(folder.request).sha256)
    with pytest.raises(DataError):  # the control: the path of an own run is looked at, and holds no data
        resume(folder, options, Observer())


def test_a_run_is_not_resumed_in_somebody_else_s_image(tmp_path: Path) -> None:
    """What the image reports would be signed with the key of whoever resumes it."""
    home, runs = tmp_path / "home", RunsFolder(tmp_path / "imported")
    folder = runs.run("lenet_bn_1_digits", "20261121T101500Z-aaaaaa")
    folder.root.mkdir(parents=True)
    image = Container("podman", "5", "evil", "sha256:" + "0" * 64, "")
    experiment = Experiment.from_name("lenet_bn_1_digits")
    write_json(folder.request, Request(experiment, "digits.csv.gz", container=image).to_json())
    options = RunOptions(runs, home)
    with pytest.raises(UsageError, match="its image is somebody else's choice"):
        resume(folder, options, Observer())
    request = file_digest(folder.request).sha256
    Ledger(runs.ledger).append("begun", folder.root.name, KeyRing(home).signer(), request=request)
    with pytest.raises(DataError):  # the control: an own run gets further
        resume(folder, options, Observer())


def test_a_network_of_somebody_else_s_is_not_executed_to_resume_a_run(tmp_path: Path) -> None:
    home, runs, ran = tmp_path / "home", RunsFolder(tmp_path / "imported"), tmp_path / "ran"
    folder = runs.run("nets.Net_bn_1_digits", "20261121T101500Z-aaaaaa")
    folder.network.mkdir(parents=True)
    (folder.network / "nets.py").write_text(f"open({str(ran)!r}, 'w')\ndef Net(num_classes): pass\n")
    experiment = Experiment.from_name("nets:Net_bn_1_digits")
    experiment = with_source(experiment, folder.network)[0]
    write_json(folder.request, Request(experiment, "digits.csv.gz").to_json())
    with pytest.raises(UsageError, match="its network is somebody else's code"):
        resume(folder, RunOptions(runs, home, data=None), Observer())
    assert not ran.exists()


@pytest.mark.parametrize("removed", [False, True], ids=["as it was", "without origin.json"])
def test_an_unfinished_repetition_is_no_run_of_the_reviewer_s_own(tmp_path: Path, removed: bool) -> None:
    """Its recorder began it, with its author's network and image; the confined code may write to its folder."""
    home, runs, ran = tmp_path / "home", RunsFolder(tmp_path / "runs"), tmp_path / "ran"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "nets.py").write_text(f"open({str(ran)!r}, 'w')\ndef Net(num_classes): pass\n")
    image = Container("apptainer", "1", "/evil.sif", "sha256:" + "0" * 64, "")
    network = with_source(Experiment.from_name("nets:Net_bn_1_digits"), tmp_path / "theirs")[0]
    digits = Experiment.from_name("lenet_bn_1_digits")
    asked = (Request(network, "digits.csv.gz"), Request(digits, "digits.csv.gz", container=image))
    origin = Resource(REPRODUCED_RUN, digest={"sha256": "ab" * 32}, annotations={"run": "20261121T101500Z-aaaaaa"})
    for number, (request, why) in enumerate(zip(asked, ("network is", "image is"), strict=True)):
        folder = runs.run("x", f"20261121T101500Z-{number:06x}")
        shutil.copytree(tmp_path / "theirs", folder.network)
        write_json(folder.request, request.to_json())
        write_json(folder.origin, origin.to_json())
        open_recorder(folder, request, request.to_json(), runs, home).release()
        if removed:
            folder.origin.unlink()
        with pytest.raises(UsageError, match=f"its {why} somebody else's"):
            resume(folder, RunOptions(runs, home), Observer())
        with pytest.raises(CheckpointError, match="which run it repeats") if removed else nullcontext():
            choose_start(folder, Ledger(runs.ledger), TrustPolicy.load(home))
    assert not ran.exists()


def test_bundled_data_are_the_reviewers(tmp_path: Path) -> None:
    """Doctored digits inside the run are not read, whatever path is recorded."""
    (tmp_path / "digits.csv.gz").write_bytes(b"doctored")
    experiment = Experiment.from_name("lenet_bn_1_digits")
    assert recorded_data(experiment, tmp_path / "digits.csv.gz", ()) is None
    assert recorded_data(experiment, Path("digits.csv.gz"), ()) is None


def test_compressed_data_stay_as_small_as_their_format(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(200_000_000))
    with pytest.raises(OSError, match="more than 1,000 bytes"):
        gunzip(bomb, 1000)
    name = "train-images-idx3-ubyte.gz"
    (tmp_path / name).write_bytes(bomb)
    files = idx.OfficialIdxFiles("mnist", "MNIST/raw", (PublishedFile(name, (), ""),), None, ())
    (tmp_path / "digits.csv.gz").write_bytes(bomb)
    with pytest.raises(DataError, match="more than 348,618 bytes"):
        digits.load(tmp_path)
    with pytest.raises(DataError, match="more than 88,435,216 bytes"):
        idx.load("mnist", tmp_path, files)
    print(f"\n{len(bomb):,} bytes that unpack to 200,000,000")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_no_header_of_an_archive_of_data_is_read_whole(tmp_path: Path, kind: bytes) -> None:
    """A published archive's digest is known when all of it was read: before, 408 kB took 1.2 GB."""
    size = 64 << 20
    path = tmp_path / "cifar-10-python.tar.gz"
    header = tarfile.TarInfo("x")
    header.type, header.size = kind, size
    with gzip.open(path, "wb", 1) as stream:
        stream.write(header.tobuf())
        for _ in range(size >> 20):
            stream.write(bytes(1 << 20))
        stream.write(tarfile.TarInfo("y").tobuf() + bytes(1024))
    tracemalloc.start()
    with pytest.raises(DataError):
        published.read_tar(path, PublishedFile(path.name, (), ""), {"wanted": ""})
    assert tracemalloc.get_traced_memory()[1] < size // 4
    tracemalloc.stop()


def test_members_of_an_archive_of_data_have_a_bound_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "_MEMBERS_BYTES", 3000)
    path = tmp_path / "data.tar"
    with tarfile.open(path, "w") as tar:
        for name in "abcd":
            entry = tarfile.TarInfo(name)
            entry.size = 1000
            tar.addfile(entry, io.BytesIO(bytes(1000)))
    assert len(published.read_tar(path, PublishedFile("", (), ""), dict.fromkeys("abc", "")).contents) == 3
    with pytest.raises(DataError, match="more than any published file"):
        published.read_tar(path, PublishedFile("", (), ""), dict.fromkeys("abcd", ""))

"""The doctor finds what is wrong, says so with a cure, and never dies of it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ndrepro.execution import doctor
from ndrepro.execution.accelerator import Torch, ask_torch, gpu_fit, has_kernels
from ndrepro.execution.finding import OK, PROBLEM, WARNING, Finding
from ndrepro.spec.catalogue import DATASETS
from ndrepro.spec.layout import RunsFolder
from provenance.errors import KeyFileError
from provenance.probe import none, unavailable
from provenance.signing import KeyRing

H100 = {"driver": "580.95.05", "cuda_driver": "13.0", "devices": [{"name": "NVIDIA H100"}]}
SEES_IT = Torch("2.13.0", "13.0", (("NVIDIA H100", True),))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NDREPRO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def only(findings: object) -> Finding:
    (finding,) = findings  # type: ignore[misc]
    return finding


def test_every_question_is_answered_on_this_machine(tmp_path: Path) -> None:
    found = {finding.name: finding for finding in doctor.examine(RunsFolder(tmp_path / "runs"))}
    assert {"python", "torch", "gpu", "cores", "memory", "disk for runs", "key", "data digits", "docker"} <= set(found)
    assert found["torch"].status == OK and "built for" in found["torch"].message
    assert all(item.cure for item in found.values() if item.status != OK)


def test_a_probe_that_fails_is_a_finding_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "torch_and_gpu", lambda: iter(()))  # the slow one
    monkeypatch.setattr(doctor, "_machine", lambda: 1 / 0)
    found = {finding.name: finding for finding in doctor.examine(RunsFolder(tmp_path))}
    assert found["machine"].status == PROBLEM and "ZeroDivisionError" in found["machine"].message
    assert "docker" in found


def test_a_torch_that_cannot_be_imported_is_a_problem(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho 'ImportError: libcudart.so.13: cannot open' >&2\nexit 1\n")
    python.chmod(0o755)
    assert ask_torch(str(python)).error == "ImportError: libcudart.so.13: cannot open"


@pytest.mark.parametrize(
    ("torch", "driver", "status", "said"),
    [
        (SEES_IT, H100, OK, "supports CUDA 13.0"),
        (Torch("2.13.0", "13.0"), none("no NVIDIA GPU"), OK, "use the CPU: no NVIDIA GPU"),
        (
            Torch("2.13.0", "13.0"),
            unavailable("there is a device, but no driver library"),
            WARNING,
            "no driver library",
        ),
        (Torch("2.13.0+cpu", ""), H100, WARNING, "CPU build"),
        (SEES_IT, {**H100, "cuda_driver": "12.4"}, PROBLEM, "supports CUDA 12.4, torch is built for 13.0"),
        (Torch("2.13.0", "13.0"), H100, WARNING, "torch sees 0 of 1"),
        (Torch("2.13.0", "13.0", (("Tesla K80", False),)), H100, PROBLEM, "no kernels for Tesla K80"),
        (SEES_IT, {**H100, "cuda_driver": unavailable("NVML: not supported")}, OK, "NVIDIA H100"),
        (SEES_IT, {**H100, "devices": unavailable("NVML: no permission")}, WARNING, "no permission"),
    ],
)
def test_driver_cuda_and_torch_must_fit(torch: Torch, driver: dict[str, object], status: str, said: str) -> None:
    finding = gpu_fit(torch, driver)
    assert finding.status == status
    assert said in finding.message
    assert finding.cure or status == OK


@pytest.mark.parametrize(
    ("capability", "kernels", "fits"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 6), ["sm_80"], True),  # a binary runs on a later minor
        ((8, 0), ["sm_86"], False),
        ((3, 7), ["sm_75", "sm_80"], False),
        ((12, 1), ["sm_120"], True),
        ((13, 0), ["sm_120"], False),
        ((13, 0), ["sm_120", "compute_120"], True),  # intermediate code is compiled for whatever is later
        ((9, 0), ["sm_90a"], True),
        ((10, 0), ["sm_90a"], False),
        ((9, 0), [], False),
    ],
)
def test_kernels_by_compute_capability(capability: tuple[int, int], kernels: list[str], fits: bool) -> None:
    assert has_kernels(*capability, kernels) is fits


def test_the_source_is_clean_dirty_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> None:
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *author, *words], cwd=tmp_path / "clone", check=True, capture_output=True)

    monkeypatch.setattr(doctor, "_PROJECT", tmp_path / "clone")
    (tmp_path / "clone").mkdir()
    assert only(doctor._source()).status == WARNING
    git("init", "-q")
    (tmp_path / "clone" / "a file").write_text("a")
    assert only(doctor._source()).status == WARNING  # no commit yet
    git("add", "-A")
    git("commit", "-qm", "a")
    assert only(doctor._source()).message.endswith("clean")
    (tmp_path / "clone" / "new").write_text("b")
    assert "DIRTY: 1 changed or new (new)" in only(doctor._source()).message


def test_the_key_is_looked_at_and_not_made(home: Path) -> None:
    assert only(doctor._key()).message.startswith("none yet")
    assert not home.exists()
    ring = KeyRing(home)
    keyid = ring.keyid
    assert only(doctor._key()) == Finding("key", OK, f"{keyid} in {ring.path}")
    home.chmod(0o777)
    with pytest.raises(KeyFileError, match="others may put"):  # which ``examine`` turns into a finding
        only(doctor._key())


def test_pins_are_compared_and_what_differs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PROJECT", tmp_path)
    assert only(doctor._packages()).status == WARNING  # no lock beside it
    hashed = " \\\n    --hash=sha256:" + "ab" * 32 + "\n"
    lock = f"typer==0.0.1{hashed}not-for-us==1.0 ; sys_platform == 'win32'{hashed}"
    (tmp_path / "requirements.lock").write_text(lock)
    found = [finding.message for finding in doctor._packages() if finding.status == PROBLEM]
    assert len(found) == 1 and found[0].startswith("typer ") and found[0].endswith("the lock has 0.0.1")


def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)  # root may write anywhere
    assert next(doctor._disk(RunsFolder(tmp_path))).status == PROBLEM


def test_data_that_lie_in_the_data_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NDREPRO_DATA", str(tmp_path))
    (tmp_path / "cifar-10-batches-py").mkdir()
    found = {finding.name: finding.message for finding in doctor._data()}
    assert found["data cifar10"] == str(tmp_path / "cifar-10-batches-py")
    assert "data cifar100" not in found and "cifar100" in found["data"]
    assert all(f"data {name}" in found or name in found["data"] for name in DATASETS)  # none is forgotten

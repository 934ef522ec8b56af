"""The doctor finds what is wrong, says so with a cure, and never dies of it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ndrepro.execution.environments import doctor, main_environment
from ndrepro.execution.environments import gpu_fit as module
from ndrepro.execution.environments.finding import OK, PROBLEM, WARNING, Finding
from ndrepro.execution.environments.gpu_fit import Torch, ask_torch, gpu_fit, has_kernels
from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.protocol.layout import RunsFolder
from provenance.attestation.key_home import KeyRing
from provenance.capture.unavailable import none, unavailable
from provenance.errors import KeyFileError

H100: dict[str, Any] = {"driver": "580.95.05", "cuda_driver": "13.0", "devices": [{"name": "NVIDIA H100"}]}
# what the wheels of these releases were compiled for, as torch._C._cuda_getArchFlags() gave it
CUDA_13 = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120")
TORCH = Torch("2.13.0+cu130", "13.0")
SEES_IT = replace(TORCH, devices=(("NVIDIA H100", "9.0"),), kernels=CUDA_13)
OLD = Torch("1.13.1+cu117", "11.7", (), ("sm_37", "sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86"))
# torch's own words where the driver supports CUDA 12.8 and where there is none
TOO_OLD = "The NVIDIA driver on your system is too old (found version 12080). Please update your GPU driver by …"
NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver …"


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


@pytest.mark.slow
def test_a_torch_without_torchvision_is_no_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the image for the CPU."""
    script = "import json; print(json.dumps(['2.13.0+cpu', '', [], [], '', '']))"
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec python3 -c "{script}"\n')
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(module, "ask_torch", lambda: ask_torch(str(tmp_path / "python")))
    found = {finding.name: finding for finding in module.torch_and_gpu()}
    assert {finding.status for finding in found.values()} == {OK}
    assert "ImageNet" in found["torchvision"].message
    monkeypatch.undo()
    assert "torchvision" not in {finding.name for finding in module.torch_and_gpu()}, "the control"


def fit(torch: Torch, driver: dict[str, Any], engine: str = "") -> tuple[str, str, str]:
    finding = gpu_fit(torch, driver, engine)
    assert finding.cure or finding.status == OK
    return finding.status, finding.message, finding.cure


@pytest.mark.parametrize(
    ("torch", "driver", "status", "said"),
    [
        (SEES_IT, H100, OK, "supports CUDA 13.0"),
        (TORCH, none("no NVIDIA GPU"), OK, "use the CPU: no NVIDIA GPU"),
        (Torch("2.13.0+cpu", ""), H100, WARNING, "CPU build"),
        (replace(TORCH, reason="No CUDA GPUs are available"), H100, WARNING, "sees none: No CUDA GPUs are available"),
        (SEES_IT, {**H100, "cuda_driver": unavailable("NVML: not supported")}, OK, "NVIDIA H100"),
        (SEES_IT, {**H100, "devices": unavailable("NVML: no permission")}, WARNING, "no permission"),
        (SEES_IT, {**H100, "devices": H100["devices"] * 2}, OK, "torch sees 1 of 2"),
    ],
)
def test_driver_cuda_and_torch_must_fit(
    torch: Torch, driver: dict[str, Any], status: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert fit(torch, driver)[0] == status
    assert said in fit(torch, driver)[1]


@pytest.mark.parametrize(
    ("supported", "driver", "cell"), [("12.8", "570.133.20", "torch-2.10.0"), ("11.8", "520.61.05", "torch-2.0.1")]
)
def test_a_driver_too_old_for_torchs_cuda_is_told_with_the_one_needed(supported: str, driver: str, cell: str) -> None:
    older = {**H100, "driver": driver, "cuda_driver": supported}
    status, message, cure = fit(replace(TORCH, reason=TOO_OLD), older)
    assert status == PROBLEM
    assert message.startswith(f"NVIDIA H100, driver {driver} supports CUDA up to {supported}; torch 2.13.0+cu130 is")
    assert cure == f"update the driver to 580 or newer, or train in a cell that is: ndrepro run EXP --env {cell}"
    # a newer minor release than the driver's runs, and what torch does see is not argued with
    cuda_12 = Torch("2.8.0+cu128", "12.8", (("NVIDIA H100", "9.0"),), ("sm_90",))
    assert fit(cuda_12, {**H100, "cuda_driver": "12.0"})[0] == OK
    assert fit(SEES_IT, older)[0] == OK


def test_a_gpu_that_torch_was_not_compiled_for_is_told_with_the_way_out() -> None:
    volta = replace(SEES_IT, devices=(("Tesla V100-SXM2-16GB", "7.0"),))
    status, message, cure = fit(volta, H100)
    assert (status, "older cell" in cure) == (PROBLEM, True)
    assert message == (
        "torch 2.13.0+cu130 has no kernels for Tesla V100-SXM2-16GB (compute capability 7.0), only for"
        " sm_75 sm_80 sm_86 sm_90 sm_100 sm_120"
    )
    hopper = replace(OLD, devices=(("NVIDIA H100", "9.0"),))
    assert "newer torch" in fit(hopper, H100)[2]
    assert fit(replace(OLD, devices=(("Tesla V100-SXM2-16GB", "7.0"),)), H100)[0] == OK


@pytest.mark.parametrize(
    ("reason", "engine", "said", "cure"),
    [
        ("NVML: NVML Shared Library Not Found", "apptainer", "was started without the GPU", "--nv"),
        ("NVML: NVML Shared Library Not Found", "docker", "was started without the GPU", "--gpus all"),
        ("NVML: NVML Shared Library Not Found", "podman", "was started without the GPU", "nvidia.com/gpu=all"),
        ("NVML: NVML Shared Library Not Found", "kubernetes", "in a container", "hand in the GPU"),
        ("NVML: NVML Shared Library Not Found", "", "Not Found", "install NVIDIA's driver"),
        ("NVML: Driver/library version mismatch", "", "mismatch", "restart the machine"),
        ("NVML: Insufficient Permissions", "", "Permissions", "asking the scheduler"),
    ],
)
def test_a_gpu_whose_driver_does_not_answer_is_told_by_where_this_is(
    reason: str, engine: str, said: str, cure: str
) -> None:
    found = unavailable(f"there is an NVIDIA device, but {reason}")
    status, message, way_out = fit(replace(TORCH, reason=NO_DRIVER), found, engine)
    assert (status, said in message, cure in way_out) == (WARNING, True, True)
    assert reason in message
    assert ("container" in message) == bool(engine)


def test_gpus_that_a_variable_hides_are_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    status, message, cure = fit(TORCH, H100)
    assert (status, "CUDA_VISIBLE_DEVICES='' leaves torch none" in message) == (WARNING, True)
    assert cure.startswith("unset CUDA_VISIBLE_DEVICES")


@pytest.mark.slow
def test_torchs_own_word_is_asked_for_where_it_sees_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    torch = ask_torch()
    assert torch.error == "" and torch.devices == () and torch.vision
    assert torch.reason.startswith(("Found no NVIDIA driver", "No CUDA GPUs")) or not torch.cuda


@pytest.mark.parametrize(
    ("capability", "kernels", "fits"),
    [
        ("9.0", ["sm_80", "sm_90"], True),
        ("8.6", ["sm_80"], True),  # a binary runs on a later minor
        ("8.0", ["sm_86"], False),
        ("3.7", ["sm_75", "sm_80"], False),
        ("12.1", ["sm_120"], True),
        ("13.0", ["sm_120"], False),
        ("13.0", ["sm_120", "compute_120"], True),  # intermediate code is compiled for whatever is later
        ("9.0", ["sm_90a"], True),
        ("10.0", ["sm_90a"], False),
        ("9.0", [], False),
    ],
)
def test_kernels_by_compute_capability(capability: str, kernels: list[str], fits: bool) -> None:
    assert has_kernels(capability, kernels) is fits


def test_the_source_is_clean_dirty_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> None:
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *author, *words], cwd=tmp_path / "clone", check=True, capture_output=True)

    monkeypatch.setattr(doctor, "CODE", tmp_path / "clone")
    (tmp_path / "clone").mkdir()
    assert only(doctor._source(RunsFolder(tmp_path / "runs"))).status == WARNING
    git("init", "-q")
    (tmp_path / "clone" / "a file").write_text("a")
    assert only(doctor._source(RunsFolder(tmp_path / "runs"))).status == WARNING  # no commit yet
    git("add", "-A")
    git("commit", "-qm", "a")
    assert only(doctor._source(RunsFolder(tmp_path / "runs"))).message.endswith("clean")
    (tmp_path / "clone" / "new").write_text("b")
    assert "DIRTY: 1 changed or new (new)" in only(doctor._source(RunsFolder(tmp_path / "runs"))).message


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
    monkeypatch.setattr(main_environment, "CODE", tmp_path)
    monkeypatch.setattr(main_environment, "file_problems", tuple)  # tested in test_main_environment, and slow
    assert next(doctor._packages()).status == WARNING  # no lock beside it
    hashed = " \\\n    --hash=sha256:" + "ab" * 32 + "\n"
    lock = f"typer==0.0.1{hashed}not-for-us==1.0 ; sys_platform == 'win32'{hashed}"
    (tmp_path / "requirements.lock").write_text(lock)
    found = [finding.message for finding in doctor._packages() if finding.status == PROBLEM]
    assert len(found) == 1 and found[0].startswith("typer ") and found[0].endswith("the lock has 0.0.1")
    (tmp_path / "requirements.lock").write_text("".join(f"nowhere{number}==1.0{hashed}" for number in range(50)))
    (found,) = (finding.message for finding in doctor._packages() if finding.status == PROBLEM)
    assert found.count("not installed") == 3 and found.endswith("; and 47 more")


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

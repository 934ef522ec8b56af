"""The lock for images without CUDA has the wheels of the processor that the image is for."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cpu_lock
import pytest
from cpu_lock import MACHINES

LOCK = """other==1 ; platform_machine == 'aarch64' \\
    --hash=sha256:1
torch==2.13.0 \\
    --hash=sha256:0
"""


def write_wheel(folder: Path, machine: str) -> Path:
    """The least that pip takes for torch's CPU build."""
    path = folder / f"torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_{machine}.whl"
    name = "torch-2.13.0+cpu.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0+cpu\n")
        archive.writestr(f"{name}/WHEEL", f"Wheel-Version: 1.0\nTag: cp311-cp311-manylinux_2_28_{machine}\n")
        archive.writestr(f"{name}/RECORD", "")
    return path


@pytest.mark.parametrize("platform", MACHINES)
def test_torch_is_that_of_the_images_processor(platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, house = MACHINES[platform], tmp_path / "house"
    house.mkdir()
    hashes = {each: cpu_lock._sha256(write_wheel(house, each)) for each in MACHINES.values()}
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(house))
    pin = cpu_lock.cpu_torch(LOCK, tmp_path / "wheels", ["3.11"], machine)
    assert pin == f"torch==2.13.0+cpu \\\n    --hash=sha256:{hashes[machine]}\n"
    assert [path.name.rpartition("28_")[2] for path in (tmp_path / "wheels").iterdir()] == [f"{machine}.whl"]
    found = [name for name, text in cpu_lock.entries(LOCK) if cpu_lock.for_python(text, "3.11", machine)]
    assert found == (["other", "torch"] if machine == "aarch64" else ["torch"])


def test_where_pip_finds_none_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_wheel(tmp_path, "x86_64")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    assert cpu_lock.cpu_torch(LOCK, tmp_path / "wheels", ["3.11"], "aarch64") is None

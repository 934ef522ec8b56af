"""GPUs as NVML tells of them: the real pynvml before a real library, one that is made here where there is no GPU."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from provenance.capture import gpu

ROOT = Path(__file__).parents[3]
DRIVER = r"""
#include <string.h>
typedef void *device;
#define SLICE ((device)100)
static int copy(char *to, const char *text) { strcpy(to, text); return 0; }
int nvmlInit_v2(void) { return INIT; }
int nvmlInitWithFlags(unsigned flags) { return INIT; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) { return code == 9 ? "Driver Not Loaded" : "Not Supported"; }
int nvmlSystemGetDriverVersion(char *to, unsigned length) { return copy(to, "580.95.05"); }
int nvmlSystemGetNVMLVersion(char *to, unsigned length) { return copy(to, "13.580.95"); }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13010; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = COUNT; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device *to) { *to = (device)1; return index == 1 ? 15 : 0; }
int nvmlDeviceGetName(device gpu, char *to, unsigned length) { return copy(to, gpu == SLICE ? "A slice" : "Some GPU"); }
int nvmlDeviceGetUUID(device gpu, char *to, unsigned length) { return copy(to, "GPU-5d7c1e8f"); }
int nvmlDeviceGetMemoryInfo(device gpu, unsigned long long *to) { to[0] = 85899345920ULL; return 0; }
int nvmlDeviceGetCudaComputeCapability(device gpu, int *major, int *minor) { *major = 9; *minor = 0; return 0; }
int nvmlDeviceGetEccMode(device gpu, unsigned *current, unsigned *pending) { *current = 1; *pending = 0; return 0; }
int nvmlDeviceGetMigMode(device gpu, unsigned *current, unsigned *pending) { *current = *pending = 1; return 0; }
int nvmlDeviceGetMaxMigDeviceCount(device gpu, unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(device gpu, unsigned index, device *to) { *to = SLICE; return index ? 6 : 0; }
int nvmlDeviceGetAttributes_v2(device gpu, unsigned *to) { to[0] = 16; return gpu == SLICE ? 0 : 2; }
int nvmlDeviceGetPersistenceMode(device gpu, unsigned *to) { return 3; }
int nvmlDeviceGetClockInfo(device gpu, unsigned kind, unsigned *to) { *to = kind == 1 ? 1980 : 2619; return 0; }
"""


@pytest.fixture
def driver(tmp_path: Path) -> Any:
    """Captures with a driver's library of ``count`` GPUs whose initialisation answers ``init``."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler to make a driver's library with")

    def capture(count: int, init: int = 0, root: Path = Path("/")) -> dict[str, Any]:
        options = ["-shared", "-fPIC", "-w", f"-DCOUNT={count}", f"-DINIT={init}"]
        library = tmp_path / "libnvidia-ml.so.1"
        subprocess.run([compiler, *options, "-x", "c", "-", "-o", library], input=DRIVER.encode(), check=True)
        code = "import json, pathlib, sys; from provenance.capture.gpu import capture;"
        code += "print(json.dumps(capture(pathlib.Path(sys.argv[1]))))"
        variables = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", code, str(root)], cwd=ROOT, env=variables, capture_output=True, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return capture


def test_a_gpu_and_what_it_does_not_say(driver: Any) -> None:
    found = driver(1)
    assert (found["driver"], found["cuda_driver"], found["nvml"]) == ("580.95.05", "13.1", "13.580.95")
    (device,) = found["devices"]
    assert (device["name"], device["uuid"], device["memory_bytes"]) == ("Some GPU", "GPU-5d7c1e8f", 85899345920)
    assert device["compute_capability"] == "9.0"
    assert device["ecc"] == {"current": True, "pending": False}
    assert device["clocks_mhz"]["sm"] == 1980 and device["clocks_mhz"]["memory"] == 2619
    assert device["multiprocessors"]["unavailable"].startswith("NVML gives it for MIG devices alone")
    assert device["persistence"] == {"unavailable": "NVML: Not Supported"}
    assert device["vbios"] == {"unavailable": "NVML: Function Not Found"}
    (part,) = device["mig_devices"]
    assert (part["name"], part["multiprocessors"]) == ("A slice", 16)


def test_a_lost_gpu_loses_no_other(driver: Any) -> None:
    first, second, third = driver(3)["devices"]
    assert first["name"] == third["name"] == "Some GPU"
    assert second["index"] == 1 and "unavailable" in second


def test_a_driver_without_a_gpu(driver: Any) -> None:
    assert driver(0) == {"none": "the NVIDIA driver 580.95.05 is loaded and has no GPU"}


def test_a_driver_that_does_not_answer(driver: Any, tmp_path: Path) -> None:
    assert list(driver(1, init=9, root=tmp_path)) == ["none"]
    version = tmp_path / "proc/driver/nvidia/version"
    version.parent.mkdir(parents=True)
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05\nGCC version:\n")
    reason = driver(1, init=9, root=tmp_path)["unavailable"]
    assert "Driver Not Loaded" in reason and "Kernel Module  580.95.05" in reason


def test_no_gpu_says_why(tmp_path: Path) -> None:
    class Missing:
        class NVMLError(Exception):
            pass

        def nvmlInit(self) -> None:
            raise self.NVMLError("NVML Shared Library Not Found")

    reason = "no NVIDIA GPU: neither /dev/nvidia0 nor /proc/driver/nvidia is there, and none is on the PCI bus"
    assert gpu.capture(tmp_path, Missing()) == {"none": f"{reason} (NVML: NVML Shared Library Not Found)"}
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    assert "there is an NVIDIA device, but NVML" in gpu.capture(tmp_path, Missing())["unavailable"]


def test_a_gpu_without_a_driver_is_not_taken_for_none(driver: Any, tmp_path: Path) -> None:
    def device(address: str, vendor: str, kind: str) -> Path:
        folder = tmp_path / "sys/bus/pci/devices" / address
        folder.mkdir(parents=True)
        (folder / "vendor").write_text(f"{vendor}\n")
        (folder / "class").write_text(f"{kind}\n")
        return folder

    device("0000:00:02.0", "0x8086", "0x030000")  # a display of another maker
    device("0000:01:00.1", "0x10de", "0x040300")  # the sound device that sits beside a GPU
    assert list(driver(1, init=9, root=tmp_path)) == ["none"]
    bound = device("0000:01:00.0", "0x10de", "0x030200")
    found = driver(1, init=9, root=tmp_path)["unavailable"]
    assert found == (
        "there is an NVIDIA GPU (PCI 0000:01:00.0, bound to no driver)"
        " without NVIDIA's driver (NVML: Driver Not Loaded)"
    )
    (tmp_path / "sys/bus/pci/drivers/nouveau").mkdir(parents=True)
    (bound / "driver").symlink_to("../../drivers/nouveau")
    assert "bound to nouveau" in driver(1, init=9, root=tmp_path)["unavailable"]


def test_every_question_is_one_that_pynvml_knows() -> None:
    import re

    import pynvml

    asked = set(re.findall(r"\bnvml[A-Z]\w+|\bNVML_\w+", Path(gpu.__file__).read_text(encoding="utf-8")))
    assert len(asked) > 20
    assert {name for name in asked if not hasattr(pynvml, name)} == set()

"""What a machine with GPUs reports is what a signed record may hold: a run there would be refused for a member more."""

from __future__ import annotations

import pytest

from ndrepro.protocol.recorded.environment import CAPTURED
from ndrepro.protocol.recorded.manifest_parts import PROGRAM_FACTS
from provenance.capture import gpu
from provenance.errors import ManifestError
from provenance.formats.strict_json import Field


class Nvml:
    """Answers as pynvml does where every question has one."""

    class NVMLError(Exception):
        """As pynvml has it."""

    NVML_CLOCK_SM = NVML_CLOCK_MEM = 1

    def __getattr__(self, name: str) -> object:
        answers = {
            "nvmlSystemGetCudaDriverVersion_v2": 13010,
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetPciInfo": type("Pci", (), {"busId": "00000000:01:00.0"}),
            "nvmlDeviceGetMemoryInfo": type("Memory", (), {"total": 85899345920, "used": 5}),
            "nvmlDeviceGetCudaComputeCapability": (9, 0),
            "nvmlDeviceGetEccMode": (1, 0),
            "nvmlDeviceGetMigMode": (0, 0),
            "nvmlDeviceGetMaxMigDeviceCount": 0,
            "nvmlDeviceGetUtilizationRates": type("Rates", (), {"gpu": 50}),
            "nvmlDeviceGetComputeRunningProcesses": [type("Process", (), {"pid": 7, "usedGpuMemory": 3})],
        }
        numbers = ("Cores", "Mode", "Limit", "ClockInfo", "Attributes_v2")
        answer = answers.get(name, 1 if name.endswith(numbers) else "text")
        return lambda *arguments: answer


def test_a_record_may_hold_every_fact_of_a_gpu() -> None:
    found = gpu.capture(nvml=Nvml())
    assert found["devices"][0]["memory_bytes"] == 85899345920, "the control: there are answers"
    CAPTURED(Field({"gpus": found}, "environment"))
    with pytest.raises(ManifestError, match="another"):
        CAPTURED(Field({"gpus": {**found, "another": 1}}, "environment"))


def test_a_record_may_hold_what_a_program_used_of_a_gpu() -> None:
    use = gpu.GpuUse(Nvml())
    use.sample([7])
    found = use.facts()
    assert found["gpus"][0]["mean_busy_percent"] == 50, "the control"
    PROGRAM_FACTS["usage"](Field(found, "usage"))

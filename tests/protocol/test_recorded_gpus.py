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


class Faulty(Nvml):
    """A driver that answers with numbers that no machine has, as some do for a GPU that has fallen off the bus."""

    MOST = (1 << 64) - 1

    def __getattr__(self, name: str) -> object:
        answers = {
            "nvmlDeviceGetMemoryInfo": type("Memory", (), {"total": self.MOST, "used": self.MOST + 1}),
            "nvmlDeviceGetUtilizationRates": type("Rates", (), {"gpu": (1 << 32) - 1}),
            "nvmlDeviceGetComputeRunningProcesses": [type("Process", (), {"pid": 7, "usedGpuMemory": self.MOST})] * 2,
            "nvmlDeviceGetEnforcedPowerLimit": (1 << 32) - 1,
            "nvmlDeviceGetClockInfo": -1,
            "nvmlDeviceGetMaxMigDeviceCount": (1 << 32) - 1,
        }
        if name in answers:
            return lambda *arguments: answers[name]
        return super().__getattr__(name)


def test_implausible_facts_of_a_gpu_are_left_out_and_say_so() -> None:
    found = gpu.capture(nvml=Faulty())
    CAPTURED(Field({"gpus": found}, "environment"))
    device = found["devices"][0]
    for answer in (
        device["memory_bytes"],
        device["power_limit_watts"],
        device["clocks_mhz"]["sm"],
        device["mig_devices"],
    ):
        assert answer["unavailable"].startswith("implausible: ")
    assert device["name"] == "text", "the control: the others are kept"


def test_implausible_use_of_a_gpu_is_left_out_and_says_so() -> None:
    nvml = Nvml()
    use = gpu.GpuUse(nvml)
    use.sample([7])
    use._nvml = Faulty()
    use.sample([7])
    use._nvml = nvml
    use.sample([7])
    found = use.facts()
    PROGRAM_FACTS["usage"](Field(found, "usage"))
    for name in ("peak_memory_bytes", "peak_process_memory_bytes", "mean_busy_percent"):
        assert found["gpus"][0][name]["unavailable"].startswith("implausible: ")


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

"""The GPUs of this machine and their driver, asked through NVML (pynvml) without touching CUDA.

NVML sees every GPU of the machine, also those that CUDA_VISIBLE_DEVICES hides from this process. It gives the number
of multiprocessors for MIG devices alone: the training process, which has a CUDA context, adds it for the others.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from provenance.capture.unavailable import (
    MOST_BYTES,
    MOST_COUNT,
    MOST_WATTS,
    ImplausibleReading,
    is_missing,
    none,
    plausible,
    unavailable,
)

_NO_DEVICE = "no NVIDIA GPU: neither /dev/nvidia0 nor /proc/driver/nvidia is there, and none is on the PCI bus"
_MOST_DEVICES = 1024
# as the kernel names them in sysfs: NVIDIA's number, and the class of display controllers, accelerators among them
_NVIDIA, _DISPLAY = "0x10de", "0x03"


def capture(root: Path = Path("/"), nvml: Any = None) -> dict[str, Any]:
    """The driver and each GPU; ``{"none": reason}`` where there is no GPU.

    ``nvml`` stands for the module pynvml.
    """
    if nvml is None:
        nvml, reason = _pynvml()
        if nvml is None:
            return _without_nvml(root, reason)
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return _without_nvml(root, f"NVML: {error}")
    try:
        return _all(nvml)
    finally:
        nvml.nvmlShutdown()


class GpuUse:
    """What processes use of this machine's GPUs, from samples: their memory, and how busy the GPUs are meanwhile.

    Nothing is asked where there is no GPU. In a container NVML may number processes as the host does: then the memory
    of these processes is not known, and that of the whole GPU is.
    """

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml
        self._handles: list[Any] = []
        self._found: list[dict[str, Any]] = []
        with suppress(Exception):  # no pynvml, no driver, no GPU
            if nvml is None:
                self._nvml, _ = _pynvml()
            self._nvml.nvmlInit()
            count = _devices(self._nvml.nvmlDeviceGetCount())
            self._handles = [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
            self._found = [{"index": index} for index in range(count)]

    def sample(self, pids: Collection[int]) -> None:
        """Look at the GPUs now. What was implausible once is left out, and says so."""
        wanted = set(pids)
        for handle, found in zip(self._handles, self._found, strict=True):
            with _reading(found, "peak_process_memory_bytes") as before:
                running = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
                own = [each.usedGpuMemory or 0 for each in running if each.pid in wanted]
                if own:
                    found["peak_process_memory_bytes"] = max(before, _bytes(sum(own)))
            with _reading(found, "peak_memory_bytes") as before:
                used = _bytes(self._nvml.nvmlDeviceGetMemoryInfo(handle).used)
                found["peak_memory_bytes"] = max(before, used)
            with _reading(found, "mean_busy_percent") as before:
                busy = plausible(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu, 100, "%")
                samples = found.get("samples", 0)
                found |= {"samples": samples + 1, "mean_busy_percent": (before * samples + busy) / (samples + 1)}

    def facts(self) -> dict[str, Any]:
        """``gpus``: for each one, in NVML's order, its peaks and its mean utilization; empty where there is none."""
        if self._handles:
            with suppress(Exception):
                self._nvml.nvmlShutdown()
        return {"gpus": self._found} if self._found else {}


@contextmanager
def _reading(found: dict[str, Any], name: str) -> Iterator[Any]:
    """What was read so far under that name; what cannot be read is left out."""
    try:
        yield found.get(name, 0)
    except ImplausibleReading as error:
        found[name] = unavailable(str(error))
    except Exception:
        pass  # a number does not compare with the reason that stands where a reading was implausible


def _without_nvml(root: Path, reason: str) -> dict[str, Any]:
    """NVML cannot be asked: is there a GPU all the same, without a driver, or in a container that was given none?"""
    version = root / "proc/driver/nvidia/version"
    on_the_bus = _on_the_bus(root)
    if version.exists() or (root / "dev/nvidia0").exists():
        lines = version.read_text(encoding="utf-8").splitlines() if version.is_file() else []
        driver = f"; the driver says: {lines[0].strip()}" if lines else ""
        return unavailable(f"there is an NVIDIA device, but {reason}{driver}")
    if on_the_bus:
        return unavailable(f"there is an NVIDIA GPU ({', '.join(on_the_bus)}) without NVIDIA's driver ({reason})")
    return none(f"{_NO_DEVICE} ({reason})")


def open_nvml() -> Any:
    """The module pynvml after it met the driver, None where it cannot. Whoever opens it leaves it open."""
    with suppress(Exception):
        nvml, _ = _pynvml()
        nvml.nvmlInit()
        return nvml
    return None


def _pynvml() -> tuple[Any, str]:
    """The module pynvml, or why there is none: it takes a tenth of a second to import, also where no driver is."""
    if find_spec("pynvml") is None:
        return None, "pynvml (nvidia-ml-py) is not installed"
    if sys.platform == "linux":
        try:
            ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return None, "NVML: libnvidia-ml.so.1 is not installed"
    import pynvml

    return pynvml, ""


def _on_the_bus(root: Path) -> list[str]:
    """NVIDIA's display controllers among the PCI devices, each with the kernel's driver that it is bound to."""
    found = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        try:
            vendor, kind = ((device / name).read_text(encoding="ascii").strip() for name in ("vendor", "class"))
        except (OSError, UnicodeDecodeError):
            continue
        if vendor == _NVIDIA and kind.startswith(_DISPLAY):
            driver = device / "driver"
            bound = f"bound to {driver.resolve().name}" if driver.exists() else "bound to no driver"
            found.append(f"PCI {device.name}, {bound}")
    return found


def _all(nvml: Any) -> dict[str, Any]:
    ask = _Asker(nvml)
    driver = ask("nvmlSystemGetDriverVersion", _text)
    count = ask("nvmlDeviceGetCount", _devices)
    if count == 0:
        return none(f"the NVIDIA driver {driver} is loaded and has no GPU")
    return {
        "driver": driver,
        "cuda_driver": ask("nvmlSystemGetCudaDriverVersion_v2", _cuda_version),
        "nvml": ask("nvmlSystemGetNVMLVersion", _text),
        "devices": [_device(ask, index) for index in range(count)] if isinstance(count, int) else count,
    }


def _same(answer: Any) -> Any:
    return answer


class _Asker:
    """Calls NVML; a question that a GPU or a driver does not answer is an ``unavailable``."""

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml

    def __call__(self, name: str, shape: Callable[[Any], Any] = _same, *arguments: Any) -> Any:
        """``shape`` of what the NVML function of that name answers."""
        function = getattr(self.nvml, name, None)
        if function is None:
            return unavailable(f"this release of pynvml has no {name}")
        try:
            return shape(function(*arguments))
        except self.nvml.NVMLError as error:
            return unavailable(f"NVML: {error}")
        except ImplausibleReading as error:
            return unavailable(str(error))
        except Exception as error:
            return unavailable(f"{type(error).__name__}: {error}")


def _device(ask: _Asker, index: int) -> dict[str, Any]:
    """One GPU; clocks in MHz are those of the moment and the highest that it allows."""
    handle = ask("nvmlDeviceGetHandleByIndex", _same, index)
    if is_missing(handle):
        return {"index": index, **handle}

    def of(name: str, shape: Callable[[Any], Any] = _same, *more: Any) -> Any:
        return ask(name, shape, handle, *more)

    sm, memory = ask.nvml.NVML_CLOCK_SM, ask.nvml.NVML_CLOCK_MEM
    return {
        "index": index,
        "name": of("nvmlDeviceGetName", _text),
        "uuid": of("nvmlDeviceGetUUID", _text),
        "pci_bus": of("nvmlDeviceGetPciInfo", lambda pci: _text(pci.busId)),
        "memory_bytes": of("nvmlDeviceGetMemoryInfo", lambda answer: _bytes(answer.total)),
        "compute_capability": of("nvmlDeviceGetCudaComputeCapability", lambda pair: f"{pair[0]}.{pair[1]}"),
        "multiprocessors": _multiprocessors(ask, handle),
        "cuda_cores": of("nvmlDeviceGetNumGpuCores", _count),
        "ecc": of("nvmlDeviceGetEccMode", _current_and_pending),
        "mig": of("nvmlDeviceGetMigMode", _current_and_pending),
        "mig_devices": _mig_devices(ask, handle),
        "persistence": of("nvmlDeviceGetPersistenceMode", bool),
        "compute_mode": of("nvmlDeviceGetComputeMode", _count),
        "power_limit_watts": of("nvmlDeviceGetEnforcedPowerLimit", _watts),
        "vbios": of("nvmlDeviceGetVbiosVersion", _text),
        "clocks_mhz": {
            "sm": of("nvmlDeviceGetClockInfo", _count, sm),
            "memory": of("nvmlDeviceGetClockInfo", _count, memory),
            "sm_highest": of("nvmlDeviceGetMaxClockInfo", _count, sm),
            "memory_highest": of("nvmlDeviceGetMaxClockInfo", _count, memory),
        },
    }


def _multiprocessors(ask: _Asker, handle: Any) -> Any:
    count = ask("nvmlDeviceGetAttributes_v2", lambda attributes: _count(attributes.multiprocessorCount), handle)
    if is_missing(count):
        return unavailable(f"NVML gives it for MIG devices alone; CUDA gives it ({count['unavailable']})")
    return count


def _mig_devices(ask: _Asker, handle: Any) -> Any:
    """The slices of a GPU that is partitioned; an empty list where it is not."""
    count = ask("nvmlDeviceGetMaxMigDeviceCount", _devices, handle)
    if is_missing(count):
        return count
    found = []
    for index in range(count):
        slice_ = ask("nvmlDeviceGetMigDeviceHandleByIndex", _same, handle, index)
        if not is_missing(slice_):  # places without a slice raise NotFound
            described = {
                "index": index,
                "name": ask("nvmlDeviceGetName", _text, slice_),
                "uuid": ask("nvmlDeviceGetUUID", _text, slice_),
                "memory_bytes": ask("nvmlDeviceGetMemoryInfo", lambda answer: _bytes(answer.total), slice_),
                "multiprocessors": _multiprocessors(ask, slice_),
            }
            found.append(described)
    return found


def _devices(answer: Any) -> int:
    return int(plausible(int(answer), _MOST_DEVICES, "devices"))


def _count(answer: Any) -> int:
    return int(plausible(int(answer), MOST_COUNT))


def _bytes(answer: Any) -> int:
    return int(plausible(int(answer), MOST_BYTES, "bytes"))


def _watts(milliwatts: Any) -> float:
    return plausible(milliwatts / 1000, MOST_WATTS, "W")


def _text(answer: Any) -> str:
    """NVML's strings: bytes in older releases of pynvml."""
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer)


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _current_and_pending(pair: list[int]) -> dict[str, bool]:
    return {"current": bool(pair[0]), "pending": bool(pair[1])}

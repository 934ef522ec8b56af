"""How much energy the machine used meanwhile, from the counters of its processors (RAPL) and NVIDIA GPUs (NVML).

Both count what the whole chip uses, whatever else runs on it, and neither counts memory (but for what a package
contains), disks, fans or power supplies: a bound from below for the machine, from above for one process of several.
RAPL's counters are small and wrap around within minutes to an hour: they are read now and then, not at the end alone.

Source: the Linux kernel's "Power Capping Framework"; NVML API reference, nvmlDeviceGetTotalEnergyConsumption (Volta and
later).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provenance.capture.gpu import open_nvml
from provenance.capture.unavailable import MOST_WATTS, ImplausibleReading, none, plausible, unavailable

_RAPL = "sys/class/powercap"


@dataclass
class _Counter:
    """One counter: how to read it in joules, where it wraps around (None: it does not), and what was counted."""

    name: str
    read: Callable[[], float]
    wraps_at: float | None
    last: float
    joules: float = 0.0
    read_at: float = field(default_factory=time.monotonic)
    problem: str = ""

    def sample(self) -> None:
        now, moment = self.read(), time.monotonic()
        used = now - self.last + (self.wraps_at or 0.0) * (now < self.last)
        most = MOST_WATTS * (moment - self.read_at + 1)
        # a driver that was loaded anew, or a machine that slept: the counter began at zero, and did not wrap around
        if now < self.last and not 0 <= used <= most:
            raise ImplausibleReading("started anew")
        self.joules += plausible(used, most, "J")
        self.last, self.read_at = now, moment

    def account(self) -> Any:
        """Joules so far, or why they are not available."""
        return unavailable(self.problem) if self.problem else round(self.joules, 3)


class EnergyMeter:
    """Counts from when it is made; ``sample`` must be called at least every few minutes.

    ``root`` is where the kernel's files are, ``nvml`` stands for the module pynvml.
    """

    def __init__(self, root: Path = Path("/"), nvml: Any = None) -> None:
        self._unreadable: list[str] = []
        self._packages = list(self._found_packages(root / _RAPL))
        self._gpus = list(_found_gpus(open_nvml() if nvml is None else nvml))

    def sample(self) -> None:
        """Read every counter; one that fails is left out from then on."""
        for counters in (self._packages, self._gpus):
            for counter in counters:
                if not counter.problem:
                    try:
                        counter.sample()
                    except Exception as error:
                        why = str(error) if isinstance(error, ImplausibleReading) else type(error).__name__
                        counter.problem = f"{why} meanwhile"

    def facts(self) -> dict[str, Any]:
        """Joules by counter, or why one failed: ``cpu_packages`` and ``gpus``, or why there are none."""
        self.sample()
        failed = [f"{each.name}: {each.problem}" for each in (*self._packages, *self._gpus) if each.problem]
        reasons = "; ".join(self._unreadable + failed)
        missing = unavailable(reasons) if reasons else none("the machine has no counter")
        return {
            name: {each.name: each.account() for each in counters} if any(not c.problem for c in counters) else missing
            for name, counters in (("cpu_packages", self._packages), ("gpus", self._gpus))
        }

    def _found_packages(self, folder: Path) -> Iterator[_Counter]:
        """Whole packages, ``intel-rapl:0``, on AMD's processors too; what a package contains is counted in it."""
        zones = (zone for zone in folder.glob("intel-rapl:*") if zone.name.count(":") == 1)
        for zone in sorted(zones, key=lambda zone: (len(zone.name), zone.name)):
            try:
                name = " ".join((zone / "name").read_text(encoding="ascii").split())
                wraps_at = int((zone / "max_energy_range_uj").read_text(encoding="ascii")) / 1e6
                counter = zone / "energy_uj"
                first = _microjoules(counter)
            except (OSError, ValueError) as error:
                reason = "readable by root alone" if isinstance(error, PermissionError) else str(error)
                self._unreadable.append(f"{zone.name}: {reason}")
                continue
            yield _Counter(f"{zone.name} {name}", lambda path=counter: _microjoules(path), wraps_at, first)  # type: ignore[misc]


def _microjoules(path: Path) -> float:
    return int(path.read_text(encoding="ascii")) / 1e6


def _found_gpus(nvml: Any) -> Iterator[_Counter]:
    with suppress(Exception):  # no pynvml, no driver, no GPU
        for index in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)

            def read(handle: Any = handle) -> float:
                return int(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1000

            with suppress(Exception):  # before Volta
                yield _Counter(f"gpu {index}", read, None, read())

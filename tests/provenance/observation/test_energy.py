"""Counters of energy, read from files as the kernel has them: sums over wraps, and a reason where there is none."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from provenance.observation.energy import EnergyMeter


class Nvml:
    """The three functions of NVML that are asked, of a machine with two GPUs of which one is too old."""

    def __init__(self) -> None:
        self.millijoules = 5_000
        self.nvmlDeviceGetCount = lambda: 2
        self.nvmlDeviceGetHandleByIndex = lambda index: index

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        if handle == 1:
            raise RuntimeError("not supported")
        return self.millijoules


@pytest.fixture
def zone(tmp_path: Path) -> Path:
    for name in ("intel-rapl:0", "intel-rapl:0:0"):
        folder = tmp_path / "sys" / "class" / "powercap" / name
        folder.mkdir(parents=True)
        (folder / "name").write_text("package-0\n" if name == "intel-rapl:0" else "core\n")
        (folder / "max_energy_range_uj").write_text("262000000\n")
        (folder / "energy_uj").write_text("260000000\n")
    return tmp_path / "sys" / "class" / "powercap" / "intel-rapl:0"


def test_a_package_counts_over_a_wrap_and_its_parts_are_not_counted_twice(tmp_path: Path, zone: Path) -> None:
    nvml = Nvml()
    meter = EnergyMeter(tmp_path, nvml)
    (zone / "energy_uj").write_text("261500000\n")
    meter.sample()
    (zone / "energy_uj").write_text("2000000\n")
    nvml.millijoules = 12_500
    assert meter.facts() == {"cpu_packages": {"intel-rapl:0 package-0": 4.0}, "gpus": {"gpu 0": 7.5}}


def test_a_counter_that_cannot_be_read_says_why(tmp_path: Path, zone: Path) -> None:
    (zone / "energy_uj").write_text("no number")
    facts = EnergyMeter(tmp_path, SimpleNamespace()).facts()
    assert "intel-rapl:0: invalid literal" in facts["cpu_packages"]["unavailable"]


def test_one_that_vanishes_is_left_out_and_named(tmp_path: Path, zone: Path) -> None:
    meter = EnergyMeter(tmp_path, SimpleNamespace())
    (zone / "energy_uj").unlink()
    assert "FileNotFoundError meanwhile" in meter.facts()["cpu_packages"]["unavailable"]


def test_a_machine_without_counters_has_none(tmp_path: Path) -> None:
    reason = {"none": "the machine has no counter"}
    assert EnergyMeter(tmp_path, SimpleNamespace()).facts() == {"cpu_packages": reason, "gpus": reason}


def test_a_counter_that_starts_anew_is_left_out_and_named(tmp_path: Path, zone: Path) -> None:
    """After a driver was loaded again, or a laptop slept: it is no wrap, and no negative figure is signed."""
    nvml = Nvml()
    (zone / "max_energy_range_uj").write_text("262143328850\n")
    meter = EnergyMeter(tmp_path, nvml)
    (zone / "energy_uj").write_text("100000000\n")
    nvml.millijoules = 10
    facts = meter.facts()
    reason = facts["gpus"]["unavailable"]
    assert facts["cpu_packages"] == facts["gpus"]
    assert "gpu 0: started anew meanwhile" in reason and "intel-rapl:0 package-0: started anew meanwhile" in reason


def test_a_counter_that_jumps_is_left_out_and_named_beside_the_others(tmp_path: Path, zone: Path) -> None:
    """Its run would be refused: no GPU uses 2e13 J in a moment."""
    nvml = Nvml()
    nvml.nvmlDeviceGetTotalEnergyConsumption = lambda handle: nvml.millijoules * (handle + 1)  # type: ignore[method-assign]
    meter = EnergyMeter(tmp_path, nvml)
    nvml.nvmlDeviceGetTotalEnergyConsumption = lambda handle: 5_500 if handle == 0 else (1 << 64) - 1  # type: ignore[method-assign]
    gpus = meter.facts()["gpus"]
    assert gpus["gpu 0"] == 0.5
    assert gpus["gpu 1"]["unavailable"].startswith("implausible: 1.84467e+16 J, expected 0 to ")


def test_every_package_of_a_large_machine_counts(tmp_path: Path, zone: Path) -> None:
    zone.rename(zone.with_name("intel-rapl:11"))
    assert EnergyMeter(tmp_path, SimpleNamespace()).facts()["cpu_packages"] == {"intel-rapl:11 package-0": 0.0}

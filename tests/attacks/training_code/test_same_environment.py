"""Two folders with the same packages are one environment, whoever installed them; one edited row makes them two."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from compared_runs import manifest

from ndrepro.analysis.verdicts.run_conditions import unequal_conditions
from provenance.attestation.manifest import Manifest, Resource
from provenance.attestation.packages import resources
from provenance.capture import distributions
from provenance.comparison.manifest_diff import diff

INFO = "numpy-1.0.dist-info"
FILES = (
    "numpy/__init__.py,sha256=AAAA,10",
    "numpy/core.so,sha256=BBBB,2000",
    "../../../share/numpy.conf,sha256=CCCC,5",
    f"{INFO}/METADATA,sha256=DDDD,40",
    f"{INFO}/entry_points.txt,sha256=EEEE,30",
)


def same_bits_promised(one: Manifest, two: Manifest) -> bool:
    return not unequal_conditions(one, two)


def site(folder: Path, *rows: str, ending: str = "\n") -> Path:
    """A site folder in which an installer left a RECORD of these rows."""
    (folder / INFO).mkdir(parents=True)
    (folder / INFO / "METADATA").write_text("Name: numpy\nVersion: 1.0\n")
    (folder / INFO / "RECORD").write_bytes(ending.join([*rows, f"{INFO}/RECORD,,", ""]).encode())
    (folder / "numpy").mkdir()
    return folder


def by_uv(folder: Path) -> Path:
    rows = ("../../../bin/numpy,sha256=uvuv,300", *FILES, f"{INFO}/INSTALLER,sha256=uv,2", f"{INFO}/uv_cache.json,,")
    return site(folder, *rows)


def by_pip(folder: Path, *others: str) -> Path:
    rows = (*reversed(others or FILES), "../../../bin/numpy,sha256=pip,250", f"{INFO}/INSTALLER,sha256=pip,4")
    own = (f"{INFO}/REQUESTED,sha256=x,0", f"{INFO}/direct_url.json,sha256=x,50", "numpy/__pycache__/core.pyc,,")
    return site(folder, *rows, *own, ending="\r\n")


def run_in(folder: Path) -> Manifest:
    """The manifest of a run in an environment that is this site folder."""
    made = manifest()
    kept = tuple(item for item in made.dependencies if not item.name.startswith("distribution:"))
    captured = distributions.capture([str(folder)])
    return replace(made, dependencies=(*kept, *resources({"distributions": captured})))


def test_two_environments_of_one_lock_are_the_same(tmp_path: Path) -> None:
    one, two = run_in(by_uv(tmp_path / "uv")), run_in(by_pip(tmp_path / "pip"))
    records = [item.digest for run in (one, two) for item in run.dependencies if item.name == "distribution:numpy"]
    assert records[0] != records[1], "the control: their RECORDs differ"
    assert same_bits_promised(one, two)
    packages = next(group for group in diff(one, two).groups if group.name == "packages")
    assert packages.changes == ()


@pytest.mark.parametrize("place", range(len(FILES)))
def test_an_edit_of_any_file_of_the_package_is_another_environment(tmp_path: Path, place: int) -> None:
    edited = FILES[place].replace("sha256=", "sha256=Z")
    rows = (*FILES[:place], edited, *FILES[place + 1 :])
    one, two = run_in(by_uv(tmp_path / "uv")), run_in(by_pip(tmp_path / "pip", *rows))
    assert not same_bits_promised(one, two)
    assert [change.name for group in diff(one, two).groups for change in group.changes] == ["numpy"]


def test_an_added_file_is_another_environment(tmp_path: Path) -> None:
    one = run_in(by_uv(tmp_path / "uv"))
    two = run_in(by_pip(tmp_path / "pip", *FILES, "numpy/hook.py,sha256=FFFF,1"))
    assert not same_bits_promised(one, two)


def test_a_manifest_of_an_earlier_release_is_compared_by_record(tmp_path: Path) -> None:
    def earlier(run: Manifest) -> Manifest:
        return replace(run, dependencies=tuple(replace(item, annotations=None) for item in run.dependencies))

    one, two = run_in(by_uv(tmp_path / "uv")), run_in(by_pip(tmp_path / "pip"))
    assert same_bits_promised(one, earlier(one)) and not same_bits_promised(one, earlier(two))
    assert not same_bits_promised(earlier(one), two) and same_bits_promised(earlier(one), earlier(one))


def test_a_package_that_computes_nothing_is_no_other_condition(tmp_path: Path) -> None:
    """Its digest, which anybody can change, would switch the strict comparison off."""
    one, two = run_in(by_uv(tmp_path / "uv")), run_in(by_pip(tmp_path / "pip"))
    pip = Resource("distribution:pip", digest={"sha256": "0" * 64}, annotations={"version": "1"})
    assert same_bits_promised(one, replace(two, dependencies=(*two.dependencies, pip)))
    torch = replace(pip, name="distribution:torch")
    unequal = unequal_conditions(one, replace(two, dependencies=(*two.dependencies, torch)))
    assert unequal == ("packages: torch",), "the control"


def test_the_order_of_instructions_and_threads_between_operators_are_no_other_condition() -> None:
    def changed(run: Manifest, flags: list[str], interop: int, build: str = "") -> Manifest:
        machine: Any = deepcopy(dict(run.machine))
        machine["machine"]["cpu"]["flags"] = flags
        parameters: Any = deepcopy(dict(run.internal_parameters))
        parameters["determinism"]["start"] = {"interop_threads": interop}
        parameters["libraries"] = {"build": "x" * 100 + build}
        return replace(run, machine=machine, internal_parameters=parameters)

    one = changed(manifest(), ["avx", "avx2"], 1)
    assert same_bits_promised(one, changed(one, ["avx2", "avx", "avx"], 4))
    assert unequal_conditions(one, changed(one, ["avx"], 1)) == ("instructions: -avx2",), "the control"
    (said,) = unequal_conditions(one, changed(one, ["avx", "avx2"], 1, build="another"))
    assert said.endswith("another now"), "what differs is said, however long what precedes it is"

"""The environment that ndrepro runs in, beside its lock: an edited library and left-over metadata are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from site_folders import INIT, NUMPY, site

from ndrepro.execution.environments import doctor, main_environment
from ndrepro.execution.environments.finding import OK, PROBLEM, WARNING, Finding

LOCK = "numpy==2.4.6 \\\n    --hash=sha256:" + "ab" * 32 + "\n"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A site folder of one package, as locked."""
    monkeypatch.setenv("NDREPRO_CACHE", str(tmp_path / "cache"))
    site(tmp_path / "project", {"requirements.lock": LOCK})
    record = str(NUMPY["numpy-2.4.6.dist-info/RECORD"])
    record += "".join(f"numpy-2.4.6.dist-info/{name},,\n" for name in ("METADATA", "RECORD"))
    folder = site(tmp_path / "site", {**NUMPY, "numpy-2.4.6.dist-info/RECORD": record})
    monkeypatch.setattr(main_environment, "CODE", tmp_path / "project")
    monkeypatch.setattr(main_environment, "_site", lambda: folder)
    return folder


def findings() -> list[Finding]:
    return list(doctor._packages())


def test_a_sound_environment(packages: Path) -> None:
    assert [finding.status for finding in findings()] == [OK, OK]


def test_a_library_file_edited_by_hand_is_named(packages: Path) -> None:
    (packages / "numpy" / "__init__.py").write_text(INIT + "x = 1\n")
    assert findings()[1].status == PROBLEM
    assert findings()[1].message == "numpy-2.4.6: numpy/__init__.py is not the file that was installed"
    (packages / "numpy" / "__init__.py").unlink()
    assert findings()[1].message == "numpy-2.4.6: numpy/__init__.py is missing"


def test_a_file_beside_them_is_a_warning_and_compiled_ones_are_none(packages: Path) -> None:
    site(packages, {"numpy/__pycache__/a.pyc": "", "sitecustomize.py": ""})
    assert findings()[1].status == WARNING
    assert findings()[1].message == "sitecustomize.py was added; no distribution lists it"


def test_leftover_metadata_are_a_problem_and_not_another_version(packages: Path) -> None:
    site(packages, {"~umpy-1.25.0.dist-info/METADATA": "Name: numpy\nVersion: 1.25.0\n"})
    first = findings()[0]
    assert first.status == PROBLEM and first.message.startswith("numpy has leftover metadata, ~umpy-1.25.0.dist-info")

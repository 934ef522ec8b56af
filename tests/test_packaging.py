"""The wheel holds the packages and nothing else, and the project's papers agree with each other."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import ndrepro
from ndrepro.cli import options
from ndrepro.cli.import_ import import_runs
from ndrepro.cli.report import report

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_holds_both_packages_the_version_matrix_and_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
        commands = wheel.read(f"{info}/entry_points.txt").decode()
        metadata = wheel.read(f"{info}/METADATA").decode()
    sources = {path for folder in ("ndrepro", "provenance") for path in (ROOT / folder).rglob("*.py")}
    sources |= {path for path in (ROOT / "ndrepro" / "report" / "templates").iterdir() if path.is_file()}
    matrix = {f"ndrepro/locks/{path.name}" for path in (ROOT / "environments").iterdir()}
    data = [path for folder in ("published", "studies") for path in (ROOT / folder).rglob("*") if path.is_file()]
    matrix |= {f"ndrepro/{path.relative_to(ROOT).as_posix()}" for path in data}
    assert {path.relative_to(ROOT).as_posix() for path in sources} | matrix <= names
    assert {name.split("/")[0] for name in names} == {"ndrepro", "provenance", info}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    assert "ndrepro = ndrepro.cli:main" in commands
    assert f"Version: {ndrepro.__version__}\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata
    assert f"{info}/licenses/LICENSE" in names


def test_the_installed_wheel_finds_its_version_matrix(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        wheel.extractall(tmp_path / "site")
    code = (
        "import ndrepro.cli, ndrepro.execution.environments as e, ndrepro.execution.study_file as s, provenance; "
        "print(e.__file__, len(e.list_cells()), len(s.study_files()), sep='\\n')"
    )
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    place, cells, studies = said.stdout.split() if said.returncode == 0 else (said.stderr, "", "")
    assert place.startswith(str(tmp_path / "site"))
    assert int(cells) == len(list((ROOT / "environments").glob("*.lock")))
    assert int(studies) == len(list((ROOT / "studies").glob("*.toml")))


def test_citation_licence_and_metadata_agree() -> None:
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    field = dict(re.findall(r"(?m)^([a-z-]+): (\S.*)$", citation))
    assert field["cff-version"] == "1.2.0"
    assert field["version"] == ndrepro.__version__
    assert field["license"] == project["license"] == "MIT"
    assert "  - name: The ndrepro authors\n" in citation
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License\n")


def test_what_commands_write_where_none_is_named_makes_no_later_run_look_changed() -> None:
    written = [
        inspect.signature(import_runs).parameters["into"].default,
        inspect.signature(report).parameters["out"].default,
    ]
    folders = [f"{folder}/" for folder in (*written, options.DEFAULT_RUNS, "another")]
    ignored = subprocess.run(["git", "check-ignore", *folders], cwd=ROOT, capture_output=True, text=True)
    assert ignored.stdout.split() == folders[:-1], "the control: another folder is not ignored"

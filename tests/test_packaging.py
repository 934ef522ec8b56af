"""The wheel holds the packages and nothing else, and the project's papers agree with each other."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

import ndrepro
from ndrepro.cli.commands.import_ import import_runs
from ndrepro.cli.commands.report import report
from ndrepro.cli.display import options
from ndrepro.protocol.extras import EXTRAS, TOOLS
from provenance.capture.distribution_metadata import normalized

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_holds_both_packages_the_version_matrix_and_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
        commands = wheel.read(f"{info}/entry_points.txt").decode()
        metadata = wheel.read(f"{info}/METADATA").decode()
    sources = {path for folder in ("ndrepro", "provenance") for path in (ROOT / folder).rglob("*") if path.is_file()}
    sources = {path for path in sources if path.parent.name != "__pycache__"}
    matrix = {f"ndrepro/environments/{path.name}" for path in (ROOT / "environments").iterdir()}
    data = [path for folder in ("published", "studies") for path in (ROOT / folder).rglob("*") if path.is_file()]
    matrix |= {f"ndrepro/{path.relative_to(ROOT).as_posix()}" for path in data}
    assert {path.relative_to(ROOT).as_posix() for path in sources} | matrix <= names
    assert {"ndrepro/py.typed", "provenance/py.typed"} <= names, "type checkers read the annotations of both"
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
        "import ndrepro.cli, ndrepro.execution.environments.matrix as e, "
        "ndrepro.execution.studies.study_file as s, provenance; "
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


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=A", "-c", "user.email=a@b.example", "-c", "core.excludesFile="]
    command = ["git", *settings, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout


def test_links_to_scratch_space_leave_a_checkout_unchanged(tmp_path: Path) -> None:
    checkout, scratch = tmp_path / "checkout", tmp_path / "scratch"
    for folder in (checkout, scratch):
        folder.mkdir()
    git(checkout, "init", "--quiet")
    shutil.copy(ROOT / ".gitignore", checkout)
    git(checkout, "add", ".gitignore")
    git(checkout, "commit", "--quiet", "--message", "rules")
    for name in ("data", "runs", ".venv", "report", "imported", "dist", "build", "data2"):
        (checkout / name).symlink_to(scratch)
    assert git(checkout, "status", "--porcelain") == "?? data2\n", "the control: another link is a change"


def test_a_clone_that_converts_line_ends_keeps_every_byte(tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    origin.mkdir()
    contents = {
        "manifest.dsse.json": b'{"payload":"AAAA"}\n',
        "bootstrap.sh": b"set -eu\nexit 0\n",
        "table.csv": b"a,b\r\n1,2\r\n",
        "figure.svg": b"<svg>\n</svg>\n",
        "figure.png": b"\x89PNG\r\n\x1a\n\x00",
        "runs.tar.xz": b"\xfd7zXZ\x00\n",
    }

    def cloned(name: str) -> dict[str, bytes]:
        git(origin, "add", "--all")
        git(origin, "commit", "--quiet", "--message", name)
        git(tmp_path, "-c", "core.autocrlf=true", "clone", "--quiet", "origin", name)
        return {each: (tmp_path / name / each).read_bytes() for each in contents}

    git(origin, "init", "--quiet")
    for name, content in contents.items():
        (origin / name).write_bytes(content)
    assert cloned("without")["bootstrap.sh"] == b"set -eu\r\nexit 0\r\n", "the control: git converts"
    shutil.copy(ROOT / ".gitattributes", origin)
    assert cloned("with") == contents


def project() -> dict[str, Any]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text)["project"])


def modules_of(requirements: list[str]) -> set[str]:
    """The modules that the distributions of these requirements install, in this environment."""
    asked = {normalized(Requirement(each).name) for each in requirements}
    found = importlib.metadata.packages_distributions().items()
    return {module for module, names in found if asked & {normalized(name) for name in names}}


def test_the_extras_of_the_code_are_those_of_the_package() -> None:
    declared = dict(project()["optional-dependencies"])
    assert declared.pop("all") == [f"ndrepro[{','.join(EXTRAS)}]"]
    assert declared.keys() == EXTRAS.keys() | TOOLS.keys()
    assert all(len(declared[tool]) == len(modules) for tool, modules in TOOLS.items())
    for extra, modules in EXTRAS.items():
        assert set(modules) <= modules_of(declared[extra]), extra
        assert len(modules) == len(declared[extra]), extra


def test_the_light_dependencies_bring_no_module_of_an_extra() -> None:
    assert not modules_of(project()["dependencies"]) & {module for modules in EXTRAS.values() for module in modules}

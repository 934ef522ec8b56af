"""Cells are listed, added, built, checked and removed by name; a patched library is found. uv is real, wheels tiny."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_runs import Answer
from tiny_wheels import make_wheel

from ndrepro.execution.environments.matrix import cell, location

HERE = "{}.{}".format(*sys.version_info)


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two releases of one tiny distribution and one of another, caches of its own, no network."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("NDREPRO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    for version in ("1.0", "1.1"):
        make_wheel(folder, "tiny_one", version, f"version = {version!r}\n")
    make_wheel(folder, "tiny_two", "2.0")
    return folder


def add_tiny(ndrepro: Callable[..., Answer], *words: str) -> Answer:
    return ndrepro("env", "add", "tiny", "tiny_one=1.0", "tiny_two", "--bare", "--python", HERE, *words)


def test_a_cell_is_added_built_checked_and_removed(ndrepro: Callable[..., Answer]) -> None:
    added = add_tiny(ndrepro, "--json").json
    assert (added["pins"], added["added_here"], added["built"]) == ({"tiny-one": "1.0", "tiny-two": "2.0"}, True, False)
    assert "--hash=sha256:" in Path(added["lock"]).read_text() and "find-links" not in Path(added["lock"]).read_text()

    first = ndrepro("env", "create", "tiny", "--json").json["cells"][0]
    again = ndrepro("env", "create", "tiny", "--json").json["cells"][0]
    assert (first["built_now"], again["built_now"], first["problems"]) == (True, False, [])
    assert Path(first["python"]).exists()

    assert ndrepro("env", "verify", "tiny", "--files").code == 0
    listed = ndrepro("env", "list")
    (line,) = (line for line in listed.out.splitlines() if line.startswith("tiny"))
    assert "yes" in line and line.endswith("added here")

    assert ndrepro("env", "remove", "tiny", "--lock").code == 0
    assert not Path(added["folder"]).exists() and not Path(added["lock"]).exists()
    assert ndrepro("env", "create", "tiny").code == 2


def test_a_patched_library_is_found_on_demand(ndrepro: Callable[..., Answer]) -> None:
    add_tiny(ndrepro)
    ndrepro("env", "create", "tiny")
    module = next(location(cell("tiny")).glob("lib/python*/site-packages/tiny_one.py"))
    shutil.copy(module, module.with_suffix(".new"))
    module.with_suffix(".new").replace(module)  # a file of its own: never write through the hard link
    assert ndrepro("env", "verify", "--files").code == 0, "the copy is the same file"

    with module.open("a") as file:
        file.write("version = 'patched'\n")
    assert ndrepro("env", "verify").code == 0, "pins alone do not show it"
    found = ndrepro("env", "verify", "--files")
    assert found.code == 1
    assert "tiny_one-1.0: tiny_one.py is not the file that was installed" in found.out
    assert "env remove tiny" in found.out


def test_another_release_than_the_locks_is_found(ndrepro: Callable[..., Answer]) -> None:
    add_tiny(ndrepro)
    ndrepro("env", "create", "tiny")
    site = next(location(cell("tiny")).glob("lib/python*/site-packages"))
    info = (site / "tiny_one-1.0.dist-info").rename(site / "tiny_one-1.1.dist-info")
    found = ndrepro("env", "verify", "tiny", "--json")
    assert found.code == 1
    (problem,) = found.json["cells"][0]["problems"]
    assert problem.startswith("tiny-one has metadata that disagree: ")
    text = (info / "METADATA").read_text()
    (info / "METADATA").unlink()  # never write through the hard link
    (info / "METADATA").write_text(text.replace("Version: 1.0", "Version: 1.1"))
    (site / "~iny_one-0.9.dist-info").mkdir()
    first, second = ndrepro("env", "verify", "tiny", "--json").json["cells"][0]["problems"]
    assert first == "tiny-one 1.1 is installed, the lock has 1.0"
    assert "leftover metadata, ~iny_one-0.9.dist-info" in second


def test_the_environment_that_ndrepro_runs_in_is_compared_too(ndrepro: Callable[..., Answer]) -> None:
    answer = ndrepro("env", "verify", "main", "--json")
    (found,) = answer.json["cells"]
    assert found["name"] == "main" and answer.code == (0 if found["ok"] else 1)


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (("env", "add", "tiny", "tiny_six=1.0", "--bare", "--python", HERE), 3, "tiny-six"),
        (("env", "add", "tiny", "tiny_one=7.0", "--bare", "--python", HERE), 3, "7.0"),
        (("env", "add", "tiny", "tiny_one=1.0", "--bare", "--python", "3.99"), 3, "uv python install 3.99"),
        (("env", "add", "tiny", "=1", "--bare"), 2, "'=1' is no requirement"),
        (("env", "add", "../tiny", "tiny_one=1.0"), 2, "no name for an environment"),
        (("env", "add", "main", "tiny_one=1.0"), 2, "no name for an environment"),
        (("env", "add", "torch-2.13.0", "tiny_one=1.0"), 2, "there is an environment 'torch-2.13.0' already"),
        (
            (
                "env",
                "create",
            ),
            2,
            "no cell is named",
        ),
        (("env", "create", "torch-2.13"), 2, "torch-2.13.0"),
        (("env", "verify", "torch-2.13.0"), 3, "env create torch-2.13.0"),
        (("env", "remove", "torch-2.13.0", "--lock"), 2, "one of the project's cells"),
    ],
)
def test_what_cannot_be_had_is_said_with_the_cure(
    ndrepro: Callable[..., Answer], command: tuple[str, ...], code: int, said: str
) -> None:
    answer = ndrepro(*command)
    assert answer.code == code
    assert said in answer.err and "hint:" in answer.err


def test_the_projects_cells_are_listed_without_being_built(ndrepro: Callable[..., Answer], tmp_path: Path) -> None:
    answer = ndrepro("env", "list", "--json")
    names = [row["name"] for row in answer.json["cells"]]
    assert names[0] == "torch-1.13.1" and "torch-2.13.0" in names
    assert not any(row["built"] or row["added_here"] for row in answer.json["cells"])
    assert not (tmp_path / "cache").exists()

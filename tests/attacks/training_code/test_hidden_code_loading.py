"""Attack: code that the interpreter or the dynamic loader loads beside what is installed, unasked.

Each test makes a throw-away environment in which a program's result is another one, with every distribution and every
RECORD as it was. On the code before these tests none of these files was recorded, and the variables were handed on.
"""

from __future__ import annotations

import json
import os
import py_compile
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from compared_runs import manifest, put
from site_folders import row, site

from ndrepro.analysis.comparison.causes import find_causes
from ndrepro.analysis.verdicts.code_claim import code_concerns
from ndrepro.execution.runs.child_process import child_variables
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.messages import Request
from ndrepro.protocol.project_folders import CODE
from provenance.attestation.packages import warnings
from provenance.code import foreign_code
from provenance.comparison.manifest_diff import diff
from provenance.formats.digest import file_digest

SOURCE, FALSE = "accuracy = 24\n", "accuracy = 99\n"
REQUEST = Request(Experiment.from_name("lenet_bn_1_digits"), "data")
SURVEY = f"""
import json, sys
import library
sys.path.append({str(CODE)!r})
from provenance.capture.environment import search
from provenance.code import foreign_code
print(json.dumps([library.accuracy, foreign_code.capture(search())]))
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """The site-packages of a throw-away environment with one library."""
    venv.create(tmp_path / "env", symlinks=True)
    (folder,) = (tmp_path / "env").glob("lib/python3*/site-packages")
    files = {
        "library.py": SOURCE,
        "library-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: library\nVersion: 1\n",
        "library-1.dist-info/RECORD": row("library.py", SOURCE),
    }
    return site(folder, dict(files))


def run(packages: Path, tmp_path: Path, variables: Mapping[str, str] | None = None) -> tuple[int, dict[str, Any]]:
    """The library's accuracy in a process of the environment, and what that process records of loaded code."""
    known = {"PATH": "/usr/bin:/bin", "NDREPRO_CACHE": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [packages.parents[2] / "bin" / "python", "-c", SURVEY]
    done = subprocess.run(words, env={**known, **(variables or {})}, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    accuracy, found = json.loads(done.stdout)
    return accuracy, found


def foreign(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(entry["kind"], Path(path).name) for path, entry in found["foreign"].items()]


def test_an_environment_as_it_was_installed_has_nothing_foreign(packages: Path, tmp_path: Path) -> None:
    """The control. The libraries of the system are listed with their digests."""
    accuracy, found = run(packages, tmp_path)
    assert (accuracy, found["count"], found["foreign"]) == (24, 0, {})
    assert any("libc" in path for path in found["system"])
    assert all(len(digest) == 64 for digest in found["system"].values())


def test_sitecustomize(packages: Path, tmp_path: Path) -> None:
    (packages / "sitecustomize.py").write_text("import library\nlibrary.accuracy = 99\n")
    accuracy, found = run(packages, tmp_path)
    assert accuracy == 99 and foreign(found) == [("module", "sitecustomize.py")]
    (digest,) = (entry["sha256"] for entry in found["foreign"].values())
    assert digest == file_digest(packages / "sitecustomize.py").sha256


def test_a_path_file_with_a_line_of_code(packages: Path, tmp_path: Path) -> None:
    (packages / "a.pth").write_text("import library; library.accuracy = 99\n")
    accuracy, found = run(packages, tmp_path)
    assert accuracy == 99 and foreign(found) == [("startup", "a.pth")]
    # one that an installer wrote, with the digest in its RECORD, is no concern
    with (packages / "library-1.dist-info" / "RECORD").open("a") as lines:
        lines.write(row("a.pth", (packages / "a.pth").read_text()))
    assert run(packages, tmp_path)[1]["count"] == 0


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"#\x0c", b"#\xc2\x85", b"#\xe2\x80\xa8", b"#\r"])
def test_a_line_of_code_that_only_some_releases_see(packages: Path, tmp_path: Path, before: bytes) -> None:
    """From 3.13 on Python passes over a mark and ends lines as Unicode does; before, such a line was none here."""
    (packages / "a.pth").write_bytes(before + b"import library; library.accuracy = 99\n")
    accuracy, found = run(packages, tmp_path)
    assert accuracy == 24 or sys.version_info >= (3, 13) or before == b"#\r"
    assert foreign(found) == [("startup", "a.pth")]


@pytest.mark.parametrize("archive", [False, True])
def test_a_path_file_that_names_a_folder_or_an_archive(packages: Path, tmp_path: Path, archive: bool) -> None:
    (tmp_path / "hidden").mkdir()
    hidden = tmp_path / "hidden" / "helper.py"
    hidden.write_text("import library\nlibrary.accuracy = 99\n")
    place = tmp_path / "hidden"
    if archive:
        place = tmp_path / "hidden.zip"
        with zipfile.ZipFile(place, "w") as file:
            file.write(hidden, "helper.py")
    (packages / "a.pth").write_text(f"{place}\n")
    (packages / "sitecustomize.py").write_text("import helper\n")
    accuracy, found = run(packages, tmp_path)
    assert accuracy == 99 and ("module", "helper.py") in foreign(found)
    digest = next(entry["sha256"] for path, entry in found["foreign"].items() if path.endswith("helper.py"))
    assert digest == file_digest(place if archive else hidden).sha256


def test_bytecode_without_its_source_in_the_place_of_a_library(packages: Path, tmp_path: Path) -> None:
    (tmp_path / "false.py").write_text(FALSE)
    py_compile.compile(str(tmp_path / "false.py"), str(packages / "library.pyc"))
    (packages / "library.py").unlink()
    accuracy, found = run(packages, tmp_path)
    assert accuracy == 99 and foreign(found) == [("module", "library.pyc")]


@pytest.fixture
def shared_library(tmp_path: Path) -> Path:
    """A library that says on standard error that it was loaded."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    code = '#include <unistd.h>\n__attribute__((constructor)) void f(void) { write(2, "loaded\\n", 7); }\n'
    (tmp_path / "hook.c").write_text(code)
    words = [compiler, "-w", "-shared", "-fPIC", tmp_path / "hook.c", "-o", tmp_path / "hook.so"]
    subprocess.run(words, check=True)
    return tmp_path / "hook.so"


def test_an_extension_module_beside_a_source_file(packages: Path, tmp_path: Path, shared_library: Path) -> None:
    """It precedes the source of the same name; one that fails to import shows that Python took it."""
    shutil.copyfile(shared_library, packages / "library.abi3.so")
    with pytest.raises(AssertionError, match="PyInit_library"):
        run(packages, tmp_path)


def test_preloaded_libraries_are_recorded(packages: Path, tmp_path: Path, shared_library: Path) -> None:
    for name in ("LD_PRELOAD", "LD_AUDIT"):
        found = run(packages, tmp_path, {name: str(shared_library)})[1]
        assert foreign(found) == [("preload", "hook.so")], name


def test_a_library_that_the_program_maps(packages: Path, tmp_path: Path, shared_library: Path) -> None:
    (packages / "sitecustomize.py").write_text("import ctypes\nctypes.CDLL('hook.so')\n")
    found = run(packages, tmp_path, {"LD_LIBRARY_PATH": str(tmp_path)})[1]
    assert ("library", "hook.so") in foreign(found)


def test_variables_that_load_code_do_not_reach_the_training_process(
    packages: Path, tmp_path: Path, shared_library: Path
) -> None:
    user = tmp_path / "user"
    place = user / "lib" / packages.parent.name / "site-packages"
    place.mkdir(parents=True)
    (place / "usercustomize.py").write_text("import os\nos.write(2, b'loaded\\n')\n")
    hidden = {"LD_PRELOAD": str(shared_library), "PYTHONUSERBASE": str(user), "PYTHONSTARTUP": str(place)}
    # the interpreter of the system: a virtual environment reads no user's site-packages
    words = [os.path.realpath(packages.parents[2] / "bin" / "python"), "-c", ""]
    for name, value in hidden.items():
        if name != "PYTHONSTARTUP":
            assert "loaded" in _said(words, {name: value}), f"{name}: the control"
    made = child_variables(REQUEST, tmp_path, {**hidden, "PYTHONPATH": str(place), "PATH": "/usr/bin"})
    assert not hidden.keys() & made.keys() and made["PYTHONPATH"] == str(tmp_path)
    assert "loaded" not in _said(words, made)


def _said(words: list[str], variables: Mapping[str, str]) -> str:
    done = subprocess.run(words, env=dict(variables), capture_output=True, text=True)
    return done.stderr


def test_a_distribution_without_a_record_is_no_stranger_and_hides_none(packages: Path, tmp_path: Path) -> None:
    """The system's packages have none. What lies in a package that has one, and hooks, are named all the same."""
    (packages / "library.py").write_text("import other\nimport several.extra\naccuracy = 24\n")
    made = {
        "other.py": "",
        "other-1.egg-info/PKG-INFO": "Metadata-Version: 1.1\nName: other\nVersion: 1\n",
        "several/__init__.py": "",
        "several/extra.py": "",
        "several-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: several\nVersion: 1\n",
        "several-1.dist-info/RECORD": row("several/__init__.py", ""),
        "sitecustomize.py": "",
    }
    site(packages, dict(made))
    found = run(packages, tmp_path)[1]
    assert sorted(foreign(found)) == [("module", "extra.py"), ("module", "sitecustomize.py")]
    assert found["unrecorded"] == 1


STRAY = {"kind": "library", "sha256": "01" * 32}


def loaded(**files: dict[str, str]) -> Any:
    return put("machine.loaded_code", {"count": len(files), "foreign": files, "system": {}})


def test_the_hook_of_an_environment_is_named_with_its_cure() -> None:
    hook = {f"/venv/lib/python3.11/site-packages/_virtualenv.{suffix}": STRAY for suffix in ("pth", "py")}
    (concern,) = code_concerns(manifest(loaded(**hook)))
    assert concern.endswith("; uv or virtualenv wrote it for pip: remove it from the environment")
    (concern,) = code_concerns(manifest(loaded(**hook, **{"/tmp/hook.so": STRAY})))
    assert "uv or virtualenv" not in concern, "the control: that is not all"


def test_readers_are_warned_and_a_difference_is_the_first_cause() -> None:
    path = "/tmp/hook.so"
    clean, stray = manifest(loaded()), manifest(loaded(**{path: STRAY}))
    assert code_concerns(clean) == () and not any("NO DISTRIBUTION" in each for each in warnings(clean))
    assert code_concerns(stray) == (f"code that belongs to no distribution: 1 file (library {path})",)
    assert f"library {path} BELONGS TO NO DISTRIBUTION: 010101010101..." in warnings(stray)
    found = find_causes(diff(clean, stray, ()), (clean, stray), None)
    assert found[0].title == "loaded code that belongs to no distribution"
    # the same on both sides is no difference, and unknown where a run was recorded before
    assert not diff(stray, stray, ())["packages"].changes
    (unknown,) = diff(manifest(), stray, ())["packages"].unknown
    assert unknown.first.startswith("recorded before")


def test_what_was_foreign_at_any_look_is_foreign() -> None:
    first = {"count": 1, "foreign": {"/a": STRAY}, "system": {"/usr/lib/a.so": "01"}}
    last = {"count": 0, "foreign": {}, "system": {"/usr/lib/b.so": "02"}}
    assert foreign_code.merged(first, last) == {
        "count": 1,
        "foreign": {"/a": STRAY},
        "system": {"/usr/lib/a.so": "01", "/usr/lib/b.so": "02"},
    }
    missing = {"unavailable": "killed"}
    assert foreign_code.merged(None, missing, first) == first
    assert foreign_code.merged(missing, missing) == missing

"""Environments are built whole from their lock, once, and a patched one is found.

uv is real throughout. All but the last test install tiny wheels made on the spot, so they need no network;
uv's cache is the test's own, because an installed file is a hard link into it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_wheels import make_wheel

from ndrepro.execution.environments.interpreters import find_python
from ndrepro.execution.environments.matrix import Cell, cell, create, list_cells, location, remove, verify
from ndrepro.protocol import project_folders
from ndrepro.protocol.errors import EnvironmentMissing, UsageError
from provenance.errors import StorageError

HERE = "{}.{}".format(*sys.version_info)
CREATE = "import sys, pathlib; from ndrepro.execution.environments.matrix import Cell, create; " + (
    "print(create(Cell.from_lock(pathlib.Path(sys.argv[1]))))"
)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cell:
    """A cell of two tiny wheels for this Python, with caches of its own and no network."""
    wheels = tmp_path / "wheels é"
    wheels.mkdir()
    monkeypatch.setenv("NDREPRO_CACHE", str(tmp_path / "a cache"))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    lock = tmp_path / "torch-0.1.lock"
    lines = [make_wheel(wheels, "tiny_one", "1.0"), make_wheel(wheels, "tiny_two", "2.0")]
    lock.write_text(f"# python: {HERE}\n" + "".join(lines), encoding="utf-8")
    return Cell.from_lock(lock)


def site_of(small: Cell) -> Path:
    return next(location(small).glob("lib/python*/site-packages"))


def test_every_cell_pins_the_torch_that_it_is_named_after_with_its_torchvision() -> None:
    pairs = {each.name: (each.python, each.version("torchvision")) for each in list_cells()}
    assert list(pairs.items()) == [
        ("torch-1.13.1", ("3.10", "0.14.1")),
        ("torch-2.0.0", ("3.11", "0.15.1")),
        ("torch-2.0.1", ("3.11", "0.15.2")),
        ("torch-2.2.2", ("3.11", "0.17.2")),
        ("torch-2.4.1", ("3.11", "0.19.1")),
        ("torch-2.6.0", ("3.11", "0.21.0")),
        ("torch-2.7.0", ("3.11", "0.22.0")),
        ("torch-2.8.0", ("3.11", "0.23.0")),
        ("torch-2.9.0", ("3.11", "0.24.0")),
        ("torch-2.10.0", ("3.11", "0.25.0")),
        ("torch-2.11.0", ("3.11", "0.26.0")),
        ("torch-2.13.0", ("3.11", "0.28.0")),
    ]
    for each in list_cells():
        assert each.version("torch") == each.name.removeprefix("torch-")
        assert {"numpy", "pillow", "safetensors", "psutil", "nvidia-ml-py"} <= {pin.name for pin in each.pins}
    assert cell("torch-1.13.1").version("numpy") == "1.23.5"
    assert all(cell(f"torch-{old}").version("numpy") < "2" for old in ("2.0.1", "2.2.2"))  # type: ignore[operator]


def test_an_unknown_cell_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no environment 'torch1.13'") as error:
        cell("torch1.13")
    assert "torch-1.13.1" in error.value.cure


def test_a_lock_that_names_no_python_is_refused(small: Cell) -> None:
    small.lock.write_text(small.lock.read_text(encoding="utf-8").split("\n", 1)[1], encoding="utf-8")
    with pytest.raises(UsageError, match="does not say its Python"):
        Cell.from_lock(small.lock)


def test_an_environment_runs_what_its_lock_pins(small: Cell) -> None:
    python = create(small)
    said = subprocess.run(
        [python, "-c", "import tiny_one, tiny_two, sys; print(tiny_two.answer, sys.prefix)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.split("\n")[0] == f"42 {location(small)}"
    assert verify(small, deep=True) == ()


def test_a_second_call_builds_nothing(small: Cell, monkeypatch: pytest.MonkeyPatch) -> None:
    python = create(small)
    before = python.lstat().st_mtime_ns
    monkeypatch.setenv("UV_FIND_LINKS", "")  # nothing could be installed now
    assert create(small) == python
    assert python.lstat().st_mtime_ns == before
    remove(small)
    with pytest.raises(EnvironmentMissing):
        create(Cell.from_lock(_doctored(small, b"tiny_two", b"tiny_six")))


def _doctored(small: Cell, old: bytes, new: bytes) -> Path:
    lock = small.lock.with_name("torch-0.2.lock")
    lock.write_bytes(small.lock.read_bytes().replace(old, new))
    return lock


def test_a_wheel_that_is_not_the_locks_is_not_installed(small: Cell) -> None:
    wheel = next(small.lock.parent.glob("wheels*/tiny_one*.whl"))
    genuine = wheel.read_bytes()
    make_wheel(wheel.parent, "tiny_one", "1.0", "answer = 43\n")
    with pytest.raises(EnvironmentMissing, match=r"(?i)hash"):
        create(small)
    assert not location(small).exists()
    wheel.write_bytes(genuine)
    assert create(small).exists()


def test_a_changed_lock_is_another_environment(small: Cell) -> None:
    first = create(small)
    changed = Cell.from_lock(_doctored(small, b"# python", b"# a comment\n# python"))
    assert create(changed) != first
    assert first.exists()


def test_two_processes_at_once_get_the_same_whole_environment(small: Cell) -> None:
    command = [sys.executable, "-c", CREATE, str(small.lock)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert verify(small, deep=True) == ()


def test_a_killed_builder_leaves_nothing_that_looks_finished(small: Cell) -> None:
    partial = location(small).with_name(f"{location(small).name}.partial")
    builder = subprocess.Popen([sys.executable, "-c", CREATE, str(small.lock)], stdout=subprocess.DEVNULL)
    while not partial.exists():
        time.sleep(0.001)
    os.kill(builder.pid, signal.SIGKILL)
    assert builder.wait() == -signal.SIGKILL
    assert not location(small).exists()
    create(small)
    assert not partial.exists()
    assert verify(small, deep=True) == ()


def test_an_environment_whose_interpreter_is_gone_is_built_again(small: Cell) -> None:
    python = create(small)
    python.unlink()
    python.symlink_to("/nonexistent/python")
    assert subprocess.run([create(small), "-c", "import tiny_one"]).returncode == 0


def test_a_missing_an_extra_and_another_version_are_named(small: Cell) -> None:
    create(small)
    site = site_of(small)
    assert verify(small) == ()
    info = (site / "tiny_one-1.0.dist-info").rename(site / "tiny_one-1.1.dist-info")
    text = (info / "METADATA").read_text()
    (info / "METADATA").unlink()  # never write through the hard link
    (info / "METADATA").write_text(text.replace("Version: 1.0", "Version: 1.1"))
    assert verify(small) == ("tiny-one 1.1 is installed, the lock has 1.0",)
    (info / "METADATA").write_text("Name: Other\nVersion: 3\n")
    info.rename(site / "Other-3.dist-info")
    assert verify(small) == (
        "other 3 is installed and not in the lock",
        "tiny-one 1.0 is in the lock and not installed",
    )


def test_a_patched_and_an_added_file_are_named_by_the_deep_check_only(small: Cell) -> None:
    create(small)
    site = site_of(small)
    assert verify(small, deep=True) == ()
    (site / "tiny_one.py").unlink()  # never write through the hard link
    (site / "tiny_one.py").write_text("answer = 43\n", encoding="utf-8")
    (site / "sitecustomize.py").write_text("", encoding="utf-8")
    assert verify(small) == ()
    assert verify(small, deep=True) == (
        "tiny_one-1.0: tiny_one.py is not the file that was installed",
        "sitecustomize.py was added; no distribution lists it",
    )


def test_a_distribution_whose_files_were_removed_is_not_installed(small: Cell) -> None:
    create(small)
    site = site_of(small)
    (site / "tiny_two.py").unlink()
    missing, leftover = verify(small)
    assert missing == "tiny-two 2.0 is in the lock and not installed"
    assert leftover.startswith("tiny-two has leftover metadata, tiny_two-2.0.dist-info: none of the files")
    assert verify(small, deep=True)[2:] == ("tiny_two-2.0: tiny_two.py is missing",)


def test_what_was_not_built_or_was_removed_cannot_be_verified(small: Cell) -> None:
    with pytest.raises(EnvironmentMissing, match="has not been built"):
        verify(small)
    create(small)
    remove(small)
    assert not location(small).exists()
    with pytest.raises(EnvironmentMissing, match="has not been built"):
        verify(small)
    remove(small)  # and again: nothing to do


def test_a_cache_folder_that_cannot_be_made_is_named_with_the_cure(
    small: Cell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("NDREPRO_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="file") as error:
        create(small)
    assert "NDREPRO_CACHE" in error.value.cure


def test_a_shim_that_fails_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\necho no such version >&2\nexit 127\n", encoding="utf-8")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(EnvironmentMissing, match=r"no working CPython 3\.99") as error:
        find_python("3.99")
    assert "uv python install 3.99" in error.value.cure
    shim.write_text("#!/bin/sh\nprintf 'CPython\\n3.99\\n/opt/python3.99\\n'\n", encoding="utf-8")
    assert find_python("3.99") == Path("/opt/python3.99")


def test_this_python_is_found_even_off_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert find_python(HERE) == Path(sys.executable)


def test_locks_are_found_beside_an_installed_copy_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = cell_lock("torch-2.13.0")
    package = tmp_path / "lib" / "ndrepro"
    (package / "environments").mkdir(parents=True)
    (package / "environments" / original.name).write_bytes(original.read_bytes())
    monkeypatch.setattr(project_folders, "_PACKAGE", package)
    assert [each.name for each in list_cells()] == ["torch-2.13.0"]


def cell_lock(name: str) -> Path:
    return Path(__file__).parents[3] / "environments" / f"{name}.lock"


@pytest.mark.old_environment
def test_the_replications_own_triple_runs_from_its_lock() -> None:
    """Uses the real cache folder: the first time it downloads about 2 GB, afterwards it is there."""
    oldest = cell("torch-1.13.1")
    try:
        find_python(oldest.python)
    except EnvironmentMissing as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"{missing.message}; {missing.cure}")
    report = "import numpy, torch, torchvision; print(*(m.__version__ for m in (torch, torchvision, numpy)))"
    said = subprocess.run([create(oldest), "-c", report], capture_output=True, text=True, check=True)
    assert said.stdout == "1.13.1+cu117 0.14.1+cu117 1.23.5\n"
    assert verify(oldest) == ()

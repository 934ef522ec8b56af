"""Attack: code that no manifest lists, beside the source that it lists: bytecode, extension modules, archives.

Each test plants something that changes a result without changing a source file, and starts the process that a run
would start. On the code before these tests every planted file ran, and the digest of the code stayed the same.
"""

from __future__ import annotations

import importlib.util
import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from ndrepro.execution.runs.child_process import child_variables
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.messages import Request
from provenance.capture.editable_source import COPY_MARK
from provenance.capture.source import package_digest
from provenance.code.bytecode import BytecodeCache
from provenance.code.snapshot import CodeCopy

HONEST, FALSE = "accuracy = 24\n", "accuracy = 99\n"
REQUEST = Request(Experiment.from_name("lenet_bn_1_digits"), "data")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NDREPRO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a small trainer that prints its accuracy."""
    package = tmp_path / "checkout" / "ndrepro" / "training"
    package.mkdir(parents=True)
    (tmp_path / "checkout" / "provenance").mkdir()
    for folder in (package.parent, package, tmp_path / "checkout" / "provenance"):
        (folder / "__init__.py").write_text("")
    (package / "__main__.py").write_text("from ndrepro.training import result\nprint(result.accuracy)\n")
    (package / "result.py").write_text(HONEST)
    return tmp_path / "checkout"


def packages(checkout: Path) -> list[Path]:
    return [checkout / "ndrepro", checkout / "provenance"]


def train(checkout: Path, run_folder: Path) -> tuple[str, dict[str, object]]:
    """What a recorded process prints, and what is recorded of its code."""
    run_folder.mkdir(exist_ok=True)
    with CodeCopy(packages(checkout), run_folder / ".code") as copy:
        variables = child_variables(REQUEST, copy.place, os.environ, BytecodeCache(sys.executable).variables())
        command = [sys.executable, "-m", "ndrepro.training"]
        done = subprocess.run(command, cwd=copy.place, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        described = copy.describe()
    assert not copy.place.exists()
    return done.stdout.strip(), described


def plain(checkout: Path) -> str:
    """What the same process prints when Python is left to itself: the control."""
    variables = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-m", "ndrepro.training"]
    return subprocess.run(words, cwd=checkout, env=variables, capture_output=True, text=True, check=True).stdout.strip()


def compiled(source: str, tmp_path: Path, mode: py_compile.PycInvalidationMode) -> bytes:
    path = tmp_path / "false.py"
    path.write_text(source)
    return Path(str(py_compile.compile(str(path), str(tmp_path / "false.pyc"), invalidation_mode=mode))).read_bytes()


def unchecked_bytecode(checkout: Path, tmp_path: Path) -> None:
    """Bytecode in the author's ``__pycache__`` that Python never compares with the source."""
    target = Path(importlib.util.cache_from_source(str(checkout / "ndrepro/training/result.py")))
    target.parent.mkdir()
    target.write_bytes(compiled(FALSE, tmp_path, py_compile.PycInvalidationMode.UNCHECKED_HASH))


def bytecode_with_a_forged_time(checkout: Path, tmp_path: Path) -> None:
    """Bytecode of another source, whose time and size were set to the real one's."""
    source = checkout / "ndrepro/training/result.py"
    status = source.stat()
    source.write_text(FALSE)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))
    py_compile.compile(str(source), invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    source.write_text(HONEST)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))


def a_module_beside_the_packages(checkout: Path, tmp_path: Path) -> None:
    """A module at the top of the checkout comes before one of the same name in a library."""
    (checkout / "safetensors.py").write_text("import ndrepro.training.result as x\nx.accuracy = 99\n")
    main = checkout / "ndrepro/training/__main__.py"
    main.write_text("from ndrepro.training import result\nimport safetensors\nprint(result.accuracy)\n")


def an_extension_module(checkout: Path, tmp_path: Path) -> None:
    """Python prefers ``result.so`` to ``result.py``."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    code = """
#include <Python.h>
static struct PyModuleDef it = {PyModuleDef_HEAD_INIT, "result", 0, -1, 0};
PyMODINIT_FUNC PyInit_result(void) {
    PyObject *m = PyModule_Create(&it); PyModule_AddIntConstant(m, "accuracy", 99); return m; }
"""
    (tmp_path / "result.c").write_text(code)
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").exists():
        pytest.skip("no headers of Python here")
    target = checkout / "ndrepro/training/result.so"
    subprocess.run([compiler, "-shared", "-fPIC", f"-I{include}", str(tmp_path / "result.c"), "-o", target], check=True)


PLANTS = [unchecked_bytecode, bytecode_with_a_forged_time, a_module_beside_the_packages, an_extension_module]


@pytest.mark.parametrize("plant", PLANTS)
def test_planted_code_does_not_run(plant: Callable[[Path, Path], None], checkout: Path, tmp_path: Path) -> None:
    plant(checkout, tmp_path)
    before = package_digest(packages(checkout))
    assert plain(checkout) == "99", "the control: Python runs what was planted"
    printed, described = train(checkout, tmp_path / "run")
    assert printed == "24"
    assert described["tree_sha256"] == before["tree_sha256"]


def test_bytecode_without_its_source_is_named_and_is_not_there_for_the_run(checkout: Path, tmp_path: Path) -> None:
    (checkout / "ndrepro/training/result.py").unlink()
    false = compiled(FALSE, tmp_path, py_compile.PycInvalidationMode.UNCHECKED_HASH)
    (checkout / "ndrepro/training/result.pyc").write_bytes(false)
    assert plain(checkout) == "99", "the control"
    with pytest.raises(AssertionError, match=r"cannot import name 'result'"):
        train(checkout, tmp_path / "run")
    with CodeCopy(packages(checkout), tmp_path / "copy") as copy:
        left = copy.describe()["not_copied"]
    assert (left["count"], left["files"][0]["path"]) == (1, "ndrepro/training/result.pyc")


def test_files_in_the_run_folder_are_not_imported(checkout: Path, tmp_path: Path) -> None:
    """A resumed run's folder may be an archive of anybody's: ``python -m`` looked into it first."""
    run_folder = tmp_path / "run"
    (run_folder / "ndrepro" / "training").mkdir(parents=True)
    for name in ("ndrepro/__init__.py", "ndrepro/training/__init__.py"):
        (run_folder / name).write_text("")
    (run_folder / "ndrepro/training/__main__.py").write_text("print(99)\n")
    assert train(checkout, run_folder)[0] == "24"


def test_a_copy_that_an_earlier_attempt_left_is_replaced(checkout: Path, tmp_path: Path) -> None:
    left = tmp_path / "run" / ".code" / "ndrepro" / "training"
    left.mkdir(parents=True)
    (left / "torch.py").write_text("")
    assert train(checkout, tmp_path / "run")[0] == "24"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / ".code").symlink_to(tmp_path / "elsewhere")
    assert train(checkout, tmp_path / "run")[0] == "24"
    assert (tmp_path / "elsewhere").is_dir() and not any((tmp_path / "elsewhere").iterdir())


LIBRARY_MAIN = "import library\nprint(library.accuracy)\n"


@pytest.fixture
def library(checkout: Path, tmp_path: Path) -> Path:
    """A library outside of the checkout, which the trainer imports."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "library.py").write_text(HONEST)
    main = f"import sys\nsys.path.append({str(folder)!r})\n{LIBRARY_MAIN}"
    (checkout / "ndrepro/training/__main__.py").write_text(main)
    return folder / "library.py"


@pytest.mark.parametrize("plant", ["unchecked", "timestamp"])
def test_forged_bytecode_of_a_library_does_not_run(plant: str, checkout: Path, library: Path, tmp_path: Path) -> None:
    target = Path(importlib.util.cache_from_source(str(library)))
    target.parent.mkdir()
    if plant == "unchecked":
        target.write_bytes(compiled(FALSE, tmp_path, py_compile.PycInvalidationMode.UNCHECKED_HASH))
    else:
        status = library.stat()
        false = bytearray(compiled(FALSE, tmp_path, py_compile.PycInvalidationMode.TIMESTAMP))
        false[8:12] = (int(status.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little")
        false[12:16] = status.st_size.to_bytes(4, "little")
        target.write_bytes(false)
    assert plain(checkout) == "99", "the control"
    assert train(checkout, tmp_path / "run")[0] == "24"


def test_the_cache_of_bytecode_serves_what_was_compiled_here_and_nothing_else(
    checkout: Path, library: Path, tmp_path: Path
) -> None:
    cache = BytecodeCache(sys.executable)
    assert cache.check() == 0
    assert cache.add([str(library), str(tmp_path / "missing.py")]) == 1
    (kept,) = cache.prefix.rglob("*.pyc")
    whole = kept.read_bytes()
    # it is what the process reads: a control that shows the cache in use
    kept.write_bytes(whole.replace((24).to_bytes(4, "little"), (99).to_bytes(4, "little")))
    variables = {**os.environ, "PYTHONPATH": str(checkout), "PYTHONPYCACHEPREFIX": str(cache.prefix)}
    words = [sys.executable, "-m", "ndrepro.training"]
    done = subprocess.run(words, cwd=checkout, env=variables, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "99"
    # and a forged file is removed before the next process starts
    assert cache.check() == 0 and not kept.exists()
    assert train(checkout, tmp_path / "run")[0] == "24"


def test_a_source_with_a_forged_time_takes_its_bytecode_with_it(checkout: Path, library: Path, tmp_path: Path) -> None:
    cache = BytecodeCache(sys.executable)
    assert cache.add([str(library)]) == 1
    assert cache.check() == 1
    status = library.stat()
    library.write_text("accuracy = 25\n")
    os.utime(library, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert train(checkout, tmp_path / "run")[0] == "25"
    # another link to the same file changes its time of change, and nothing else
    assert cache.add([str(library)]) == 1
    os.link(library, tmp_path / "link")
    assert cache.check() == 1


def test_what_nobody_noted_is_removed_and_a_folder_that_others_may_write_to_is_not_used(
    library: Path, cache: Path
) -> None:
    kept = BytecodeCache(sys.executable)
    kept.add([str(library)])
    stranger = kept.prefix / "usr" / "random.pyc"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"")
    assert kept.check() == 1 and not stranger.exists()
    index = kept.prefix.with_name(f"{kept.prefix.name}.tsv")
    index.write_text(index.read_text()[:-1])
    assert kept.check() == 0, "a damaged note vouches for nothing"
    kept.prefix.chmod(0o777)
    assert kept.variables()["PYTHONPYCACHEPREFIX"] == os.devnull
    with pytest.raises(PermissionError):
        kept.add([str(library)])


def test_a_process_that_lies_about_its_modules_names_no_file_of_the_copy_and_makes_nobody_wait(
    checkout: Path, tmp_path: Path
) -> None:
    with CodeCopy(packages(checkout), tmp_path / "copy") as copy:
        note = copy.place / COPY_MARK
        note.unlink()
        os.mkfifo(note)
    assert copy.modules == ()
    with CodeCopy(packages(checkout), tmp_path / "copy") as copy:
        (copy.place / COPY_MARK).write_text(f"relative.py\0{copy.place}/ndrepro/a.py\0/usr/a.py")
    assert copy.modules == ("/usr/a.py",)


def test_a_copy_gets_the_bytecode_of_a_source_of_the_same_bytes_and_of_no_other(checkout: Path, tmp_path: Path) -> None:
    cache, source = BytecodeCache(sys.executable), checkout / "ndrepro/training/result.py"
    with CodeCopy(packages(checkout), tmp_path / "run" / ".code") as copy:
        result = f"{copy.place}/ndrepro/training/result.py"
        (copy.place / COPY_MARK).write_text(result)
    assert copy.modules == (str(source),), "what a process imported of its copy is a source"
    assert cache.add(copy.modules) == 1
    given = Path(f"{cache.prefix}{tmp_path}/run/.code/ndrepro/training") / f"result.{sys.implementation.cache_tag}.pyc"

    def printed(plant: Callable[[], object]) -> str:
        with CodeCopy(packages(checkout), tmp_path / "run" / ".code") as copy:
            variables = child_variables(REQUEST, copy.place, os.environ, cache.variables(copy.sources))
            plant()
            words = [sys.executable, "-m", "ndrepro.training"]
            return subprocess.run(words, cwd=copy.place, env=variables, capture_output=True, text=True).stdout.strip()

    def forge() -> None:
        given.write_bytes(given.read_bytes().replace((24).to_bytes(4, "little"), (99).to_bytes(4, "little")))

    assert printed(forge) == "99", "the control: it is what the process reads"
    assert printed(lambda: None) == "24", "and it is made anew for each"
    assert cache.check() == 1 and not given.exists() and not given.parent.exists()
    # a source that is edited once its bytecode was looked at: the copy is of the new bytes, or of the old ones
    with CodeCopy(packages(checkout), tmp_path / "run" / ".code") as copy:
        status = source.stat()
        edited = {name: (path, "0" * 64) for name, (path, _) in copy.sources.items()}
        assert cache.check(edited) == 1 and not given.exists()
        assert cache.check(copy.sources) == 1 and given.exists()
        assert Path(result).stat().st_mtime_ns == status.st_mtime_ns

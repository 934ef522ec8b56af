"""What a process sees of its environments: whole, fit for JSON, free of secrets, whatever is missing."""

from __future__ import annotations

import glob
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from provenance.capture import environment, gpu
from provenance.capture.unavailable import is_missing, none, printable, probe, unavailable
from provenance.formats.canonical_json import canonical_bytes

ROOT = Path(__file__).parents[3]
PARTS = ["interpreter", "distributions", "imported_files", "variables", "machine", "gpus", "container"]


def leaves(tree: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in leaves(value, f"{path}.{key}")]
    if isinstance(tree, list):
        return [leaf for index, value in enumerate(tree) for leaf in leaves(value, f"{path}[{index}]")]
    return [(path, tree)]


def captured_by(*command: str, **variables: str) -> dict[str, Any]:
    """The environment that another interpreter sees, with nothing on its path but this project."""
    code = "import json; from provenance.capture.environment import capture; print(json.dumps(capture()))"
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [*command, "-W", "error", "-c", code],
        env={**inherited, "PYTHONPATH": str(ROOT), **variables},
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def old_python() -> str:
    """A Python 3.10 that runs; pyenv's own, since the one that it puts on the PATH may refuse to."""
    pyenv = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    kept = [*glob.glob(os.path.join(pyenv, "versions/3.10*/bin/python3.10")), shutil.which("python3.10")]
    return next((path for path in kept if path and not subprocess.run([path, "-c", ""]).returncode), "")


def test_every_part_is_there_and_nothing_is_silently_empty() -> None:
    captured = environment.capture()
    assert list(captured) == PARTS
    assert [path for path, value in leaves(captured) if value is None] == []
    assert not any(is_missing(captured[part]) for part in ("interpreter", "distributions", "variables", "machine"))
    assert captured["machine"]["memory_bytes"] == psutil.virtual_memory().total
    assert captured["interpreter"]["version"] == sys.version.split()[0]
    assert json.loads(json.dumps(captured)) == captured
    canonical_bytes(captured)


def test_twice_the_same() -> None:
    first, second = environment.capture(), environment.capture()
    assert list(first) == list(second)
    assert all(first[part] == second[part] for part in PARTS if part != "gpus")  # whose clocks move


def test_a_probe_that_fails_loses_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> dict[str, Any]:
        raise RuntimeError("the driver is on fire")

    before = environment.capture()
    monkeypatch.setattr(gpu, "capture", fails)
    after = environment.capture()
    assert after.pop("gpus") == {"unavailable": "RuntimeError: the driver is on fire"}
    assert after == {part: before[part] for part in PARTS if part != "gpus"}


def test_variables_by_allow_list_and_redacted(monkeypatch: pytest.MonkeyPatch) -> None:
    count = environment.capture()["variables"]["not_recorded"]
    given = {
        "OMP_NUM_THREADS": "3",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "LD_LIBRARY_PATH": "",
        "SLURM_JOB_ID": "17",
        "NDREPRO_API_TOKEN": "hunter2",
        "TORCH_HOME": "https://user:hunter2@host/",
        "DATABASE_PASSWORD": "hunter2",
        "MY_LANG": "private",
        "PYTHON": "/usr/bin/python3",  # make's way to name an interpreter: Python itself reads no such variable
        "PYTHONOPTIMIZE": "",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    found = environment.capture()["variables"]
    assert {name: found["recorded"][name] for name in list(given)[:4]} == dict(list(given.items())[:4])
    assert found["recorded"]["NDREPRO_API_TOKEN"] == "[redacted:token]"
    assert found["recorded"]["TORCH_HOME"] == "https://[redacted:url-userinfo]@host/"
    assert not {"DATABASE_PASSWORD", "MY_LANG", "PYTHON"} & set(found["recorded"])
    assert found["not_recorded"] == count + 3 and "PYTHONOPTIMIZE" in found["recorded"]
    assert "hunter2" not in json.dumps(environment.capture())


@pytest.mark.parametrize("name", ["DISABLE_ADDMM_CUDA_LT", "INDUCTOR_X", "AOT_INDUCTOR_X", "AOTINDUCTOR_X", "GLOO_X"])
def test_variables_by_which_torch_chooses_kernels_are_recorded(name: str) -> None:
    assert environment.recorded_variables({name: "1"})["recorded"] == {name: "1"}


def test_a_variable_that_is_no_unicode_is_written_as_text() -> None:
    code = (
        "import json; from provenance.capture.environment import capture; "
        "print(json.dumps(capture(), ensure_ascii=False))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={b"OMP_PLACES": b"\xff{0}", b"PYTHONPATH": os.fsencode(ROOT), b"PYTHONUTF8": b"1"},
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout.decode("utf-8"))["variables"]["recorded"]["OMP_PLACES"] == "\\xff{0}"


@pytest.mark.parametrize(
    ("options", "variables", "seed"),
    [
        ([], {"PYTHONHASHSEED": "0"}, 0),
        ([], {"PYTHONHASHSEED": "7"}, 7),
        ([], {}, "none"),
        (["-R"], {"PYTHONHASHSEED": "random"}, "none"),
    ],
)
def test_hash_seed(options: list[str], variables: dict[str, str], seed: int | str) -> None:
    found = captured_by(sys.executable, *options, **variables)["interpreter"]["hash_seed"]
    assert found == seed if isinstance(seed, int) else list(found) == ["none"]


@pytest.mark.parametrize("interpreter", ["this one", "3.10"])
def test_without_psutil_and_pynvml_it_says_so(interpreter: str) -> None:
    python = sys.executable if interpreter == "this one" else old_python()
    if not python:
        pytest.skip("no Python 3.10 on the PATH or among pyenv's")
    captured = captured_by(python, "-S", "-B", "-X", "utf8")
    assert list(captured) == PARTS
    assert captured["distributions"]["count"] == 0
    assert captured["interpreter"]["flags"]["no_site"] == 1
    assert "pynvml (nvidia-ml-py) is not installed" in json.dumps(captured["gpus"])
    here = environment.capture()["machine"]
    assert {name: captured["machine"][name] for name in here} == here
    if interpreter == "3.10":
        assert captured["interpreter"]["version"].startswith("3.10.")


def test_capture_imports_no_framework_and_no_git() -> None:
    code = (
        "import sys; from provenance.capture.environment import capture; capture();"
        "print([name for name in ('torch', 'numpy', 'git', 'cryptography') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_usage_grows_by_what_was_used() -> None:
    before = environment.usage()
    ballast = bytearray(1 << 26)
    sum(range(2_000_000))
    subprocess.run([sys.executable, "-c", "sum(range(2_000_000))"], check=True)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    after = environment.usage()
    assert list(before) == list(after) and len(ballast) == 1 << 26
    grown = {name: after[name] - before[name] for name in after}
    assert grown["wall_seconds"] > 0 and grown["user_seconds"] > 0 and grown["children_user_seconds"] > 0
    # Some sandboxes' kernels count no faults and large pages make them few: compared with the kernel's own number.
    assert before["minor_page_faults"] <= faults <= after["minor_page_faults"]
    assert after["peak_memory_bytes"] >= 1 << 26
    assert all(value >= 0 for value in grown.values())


def test_wall_time_counts_from_the_process_own_beginning() -> None:
    """And not from the machine's, which would be signed as a run's time."""
    began = time.monotonic()
    program = (
        "import time; from provenance.capture.environment import usage; time.sleep(0.3); print(usage()['wall_seconds'])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    waited = time.monotonic() - began
    assert 0.3 <= float(done.stdout) <= waited + 0.02, "in ticks of the kernel's clock, of which a second has 100"
    assert began > waited + 0.02, "the control: the machine has been up for longer than that"


def test_a_large_parent_is_not_its_childs_peak() -> None:
    """The kernel counts ru_maxrss from the fork: without a look at VmHWM a small child of this one looks large."""
    child = (
        "import resource, sys; from provenance.capture.environment import usage;"
        "print(usage()['peak_memory_bytes'], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"
    )
    parent = (
        "import subprocess, sys; ballast = b'x' * (1 << 28);"
        "subprocess.run([sys.executable, '-c', sys.argv[1]], check=True, close_fds=False)"
    )
    done = subprocess.run([sys.executable, "-c", parent, child], cwd=ROOT, capture_output=True, text=True, check=True)
    peak, inherited = map(int, done.stdout.split())
    assert peak < 1 << 27
    assert inherited > 1 << 28, "the control: the kernel's own number holds the parent"


def test_probes() -> None:
    assert probe(int, "3") == 3
    assert probe(int, "x")["unavailable"].startswith("ValueError: invalid literal")
    assert is_missing(unavailable("x")) and is_missing(none("x"))
    assert not is_missing({"unavailable": "x", "and": 1}) and not is_missing("none")
    assert printable({"a\udcff": ["\udcc3", ("é", 1)]}) == {"a\\xff": ["\\xc3", ["é", 1]]}

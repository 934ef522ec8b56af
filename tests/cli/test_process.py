"""The real command as a process: exit codes, pipes, locales, homes. Few launches, each with several claims."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from recorded_runs import ROOT, process, sign_run

from ndrepro.protocol.layout import RunsFolder

HEAVY = ("torch", "numpy", "git", "cryptography", "securesystemslib", "rich", "psutil", "pynvml")


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    probe = (
        "import ndrepro.cli.app, sys; loaded = set(sys.modules); import rich; "
        f"print([name for name in {HEAVY} if name in loaded], 'rich' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", probe], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert answer.stdout.strip() == "[] True"  # True: the control, the probe does see a module that is loaded


def test_wrong_names_offer_the_nearest_and_exit_2() -> None:
    answer = process("run", "vgg16_dn_100")
    assert (answer.code, answer.out) == (2, "")
    what, cure = answer.err.splitlines()
    assert what == "error: unknown experiment 'vgg16_dn_100'"
    assert cure.startswith("  hint: did you mean vgg16_nd_100")


def test_without_home_what_needs_no_key_works(runs: RunsFolder) -> None:
    sign_run(runs, "lenet_bn_2_digits", "20261121T101502Z-3f9a1c")
    answer = process("list", "--json", NDREPRO_HOME=None, HOME=None, XDG_CONFIG_HOME=None)
    assert (answer.code, answer.err) == (0, "")
    assert len(answer.json["runs"]) == 1


@pytest.mark.parametrize("search", [".", "src", "{clone}/src", "{other}"])
def test_modules_of_somebody_s_checkout_are_not_imported_where_the_key_is(search: str, tmp_path: Path) -> None:
    clone, other = tmp_path / "clone", tmp_path / "other"
    for folder in (clone, clone / "src", other):
        folder.mkdir()
        for name in ("json", "typer", "cryptography"):
            (folder / f"{name}.py").write_text(
                f"open({str(tmp_path / 'escaped')!r}, 'w')\nraise ImportError('{folder}')\n"
            )
    path = f"{search.format(clone=clone, other=other)}{os.pathsep}{ROOT}"
    variables = {**os.environ, "PYTHONPATH": path, "NDREPRO_HOME": str(tmp_path / "home")}

    def answer(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *words], cwd=clone, env=variables, capture_output=True, text=True)

    found = answer("-m", "ndrepro", "keys", "export")
    assert (found.returncode, found.stderr) == (0, "") and "PUBLIC KEY" in found.stdout
    assert not (tmp_path / "escaped").exists()
    assert answer("-c", "import json").returncode == 1 and (tmp_path / "escaped").exists(), "the control"


def test_a_reader_that_leaves_is_no_error(runs: RunsFolder, tmp_path: Path) -> None:
    for number in range(40):
        sign_run(runs, "lenet_bn_2_digits", f"20261121T1015{number:02}Z-3f9a1c")
    command = f"{sys.executable} -m ndrepro list --json 2>{tmp_path}/err | head -c 20; echo ${{PIPESTATUS[0]}}"
    answer = subprocess.run(
        ["bash", "-c", command], env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert answer.stdout.splitlines()[-1].endswith("0")
    assert (tmp_path / "err").read_text() == ""


@pytest.mark.parametrize("full", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_an_error_that_cannot_be_written_keeps_its_exit_code(full: tuple[str, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ndrepro", "verify", "nope", "--json", "--runs", str(tmp_path)]
    with open("/dev/full", "wb") as device:
        streams: dict[str, Any] = {name: device if name in full else subprocess.PIPE for name in ("stdout", "stderr")}
        answer = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, **streams)
    assert answer.returncode == 3, "1 would be an answer"
    if answer.stderr is not None:
        assert answer.stderr.startswith("error: no run 'nope'") and "Traceback" not in answer.stderr
    if answer.stdout is not None:
        assert json.loads(answer.stdout)["error"]["exit_code"] == 3


def test_ascii_locale_no_colour_80_columns_and_a_path_of_other_letters(tmp_path: Path) -> None:
    folder = RunsFolder(tmp_path / "läufe und mehr")
    sign_run(folder, "lenet_bn_2_digits", "20261121T101502Z-3f9a1c")
    ascii_only = {"PYTHONIOENCODING": "ascii:strict", "NO_COLOR": "1", "COLUMNS": "80", "FORCE_COLOR": "1"}
    answer = process("show", "lenet_bn_2_digits", "--runs", str(folder.root), **ascii_only)
    assert answer.code == 0, answer.err
    assert answer.out.isascii() and "l\\xe4ufe und mehr" in answer.out
    assert "\x1b[3" not in answer.out  # styles at most, no colour
    assert all(len(line) <= 80 for line in answer.out.splitlines() if "\x1b" not in line and "/" not in line)
    assert json.loads(process("show", "lenet_bn_2_digits", "--runs", str(folder.root), "--json").out)


def test_paths_that_are_not_utf8_train_sign_and_verify(tmp_path: Path) -> None:
    place = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(place)
    digits = Path(importlib.util.find_spec("sklearn").origin).parent / "datasets/data/digits.csv.gz"  # type: ignore
    shutil.copyfile(digits, place + b"/digits.csv.gz")
    settings = [b"--set=train_images=64", b"--set=test_images=32", b"--set=batch_size=32", b"--threads=1"]
    paths = [b"--data", place + b"/digits.csv.gz", b"--runs", place + b"/runs"]
    command = [os.fsencode(sys.executable), b"-m", b"ndrepro"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NDREPRO_HOME": str(tmp_path / "home")}
    run = subprocess.run(
        [*command, b"run", b"lenet_bn_1_digits", *settings, *paths, b"-q"], env=environment, capture_output=True
    )
    assert (run.returncode, run.stderr) == (0, b"")
    folder = run.stdout.rstrip(b"\n")
    assert os.path.isdir(folder), "the path that is printed leads to the run"
    verify = subprocess.run([*command, b"verify", folder, b"--json"], env=environment, capture_output=True)
    assert verify.returncode == 0
    show = subprocess.run([*command, b"show", folder, b"--json"], env=environment, capture_output=True)
    chosen = json.loads(show.stdout)["manifest"]["buildDefinition"]["externalParameters"]
    assert chosen["data"] == f"{tmp_path}/caf\\xe9/digits.csv.gz"

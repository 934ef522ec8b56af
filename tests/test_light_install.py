"""The wheel in environments that have what it asks for, and nothing else.

Light: no extra. Analysis: every extra but training. They are built with uv, whose cache makes that quick; the first
time it needs the package index.
"""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from recorded_runs import process

from ndrepro.execution.environments.interpreters import uv_executable, uv_variables

ROOT = Path(__file__).resolve().parents[1]
ANOTHER = ROOT / "tests" / "helpers" / "another_system.py"
SMALL = ("--set", "train_images=96", "--set", "test_images=32", "--threads", "1", "--quiet")
MEGABYTE = 10**6

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Installed:
    """An environment with the wheel in it, and a folder with runs of somebody else."""

    environment: Path
    folder: Path

    def python(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Its Python, with none of this process's variables; warnings are errors."""
        variables = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(self.folder)}
        variables["NDREPRO_HOME"] = str(self.folder / "keys")
        command = [str(self.environment / "bin" / "python"), "-W", "error", *words]
        return subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True)

    def ndrepro(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Its command line."""
        return self.python("-m", "ndrepro", *words)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def environment(folder: Path, wheel: Path, extras: str) -> Path:
    uv, variables = str(uv_executable()), uv_variables()
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder)], check=True, env=variables)
    # the versions that were tested
    pins = folder / "pins.txt"
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    pins.write_text("\n".join(re.findall(r"(?m)^[\w.-]+==[^\\\n]+", lock)), encoding="utf-8")
    words = ["pip", "install", "--quiet", "--python", str(folder / "bin" / "python"), "--constraint", str(pins)]
    subprocess.run([uv, *words, f"ndrepro{extras} @ {wheel.as_uri()}"], check=True, env=variables)
    return folder


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two real runs of one network in ``runs``, an archive of them, and the author's public key."""
    folder = tmp_path_factory.mktemp("theirs")
    home = {"NDREPRO_HOME": str(folder / "author")}
    for seed in ("0", "1"):
        words = ("run", "lenet_bn_1_digits", *SMALL, "--seed", seed, "--runs", str(folder / "runs"))
        assert process(*words, **home).code == 0
    assert process("keys", "export", "--out", str(folder / "author.pub"), **home).code == 0
    with tarfile.open(folder / "runs.tar.gz", "w:gz") as archive:
        archive.add(folder / "runs", "runs")
    return folder


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory, wheel: Path, theirs: Path) -> Installed:
    return Installed(environment(tmp_path_factory.mktemp("light") / "venv", wheel, ""), theirs)


@pytest.fixture(scope="module")
def analysis(tmp_path_factory: pytest.TempPathFactory, wheel: Path, theirs: Path) -> Installed:
    place = tmp_path_factory.mktemp("analysis") / "venv"
    return Installed(environment(place, wheel, "[report,containers,slurm,search]"), theirs)


def test_the_light_environment_is_small(light: Installed) -> None:
    files = [path for path in light.environment.rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size for path in files) < 150 * MEGABYTE


def test_what_a_reader_of_runs_needs_works_in_it(light: Installed) -> None:
    first, second = sorted((light.folder / "runs" / "lenet_bn_1_digits").iterdir())
    assert "trusted" in light.ndrepro("keys", "trust", "author.pub", "--name", "The author").stdout
    assert "verified: 14 checks passed; signed by The author" in light.ndrepro("verify", str(first)).stdout
    for words, code, expected in (
        (("show", str(first)), 0, "lenet_bn_1_digits"),
        (("list",), 0, second.name),
        (("list", "--names"), 0, "lenet"),
        (("diff", str(first), str(second)), 1, "seed"),
        (("import", "runs.tar.gz", "--into", "imported"), 0, "2 runs"),
        (("keys", "list"), 0, "The author"),
        (("env", "list"), 0, "torch-2.13.0"),
        (("study", "list"), 0, "smoke"),
        (("study", "status", "smoke"), 0, "0 of 30"),
        (("doctor",), 0, "pip install 'ndrepro[train]'"),
        (("--version",), 0, "ndrepro"),
    ):
        answer = light.ndrepro(*words)
        assert (answer.returncode, answer.stderr) == (code, ""), f"{words}: {answer.stdout}"
        assert expected in answer.stdout, words


def test_they_need_nothing_that_only_linux_has(light: Installed) -> None:
    first, second = sorted((light.folder / "runs" / "lenet_bn_1_digits").iterdir())
    light.ndrepro("keys", "trust", "author.pub", "--name", "The author")
    for words, code, expected in (
        (("verify", str(first)), 0, "verified: 14 checks passed"),
        (("show", str(first)), 0, "lenet_bn_1_digits"),
        (("list",), 0, "completed"),
        (("diff", str(first), str(second)), 1, "seed"),
        (("import", "runs.tar.gz", "--into", "elsewhere"), 0, "2 runs"),
        (("keys", "export", "--out", "mine.pub"), 0, "public key"),
    ):
        answer = light.python(str(ANOTHER), *words)
        assert (answer.returncode, answer.stderr) == (code, ""), f"{words}: {answer.stdout}"
        assert expected in answer.stdout, words
    control = light.python("-c", f"import runpy; runpy.run_path({str(ANOTHER)!r})['become'](); import pwd")
    assert "import of pwd halted" in control.stderr, "the control: what is taken away is away"


def test_a_script_of_ones_own_is_recorded_in_it(light: Installed) -> None:
    script = "import provenance\nwith provenance.record('mine/run', name='mine'):\n    pass\n"
    assert light.python("-c", script).stderr == ""
    answer = light.ndrepro("verify", "--manifest-only", "mine/run")
    assert "signed by this machine's key" in answer.stdout


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("run", "train"),
        ("run lenet_bn_1_digits --device cuda", "train"),
        ("run --in docker --data digits.csv.gz", "containers"),
        ("reproduce lenet_bn_1_digits", "train"),
        ("diff {first} {second} --locate", "train"),
        ("bisect lenet_bn_1_digits torch-2.8.0 torch-2.11.0", "train"),
        ("env create torch-2.8.0", "train"),
        ("study run smoke", "train"),
        ("study run smoke --on slurm", "slurm"),
        ("study search seeds", "search"),
        ("report runs", "report"),
        ("sensitivity runs", "report"),
        ("audit", "report"),
    ],
)
def test_a_command_names_the_extra_that_it_lacks(light: Installed, words: str, extra: str) -> None:
    first, second = sorted((light.folder / "runs" / "lenet_bn_1_digits").iterdir())
    (light.folder / "digits.csv.gz").touch()
    before = sorted((light.folder / "runs").rglob("*"))
    answer = light.ndrepro(*words.format(first=first, second=second).split())
    assert answer.returncode == 3, answer.stderr
    assert f"is not installed: it is part of ndrepro's extra [{extra}]" in answer.stderr
    assert f"pip install 'ndrepro[{extra}]'" in answer.stderr
    assert sorted((light.folder / "runs").rglob("*")) == before, "nothing was started"


def test_reports_are_written_where_nothing_can_train(analysis: Installed) -> None:
    analysis.ndrepro("keys", "trust", "author.pub", "--name", "The author")
    assert importlib.metadata.version("torch") and analysis.python("-c", "import torch").returncode == 1
    for words, code, made in (
        (("report", "runs", "--out", "page"), 0, "page/index.html"),
        (("sensitivity", "runs", "--out", "moved"), 0, "moved/sensitivity.md"),
        (("audit",), 1, ""),
    ):
        answer = analysis.ndrepro(*words)
        assert (answer.returncode, answer.stderr) == (code, ""), f"{words}: {answer.stdout}"
        assert (analysis.folder / made).exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("study run smoke --on slurm", "torch is not installed"),
        ("run --in podman --data digits.csv.gz --image localhost/none", "none"),
    ],
)
def test_other_places_to_run_answer_for_themselves(analysis: Installed, words: str, problem: str) -> None:
    (analysis.folder / "digits.csv.gz").touch()
    answer = analysis.ndrepro(*words.split())
    assert answer.returncode == 3
    assert problem in answer.stderr
    assert "defect" not in answer.stderr


@pytest.mark.parametrize("platform", ["x86_64-apple-darwin", "aarch64-apple-darwin", "x86_64-pc-windows-msvc"])
@pytest.mark.parametrize("python", ["3.11", "3.14"])
def test_the_light_installation_resolves_to_wheels_on(platform: str, python: str) -> None:
    words = ["pip", "compile", "--quiet", "--only-binary", ":all:", "--no-header", "--no-annotate"]
    words += ["--python-version", python, "--python-platform", platform, "pyproject.toml"]
    command = [str(uv_executable()), *words]
    answer = subprocess.run(command, cwd=ROOT, env=uv_variables(), capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "cryptography==" in answer.stdout and "torch" not in answer.stdout

"""What recording an empty script costs beside trackers of experiments: MLflow, Sacred and Weights & Biases, offline.

Each of them, and this package, is installed in an environment of its own; the script is instrumented by the documented
calls. Processor time is that of every process which the command starts, detached ones included; nothing is subtracted.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from benchmarks.measure import Result, result
from ndrepro import __version__
from ndrepro.execution.environments.interpreters import uv_executable, uv_variables
from ndrepro.execution.programs.process_tree import ProcessTree

_ROUNDS, _SECONDS = 7, 120
_PRINTED = "a line of output"
ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Tracker:
    """A tracker's name and release, a script that it instruments, and what its installation needs besides."""

    name: str
    version: str
    script: str
    also: tuple[str, ...] = ()

    @property
    def requirement(self) -> str:
        """The pin that is installed, which is also how the trackers write a package that they record."""
        return f"{self.name}=={self.version}"


TRACKERS = (
    Tracker(
        "sacred",
        "0.8.7",
        "from sacred import Experiment\nfrom sacred.observers import FileStorageObserver\n\n"
        "experiment = Experiment('empty')\nexperiment.observers.append(FileStorageObserver('sacred_runs'))\n\n\n"
        "@experiment.automain\ndef main():\n    {body}\n",
        also=("setuptools<81",),  # it imports pkg_resources, which later releases lack
    ),
    Tracker("wandb", "0.31.0", "import wandb\n\nwith wandb.init(project='empty'):\n    {body}\n"),
    Tracker(
        "mlflow",
        "3.17.2",
        "import mlflow\n\nmlflow.set_tracking_uri('file:./mlruns')\nwith mlflow.start_run():\n    {body}\n",
    ),
)


@dataclass(frozen=True)
class Command:
    """What is measured: a command, the repository where it runs, its title, and whether it is a full capture."""

    title: str
    words: list[str]
    work: Path
    full: bool = False


def side_by_side() -> list[Result]:
    """The empty script bare, recorded, and in every tracker, in turn. The limit is the cheapest full capture.

    That is a tracker whose stored run holds the commit, a package with its version, and what the script printed.
    """
    with tempfile.TemporaryDirectory() as name:
        commands = [*_ours(Path(name)), *_theirs(Path(name))]
        rounds = [[_seconds(each.words, each.work) for each in commands] for _ in range(_ROUNDS + 1)]
    # the first round compiles, and makes the key
    times = list(zip(*rounds[1:], strict=True))
    full = [statistics.median(values) for each, values in zip(commands, times, strict=True) if each.full]
    limits = [min(full, default=None) if each.work.name == "ndrepro" else None for each in commands]
    return [
        result(f"empty script, {each.title}", values, limit, "CPU s")
        for each, values, limit in zip(commands, times, limits, strict=True)
    ]


def _ours(folder: Path) -> list[Command]:
    small = _environment(folder / "environments" / "ndrepro", f"ndrepro @ {ROOT.as_uri()}")
    packages = sum(1 for _ in distributions())
    found = [Command("bare", [sys.executable, "empty.py"], folder / "bare")]
    for title, python, name in (
        (f"ndrepro {__version__}", small, "ndrepro"),
        (f"ndrepro among {packages} packages", sys.executable, "large"),
    ):
        words = [python, "-m", "ndrepro", "record", "-q", "--runs", "../runs", "--", python, "empty.py"]
        found.append(Command(title, words, folder / name))
    for each in found:
        _repository(each.work, "pass\n")
    return found


def _theirs(folder: Path) -> list[Command]:
    found = []
    for tracker in TRACKERS:
        try:
            python = _environment(folder / "environments" / tracker.name, tracker.requirement, *tracker.also)
        except RuntimeError as error:
            print(f"{tracker.name}: left out: {error}", file=sys.stderr)
            continue
        work, full = folder / tracker.name, _captures_in_full(tracker, python, folder)
        _repository(work, tracker.script.format(body="pass"))
        title = f"{tracker.name} {tracker.version}{', full capture' if full else ''}"
        found.append(Command(title, [python, "empty.py"], work, full))
    return found


def _environment(place: Path, *requirements: str) -> str:
    """The Python of a new environment with these. Raises RuntimeError where they cannot be installed."""
    uv, python = str(uv_executable()), str(place / "bin" / "python")
    for words in (
        ["venv", "-q", "-p", sys.executable, str(place)],
        ["pip", "install", "-q", "-p", python, *requirements],
    ):
        done = subprocess.run([uv, *words], env=uv_variables(), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{requirements[0]} cannot be installed: {done.stderr.strip()[-300:]}")
    return python


def _captures_in_full(tracker: Tracker, python: str, folder: Path) -> bool:
    """Whether the stored run of a script that prints holds the three things which full capture means."""
    work = folder / f"{tracker.name}-printing"
    commit = _repository(work, tracker.script.format(body=f"print({_PRINTED[:6]!r} + {_PRINTED[6:]!r})"))
    _seconds([python, "empty.py"], work)
    files = [path for path in work.rglob("*") if path.is_file() and ".git" not in path.parts]
    stored = b"\n".join(path.read_bytes() for path in files)
    wanted = commit, tracker.requirement, _PRINTED
    return all(each.encode() in stored for each in wanted)


def _repository(work: Path, script: str) -> str:
    """Make a repository of one commit with ``empty.py``; its commit."""
    work.mkdir()
    (work / "empty.py").write_text(script, encoding="utf-8")
    git = ["git", "-C", str(work), "-c", "user.name=bench", "-c", "user.email=bench@example.com"]
    # W&B looks for the commit only where there is a remote
    for words in (["init", "-q"], ["remote", "add", "origin", "https://example.com/bench.git"], ["add", "empty.py"]):
        subprocess.run([*git, *words], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "An empty script"], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def _seconds(words: list[str], work: Path) -> float:
    """Processor seconds of a command in ``work`` and of all its descendants. Raises RuntimeError where it fails."""
    variables = {
        **os.environ,
        "HOME": str(work.parent),
        "NDREPRO_HOME": str(work.parent / "keys"),
        "PYTHONDONTWRITEBYTECODE": "",
        "WANDB_MODE": "offline",
        "MLFLOW_ALLOW_FILE_STORE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    log, end = work.parent / "log", time.monotonic() + _SECONDS
    with contextlib.chdir(work), open(log, "wb") as output, ProcessTree() as tree:
        tree.start(Path(words[0]), words, variables, [(output.fileno(), 1), (output.fileno(), 2)], [])
        while tree.alive():
            if time.monotonic() > end:
                raise RuntimeError(f"{' '.join(words)}: processes still run after {_SECONDS} s")
            time.sleep(0.01)
            tree.reap()
    if tree.status:
        raise RuntimeError(f"{' '.join(words)}: exit code {tree.status}\n{log.read_text(encoding='utf-8')}")
    return tree.use.user_seconds + tree.use.system_seconds

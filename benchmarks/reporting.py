"""What a report costs: the whole command on 360 signed runs of Table 1, and on 10,000, its figures and page and all."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.measure import Result, process_cpu_seconds, result

_MANY = int(os.environ.get("NDREPRO_BENCH_REPORTED", "10000"))


def table1() -> Result:
    """The study's own 360 runs."""
    values = _measured(360, rounds=3)
    return result("report of 360 runs", values, 10.0, "CPU s")


def many() -> Result:
    """10,000 runs: Table 1 again and again, with other seeds."""
    values = [value * 10_000 / _MANY for value in _measured(_MANY, rounds=1)]
    return result(f"report of 10,000 runs (from {_MANY:,})", values, 120.0, "CPU s")


def _measured(count: int, rounds: int) -> list[float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        home = _signed(folder, count)
        # as an installed program has it: compiled once
        variables = {
            "NDREPRO_HOME": str(home),
            "PYTHONPYCACHEPREFIX": f"{folder}/compiled",
        }
        words = ["-m", "ndrepro", "report", str(folder / "runs"), "-o", f"{folder}/report"]
        values = [process_cpu_seconds(words, variables) for _ in range(rounds + 1)]
        size = sum(path.stat().st_size for path in (folder / "report").rglob("*") if path.is_file())
        print(f"     the folder of the report on {count:,} runs: {size / 1e6:.1f} MB", flush=True)
    return values[1:]


def _signed(folder: Path, count: int) -> Path:
    from ndrepro.execution.studies.study_file import find_study, load_study

    helpers = str(Path(__file__).resolve().parents[1] / "tests" / "helpers")
    if helpers not in sys.path:
        sys.path.append(helpers)
    from signed_runs import SignedRuns, noise, rows

    made = SignedRuns(folder)
    planned = [run.experiment for run in load_study(find_study("table1")).runs(["main"])]
    for number in range(count):
        one = planned[number % len(planned)]
        seed = one.seed + 3 * (number // len(planned))
        again: Any = one.with_settings({"seed": str(seed)})
        test = 0.6 + 0.2 * noise(one.name) + 0.02 * noise(one.name, seed)
        made.add(again, rows(one.epochs, test), seconds=50.0 * one.epochs)
    made.close()
    return made.home

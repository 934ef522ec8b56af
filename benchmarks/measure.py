"""How things are timed here: processor time, several rounds of both sides in turn, medians, and their spread."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """One promise: what was measured (median, lowest, highest of ``n``), its limit, and in what unit.

    A row without a limit is there for comparison.
    """

    name: str
    median: float
    low: float
    high: float
    n: int
    limit: float | None
    unit: str

    @property
    def kept(self) -> bool:
        """Whether the median is within the limit."""
        return self.limit is None or self.median <= self.limit


def result(name: str, values: Sequence[float], limit: float | None, unit: str) -> Result:
    """The result of several measurements."""
    return Result(name, statistics.median(values), min(values), max(values), len(values), limit, unit)


def cpu_seconds(action: Callable[[], object]) -> float:
    """Processor seconds of this process while ``action`` runs."""
    start = time.process_time()
    action()
    return time.process_time() - start


def wall_and_cpu_seconds(action: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the wall clock, and of all processors in this process, while ``action`` runs."""
    start, used = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - start, time.process_time() - used


def ratios(first: Callable[[], float], second: Callable[[], float], rounds: int) -> list[float]:
    """first() / second(), measured in turn so that a drift of the machine hits both; one warm-up of each."""
    first(), second()
    return [first() / second() for _ in range(rounds)]


def process_cpu_seconds(arguments: Sequence[str], variables: Mapping[str, str] | None = None) -> float:
    """Processor seconds of a command and every process it waited for. Raises where it fails.

    Python keeps what it compiles, as it does for users: compiling torch anew takes two seconds of every process.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "", **(variables or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit code {process.returncode}\n{errors}")
    return used.ru_utime + used.ru_stime


def write_document(path: Path, results: Any) -> None:
    """Write results as JSON, beside their time, machine, its load and the versions that were measured."""
    import numpy
    import torch

    from provenance.capture.machine import capture

    machine = capture()
    document = {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": {name: machine["cpu"].get(name) for name in ("model_name", "family", "model")},
        "cores": machine["cores"],
        "load_average": os.getloadavg(),
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__, "numpy": numpy.__version__},
        "capability": torch.backends.cpu.get_cpu_capability(),
        "results": results,
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

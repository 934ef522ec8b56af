"""What the operations of networks compute in an environment, limited to some instruction sets if asked.

An environment is named ``main``, after a cell of the version matrix, or by the path of a Python that has torch; behind
an ``@`` comes the limit, as the setting ``cpu_isa`` has it: ``torch-2.8.0@avx2``. A folder that an earlier measurement
left counts as well. The process is ``ndrepro.training.operators``, with the variables of a deterministic run of one
thread.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from ndrepro.execution.environments import matrix
from ndrepro.execution.sandbox.passed_variables import passed_variables
from ndrepro.protocol import extras
from ndrepro.protocol.errors import NdreproError, UsageError, suggestion
from ndrepro.protocol.experiment.determinism import CPU_ISAS, variables
from ndrepro.protocol.image_reference import MAIN
from ndrepro.protocol.messages import read_json
from ndrepro.protocol.operators.outputs import ARRAYS, INDEX, OperatorOutputs
from ndrepro.protocol.project_folders import CODE


@dataclass(frozen=True)
class Source:
    """Where outputs come from: an environment's name, or a path; and the instruction sets that it may use."""

    name: str
    cpu_isa: str = "native"

    @classmethod
    def parse(cls, text: str) -> Source:
        """``torch-2.8.0@avx2``, ``main``, ``/path/to/python``, a folder of outputs. Raises UsageError."""
        name, at, isa = text.rpartition("@")
        if not at or ("/" in text and os.path.exists(text)):
            name, isa = text, "native"
        if isa not in CPU_ISAS:
            raise UsageError(f"{text}: no instruction sets '{isa}'", suggestion(isa, CPU_ISAS))
        if "/" not in name and name != MAIN:
            matrix.cell(name)  # raises UsageError with the nearest names
        elif "/" in name and not (os.path.isfile(name) or os.path.isfile(os.path.join(name, INDEX))):
            raise UsageError(f"{name}: neither a Python nor a folder of outputs", "see `ndrepro operators measure`")
        return cls(name, isa)

    @property
    def label(self) -> str:
        """As it was asked for."""
        return self.name if self.cpu_isa == "native" else f"{self.name}@{self.cpu_isa}"

    @property
    def is_folder(self) -> bool:
        """Whether it was measured before."""
        return "/" in self.name and os.path.isdir(self.name)

    def python(self) -> str:
        """The interpreter to start; an environment that is missing is made, which may take minutes.

        Raises MissingExtra where the main one has no torch, EnvironmentMissing where another cannot be made.
        """
        if "/" in self.name:
            return self.name
        if self.name != MAIN:
            return str(matrix.create(matrix.cell(self.name)))
        extras.require("torch")
        return sys.executable


def measure(source: Source, folder: Path, only: str = "") -> Path:
    """The folder of the source's outputs: ``folder``, made and filled, or the one that it names.

    Only operations whose name holds ``only`` are computed.

    Raises NdreproError where its process fails.
    """
    if source.is_folder:
        return Path(source.name)
    python = source.python()
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        **passed_variables(os.environ),
        **variables("deterministic", 1, source.cpu_isa),
        "PYTHONPATH": str(CODE),
        "PYTHONNOUSERSITE": "1",
    }
    words = [python, "-m", "ndrepro.training.operators", str(folder.absolute()), only]
    done = subprocess.run(words, env=environment, cwd=folder, capture_output=True, text=True, errors="replace")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        how = f"signal {-done.returncode}" if done.returncode < 0 else last
        raise NdreproError(f"{source.label}: its operations were not measured: {how[:300]}", "it needs torch and numpy")
    return folder


def outputs_in(folder: Path) -> OperatorOutputs:
    """What a measurement left in a folder. Raises NdreproError for anything else."""
    if not (folder / ARRAYS).is_file():
        raise NdreproError(f"{folder}: it has no {ARRAYS}", "measure again: ndrepro operators measure ENV -o FOLDER")
    return OperatorOutputs.from_json(read_json(folder / INDEX), str(folder / INDEX))

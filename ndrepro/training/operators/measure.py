"""Writes what this environment computes: ``python -m ndrepro.training.operators FOLDER [TEXT]``.

In:   the variables of the process (``ndrepro.protocol.experiment.determinism``); with TEXT, only operations whose name
      holds it.
Out:  ``outputs.npz``, every output and gradient under its number, bfloat16 as whole numbers of the same bits;
      ``outputs.json`` (``ndrepro.protocol.operators.outputs``), what each number is and which operations this torch
      refused.

One thread and deterministic algorithms, as runs of one thread have them.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ndrepro.protocol.operators.outputs import ARRAYS, INDEX, OperatorOutput, OperatorOutputs
from ndrepro.training.compute import torch_compat
from ndrepro.training.layers.arithmetic import TORCH
from ndrepro.training.operators import network_cases, transformer_cases
from ndrepro.training.operators.case import DTYPES, Case


def main(arguments: Sequence[str]) -> int:
    """Measure into the folder that is named; returns the exit code."""
    folder, only = Path(arguments[0]), "".join(arguments[1:])
    torch.set_num_threads(1)
    torch_compat.set_deterministic_algorithms(True)
    arrays: dict[str, np.ndarray] = {}
    chosen = ((case, name) for name in DTYPES for case in _cases(name) if only in case.operation)
    found = [output for case, name in chosen for output in _measured(case, name, arrays)]
    np.savez(folder / ARRAYS, **arrays)  # type: ignore[arg-type]
    document = OperatorOutputs(torch.__version__, np.__version__, _capability(), tuple(found)).to_json()
    (folder / INDEX).write_text(json.dumps(document), encoding="utf-8")
    return 0


def _cases(dtype: str) -> Iterator[Case]:
    yield from network_cases.cases(DTYPES[dtype], TORCH)
    yield from transformer_cases.cases(DTYPES[dtype])


def _measured(case: Case, dtype: str, arrays: dict[str, np.ndarray]) -> list[OperatorOutput]:
    """The outputs of a case, whose numbers go into ``arrays``; one line where this torch does not compute it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a release may warn of what another does silently
            outputs = list(case.outputs())
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        reason = str(error).strip().splitlines()[0][:200]
        return [OperatorOutput(case.operation, case.shape, dtype, "output", None, reason)]
    found = []
    for name, tensor in outputs:
        arrays[str(len(arrays))] = _array(tensor)
        found.append(OperatorOutput(case.operation, case.shape, dtype, name, str(len(arrays) - 1)))
    return found


def _array(tensor: Tensor) -> np.ndarray:
    plain = tensor.detach().clone(memory_format=torch.contiguous_format)
    array: np.ndarray = (plain.view(torch.int16) if plain.dtype == torch.bfloat16 else plain).numpy()
    return array


def _capability() -> str:
    lines = [line for line in torch.__config__.show().splitlines() if "CPU capability usage" in line]
    return lines[0].split(":")[-1].strip() if lines else ""

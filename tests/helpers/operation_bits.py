"""Digests of the networks' operations, forward and backward, on fixed inputs: ``python operation_bits.py`` prints JSON.

Runs in any environment of the version matrix, under the level's variables; needs only numpy, torch and the inner
half. Names that begin with "torch " are those of torch itself for what ``ndrepro.training.layers.canonical_arithmetic``
computes in its own way.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import torch
from torch import Tensor

from ndrepro.training.compute import torch_compat
from ndrepro.training.layers.arithmetic import TORCH
from ndrepro.training.layers.canonical_arithmetic import CANONICAL
from ndrepro.training.operators import network_cases
from ndrepro.training.operators.case import Case

# what of torch itself is compared beside the canonical form
_TORCHS_OWN = ("sqrt", "baddbmm", "inverse_sqrt")


def cases() -> Iterator[tuple[str, Case]]:
    yield from ((case.name, case) for case in network_cases.cases(torch.float32, CANONICAL))
    for case in (*network_cases.pointwise(torch.float32, TORCH), *network_cases.matrices(torch.float32, TORCH)):
        if case.operation in _TORCHS_OWN:
            yield f"torch {case.name}", case


def digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.detach().contiguous().numpy().tobytes()).hexdigest()[:16]


def main() -> None:
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False
    torch_compat.set_deterministic_algorithms(True)
    print(
        json.dumps({f"{name}: {output}": digest(tensor) for name, case in cases() for output, tensor in case.outputs()})
    )


if __name__ == "__main__":
    main()

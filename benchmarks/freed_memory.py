"""What a training step costs where freed memory stays with the process, beside one where it goes back to the kernel.

The allocator is set once for a process, so each measurement is a process of its own; both kinds take turns.
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.deconvolution import training_step
from benchmarks.measure import Result, cpu_seconds, ratios, result

IMAGES, STEPS = 64, 2


def steps(arch: str, rounds: int = 3) -> list[Result]:
    """Steps with batch norm and with deconvolution, one thread."""
    return [_beside(arch, method, rounds) for method in ("bn", "nd")]


def _beside(arch: str, method: str, rounds: int) -> Result:
    values = ratios(lambda: _measured(arch, method, "keep"), lambda: _measured(arch, method, "return"), rounds)
    return result(f"a step of {arch}_{method}, freed memory kept", values, None, "x freed memory returned")


def _measured(arch: str, method: str, freed: str) -> float:
    command = [sys.executable, "-m", "benchmarks.freed_memory", arch, method, freed]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main(arch: str, method: str, freed: str) -> None:
    """Print the processor seconds of some steps after one that is not counted; ``freed`` is "keep" or "return"."""
    import torch

    from ndrepro.training import models
    from ndrepro.training.compute import memory
    from ndrepro.training.deconv_kernels.kernels import use_fast_kernels

    if freed == "keep":
        memory.keep_freed()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = models.build(arch, method, 10).train()
    use_fast_kernels(net)
    step = training_step(net, IMAGES)
    step()
    print(cpu_seconds(lambda: [step() for _ in range(STEPS)]))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""How a run may be carried out beyond the plain way, and what cannot be combined: asked before anything starts.

* ``processes``: each batch is shared out to so many processes, one a GPU; ``statistics`` says over what the layers
  that look at the whole batch (batch norm, deconvolution) look then: "global", the whole batch, or "process", the
  process's own share.
* ``precision``: "fp32"; "tf32", products of matrices with ten bits of mantissa on NVIDIA GPUs since Ampere; "bf16",
  autocast, parameters and whitening stay float32; "auto", what the determinism level has: tf32 for free, else fp32.
* ``compile``: ``torch.compile``.
* ``deconv_kernel``: how deconvolution layers evaluate the same function: "fast" (``ndrepro.training.deconv_kernels``)
  or "reference", the equations one by one, with which every run before this setting was made.

What only the machine can tell (no such GPU, no compiler) is checked by ``ndrepro.training.compute.precision``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ndrepro.protocol.errors import UsageError

if TYPE_CHECKING:
    from ndrepro.protocol.experiment.experiment import Experiment

STATISTICS = ("global", "process")
PRECISIONS = ("auto", "fp32", "tf32", "bf16")
DECONV_KERNELS = ("reference", "fast")


# the canonical level is one order of float32 operations, written out: all that it allows
_CANONICAL = {"processes": (1,), "precision": ("auto", "fp32"), "compile": (False,)}


def check(experiment: Experiment) -> None:
    """Raises UsageError, with a cure, for settings that no run could mean together."""
    processes, precision = experiment.processes, experiment.precision
    if experiment.determinism == "canonical":
        _check_canonical(experiment)
    if processes > experiment.batch_size:
        raise UsageError(
            f"processes={processes}, batch_size={experiment.batch_size}: a process would have no image of a batch",
            "choose fewer processes or a larger batch",
        )
    if precision == "tf32" and experiment.device == "cpu":
        raise UsageError(
            "precision=tf32 with device=cpu: TF32 is a mode of NVIDIA GPUs", "choose precision=fp32, or device=cuda"
        )
    if experiment.compile and processes > 1 and experiment.statistics == "global":
        raise UsageError(
            f"compile=true with processes={processes} and statistics=global: statistics are exchanged in between",
            "add --set statistics=process, or leave compile out",
        )


def _check_canonical(experiment: Experiment) -> None:
    if experiment.threads != 1:
        raise UsageError(
            f"threads={experiment.threads} under determinism=canonical: it is defined with one thread",
            "add --set threads=1",
        )
    for key, allowed in _CANONICAL.items():
        if (value := experiment.value(key)) not in allowed:
            raise UsageError(
                f"{key}={str(value).lower()} under determinism=canonical: it is defined for one process, in float32, "
                "not compiled",
                f"leave {key} out, or choose --determinism deterministic",
            )
    if experiment.deconv_kernel != "reference":
        raise UsageError(
            f"deconv_kernel={experiment.deconv_kernel} under determinism=canonical: it is defined for the reference "
            "kernel",
            "add --set deconv_kernel=reference",
        )

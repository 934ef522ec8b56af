"""How a run may be carried out beyond the plain way; ``validation`` refuses what cannot be combined.

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

STATISTICS = ("global", "process")
PRECISIONS = ("auto", "fp32", "tf32", "bf16")
DECONV_KERNELS = ("reference", "fast")

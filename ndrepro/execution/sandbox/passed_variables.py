"""The environment variables that a confined process inherits: those that move numbers or find libraries, no other."""

from __future__ import annotations

import re
from collections.abc import Mapping

from provenance.redaction.redact import redact_tree

_PREFIXES = (
    "ATEN_ BLIS_ CUBLAS_ CUBLASLT_ CUDA_ CUDNN_ DNNL_ GOMP_ GOTO_ KMP_ LC_ MALLOC_ MKL_ NCCL_ NPY_ NUMEXPR_ NVIDIA_ "
    "NVPL_ OMP_ ONEDNN_ OPENBLAS_ PYTORCH_ TBB_ TORCH_NCCL_ TORCHINDUCTOR_ TRITON_ VECLIB_"
)
_NAMES = "GLIBC_TUNABLES LANG LANGUAGE LD_LIBRARY_PATH PATH TZ"
# folders of this machine, which a sandbox does not show
_NOT_INSIDE = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
_ALLOWED = re.compile(f"(?:{'|'.join(_PREFIXES.split())}).*|{'|'.join(_NAMES.split())}", re.DOTALL)


def passed_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Those of ``environment`` that are passed on; one that looks like a secret is not."""
    allowed = {
        name: value for name, value in environment.items() if _ALLOWED.fullmatch(name) and name not in _NOT_INSIDE
    }
    redacted = redact_tree(allowed)
    return {name: value for name, value in allowed.items() if redacted.get(name) == value}

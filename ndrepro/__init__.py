"""Network deconvolution, reproduced: experiments that are trained, recorded, signed, and run again.

``__all__`` is the public interface, described in docs/reference/python.md; other modules are internal and may change.

``ndrepro.api``         the public functions
``ndrepro.protocol``    what an experiment is, and the files that parent and child exchange; standard library only
``ndrepro.training``    the inner half: trains. Runs are started as ``python -m ndrepro.training RUN_DIR``
``ndrepro.execution``   the outer half: makes environments, launches training, has every run recorded
``ndrepro.analysis``    from verified runs to numbers
``ndrepro.cli``         the command line: parses, calls one function, prints

The recorder is a package of its own, ``provenance``, which knows nothing of training. The public names are looked up
on first use (PEP 562): importing the package, as the training process does in old environments, imports nothing else.
"""

from __future__ import annotations

import typing

__all__ = ["deconvolve", "diff", "read_runs", "record", "reproduce", "verify"]
__version__ = "0.1.0"

if typing.TYPE_CHECKING:
    from ndrepro.api import diff, read_runs, reproduce, verify
    from ndrepro.training.deconv_kernels.conversion import deconvolve
    from provenance.recording.script_run import record
else:

    def __getattr__(name: str) -> typing.Any:
        import importlib

        if name not in __all__:
            raise AttributeError(f"module 'ndrepro' has no attribute {name!r}")
        elsewhere = {
            "deconvolve": "ndrepro.training.deconv_kernels.conversion",
            "record": "provenance.recording.script_run",
        }
        return getattr(importlib.import_module(elsewhere.get(name, "ndrepro.api")), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

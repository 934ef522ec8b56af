"""The recorder: it captures how a result came about, signs what it saw, and lets anyone check it later.

Framework-neutral: nothing here knows of training, and importing the package imports nothing else. ``provenance.record``
records any Python script; it is looked up on first use (PEP 562), so that the half of the package which runs inside
old environments stays light. Everything but the names in ``__all__`` is internal and may change.
"""

from __future__ import annotations

import typing

__all__ = ["record"]

if typing.TYPE_CHECKING:
    from provenance.recording.script_run import record
else:

    def __getattr__(name: str) -> typing.Any:
        if name == "record":
            from provenance.recording.script_run import record

            return record
        raise AttributeError(f"module 'provenance' has no attribute {name!r}")

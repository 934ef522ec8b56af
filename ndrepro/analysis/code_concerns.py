"""What a manifest says of executed code that its digests do not vouch for: edited libraries, and code of nobody's.

A run with a concern may be as honest as any: a profiler's hook is one too. But its results are not those of the named
versions alone, so nobody can conclude from an equal repetition that they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ndrepro.text.plurals import plural
from provenance.attestation.manifest import Manifest
from provenance.attestation.packages import edited_files, foreign_files
from provenance.capture.unavailable import is_missing

_NAMED = 3
# what uv and virtualenv add to an environment, and no RECORD lists: every process of it executes them
_OF_ENVIRONMENTS = {"_virtualenv.pth", "_virtualenv.py"}


def code_concerns(manifest: Manifest) -> tuple[str, ...]:
    """A sentence for each reason to doubt that the recorded code and versions alone gave the results; () for none."""
    return (*_library_concerns(manifest), *_foreign_concerns(manifest))


def code_is_known(manifest: Manifest) -> bool:
    """Whether it was recorded at all which libraries were edited; earlier manifests do not say."""
    return edited_files(manifest) is not None


def _library_concerns(manifest: Manifest) -> Iterator[str]:
    edited = edited_files(manifest)
    if edited is None:
        return
    if is_missing(edited):
        yield f"libraries not compared with their RECORDs: {_reason(edited)}"
    elif edited:
        yield f"edited libraries: {plural(len(edited), 'file')} ({_first(edited)})"
    captured = manifest.machine["imported_files"]
    witness = captured.get("witness") if isinstance(captured, Mapping) else None
    if is_missing(witness):
        yield f"libraries compared by the training process alone: {_reason(witness)}"


def _foreign_concerns(manifest: Manifest) -> Iterator[str]:
    foreign = foreign_files(manifest)
    if foreign is None:
        return
    if is_missing(foreign):
        yield f"loaded code not compared with what is installed: {_reason(foreign)}"
    elif foreign:
        count = manifest.machine["loaded_code"].get("count")
        known = count if isinstance(count, int) and count > len(foreign) else len(foreign)
        hook = {name.rpartition("/")[2] for name in foreign} <= _OF_ENVIRONMENTS
        cure = "; uv or virtualenv wrote it for pip: remove it from the environment" if hook else ""
        yield f"code that belongs to no distribution: {plural(known, 'file')} ({_first(foreign)}){cure}"


def _first(names: Mapping[str, Any]) -> str:
    shown = sorted(names)[:_NAMED]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")


def _reason(missing: Any) -> str:
    return str(next(iter(missing.values()), "?"))

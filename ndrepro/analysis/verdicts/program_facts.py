"""Facts of a recorded program that its repetition records, too, and that are no results: those that differ are named.

    outputs.unmatched    patterns of outputs that no file matched
    outputs.removed      files that were there before the start, and not at the end
    outputs.folders      folders that it wrote into and that were there before the start
    executable           the digest of what was started, unless it is a Python, whose version is compared instead

What else a recorder says of a program is compared by the other claims, checked by ``ndrepro verify``, or its signer's
word alone (``ASSERTED_OF_PROGRAMS``).
"""

from __future__ import annotations

from typing import Any

from ndrepro.analysis.verdicts.run_conditions import difference_in_words
from ndrepro.protocol.program_record import EXECUTABLE, FOLDERS, OUTPUTS
from ndrepro.protocol.verdicts import ClaimCheck, claim
from ndrepro.text.plurals import in_room
from provenance.attestation.manifest import Manifest
from provenance.capture.unavailable import at


def facts_claim(then: Manifest, again: Manifest, *, is_python: bool) -> tuple[ClaimCheck, ...]:
    """The claim that names what differs between a program's manifest and its repetition's; () for nothing."""
    before, after = (_facts(manifest, is_python) for manifest in (then, again))
    unequal = [name for name in before if before[name] != after.get(name)]
    lines = [f"{name}: {difference_in_words(before[name], after.get(name))}" for name in unequal]
    return (claim("facts of the run", None, in_room(lines)),) if lines else ()


def _facts(manifest: Manifest, is_python: bool) -> dict[str, Any]:
    outputs, executable = manifest.byproduct(OUTPUTS), manifest.dependency(EXECUTABLE)
    facts: dict[str, Any] = {}
    if outputs is not None:
        facts = {f"files {name}": at(outputs.annotations, name) or [] for name in ("unmatched", "removed")}
        if (folders := at(outputs.annotations, FOLDERS)) is not None:  # earlier releases recorded none
            facts["folders that were there"] = folders
    if executable is not None and not is_python:
        facts["executable"] = dict(executable.digest or {})
    return facts

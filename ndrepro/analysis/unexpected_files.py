"""Signed files of a run folder that no recorder writes: a verdict names them, since it compares them with nothing.

A signature covers whatever its author put into the folder; a file of invented results beside the recorded ones would be
signed, verified and part of a run that is "identical", without any of these words being about it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ndrepro.protocol.verdicts import NOT_CHECKED, ClaimCheck
from ndrepro.text.plurals import first_of
from provenance.attestation.manifest import Artifact

_COMMON = frozenset({"environment.json", "metrics.jsonl", "log.txt", "source.patch", "untracked/"})
_TRAINING = frozenset(
    {
        *(
            "request.json",
            "origin.json",
            "dataset.json",
            "dataset.sha256",
            "model.json",
            "timing.jsonl",
            "states.jsonl",
        ),
        *("trail.bin", "weights.safetensors", "evaluated.safetensors", "evaluation.json", "result.json"),
        *("network/", "checkpoints/", "attempts/"),
    }
)
_PROGRAM = frozenset({"program.json", "processes.json", "inputs.json", "outputs.json"}) | {
    *("trail/", "inputs/", "outputs/", "data/")
}
_SCRIPT = frozenset({"artifacts/", "attempts/", "trail/"})
_OF_A_RANK = re.compile(r"result-rank-[0-9]+\.json")


def unexpected_files(artifacts: Sequence[Artifact]) -> tuple[str, ...]:
    """The paths that no recorder of this kind of run writes, sorted."""
    paths = {item.path for item in artifacts}
    kind = _TRAINING if "request.json" in paths else _PROGRAM if "program.json" in paths else _SCRIPT
    return tuple(sorted(path for path in paths if not _is_recorded(path, _COMMON | kind)))


def unexpected_claim(artifacts: Sequence[Artifact]) -> tuple[ClaimCheck, ...]:
    """The claim that names them; empty where there are none."""
    found = unexpected_files(artifacts)
    if not found:
        return ()
    return (ClaimCheck("other files", NOT_CHECKED, f"put there by the signer, of no recorder: {first_of(found, 3)}"),)


def _is_recorded(path: str, known: frozenset[str]) -> bool:
    top, slash, _ = path.partition("/")
    return f"{top}{slash}" in known or ("result.json" in known and _OF_A_RANK.fullmatch(path) is not None)

"""Signed files of a run folder that no recorder writes: a verdict names them, since it compares them with nothing.

A signature covers whatever its author put into the folder; a file of invented results beside the recorded ones would be
signed, verified and part of a run that is "identical", without any of these words being about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import LISTINGS
from ndrepro.protocol.verdicts import NOT_CHECKED, ClaimCheck
from ndrepro.text.plurals import first_of
from provenance.attestation.manifest import Artifact
from provenance.capture.source_patch import PATCH
from provenance.capture.untracked_copies import UNTRACKED

_RUN = RunFolder(Path())


def _known(files: Iterable[str | Path], folders: Iterable[str | Path]) -> frozenset[str]:
    return frozenset([*map(str, files), *(f"{folder}/" for folder in folders)])


_COMMON = _known((_RUN.environment, _RUN.metrics, _RUN.log, PATCH), (UNTRACKED,))
_TRAINING = _known(
    (
        *(_RUN.request, _RUN.origin, _RUN.dataset, _RUN.dataset_listing, _RUN.model, _RUN.timing, _RUN.states),
        *(_RUN.trail, _RUN.weights, _RUN.evaluated_weights, _RUN.evaluation, _RUN.result),
    ),
    (_RUN.network, _RUN.checkpoints, "attempts"),
)
_PROGRAM = _known(
    (_RUN.program, _RUN.processes, _RUN.inputs, _RUN.outputs),
    (_RUN.trails, _RUN.input_copies, _RUN.output_copies, LISTINGS),
)
_SCRIPT = _known((), ("artifacts", "attempts", _RUN.trails))
_OF_A_RANK = re.compile(r"result-rank-[0-9]+\.json")


def unexpected_files(artifacts: Sequence[Artifact]) -> tuple[str, ...]:
    """The paths that no recorder of this kind of run writes, sorted."""
    paths = {item.path for item in artifacts}
    kind = _TRAINING if str(_RUN.request) in paths else _PROGRAM if str(_RUN.program) in paths else _SCRIPT
    return tuple(sorted(path for path in paths if not _is_recorded(path, _COMMON | kind)))


def unexpected_claim(artifacts: Sequence[Artifact]) -> tuple[ClaimCheck, ...]:
    """The claim that names them; empty where there are none."""
    found = unexpected_files(artifacts)
    if not found:
        return ()
    return (ClaimCheck("other files", NOT_CHECKED, f"put there by the signer, of no recorder: {first_of(found, 3)}"),)


def _is_recorded(path: str, known: frozenset[str]) -> bool:
    top, slash, _ = path.partition("/")
    return f"{top}{slash}" in known or (str(_RUN.result) in known and _OF_A_RANK.fullmatch(path) is not None)

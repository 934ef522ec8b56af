"""Signed files of a run folder that no recorder writes: a verdict names them, since it compares them with nothing.

A signature covers whatever its author put into the folder; a file of invented results beside the recorded ones would be
signed, verified and part of a run that is "identical", without any of these words being about it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.training_record import NETWORK
from ndrepro.protocol.verdicts import NOT_CHECKED, ClaimCheck
from ndrepro.text.plurals import first_of
from provenance.attestation.manifest import DATASET, Manifest
from provenance.capture.source_patch import PATCH
from provenance.capture.unavailable import at, mapping
from provenance.capture.untracked_copies import UNTRACKED
from provenance.capture.work_tree import SUBMODULES

_RUN = RunFolder(Path())


def _known(files: Iterable[str | Path], folders: Iterable[str | Path]) -> frozenset[str]:
    return frozenset([*map(str, files), *(f"{folder}/" for folder in folders)])


_COMMON = _known((_RUN.environment, _RUN.metrics, _RUN.log, PATCH), (UNTRACKED, SUBMODULES))
_TRAINING = _known(
    (
        *(_RUN.request, _RUN.origin, _RUN.dataset, _RUN.dataset_listing, _RUN.model, _RUN.timing, _RUN.states),
        *(_RUN.trail, _RUN.weights, _RUN.result),
    ),
    (),
)
_EVALUATION = _known((_RUN.evaluated_weights, _RUN.evaluation), ())
_PROGRAM = _known(
    (_RUN.program, _RUN.processes, _RUN.inputs, _RUN.outputs), (_RUN.trails, _RUN.input_copies, _RUN.output_copies)
)
_SCRIPT = _known((), ("artifacts", _RUN.trails))
_OF_A_RANK = re.compile(r"result-rank-([0-9]+)\.json")
_EARLIER_ATTEMPT = re.compile(rf"attempts/[0-9]+/{re.escape(str(_RUN.manifest))}")


def unexpected_files(manifest: Manifest) -> tuple[str, ...]:
    """The paths that no recorder writes for such a run, sorted."""
    paths = {item.path for item in manifest.artifacts}
    if str(_RUN.request) in paths:
        known = _COMMON | _of_training(manifest, paths)
    else:
        known = _COMMON | (_PROGRAM | _listings(manifest) if str(_RUN.program) in paths else _SCRIPT)
    return tuple(sorted(path for path in paths if not _is_recorded(path, known)))


def unexpected_claim(manifest: Manifest) -> tuple[ClaimCheck, ...]:
    """The claim that names them; empty where there are none."""
    found = unexpected_files(manifest)
    if not found:
        return ()
    return (ClaimCheck("other files", NOT_CHECKED, f"put there by the signer, of no recorder: {first_of(found, 3)}"),)


def _of_training(manifest: Manifest, paths: Iterable[str]) -> frozenset[str]:
    """The names of a training run: those of an evaluation, a network or a process only where it has such."""
    asked = manifest.external_parameters
    known = set(_TRAINING)
    if at(asked, "segment", "epochs") == 0:
        known |= _EVALUATION
    network = manifest.dependency(NETWORK)
    files = mapping(at(network.annotations if network else None, "files"))
    known |= {f"{_RUN.network}/{name}" for name in files}
    processes = at(asked, "experiment", "processes")
    for path in paths:
        rank = _OF_A_RANK.fullmatch(path)
        if rank and isinstance(processes, int) and int(rank[1]) < processes:
            known.add(path)
        if RunFolder.checkpoint_step(path) is not None:
            known.add(path)
    return frozenset(known)


def _listings(manifest: Manifest) -> frozenset[str]:
    """The listings of files that the declared data sets name."""
    found = (at(item.annotations, "listing") for item in manifest.dependencies if item.name.startswith(DATASET))
    return frozenset(path for path in found if isinstance(path, str))


def _is_recorded(path: str, known: frozenset[str]) -> bool:
    top, slash, _ = path.partition("/")
    return path in known or bool(slash and f"{top}/" in known) or _EARLIER_ATTEMPT.fullmatch(path) is not None

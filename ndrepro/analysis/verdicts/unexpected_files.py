"""Signed files of a run folder that a verdict says nothing about: it names them, since it compares them with nothing.

A signature covers whatever its author put into the folder; a file of invented results beside the recorded ones would be
signed, verified and part of a run that is "identical", without any of these words being about it. A file of a training
run is compared by a rule below, or has the very bytes of the repetition's, or is named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ndrepro.analysis.verdicts.reproduction_claims import (
    DATA,
    END_STATE,
    FINAL_WEIGHTS,
    RESULTS,
    STEPS,
)
from ndrepro.analysis.verdicts.reproduction_claims import NETWORK as NETWORK_CLAIM
from ndrepro.analysis.verdicts.run_conditions import ASSERTED
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.project_folders import PACKAGES
from ndrepro.protocol.training_record import NETWORK
from ndrepro.protocol.verdicts import NOT_CHECKED, RECORDED_CODE, ClaimCheck
from ndrepro.text.plurals import in_room
from provenance.attestation.manifest import DATASET, SOURCE, Manifest
from provenance.capture.source_patch import PATCH
from provenance.capture.unavailable import at, mapping
from provenance.capture.untracked_copies import UNTRACKED
from provenance.capture.work_tree import SUBMODULES
from provenance.comparison.kept_source import described_files

_RUN = RunFolder(Path())


def _known(files: Iterable[str | Path], folders: Iterable[str | Path]) -> frozenset[str]:
    return frozenset([*map(str, files), *(f"{folder}/" for folder in folders)])


_COMMON = _known((_RUN.environment, _RUN.metrics, _RUN.log, PATCH), (UNTRACKED, SUBMODULES))
# file of a training run -> the check of `verify` or the claim that says what it holds
RULES = {
    **{str(_RUN.request): "check 9", str(_RUN.origin): "check 14", str(_RUN.result): "checks 10 and 14"},
    **dict.fromkeys(map(str, (_RUN.environment, _RUN.timing, _RUN.log)), ASSERTED),
    **{str(_RUN.dataset): DATA, str(_RUN.model): NETWORK_CLAIM, str(_RUN.metrics): RESULTS, str(_RUN.trail): STEPS},
    **{str(_RUN.states): END_STATE, str(_RUN.weights): FINAL_WEIGHTS, PATCH: RECORDED_CODE},
}
_TRAINING = _known((*RULES, _RUN.dataset_listing), ())
_EVALUATION = _known((_RUN.evaluated_weights, _RUN.evaluation), ())
_PROGRAM = _known((_RUN.program, _RUN.processes, _RUN.inputs, _RUN.outputs), (_RUN.input_copies, _RUN.output_copies))
_SCRIPT = _known((), ("artifacts",))
_TRAIL = re.compile(rf"{_RUN.trails}/trail-[0-9]+-[0-9]+-[0-9]+\.bin")
# untracked source that a training process imports
_EXECUTED = re.compile(rf"{UNTRACKED}/(?:{'|'.join(PACKAGES)})/.*\.py")
_ATTEMPTS = "attempts"
_OF_A_RANK = re.compile(r"result-rank-([0-9]+)\.json")
_EARLIER_ATTEMPT = re.compile(rf"{_ATTEMPTS}/[0-9]+/{re.escape(str(_RUN.manifest))}")


def unexpected_files(manifest: Manifest) -> tuple[str, ...]:
    """The paths that no recorder writes for such a run, sorted."""
    paths = {item.path for item in manifest.artifacts}
    if str(_RUN.request) in paths:
        known = _COMMON | _of_training(manifest, paths)
    else:
        of_program = _PROGRAM | _listings(manifest) | {*filter(_TRAIL.fullmatch, paths)}
        known = _COMMON | (of_program if str(_RUN.program) in paths else _SCRIPT)
    return tuple(sorted(path for path in paths if not _is_recorded(path, known)))


def unexpected_claim(manifest: Manifest, again: Manifest | None = None) -> tuple[ClaimCheck, ...]:
    """The claim that names them, and those that nothing is compared with; empty where there are none.

    Args:
        manifest: of a run of any kind.
        again: of a training run that repeats it.
    """
    found = unexpected_files(manifest)
    left = sorted({*_uncompared(manifest, again)}.difference(found))
    parts = [f"put there by the signer, of no recorder: {', '.join(found)}"] if found else []
    parts += [f"compared with nothing: {', '.join(left)}"] if left else []
    return (ClaimCheck("other files", NOT_CHECKED, in_room(parts)),) if parts else ()


def _uncompared(manifest: Manifest, again: Manifest | None) -> Iterator[str]:
    """Earlier attempts' manifests, and what the source is not said to have; of a training run every file that has no
    rule, and other bytes than the repetition's.
    """
    source = manifest.dependency(SOURCE)
    described = described_files((source.annotations or {}) if source else {})
    if again is None:
        tops = (UNTRACKED, SUBMODULES, _ATTEMPTS)
        yield from (a.path for a in manifest.artifacts if a.path.partition("/")[0] in tops and a.path not in described)
        return
    by_rule = {*RULES, *filter(_EXECUTED.fullmatch, described), *_network_files(manifest)}
    same = {(item.path, item.sha256) for item in again.artifacts}
    for item in manifest.artifacts:
        known = item.path in by_rule or RunFolder.checkpoint_step(item.path) is not None
        if not known and (item.path, item.sha256) not in same:
            yield item.path


def _of_training(manifest: Manifest, paths: Iterable[str]) -> frozenset[str]:
    """The names of a training run: those of an evaluation, a network or a process only where it has such."""
    asked = manifest.external_parameters
    known = set(_TRAINING)
    if at(asked, "segment", "epochs") == 0:
        known |= _EVALUATION
    known |= _network_files(manifest)
    processes = at(asked, "experiment", "processes")
    for path in paths:
        rank = _OF_A_RANK.fullmatch(path)
        if rank and isinstance(processes, int) and int(rank[1]) < processes:
            known.add(path)
        if RunFolder.checkpoint_step(path) is not None:
            known.add(path)
    return frozenset(known)


def _network_files(manifest: Manifest) -> frozenset[str]:
    """The files of a network of its author's own, which every repetition executes."""
    network = manifest.dependency(NETWORK)
    files = mapping(at(network.annotations if network else None, "files"))
    return frozenset(f"{_RUN.network}/{name}" for name in files)


def _listings(manifest: Manifest) -> frozenset[str]:
    """The listings of files that the declared data sets name."""
    found = (at(item.annotations, "listing") for item in manifest.dependencies if item.name.startswith(DATASET))
    return frozenset(path for path in found if isinstance(path, str))


def _is_recorded(path: str, known: frozenset[str]) -> bool:
    top, slash, _ = path.partition("/")
    return path in known or bool(slash and f"{top}/" in known) or _EARLIER_ATTEMPT.fullmatch(path) is not None

"""Which kind of run a manifest is of: checks, displays and re-execution are chosen by it, each in one table.

training   ``ndrepro run``: the trainer of this project, in a process of its own
script     ``ndrepro.record(...)``: the body of a ``with`` statement, which signs itself
program    ``ndrepro record -- COMMAND``: any command, watched by a process that it does not know
other      a build type that this release does not know
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import BUILD_TYPE as PROGRAM_TYPE
from provenance.attestation.manifest import Manifest
from provenance.attestation.verdict import ExtraCheck

TRAINING_TYPE = "urn:ndrepro:training:v1"
SCRIPT_TYPE = "urn:ndrepro:script:v1"  # provenance.recording.script_record
TRAINING, SCRIPT, PROGRAM, OTHER = "training", "script", "program", "other"
# chooses the checks from 9 on for a manifest; every reader of runs is given them: ``ndrepro.execution.verification``
KindChecks = Callable[[Manifest | None], Iterable[ExtraCheck]]
KINDS = {TRAINING_TYPE: TRAINING, SCRIPT_TYPE: SCRIPT, PROGRAM_TYPE: PROGRAM}


def run_kind(manifest: Manifest) -> str:
    """The kind of run, by the build type.

    A manifest that asks for an experiment is a training run's whatever its build type says: no other name for it lets
    it pass without the checks of its contents.
    """
    return TRAINING if "experiment" in manifest.external_parameters else KINDS.get(manifest.build_type, OTHER)


def content_checks(checks: KindChecks, manifest: Manifest | None) -> Iterable[ExtraCheck]:
    """The checks of a run's contents; none where its signed files do not allow them, which of a training takes three."""
    folder = RunFolder(Path())
    needed = (folder.request, folder.environment, folder.result)
    if manifest is None or (
        run_kind(manifest) == TRAINING and not all(manifest.artifact(path.name) for path in needed)
    ):
        return ()
    return checks(manifest)

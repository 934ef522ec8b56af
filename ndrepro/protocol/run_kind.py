"""Which kind of run a manifest is of: checks, displays and re-execution are chosen by it, each in one table.

training   ``ndrepro run``: the trainer of this project, in a process of its own
script     ``ndrepro.record(...)``: the body of a ``with`` statement, which signs itself
program    ``ndrepro record -- COMMAND``: any command, watched by a process that it does not know
other      a build type that this release does not know
"""

from __future__ import annotations

from ndrepro.protocol.program_record import BUILD_TYPE as PROGRAM_TYPE
from provenance.attestation.manifest import Manifest

TRAINING_TYPE = "urn:ndrepro:training:v1"
SCRIPT_TYPE = "urn:ndrepro:script:v1"  # provenance.recording.script_record
TRAINING, SCRIPT, PROGRAM, OTHER = "training", "script", "program", "other"
KINDS = {TRAINING_TYPE: TRAINING, SCRIPT_TYPE: SCRIPT, PROGRAM_TYPE: PROGRAM}


def run_kind(manifest: Manifest) -> str:
    """The kind of run, by the build type.

    A manifest that asks for an experiment is a training run's whatever its build type says: no other name for it lets
    it pass without the checks of its contents.
    """
    return TRAINING if "experiment" in manifest.external_parameters else KINDS.get(manifest.build_type, OTHER)

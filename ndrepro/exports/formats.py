"""Every format that a run is exported to, by name: documents of bytes, a crate's folder, MLflow, TensorBoard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ndrepro.exports.archive import crate_members
from ndrepro.exports.croissant import croissant_metadata
from ndrepro.exports.cyclonedx_bom import cyclonedx_bom
from ndrepro.exports.members import write_folder
from ndrepro.exports.mlflow_run import log_to_mlflow
from ndrepro.exports.model_signature import model_signature
from ndrepro.exports.prov_document import prov_json
from ndrepro.exports.run_facts import RunFacts
from ndrepro.exports.slsa_provenance import slsa_statement
from ndrepro.exports.tensorboard_events import write_events
from ndrepro.protocol.errors import UsageError
from provenance.attestation.key_home import default_home
from provenance.formats.atomic_io import write_atomically

CRATE, MLFLOW, TENSORBOARD = "ro-crate", "mlflow", "tensorboard"


@dataclass(frozen=True)
class ExportOptions:
    """What some formats need besides the run: which model or data set of several, and the key that signs the model.

    ``model`` is its path in the run folder, ``data`` the name of a recorded data set, ``signing_key`` a file.
    """

    model: str | None = None
    data: str | None = None
    signing_key: Path | None = None


Document = Callable[[RunFacts, ExportOptions], bytes]
# each raises NotExported, KeyFileError
DOCUMENTS: Mapping[str, Document] = {
    "prov": lambda facts, options: prov_json(facts),
    "slsa": lambda facts, options: slsa_statement(facts),
    "cyclonedx": lambda facts, options: cyclonedx_bom(facts, facts.model(options.model)),
    "croissant": lambda facts, options: croissant_metadata(facts, options.data),
    "model-signing": lambda facts, options: model_signature(
        facts.model(options.model), default_home(), options.signing_key
    ),
}
FORMATS = (CRATE, *DOCUMENTS, MLFLOW, TENSORBOARD)


def export_run(facts: RunFacts, name: str, out: str, options: ExportOptions) -> str:
    """Write a run in the format ``name`` to ``out``, a file, a folder or MLflow's tracking URI; where it is now.

    Raises UsageError for a place that is taken, NotExported, StorageError, KeyFileError, MissingExtra.
    """
    if name == MLFLOW:
        made = log_to_mlflow(facts, out)
        return f"{made.tracking_uri}, run {made.run_id}"
    if name == TENSORBOARD:
        return str(write_events(facts, Path(out)))
    if name == CRATE:
        write_folder(crate_members(facts), Path(out))
    else:
        if Path(out).is_dir():
            raise UsageError(f"{out}: a folder, expected the name of a file", f"-o {out}/{name}.json")
        write_atomically(Path(out), DOCUMENTS[name](facts, options))
    return out

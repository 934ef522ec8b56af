"""A recorded run as a run of MLflow, written through MLflow's own client.

Parameters, every logged number with its step, start, end and status; the run folder's signed files and the manifest are
its artifacts, so that whoever downloads them can verify them. A folder becomes a store of its own (SQLite, artifacts
beside it); a URI names a server or another store.
"""

from __future__ import annotations

import os
import re
import sqlite3
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ndrepro.exports.members import Member, write_folder
from ndrepro.exports.run_facts import RunFacts
from ndrepro.protocol import extras
from ndrepro.protocol.errors import UsageError
from provenance.attestation.run_files import MANIFEST
from provenance.formats.atomic_io import make_folder
from provenance.formats.folder_tree import temporary_folder

if TYPE_CHECKING:
    from mlflow import MlflowClient

Item = TypeVar("Item")
# what MLflow takes in one call, and in one value
_BATCH, _PARAMETER_BATCH, _VALUE, _NAME = 1000, 100, 6000, 250
_FORBIDDEN = re.compile(r"[^\w\-. :/]", re.ASCII)
_STATUS = {"completed": "FINISHED", "interrupted": "KILLED", "killed": "KILLED", "failed": "FAILED"}


@dataclass(frozen=True)
class MlflowRun:
    """Where the run is: the store's URI and the identifiers of experiment and run in it."""

    tracking_uri: str
    experiment_id: str
    run_id: str


def log_to_mlflow(facts: RunFacts, store: str) -> MlflowRun:
    """Write a run into ``store``, a folder or a tracking URI.

    Raises MissingExtra without MLflow, UsageError for a folder with links, or whose artifacts are kept elsewhere.
    """
    local = "://" not in store
    extras.require("mlflow", *(("sqlalchemy", "alembic") if local else ()))
    # an export reports to nobody but the store that was named
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():  # of MLflow's own libraries, which nobody here can mend
        warnings.simplefilter("ignore")
        return _log(facts, Path(store).absolute() if local else None, store)


def _log(facts: RunFacts, folder: Path | None, store: str) -> MlflowRun:
    from mlflow import MlflowClient

    if folder is not None:
        make_folder(folder)
        _expect_harmless(folder, database := folder / "mlflow.db")
        store = f"sqlite:///{database}"
    client, manifest = MlflowClient(tracking_uri=store), facts.manifest
    experiment = _experiment(client, facts.name, folder)
    run = client.create_run(experiment, start_time=_milliseconds(manifest.started_on), run_name=facts.run)
    _log_values(client, run.info.run_id, facts)
    # below a folder: by itself no member may have the manifest's name
    signed = [Member(f"run/{file.path}", facts.folder / file.path, file.sha256) for file in facts.files]
    with temporary_folder("ndrepro-mlflow-") as scratch:  # what MLflow reads is what was hashed
        write_folder([*signed, Member(f"run/{MANIFEST}", facts.manifest_bytes())], scratch / "copy")
        if folder is not None:
            _expect_new(folder / "artifacts" / run.info.run_id, client.get_run(run.info.run_id).info.artifact_uri)
        client.log_artifacts(run.info.run_id, str(scratch / "copy" / "run"))
    end = _milliseconds(manifest.finished_on)
    client.set_terminated(run.info.run_id, _STATUS[manifest.outcome], end)
    return MlflowRun(store, experiment, run.info.run_id)


def _log_values(client: MlflowClient, run_id: str, facts: RunFacts) -> None:
    from mlflow.entities import Metric as LoggedMetric
    from mlflow.entities import Param, RunTag

    moment = _milliseconds(facts.manifest.finished_on)  # a row of metrics has no clock
    metrics = [LoggedMetric(mlflow_name(each.name), each.value, moment, each.step) for each in facts.metrics()]
    for batch in _batches(metrics, _BATCH):
        client.log_batch(run_id, metrics=batch)
    asked = {mlflow_name(name): value for name, value in facts.parameters.items() if 0 < len(value) <= _VALUE}
    for chunk in _batches([Param(name, value) for name, value in asked.items()], _PARAMETER_BATCH):
        client.log_batch(run_id, params=chunk)
    tags = {
        "ndrepro.run": facts.run,
        "ndrepro.manifest_sha256": facts.digest,
        "ndrepro.signers": ",".join(facts.keyids),
        "ndrepro.outcome": facts.manifest.outcome,
        **({"mlflow.source.git.commit": facts.commit} if facts.commit else {}),
    }
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def mlflow_name(name: str) -> str:
    """A name that MLflow takes for a metric or parameter: its letters only, no part of a path that leads elsewhere."""
    parts = [part for part in _FORBIDDEN.sub("_", name).split("/") if part not in ("", ".", "..")]
    return "/".join(parts)[:_NAME] or "_"


def _experiment(client: MlflowClient, name: str, folder: Path | None) -> str:
    known = client.get_experiment_by_name(name)
    place: Any = None if folder is None else (folder / "artifacts").as_uri()
    if known is not None:
        if place is not None and known.artifact_location != place:  # whoever made the store chose where it is written
            raise UsageError(
                f"{folder}: its experiment {name} keeps artifacts elsewhere: {known.artifact_location}",
                "name another folder",
            )
        return str(known.experiment_id)
    return str(client.create_experiment(name, artifact_location=place))


def _expect_harmless(folder: Path, database: Path) -> None:
    """Raises UsageError for a store whose files may lead elsewhere, or that may answer something else each time."""
    # SQLite deletes what a journal beside the database names
    found = [each.name for each in folder.iterdir() if each.is_symlink() or each.name.startswith(f"{database.name}-")]
    if database.exists() and not found:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as tables:
            found = [str(name) for (name,) in tables.execute("select name from sqlite_master where type = 'view'")]
    if found:
        raise UsageError(f"{folder}: it has links, journals or views: {', '.join(found)}", "name another folder")


def _expect_new(place: Path, uri: str | None) -> None:
    """Raises UsageError unless a run's artifacts have a new folder of their own, whatever a trigger made of it."""
    if uri != f"{place.as_uri()}/artifacts" or os.path.lexists(place):
        raise UsageError(f"{place}: not where the store keeps a new run's artifacts: {uri}", "name another folder")


def _milliseconds(time: str) -> int:
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def _batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]

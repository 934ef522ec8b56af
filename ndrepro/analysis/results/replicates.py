"""Other runs of the same experiment, read from verified manifests, by which a result is judged."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ndrepro.analysis.results.examine import is_refused, verified
from ndrepro.analysis.results.result_row import NoScore, ResultRow, experiment_of, score_of
from ndrepro.analysis.results.results import once_each
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.experiment.sections import Seeds
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.training_record import TrainingRecord
from provenance.attestation.countersignature import recorded_here
from provenance.attestation.manifest import Manifest
from provenance.attestation.trust import TrustPolicy


@dataclass(frozen=True)
class Replicates:
    """Last test accuracies (fractions) of completed runs with other seeds, and how many runs were not believed."""

    accuracies: tuple[float, ...]
    refused: int


def replicates_of(original: Manifest, runs: RunsFolder, trust: TrustPolicy) -> Replicates:
    """Completed runs below ``runs`` that differ from ``original`` in nothing but their seeds, one for each seed.

    A repetition of another run is none, since its author chose the seed, and a run of other code or data is none. Only
    runs that this machine recorded itself count: an author could hand in replicates whose spread takes any result in,
    and who countersigns them has not trained them again.
    """
    try:
        wanted = experiment_of(original)
    except NoScore:
        return Replicates((), 0)
    record = TrainingRecord.of(original)
    code, data = record.code_digest, _data_of(record)
    rows: list[ResultRow] = []
    seeds: dict[str, tuple[int, Seeds]] = {}
    refused = 0
    for folder in RunsFolder(runs.root).runs():
        if folder.root.parent.name != wanted.name or not folder.manifest.exists():
            continue
        verdict = verified(folder.manifest, trust)
        if verdict.manifest is None or is_refused(verdict) or not recorded_here(verdict, folder.ledger, trust):
            refused += 1
            continue
        try:
            found = experiment_of(verdict.manifest)
            row = score_of(verdict.manifest, folder.root, verdict)
        except NoScore:
            continue
        theirs = TrainingRecord.of(verdict.manifest)
        if (theirs.code_digest, _data_of(theirs)) == (code, data) and _unseeded(found) == _unseeded(wanted):
            rows.append(row)
            seeds[row.run_id] = found.seed, found.seeds
    counted, copies, _ = once_each(rows)
    accuracies = {seeds[row.run_id]: row.test_accuracy_percent / 100 for row in counted}
    accuracies.pop((wanted.seed, wanted.seeds), None)
    finite = tuple(accuracy for accuracy in accuracies.values() if math.isfinite(accuracy))
    return Replicates(finite, refused + len(copies))


def _data_of(record: TrainingRecord) -> set[tuple[str, str | None]]:
    return {(each.name, each.files) for each in record.datasets}


def _unseeded(experiment: Experiment) -> Experiment:
    return replace(experiment, seed=0, seeds=Seeds())

"""Other runs of the same experiment, told from verified manifests: what a result is judged by."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ndrepro.spec.errors import NdreproError, UsageError
from ndrepro.spec.experiment import Experiment, Seeds
from ndrepro.spec.layout import RunFolder, RunsFolder
from provenance.manifest import Manifest
from provenance.trust import TrustPolicy
from provenance.verify import verify


@dataclass(frozen=True)
class Replicates:
    """Last test accuracies (fractions) of completed runs with other seeds, and how many runs were not believed."""

    accuracies: tuple[float, ...]
    refused: int


def replicates_of(original: Manifest, runs: RunsFolder, trust: TrustPolicy) -> Replicates:
    """Completed runs below ``runs`` that differ from ``original`` in nothing but their seeds, one for each seed."""
    wanted = _experiment(original)
    if wanted is None:
        return Replicates((), 0)
    accuracies: dict[tuple[int, Seeds], float] = {}
    refused = 0
    for folder in RunsFolder(runs.root).runs():
        if folder.root.parent.name != wanted.name or not folder.manifest.exists():
            continue
        manifest = _believed(folder, trust)
        if manifest is None:
            refused += 1
            continue
        found = _experiment(manifest)
        if found is None or manifest.outcome != "completed" or _unseeded(found) != _unseeded(wanted):
            continue
        accuracy = _last_accuracy(manifest)
        if accuracy is not None and (found.seed, found.seeds) != (wanted.seed, wanted.seeds):
            accuracies[found.seed, found.seeds] = accuracy
    return Replicates(tuple(accuracies.values()), refused)


def _believed(folder: RunFolder, trust: TrustPolicy) -> Manifest | None:
    verdict = verify(folder.manifest, trust=trust, manifest_only=True)
    return verdict.manifest if verdict.ok else None


def _experiment(manifest: Manifest) -> Experiment | None:
    try:
        return Experiment.from_json(manifest.external_parameters["experiment"])
    except (KeyError, UsageError, NdreproError):
        return None


def _unseeded(experiment: Experiment) -> Experiment:
    return replace(experiment, seed=0, seeds=Seeds())


def _last_accuracy(manifest: Manifest) -> float | None:
    for resource in manifest.byproducts:
        if resource.name == "metrics summary" and resource.annotations and "last" in resource.annotations:
            return float(resource.annotations["last"]["test_accuracy"])
    return None

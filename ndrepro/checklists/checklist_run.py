"""Evidence from a run's verified manifest: the field and its value.

Only what was signed counts: of a manifest that does not verify, nothing is evidence of anything. A field that states
that something was unavailable is no evidence either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ndrepro.checklists.checklist_sources import Evidence
from ndrepro.protocol.training_record import LAYER_CENSUS, METRICS_SUMMARY, TrainingRecord
from provenance.attestation.manifest import SOURCE, Manifest
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.capture.unavailable import at, is_missing

_PREFIX = "manifest.dsse.json"


@dataclass(frozen=True)
class Run:
    """An examined run: its manifest where it verifies, and its signer, or the problem."""

    path: Path
    manifest: Manifest | None
    signer: str | None
    problem: str = ""


def read_run(path: Path, trust: TrustPolicy) -> Run:
    """A run folder or manifest file, its manifest verified (checks 1 to 4; the files are ``ndrepro verify``'s)."""
    manifest = path / _PREFIX if path.is_dir() else path
    verdict = verify(manifest, trust=trust, manifest_only=True)
    failed = verdict.failure
    if not verdict.ok or verdict.manifest is None:
        problem = f"{failed.message}; {failed.cure}" if failed else "it does not verify"
        return Run(path, None, None, problem)
    return Run(path, verdict.manifest, verdict.signer)


def said(field: str, text: str) -> Evidence:
    """Evidence of a field."""
    return Evidence(f"{_PREFIX} {field}", 0, text)


def environment(manifest: Manifest) -> Iterator[Evidence]:
    """Every distribution with its version and digest, and the interpreter."""
    if found := [each for each in TrainingRecord.of(manifest).distributions.values() if each.digest]:
        yield said("resolvedDependencies", f"{len(found)} distributions with version and digest")
    if not is_missing(build := at(manifest.machine, "interpreter", "build")):
        yield said("machine.interpreter", f"Python {build}"[:100])


def container(manifest: Manifest) -> Iterator[Evidence]:
    """The image that the run was in, by digest."""
    digest = at(manifest.machine, "container", "image", "digest")
    if isinstance(digest, str) and digest:
        yield said("machine.container.image", digest)


def hardware(manifest: Manifest) -> Iterator[Evidence]:
    """Processor, memory, GPU."""
    cpu = at(manifest.machine, "machine", "cpu", "model_name")
    if isinstance(cpu, str):
        yield said("machine.machine.cpu", cpu)
    gpus = at(manifest.machine, "gpus")
    if isinstance(gpus, Mapping) and gpus and "unavailable" not in gpus:
        yield said("machine.gpus", str(gpus.get("none") or gpus)[:100])


def seeds(manifest: Manifest) -> Iterator[Evidence]:
    """The seed of every random stream."""
    if streams := TrainingRecord.of(manifest).seeds:
        yield said("externalParameters.seeds", ", ".join(f"{name} {seed}" for name, seed in streams.items())[:100])


def determinism(manifest: Manifest) -> Iterator[Evidence]:
    """Deterministic algorithms, on at the start and still at the end."""
    record = TrainingRecord.of(manifest)
    level = record.determinism_level
    if level not in ("", "free"):
        states = [at(record.determinism, when, "deterministic_algorithms") for when in ("start", "end")]
        if states == [True, True] or level == "seeded":
            yield said("internalParameters.determinism", f"level {level}")


def changed_flags(manifest: Manifest) -> Iterator[Evidence]:
    """Flags that were others at the end than at the start."""
    start, end = (at(TrainingRecord.of(manifest).determinism, when) for when in ("start", "end"))
    if isinstance(start, Mapping) and isinstance(end, Mapping) and not (is_missing(start) or is_missing(end)):
        for name in sorted({*start, *end}):
            if start.get(name) != end.get(name):
                text = f"{start.get(name)} at the start, {end.get(name)} at the end"
                yield said(f"internalParameters.determinism {name}", text)


def training_and_testing(manifest: Manifest) -> Iterator[Evidence]:
    """Training and test results, side by side, of a run that was completed."""
    last = TrainingRecord.of(manifest).last_scores
    if last and manifest.outcome == "completed":
        text = f"train {100 * last.train_accuracy:.2f} %, test {100 * last.test_accuracy:.2f} %"
        yield said(f"byproducts {METRICS_SUMMARY}", text)


def command(manifest: Manifest) -> Iterator[Evidence]:
    """The command that started it."""
    if words := TrainingRecord.of(manifest).command:
        yield said("externalParameters.command", " ".join(words)[:100])


def architecture(manifest: Manifest) -> Iterator[Evidence]:
    """Layers and parameters of the network."""
    census = TrainingRecord.of(manifest).census
    if census.get("trainable_parameters"):
        text = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in census.items())
        yield said(f"byproducts {LAYER_CENSUS}", text[:100])


def data(manifest: Manifest) -> Iterator[Evidence]:
    """The data, by digest."""
    for each in TrainingRecord.of(manifest).datasets:
        if digest := (each.resource.digest or {}).get("sha256"):
            yield said(f"resolvedDependencies {each.resource.name}", f"sha256 {digest[:16]}…")


def settings(manifest: Manifest) -> Iterator[Evidence]:
    """Every setting of the experiment."""
    experiment = manifest.external_parameters.get("experiment")
    if isinstance(experiment, Mapping) and "learning_rate" in experiment:
        names = ("learning_rate", "batch_size", "epochs", "momentum", "weight_decay")
        yield said("externalParameters.experiment", ", ".join(f"{name} {experiment.get(name)}" for name in names))


def source(manifest: Manifest) -> Iterator[Evidence]:
    """The commit, and what differed from it."""
    notes = TrainingRecord.of(manifest).source.annotations or {}
    if isinstance(notes.get("commit"), str):
        state = "with local changes, which are kept" if notes.get("dirty") else "without local changes"
        yield said(f"resolvedDependencies {SOURCE}", f"commit {notes['commit'][:12]}, {state}")


def weights(manifest: Manifest) -> Iterator[Evidence]:
    """The final weights, by digest."""
    if item := manifest.artifact("weights.safetensors"):
        yield said(f"artifacts {item.path}", f"{item.size} bytes, sha256 {item.sha256[:16]}…")


def compute(manifest: Manifest) -> Iterator[Evidence]:
    """Time and memory that it took."""
    usage = TrainingRecord.of(manifest).usage
    if isinstance(usage.get("user_seconds"), (int, float)):
        memory = usage.get("peak_memory_bytes")
        more = f", {memory / 2**30:.1f} GiB of memory" if isinstance(memory, (int, float)) else ""
        whole = datetime.fromisoformat(manifest.finished_on) - datetime.fromisoformat(manifest.started_on)
        times = f"{usage['user_seconds']:.0f} CPU s in {whole.total_seconds():.0f} s"
        yield said("internalParameters.usage", times + more)


Finder = Callable[[Manifest], Iterator[Evidence]]

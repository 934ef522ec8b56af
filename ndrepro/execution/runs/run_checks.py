"""What can be checked of a training run beyond its signature and digests: do its own files agree?

After the recorder's checks 1 to 8 (``provenance.attestation.verify``):

    9  request   the experiment in request.json is the one that was signed
    10 trail     every step from 0 on, as many as the run says, and no torn record
    11 weights   the final weights are those of the trail's last step, tensor by tensor
    12 metrics   one row an epoch, ending where the trail ends, and the summary that was signed
    13 states    one state digest at the start and one an epoch; every checkpoint between two epochs and the final
                 weights have the SHA-256 that is recorded there
    14 predicate every field of the manifest that a file implies says what that file says (``predicate_check``)

Reading them needs numpy, not torch. A run that was interrupted or failed is checked as far as it got. Runs of other
kinds have checks of their own (``ndrepro.execution.verification.checks_by_kind``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from ndrepro.execution.own_sources.network_files import NetworkFiles, expect_source
from ndrepro.execution.resumption.recorded_states import checkpoint_state, expect_state
from ndrepro.execution.runs import predicate_check
from ndrepro.protocol.data_record import DataRecord
from ndrepro.protocol.errors import CheckpointError, TrainingFailed
from ndrepro.protocol.experiment.catalogue import design_of
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.experiment.own import is_own_network
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, Result, Scores, read_json
from ndrepro.protocol.recorded.bounds import steps_per_epoch
from ndrepro.protocol.training_record import TrainingRecord, metrics_summary
from ndrepro.protocol.training_state import StateDigest, read_states, read_tensors
from ndrepro.text.plurals import plural
from provenance.attestation.manifest import Manifest
from provenance.attestation.verdict import CheckResult, ExtraCheck
from provenance.errors import ManifestError, ProvenanceError, TrailError
from provenance.formats.digest import file_digest
from provenance.formats.fingerprint import fingerprint
from provenance.formats.metrics_log import read_scalars
from provenance.formats.state_digest import tensors_digest
from provenance.formats.trail import Trail


def request(root: Path, manifest: Manifest) -> CheckResult:
    """9: the request that the child read is the one that was signed."""
    asked = Request.from_json(read_json(RunFolder(root).request))
    # compared as experiments: what was signed may be older than some settings
    if asked.experiment != TrainingRecord.of(manifest).experiment:
        raise ManifestError("request.json: another experiment than the manifest's externalParameters")
    if is_own_network(asked.experiment.arch):
        expect_source(asked.experiment, NetworkFiles.read(RunFolder(root).network))
    return CheckResult("request", "pass", f"{asked.experiment.name}, seed {asked.experiment.seed}")


def trail(root: Path, manifest: Manifest) -> CheckResult:
    """10: the trail is whole and as long as the run."""
    folder = RunFolder(root)
    if not folder.trail.exists():
        return _absent("trail", manifest, "no step was recorded")
    recorded = Trail(folder.trail)
    problems = recorded.problems()
    # a killed process may leave half a record, and what was signed is what it left
    if problems and not (manifest.outcome == "killed" and recorded.torn_bytes and len(problems) == 1):
        raise TrailError(f"{folder.trail.name}: {'; '.join(problems)}")
    asked = Request.from_json(read_json(folder.request))
    first = int(recorded.records[0, 0]) if len(recorded) else 0
    if first != (0 if asked.segment_epochs is None else asked.resume_step):
        raise TrailError(f"{folder.trail.name}: it begins at step {first}")
    steps = first + len(recorded) - 1
    if manifest.outcome in ("completed", "interrupted"):
        said = Result.from_json(read_json(folder.result)).steps
        if said != steps:
            raise TrailError(f"{folder.trail.name}: {steps} steps, result.json says {said}")
    return CheckResult("trail", "pass", f"{plural(steps, 'step')} of {plural(len(recorded.tensors), 'tensor')}")


def weights(root: Path, manifest: Manifest) -> CheckResult:
    """11: every tensor of the final weights has the hash that the trail has for it at the last step."""
    folder = RunFolder(root)
    if not folder.weights.exists():
        return _absent("weights", manifest, "no final weights were written")
    asked = Request.from_json(read_json(folder.request)).experiment
    recorded = Trail(folder.trail)
    _expect_network(folder, recorded, asked)
    final, header = read_tensors(folder.weights)
    name, steps = asked.name, int(recorded.records[-1, 0])
    said = json.dumps({"experiment": name, "steps": steps}, sort_keys=True)
    # the second is of the first releases
    if header not in ({"ndrepro": said}, {"experiment": name, "steps": str(steps)}):
        raise TrailError(f"{folder.weights.name}: its header is not of these weights: {str(header)[:80]}")
    if set(final) != {tensor.name for tensor in recorded.tensors}:
        raise TrailError(f"{folder.weights.name}: other tensors than the trail's")
    hashes = recorded.records[-1, 2:].tolist()
    differ = [
        t.name for t, hashed in zip(recorded.tensors, hashes, strict=True) if fingerprint(final[t.name]) != hashed
    ]
    if differ:
        raise TrailError(f"{folder.weights.name}: not the trail's last step in {', '.join(differ[:5])}")
    return CheckResult("weights", "pass", f"{len(final)} tensors as in the trail's last step")


def _expect_network(folder: RunFolder, recorded: Trail, experiment: Experiment) -> None:
    """Raises ManifestError where model.json has other tensors than the trail, or other counts than these have."""
    if not folder.model.exists():
        return
    document, shapes = read_json(folder.model), {tensor.name: list(tensor.shape) for tensor in recorded.tensors}
    if document["tensors"] != shapes:
        raise ManifestError(f"{folder.model.name}: other tensors than the trail's")
    counted = document["summary"]["trainable_parameters"] + document["summary"]["buffers"]
    design = design_of(experiment.arch, experiment.dataset)  # none of a network of the user's own, which may share some
    if design is not None and not design.frozen and counted != sum(map(math.prod, shapes.values())):
        raise ManifestError(f"{folder.model.name}: it counts {counted} numbers, its tensors have others")


def metrics(root: Path, manifest: Manifest) -> CheckResult:
    """12: a row an epoch, in order, ending with the trail, and summed up as it was signed."""
    folder = RunFolder(root)
    if not folder.metrics.exists():
        return _absent("metrics", manifest, "no epoch was finished")
    logged = read_scalars(folder.metrics, tolerate_torn=manifest.outcome == "killed")
    rows = tuple(Scores.from_row(row) for row in logged)
    asked = Request.from_json(read_json(folder.request))
    first = rows[0].epoch if rows and asked.segment_epochs is not None else 1
    if [row.epoch for row in rows] != list(range(first, first + len(rows))):
        raise ManifestError(f"{folder.metrics.name}: its rows are not one epoch after the other from {first} on")
    if manifest.outcome == "completed":
        epochs = asked.experiment.epochs if asked.segment_epochs is None else asked.segment_epochs
        last = Trail(folder.trail).last()
        if len(rows) != epochs or (rows and last and rows[-1].step != last[0]):
            raise ManifestError(f"{folder.metrics.name}: {len(rows)} epochs, expected {epochs} ending with the trail")
    if manifest.outcome != "failed":
        _expect_losses(folder, rows, asked)
    if TrainingRecord.of(manifest).summary != metrics_summary(rows):
        raise ManifestError(f"{folder.metrics.name}: not what the manifest's summary says")
    return CheckResult("metrics", "pass", f"{plural(len(rows), 'epoch')}, as in the manifest's summary")


def _expect_losses(folder: RunFolder, rows: Sequence[Scores], asked: Request) -> None:
    """Raises ManifestError where an epoch's train loss is not the mean over its images of the losses in the trail."""
    if not (folder.dataset.exists() and folder.trail.exists() and len(recorded := Trail(folder.trail))):
        return
    images = DataRecord.read(folder.dataset).train_images
    steps, first = steps_per_epoch(asked.experiment, images), int(recorded.records[0, 0])
    losses, batch = recorded.records[:, 1].copy().view("float64"), asked.experiment.batch_size
    for row in rows:
        last = row.step - first + 1
        if last > len(losses):  # of a killed process, which writes some steps of a GPU together
            break
        found = losses[max(last - steps, 0) : last]
        mean = math.nan
        if len(found) == steps:  # the last batch may be smaller
            mean = (batch * float(found.sum()) - (steps * batch - images) * float(found[-1])) / images
        if not (math.isclose(mean, row.train_loss, rel_tol=1e-9) or (math.isnan(row.train_loss) and math.isnan(mean))):
            raise ManifestError(
                f"{folder.metrics.name}, epoch {row.epoch}: train loss {row.train_loss:g}, the trail's is {mean:g}"
            )


def states(root: Path, manifest: Manifest) -> CheckResult:
    """13: one row at the start and one an epoch, and every checkpoint and the final weights have these digests."""
    folder = RunFolder(root)
    experiment = Request.from_json(read_json(folder.request)).experiment
    if not folder.states.exists():
        for step in folder.checkpoint_steps() if manifest.outcome == "completed" else ():
            checkpoint_state(folder.checkpoint(step), experiment)
        return CheckResult("states", "skip", "recorded by a release without state digests: states are not bound")
    rows = read_states(folder.states, tolerate_torn=manifest.outcome == "killed")
    _check_rows(folder, manifest, rows)
    by_step = {row.step: row for row in rows}
    compared = [step for step in folder.checkpoint_steps() if step in by_step]
    if manifest.outcome == "completed" and len(compared) < len(folder.checkpoint_steps()):
        raise ManifestError(f"{folder.checkpoints.name}: one is after a step whose state no row has")
    for step in compared:
        expect_state(folder.checkpoint(step), by_step[step], experiment)
    if manifest.outcome == "completed":
        _check_weights(folder, rows[-1])
    return CheckResult("states", "pass", f"{plural(len(rows), 'state')}, {plural(len(compared), 'checkpoint')}")


def _check_rows(folder: RunFolder, manifest: Manifest, rows: tuple[StateDigest, ...]) -> None:
    name, asked = folder.states.name, Request.from_json(read_json(folder.request))
    first = rows[0].epoch if rows and asked.segment_epochs is not None else 0
    if [row.epoch for row in rows] != list(range(first, first + len(rows))):
        raise ManifestError(f"{name}: its rows are not one epoch after the other from {first} on")
    if odd := next((row for row in rows if not row.consistent), None):
        raise ManifestError(f"{name}: the digest of the state after epoch {odd.epoch} is not that of its parts")
    steps = [Scores.from_row(row).step for row in read_scalars(folder.metrics, tolerate_torn=True)]
    start = 0 if asked.segment_epochs is None else asked.resume_step
    # a process that is killed between the two logs leaves the results of one epoch more
    if [row.step for row in rows] not in (
        [start, *steps],
        [start, *steps[:-1]] if manifest.outcome == "killed" else [],
    ):
        raise ManifestError(f"{name}: its rows are not after the steps that {folder.metrics.name} has")
    last = Trail(folder.trail).last()
    if manifest.outcome == "completed" and (not rows or last is None or rows[-1].step != last[0]):
        raise ManifestError(f"{name}: its last row is not after the trail's last step")


def _check_weights(folder: RunFolder, last: StateDigest) -> None:
    if folder.weights.exists() and tensors_digest(read_tensors(folder.weights)[0]) != last.network:
        raise ManifestError(
            f"{folder.weights.name}: not the network of the recorded state after epoch {last.epoch}",
            "get the original file",
        )


def signed_checkpoint(folder: RunFolder, manifest: Manifest, step: int, cure: str) -> Path:
    """The checkpoint after ``step`` steps. Raises CheckpointError with ``cure`` where it is not what was signed."""
    path = folder.checkpoint(step)
    signed = manifest.artifact(path.relative_to(folder.root).as_posix())
    if signed is None or not path.exists() or signed.sha256 != file_digest(path).sha256:
        raise CheckpointError(f"{path}: not the checkpoint that was signed", cure)
    return path


def predicate(root: Path, manifest: Manifest) -> CheckResult:
    """14: what the manifest says is what the run's files imply, field by field."""
    return CheckResult("predicate", "pass", predicate_check.predicate(root, manifest))


CHECKS: tuple[ExtraCheck, ...] = (request, trail, weights, metrics, states, predicate)


def contradiction(root: Path, manifest: Manifest, checks: Sequence[ExtraCheck] = CHECKS) -> ProvenanceError | None:
    """What the files of a run say against a manifest that is about to be signed: the first check that fails."""
    for check in checks:
        try:
            check(root, manifest)
        except ProvenanceError as error:
            return TrainingFailed(f"check {check.__name__}: {error.message}", error.cure)
        except Exception as error:  # whatever the recorded process wrote
            found = f"nothing that can be checked is in the files ({type(error).__name__}: {error})"
            return TrainingFailed(f"check {check.__name__}: {found}", "see the run's log.txt")
    return None


def _absent(name: str, manifest: Manifest, why: str) -> CheckResult:
    """A file that only a completed run must have."""
    if manifest.outcome == "completed":
        raise ManifestError(f"{name}: {why}, though the run says it completed")
    return CheckResult(name, "skip", f"{why}: the run {manifest.outcome}")

"""What an author who holds the key can do to a signed run: edit its files, and sign them again, digests and all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from real_runs import Bench
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ndrepro.analysis.verdicts.reproduction_verdict import Judgement, judge
from ndrepro.execution.reproduce.epoch_draw import Challenge
from ndrepro.execution.reproduce.recorded_code import recorded_code
from ndrepro.execution.reproduce.reexecute import Original, ReexecutionPlan, drawn_epochs, execute, plan
from ndrepro.execution.resumption.recorded_states import checkpoint_state
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.runs.run import RunOptions
from ndrepro.execution.runs.run_account import Account
from ndrepro.execution.runs.run_checks import CHECKS
from ndrepro.protocol.data_record import DataRecord
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, Scores, read_json
from ndrepro.protocol.training_record import METRICS_SUMMARY, metrics_summary
from ndrepro.protocol.training_state import Place, StateDigest, read_states
from provenance.attestation.dsse import read_envelope, sign_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.manifest import Manifest, Resource
from provenance.attestation.run_files import inventory
from provenance.attestation.statement import Statement
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verdict import Verdict
from provenance.attestation.verify import verify
from provenance.formats.fingerprint import fingerprint
from provenance.formats.metrics_log import read_scalars
from provenance.formats.trail import Trail, encode_header

Tensors = dict[str, np.ndarray]


def manifest_of(folder: RunFolder) -> Manifest:
    return Statement.from_bytes(read_envelope(folder.manifest.read_bytes())[1]).manifest


def copied(folder: RunFolder, into: Path) -> RunFolder:
    place = into / "runs" / folder.root.parent.name / folder.root.name
    shutil.copytree(folder.root, place, ignore=shutil.ignore_patterns(".lock"))
    return RunFolder(place)


def sign_again(folder: RunFolder, bench: Bench, **changes: Any) -> None:
    """Sign the changed folder, digests, summary and all."""
    rows = tuple(Scores.from_row(row) for row in read_scalars(folder.metrics))
    byproducts = tuple(
        Resource(item.name, annotations=metrics_summary(rows)) if item.name == METRICS_SUMMARY else item
        for item in manifest_of(folder).byproducts
    )
    changes = {"artifacts": inventory(folder.root).artifacts, "byproducts": byproducts, **changes}
    manifest = replace(manifest_of(folder), **changes)
    signed = sign_envelope(Statement.about(manifest).to_bytes(), KeyRing(bench.options.home).signer())
    folder.manifest.write_bytes(signed)


def agreeing(folder: RunFolder, manifest: Manifest) -> dict[str, Any]:
    """The fields of the manifest as its files now imply them, as the recorder makes them."""
    asked = {name: value for name, value in read_json(folder.request).items() if name != "test_accuracy"}
    account = Account(folder, Request.from_json(asked))
    account.read(None)
    made = {item.name: item for item in account.dependencies if item.name not in ("source", "code")}
    census = next(item for item in account.byproducts((), None) if item.name == "layer census")
    machine = {name: value for name, value in account.machine.items() if name not in ("imported_files", "loaded_code")}
    return {
        "dependencies": tuple(made.get(item.name, item) for item in manifest.dependencies),
        "byproducts": tuple(census if item.name == census.name else item for item in manifest.byproducts),
        "internal_parameters": dict(account.internal_parameters),
        "machine": {**manifest.machine, **machine},
    }


def verified(folder: RunFolder, bench: Bench) -> Verdict:
    return verify(folder.root, trust=TrustPolicy.load(bench.options.home), extra_checks=CHECKS)


def original_of(folder: RunFolder, bench: Bench) -> Original:
    verdict = verified(folder, bench)
    assert not (failed := [check.message for check in verdict.checks if check.status == "fail"]), failed
    assert verdict.manifest is not None
    return Original(folder, verdict.manifest)


def word_for(original: Original, epoch: int) -> str:
    """The first challenge that draws that epoch alone."""
    words = (str(number) for number in range(1000))
    return next(w for w in words if drawn_epochs(Challenge.of(w, None, original.payload), original, 1) == (epoch,))


def planned(
    original: Original, options: RunOptions, spot: int | None = None, challenge: str | None = None
) -> ReexecutionPlan:
    """What would be repeated of a run of this checkout's code, which stays where it is."""
    with recorded_code(original.manifest, original.folder.root) as rebuilt:
        return plan(original, options, rebuilt, spot, challenge)


def repeated_epoch(original: Original, bench: Bench, epoch: int) -> RunFolder:
    """Train one epoch again."""
    chosen = planned(original, bench.options, 1, word_for(original, epoch))
    assert chosen.epochs == (epoch,)
    (finished,) = execute(original, chosen, bench.options, Observer())
    assert finished.error is None
    return finished.folder


def spot(original: Original, bench: Bench, epoch: int) -> Judgement:
    """The verdict on one epoch."""
    return judge(original.folder, repeated_epoch(original, bench, epoch))


def edit_checkpoint(path: Path, edit: Callable[[Tensors, dict[str, Any]], None]) -> None:
    """Edit a checkpoint's tensors and the document of its place in the run."""
    with safe_open(str(path), framework="numpy") as file:
        document = json.loads(file.metadata()["ndrepro"])
    tensors = load_file(path)
    edit(tensors, document["place"])
    save_file(tensors, path, {"ndrepro": json.dumps(document, sort_keys=True)})


def edit_results(folder: RunFolder, epoch: int, **changes: float) -> None:
    """Invent results of an epoch: the nearest that so many images can give."""
    rows = [Scores.from_row(row) for row in read_scalars(folder.metrics)]
    rows[epoch - 1] = _possible(replace(rows[epoch - 1], **changes), DataRecord.read(folder.dataset))
    folder.metrics.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))


def _possible(row: Scores, data: DataRecord) -> Scores:
    made = {}
    for split, images in (("train", data.train_images), ("test", data.scored_images)):
        top1, top5 = (getattr(row, f"{split}_{name}accuracy") for name in ("", "top5_"))
        made[f"{split}_accuracy"] = top1 = round(top1 * images) / images
        made[f"{split}_top5_accuracy"] = None if top5 is None else max(top1, round(top5 * images) / images)
    return replace(row, **made)


def edit_trail(folder: RunFolder, edit: Callable[[np.ndarray], None]) -> None:
    """Edit the records of the trail, uint64 (steps + 1, 2 + tensors), and the epochs' train losses with its losses."""
    trail = Trail(folder.trail)
    records = np.array(trail.records)
    header = encode_header(trail.tensors)
    edit(records)
    folder.trail.write_bytes(header + records.astype("<u8").tobytes())
    batch, images = Request.from_json(read_json(folder.request)).experiment.batch_size, DataRecord.read(folder.dataset)
    losses, steps = records[1:, 1].copy().view(np.float64), -(-images.train_images // batch)
    sizes = np.full(steps, batch)
    sizes[-1] = images.train_images - batch * (steps - 1)
    rows = [Scores.from_row(row) for row in read_scalars(folder.metrics)]
    means = [float(losses[row.step - steps : row.step] @ sizes) / images.train_images for row in rows]
    pairs = zip(rows, means, strict=True)
    rows = [row if np.isclose(row.train_loss, mean, 1e-12) else replace(row, train_loss=mean) for row, mean in pairs]
    folder.metrics.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))


def put_weights(folder: RunFolder, weights: Tensors) -> None:
    """Other final weights, with their hashes in the trail's last record."""
    with safe_open(str(folder.weights), framework="numpy") as file:
        header = file.metadata()
    save_file(weights, folder.weights, header)
    hashes = [fingerprint(weights[tensor.name]) for tensor in Trail(folder.trail).tensors]
    edit_trail(folder, lambda records: records[-1].__setitem__(slice(2, None), np.array(hashes, dtype=np.uint64)))


def restate(folder: RunFolder) -> None:
    """Write the state digests that belong to the checkpoints and weights that are there now."""
    rows = {row.step: row for row in read_states(folder.states)}
    for step in folder.checkpoint_steps():
        if step in rows:
            rows[step] = checkpoint_state(folder.checkpoint(step))[1]
    last = rows[max(rows)]
    network = StateDigest.of(Place(last.step, last.epoch, 0), load_file(folder.weights), {}).network
    rows[last.step] = StateDigest._from_parts(Place(last.step, last.epoch, 0), network, last.momentum)
    folder.states.write_text("".join(json.dumps(row.to_row()) + "\n" for row in rows.values()))


def other_trajectory(folder: RunFolder) -> None:
    """What another processor may give: every loss and hash from the first step on in other bits, and every state."""
    edit_trail(folder, lambda records: records[1:, 1:].__iadd__(np.uint64(1)))
    rows = [
        StateDigest._from_parts(Place(row.step, row.epoch, 0), row.network, row.momentum[::-1]) if row.step else row
        for row in read_states(folder.states)
    ]
    folder.states.write_text("".join(json.dumps(row.to_row()) + "\n" for row in rows))

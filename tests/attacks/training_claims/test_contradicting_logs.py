"""An author edits one file of a training run and signs it again: the run's other files speak against it.

The signature, the digests, and every field of the manifest agree with the edited file. Before, each of these verified.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dishonest_author import agreeing, copied, edit_checkpoint, edit_results, manifest_of, sign_again, verified
from real_runs import Bench
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ndrepro.execution.runs.run import Finished
from ndrepro.execution.runs.run_checks import CHECKS
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Scores
from ndrepro.protocol.recorded.bounds import check_processes
from ndrepro.protocol.training_record import METRICS_SUMMARY, metrics_summary
from ndrepro.protocol.training_state import Place, StateDigest, read_states
from provenance.attestation.manifest import Attempt, Resource
from provenance.errors import ManifestError
from provenance.formats.atomic_io import write_json
from provenance.formats.metrics_log import read_scalars
from provenance.formats.trail import Trail, encode_header

Edit = Callable[[RunFolder], None]


def results(**changes: float) -> Edit:
    return lambda folder: edit_results(folder, 4, **changes)


def uncounted(folder: RunFolder) -> None:
    """A train accuracy that no number of right answers gives."""
    *rows, last = read_scalars(folder.metrics)
    rows.append({**last, "train_accuracy": 0.99991, "train_top5_accuracy": 0.99992})
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))


def document(name: str, edit: Callable[[dict[str, Any]], object]) -> Edit:
    def edited(folder: RunFolder) -> None:
        found = json.loads((folder.root / name).read_text())
        edit(found)
        write_json(folder.root / name, found)

    return edited


def steps(folder: RunFolder, step_of: Callable[[Scores], int]) -> None:
    """Other steps at the epochs' ends, in results and states; the checkpoints are gone."""
    rows = [replace(row, step=step_of(row)) for row in map(Scores.from_row, read_scalars(folder.metrics))]
    folder.metrics.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))
    ends = {row.epoch: row.step for row in rows}
    states = [replace(row, step=ends.get(row.epoch, 0)) for row in read_states(folder.states)]
    states = [StateDigest._from_parts(Place(row.step, row.epoch, 0), row.network, row.momentum) for row in states]
    folder.states.write_text("".join(json.dumps(row.to_row()) + "\n" for row in states))
    shutil.rmtree(folder.checkpoints)


def half(folder: RunFolder) -> None:
    """Every second step of the trail is left out: half the batches that the data have."""
    trail = Trail(folder.trail)
    kept = np.array(trail.records)[::2]
    kept[:, 0] = np.arange(len(kept))
    folder.trail.write_bytes(encode_header(trail.tensors) + kept.astype("<u8").tobytes())
    steps(folder, lambda row: row.step // 2)
    document("result.json", lambda found: found.update(steps=len(kept) - 1))(folder)
    header = {"ndrepro": json.dumps({"experiment": "lenet_nd_4_digits", "steps": len(kept) - 1}, sort_keys=True)}
    save_file(load_file(folder.weights), folder.weights, header)


def invented_checkpoint(folder: RunFolder) -> None:
    """A checkpoint within an epoch, whose state no row of states.jsonl binds."""
    step = folder.checkpoint_steps()[0]
    shutil.copy(folder.checkpoint(step), folder.checkpoint(step + 1))

    def later(tensors: object, place: dict[str, Any]) -> None:
        place.update(step=step + 1, epoch=1, batch=1, seen=16, correct=16, correct_top5=16)

    edit_checkpoint(folder.checkpoint(step + 1), later)


def checkpoint_with_a_result(folder: RunFolder) -> None:
    path = folder.checkpoint(folder.checkpoint_steps()[0])
    with safe_open(str(path), framework="numpy") as file:
        document = json.loads(file.metadata()["ndrepro"])
    save_file(load_file(path), path, {"ndrepro": json.dumps({**document, "test_accuracy": 0.9999}, sort_keys=True)})


def weights_with_a_result(folder: RunFolder) -> None:
    save_file(load_file(folder.weights), folder.weights, {"experiment": "vgg16_nd_100", "test_accuracy": "0.9999"})


RANK = {"rank": 0, "local_rank": 0, "hostname": "dgx", "pid": 1, "device": "cuda:0"}
# what is edited -> how, and the check that finds it
EDITS: dict[str, tuple[Edit, str]] = {
    "the train loss": (results(train_loss=0.01), "metrics"),
    "a train accuracy of no images": (uncounted, "predicate"),
    "the learning rate": (results(learning_rate=0.1), "predicate"),
    "a negative test loss": (results(test_loss=-5.0), "predicate"),
    "an epoch's length": (lambda folder: steps(folder, lambda row: row.step - 3 * (row.epoch == 1)), "metrics"),
    "half the steps": (half, "metrics"),
    "the parameters": (
        document("model.json", lambda found: found["summary"].update(trainable_parameters=620)),
        "weights",
    ),
    "the tensors": (document("model.json", lambda found: found.update(tensors={"weight": [1]})), "weights"),
    "a result with the weights": (weights_with_a_result, "weights"),
    "a result with a checkpoint": (checkpoint_with_a_result, "states"),
    "a checkpoint within an epoch": (invented_checkpoint, "states"),
    "the epochs that were done": (document("result.json", lambda found: found.update(epochs=999)), "predicate"),
    "processes of a run of one": (
        document("environment.json", lambda found: found.update(processes={"backend": "nccl", "ranks": [RANK]})),
        "predicate",
    ),
}


def sign_consistently(folder: RunFolder, author: Bench) -> None:
    """Sign a manifest that says in every field what the edited files say."""
    changes = agreeing(folder, manifest_of(folder))
    summary = metrics_summary(tuple(map(Scores.from_row, read_scalars(folder.metrics))))
    others = (item for item in changes["byproducts"] if item.name != METRICS_SUMMARY)
    changes["byproducts"] = (*others, Resource(METRICS_SUMMARY, annotations=summary))
    sign_again(folder, author, **changes)


@pytest.mark.parametrize("what", EDITS)
def test_a_file_that_the_others_contradict_is_refused(
    honest: Finished, author: Bench, tmp_path: Path, what: str
) -> None:
    folder = copied(honest.folder, tmp_path)
    edit, check = EDITS[what]
    edit(folder)
    sign_consistently(folder, author)
    found = verified(folder, author).failure
    print(f"{what}: {found.message if found else 'verifies'}")
    assert found is not None and found.name == check, found


def test_an_honest_run_passes_when_it_is_signed_again(honest: Finished, author: Bench, tmp_path: Path) -> None:
    """The control."""
    folder = copied(honest.folder, tmp_path)
    sign_consistently(folder, author)
    assert verified(folder, author).failure is None and len(CHECKS) == 6


def test_what_is_kept_of_an_earlier_attempt_is_one(honest: Finished, author: Bench, tmp_path: Path) -> None:
    folder = copied(honest.folder, tmp_path)
    kept, made = folder.root / "attempts" / "1", manifest_of(folder)
    earlier = Attempt(made.started_on, made.started_on, "failed")
    kept.mkdir(parents=True)
    for content, message in (
        (b'{"test_accuracy": 0.9999}', "missing"),
        (honest.folder.manifest.read_bytes(), "no manifest of an earlier attempt"),
    ):
        (kept / "manifest.dsse.json").write_bytes(content)
        sign_again(folder, author, attempts=(earlier, *made.attempts[-1:]))
        found = verified(folder, author).failure
        assert found is not None and found.name == "predicate" and message in found.message, found


def test_the_processes_are_those_of_the_experiment(author: Bench) -> None:
    experiment = author.experiment("lenet_nd_4_digits", processes="2")
    ranks = [{"rank": rank, "device": "cpu"} for rank in range(2)]
    check_processes({"ranks": ranks}, experiment, "cpu")
    for odd, message in (
        (None, "not the 2"),
        ({"ranks": []}, "not the 2"),
        ({"ranks": ranks[:1] * 2}, "not the 2"),
        ({"ranks": [*ranks, {"rank": 2, "device": "cpu"}]}, "not the 2"),
        ({"ranks": [ranks[0], {"rank": 1, "device": "cuda:0"}]}, "process 1 is on 'cuda:0'"),
        ({"ranks": [ranks[0], {"rank": 1, "device": "cpu", "gpu": {"name": "H100"}}]}, "process 1 has a GPU"),
    ):
        with pytest.raises(ManifestError, match=message):
            check_processes(odd, experiment, "cpu")


def test_no_other_process_of_a_completed_run_left_a_result(author: Bench, tmp_path: Path) -> None:
    """A process writes one where it failed; a text in it would be signed, and named by nobody."""
    run = author.run("lenet_bn_1_digits", processes="2", train_images="32")
    assert verified(run.folder, author).ok, "the control"
    folder = copied(run.folder, tmp_path)
    said = {"outcome": "99.99 % right", "epochs": 400, "steps": 2400, "device": "8 x H200", "error": None}
    write_json(folder.rank_result(1), said)
    sign_again(folder, author)
    found = verified(folder, author).failure
    assert found is not None and "other than the first left a result" in found.message

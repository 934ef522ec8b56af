"""An author signs, beside what a recorder writes, members of his own or values that no machine can have: refused.

Signature, digests and ledger are right, and the manifest agrees with its files; before, each of these verified, and a
re-execution called it identical, without a claim that named it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dishonest_author import agreeing, copied, manifest_of, sign_again, verified
from real_runs import Bench

from ndrepro.analysis.verdicts.unexpected_files import unexpected_files
from ndrepro.execution.runs.run import Finished
from ndrepro.execution.runs.run_checks import contradiction, predicate, request
from ndrepro.protocol.layout import RunFolder
from provenance.attestation.manifest import Resource
from provenance.formats.atomic_io import write_json

Edit = Callable[[RunFolder], dict[str, Any]]
FALSE = 0.9999


def document(file: str, /, *keys: str | int, **members: Any) -> Edit:
    """Set members of an object in a JSON file."""

    def edit(folder: RunFolder) -> dict[str, Any]:
        path = folder.root / file
        whole = place = json.loads(path.read_text())
        for key in keys:
            place = place[key]
        place.update(members)
        write_json(path, whole)
        return {}

    return edit


def without(*keys: str) -> Edit:
    """Take a member of environment.json away."""

    def edit(folder: RunFolder) -> dict[str, Any]:
        whole = place = json.loads(folder.environment.read_text())
        for key in keys[:-1]:
            place = place[key]
        del place[keys[-1]]
        write_json(folder.environment, whole)
        return {}

    return edit


def timing(**members: Any) -> Edit:
    """Set members of every epoch's clock."""

    def edit(folder: RunFolder) -> dict[str, Any]:
        rows = [{**json.loads(line), **members} for line in folder.timing.read_text().splitlines()]
        folder.timing.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return {}

    return edit


def byproduct(name: str, /, **annotations: Any) -> Edit:
    """Add a byproduct, or exchange the one of that name."""

    def edit(folder: RunFolder) -> dict[str, Any]:
        others = [item for item in manifest_of(folder).byproducts if item.name != name]
        return {"byproducts": (*others, Resource(name, annotations=annotations))}

    return edit


def dependency(name: str, /, **annotations: Any) -> Edit:
    """Add annotations to a dependency."""

    def edit(folder: RunFolder) -> dict[str, Any]:
        found = manifest_of(folder).dependencies
        changed = [
            replace(item, annotations={**(item.annotations or {}), **annotations}) if item.name == name else item
            for item in found
        ]
        return {"dependencies": tuple(changed)}

    return edit


def beside_digest(name: str, /) -> Edit:
    """Add to the digests of a dependency."""

    def edit(folder: RunFolder) -> dict[str, Any]:
        found = manifest_of(folder).dependencies
        false = {"accuracy": "0.9999"}
        changed = [
            replace(each, digest={**(each.digest or {}), **false}) if each.name == name else each for each in found
        ]
        return {"dependencies": tuple(changed)}

    return edit


def witness(**members: Any) -> Edit:
    """Add to what the recorder saw itself of the loaded code."""

    def edit(folder: RunFolder) -> dict[str, Any]:
        machine = dict(manifest_of(folder).machine)
        return {"machine": {**machine, "loaded_code": {**machine["loaded_code"], **members}}}

    return edit


def summary_with(**members: Any) -> Edit:
    """Add members to the summary of metrics, beside its annotations."""

    def edit(folder: RunFolder) -> dict[str, Any]:
        found = manifest_of(folder).byproducts
        return {"byproducts": tuple(replace(item, **members) if item.name == SUMMARY else item for item in found)}

    return edit


def again(name: str) -> Edit:
    """Add a second byproduct of that name."""

    def edit(folder: RunFolder) -> dict[str, Any]:
        false = Resource(name, annotations={"last": {"test_accuracy": FALSE}})
        return {"byproducts": (*manifest_of(folder).byproducts, false)}

    return edit


SUMMARY = "metrics summary"
SEAL, ENDS = ("start", "environment"), ("end", "environment")
NONE = {"none": "the machine has no counter"}
FREE: dict[str, Edit] = {
    "a result in dataset.json": document("dataset.json", test_accuracy=FALSE),
    "a certificate in the split of dataset.json": document("dataset.json", "pixels_sha256", certified="by the chairs"),
    "another data set's name": document("dataset.json", name="imagenet"),
    "a result in environment.json": document("environment.json", test_accuracy=FALSE),
    "a result of the machine": document("environment.json", *SEAL, "machine", test_accuracy=FALSE),
    "a result of the processor": document("environment.json", *SEAL, "machine", "cpu", test_accuracy=FALSE),
    "a result in the use of resources": document("environment.json", "end", "usage", test_accuracy=FALSE),
    "a result among torch's flags": document("environment.json", "start", "flags", test_accuracy=FALSE),
    "a result among the libraries": document("environment.json", "start", "libraries", test_accuracy=FALSE),
    "a result as a variable": document(
        "environment.json", *SEAL, "variables", "recorded", **{"test accuracy": "99.99 %"}
    ),
    "a result in model.json": document("model.json", test_accuracy=FALSE),
    "a result in the count of layers": document("model.json", "summary", test_accuracy=FALSE),
    "a result of a layer": document("model.json", "layers", 0, test_accuracy=FALSE),
    "a result in request.json": document("request.json", test_accuracy=FALSE),
    "a result in result.json": document("result.json", test_accuracy=FALSE),
    "a result in timing.jsonl": timing(test_accuracy=FALSE),
    "a result among the energy": byproduct("energy", cpu_packages=NONE, gpus=NONE, test_accuracy=FALSE),
    "a result instead of energy": byproduct("energy", cpu_packages={"test accuracy": FALSE}, gpus=NONE),
    "a second summary of metrics": again(SUMMARY),
    "a result as the summary's address": summary_with(uri="test accuracy 99.99 %"),
    "a result as the summary's type": summary_with(media_type="accuracy=0.9999"),
    "a result as the summary's digest": summary_with(digest={"accuracy": "0.9999"}),
    "a result beside the digest of the code": beside_digest("code"),
    "a result beside the commit": beside_digest("source"),
    "a result of the code": dependency("code", test_accuracy=FALSE),
    "another digest of the code beside it": dependency("code", tree_sha256="0" * 64),
    "another torch at the end": document("environment.json", "end", "libraries", torch="1.13.1"),
    "another processor at the end": document("environment.json", *ENDS, "machine", "cpu", model_name="Grace"),
    "no torch at the end": document("environment.json", "end", "libraries", torch=None),
    "no libraries at the end": without("end", "libraries"),
    "no processor at the end": without(*ENDS, "machine", "cpu"),
    "no variables at the end": without(*ENDS, "variables"),
    "a GPU at the end": document("environment.json", *ENDS, gpus={"devices": [{"index": 0, "name": "H100"}]}),
    "another Python at the end": document("environment.json", *ENDS, "interpreter", version="3.14.0"),
    "a result of the source": dependency("source", test_accuracy=FALSE),
    "a result among the loaded code": witness(test_accuracy=FALSE),
    "negative energy": byproduct("energy", cpu_packages={"intel-rapl:0 package-0": -1.0}, gpus=NONE),
    "energy that no processor takes": byproduct("energy", cpu_packages={"intel-rapl:0 package-0": 1e9}, gpus=NONE),
    "energy of a counter that there is not": byproduct("energy", cpu_packages={"0.9999": 1.0}, gpus=NONE),
    "a result for no counter": byproduct("energy", cpu_packages={"none": FALSE, "intel-rapl:0 x": 1.0}, gpus=NONE),
    "a clock set back by thirty years": byproduct("clock", set_back_seconds=10**9),
    "an epoch of a nanosecond": timing(train_seconds=1e-9, images_per_second=1e9),
    "a negative time": timing(test_seconds=-1.0),
    "a trail that takes longer than its epoch": timing(trail_seconds=1e3),
    "a throughput that contradicts the time": timing(images_per_second=1e9),
    "no memory at all": timing(peak_memory_bytes=0),
    "other epochs": timing(epoch=1),
    "a GPU of a CPU's run": document("result.json", device="cuda:0 (NVIDIA H200)"),
    "a GPU that torch did not see": document("result.json", device="cuda:0"),
    "a year of processor time": document("environment.json", "end", "usage", user_seconds=86400.0 * 365),
    "a run of a year": document("environment.json", "end", "usage", wall_seconds=86400.0 * 365),
    "negative time": document("environment.json", "end", "usage", user_seconds=-1.0),
    "memory as a text": document("environment.json", *SEAL, "machine", memory_bytes="much"),
}


def refusal(honest: Finished, into: Path, edit: Edit) -> str:
    """What the checks of request and predicate say of a copy of a run that its author edits; "" where they pass."""
    shutil.copytree(honest.folder.root, into, ignore=shutil.ignore_patterns(".lock", "*.safetensors"))
    folder = RunFolder(into)
    manifest = manifest_of(folder)
    changes = edit(folder)
    edited = replace(manifest, **{**agreeing(folder, manifest), **changes})
    found = contradiction(folder.root, edited, (request, predicate))
    return "" if found is None else found.message


@pytest.mark.parametrize("claim", FREE)
def test_a_member_or_a_value_that_no_recorder_writes_is_refused(honest: Finished, tmp_path: Path, claim: str) -> None:
    found = refusal(honest, tmp_path / "run", FREE[claim])
    print(f"{claim}: {found}")
    assert found and "Error" not in found


def test_what_a_machine_may_have_used_passes(honest: Finished, tmp_path: Path) -> None:
    """The control: no edit, energy that a machine may have taken, a clock that may have been set."""
    energy = byproduct("energy", cpu_packages={"intel-rapl:0 package-0": 12.5}, gpus={"gpu 0": 3.0})
    failed = byproduct(
        "energy", cpu_packages=NONE, gpus={"gpu 0": 3.0, "gpu 1": {"unavailable": "implausible: 2e16 J"}}
    )
    clock = byproduct("clock", set_back_seconds=3600)
    for name, edit in (("no", lambda folder: {}), ("e", energy), ("f", failed), ("c", clock)):
        assert refusal(honest, tmp_path / name, edit) == ""


@pytest.mark.parametrize("zero", ["\u0660", "\uff10"], ids=["Arabic-Indic", "full-width"])
def test_a_checkpoint_in_other_digits_than_a_recorder_s_is_named(
    honest: Finished, author: Bench, tmp_path: Path, zero: str
) -> None:
    """Before: known by its name, which no claim named, and read by nobody."""
    folder = copied(honest.folder, tmp_path)
    other = "step-000000099.safetensors".translate({48 + digit: ord(zero) + digit for digit in range(10)})
    (folder.checkpoints / other).write_text("test accuracy of these weights: 99.9 %")
    sign_again(folder, author)
    assert folder.checkpoint_steps() == honest.folder.checkpoint_steps()
    assert f"checkpoints/{other}" in unexpected_files(manifest_of(folder))


def test_it_is_refused_by_verify_too(honest: Finished, author: Bench, tmp_path: Path) -> None:
    folder = copied(honest.folder, tmp_path)
    changes = FREE["a result among the energy"](folder)
    sign_again(folder, author, **changes)
    failure = verified(folder, author).failure
    assert failure is not None and failure.name == "predicate" and "test_accuracy: unknown" in failure.message

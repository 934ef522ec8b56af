"""False results in signed files and members of a training run that nothing compares: refused, or named by a claim.

Before, each of these verified and was "identical", and no claim of the verdict named it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dishonest_author import agreeing, copied, manifest_of, sign_again, verified
from real_runs import Bench
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ndrepro.analysis.verdicts.reproduction_verdict import judge
from ndrepro.analysis.verdicts.run_conditions import (
    ASSERTED_OF_TRAINING,
    asserted_claim,
    conditions_claim,
    training_variables_claim,
    unequal_conditions,
)
from ndrepro.analysis.verdicts.unexpected_files import RULES, unexpected_claim
from ndrepro.execution.runs.run import Finished
from ndrepro.execution.runs.run_checks import contradiction
from ndrepro.protocol.layout import RunFolder
from provenance.attestation.manifest import Builder, Resource
from provenance.formats.atomic_io import write_json
from provenance.formats.trail import MAGIC

Edit = Callable[[RunFolder], None]


def in_log(name: str, before: str, after: str) -> Edit:
    """Edit the first row of a log."""

    def edit(folder: RunFolder) -> None:
        path = folder.root / name
        path.write_bytes(path.read_bytes().replace(before.encode(), after.encode(), 1))

    return edit


def in_trail(folder: RunFolder) -> None:
    """A member of the header, in the place of the spaces after it or of 64 bytes more."""
    data = folder.trail.read_bytes()
    start = len(MAGIC) + 4
    (length,) = struct.unpack("<I", data[len(MAGIC) : start])
    text = data[start : start + length].rstrip(b" ")[:-1] + b',"test_accuracy":0.9999}'
    text = text.ljust(len(text) + -(start + len(text)) % 64)
    folder.trail.write_bytes(MAGIC + struct.pack("<I", len(text)) + text + data[start + length :])


def in_checkpoint(**members: Any) -> Edit:
    """Other members in the header of the first checkpoint."""

    def edit(folder: RunFolder) -> None:
        path = folder.checkpoint(folder.checkpoint_steps()[0])
        with safe_open(str(path), framework="numpy") as file:
            document = json.loads(file.metadata()["ndrepro"])
        save_file(load_file(path), path, {"ndrepro": json.dumps({**document, **members}, sort_keys=True)})

    return edit


def in_header(of: str, before: str, after: str) -> Edit:
    """Edit the header of a file of tensors, once: safetensors reads the last of two members, and no blanks."""

    def edit(folder: RunFolder) -> None:
        path = folder.root / of
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = data[8 : 8 + length].replace(before.encode(), after.encode(), 1)
        header = header.ljust(-(-len(header) // 8) * 8)
        path.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])

    return edit


FALSE = '"ndrepro":"test accuracy 99.99 %"'
TENSORS = {"weights.safetensors": "conv1.bias", "checkpoints/step-000000012.safetensors": "net.conv1.bias"}
REFUSED: dict[str, Edit] = {
    **{
        f"{name}: blanks": in_log(f"{name}.json", '"', '\t \t \t"')
        for name in ("request", "environment", "dataset", "model", "result")
    },
    "model: escape": in_log("model.json", '"summary"', '"\\u0073ummary"'),
    **{
        f"{of}: {how}": in_header(of, before, after)
        for of, tensor in TENSORS.items()
        for how, before, after in (
            ("a key twice", '"ndrepro":', f'{FALSE},"ndrepro":'),
            ("blanks", '"ndrepro":', '\t \t "ndrepro":'),
            ("blanks at the end", "}}", "}}" + " " * 64),
            ("blanks in the document", '\\"experiment\\":', '\\"experiment\\":     '),
            ("a tensor twice", "{", f'{{"{tensor}":{{"dtype":"F32","shape":[99],"data_offsets":[0,0]}},'),
            ("a member of a tensor", '"dtype":', '"accuracy":0.9999,"dtype":'),
        )
    },
    "metrics: carriage return": in_log("metrics.jsonl", "{", "{\r \r"),
    "metrics: tab": in_log("metrics.jsonl", ", ", ",\t"),
    "metrics: another form of a number": in_log("metrics.jsonl", '"epoch": 1,', '"epoch": 1 ,'),
    "timing: spaces": in_log("timing.jsonl", ", ", ",     "),
    "states: tab": in_log("states.jsonl", "}", "\t}"),
    "trail: header": in_trail,
    "checkpoint: schema": in_checkpoint(schema="test accuracy 99.99 %"),
    "checkpoint: experiment": in_checkpoint(experiment="test accuracy 99.99 %"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_recorder_writes_is_refused(honest: Finished, tmp_path: Path, what: str) -> None:
    folder = copied(honest.folder, tmp_path)
    assert contradiction(folder.root, manifest_of(folder)) is None, "the control"
    REFUSED[what](folder)
    found = contradiction(folder.root, manifest_of(folder))
    assert found is not None and not found.message.startswith("nothing that can be checked"), found


@pytest.mark.parametrize("what", ["tensor", "member", "weights"])
def test_what_no_recorder_writes_is_refused_where_no_states_were_recorded(
    honest: Finished, tmp_path: Path, what: str
) -> None:
    """Before, an author removed states.jsonl, and headers and further tensors of checkpoints were free."""
    folder = copied(honest.folder, tmp_path)
    folder.states.unlink()
    assert contradiction(folder.root, manifest_of(folder)) is None, "the control"
    path = folder.weights if what == "weights" else folder.checkpoint(folder.checkpoint_steps()[0])
    with safe_open(str(path), framework="numpy") as file:
        header = file.metadata()
    tensors = load_file(path)
    if what == "tensor":
        tensors["result.test_accuracy"] = tensors[next(iter(tensors))]
    elif what == "member":
        header["ndrepro"] = json.dumps({**json.loads(header["ndrepro"]), "note": "99.99 %"}, sort_keys=True)
    else:
        header["results"] = "test accuracy 99.99 %"
    save_file(tensors, path, header)
    assert contradiction(folder.root, manifest_of(folder)) is not None


def test_a_version_that_is_none_is_refused(honest: Finished, author: Bench, tmp_path: Path) -> None:
    folder = copied(honest.folder, tmp_path)
    builder = manifest_of(folder).builder
    for version in ({**builder.version, "accuracy": "0.9999"}, {**builder.version, "python": "accuracy 99.99 %"}):
        sign_again(folder, author, builder=Builder(builder.id, version))
        failure = verified(folder, author).failure
        assert failure is not None and failure.name == "predicate" and "builder.version" in failure.message


def test_every_file_has_a_rule_a_repetition_or_a_claim(honest: Finished, author: Bench, tmp_path: Path) -> None:
    """The manifest of an earlier attempt, whose signature nobody looks at, and source that nobody executes."""
    folder = copied(honest.folder, tmp_path)
    then = manifest_of(folder)
    assert unexpected_claim(then, then) == (), "the control: every file of an honest run has a rule"
    earlier = replace(then, ledger=replace(then.ledger, sequence=max(1, then.ledger.sequence - 1)))
    kept = ("attempts/1/manifest.dsse.json", "untracked/ndrepro/train.py", "untracked/results.md", "data.csv")
    for name in kept:
        (folder.root / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.root / name).write_text(str(earlier))
    sign_again(folder, author)
    (claim,) = unexpected_claim(manifest_of(folder), then)
    assert claim.status == "not checked" and all(name in claim.evidence for name in kept)
    found = judge(honest.folder, honest.folder)
    named = {each.name for each in found.claims} | {"machine, times, energy and log", "recorded code"}
    assert {rule for rule in RULES.values() if not rule.startswith("check")} <= named


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"classes": [*map(str, range(9)), "99.99 % right"]}, "classes: -9, +99.99 % right"),
        ({"test_images_dropped": 1234}, "test_images_dropped: not recorded then, 1234 now"),
        ({"prepared": {"labels_redrawn": 0, "labels_changed": 0}}, "prepared: "),
    ],
)
def test_facts_of_the_data_that_are_not_repeated_are_named(
    honest: Finished, author: Bench, tmp_path: Path, members: dict[str, Any], words: str
) -> None:
    folder = copied(honest.folder, tmp_path)
    document = json.loads(folder.dataset.read_text())
    write_json(folder.dataset, {**document, **members})
    sign_again(folder, author, **agreeing(folder, manifest_of(folder)))
    assert verified(folder, author).ok
    (claim,) = (each for each in judge(honest.folder, folder).claims if each.name == "facts of the data")
    assert claim.status == "not checked" and claim.evidence.startswith(words)
    assert all(each.name != "facts of the data" for each in judge(honest.folder, honest.folder).claims), "the control"


def test_a_test_set_of_few_images_is_named(honest: Finished) -> None:
    """An accuracy of one image is 100 % soon; the setting was in the experiment's name alone."""
    (claim,) = (each for each in judge(honest.folder, honest.folder).claims if each.name == "data")
    assert claim.status == "checked"
    assert claim.evidence.endswith("training images: 96, published are 1,437; scored images: 32, published are 360")


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("test accuracy", "20261121T101500Z-aaaaaa"),
        ("reproduced run", "test accuracy 99.99 %"),
        ("continued run", "20261121T101500Z-aaaaaa"),  # this one is no segment
    ],
)
def test_a_run_that_it_repeats_has_the_name_of_a_run(
    honest: Finished, author: Bench, tmp_path: Path, name: str, run: str
) -> None:
    for origin in (
        Resource("reproduced run", digest={"sha256": "0" * 64}, annotations={"run": "20261121T101500Z-aaaaaa"}),
        Resource(name, annotations={"run": run}),
    ):
        folder = copied(honest.folder, tmp_path / origin.name / str(origin.digest is None))
        then = manifest_of(folder)
        write_json(folder.origin, origin.to_json())
        sign_again(folder, author, dependencies=(origin, *then.dependencies))
        failure = verified(folder, author).failure
        assert (failure is None) == (origin.digest is not None), failure


def test_flags_at_both_ends_and_the_build_of_torch_are_conditions(honest: Finished) -> None:
    then = manifest_of(honest.folder)
    assert conditions_claim(then, then).status == "checked", "the control"

    def told(*, start: Mapping[str, Any] | None = None, end: Mapping[str, Any] | None = None, build: str = "") -> str:
        inner: dict[str, Any] = json.loads(json.dumps(then.internal_parameters))
        inner["determinism"]["start"] |= start or {}
        inner["determinism"]["end"] |= end or {}
        inner["libraries"] |= {"build": build} if build else {}
        claim = conditions_claim(replace(then, internal_parameters=inner), then)
        assert claim.status == "not checked"
        return claim.evidence

    assert told(end={"cudnn_benchmark": True}) == "cudnn_benchmark at the end: True then, False now"
    assert told(start={"threads": 64, "flush_denormal": True}).startswith("flush_denormal at the start: True then")
    processes = {"ranks": [{"gpu": {"name": "H100"}}, {"gpu": {"none": "it computes on the CPU"}}]}
    inner = {**then.internal_parameters, "processes": processes}
    assert "GPUs of processes: H100 then" in conditions_claim(replace(then, internal_parameters=inner), then).evidence
    assert told(build="99.99 %").startswith("torch: build: 99.99 % then, PyTorch built with")
    renamed = replace(then, external_parameters={**then.external_parameters, "environment": "torch-1.13.1"})
    assert conditions_claim(renamed, then).evidence == "environment: torch-1.13.1 then, main now"


@pytest.mark.parametrize(("member", "value"), [("stepping", "99"), ("flags", ["avx"])])
def test_a_processor_by_which_no_equal_bits_are_promised_is_named(honest: Finished, member: str, value: Any) -> None:
    """Before: conditions checked, and another accuracy of the signed weights was, too, within one image."""
    then = manifest_of(honest.folder)
    machine: dict[str, Any] = json.loads(json.dumps(then.machine))
    machine["machine"]["cpu"][member] = value
    other = replace(then, machine=machine)
    claim = conditions_claim(other, then)
    assert claim.status == "not checked" and claim.evidence == "; ".join(unequal_conditions(other, then))
    seeded: dict[str, Any] = json.loads(json.dumps(then.internal_parameters))
    seeded["determinism"]["level"] = "seeded"
    assert (
        "seeded, promises no equal bits" in conditions_claim(*[replace(then, internal_parameters=seeded)] * 2).evidence
    )


def test_what_is_neither_repeated_nor_a_condition_is_named_as_asserted(honest: Finished) -> None:
    then = manifest_of(honest.folder)
    variables = {**then.machine["variables"], "recorded": {**then.variables, "LANG": "99.99 %"}}
    other = replace(then, machine={**then.machine, "variables": variables})
    assert conditions_claim(other, then).status == "checked", "so it has to be named elsewhere"
    assert [each.evidence for each in training_variables_claim(other, then)] == ["of then, not so now: LANG"]
    evidence = asserted_claim(ASSERTED_OF_TRAINING).evidence
    for words in ("code and caches among the variables", "which modules were imported", "the system's libraries"):
        assert words in evidence

"""An author with the key signs a manifest that says something else than the run's own files: verify refuses each field.

The signature, the digests and the ledger are right in all of these; only the files speak against the manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from dishonest_author import manifest_of, sign_again, verified
from real_runs import Bench

from ndrepro.execution.runs.predicate_check import ASSERTED, RULES
from ndrepro.execution.runs.run import Finished
from ndrepro.protocol.messages import Request, read_json
from ndrepro.protocol.training_record import external_parameters, internal_parameters
from provenance.attestation.key_home import KeyRing
from provenance.attestation.manifest import Artifact, Attempt, Builder, Manifest, Resource
from provenance.formats.strict_json import timestamp
from provenance.ledger_entries import entry
from provenance.ledger_entries.entry import EntryLine
from provenance.recording.run_clock import end_time


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("contradictions"))


@pytest.fixture(scope="module")
def honest(bench: Bench) -> Finished:
    """One small run, really trained."""
    return bench.run("lenet_bn_1_digits", train_images="32")


def asked(manifest: Manifest, **changes: Any) -> dict[str, Any]:
    return {"external_parameters": {**manifest.external_parameters, **changes}}


def chosen(manifest: Manifest, **changes: Any) -> dict[str, Any]:
    return {"internal_parameters": {**manifest.internal_parameters, **changes}}


def machine(manifest: Manifest, **changes: Any) -> dict[str, Any]:
    return {"machine": {**manifest.machine, **changes}}


def dependency(manifest: Manifest, prefix: str, **changes: Any) -> dict[str, Any]:
    index = next(i for i, item in enumerate(manifest.dependencies) if item.name.startswith(prefix))
    changed = replace(manifest.dependencies[index], **changes)
    return {"dependencies": (*manifest.dependencies[:index], changed, *manifest.dependencies[index + 1 :])}


def byproduct(manifest: Manifest, name: str, **annotations: Any) -> dict[str, Any]:
    others = [item for item in manifest.byproducts if item.name != name]
    return {"byproducts": (*others, Resource(name, annotations=annotations))}


def dated(manifest: Manifest, started: str, finished: str) -> dict[str, Any]:
    last = Attempt(started, finished, manifest.outcome)
    return {"started_on": started, "finished_on": finished, "attempts": (*manifest.attempts[:-1], last)}


OTHER = hashlib.sha256(b"other data").hexdigest()
GPUS = {"driver": "570.0", "devices": [{"name": "NVIDIA H100"}] * 8}
# what the author claims -> how the manifest is changed
CLAIMS: dict[str, Callable[[Manifest], dict[str, Any]]] = {
    "another kind of build": lambda m: {"build_type": "urn:ndrepro:script:v1"},
    "another name": lambda m: asked(m, name="vgg16_nd_100"),
    "other seeds": lambda m: asked(m, seeds={**m.external_parameters["seeds"], "order": "7"}),
    "a data folder": lambda m: asked(m, data="/data/imagenet"),
    "an environment": lambda m: asked(m, environment="torch-1.13.1"),
    "a segment": lambda m: asked(m, segment={"fromStep": 1, "epochs": 1}),
    "a container": lambda m: asked(m, container={"engine": "podman"}),
    "a parameter of its own": lambda m: asked(m, preregistered=True),
    "another determinism level": lambda m: chosen(
        m, determinism={**m.internal_parameters["determinism"], "level": "free"}
    ),
    "other flags": lambda m: chosen(m, determinism={**m.internal_parameters["determinism"], "end": {}}),
    "other threads": lambda m: chosen(m, threads=64),
    "a resumed run": lambda m: chosen(m, resumedFromStep=391),
    "a GPU": lambda m: chosen(m, device="cuda:0"),
    "another torch": lambda m: chosen(m, libraries={**m.internal_parameters["libraries"], "torch": "9.9"}),
    "less memory": lambda m: chosen(m, usage={**m.internal_parameters["usage"], "peak_memory_bytes": 1}),
    "eight processes": lambda m: chosen(m, processes={"count": 8}),
    "8 x H100": lambda m: machine(m, gpus=GPUS),
    "another processor": lambda m: machine(m, machine={**m.machine["machine"], "cpu": "Grace"}),
    "another Python": lambda m: machine(m, interpreter={**m.machine["interpreter"], "version": "3.99"}),
    "other variables": lambda m: machine(m, variables={"recorded": {}, "not_recorded": 0}),
    "other data": lambda m: dependency(m, "dataset:", digest={"sha256": OTHER}),
    "official data": lambda m: dependency(
        m, "dataset:", annotations={**(m.dependency("dataset:digits").annotations or {}), "canonical": True, "x": 1}
    ),
    "another numpy": lambda m: dependency(m, "distribution:numpy", uri="pkg:pypi/numpy@9.9"),
    "an edited RECORD": lambda m: dependency(m, "distribution:torch", digest={"sha256": OTHER}),
    "no torch at all": lambda m: {"dependencies": tuple(d for d in m.dependencies if d.name != "distribution:torch")},
    "one library more": lambda m: {"dependencies": (*m.dependencies, Resource("distribution:apex"))},
    "a repetition": lambda m: {"dependencies": (*m.dependencies, Resource("reproduced run", digest={"sha256": OTHER}))},
    "another commit": lambda m: dependency(m, "source", digest={"gitCommit": "0" * 40}),
    "another builder": lambda m: {"builder": Builder("urn:cloud", dict(m.builder.version))},
    "a smaller network": lambda m: byproduct(m, "layer census", trainable_parameters=1),
    "better results": lambda m: byproduct(m, "metrics summary", epochs=1, best={"epoch": 1, "test_accuracy": 0.99}),
    "a finding of its own": lambda m: byproduct(m, "state of the art", value=True),
    "a failure": lambda m: {"outcome": "failed", "attempts": (replace(m.attempts[-1], outcome="failed"),)},
    "an interruption": lambda m: {
        "outcome": "interrupted",
        "attempts": (replace(m.attempts[-1], outcome="interrupted"),),
    },
    "another exit code": lambda m: {"exit_code": 75},
    "an end that nobody saw": lambda m: {"exit_code": None},
    "a later date": lambda m: dated(m, "2027-01-01T00:00:00.000000Z", "2027-01-01T00:10:00.000000Z"),
    "an earlier date": lambda m: dated(m, "2019-01-01T00:00:00.000000Z", "2019-01-01T00:10:00.000000Z"),
    "an end before its start": lambda m: dated(m, m.finished_on, m.started_on),
    "a later date, and a clock set back by a minute": lambda m: {
        **dated(m, m.started_on, "2027-01-01T00:10:00.000000Z"),
        **byproduct(m, "clock", set_back_seconds=60),
    },
    "a clock set back by nothing": lambda m: byproduct(m, "clock", set_back_seconds=0),
    "a clock set back by a fraction": lambda m: byproduct(m, "clock", set_back_seconds=3600.5),
    "a clock that says more": lambda m: byproduct(m, "clock", set_back_seconds=3600, accuracy=1.0),
    "other times of its attempt": lambda m: {"attempts": (Attempt(m.started_on, None, m.outcome),)},
    "another size of a file": lambda m: {"artifacts": (Artifact("log.txt", 1, OTHER), *m.artifacts[1:])},
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_claim_that_the_files_contradict_is_refused(bench: Bench, honest: Finished, claim: str) -> None:
    signed = honest.folder.manifest.read_bytes()
    original = manifest_of(honest.folder)
    try:
        sign_again(honest.folder, bench, **{"byproducts": original.byproducts, **CLAIMS[claim](original)})
        verdict = verified(honest.folder, bench)
        assert not verdict.ok, claim
        print(f"{claim}: {verdict.failure.message if verdict.failure else ''}")
    finally:
        honest.folder.manifest.write_bytes(signed)


def test_the_honest_manifest_verifies_and_so_it_does_signed_again(bench: Bench, honest: Finished) -> None:
    """The control."""
    signed = honest.folder.manifest.read_bytes()
    assert verified(honest.folder, bench).ok
    sign_again(honest.folder, bench)
    verdict = verified(honest.folder, bench)
    assert verdict.ok, verdict.failure
    honest.folder.manifest.write_bytes(signed)


def test_a_clock_that_was_set_back_is_said_and_fails_nothing(bench: Bench, honest: Finished) -> None:
    """The end is then the start and the time that passed, which is after the ledger's entry of the end."""
    signed, made = honest.folder.manifest.read_bytes(), manifest_of(honest.folder)
    started, ended = (datetime.fromisoformat(text) for text in (made.started_on, made.finished_on))
    passed = timedelta(hours=1)
    finished, set_back = end_time(started, ((ended - started) + passed).total_seconds(), ended)
    assert finished == ended + passed and end_time(started, 1.0, ended) == (ended, ()), "the control"
    changes = dated(made, made.started_on, timestamp(finished))
    try:
        sign_again(honest.folder, bench, **changes)
        assert not verified(honest.folder, bench).ok, "the control: nothing says why"
        sign_again(honest.folder, bench, **changes, byproducts=(*made.byproducts, *set_back))
        verdict = verified(honest.folder, bench)
        assert verdict.ok, verdict.failure
        assert "the clock was set back by 1:00:00" in verdict.checks[-1].message
    finally:
        honest.folder.manifest.write_bytes(signed)


@pytest.mark.parametrize("event", ["begun", "resumed", "ended"])
def test_what_others_write_into_the_ledger_contradicts_no_honest_run(
    bench: Bench, honest: Finished, event: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write the list appends entries of the run, with a key of his own or in the author's name."""
    path, run = honest.folder.ledger, honest.folder.root.name
    assert path is not None
    whole = path.read_bytes()
    last, stranger = EntryLine.from_bytes(whole.splitlines()[-1]).entry, KeyRing(tmp_path)
    monkeypatch.setattr(entry, "timestamp", lambda: "2099-01-01T00:00:00.000000Z")
    his = EntryLine.sign(event, run, {}, after=last, signer=stranger.signer(), key=stranger.public_key())
    forged = EntryLine.sign(
        event, run, {}, after=last, signer=stranger.signer(), key=KeyRing(bench.options.home).public_key()
    )
    try:
        for line in (his.to_bytes(), forged.to_bytes()):
            path.write_bytes(whole + line + b"\n")
            verdict = verified(honest.folder, bench)
            assert verdict.ok, verdict.failure
    finally:
        path.write_bytes(whole)


def test_every_field_has_a_rule(honest: Finished) -> None:
    """A field that is added to the predicate needs a rule, and the documentation names each one."""
    request = Request.from_json(read_json(honest.folder.request))
    given = external_parameters(request, data="", command=[])
    inner = internal_parameters(request, flags=({}, {}), device="", libraries={}, usage={}, processes={})
    manifest = manifest_of(honest.folder)
    names = {f"externalParameters.{name}" for name in (*given, *manifest.external_parameters)}
    names |= {f"internalParameters.{name}" for name in (*inner, *manifest.internal_parameters)}
    names |= {f"resolvedDependencies.{item.name.partition(':')[0]}" for item in manifest.dependencies}
    names |= {f"byproducts.{item.name}" for item in manifest.byproducts}
    plain = {"build_type": "buildType", "exit_code": "exitCode", "started_on": "metadata.startedOn"}
    plain |= {"finished_on": "metadata.finishedOn", "invocation_id": "metadata.invocationId"}
    parts = ("external_parameters", "internal_parameters", "dependencies", "byproducts")
    names |= {plain.get(each.name, each.name) for each in fields(Manifest) if each.name not in parts}
    assert names <= set(RULES), names - set(RULES)
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "security.md").read_text(encoding="utf-8")
    assert [name for name in RULES if f"`{name}`" not in page] == []
    assert ASSERTED in page

"""Exports are written from what was signed and nothing else, and what is wrong with a request is said."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from ndrepro.cli.app import invoke
from ndrepro.cli.commands import export as export_command
from ndrepro.exports.archive import crate_members
from ndrepro.exports.formats import DOCUMENTS, FORMATS, ExportOptions, export_run
from ndrepro.exports.mlflow_run import mlflow_name
from ndrepro.exports.run_facts import NotExported, RunFacts
from ndrepro.protocol.errors import MissingExtra, UsageError
from provenance.attestation.countersignature import countersign
from provenance.attestation.dsse import read_envelope, write_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.manifest import Artifact, Resource
from provenance.attestation.trust import TrustPolicy
from provenance.errors import KeyFileError
from provenance.formats.digest import bytes_digest

WITHOUT_KEY = [name for name in DOCUMENTS if name not in ("model-signing", "croissant")]


def document(run: Any, name: str) -> Any:
    return json.loads(DOCUMENTS[name](run.facts(), ExportOptions()))


@pytest.mark.parametrize("name", WITHOUT_KEY)
def test_a_document_names_the_signed_manifest_and_is_the_same_every_time(script: Any, name: str) -> None:
    facts = script.facts()
    made = DOCUMENTS[name](facts, ExportOptions())
    assert made == DOCUMENTS[name](script.facts(), ExportOptions())
    assert facts.digest in made.decode()
    for file in facts.models:
        assert file.sha256 in made.decode()


def test_what_was_asked_for_and_logged_is_in_the_model_card(script: Any) -> None:
    bill = document(script, "cyclonedx")
    component = bill["metadata"]["component"]
    properties = {each["name"]: each["value"] for each in component["properties"]}
    assert properties["ndrepro:parameter:parameters.nested.name"] == "žluťoučký"
    assert component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"] == [
        {"type": "loss", "value": repr(1 / 3)}
    ]
    assert {each["name"] for each in bill["components"]} >= {"numpy", "cryptography"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda bill: bill["metadata"]["component"].update(type="network"),
        lambda bill: bill["metadata"]["component"]["hashes"][0].update(content="12"),
        lambda bill: bill["components"][0].pop("name"),
        lambda bill: bill["metadata"]["component"]["modelCard"].update(accuracy=1),
        lambda bill: bill.update(bomFormat="SPDX"),
    ],
)
def test_the_bill_is_cyclonedx_1_6_and_a_damaged_one_is_not(script: Any, damage: Any) -> None:
    validator, bill = JsonStrictValidator(SchemaVersion.V1_6), document(script, "cyclonedx")
    assert validator.validate_str(json.dumps(bill)) is None
    damage(bill)
    assert validator.validate_str(json.dumps(bill)) is not None


def test_a_run_that_does_not_verify_is_not_exported(script: Any, tmp_path: Path) -> None:
    copy = replace(script, root=tmp_path, run=tmp_path / "runs" / "fit" / "one")
    shutil.copytree(script.root, tmp_path, dirs_exist_ok=True)
    assert copy.facts().name == "fit"
    (copy.run / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(NotExported, match=r"check 6, digests: .*metrics\.jsonl"):
        copy.facts()


@pytest.mark.parametrize("changed", ["artifacts/model.safetensors", "metrics.jsonl", "manifest.dsse.json"])
def test_a_file_that_changes_after_verification_is_in_no_export(script: Any, tmp_path: Path, changed: str) -> None:
    copy = replace(script, root=tmp_path, run=tmp_path / "runs" / "fit" / "one")
    shutil.copytree(script.root, tmp_path, dirs_exist_ok=True)
    facts, crate = copy.facts(), tmp_path / "crate"
    size = (copy.run / changed).stat().st_size
    (copy.run / changed).write_bytes(b"7" * size)
    with pytest.raises(NotExported, match="changed while it was exported"):
        export_run(facts, "ro-crate", str(crate), ExportOptions())
    assert not crate.exists(), "a half crate is none"
    if changed == "metrics.jsonl":
        with pytest.raises(NotExported, match="changed while it was exported"):
            DOCUMENTS["cyclonedx"](facts, ExportOptions())


def test_what_is_parsed_is_what_was_hashed(script: Any, tmp_path: Path) -> None:
    """The log is exchanged as soon as it was read."""
    shutil.copytree(script.root, tmp_path, dirs_exist_ok=True)
    verified = replace(script, root=tmp_path, run=tmp_path / "runs" / "fit" / "one").facts()

    class Exchanged(RunFacts):
        def read(self, file: Artifact) -> bytes:
            data = super().read(file)
            (self.folder / file.path).write_text('{"loss": 0.0}\n')
            return data

    facts = Exchanged(verified.folder, verified.manifest, verified.digest, verified.signed, verified.keyids)
    assert facts.metrics() == script.facts().metrics()


def test_a_crate_has_the_digest_of_the_manifest_as_it_is_there(script: Any, tmp_path: Path) -> None:
    """Of a run that a reviewer countersigned; before, it was that of the manifest with one signature."""
    shutil.copytree(script.root, tmp_path, dirs_exist_ok=True)
    copy = replace(script, root=tmp_path, run=tmp_path / "runs" / "fit" / "one")
    manifest = copy.run / "manifest.dsse.json"
    countersign(manifest, copy.facts().signed, KeyRing(tmp_path / "reviewer"))
    export_run(copy.facts(), "ro-crate", str(tmp_path / "crate"), ExportOptions())
    crate = json.loads((tmp_path / "crate" / "ro-crate-metadata.json").read_bytes())
    (described,) = (each for each in crate["@graph"] if each.get("name", "").endswith("manifest.dsse.json"))
    assert described["sha256"] == bytes_digest(manifest.read_bytes())

    TrustPolicy.load(copy.home).add(KeyRing(tmp_path / "reviewer").public_key().pem, "reviewer")
    kind, payload, signatures = read_envelope(manifest.read_bytes())
    for order in (signatures, signatures[::-1]):
        manifest.write_bytes(write_envelope(kind, payload, order))
        assert copy.facts().keyids == (KeyRing(copy.home).keyid, KeyRing(tmp_path / "reviewer").keyid)


def test_which_model_is_meant_is_asked_where_there_are_none_or_two(script: Any) -> None:
    facts = script.facts()
    other = Artifact("artifacts/second.onnx", 1, "0" * 64)
    two = replace(facts, manifest=replace(facts.manifest, artifacts=(*facts.files, other)))
    none = replace(facts, manifest=replace(facts.manifest, artifacts=()))
    assert facts.model(None) == facts.models[0] and two.model("artifacts/second.onnx") == other
    for run, path, problem in (
        (two, None, "2 models"),
        (none, None, "no signed file is named like a model"),
        (facts, "nowhere.pt", "no signed file 'nowhere.pt'"),
    ):
        with pytest.raises(NotExported, match=problem):
            run.model(path)


def test_what_a_format_needs_is_said(script: Any, tmp_path: Path) -> None:
    facts, options = script.facts(), ExportOptions()
    (tmp_path / "there").mkdir()
    for name, out, error, problem in (
        ("croissant", tmp_path / "a.json", NotExported, "0 data sets recorded"),
        ("model-signing", tmp_path / "a.sig", KeyFileError, "ed25519, expected one on P-256"),
        ("prov", tmp_path / "there", UsageError, "a folder, expected the name of a file"),
        ("ro-crate", tmp_path / "there", UsageError, "exists already"),
        ("mlflow", tmp_path / "store", MissingExtra, r"extra \[mlflow\]"),
        ("tensorboard", tmp_path / "events", MissingExtra, r"extra \[tensorboard\]"),
    ):
        with pytest.raises(error, match=problem):
            export_run(facts, name, str(out), options)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["export", "x"], "--format '': expected one of ro-crate"),
        (["export", "x", "--format", "bibtex"], "--format 'bibtex': expected one of ro-crate"),
        (["export", "x", "--format", "mlflow"], "nothing says where to write it"),
        (["export", "x", "--format", "slsa", "--json"], "nothing says where to write it"),
        (["archive", "{empty}", "-o", "a.zip"], "no run to archive"),
    ],
)
def test_a_wrong_command_is_answered_before_anything_is_written(
    words: list[str], problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=problem):
        invoke([word.replace("{empty}", str(tmp_path / "empty")) for word in words])
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_the_help_names_every_format() -> None:
    assert ", ".join(FORMATS) == export_command.FORMATS_SHOWN


def test_numbers_that_no_tool_holds_and_names_that_mlflow_refuses_do_no_harm(script: Any, tmp_path: Path) -> None:
    rows = [
        '{"step": 1, "loss": 1.5, "big": 1%s, "flag": true}' % ("0" * 400),
        '{"step": 9%s, "loss": "nan"}' % ("9" * 30),
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(f"{row}\n" for row in rows))
    facts = script.facts()
    data = (tmp_path / "metrics.jsonl").read_bytes()
    changed = replace(facts.manifest, artifacts=(Artifact("metrics.jsonl", len(data), bytes_digest(data)),))
    found = replace(facts, folder=tmp_path, manifest=changed).metrics()
    assert [(each.name, each.step) for each in found] == [("loss", 1), ("loss", 1)] and found[1].value != found[1].value
    assert [mlflow_name(name) for name in ("a(b)%", "../../x//y", "žluť", "", "a" * 300)] == [
        "a_b__",
        "x/y",
        "_lu_",
        "_",
        "a" * 250,
    ]


def test_a_large_data_set_is_described_by_its_listing(script: Any, tmp_path: Path) -> None:
    listing = "".join(f"{number:064x}  train/{number}.png\n" for number in range(1001))
    (tmp_path / "dataset.sha256").write_text(listing)
    artifact = Artifact("dataset.sha256", len(listing), bytes_digest(listing.encode()))
    data = [Resource("dataset:/data/photos", digest={"sha256": artifact.sha256}), Resource("dataset:other")]
    facts = script.facts()
    manifest = replace(facts.manifest, artifacts=(artifact,), dependencies=tuple(data))
    run = replace(facts, folder=tmp_path, manifest=manifest)
    with pytest.raises(NotExported, match="2 data sets recorded"):
        DOCUMENTS["croissant"](run, ExportOptions())
    made = json.loads(DOCUMENTS["croissant"](run, ExportOptions(data="/data/photos")))
    assert made["name"] == "photos" and "files: 1001" in made["description"]
    assert [each["sha256"] for each in made["distribution"]] == [artifact.sha256]


def test_what_a_program_read_and_wrote_is_named_by_its_digest(program: Any) -> None:
    facts = program.facts()
    assert [file.path for file in facts.models] == ["large.pt", "small.pt"]
    assert facts.last_metrics() == {"log.jsonl/loss": 0.5}
    large = facts.model("large.pt")
    assert large.sha256 == hashlib.sha256(bytes(3 << 20)).hexdigest() and large.size == 3 << 20
    assert not list(program.run.rglob("large.pt")), "it is too large to be copied into the run"
    bill = json.loads(DOCUMENTS["cyclonedx"](facts, ExportOptions(model="large.pt")))
    assert bill["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": large.sha256}]
    assert [data["name"] for data in bill["components"] if data["type"] == "data"] == ["data.csv"]
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill)) is None
    data = json.loads(DOCUMENTS["croissant"](facts, ExportOptions()))
    assert [file["sha256"] for file in data["distribution"]] == [hashlib.sha256(b"1,2\n").hexdigest()]
    crate = json.loads(dict((m.path, m.content) for m in crate_members(facts))["ro-crate-metadata.json"])
    (action,) = (entity for entity in crate["@graph"] if entity["@type"] == "CreateAction")
    named = {entity["@id"]: entity["name"] for entity in crate["@graph"] if "name" in entity}
    assert "program.py" in {named[each["@id"]] for each in action["object"]}
    assert "large.pt" in {named[each["@id"]] for each in action["result"]}
    prov = document(program, "prov")
    assert f"sha256:{large.sha256}" in {each["prov:entity"] for each in prov["wasGeneratedBy"].values()}

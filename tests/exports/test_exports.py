"""Exports are written from what was signed and nothing else, and what is wrong with a request is said."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from ndrepro.cli.app import invoke
from ndrepro.exports.formats import DOCUMENTS, ExportOptions, export_document, export_run
from ndrepro.exports.run_facts import NotExported
from ndrepro.protocol.errors import MissingExtra, UsageError
from provenance.attestation.manifest import Artifact
from provenance.errors import KeyFileError

WITHOUT_KEY = [name for name in DOCUMENTS if name not in ("model-signing", "croissant")]


def document(run: Any, name: str) -> Any:
    return json.loads(export_document(run.facts(), name, ExportOptions()))


@pytest.mark.parametrize("name", WITHOUT_KEY)
def test_a_document_names_the_signed_manifest_and_is_the_same_every_time(script: Any, name: str) -> None:
    facts = script.facts()
    made = export_document(facts, name, ExportOptions())
    assert made == export_document(script.facts(), name, ExportOptions())
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


@pytest.mark.parametrize("changed", ["artifacts/model.safetensors", "metrics.jsonl"])
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
            export_document(facts, "cyclonedx", ExportOptions())


def test_which_model_is_meant_is_asked_where_there_are_none_or_two(script: Any) -> None:
    facts = script.facts()
    other = Artifact("artifacts/second.onnx", 1, "0" * 64)
    two = replace(facts, manifest=replace(facts.manifest, artifacts=(*facts.files, other)))
    none = replace(facts, manifest=replace(facts.manifest, artifacts=()))
    assert facts.model(None) == facts.models[0] and two.model("artifacts/second.onnx") == other
    for run, path, problem in (
        (two, None, "2 models"),
        (none, None, "no signed file holds a model"),
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

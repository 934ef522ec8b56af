"""Every export is accepted by a tool that is not ours, and an altered one is refused by the same tool.

A real training run and a recorded script; each validator in an environment of its own, asked once for all its cases.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import validators
from image_statements import Build, statements
from recorded_runs import ROOT
from validators import Answer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Answer]]:
    folder = tmp_path_factory.mktemp("validators")
    return lambda kind, *cases: validators.ask(validators.environment(kind, folder), kind, *cases)


def exported(run: Any, name: str, out: Path, *words: str | Path) -> Path:
    done = run.ndrepro("export", run.run, "--format", name, "-o", out, *words)
    assert done.code == 0, done.err
    return out


def altered(file: Path, name: str, change: Callable[[Any], object]) -> Path:
    """A copy of a JSON document beside it, with a change."""
    value = json.loads(file.read_text(encoding="utf-8"))
    change(value)
    copy = file.with_name(name)
    copy.write_text(json.dumps(value), encoding="utf-8")
    return copy


def expect(answers: list[Answer], accepted: int) -> None:
    """The first are accepted, all further ones refused."""
    assert [answer.accepted for answer in answers] == [n < accepted for n in range(len(answers))], answers


def test_roc_validator_takes_crates_and_archives(
    trained: Any, script: Any, program: Any, tmp_path: Path, ask: Callable[..., list[Answer]]
) -> None:
    crate = exported(trained, "ro-crate", tmp_path / "crate")
    assert script.ndrepro("archive", script.runs, "-o", tmp_path / "runs.tar").code == 0
    shutil.unpack_archive(tmp_path / "runs.tar", tmp_path / "unpacked", filter="data")

    def without(name: str, change: Callable[[list[dict[str, Any]]], object]) -> tuple[Path]:
        copy = shutil.copytree(crate, tmp_path / name)
        altered(copy / "ro-crate-metadata.json", "ro-crate-metadata.json", lambda value: change(value["@graph"]))
        return (copy,)

    def of(graph: list[dict[str, Any]], kind: str) -> dict[str, Any]:
        return next(entity for entity in graph if entity["@type"] == kind)

    missing = shutil.copytree(crate, tmp_path / "missing")
    (missing / trained.run.name / "trail.bin").unlink()
    cases = [
        without("no-instrument", lambda graph: of(graph, "CreateAction").pop("instrument")),
        without("no-date", lambda graph: of(graph, "Dataset").pop("datePublished")),
        without("no-profile", lambda graph: of(graph, "Dataset").pop("conformsTo")),
        (missing,),
    ]
    exported(program, "ro-crate", tmp_path / "of-program")
    expect(ask("crate", (crate,), (tmp_path / "unpacked" / "runs",), (tmp_path / "of-program",), *cases), 3)
    assert trained.ndrepro("verify", crate / trained.run.name).code == 0, "the crate's copy of the run verifies"


def test_prov_reads_the_document(
    trained: Any, script: Any, program: Any, tmp_path: Path, ask: Callable[..., list[Answer]]
) -> None:
    file, second = (exported(run, "prov", tmp_path / f"{run.run.parent.name}.json") for run in (trained, script))
    cases = [
        altered(file, "a.json", lambda value: value["prefix"].pop("sha256")),
        altered(file, "b.json", lambda value: value["used"]["_:u0"].update({"prov:entity": "nobody:x"})),
        altered(file, "c.json", lambda value: value.update(entities={})),
    ]
    third = exported(program, "prov", tmp_path / "program.json")
    answers = ask("prov", *((case,) for case in (file, second, third, *cases)))
    expect(answers, 3)
    value, read = json.loads(file.read_text(encoding="utf-8")), answers[0].read
    assert read["entity"].keys() == value["entity"].keys() and len(read["used"]) == len(value["used"])
    assert len(read["wasGeneratedBy"]) == len(trained.facts().files) + 1


def test_in_toto_reads_the_slsa_provenance(
    trained: Any, script: Any, program: Any, tmp_path: Path, ask: Callable[..., list[Answer]]
) -> None:
    file, second = (exported(run, "slsa", tmp_path / f"{run.run.parent.name}.json") for run in (trained, script))

    def predicate(value: Any, part: str) -> Any:
        return value["predicate"][part]

    cases = [
        altered(file, "a.json", lambda value: value["subject"][0].pop("digest")),
        altered(file, "b.json", lambda value: predicate(value, "runDetails").update(outcome="completed")),
        altered(file, "c.json", lambda value: predicate(value, "buildDefinition").pop("buildType")),
        altered(file, "d.json", lambda value: value.update(predicateType="urn:ndrepro:run:v1")),
        altered(file, "e.json", lambda value: predicate(value, "runDetails")["metadata"].update(startedOn="noon")),
    ]
    third = exported(program, "slsa", tmp_path / "program.json")
    build = Build(
        *("ndrepro:latest", frozenset({f"sha256:{'a' * 64}"}), "b" * 40, "https://example.org/ndrepro.git"),
        *("debian:bookworm-slim", f"sha256:{'c' * 64}", "d" * 64, "podman", "4.3.1", "amd64"),
        *("2026-11-21T09:30:00Z", "2026-11-21T09:31:00Z"),
    )
    image = tmp_path / "image.json"
    image.write_text(json.dumps(statements(build, "{}")[0]), encoding="utf-8")
    cases.append(altered(image, "f.json", lambda value: predicate(value, "runDetails").update(finishedOn="noon")))
    expect(ask("slsa", *((case,) for case in (file, second, third, image, *cases))), 4)


def test_mlcroissant_takes_the_data_set(
    trained: Any, program: Any, tmp_path: Path, ask: Callable[..., list[Answer]]
) -> None:
    file = exported(trained, "croissant", tmp_path / "croissant.json")
    cases = [
        altered(file, "a.json", lambda value: value.pop("@type")),
        altered(file, "b.json", lambda value: value["distribution"][0].pop("sha256")),
        altered(file, "c.json", lambda value: value["distribution"][0].pop("encodingFormat")),
    ]
    second = exported(program, "croissant", tmp_path / "program.json")
    expect(ask("croissant", *((case,) for case in (file, second, *cases))), 2)
    digest = json.loads(file.read_text(encoding="utf-8"))["distribution"][0]["sha256"]
    assert digest in (trained.run / "dataset.sha256").read_text(encoding="utf-8")


def test_model_signing_verifies_the_weights(
    trained: Any, program: Any, tmp_path: Path, ask: Callable[..., list[Answer]]
) -> None:
    tmp_path.chmod(0o700)
    key, other = (openssl_key(tmp_path / name) for name in ("key.pem", "other.pem"))
    weights = trained.run / "weights.safetensors"
    sidecar = exported(trained, "model-signing", tmp_path / "weights.sig", "--signing-key", key)
    changed = tmp_path / "weights.safetensors"
    changed.write_bytes(weights.read_bytes()[:-1] + b"\0")
    forged = altered(sidecar, "forged.sig", lambda value: value["dsseEnvelope"].update(payload="e30="))
    pub, other_pub = key.with_suffix(".pub"), other.with_suffix(".pub")
    cases = [(sidecar, pub, changed), (sidecar, other_pub, weights), (forged, pub, weights)]
    large = program.root / "work" / "large.pt"
    exported(program, "model-signing", tmp_path / "large.sig", "--model", large.name, "--signing-key", key)
    expect(ask("model", (sidecar, pub, weights), (tmp_path / "large.sig", pub, large), *cases), 2)


def openssl_key(path: Path) -> Path:
    curve = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run(["openssl", "genpkey", *curve, "-out", path], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", path, "-pubout", "-out", path.with_suffix(".pub")], check=True)
    path.chmod(0o600)
    return path


def test_cffconvert_takes_the_citation(trained: Any, tmp_path: Path, ask: Callable[..., list[Answer]]) -> None:
    from ndrepro.exports.citation import citation_file

    facts, cases = trained.facts(), []
    for number, authors in enumerate([(), ('Żuk, "Ada": x', "The Lab"), ("Doe, John",)]):
        cases.append(tmp_path / f"{number}.cff")
        cases[-1].write_bytes(citation_file('A "title": # odd', authors, "2026-11-21", "MIT", facts.keyids))
    cases.append(ROOT / "CITATION.cff")
    text = cases[0].read_text(encoding="utf-8")
    for number, wrong in enumerate(
        [text.replace("title:", "name:"), text.replace("MIT", "free"), text[: len(text) // 2]]
    ):
        cases.append(tmp_path / f"wrong{number}.cff")
        cases[-1].write_text(wrong, encoding="utf-8")
    expect(ask("citation", *((case,) for case in cases)), 4)


def test_tensorboard_reads_the_runs_back(
    trained: Any, script: Any, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    place = validators.environment("tensorboard", tmp_path_factory.getbasetemp())
    made = [
        validators.ndrepro(place, run.home, "export", run.run, "--format", "tensorboard", "-o", tmp_path, "--json")[
            "out"
        ]
        for run in (trained, script)
    ]
    *found, nothing = validators.ask(place, "tensorboard", *((folder,) for folder in made), (tmp_path / "none",))
    expect([*found, nothing], 2)
    for run, folder, answer in zip((trained, script), made, found, strict=True):
        facts, read = run.facts(), answer.read
        assert Path(folder) == tmp_path / facts.name / facts.run
        logged: dict[str, list[list[float]]] = {}
        for each in facts.metrics():
            logged.setdefault(each.name, []).append([each.step, float(np.float32(each.value))])
        assert read["scalars"] == logged
        assert abs(read["moment"] - datetime.fromisoformat(facts.manifest.finished_on).timestamp()) < 0.01
    with pytest.raises(AssertionError, match="has event files already"):
        validators.ndrepro(
            place, trained.home, "export", trained.run, "--format", "tensorboard", "-o", tmp_path, "--json"
        )


@pytest.mark.slow
def test_tensorboard_reads_a_run_that_wrote_events_while_it_ran(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    place = validators.environment("tensorboard", tmp_path_factory.getbasetemp())
    (site,) = place.glob("lib/python*/site-packages")
    code = f"import sys; sys.path.append({str(site)!r}); from ndrepro.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["run", "lenet_bn_2_digits", "--set=train_images=64", "--set=test_images=32", "--set=batch_size=16"]
    variables = {**os.environ, "NDREPRO_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, *words, "--runs", str(tmp_path / "runs"), "--json"]
    done = subprocess.run(
        [*command, "--tensorboard", str(tmp_path / "events")], env=variables, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    (answer,) = validators.ask(place, "tensorboard", (tmp_path / "events" / made["experiment"] / made["run"],))
    expect([answer], 1)
    scalars = answer.read["scalars"]
    rows = [json.loads(line) for line in (Path(made["folder"]) / "metrics.jsonl").read_text().splitlines()]
    for name in ("train_loss", "test_accuracy", "learning_rate"):
        assert scalars[name] == [[row["step"], float(np.float32(row[name]))] for row in rows]
    assert scalars["epoch"] == [[4, 1.0], [8, 2.0]]
    assert not any("tfevents" in path.name for path in Path(made["folder"]).rglob("*")), "none of it is in the run"


def test_mlflow_reads_the_runs_back(
    trained: Any, script: Any, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    place = validators.environment("mlflow", tmp_path_factory.getbasetemp())
    store, cases = tmp_path / "store", []
    for run in (trained, script):
        made = validators.ndrepro(place, run.home, "export", run.run, "--format", "mlflow", "-o", store, "--json")
        cases.append(tuple(made["out"].split(", run ")))
    *found, other = validators.ask(place, "mlflow", *cases, (cases[0][0], "0" * 32))
    expect([*found, other], 2)
    for run, answer in zip((trained, script), found, strict=True):
        facts, read = run.facts(), answer.read
        assert read["params"] == dict(facts.parameters)
        logged: dict[str, list[list[float]]] = {}
        for each in facts.metrics():
            logged.setdefault(each.name, []).append([each.step, each.value])
        assert read["metrics"] == logged
        assert (read["status"], read["name"]) == ("FINISHED", facts.run)
        assert read["tags"]["ndrepro.manifest_sha256"] == facts.digest
        assert abs(read["end"] / 1000 - datetime.fromisoformat(facts.manifest.finished_on).timestamp()) < 0.01
        assert read["files"] == sorted([*(file.path for file in facts.files), "manifest.dsse.json"])
        copy = replace(run, run=Path(read["folder"])).facts()
        assert copy.digest == facts.digest, "what MLflow gives back verifies"
    elsewhere = tmp_path / "elsewhere"
    again = (place, trained.home, "export", trained.run, "--format", "mlflow", "-o", store, "--json")
    made = "create trigger t after insert on runs begin update runs set artifact_uri = "
    with sqlite3.connect(store / "mlflow.db") as database:  # as stores that came with a clone may be
        database.execute(f"{made}'{elsewhere.as_uri()}' where run_uuid = new.run_uuid; end")
    with pytest.raises(AssertionError, match="not where the store keeps a new run's artifacts"):
        validators.ndrepro(*again)
    with sqlite3.connect(store / "mlflow.db") as database:
        database.execute("drop trigger t")
    (store / "links").symlink_to(elsewhere)
    with pytest.raises(AssertionError, match="it has links, journals or views: links"):
        validators.ndrepro(*again)
    (store / "links").unlink()
    (store / "mlflow.db-journal").touch()
    with pytest.raises(AssertionError, match=r"journals or views: mlflow\.db-journal"):
        validators.ndrepro(*again)
    (store / "mlflow.db-journal").unlink()
    with sqlite3.connect(store / "mlflow.db") as database:  # as a store that came with a clone may have it
        database.execute("update experiments set artifact_location = ?", (elsewhere.as_uri(),))
    database.close()
    with pytest.raises(AssertionError, match="keeps artifacts elsewhere"):
        validators.ndrepro(*again)
    assert not elsewhere.exists()

"""Attacks: results that the record of a program or script does not have, or has where nobody compares anything.

Before, each was "identical", and no claim named it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from strange_programs import Stranger, manifest_of, statuses

from ndrepro import api
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.program_record import OUTPUTS, files_resource
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import bytes_digest
from provenance.formats.trail_header import TensorName, encode_header

WRITES = {"train.py": "open('o', 'w').write('0.31')\nopen('log.jsonl', 'w').write('{\"accuracy\": 0.98}\\n')\n"}


def words(found: api.Reproduction, name: str) -> str:
    """What a claim that is not checked says, of a repetition that is identical."""
    (claim,) = (each for each in (*found.claims, *found.judgements[0].claims) if each.name == name)
    assert (found.verdict, claim.status) == ("identical", "not checked"), found.judgements
    return claim.evidence


def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Stranger, RunFolder]:
    """A script that records itself, and its run."""
    text = """
import ndrepro
with ndrepro.record(name="fit") as run:
    run.log(step=1, accuracy=0.5)
    run.note("diverged", True)
"""
    author = Stranger.make(tmp_path / "a", {"train.py": text})
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("NDREPRO_HOME", str(author.home))
    subprocess.run([sys.executable, "train.py"], cwd=author.root, check=True)
    monkeypatch.delenv("NDREPRO_HOME")
    (run,) = (author.root / "runs" / "fit").iterdir()
    return author, RunFolder(run)


def test_the_python_of_a_script_is_the_one_that_recorded_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No attack. Before: "it also ran what is not compared: Python none then"."""
    author, run = script(tmp_path, monkeypatch)
    found = author.reproduce(run)
    assert found.verdict == "identical" and statuses(found)["environment"] == "checked", found.judgements


def test_notes_that_are_left_out_of_the_record_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    author, run = script(tmp_path, monkeypatch)
    author.claim(run, internal_parameters={**manifest_of(run).internal_parameters, "notes": {}})
    assert words(author.reproduce(run), "notes") == "none were recorded; 1 set now, of diverged"


def test_a_script_has_no_trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    author, run = script(tmp_path, monkeypatch)
    run.trails.mkdir()
    (run.trails / "RESULTS.md").write_text("accuracy 0.9999")
    author.claim(run)
    assert "trail/RESULTS.md" in words(author.reproduce(run), "other files")


def test_outputs_that_are_left_out_of_the_record_are_named(tmp_path: Path) -> None:
    author = Stranger.make(tmp_path / "a", WRITES)
    run = author.record(outputs=("o",), metrics=("log.jsonl",))
    document = canonical_bytes({"files": []})
    run.outputs.write_bytes(document)
    shutil.rmtree(run.output_copies)
    none = files_resource(OUTPUTS, (), sha256=bytes_digest(document), unmatched=[], removed=[])
    known = manifest_of(run).byproducts
    author.claim(run, asked={"outputs": []}, byproducts=tuple(none if each.name == OUTPUTS else each for each in known))
    assert words(author.reproduce(run), "outputs") == "it wrote none that were recorded; new: log.jsonl, o"


def test_metrics_that_are_left_out_of_the_record_are_named(tmp_path: Path) -> None:
    author = Stranger.make(tmp_path / "a", WRITES)
    run = author.record(outputs=("o",), metrics=("log.jsonl",))
    run.metrics.unlink()
    author.claim(run)
    assert words(author.reproduce(run), "metrics") == "none were recorded; 1 row now, of accuracy, file"


def test_what_is_no_trail_by_its_name_is_named(tmp_path: Path) -> None:
    author = Stranger.make(tmp_path / "a", WRITES)
    run = author.record(outputs=("o",))
    run.trails.mkdir()
    header = encode_header([TensorName("test accuracy 0.9999", (1,), "float32")])
    (run.trails / "summary.bin").write_bytes(header + np.array([[0, 0, 1], [1, 0, 1]], dtype="<u8").tobytes())
    author.claim(run)
    assert "trail/summary.bin" in words(author.reproduce(run), "other files")


def test_texts_that_a_signer_may_choose_are_said_to_be_his(tmp_path: Path) -> None:
    author = Stranger.make(tmp_path / "a", WRITES)
    run = author.record(outputs=("o",))
    (outputs,) = (each for each in manifest_of(run).byproducts if each.name == OUTPUTS)
    said = replace(outputs, annotations={**(outputs.annotations or {}), "problem": "accuracy 0.9999"})
    known = manifest_of(run).byproducts
    author.claim(
        run,
        asked={"seeds": {"accuracy": "9999"}},
        byproducts=tuple(said if each.name == OUTPUTS else each for each in known),
    )
    assert json.loads(run.program.read_text())["seeds"] == {"accuracy": "9999"}
    asserted = words(author.reproduce(run), "machine, times, energy and log")
    assert "seeds" in asserted and "why something was not recorded" in asserted


def test_a_value_of_null_is_not_the_same_as_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``show`` prints the note, and the script sets none of that name."""
    author, run = script(tmp_path, monkeypatch)
    notes = {"diverged": True, "accuracy 0.9999": None}
    author.claim(run, internal_parameters={**manifest_of(run).internal_parameters, "notes": notes})
    found = author.reproduce(run)
    assert found.verdict != "identical" and statuses(found)["notes"] != "checked"

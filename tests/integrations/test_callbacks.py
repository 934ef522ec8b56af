"""The callbacks inside the real libraries, installed into an environment of their own; and without them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ndrepro.execution.environments.interpreters import find_python, uv_executable, uv_variables
from ndrepro.execution.verification.checks_by_kind import checks_of
from ndrepro.integrations.lightning import LightningRecorder
from ndrepro.integrations.run_metrics import as_json, scalars
from ndrepro.integrations.transformers import TransformersRecorder
from ndrepro.protocol.errors import MissingExtra
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Manifest
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.formats.metrics_log import read_scalars

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = Path(__file__).parent / "samples"
# of the light installation, which finds the checkout by PYTHONPATH, and both libraries
PACKAGES = "lightning transformers[torch] torch==2.13.0 numpy safetensors psutil securesystemslib[crypto] packaging"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("libraries") / "environment"
    for words in (
        ("venv", "--no-project", "--python", str(find_python("3.11")), str(place)),
        ("pip", "install", "--python", str(place / "bin" / "python"), *PACKAGES.split()),
    ):
        done = subprocess.run([str(uv_executable()), *words], env=uv_variables(), capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"lightning and transformers cannot be installed: {done.stderr.strip()[-300:]}")
    return place / "bin" / "python"


def recorded(python: Path, sample: str, place: Path, *words: str) -> tuple[Manifest, list[dict[str, object]], int]:
    """Run a sample; its verified manifest, the rows of its metrics, and the sample's exit code."""
    runs, home = place / "runs", place / "home"
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [str(python), str(SAMPLES / sample), str(runs), str(home), *words]
    done = subprocess.run(command, env=variables, cwd=place, capture_output=True, text=True)
    (manifest,) = runs.glob("*/*/manifest.dsse.json")
    ledger = Ledger(runs / "ledger.jsonl")
    verdict = verify(manifest.parent, trust=TrustPolicy.load(home), ledger=ledger, extra_checks=checks_of)
    assert verdict.ok and verdict.manifest, (verdict.to_json(), done.stderr[-2000:])
    log = manifest.with_name("metrics.jsonl")
    return verdict.manifest, read_scalars(log) if log.exists() else [], done.returncode  # type: ignore[return-value]


@pytest.mark.slow
def test_lightning_logs_every_stage(python: Path, tmp_path: Path) -> None:
    manifest, rows, code = recorded(python, "lightning_fit.py", tmp_path)
    assert code == 0 and manifest.outcome == "completed"
    stages = [(row["step"], row["epoch"], row["stage"]) for row in rows]
    train, validation = [entry for entry in stages if entry[2] == "train"], stages[-1]
    assert (2, 0, "train") in train and (4, 0, "validation") in stages and (8, 1, "validation") in stages, stages
    assert all(isinstance(row["val_loss"], float) for row in rows if row["stage"] == "validation"), validation
    notes = manifest.internal_parameters["notes"]
    assert notes["hyperparameters"] == {"rate": 0.1} and notes["trainer"]["max_epochs"] == 2
    assert "artifacts/checkpoints/best.ckpt" in {artifact.path for artifact in manifest.artifacts}


@pytest.mark.slow
def test_a_fit_that_fails_is_recorded_as_failed(python: Path, tmp_path: Path) -> None:
    manifest, _, code = recorded(python, "lightning_fit.py", tmp_path, "fail")
    error = manifest.byproduct("error")
    assert code == 1 and manifest.outcome == "failed"
    assert error and error.annotations == {"type": "RuntimeError", "message": "no more"}


@pytest.mark.slow
def test_transformers_logs_losses_and_evaluations(python: Path, tmp_path: Path) -> None:
    manifest, rows, code = recorded(python, "transformers_fit.py", tmp_path)
    assert code == 0 and manifest.outcome == "completed"
    assert [row["step"] for row in rows if "loss" in row] == [2, 4]
    assert [row["step"] for row in rows if "eval_loss" in row] == [2, 4]
    notes = manifest.internal_parameters["notes"]
    assert notes["training_arguments"]["max_steps"] == 4 and notes["model_configuration"]["hidden_size"] == 8
    assert "hf_abc" not in str(manifest.to_predicate())
    names = {artifact.path for artifact in manifest.artifacts}
    assert any(name.endswith("/model.safetensors") for name in names), names


@pytest.mark.parametrize("recorder", [LightningRecorder, TransformersRecorder])
def test_without_the_library_its_extra_is_named(recorder: type) -> None:
    with pytest.raises(MissingExtra, match="is part of ndrepro's extra") as caught:
        recorder(None)
    assert "pip install 'ndrepro[" in caught.value.cure


class OneElement:
    def item(self) -> float:
        return 0.5


def test_metrics_and_settings_become_plain() -> None:
    given = {"loss": OneElement(), "epoch": 1, "step": 7, "name": "x", "flag": True}
    assert scalars(given) == {"loss": 0.5, "epoch": 1}
    assert as_json({"path": Path("a"), "odd": object(), "n": [1, None]}) == {
        "path": "a",
        "odd": "<builtins.object>",
        "n": [1, None],
    }

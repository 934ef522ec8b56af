"""Content that two readers would read differently: keys that stand twice, whole numbers that are none, long names."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_runs import SmallRun

from ndrepro.execution.resumption.recorded_states import checkpoint_state
from ndrepro.protocol.errors import CheckpointError, NdreproError
from ndrepro.protocol.messages import Evaluated, Scores, read_json
from provenance.attestation.dsse import read_envelope, sign_envelope
from provenance.attestation.key_home import KeyRing
from provenance.errors import ProvenanceError, UsageError
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.metrics_log import read_scalars
from provenance.formats.trail import MAGIC, Trail

ROW = {"epoch": 1, "step": 6, "train_loss": 2.0, "train_accuracy": 0.5, "test_loss": 1.0, "test_accuracy": 0.25}
ROW |= {"learning_rate": 0.1}
EVALUATED = {"test_loss": 1.0, "test_accuracy": 0.5, "test_top5_accuracy": 0.75, "images": 16}


def test_a_key_that_stands_twice_is_refused_wherever_a_run_s_files_are_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text('{"seed": 0, "seed": 1}\n')
    for reader in (read_json, read_scalars):
        with pytest.raises(ProvenanceError, match="'seed' stands twice"):
            reader(file)
    header = b'{"schema": "a", "schema": "b"}'
    file.write_bytes(MAGIC + struct.pack("<I", len(header)) + header)
    with pytest.raises(ProvenanceError, match="'schema' stands twice"):
        Trail(file)
    place = '{"place": {"step": 6, "epoch": 1, "batch": 0, "seen": 0, "seen": 0}}'
    save_file({"net.w": np.zeros(1, np.float32)}, file, {"ndrepro": place})
    with pytest.raises(CheckpointError, match="'seen' stands twice"):
        checkpoint_state(file)


@pytest.mark.parametrize("wrong", [1.9, "1", True, -1, None, 1e300])
def test_a_whole_number_is_one(wrong: Any) -> None:
    assert Scores.from_row(ROW).epoch == 1 and Evaluated.from_json(EVALUATED).images == 16, "the control"
    for name in ("epoch", "step"):
        with pytest.raises(NdreproError, match=name):
            Scores.from_row({**ROW, name: wrong})
    with pytest.raises(NdreproError, match="images"):
        Evaluated.from_json({**EVALUATED, "images": wrong})


@pytest.mark.parametrize("wrong", [True, "0.9", "infinity", [], {}])
def test_a_number_is_one_or_a_word_for_what_is_not_finite(wrong: Any) -> None:
    assert Scores.from_row({**ROW, "test_loss": "inf"}).test_loss == float("inf"), "the control"
    with pytest.raises(NdreproError):
        Scores.from_row({**ROW, "test_accuracy": wrong})
    with pytest.raises(NdreproError):
        Evaluated.from_json({**EVALUATED, "test_accuracy": wrong})


def test_an_identifier_of_thousands_of_letters_is_neither_recorded_nor_read(signed_run: SmallRun) -> None:
    with pytest.raises(UsageError, match="at most 255 bytes"):
        signed_run.open(run_id="ž" * 128)
    payload = read_envelope(signed_run.manifest.read_bytes())[1]
    statement = json.loads(payload)
    statement["predicate"]["runDetails"]["metadata"]["invocationId"] = "x" * 5000
    signer = KeyRing(signed_run.home).signer()
    envelope = sign_envelope(canonical_bytes(statement), signer)
    signed_run.manifest.write_bytes(envelope)
    failure = signed_run.verify().failure
    assert failure is not None and failure.number == 3 and "at most 255 bytes" in failure.message


def _reversed(members: Any) -> Any:
    return {name: _reversed(members[name]) for name in reversed(members)} if isinstance(members, dict) else members


SPELLINGS: dict[str, Callable[[bytes], bytes]] = {
    "blanks": lambda payload: payload.replace(b":", b": \t\t ", 1),
    "escapes": lambda payload: payload.replace(b"seed", b"\\u0073eed", 1),
    "order of members": lambda payload: json.dumps(_reversed(json.loads(payload)), separators=(",", ":")).encode(),
}


@pytest.mark.parametrize("how", SPELLINGS)
def test_a_manifest_in_another_spelling_does_not_verify(signed_run: SmallRun, how: str) -> None:
    """Its signature holds and it says the same; before, each verified, and could carry a text or a number."""
    payload = read_envelope(signed_run.manifest.read_bytes())[1]
    changed = SPELLINGS[how](payload)
    assert changed != payload and json.loads(changed) == json.loads(payload) and signed_run.verify().ok, "the control"
    signed_run.manifest.write_bytes(sign_envelope(changed, KeyRing(signed_run.home).signer()))
    failure = signed_run.verify().failure
    assert failure is not None and failure.number == 3 and "not as a recorder writes it" in failure.message


def test_parameters_that_change_between_start_and_signature_contradict_the_ledger(
    small_run: Callable[..., SmallRun],
) -> None:
    honest, other = small_run("honest"), small_run("other")
    honest.record()
    recorder = other.open(external_parameters={"seed": 0})
    recorder._external_parameters = {"seed": 1}
    other.close(recorder)
    assert honest.verify().ok
    failure = other.verify().failure
    assert failure is not None and failure.number == 8 and "other parameters" in failure.message

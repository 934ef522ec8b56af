"""``provenance.record`` in real scripts: what is kept, what is signed however the script ends, what it refuses."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import provenance
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Manifest
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.errors import CanonicalError, DigestError, UsageError
from provenance.formats.metrics_log import read_scalars


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    return {"folder": tmp_path / "runs" / "first run", "home": tmp_path / "home"}


def verified(places: dict[str, Path]) -> Manifest:
    ledger = Ledger(places["folder"].parent / "ledger.jsonl")
    verdict = verify(places["folder"], trust=TrustPolicy.load(places["home"]), ledger=ledger)
    assert verdict.ok, verdict.to_json()
    assert {check.status for check in verdict.checks} == {"pass"}
    assert verdict.manifest
    return verdict.manifest


class Scalar:
    """What numpy's and torch's scalars have in common."""

    def __init__(self, value: float) -> None:
        self.value = value

    def item(self) -> float:
        return self.value


def test_a_recorded_script_verifies_and_tells_what_it_was_told(places: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"weights")
    given = {
        "name": "fit",
        "parameters": {"lr": 0.1, "api_key": "sk-abcdef0123456789abcdef"},
        "seeds": {"all": 2**64 - 1},
    }
    with provenance.record(**places, **given) as run:  # type: ignore[arg-type]
        run.log(step=1, loss=0.5, accuracy=Scalar(0.25))
        run.log(step=2, loss=math.nan)
        copy = run.artifact(tmp_path / "model.bin")
        (run.folder / "own.txt").write_text("x")
        assert run.artifact(run.folder / "own.txt") == run.folder / "own.txt"
        run.note("converged", True)
    assert copy == places["folder"] / "artifacts" / "model.bin"
    manifest = verified(places)
    assert (manifest.outcome, manifest.exit_code) == ("completed", 0)
    parameters = manifest.external_parameters
    assert parameters["name"] == "fit" and parameters["parameters"]["lr"] == 0.1
    assert parameters["seeds"] == {"all": "18446744073709551615"}
    assert "abcdef0123456789" not in json.dumps(manifest.to_predicate())
    assert manifest.internal_parameters["notes"] == {"converged": True}
    rows = read_scalars(places["folder"] / "metrics.jsonl")
    assert rows[0] == {"step": 1, "loss": 0.5, "accuracy": 0.25} and math.isnan(rows[1]["loss"])  # type: ignore[arg-type]
    names = {artifact.path for artifact in manifest.artifacts}
    assert {"artifacts/model.bin", "own.txt", "metrics.jsonl", "environment.json"} <= names


def test_environment_and_source_are_captured(places: dict[str, Path]) -> None:
    with provenance.record(**places, name="fit"):
        pass
    manifest = verified(places)
    seals = json.loads((places["folder"] / "environment.json").read_text())
    assert seals.keys() == {"start", "end"}
    resources = {resource.name: resource for resource in manifest.dependencies}
    assert resources["source"].annotations
    assert resources["distribution:securesystemslib"].digest.keys() == {"sha256"}  # type: ignore[union-attr]
    assert manifest.machine["interpreter"]["version"] == sys.version.split()[0]
    assert manifest.internal_parameters["variables"].keys() == {"start", "end"}


def test_an_exception_is_signed_as_failed_without_its_secrets_and_goes_on(places: dict[str, Path]) -> None:
    with pytest.raises(ZeroDivisionError, match="by zero"), provenance.record(**places, name="fit") as run:
        run.log(step=1)
        raise ZeroDivisionError("password=hunter2hunter2 by zero")
    manifest = verified(places)
    assert (manifest.outcome, manifest.exit_code) == ("failed", 1)
    (error,) = manifest.byproducts
    assert error.annotations and error.annotations["type"] == "ZeroDivisionError"
    assert "hunter2" not in json.dumps(error.annotations)
    assert len(read_scalars(places["folder"] / "metrics.jsonl")) == 1


@pytest.mark.parametrize(
    ("raised", "outcome", "code"),
    [
        (KeyboardInterrupt(), "interrupted", 130),
        (SystemExit(), "completed", 0),
        (SystemExit(0), "completed", 0),
        (SystemExit(3), "failed", 3),
        (SystemExit("no data"), "failed", 1),
    ],
)
def test_every_way_out_is_signed(places: dict[str, Path], raised: BaseException, outcome: str, code: int) -> None:
    with pytest.raises(type(raised)), provenance.record(**places, name="fit"):
        raise raised
    manifest = verified(places)
    assert (manifest.outcome, manifest.exit_code) == (outcome, code)


class Unspeakable(Exception):
    """An exception of somebody's library, whose message is made when it is asked for."""

    def __str__(self) -> str:
        raise KeyError("no such field")


def test_an_exception_without_a_message_is_signed_as_failed_and_goes_on(places: dict[str, Path]) -> None:
    with pytest.raises(Unspeakable), provenance.record(name="fit", **places):
        raise Unspeakable
    manifest = verified(places)
    error = manifest.byproduct("error")
    assert manifest.outcome == "failed" and error is not None and error.annotations is not None
    assert error.annotations == {"type": "Unspeakable", "message": "<it has no message: KeyError>"}


def test_scalars_of_numpy_are_recorded_as_numbers(places: dict[str, Path]) -> None:
    import numpy

    given = {"lr": numpy.float32(0.5), "sizes": (numpy.int64(3), [numpy.bool_(True)])}
    with provenance.record(name="fit", parameters=given, seeds={"numpy": numpy.int64(7)}, **places) as run:
        run.log(step=numpy.int64(1), loss=numpy.float64(0.25), best=numpy.array([2]))
        run.note("scores", {"mean": numpy.float64(0.5), "all": [numpy.int32(1), 2]})
        with pytest.raises(UsageError, match="several"):
            run.log(several=numpy.array([1, 2]))
        with pytest.raises(CanonicalError):
            run.note("several", numpy.array([1, 2]))
    manifest = verified(places)
    assert manifest.outcome == "completed"
    assert manifest.external_parameters["parameters"] == {"lr": 0.5, "sizes": [3, [True]]}
    assert manifest.external_parameters["seeds"] == {"numpy": "7"}
    assert manifest.internal_parameters["notes"] == {"scores": {"mean": 0.5, "all": [1, 2]}}
    assert list(read_scalars(places["folder"] / "metrics.jsonl")) == [{"step": 1, "loss": 0.25, "best": 2}]


def test_a_script_that_is_killed_leaves_a_beginning_in_the_ledger(places: dict[str, Path]) -> None:
    script = (
        "import os, signal, sys, pathlib, provenance\n"
        "with provenance.record(sys.argv[1], name='fit', home=pathlib.Path(sys.argv[2])):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", script, str(places["folder"]), str(places["home"])]
    assert subprocess.run(command, check=False).returncode == -9
    (entry,) = Ledger(places["folder"].parent / "ledger.jsonl").entries()
    assert (entry.event, entry.fields["name"]) == ("begun", "fit")
    assert not (places["folder"] / "manifest.dsse.json").exists()


def test_what_a_script_puts_on_its_search_path_may_be_no_text(
    places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Imports pass over a Path there, and the recorder does."""
    with provenance.record(**places, name="fit"):
        monkeypatch.setattr(sys, "path", [*sys.path, tmp_path, 5, b"bytes", None])
    seal = json.loads((places["folder"] / "environment.json").read_text())["end"]
    assert seal["interpreter"]["path"][-4:] == [str(tmp_path), "5", "b'bytes'", "None"]
    assert "unavailable" not in seal["distributions"]
    verified(places)


def test_a_folder_that_is_not_empty_is_refused(places: dict[str, Path]) -> None:
    with provenance.record(**places, name="fit"):
        pass
    with pytest.raises(UsageError, match="not empty"), provenance.record(**places, name="fit"):
        raise AssertionError
    verified(places)


def test_what_cannot_be_kept_is_refused_and_the_run_signed_as_failed(places: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    attempts: list[tuple[Any, type[Exception], str]] = [
        (lambda run: run.artifact(tmp_path), UsageError, "not a file"),
        (lambda run: run.artifact(tmp_path / "a", "../../x"), UsageError, "leads out of the run folder"),
        (lambda run: [run.artifact(tmp_path / "a"), run.artifact(tmp_path / "a")], UsageError, "there already"),
        (lambda run: run.note("x", {1}), CanonicalError, r"\$\.x: a set"),
        (lambda run: run.log(loss=[1]), UsageError, "'loss' is a list"),
    ]
    for number, (attempt, error, what) in enumerate(attempts):
        here = {**places, "folder": tmp_path / "runs" / str(number)}
        with pytest.raises(error, match=what), provenance.record(**here, name="fit") as run:
            attempt(run)
        assert verified(here).outcome == "failed"


def test_a_run_that_cannot_be_signed_says_so_beside_its_own_error(places: dict[str, Path]) -> None:
    with pytest.raises(ZeroDivisionError) as caught, provenance.record(**places, name="fit") as run:
        (run.folder / "link").symlink_to("/etc/passwd")
        raise ZeroDivisionError
    (note,) = caught.value.__notes__
    assert "the run was signed as failed" in note and "symbolic link" in note
    (places["folder"] / "link").unlink()
    assert verified(places).outcome == "failed"
    here = {**places, "folder": places["folder"].with_name("second")}
    with pytest.raises(DigestError, match="symbolic link"), provenance.record(**here, name="fit") as run:
        (run.folder / "link").symlink_to("/etc/passwd")


def test_importing_the_package_imports_nothing_else() -> None:
    script = (
        "import sys\nbefore = set(sys.modules)\nimport provenance\n"
        "print(sorted(n for n in set(sys.modules) - before if n.partition('.')[0] not in sys.stdlib_module_names))\n"
        "print(provenance.record.__module__)\n"
        "try:\n    provenance.nothing\nexcept AttributeError as error:\n    print(error)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert found.splitlines() == [
        "['provenance']",
        "provenance.recording.script_run",
        "module 'provenance' has no attribute 'nothing'",
    ]

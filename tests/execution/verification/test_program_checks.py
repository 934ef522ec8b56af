"""A recorded program verifies by checks of its own, and a manifest that its files contradict does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from program_projects import Project
from script_runs import ScriptRun, sign_again

from ndrepro.execution.verification.checks_by_kind import checks_of
from provenance.attestation.manifest import Builder, Manifest, Resource
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verdict import Verdict
from provenance.attestation.verify import verify


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> ScriptRun:
    top = tmp_path_factory.mktemp("program")
    folder = Project.make(top / "project").record(top / "runs", top / "home")
    return ScriptRun(top, folder.root.relative_to(top))


@pytest.fixture
def run(recorded: ScriptRun, tmp_path: Path) -> ScriptRun:
    """A copy that a test may change."""
    shutil.copytree(recorded.top, tmp_path / "copy")
    return replace(recorded, top=tmp_path / "copy")


def verified(run: ScriptRun) -> Verdict:
    return verify(run.folder, trust=TrustPolicy.load(run.home), extra_checks=checks_of)


def test_an_untouched_run_passes_every_check(recorded: ScriptRun) -> None:
    verdict = verify(
        recorded.folder, trust=TrustPolicy.load(recorded.home), ledger=recorded.ledger, extra_checks=checks_of
    )
    statuses = {check.name: check.status for check in verdict.checks[7:]}
    assert statuses.pop("trail") == "skip" and set(statuses.values()) == {"pass"}, verdict.to_json()
    assert list(statuses) == ["ledger", "request", "environment", "source", "files", "metrics", "outcome", "times"]


def with_output(manifest: Manifest, **changes: Any) -> dict[str, Any]:
    first = manifest.byproducts[0]
    files = [{**file, **changes} for file in (first.annotations or {})["files"]]
    return {"byproducts": (replace(first, annotations={**(first.annotations or {}), "files": files}),)}


def with_commit(manifest: Manifest) -> dict[str, Any]:
    changed = [
        replace(item, annotations={**(item.annotations or {}), "dirty": False, "patch": {"none": "clean"}})
        if item.name == "source"
        else item
        for item in manifest.dependencies
    ]
    return {"dependencies": tuple(changed)}


def saying(kind: str, name: str) -> Callable[[Manifest], dict[str, Any]]:
    """An annotation of a dependency or byproduct that no recorder writes."""

    def change(manifest: Manifest) -> dict[str, Any]:
        items = [
            replace(item, annotations={**(item.annotations or {}), "accuracy": 0.9999}) if item.name == name else item
            for item in getattr(manifest, kind)
        ]
        return {kind: tuple(items)}

    return change


def fact(name: str, value: Any) -> Callable[[Manifest], dict[str, Any]]:
    return lambda m: {"internal_parameters": {**m.internal_parameters, name: value}}


LIES: Mapping[str, tuple[str, Callable[[Manifest], dict[str, Any]]]] = {
    "another builder": ("request", lambda m: {"builder": Builder("urn:someone", {})}),
    "another command": (
        "request",
        lambda m: {"external_parameters": {**m.external_parameters, "command": ["python", "honest.py"]}},
    ),
    "a seed": ("request", lambda m: {"external_parameters": {**m.external_parameters, "seeds": {"all": "1"}}}),
    "a fact of its own": ("request", lambda m: {"internal_parameters": {**m.internal_parameters, "approved": True}}),
    "a result as the use of resources": ("request", fact("usage", {"accuracy": 0.9999})),
    "a result among the streams": ("request", fact("streams", {"stdin": "file", "accuracy": 0.9999})),
    "a result as an interpreter": ("request", fact("interpreters", [{"accuracy": 0.9999}])),
    "a result as metrics of the recorder": ("request", fact("metrics", {"accuracy": 0.9999})),
    "a result of the outputs": ("request", saying("byproducts", "outputs")),
    "a result among the energy": ("request", saying("byproducts", "energy")),
    "a result of the inputs": ("request", saying("dependencies", "inputs")),
    "a result of the executable": ("request", saying("dependencies", "executable")),
    "a result of the source": ("request", saying("dependencies", "source")),
    "a year of processor time": (
        "times",
        lambda m: fact("usage", {**m.internal_parameters["usage"], "user_seconds": 3e7})(m),
    ),
    "another machine": ("environment", lambda m: {"machine": {**m.machine, "gpus": {"devices": [{"name": "H100"}]}}}),
    "a clean checkout": ("source", with_commit),
    "another output": ("files", lambda m: with_output(m, sha256="0" * 64)),
    "no outputs": ("files", lambda m: {"byproducts": ()}),
    "a failure": ("outcome", lambda m: {"exit_code": 3}),
    "an ending that was asked for": (
        "outcome",
        lambda m: {
            "internal_parameters": {**m.internal_parameters, "ending": {"stops": ["SIGTERM"], "outlivedBy": []}}
        },
    ),
    "years ago": ("times", lambda m: {"started_on": "2020-01-01T00:00:00Z"}),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_signed_manifest_that_its_files_contradict_does_not_verify(lie: str, run: ScriptRun) -> None:
    name, change = LIES[lie]
    sign_again(run, **change(run.manifest))
    verdict = verified(run)
    assert [check.name for check in verdict.checks if check.status == "fail"] == [name], verdict.to_json()


def test_a_copy_that_is_not_the_output_does_not_verify(run: ScriptRun) -> None:
    (run.folder / "outputs" / "model.txt").write_text("0.1")
    sign_again(run)
    assert [check.name for check in verified(run).checks if check.status == "fail"] == ["files"]


@pytest.mark.parametrize(
    ("name", "text"), [("log.txt", "test accuracy 0.9999\n"), ("processes.json", '{"accuracy": 0.9999}')]
)
def test_a_log_and_a_list_of_processes_of_the_author_s_own_do_not_verify(run: ScriptRun, name: str, text: str) -> None:
    (run.folder / name).write_text(text)
    sign_again(run)
    assert [check.name for check in verified(run).checks if check.status == "fail"] == ["files"]


def test_a_trail_that_is_none_does_not_verify(run: ScriptRun) -> None:
    (run.folder / "trail").mkdir()
    (run.folder / "trail" / "trail-1-1-0.bin").write_bytes(b"no trail")
    sign_again(run)
    assert [check.name for check in verified(run).checks if check.status == "fail"] == ["trail"]


def test_an_error_of_the_recorder_is_no_success(run: ScriptRun) -> None:
    error = Resource("error", annotations={"type": "StorageError", "message": "the disk was full", "cure": ""})
    sign_again(run, byproducts=(*run.manifest.byproducts, error), exit_code={"unavailable": "it was never started"})
    assert [check.name for check in verified(run).checks if check.status == "fail"] == ["outcome"]


def test_a_run_without_python_verifies(recorded: ScriptRun, tmp_path: Path) -> None:
    folder = Project(recorded.top / "project").record(tmp_path / "runs", tmp_path / "home", "sh", "-c", "echo a >b")
    verdict = verified(ScriptRun(tmp_path, folder.root.relative_to(tmp_path)))
    assert verdict.ok, verdict.to_json()
    assert json.loads(folder.outputs.read_text())["files"][0]["path"] == "b"

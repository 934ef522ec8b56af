"""A script's run verifies by checks of its own, and a signed manifest that says more than its files do does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from script_runs import ScriptRun, record_script, sign_again

from ndrepro.execution.verification.checks_by_kind import checks_of
from provenance.attestation.manifest import Attempt, Builder, Manifest, Resource
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verdict import Verdict
from provenance.attestation.verify import verify


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> ScriptRun:
    return record_script(tmp_path_factory.mktemp("script"), rate=0.1)


@pytest.fixture
def run(recorded: ScriptRun, tmp_path: Path) -> ScriptRun:
    """A copy that a test may change."""
    shutil.copytree(recorded.top, tmp_path / "copy")
    return replace(recorded, top=tmp_path / "copy")


def verified(run: ScriptRun) -> Verdict:
    return verify(run.folder, trust=TrustPolicy.load(run.home), ledger=run.ledger, extra_checks=checks_of)


def test_an_untouched_run_passes_every_check(recorded: ScriptRun) -> None:
    verdict = verified(recorded)
    assert {check.status for check in verdict.checks} == {"pass"}, verdict.to_json()
    names = [check.name for check in verdict.checks[8:]]
    assert names == ["request", "environment", "source", "metrics", "outcome", "times"]


def test_without_a_manifest_no_kind_of_check_is_chosen(run: ScriptRun) -> None:
    (run.folder / "manifest.dsse.json").unlink()
    assert len(verified(run).checks) == 8


def test_an_unknown_build_type_is_named(run: ScriptRun) -> None:
    sign_again(run, build_type="urn:somebody:else:v1")
    verdict = verify(run.folder, trust=TrustPolicy.load(run.home), extra_checks=checks_of)
    assert (verdict.checks[8].name, verdict.checks[8].status) == ("kind", "skip")
    assert "'urn:somebody:else:v1'" in verdict.checks[8].message


def with_machine(manifest: Manifest, **changes: Any) -> dict[str, Any]:
    return {"machine": {**manifest.machine, **changes}}


def other_torch(manifest: Manifest) -> dict[str, Any]:
    first = next(item for item in manifest.dependencies if item.name.startswith("distribution:"))
    changed = replace(first, uri="pkg:pypi/other@9.9")
    return {"dependencies": tuple(changed if item is first else item for item in manifest.dependencies)}


def without_a_package(manifest: Manifest) -> dict[str, Any]:
    last = [item for item in manifest.dependencies if item.name.startswith("distribution:")][-1]
    return {"dependencies": tuple(item for item in manifest.dependencies if item is not last)}


def with_variables(manifest: Manifest) -> dict[str, Any]:
    inner = manifest.internal_parameters
    told = {when: {**known, "OMP_NUM_THREADS": "64"} for when, known in inner["variables"].items()}
    return {"internal_parameters": {**inner, "variables": told}}


def dated(manifest: Manifest, started: str, finished: str) -> dict[str, Any]:
    last = Attempt(started, finished, manifest.outcome)
    return {"started_on": started, "finished_on": finished, "attempts": (last,)}


LIES: Mapping[str, tuple[str, Callable[[Manifest], dict[str, Any]]]] = {
    "another builder": ("request", lambda m: {"builder": Builder("urn:ndrepro:builder", {})}),
    "a field of its own": (
        "request",
        lambda m: {"external_parameters": {**m.external_parameters, "preregistered": True}},
    ),
    "another machine": ("environment", lambda m: with_machine(m, gpus={"devices": [{"name": "H100"}]})),
    "another version": ("environment", other_torch),
    "a package left out": ("environment", without_a_package),
    "a variable": ("environment", with_variables),
    "an unknown machine": ("environment", lambda m: {"machine": {"unavailable": "?"}}),
    "completed with an error": (
        "outcome",
        lambda m: {"byproducts": (Resource("error", annotations={"type": "X", "message": "no", "cure": ""}),)},
    ),
    "failed without a reason": (
        "outcome",
        lambda m: {"outcome": "failed", "attempts": (replace(m.attempts[-1], outcome="failed"),)},
    ),
    "years ago": ("times", lambda m: dated(m, "2020-01-01T00:00:00Z", "2020-01-01T00:00:01Z")),
    "ended before it started": ("times", lambda m: dated(m, m.finished_on, m.started_on)),
    "a commit that nothing shows": ("source", lambda m: {"dependencies": (_committed(m), *m.dependencies[1:])}),
}


def _committed(manifest: Manifest) -> Resource:
    source = manifest.dependencies[0]
    assert source.name == "source"
    return replace(source, digest={"gitCommit": "0" * 40}, annotations={"commit": "1" * 40})


@pytest.mark.parametrize("lie", LIES)
def test_a_signed_manifest_that_its_files_contradict_does_not_verify(lie: str, run: ScriptRun) -> None:
    name, change = LIES[lie]
    sign_again(run, **change(run.manifest))
    verdict = verify(run.folder, trust=TrustPolicy.load(run.home), ledger=None, extra_checks=checks_of)
    failed = [check.name for check in verdict.checks if check.status == "fail"]
    assert failed == [name] and not verdict.ok, verdict.to_json()


def test_torn_metrics_do_not_verify(run: ScriptRun) -> None:
    with (run.folder / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 3, "lo')
    sign_again(run)
    assert [check.name for check in verified(run).checks if check.status == "fail"] == ["ledger", "metrics"]


def test_a_script_under_the_name_of_a_training_run_is_checked_as_one(run: ScriptRun) -> None:
    asked = {**run.manifest.external_parameters, "experiment": {"name": "vgg16_nd_100"}}
    sign_again(run, external_parameters=asked)
    verdict = verified(run)
    assert not verdict.ok and verdict.checks[8].name == "request" and verdict.checks[8].status == "fail"


def test_what_was_never_captured_is_not_invented(run: ScriptRun) -> None:
    document = json.loads((run.folder / "environment.json").read_text())
    (run.folder / "environment.json").write_text(json.dumps({"end": document["end"]}))
    sign_again(run)
    failed = [check for check in verified(run).checks if check.status == "fail"]
    assert [check.name for check in failed] == ["ledger", "environment"]
    assert failed[1].message.endswith("at the end: cpython, at the start: None")

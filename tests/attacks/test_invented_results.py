"""Attack: a signed program's run with other results than its program gives, where the comparison does not look.

The repetition is the honest run; what the author hands in is a copy of it that was changed and signed again.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from program_projects import Project
from script_runs import ScriptRun, sign_again

from ndrepro.analysis.results.program_verdict import ProgramResults, judge_program
from ndrepro.execution.verification.checks_by_kind import checks_of
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.verdicts import claim
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import bytes_digest

PROGRAM = """
import json
with open("log.csv", "w") as log:
    log.write("epoch,time-averaged accuracy,epoch_time\\n1,0.51,3.5\\n2,0.52,3.5\\n")
with open("results.json", "w") as file:
    json.dump({"test_accuracy": 0.51}, file)
"""


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> ScriptRun:
    top = tmp_path_factory.mktemp("program")
    asked: dict[str, Any] = {"outputs": ("results.json", "log.csv"), "metrics": ("log.csv",)}
    folder = Project.make(top / "project", PROGRAM).record(
        top / "runs", top / "home", sys.executable, "train.py", **asked
    )
    return ScriptRun(top, folder.root.relative_to(top))


@pytest.fixture
def forged(honest: ScriptRun, tmp_path: Path) -> ScriptRun:
    """A copy that a test changes."""
    shutil.copytree(honest.top, tmp_path / "copy")
    return replace(honest, top=tmp_path / "copy")


def metrics(run: ScriptRun, before: str, after: str) -> None:
    log = RunFolder(run.folder).metrics
    assert before in log.read_text()
    log.write_text(log.read_text().replace(before, after))


def outputs(run: ScriptRun, path: str, content: bytes | None, **changes: Any) -> None:
    """Change what outputs.json says of a file, and its copy, which goes where there is no content."""
    folder = RunFolder(run.folder)
    document = json.loads(folder.outputs.read_text())
    for file in document["files"]:
        if file["path"] == path:
            file.update(changes)
            if content is None:
                del file["copy"]
                (folder.output_copies / path).unlink()
            else:
                (folder.output_copies / path).write_bytes(content)
                file.update(size=len(content), sha256=bytes_digest(content))
    folder.outputs.write_bytes(canonical_bytes(document))
    digest = {"sha256": bytes_digest(folder.outputs.read_bytes())}
    listed = {"files": document["files"], "count": len(document["files"])}
    sign_again(
        run,
        byproducts=tuple(
            replace(item, digest=digest, annotations={**(item.annotations or {}), **listed})
            if item.name == "outputs"
            else item
            for item in run.manifest.byproducts
        ),
    )


def of_the_clock(run: ScriptRun) -> None:
    metrics(run, "0.52", "0.9999")
    sign_again(run)


def invented(run: ScriptRun) -> None:
    outputs(run, "results.json", b'{"test_accuracy": 0.9999}')


def invented_bytes(run: ScriptRun) -> None:
    outputs(run, "results.json", b"\x80\x04weights of 99.99 %")


def not_written(run: ScriptRun) -> None:
    """The log that shows the honest numbers is said not to be the run's, with another digest."""
    why = "not written by this run: as it was before the start"
    outputs(run, "log.csv", None, reason=why, sha256="0" * 64)


LIES: Mapping[str, Callable[[ScriptRun], None]] = {
    "a metric whose name has a word of the clock": of_the_clock,
    "an output with other numbers": invented,
    "an output of other bytes": invented_bytes,
    "an output that is said not to be the run's": not_written,
}


def results(run: ScriptRun) -> ProgramResults:
    return ProgramResults.of_program(RunFolder(run.folder), run.manifest)


def verdict(then: ScriptRun, now: ScriptRun) -> str:
    given = {"inputs": claim("inputs", True, ""), "environment": claim("environment", True, "")}
    return judge_program(results(then), results(now), **given).verdict


def test_the_honest_run_is_identical_to_its_repetition(honest: ScriptRun) -> None:
    assert verdict(honest, honest) == "identical"


def test_an_output_that_is_listed_twice_does_not_verify(forged: ScriptRun) -> None:
    """One entry would be shown, and the other compared."""
    twice = json.loads(RunFolder(forged.folder).outputs.read_text())
    twice["files"].append({**twice["files"][-1], "how": "new"})
    RunFolder(forged.folder).outputs.write_bytes(canonical_bytes(twice))
    outputs(forged, "nothing", None)
    failure = verify(forged.folder, trust=TrustPolicy.load(forged.home), extra_checks=checks_of).failure
    assert failure is not None and failure.name == "files" and "comes twice" in failure.message


@pytest.mark.parametrize("lie", LIES)
def test_results_that_the_program_does_not_give_pass_no_repetition(
    lie: str, honest: ScriptRun, forged: ScriptRun
) -> None:
    LIES[lie](forged)
    assert verify(forged.folder, trust=TrustPolicy.load(forged.home), extra_checks=checks_of).ok, "its files agree"
    assert verdict(forged, honest) in ("undecided", "inconsistent")

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

from ndrepro.analysis.verdicts.program_results import ProgramResults
from ndrepro.analysis.verdicts.program_verdict import judge_program
from ndrepro.execution.program_reproduction.nested_runs import manifests_below
from ndrepro.execution.verification.checks_by_kind import checks_of
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.verdicts import claim
from provenance.attestation.manifest import Resource
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import bytes_digest

PROGRAM = """
import json
with open("log.csv", "w") as log:
    log.write("epoch,time-averaged accuracy,test_accuracy/over/time,epoch_time\\n1,0.51,0.61,3.5\\n2,0.52,0.62,3.5\\n")
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
    """Change a number in the metrics and in the kept copy of their log, which ``verify`` compares."""
    folder = RunFolder(run.folder)
    assert before in folder.metrics.read_text()
    folder.metrics.write_text(folder.metrics.read_text().replace(before, after))
    outputs(run, "log.csv", (folder.output_copies / "log.csv").read_bytes().replace(before.encode(), after.encode()))


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
    total = sum(file.get("size", 0) for file in document["files"])
    listed = {"files": document["files"], "count": len(document["files"]), "bytes": total}
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


def after_a_slash(run: ScriptRun) -> None:
    metrics(run, "0.62", "0.9999")


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
    "a metric whose name ends with a word of the clock": after_a_slash,
    "an output with other numbers": invented,
    "an output of other bytes": invented_bytes,
    "an output that is said not to be the run's": not_written,
}


def results(run: ScriptRun) -> ProgramResults:
    return ProgramResults.of_program(RunFolder(run.folder), run.manifest)


def verdict(then: ScriptRun, now: ScriptRun) -> str:
    given = {name: claim(name, True, "") for name in ("inputs", "environment", "conditions")}
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


def relist(run: ScriptRun, name: str, change: Callable[[list[dict[str, Any]]], None]) -> None:
    """Change the list inputs.json or outputs.json, and sign it."""
    path = run.folder / f"{name}.json"
    document = json.loads(path.read_text())
    change(document["files"])
    path.write_bytes(canonical_bytes(document))
    total = sum(file.get("size", 0) for file in document["files"])
    listed = {"files": document["files"], "count": len(document["files"]), "bytes": total}
    digest = {"sha256": bytes_digest(path.read_bytes())}

    def described(items: tuple[Resource, ...]) -> tuple[Resource, ...]:
        return tuple(
            replace(item, digest=digest, annotations={**(item.annotations or {}), **listed})
            if item.name == name
            else item
            for item in items
        )

    manifest = run.manifest
    sign_again(run, dependencies=described(manifest.dependencies), byproducts=described(manifest.byproducts))


FALSE = b'{"test_accuracy": 0.9999}'


def shown_and_compared(run: ScriptRun) -> None:
    """The false result lies where the true one would, whose copy has another name."""
    copies = RunFolder(run.folder).output_copies
    (copies / "true").write_bytes((copies / "results.json").read_bytes())
    (copies / "results.json").write_bytes(FALSE)

    def change(files: list[dict[str, Any]]) -> None:
        (true,) = (file for file in files if file["path"] == "results.json")
        true["copy"] = "outputs/true"

    relist(run, "outputs", change)


def shown_by_another_spelling(run: ScriptRun) -> None:
    copies = RunFolder(run.folder).output_copies
    (copies / "results.json").write_bytes(FALSE)
    working_folder = run.manifest.external_parameters["workingFolder"]

    def change(files: list[dict[str, Any]]) -> None:
        (true,) = (file for file in files if file["path"] == "results.json")
        files.append({**true, "sha256": bytes_digest(FALSE), "size": len(FALSE)})
        del true["copy"]
        true["path"] = f"{working_folder}/results.json"

    relist(run, "outputs", change)


def shown_and_not_listed(run: ScriptRun) -> None:
    (RunFolder(run.folder).output_copies / "final_results.json").write_bytes(FALSE)
    sign_again(run)


def read_and_shown(run: ScriptRun) -> None:
    """An input with the digest of the file that a reviewer has, and again with that of another."""
    relist(run, "inputs", lambda files: files.append({**files[0], "sha256": "0" * 64}))


def described(**changes: Any) -> Callable[[ScriptRun], None]:
    """Other words of results.json, whose copy stays."""

    def change(files: list[dict[str, Any]]) -> None:
        (true,) = (file for file in files if file["path"] == "results.json")
        true.update(changes)

    return lambda run: relist(run, "outputs", change)


TWICE: Mapping[str, tuple[Callable[[ScriptRun], None], str]] = {
    "an output whose copy is another's": (shown_and_compared, "the copy of no file"),
    "an output by two spellings": (shown_by_another_spelling, "comes twice"),
    "a file among the copies": (shown_and_not_listed, "the copy of no file"),
    "an input with two contents": (read_and_shown, "comes twice"),
    "a copy of what was not written": (
        described(reason="not written by this run: as it was"),
        "a reason for having none",
    ),
    "a copy of another size": (described(size=10**12), "is another file"),
    "a claim of the author's own": (described(note="0.9999, checked by the chairs"), "note: unknown"),
}


@pytest.mark.parametrize("lie", TWICE)
def test_a_file_that_is_shown_beside_the_one_that_is_compared_does_not_verify(lie: str, forged: ScriptRun) -> None:
    change, said = TWICE[lie]
    change(forged)
    failure = verify(forged.folder, trust=TrustPolicy.load(forged.home), extra_checks=checks_of).failure
    assert failure is not None and failure.name in ("files", "request") and said in failure.message


def test_an_input_that_comes_twice_with_one_content_verifies(forged: ScriptRun) -> None:
    """As standard input, say, and as a word of the command."""
    relist(forged, "inputs", lambda files: files.append({**files[0], "how": "standard input"}))
    assert verify(forged.folder, trust=TrustPolicy.load(forged.home), extra_checks=checks_of).ok


@pytest.mark.parametrize("lie", LIES)
def test_results_that_the_program_does_not_give_pass_no_repetition(
    lie: str, honest: ScriptRun, forged: ScriptRun
) -> None:
    LIES[lie](forged)
    assert verify(forged.folder, trust=TrustPolicy.load(forged.home), extra_checks=checks_of).ok, "its files agree"
    assert verdict(forged, honest) in ("undecided", "inconsistent")


SPELLINGS = {
    "a key twice": lambda text: text.replace('{"files":', '{"files":["accuracy 0.9999"],"files":', 1),
    "a member of a file twice": lambda text: text.replace('"sha256":', '"sha256":"0.9999","sha256":', 1),
    "blanks": lambda text: text.replace(",", ", \t\t ", 1),
    "escapes": lambda text: text.replace("files", "\\u0066iles", 1),
}


@pytest.mark.parametrize("how", SPELLINGS)
def test_a_list_of_files_in_another_spelling_does_not_verify(how: str, forged: ScriptRun) -> None:
    """A reader of the file sees more than the one that is compared."""
    folder = RunFolder(forged.folder)
    folder.outputs.write_text(SPELLINGS[how](folder.outputs.read_text()))
    said = {"sha256": bytes_digest(folder.outputs.read_bytes())}
    known = forged.manifest.byproducts
    sign_again(
        forged, byproducts=tuple(replace(each, digest=said) if each.name == "outputs" else each for each in known)
    )
    failure = verify(forged.folder, trust=TrustPolicy.load(forged.home), extra_checks=checks_of).failure
    assert failure is not None and "not as a recorder writes it" in failure.message


def test_a_committed_run_among_many_is_no_repetition(tmp_path: Path) -> None:
    """Before: of the manifests that were there the first 1,000 were known, and another was new when one was gone."""
    for number in range(1000):
        (tmp_path / f"cache/{number:04}").mkdir(parents=True)
        (tmp_path / f"cache/{number:04}/manifest.dsse.json").touch()
    (tmp_path / "results").mkdir()
    (tmp_path / "results/manifest.dsse.json").touch()
    before = manifests_below(tmp_path)
    shutil.rmtree(tmp_path / "cache/0000")
    assert len(before) == 1001 and not manifests_below(tmp_path) - before

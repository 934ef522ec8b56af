"""An author signs, in the documents of a recorded program, members and values that its repetition has otherwise.

Signature and digests are right; before, each of these verified, and no claim of an identical repetition named it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from strange_programs import Stranger, manifest_of

from ndrepro.analysis.verdicts.program_facts import facts_claim
from ndrepro.execution.program_reproduction.nested_runs import same_request
from ndrepro.execution.verification.checks_by_kind import checks_of
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.verdicts import NOT_CHECKED
from provenance.attestation.trust import TrustPolicy
from provenance.attestation.verify import verify
from provenance.formats.canonical_json import canonical_bytes
from provenance.formats.digest import bytes_digest

FALSE = "test accuracy 0.9999"
PROGRAM = "values = open('data.txt').read()\nopen('o', 'w').write(values)\n"
Edit = Callable[[RunFolder], dict[str, Any]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Stranger, RunFolder]:
    author = Stranger.make(tmp_path_factory.mktemp("program"), {"train.py": PROGRAM, "data.txt": "0.5\n"})
    return author, author.record(outputs=("o",))


def listed(name: str, edit: Callable[[dict[str, Any]], None]) -> Edit:
    """Edit inputs.json or outputs.json, and let the manifest agree."""

    def edited(run: RunFolder) -> dict[str, Any]:
        path, manifest = run.root / f"{name}.json", manifest_of(run)
        document = json.loads(path.read_text())
        edit(document)
        path.write_bytes(canonical_bytes(document))
        digest = {"sha256": bytes_digest(path.read_bytes())}

        def agreeing(item: Any) -> Any:
            if item.name != name:
                return item
            total = sum(file["size"] for file in document["files"])
            annotations = {**item.annotations, "files": document["files"], "bytes": total}
            return replace(item, digest=digest, annotations=annotations)

        parts = {"inputs": "dependencies", "outputs": "byproducts"}[name]
        return {parts: tuple(map(agreeing, getattr(manifest, parts)))}

    return edited


def annotated(**annotations: Any) -> Edit:
    """Other annotations of the outputs."""

    def edited(run: RunFolder) -> dict[str, Any]:
        found = manifest_of(run).byproducts
        return {
            "byproducts": tuple(
                replace(item, annotations={**item.annotations, **annotations}) if item.name == "outputs" else item
                for item in found
            )
        }

    return edited


def process(**members: Any) -> Edit:
    """Other members of the first process."""

    def edited(run: RunFolder) -> dict[str, Any]:
        document = json.loads(run.processes.read_text())
        document["processes"][0].update(members)
        run.processes.write_bytes(canonical_bytes(document))
        return {}

    return edited


def facts(**interpreter: Any) -> Edit:
    """Other members of the first Python, or of what was seen."""

    def edited(run: RunFolder) -> dict[str, Any]:
        found = json.loads(json.dumps(dict(manifest_of(run).internal_parameters)))
        if interpreter:
            found["interpreters"][0].update(interpreter)
        else:
            found["observation"]["processes"] = 9999
        return {"internal_parameters": found}

    return edited


def edited(author: Stranger, run: RunFolder, edit: Edit) -> RunFolder:
    """A copy of a run, signed again with what was edited."""
    copy = RunFolder(author.top / "edited" / run.root.name)
    shutil.rmtree(copy.root.parent, ignore_errors=True)
    shutil.copytree(run.root, copy.root)
    author.claim(copy, **edit(copy))
    return copy


REFUSED: dict[str, Edit] = {
    "a member of outputs.json": listed("outputs", lambda document: document.update({FALSE: FALSE})),
    "a member of inputs.json": listed("inputs", lambda document: document.update({FALSE: FALSE})),
    "how an output is known": listed("outputs", lambda document: document["files"][0].update(how=FALSE)),
    "how an input is known": listed("inputs", lambda document: document["files"][0].update(how=FALSE)),
    "a sum of bytes": annotated(bytes=9999),
    "how a process ended": process(ending=FALSE),
    "when a process ended": process(ended=FALSE),
    "when a process started": process(started=FALSE),
    "distributions that are dependencies": facts(distributions={FALSE: FALSE}),
    "the number of processes": facts(),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_recorder_writes_of_a_program_is_refused(recorded: tuple[Stranger, RunFolder], what: str) -> None:
    author, run = recorded
    trust, checks = TrustPolicy.load(author.reviewer), checks_of(manifest_of(run))
    assert verify(run.root, trust=trust, extra_checks=checks).failure is None, "the control"
    found = verify(edited(author, run, REFUSED[what]).root, trust=trust, extra_checks=checks)
    assert found.failure is not None and found.failure.name in ("files", "environment", "request"), found.checks


def test_the_size_of_an_input_is_that_of_the_file(recorded: tuple[Stranger, RunFolder]) -> None:
    author, run = recorded
    edit = listed("inputs", lambda document: [file.update(size=9999) for file in document["files"]])
    found = author.reproduce(edited(author, run, edit))
    assert found.verdict == "undecided" and any("recorded with 9999 bytes" in line for line in found.plan.differences)


def test_what_a_repetition_records_otherwise_is_named(recorded: tuple[Stranger, RunFolder]) -> None:
    author, run = recorded
    honest = manifest_of(run)
    assert not facts_claim(honest, honest, is_python=False), "the control"
    for edit in (annotated(removed=[FALSE]), annotated(unmatched=[FALSE])):
        (claim,) = facts_claim(manifest_of(edited(author, run, edit)), honest, is_python=True)
        assert claim.status == NOT_CHECKED and FALSE in claim.evidence
    other = tuple(
        replace(item, digest={"sha256": "0" * 64}) if item.name == "executable" else item
        for item in honest.dependencies
    )
    (claim,) = facts_claim(replace(honest, dependencies=other), honest, is_python=False)
    assert "executable: sha256 000" in claim.evidence


def test_how_an_input_was_read_is_compared(recorded: tuple[Stranger, RunFolder]) -> None:
    author, run = recorded
    edit = listed("inputs", lambda document: [file.update(how="command") for file in document["files"]])
    found = author.reproduce(edited(author, run, edit))
    (claim,) = (each for each in found.judgements[0].claims if each.name == "inputs")
    assert claim.status == NOT_CHECKED and "recorded as read in another way than now" in claim.evidence
    assert author.reproduce(run).verdict == "identical", "the control"


def test_true_is_no_number_of_a_script_s_parameters(recorded: tuple[Stranger, RunFolder]) -> None:
    """Before, a script's run with true was the repetition of one with 1."""
    manifest = manifest_of(recorded[1])
    asked = [replace(manifest, external_parameters={"parameters": {"folds": folds}}) for folds in (1, True, 1)]
    assert [same_request(asked[0], each) for each in asked] == [True, False, True]

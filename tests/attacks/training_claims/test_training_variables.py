"""A training run's author records variables that the code of a network reads and that decide the result."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from dishonest_author import agreeing, copied, manifest_of, original_of, planned, sign_again
from real_runs import Bench

from ndrepro.analysis.verdicts.run_conditions import (
    conditions_claim,
    distributions_claim,
    training_variables_claim,
    unequal_conditions,
)
from ndrepro.execution.runs.run import Finished
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.recorded.start_and_end import changed_otherwise
from ndrepro.protocol.recorded.variables import of_training_not_given
from ndrepro.protocol.training_record import CODE
from ndrepro.protocol.verdicts import NOT_CHECKED, RECORDED_CODE
from ndrepro.reproduction.training import claims_of_run
from provenance.formats.atomic_io import write_json


def recorded_with(run: RunFolder, into: Path, author: Bench, **variables: str) -> RunFolder:
    """A copy of a run, signed again as if it had had these variables from its start to its end."""
    folder = copied(run, into)
    before, seals = manifest_of(folder), json.loads(folder.environment.read_text())
    for moment in ("start", "end"):
        seals[moment]["environment"]["variables"]["recorded"].update(variables)
    write_json(folder.environment, seals)
    sign_again(folder, author, **agreeing(folder, before))
    return folder


def test_a_variable_that_a_repetition_does_not_get_is_a_claim_of_the_verdict(
    author: Bench, honest: Finished, tmp_path: Path
) -> None:
    """Before: identical, conditions checked, and nothing said that the repetition had no such variable."""
    told = []
    for folder in (honest.folder, recorded_with(honest.folder, tmp_path, author, CONDA_OF_A_TEST="relu")):
        original = original_of(folder, author)
        for own in (True, False):
            plan = planned(original, author.options)
            plan = replace(plan, execution=replace(plan.execution, code=replace(plan.execution.code, own=own)))
            claims = claims_of_run(original, plan, (honest,), ())
            told.append([each for each in claims if each.name == "variables"])
    (*none, (claim,)) = told
    assert none == [[], [], []], "the control, and this checkout's own code, which reads no such variable"
    assert claim.status == NOT_CHECKED and "CONDA_OF_A_TEST" in claim.evidence


@pytest.mark.parametrize("name", ["TORCH_ACTIVATION", "TORCHINDUCTOR_FREEZING", "GLIBC_TUNABLES", "NVPL_OF_A_TEST"])
def test_one_that_may_move_numbers_is_another_condition(
    author: Bench, honest: Finished, tmp_path: Path, name: str
) -> None:
    """Before, what an honest run computed with it was inconsistent, "under conditions that promise equal bits"."""
    again = manifest_of(honest.folder)
    then = manifest_of(recorded_with(honest.folder, tmp_path, author, **{name: "1"}))
    assert not unequal_conditions(again, again) and not training_variables_claim(again, again), "the control"
    (found,), (other_way,) = unequal_conditions(then, again), unequal_conditions(again, then)
    assert name in found and name in other_way
    assert name in conditions_claim(then, again).evidence
    assert [each.status for each in training_variables_claim(then, again)] == [NOT_CHECKED]
    (claim,) = training_variables_claim(again, then)  # what a reviewer has alone decides as well
    assert claim.evidence == f"of now alone: {name}"


def test_where_the_recorder_put_code_and_caches_is_named_by_what_the_signer_asserts(
    author: Bench, honest: Finished, tmp_path: Path
) -> None:
    then = recorded_with(honest.folder, tmp_path, author, PYTHONPATH="/of/then", TORCHINDUCTOR_CACHE_DIR="/of/then")
    assert not training_variables_claim(manifest_of(then), manifest_of(honest.folder))


def test_a_distribution_that_the_repetition_does_not_find_is_a_claim_of_the_verdict(
    author: Bench, honest: Finished
) -> None:
    """One in a folder that a ``.pth`` file leads to; before, "installed distributions are those recorded"."""
    original = original_of(honest.folder, author)
    before = original.manifest
    (numpy,) = (each for each in before.dependencies if each.name == "distribution:numpy")
    more = (*before.dependencies, replace(numpy, name="distribution:mylib"))
    original = replace(original, manifest=replace(before, dependencies=more))
    plan = planned(original, author.options)
    of_author = replace(plan.execution, code=replace(plan.execution.code, own=False))
    told = claims_of_run(original, replace(plan, execution=of_author), (honest,), ())
    assert [(each.status, "mylib" in each.evidence) for each in told if each.name == "distributions"] == [
        (NOT_CHECKED, True)
    ]
    assert not distributions_claim(before, manifest_of(honest.folder)), "the control"


def test_what_changed_before_the_end_and_not_in_a_repetition_is_a_claim_of_the_verdict(
    author: Bench, honest: Finished, tmp_path: Path
) -> None:
    """Variables and packages that the record has at its end alone; before, compared with nothing."""
    folder = copied(honest.folder, tmp_path)
    before, seals = manifest_of(folder), json.loads(folder.environment.read_text())
    end = seals["end"]["environment"]
    end["variables"]["recorded"]["TORCH_ACTIVATION"] = "relu"
    (numpy,) = (each for each in end["distributions"]["installed"] if each["name"] == "numpy")
    numpy["version"] = "1.13.1"
    write_json(folder.environment, seals)
    code = [
        replace(each, annotations={**(each.annotations or {}), "files": 9999}) if each.name == CODE else each
        for each in before.dependencies
    ]
    sign_again(folder, author, **{**agreeing(folder, before), "dependencies": tuple(code)})
    claims = []
    for each in (honest.folder, folder):
        original = original_of(each, author)
        claims.append(claims_of_run(original, planned(original, author.options), (honest,), ()))
    told = {each.name: each.evidence for each in claims[1] if each not in claims[0]}
    assert told["changes while it ran"].endswith(": variable TORCH_ACTIVATION, package numpy")
    assert "files: 9999 then, " in told[RECORDED_CODE] and "now" not in str(claims[0][0])


def test_what_is_taken_away_at_the_end_alone_is_named() -> None:
    """Before, only what was added or changed there was compared."""

    def seal(variables: dict[str, str], *packages: str) -> dict[str, object]:
        installed = [{"name": name, "version": "1"} for name in packages]
        return {"environment": {"variables": {"recorded": variables}, "distributions": {"installed": installed}}}

    start, end = seal({"ACTIVATION": "relu", "TZ": "UTC"}, "numpy", "torch"), seal({"TZ": "UTC"}, "torch")
    then = {"start": start, "end": end}
    assert changed_otherwise(then, {"start": start, "end": start}) == ("variable ACTIVATION", "package numpy")
    assert changed_otherwise(then, then) == (), "code that does it does it again"


def test_where_one_process_is_said_to_meet_others_is_named(author: Bench, honest: Finished, tmp_path: Path) -> None:
    """No recorder says it of one. Before: of any run, whatever a network makes of it."""
    then = manifest_of(recorded_with(honest.folder, tmp_path, author, MASTER_ADDR="node17"))
    (claim,) = training_variables_claim(then, manifest_of(honest.folder))
    assert claim.status == NOT_CHECKED and "MASTER_ADDR" in claim.evidence
    several = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "4000"}
    assert not of_training_not_given(several, {**several, "MASTER_PORT": "4001"}), "the control"

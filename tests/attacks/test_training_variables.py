"""A training run's author records variables that the code of a network reads and that decide the result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from dishonest_author import agreeing, copied, manifest_of, original_of, planned, sign_again
from real_runs import Bench

from ndrepro.analysis.verdicts.run_conditions import conditions_claim, training_variables_claim, unequal_conditions
from ndrepro.execution.runs.run import Finished
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.verdicts import NOT_CHECKED
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
        claims = claims_of_run(original, planned(original, author.options), (honest,), ())
        told.append([each for each in claims if each.name == "variables"])
    (none, (claim,)) = told
    assert not none, "the control"
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
    assert not training_variables_claim(again, then), "what a reviewer has is no word of the author's"


def test_where_the_recorder_put_code_and_caches_is_named_by_what_the_signer_asserts(
    author: Bench, honest: Finished, tmp_path: Path
) -> None:
    then = recorded_with(honest.folder, tmp_path, author, PYTHONPATH="/of/then", TORCHINDUCTOR_CACHE_DIR="/of/then")
    assert not training_variables_claim(manifest_of(then), manifest_of(honest.folder))

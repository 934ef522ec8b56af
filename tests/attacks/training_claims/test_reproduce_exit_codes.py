"""Whole commands on forged runs: `ndrepro reproduce` ends with exit code 1, signs the verdict, and names the claim."""

from __future__ import annotations

from pathlib import Path

import pytest
from dishonest_author import copied, edit_results, restate, sign_again
from forged_states import forged, random_weights
from real_runs import Bench
from recorded_runs import process

from ndrepro.execution.runs.run import Finished
from ndrepro.protocol.layout import RunFolder

pytestmark = pytest.mark.slow


def close_downgrade(honest: Finished, author: Bench, into: Path) -> RunFolder:
    folder = copied(honest.folder, into)
    random_weights(folder)
    for epoch in (1, 2, 3):
        edit_results(folder, epoch, test_accuracy=0.99, test_loss=0.01)
    restate(folder)
    sign_again(folder, author)
    return folder


def forged_momentum(honest: Finished, author: Bench, into: Path) -> RunFolder:
    return forged(honest, author, into, "momentum", digests=True)


def honest_run(honest: Finished, author: Bench, into: Path) -> RunFolder:
    return copied(honest.folder, into)


@pytest.mark.parametrize(
    ("make", "options", "verdict"),
    [
        (honest_run, ["--spot", "1"], "identical"),
        (close_downgrade, [], "inconsistent"),
        (forged_momentum, ["--spot", "4"], "inconsistent"),
    ],
)
def test_a_forged_run_is_not_reproduced(  # type: ignore[no-untyped-def]
    honest: Finished, author: Bench, tmp_path: Path, make, options: list[str], verdict: str
) -> None:
    folder = make(honest, author, tmp_path)
    words = ("reproduce", str(folder.root), "--runs", str(tmp_path / "reviewer"), "--trust-code", "--json", *options)
    answer = process(*words, NDREPRO_HOME=str(author.options.home))
    assert answer.json["verdict"] == verdict, answer.err
    assert answer.code == (0 if verdict == "identical" else 1)
    claims = [claim for piece in answer.json["repeated"] for claim in piece["claims"]] + answer.json["claims"]
    failed = {claim["name"] for claim in claims if claim["status"] == "failed"}
    assert ("end state" in failed) == (verdict != "identical")

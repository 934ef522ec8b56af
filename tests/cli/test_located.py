"""Real runs that part are replayed in their own surroundings, and the first operation is named; nothing else is.

One bit flipped in one weight is followed by the investigator's runbook (tests/test_runbooks.py), other versions of
torch by tests/execution/test_canonical_versions.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from compared_runs import TENSORS, account, parted, records, sign_pair_member
from recorded_runs import Answer

from ndrepro.spec.layout import RunFolder

Command = Callable[..., Answer]


def test_one_thread_against_two_is_located_to_the_operation(ndrepro: Command, tmp_path: Path) -> None:
    words = ("run", "lenet_nd_1_digits", "--device", "cpu", "--quiet")
    few = [f"--set={key}=32" for key in ("train_images", "test_images", "batch_size")]
    first, second = (ndrepro(*words, *few, "--threads", count).out.strip() for count in "12")
    answer = ndrepro("diff", first, second, "--locate", "--keep", str(tmp_path / "kept"), "--json")
    assert answer.code == 1, answer.err
    located = answer.json["located"]
    assert located["step"] == answer.json["trails"]["parting"]["step"] == 1
    assert located["faithful"] == [True, True]
    assert located["notes"] == []
    one, other = located["operations"]
    # sums of a matrix product are split among threads
    assert one["part"] in ("forward", "backward") and one["path"] and one["name"] == other["name"]
    assert [each["bits"] for each in one["outputs"]] != [each["bits"] for each in other["outputs"]]
    assert one["arguments"] == other["arguments"]
    difference = located["difference"]
    assert 0 < difference["differing"] <= difference["of"]
    assert difference["largest_ulps"] >= difference["median_ulps"] >= 1
    kept = [np.load(tmp_path / "kept" / side / "tensors.npz", allow_pickle=False) for side in "AB"]
    for name in kept[0].files:
        equal = kept[0][name].tobytes() == kept[1][name].tobytes()
        assert equal == name.startswith("input"), "equal numbers went in, and others came out"


@pytest.fixture
def pair(own_home: Path) -> tuple[RunFolder, RunFolder]:
    """Two signed runs that part, of which nothing was trained."""
    first, second = (
        sign_pair_member(Path(), f"20261121T101501Z-{name * 6}", account(), table, home=own_home)
        for name, table in (("a", records(20)), ("b", parted(records(20), 5, [0])))
    )
    return first, second


def test_equal_runs_have_nothing_to_locate(ndrepro: Command, pair: tuple[RunFolder, RunFolder]) -> None:
    answer = ndrepro("diff", str(pair[0].root), str(pair[0].root), "--locate")
    assert answer.code == 0
    assert "nothing to locate: every step left the same bits" in answer.out
    assert ndrepro("diff", str(pair[0].root), str(pair[0].root), "--locate", "--json").json["located"] is None


def test_code_of_a_run_that_does_not_verify_is_never_started(
    ndrepro: Command, pair: tuple[RunFolder, RunFolder]
) -> None:
    pair[1].manifest.write_bytes(pair[1].manifest.read_bytes().replace(b'"sig":"', b'"sig":"AAAA'))
    answer = ndrepro("diff", str(pair[0].root), str(pair[1].root), "--locate")
    assert answer.code == 2
    assert "is not verified, and a replay would start its code" in answer.err


def test_a_manifest_alone_has_no_step_to_replay(ndrepro: Command, pair: tuple[RunFolder, RunFolder]) -> None:
    shutil.copyfile(pair[1].manifest, "alone.json")
    answer = ndrepro("diff", str(pair[0].root), "alone.json", "--locate")
    assert answer.code == 2
    assert "the second run's trail is not at hand" in answer.err


def test_runs_of_different_networks_have_no_step_in_common(ndrepro: Command, own_home: Path) -> None:
    first = sign_pair_member(Path(), "20261121T101501Z-aaaaaa", account(), records(20), home=own_home)
    second = sign_pair_member(
        Path(), "20261121T101502Z-bbbbbb", account(), records(20, tensors=2), home=own_home, tensors=TENSORS[:2]
    )
    answer = ndrepro("diff", str(first.root), str(second.root), "--locate")
    assert answer.code == 2
    assert "different networks" in answer.err


def test_data_that_are_not_here_are_asked_for(ndrepro: Command, pair: tuple[RunFolder, RunFolder]) -> None:
    answer = ndrepro("diff", *(str(run.root) for run in pair), "--locate", "--data", "elsewhere")
    assert answer.code == 3
    assert "--data elsewhere: no such file or folder" in answer.err


def test_what_is_kept_does_not_go_among_other_files(ndrepro: Command, pair: tuple[RunFolder, RunFolder]) -> None:
    Path("kept").mkdir()
    (Path("kept") / "mine.txt").write_text("mine")
    answer = ndrepro("diff", *(str(run.root) for run in pair), "--locate", "--keep", "kept")
    assert answer.code == 2
    assert "--keep kept: it is not empty" in answer.err

"""Two processes are one: the same weights from the same batches, and a difference wherever a part is left out."""

import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import side_by_side
from side_by_side import CASES, Arrays

from ndrepro.spec.errors import NdreproError
from ndrepro.spec.experiment import Experiment
from ndrepro.training import distributed
from ndrepro.training.share import Share

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def by_two(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """Every case trained by two processes that torch's own launcher starts."""
    out = tmp_path_factory.mktemp("two") / "out.npz"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run(
        [*launcher, side_by_side.__file__, str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        check=True,
        timeout=240,
        stdout=subprocess.DEVNULL,
    )
    return dict(np.load(out))


def farthest(found: Arrays, case: str, expected: Arrays) -> float:
    return max(float(np.abs(found[f"{case}/{name}"] - array).max()) for name, array in expected.items())


def test_with_statistics_of_the_whole_batch_two_processes_are_one(by_two: Arrays) -> None:
    state, losses = side_by_side.alone()
    assert farthest(by_two, "global", state) < 1e-11
    np.testing.assert_allclose(by_two["global/losses"], losses, rtol=1e-12)
    assert losses[-1] != losses[0]


@pytest.mark.parametrize("case", [case for case in CASES if " " in case])
def test_nothing_may_be_left_out(by_two: Arrays, case: str) -> None:
    """The control: without averaging, or without the gradient of the others' sums, the weights are others."""
    state, _ = side_by_side.alone()
    assert farthest(by_two, case, state) > 1e-4


def test_with_statistics_of_each_process_it_is_its_own_share_that_counts(by_two: Arrays) -> None:
    assert farthest(by_two, "process", side_by_side.own_statistics()) < 1e-11
    state, _ = side_by_side.alone()
    assert farthest(by_two, "process", state) > 1e-4, "which is another computation"


def test_processes_notice_that_their_weights_have_parted(by_two: Arrays) -> None:
    assert str(by_two["global/parted"]) == str(by_two["process/parted"]) == ""
    assert "different weights in first.weight" in str(by_two["global without averaging/parted"])


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shares_are_the_batch_in_order(size: int) -> None:
    pieces = [list(range(*Share(rank, size).of(10, 27).indices(100))) for rank in range(size)]
    assert list(chain(*pieces)) == list(range(10, 27))
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1
    assert sorted(chain(*(Share(rank, size).whole(7) for rank in range(size)))) == list(range(7))


def test_a_process_that_was_not_started_as_one_of_several_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    asked = Experiment.from_name("lenet_bn_1_digits", {"processes": "2"})
    with pytest.raises(NdreproError, match="WORLD_SIZE=1, expected the experiment's processes=2"):
        distributed.join(asked, side_by_side.torch.device("cpu"))

"""Two processes are one: the same weights from the same batches, and a difference wherever a part is left out."""

import os
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import side_by_side
import torch
from side_by_side import CASES, Arrays

from ndrepro.protocol.errors import NdreproError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.training import process_group
from ndrepro.training.compute.batch_share import Share
from ndrepro.training.layers.deconv import Deconv2d
from ndrepro.training.layers.whitening import inverse_sqrt
from ndrepro.training.process_group import ALONE
from ndrepro.training.train_run import build

pytestmark = pytest.mark.numerics

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
        stdout=subprocess.DEVNULL,
    )
    return dict(np.load(out))


def farthest(found: Arrays, case: str, expected: Arrays) -> float:
    return max(float(np.abs(found[f"{case}/{name}"] - array).max()) for name, array in expected.items())


@pytest.mark.parametrize(("case", "close"), [("global", 1e-11), ("fast", 1e-10)])
def test_with_statistics_of_the_whole_batch_two_processes_are_one(by_two: Arrays, case: str, close: float) -> None:
    """With either kernel of deconvolution they are one with the reference kernel."""
    state, losses = side_by_side.alone()
    assert farthest(by_two, case, state) < close
    np.testing.assert_allclose(by_two[f"{case}/losses"], losses, rtol=10 * close)
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


def test_in_float64_two_processes_are_one_on_a_real_network_too(by_two: Arrays) -> None:
    one = side_by_side.lenet(ALONE, torch.float64, ALONE.sum_gradients)
    assert farthest(by_two, "lenet float64", one) < 1e-10
    assert farthest(by_two, "lenet without averaging float64", one) > 1e-3


def test_in_float32_two_processes_are_as_near_to_the_exact_step_as_one_is(by_two: Arrays) -> None:
    """Deconvolution in float32 is not within 1e-6 of anything, itself in float64 included: not two of one either."""
    exact = side_by_side.lenet(ALONE, torch.float64, ALONE.sum_gradients)
    one = side_by_side.lenet(ALONE, torch.float32, ALONE.sum_gradients)
    rounding = max(float(np.abs(array - exact[name]).max()) for name, array in one.items())
    apart = farthest(by_two, "lenet float32", exact)
    assert 1e-6 < rounding < 10 * apart and apart < 10 * rounding
    assert farthest(by_two, "lenet without averaging float32", exact) > max(rounding, apart), "an error is farther off"


def test_it_is_the_root_of_the_first_covariance_that_makes_rounding_large() -> None:
    """Fifteen steps towards the root of a covariance whose eigenvalues are from 1e-5 to 63; the sums are as good as
    float32 has them."""
    net = build(Experiment.from_name("lenet_nd_1_digits"))
    first = next(layer for layer in net.modules() if isinstance(layer, Deconv2d))
    rows = first._rows(side_by_side.real_batch(torch.float64)[0])
    eye = torch.eye(rows.shape[-1], dtype=torch.float64)

    def covariance(rows: torch.Tensor) -> torch.Tensor:
        centred = rows - rows.mean(1, keepdim=True)
        return first.eps * eye.to(rows.dtype) + centred.transpose(1, 2) @ centred / rows.shape[1]

    def apart(found: torch.Tensor, expected: torch.Tensor) -> float:
        return float((found.double() - expected).norm() / expected.norm())

    exact, rounded = covariance(rows), covariance(rows.float())
    rounding = max(apart(rounded, exact), torch.finfo(torch.float32).eps)
    root = inverse_sqrt(exact, first.n_iter)
    assert apart(inverse_sqrt(rounded, first.n_iter), root) > 10 * rounding
    assert apart(inverse_sqrt(rounded.double(), first.n_iter), root) > 10 * rounding, "an exact root of it is no better"
    five = apart(inverse_sqrt(exact.float(), 5), inverse_sqrt(exact, 5))
    assert 10 * five < apart(inverse_sqrt(exact.float(), first.n_iter), root), "five steps, as later layers have"


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
        process_group.join(asked, side_by_side.torch.device("cpu"))

"""``ndrepro diff`` of recorded programs: real training that nobody prepared, recorded by the command, compared."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_programs import Programs
from recorded_runs import Answer

# two threads add the gradients of a batch of this size in another order than one
TRAIN = """
import sys, torch
from torch import nn
seed, threads, rate = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
torch.manual_seed(seed); torch.set_num_threads(threads)
net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 900, 10))
optimizer = torch.optim.SGD(net.parameters(), lr=rate)
for step in range(3):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(net(torch.randn(32, 3, 32, 32)), torch.randint(0, 10, (32,)))
    loss.backward(); optimizer.step()
"""


@pytest.mark.slow
def test_the_same_is_identical_and_seed_rate_and_threads_are_named(
    tmp_path: Path, own_home: Path, ndrepro: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = Programs(tmp_path / "programs")
    programs.home = own_home
    monkeypatch.chdir(programs.work)
    Path("train.py").write_text(TRAIN, encoding="utf-8")

    def run(seed: int, threads: int, rate: float) -> str:
        return str(programs.finish(sys.executable, "train.py", str(seed), str(threads), str(rate)).folder.root)

    first = run(0, 1, 0.1)
    same = ndrepro("diff", first, run(0, 1, 0.1))
    assert same.code == 0, same.out + same.err
    assert "identical: 3 steps are equal bit for bit" in same.out
    assert "state of numpy" not in same.out and "state of python" not in same.out

    seed = ndrepro("diff", first, run(1, 1, 0.1))
    assert seed.code == 1
    assert "they diverge before the first step: the first weights differ in 0.weight" in seed.out
    assert "likely: another seed" in seed.out.partition("cause 2")[0]

    rate = ndrepro("diff", first, run(0, 1, 0.2), "--json")
    found = json.loads(rate.out)
    assert found["trails"]["divergence"]["step"] == 1 and not found["trails"]["divergence"]["loss_differs"]
    assert found["causes"][0]["title"] == "another command line"
    assert found["causes"][0]["evidence"][0] == "command's word 5 0.1 -> 0.2"

    threads = ndrepro("diff", first, run(0, 2, 0.1))
    if threads.code:  # on some processors both give the same bits
        assert "they diverge at step" in threads.out
        assert "likely: another number of threads" in threads.out
        assert "threads at the first step 1 -> 2" in threads.out

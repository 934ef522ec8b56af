"""The prepared run on a GPU refuses to measure without one, and its parts work: rehearsed on a CPU. So does the
measurement of a whole run, which trains, records and evaluates.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, whole_run


def test_without_a_gpu_nothing_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main(["--out", str(tmp_path / "out")]) == 3
    assert "torch sees no GPU" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_rehearsal_goes_through_every_part_and_says_what_it_is(tmp_path: Path) -> None:
    assert gpu.main(["--rehearse", "--arch", "lenet", "--out", str(tmp_path)]) == 0
    document = json.loads((tmp_path / "gpu.json").read_text())
    assert document["rehearsal"] is True and document["device"] == "CPU"
    sides = document["steps"]["lenet"]
    assert set(sides) == {"bn", "reference", "fast"} and all(len(side["seconds"]) == 1 for side in sides.values())
    assert document["trail"]["lenet"]["seconds"] > 0
    assert document["graphs"]["lenet"]["same_bits"] is True


def test_control_a_replay_with_other_bits_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    device = gpu.Device(rehearse=True)
    monkeypatch.setattr(device, "captured", lambda step: step)  # no warm-up: the running averages lag behind
    assert gpu.graphs(device, "lenet")["same_bits"] is False


def test_no_part_starts_when_time_is_up(tmp_path: Path) -> None:
    assert gpu.main(["--rehearse", "--arch", "lenet", "--out", str(tmp_path), "--minutes", "-1"]) == 0
    assert not (tmp_path / "gpu.json").exists()


def test_a_whole_run_is_measured_against_its_bare_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(whole_run.SIZES, "lenet_bn_1", (8, 5))
    threads = torch.get_num_threads()
    try:
        row = whole_run.whole_run("lenet_bn_1", rounds=1)
    finally:
        torch.set_num_threads(threads)
    assert row.n == 1 and row.limit == pytest.approx(1 / 0.95) and row.median != 0  # no time is asserted

"""A run whose weights grow beyond all bounds ends with an error that names step and layer, not with a signed NaN."""

from __future__ import annotations

from pathlib import Path

import pytest
from real_runs import Bench


@pytest.mark.slow
def test_a_diverging_run_says_at_which_step_and_layer(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    ended = bench.run("lenet_nd_1_digits", learning_rate="1e30")
    assert ended.error is not None and "step 2: layer " in str(ended.error) and "not finite" in str(ended.error)
    control = bench.run("lenet_nd_1_digits", learning_rate="1e30", deconv_kernel="reference")
    assert control.error is None, "the reference kernel goes on with NaN, as recorded runs did"

"""What docs/findings/sensitivity.md says of the first operations that differ is what `diff --locate` reported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FINDINGS = Path(__file__).resolve().parents[1] / "docs" / "findings"
LOCATED: dict[str, dict[str, Any]] = json.loads((FINDINGS / "data" / "located.json").read_text(encoding="utf-8"))


def text() -> str:
    return " ".join((FINDINGS / "sensitivity.md").read_text(encoding="utf-8").split())


def test_both_replays_left_the_recorded_bits() -> None:
    assert len(LOCATED) == 6 and all(each["faithful"] == [True, True] for each in LOCATED.values())


def test_the_operation_that_torch_2_8_0_changed() -> None:
    report = LOCATED["torch-2.4.1 torch-2.8.0"]
    operation, difference = report["operations"][0], report["difference"]
    said = [
        f"it replays step {report['step']} in both environments, finds {report['equal_operations']} operations with"
        " equal bits, the whole forward pass among them",
        f"{operation['name']} in {operation['path']} ({operation['kind']}), {difference['dtype']}"
        f" [{', '.join(map(str, difference['shape']))}]:"
        f" {difference['differing']:,} of {difference['of']:,} numbers differ, by at most"
        f" {difference['largest_ulps']:,} units in the last place (median {difference['median_ulps']:g}),"
        f" {difference['largest_absolute']:.1e} absolutely",
    ]
    assert [each for each in said if each not in text()] == [] and report["part"] == "backward"


def test_the_operation_that_torch_2_0_changed() -> None:
    report = LOCATED["torch-1.13.1 torch-2.0.1"]
    operation, difference = report["operations"][0], report["difference"]
    assert (operation["name"], operation["part"]) == ("aten.addmm", "forward")
    apart = f"{difference['largest_absolute']:.1e}".replace("e-0", "e-")
    assert (
        f"in the last layer's forward pass ({difference['differing']} of {difference['of']} numbers, by at most"
        f" {apart} absolutely), after {report['equal_operations']} operations with equal bits."
    ) in text()


def test_the_operations_that_instruction_sets_changed() -> None:
    first = {cell: LOCATED[cell]["operations"][0] for cell in LOCATED if not cell.startswith("torch")}
    for cell in ("bn avx2", "bn sse41"):
        assert (first[cell]["name"], first[cell]["path"]) == ("aten.convolution", "conv1")
    assert (first["nd avx2"]["name"], first["nd avx2"]["path"]) == ("aten.convolution", "conv1")
    equal = LOCATED["nd avx2"]["equal_operations"]
    assert f"deconvolved that convolution under AVX2, after {equal} operations with equal bits" in text()
    assert (first["nd sse41"]["name"], first["nd sse41"]["stage"]) == ("aten.baddbmm", "mean and covariance")

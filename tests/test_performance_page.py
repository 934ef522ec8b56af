"""docs/findings/performance.md has the tables of what the benchmarks wrote, and says how they measured."""

from __future__ import annotations

import json
from pathlib import Path

import performance_page
import pytest
from performance_page import DATA, PAGE, with_tables

from benchmarks import deconvolution, growth, whole_run
from benchmarks.dispatched import step_operators
from ndrepro.training.deconv_kernels import roots


def test_the_tables_are_of_the_kept_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert with_tables(page) == page
    for file in DATA.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    document = json.loads((tmp_path / "growth.json").read_text(encoding="utf-8"))
    document["results"][0]["fast_ms"] += 1
    (tmp_path / "growth.json").write_text(json.dumps(document), encoding="utf-8")
    monkeypatch.setattr(performance_page, "DATA", tmp_path)
    assert with_tables(page) != page, "the control"


def test_the_settings_of_the_benchmarks_are_those_of_the_page() -> None:
    text = " ".join(PAGE.read_text(encoding="utf-8").split())
    setting, sizes = growth.Setting(), whole_run.SIZES
    said = [
        f"a batch of {setting.batch}, {setting.width} channels, {setting.side}x{setting.side} pixels and block"
        f" {setting.block} where not varied",
        f"batches of {sizes['lenet_nd_1'][0]} and {sizes['vgg16_nd_1'][0]}, the same busy machine",
    ]
    said += [
        f"on a CPU ({roots.SPECTRAL_FEATURES} features or more)",
        "symmetric products on a CPU (192 features or more)",
        f"Eigenvalues of matrices with {roots.SPECTRAL_FEATURES} features or more are computed with one thread",
    ]
    assert [each for each in said if each not in text] == []
    images = {row["images"] for row in performance_page.read("deconvolution-1-thread")["results"].values()}
    assert images <= {*deconvolution.BATCHES.values()}


def test_the_operators_of_a_step_are_counted_again() -> None:
    kept = {row["name"]: row["median"] for row in performance_page.read("step_operators")["results"]}
    for method in ("bn", "nd"):
        assert kept[f"operators of a step of vgg16_{method}"] == sum(step_operators("vgg16", method).values())
    ratios = [value for name, value in kept.items() if "beside" in name]
    limit = 4
    assert len(ratios) == len(deconvolution.BATCHES) and max(ratios) <= limit
    assert f"All are within the target of {limit}." in PAGE.read_text(encoding="utf-8")
    assert "whole step dispatches (batch 128, optimizer included" in " ".join(PAGE.read_text(encoding="utf-8").split())

"""What was varied is told from the runs themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ndrepro.analysis.results.result_row import ResultRow
from ndrepro.analysis.sensitivity.experimental_design import ExperimentalDesign, design_of, natural
from ndrepro.analysis.statistics.samples import TooLittle
from ndrepro.protocol.errors import UsageError

BASE = ResultRow(
    run_id="r",
    folder=Path("r"),
    name="lenet_bn_2_digits",
    arch="lenet",
    method="bn",
    epochs=2,
    dataset="digits",
    seed=0,
    seeds={},
    settings={},
    cell="torch-2.8.0",
    environment="torch 2.8.0, numpy 2.3.1, Python 3.11.7",
    torch="2.8.0",
    numpy="2.3.1",
    python="3.11.7",
    determinism="deterministic",
    threads=1,
    device="cpu",
    train_accuracy_percent=90.0,
    test_accuracy_percent=80.0,
    train_loss=0.1,
    test_loss=0.2,
    parameters=10,
    train_seconds=1.0,
    commit="c",
    code="d",
    signer="me",
    manifest_digests=("0",),
    payload_digest="0",
    started="2026-11-21T00:00:00Z",
)


def run(**fields: Any) -> ResultRow:
    return replace(BASE, run_id=str(sorted(fields.items())), **fields)


def labels(design: ExperimentalDesign) -> list[str]:
    return [cell.label for cell in design.cells]


def test_releases_stand_in_their_order_and_yardsticks_behind_them() -> None:
    cells = ["torch-2.13.0", "torch-2.8.0", "torch-1.13.1"]
    rows = [run(seed=seed, cell=cell, environment=cell) for seed in range(3) for cell in cells]
    rows += [run(seed=seed, threads=2) for seed in range(3)]
    rows += [run(seed=seed, settings={"nudge": "conv1.conv.weight:0:0"}) for seed in range(2)]
    design = design_of(rows)
    # a run whose name stands for two sets of versions is recognised by them
    assert design.axes.keys() == {"environment", "threads", "nudge"}
    rows = [replace(row, environment=row.cell) for row in rows]
    design = design_of(rows)
    assert labels(design) == ["torch-1.13.1", "torch-2.8.0", "torch-2.13.0", "nudge", "threads=2"]
    assert design.reference.label == "torch-2.8.0", "which most runs have"
    assert [cell.label for cell in design.along("environment")] == labels(design)[:3]
    assert design.missing == ((BASE.name, design.cells[3], 2),)
    other = design_of(rows, reference={"environment": "torch-1.13.1"})
    assert other.reference.label == "torch-1.13.1"
    assert natural("torch-2.4.1") < natural("torch-2.13.0")


def test_an_image_is_a_cell_of_its_own_whatever_its_libraries_and_the_reference_last() -> None:
    places = {"main": "torch 2", "podman:00be816f81ca": "torch 2, in podman:00be816f81ca"}
    rows = [run(seed=seed, cell=cell, environment=text) for seed in range(3) for cell, text in places.items()]
    design = design_of(rows)
    assert labels(design) == list(places) and design.reference.label == "main"
    assert not design.missing and not design.repeats and design.axes.keys() == {"environment"}
    most = design_of([*rows, run(seed=3, cell="podman:00be816f81ca", environment=places["podman:00be816f81ca"])])
    assert most.reference.label == "podman:00be816f81ca", "the control: most runs decide"


def test_one_name_for_two_sets_of_versions_is_two_cells() -> None:
    design = design_of([run(cell="main", environment="torch 1"), run(cell="main", environment="torch 2", seed=1)])
    assert labels(design) == ["main (torch 1)", "main (torch 2)"]


def test_a_stream_that_is_drawn_anew_makes_replicates() -> None:
    rows = [run(seed=seed) for seed in range(4)] + [run(seeds={"init": seed}) for seed in range(4)]
    design = design_of(rows)
    assert labels(design) == ["reference", "streams=init"]
    assert all(tuple(design.of(BASE.name, cell)) == (0, 1, 2, 3) for cell in design.cells)
    fixed = design_of(
        [run(seed=seed) for seed in range(4)] + [run(seed=seed, seeds={"order": 100}) for seed in range(4)]
    )
    assert "seeds.order=100" in labels(fixed) and fixed.replicates == (0, 1, 2, 3)


def test_streams_that_are_drawn_against_each_other_make_a_replicate_of_every_pair() -> None:
    """None of these repeats another, though each seed of a stream comes three times."""
    crossed = [run(seeds={"init": a, "order": b}) for a in range(3) for b in range(3)]
    design = design_of(crossed)
    assert design.repeats == () and design.missing == () and len(design.cells) == 1
    assert design.replicates[:2] == ("init 0, order 0", "init 0, order 1") and len(design.replicates) == 9
    assert design.seeds_of("init 2, order 1") == {"seeds.init": 2, "seeds.order": 1}
    both = design_of([*crossed, *(run(seed=seed) for seed in range(4)), run(settings={"nudge": "a"})])
    assert labels(both) == ["reference", "streams=all", "nudge=a, streams=all"]
    assert both.seeds_of(2) == {"seed": 2}
    assert [(cell.label, seed) for _, cell, seed in both.missing] == [
        ("nudge=a, streams=all", seed) for seed in (1, 2, 3)
    ]
    two = design_of([*crossed, *(run(seed=7, seeds={"order": seed}) for seed in range(4))])
    assert two.axes["streams"] == ("init+order of seed 0", "order of seed 7")


def test_experiments_are_kept_apart_and_repeats_are_no_replicates() -> None:
    again = run(seed=0, started="2026-11-22T00:00:00Z")
    design = design_of([run(seed=0), again, run(name="lenet_nd_2_digits", method="nd")])
    assert design.subjects == ("lenet_bn_2_digits", "lenet_nd_2_digits")
    assert design.repeats == (again,) and len(design.cells) == 1


def test_a_reference_that_no_run_has_is_refused_with_the_nearest() -> None:
    rows = [run(seed=seed, threads=threads) for seed in range(2) for threads in (1, 2)]
    with pytest.raises(UsageError, match="no run has it"):
        design_of(rows, reference={"threads": "3"})
    with pytest.raises(UsageError, match="does not vary") as caught:
        design_of(rows, reference={"thread": "1"})
    assert "threads" in caught.value.cure
    with pytest.raises(TooLittle, match="no verified"):
        design_of([])

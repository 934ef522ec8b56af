"""Two recorded programs: their processes are paired, and the first of them that diverges is named."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest

from ndrepro.analysis.comparison.program_trails import compare_program_trails, observed, used_no_gpu
from ndrepro.analysis.verdicts.program_trails import compare_trails
from ndrepro.protocol.layout import RunFolder
from provenance.errors import ProvenanceError
from provenance.formats.trail import TensorName, TrailWriter
from provenance.observation.process_record import ProcessRecord, TorchMoment, TorchRecord, encode_processes

NAMES = ("layer.weight", "layer.bias")


def moment(name: str, seed: str = "0", threads: int = 1, **states: str) -> TorchMoment:
    return TorchMoment(name, {"threads": threads, "cudnn_benchmark": name == "exit"}, states, {"torch": seed})


def process(pid: int, rank: int | None, trails: tuple[str, ...], *moments: TorchMoment) -> ProcessRecord:
    ranks = {} if rank is None else {"RANK": str(rank)}
    torch = TorchRecord("2.13.0", 3, ("SGD",), moments, ())
    return ProcessRecord(pid, f"2026-11-28T20:00:{pid:02}Z", ranks=ranks, torch=torch, trails=trails)


def write(folder: Path, *processes: ProcessRecord) -> RunFolder:
    run = RunFolder(folder)
    run.trails.mkdir(parents=True)
    run.processes.write_bytes(encode_processes(processes))
    return run


def trail(run: RunFolder, name: str, steps: int = 3, differs_at: int = 99, names: tuple[str, ...] = NAMES) -> None:
    tensors = [TensorName(each, (2,), "float32") for each in names]
    rows = [[step, step + 1, 7 + step, 9 + step + (step >= differs_at)] for step in range(steps + 1)]
    with TrailWriter(run.trails / name, tensors) as writer:
        writer.append(numpy.array(rows, dtype=numpy.uint64)[:, : 2 + len(names)])


def ranks(folder: Path, differs_at: tuple[int, int], order: tuple[int, int] = (0, 1)) -> RunFolder:
    """A program of two processes, started in ``order`` of their ranks."""
    run = write(folder, *(process(10 + place, rank, (f"trail-{rank}.bin",)) for place, rank in enumerate(order)))
    for rank in (0, 1):
        trail(run, f"trail-{rank}.bin", differs_at=differs_at[rank])
    return run


def test_ranks_are_paired_whatever_the_order_of_their_starts(tmp_path: Path) -> None:
    first, second = ranks(tmp_path / "a", (99, 99)), ranks(tmp_path / "b", (99, 99), order=(1, 0))
    found = compare_program_trails(first, second)
    assert found.comparison is not None and found.comparison.identical
    assert found.notes == () and not found.other_tensors


def test_a_verdict_pairs_equal_trails_of_processes_that_swapped_places(tmp_path: Path) -> None:
    """As those of multiprocessing, which have no rank. Before: undecided, with equal outputs."""
    runs = [RunFolder(tmp_path / name) for name in "ab"]
    for run, (one, other) in zip(runs, ((1, 2), (2, 1)), strict=True):
        run.trails.mkdir(parents=True)
        trail(run, f"trail-10-{one}-0.bin", differs_at=1)
        trail(run, f"trail-11-{other}-0.bin")
    part, divergence, _, _ = compare_trails(*runs)
    assert part.same and divergence is None, part.evidence


def test_a_verdict_pairs_ranks_whatever_the_order_of_their_starts(tmp_path: Path) -> None:
    """On another GPU no trail is equal. Before: rank 0 was compared with rank 1, and "close" was undecided."""
    runs = []
    for name, order, differs_at in (("a", (0, 1), 99), ("b", (1, 0), 3)):
        names = {rank: f"trail-1{rank}-{place}-0.bin" for place, rank in enumerate(order)}
        runs.append(write(tmp_path / name, *(process(10 + rank, rank, (names[rank],)) for rank in order)))
        for rank in order:
            trail(runs[-1], names[rank], steps=3 + rank, differs_at=differs_at + rank)
    part, divergence, _, steps = compare_trails(*runs)
    assert divergence is not None and (divergence.step, steps) == (3, 9), part.evidence


def test_the_process_that_diverges_first_is_named_and_the_others_are_noted(tmp_path: Path) -> None:
    found = compare_program_trails(ranks(tmp_path / "a", (99, 99)), ranks(tmp_path / "b", (3, 2)))
    assert found.comparison is not None and found.comparison.divergence is not None
    assert (found.comparison.where, found.comparison.divergence.step) == ("rank 1", 2)
    assert found.comparison.divergence.tensors == ("layer.bias",)
    assert found.notes == ("rank 0 diverges at step 3 in layer.bias",)


def test_a_process_more_is_noted_and_nothing_is_identical(tmp_path: Path) -> None:
    first = ranks(tmp_path / "a", (99, 99))
    second = write(tmp_path / "b", process(10, 0, ("trail-0.bin",)))
    trail(second, "trail-0.bin")
    found = compare_program_trails(first, second)
    assert found.comparison is not None and found.comparison.divergence is None and not found.comparison.identical
    assert found.notes == ("only the first run has a trail of rank 1",)


def test_trails_of_other_tensors_are_not_compared(tmp_path: Path) -> None:
    runs = [write(tmp_path / name, process(10, None, ("t.bin", "u.bin"))) for name in "ab"]
    for run, names in zip(runs, (NAMES, ("layer.weight", "head.bias")), strict=True):
        trail(run, "t.bin", names=names)
        trail(run, "u.bin", differs_at=1)
    found = compare_program_trails(*runs)
    assert found.other_tensors and "only the first has layer.bias" in found.notes[0]
    assert found.comparison is not None and not found.comparison.identical


def test_a_missing_trail_is_said_and_none_at_all_too(tmp_path: Path) -> None:
    first, second = ranks(tmp_path / "a", (99, 99)), ranks(tmp_path / "b", (99, 99))
    (second.trails / "trail-1.bin").unlink()
    found = compare_program_trails(first, second)
    assert found.comparison is not None and not found.comparison.identical
    assert "trail-1.bin: cannot be read" in found.notes[0]
    none = [write(tmp_path / name, process(1, None, ())) for name in "cd"]
    assert compare_program_trails(*none).notes == ("neither program left a numerical trail",)
    with pytest.raises(ProvenanceError, match=r"processes\.json"):
        compare_program_trails(first, RunFolder(tmp_path / "nowhere"))


def test_what_is_observed_leaves_out_generators_that_nothing_was_drawn_from(tmp_path: Path) -> None:
    start = moment("import", numpy="n", python="p", torch="t")
    first = moment("first step", "3", 2, numpy="n", python="p", torch="u")
    end = moment("exit", "3", 2, numpy="n", python="q", torch="v")
    run = write(tmp_path, process(10, 0, ("a",), start, first, end), process(11, 1, ("b",), start, first, end))
    seen = observed(run)
    assert seen["states"] == {"python": "p", "torch": "u"}
    assert seen["seeds"] == {"torch": "3"} and seen["threads"] == {"threads": 2}
    assert seen["flags"] == {"cudnn_benchmark": False, "cudnn_benchmark at exit": True}
    assert seen["training processes"] == 2 and not any(name.endswith("of rank 1") for name in seen)
    assert used_no_gpu(seen) and not used_no_gpu({})

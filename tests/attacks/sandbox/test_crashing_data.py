"""Data that crash what decodes them, or that say they are larger than they can be: an error before the run starts.

Before, a MATLAB file of nested cells ended the training process by SIGSEGV, in a signed run that gave no other reason,
and one of two thousand million cells took their memory before it was refused.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ndrepro.execution.runs.data_check import check
from ndrepro.execution.runs.observer import Observer
from ndrepro.execution.sandbox.sandbox import AUTO, Sandbox, choose
from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.layout import RunsFolder
from ndrepro.protocol.verdicts import NO_SANDBOX

KIND = choose(AUTO, container=False)[0]
HEADER = b"MATLAB 5.0".ljust(124) + struct.pack("<H", 0x100) + b"IM"
CELL, DOUBLE = 1, 6


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def array(kind: int, name: bytes, *sides: int) -> bytes:
    """What an array begins with: its kind, sides and name."""
    dimensions = struct.pack(f"<{len(sides)}i", *sides)
    return element(6, struct.pack("<II", kind, 0)) + element(5, dimensions) + element(1, name)


def nested(depth: int) -> bytes:
    """A cell in a cell, so many deep."""
    number, cell = element(14, array(DOUBLE, b"", 1, 1) + element(9, bytes(8))), array(CELL, b"synsets", 1, 1)
    sizes = (len(number) + step * (len(cell) + 8) + len(cell) for step in reversed(range(depth)))
    return HEADER + b"".join(struct.pack("<II", 14, size) + cell for size in sizes) + number


@pytest.mark.parametrize("kind", sorted({KIND, NO_SANDBOX}))
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (nested(200_000), r"damaged: they crash the process that reads them \(SIGSEGV\)"),
        (HEADER + element(14, array(CELL, b"synsets", 1 << 20, 1 << 11)), "an array of 2147483648 arrays in "),
    ],
)
def test_they_are_refused_before_a_run_starts(content: bytes, problem: str, kind: str, tmp_path: Path) -> None:
    data, kit = tmp_path / "images", tmp_path / "images" / "ILSVRC2012_devkit_t12" / "data"
    for folder in ("val", *(f"train/n{number:08d}" for number in range(1000))):
        (data / folder).mkdir(parents=True)
        (data / folder / "ILSVRC2012_val_00000001.JPEG").write_bytes(b"a picture")
    kit.mkdir(parents=True)
    (kit / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n")
    (kit / "meta.mat").write_bytes(content)
    sandbox = None if kind == NO_SANDBOX else Sandbox(kind)
    with pytest.raises(DataError, match=problem):
        check(Experiment.from_name("resnet18_bn_1_imagenet"), data, RunsFolder(tmp_path / "runs"), Observer(), sandbox)

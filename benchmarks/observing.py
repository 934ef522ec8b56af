"""What the start-up hook costs a recorded program: its start and end, opening files, the trail of its training."""

from __future__ import annotations

import itertools
import os
import tempfile
from pathlib import Path

from benchmarks.measure import Result, cpu_seconds, process_cpu_seconds, ratios, result
from benchmarks.recording import Trained

_OPENINGS = 20_000


def start_up() -> Result:
    """A Python program that does nothing, with the hook, less without."""
    from provenance.observation.preparation import prepare

    with tempfile.TemporaryDirectory() as folder:
        variables = prepare(Path(folder)).variables
        values = [
            process_cpu_seconds(["-c", "pass"], variables) - process_cpu_seconds(["-c", "pass"]) for _ in range(12)
        ]
    # the first start compiles the copy
    return result("start and end of an observed Python", values[1:], 0.05, "CPU s")


def opened_files() -> Result:
    """Opening and reading small files that were opened before, as an epoch does, and as many new ones."""
    from provenance.hook.opened_files import LIMIT, OpenedFiles
    from provenance.hook.process_file import ProcessFile

    with tempfile.TemporaryDirectory() as folder:
        names = [f"{folder}/data-{number}" for number in range(500)]
        for name in names:
            Path(name).write_bytes(os.urandom(4096))
        out = Path(folder) / "out"
        out.mkdir()
        assert len(names) < LIMIT

        def read(opened: OpenedFiles | None) -> None:
            for name, _ in zip(itertools.cycle(names), range(_OPENINGS), strict=False):
                if opened is not None:
                    opened.see(name, os.O_RDONLY)
                with open(name, "rb") as stream:
                    stream.read()

        opened = OpenedFiles(ProcessFile(str(out)))
        values = ratios(lambda: cpu_seconds(lambda: read(opened)), lambda: cpu_seconds(lambda: read(None)), 7)
    return result("reading observed files of 4 KB", values, 1.1, "x unobserved")


def program_trail(name: str = "resnet18_bn_1") -> Result:
    """The trail's record of a step of anybody's program, against the step: batch 128 of CIFAR-10's size."""
    import torch

    from provenance.hook.process_file import ProcessFile
    from provenance.hook.trail_records import TrailRecords

    trained = Trained(name)
    optimizer = torch.optim.SGD(trained.net.parameters(), lr=0.1)
    steps = itertools.count(1)
    with tempfile.TemporaryDirectory() as folder:
        records = TrailRecords(torch, ProcessFile(folder), 1)
        records.before_step(0, [optimizer])
        values = [
            100 * value
            for value in ratios(
                lambda: trained.seconds(lambda: records.after_step(next(steps))), lambda: trained.step(), 5
            )
        ]
    what = f"a program's trail, per step of {name[: name.rindex('_')]} on {trained.device.type}"
    return result(what, values, 1.0, "% of a step")

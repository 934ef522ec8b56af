"""What comparing costs: ``ndrepro diff`` of two whole runs whose trails have 40,000 steps of 120 tensors."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.measure import Result, process_cpu_seconds, result
from ndrepro.protocol.layout import RunFolder

_STEPS, _TENSORS, _PARTS_AT = 40_000, 120, 2


def diff() -> Result:
    """The whole command, start to screen: two runs, signed and verified, that part at the second step."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # as an installed program has it: compiled once
        variables = {
            "NDREPRO_HOME": f"{folder}/keys",
            "PYTHONPYCACHEPREFIX": f"{folder}/compiled",
        }
        table = _records()
        runs = [_signed_run(folder, "first", table)]
        table[_PARTS_AT:, 1:] ^= 1
        runs.append(_signed_run(folder, "second", table))
        # the command's exit code is 1, since the runs differ: only its answer is asked for
        script = "import sys; from ndrepro.cli import main; sys.exit(main(sys.argv[1:]) != 1)"
        words = ["-c", script, "diff", *(str(run.root) for run in runs)]
        values = [process_cpu_seconds(words, variables) for _ in range(6)]
    return result("diff of two trails, 40,000 steps x 120 tensors", values[1:], 1.0, "CPU s")


def _records() -> Any:
    """Records of a training whose loss falls and whose every hash changes at every step."""
    import numpy as np

    steps = np.arange(_STEPS + 1, dtype=np.uint64)
    table = np.random.RandomState(0).randint(0, 2**63, size=(len(steps), 2 + _TENSORS)).astype(np.uint64)
    table[:, 0] = steps
    table[:, 1] = (2.3 * np.exp(-steps.astype(np.float64) / 9000)).view(np.uint64)
    table[0, 1] = 0
    return table


def _signed_run(folder: Path, name: str, table: Any) -> RunFolder:
    from provenance.attestation.manifest import Builder
    from provenance.formats.trail import TensorName, TrailWriter
    from provenance.recording.recorder import Recorder

    run = RunFolder(folder / "runs" / "vgg16_nd_100" / name)
    run.root.mkdir(parents=True)
    tensors = [TensorName(f"layer{number}.weight", (64, 64, 3, 3), "float32") for number in range(_TENSORS)]
    with TrailWriter(run.trail, tensors) as trail:
        trail.append(table)
    recorder = Recorder.open(
        run.root,
        ledger=folder / "runs" / "ledger.jsonl",
        home=folder / "keys",
        build_type="urn:ndrepro:training:v1",
        name="vgg16_nd_100",
        run_id=name,
        external_parameters={"name": "vgg16_nd_100"},
        builder=Builder("urn:ndrepro:builder", {"ndrepro": "0"}),
    )
    now = datetime.now(UTC)
    recorder.close(
        outcome="completed",
        exit_code=0,
        started=now,
        finished=now,
        internal_parameters={"threads": 2, "device": "cpu"},
        dependencies=(),
        byproducts=(),
        machine={},
    )
    return run

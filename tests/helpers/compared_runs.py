"""Runs to compare, made by the project's own writers and no training: trails, results, manifests, signed if asked."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ndrepro.protocol.experiment.experiment import STREAMS, Experiment
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, Scores, write_json
from provenance.attestation.ledger import Ledger
from provenance.attestation.manifest import Builder, LedgerReference, Manifest, Resource
from provenance.capture import source
from provenance.formats.trail import TensorName, TrailWriter
from provenance.recording.recorder import Recorder

NAME = "lenet_bn_2_digits"
TENSORS = (
    TensorName("conv1.weight", (6, 3, 5, 5), "float32"),
    TensorName("bn1.running_mean", (6,), "float32"),
    TensorName("bn1.running_var", (6,), "float32"),
    TensorName("fc.weight", (10, 84), "float32"),
    TensorName("fc.bias", (10,), "float32"),
)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MOMENT = datetime(2026, 11, 21, 10, 15, tzinfo=UTC)
_FLAGS = {"cudnn_benchmark": False, "deterministic_algorithms": True, "threads": 1, "cpu_capability": "AVX512"}
_ACCOUNT: dict[str, Any] = {
    "internal": {
        "determinism": {"level": "deterministic", "start": _FLAGS, "end": _FLAGS},
        "threads": 1,
        "device": "cpu",
        "libraries": {
            "torch": "2.13.0+cu130",
            "cuda": "13.0",
            "build": "PyTorch built with:\n  - GCC 13.3",
            "gpus": [],
        },
        "usage": {"wall_seconds": 12.5, "user_seconds": 12.0},
        "resumedFromStep": 0,
    },
    "machine": {
        "interpreter": {"version": "3.11.7", "executable": "/a/python", "command": ["/a/python", "-m", "x"]},
        "variables": {"recorded": {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}, "not_recorded": 30},
        "machine": {"hostname": "one", "cpu": {"model_name": "EPYC", "flags": ["avx", "avx2"]}, "libc": "glibc 2.36"},
        "gpus": {"none": "no NVIDIA GPU"},
        "container": {"none": "no sign of docker"},
    },
    "source": {
        "commit": COMMIT,
        "dirty": False,
        "patch": {"none": "clean"},
        "untracked": {"copied": [], "left_out": []},
    },
    "code": "c0" * 32,
    "data": {"tree_sha256": "da" * 32, "pixels_sha256": {"train": "aa" * 32, "test": "bb" * 32}, "reader": "csv"},
    "distributions": {"torch": ("2.13.0", "70" * 32), "numpy": ("2.3.1", "80" * 32), "pytest": ("9.0.0", "90" * 32)},
    "byproducts": {},
    "outcome": "completed",
    "artifacts": (),
}
Edit = Callable[[dict[str, Any]], None]


def account(*edits: Edit, **settings: str) -> dict[str, Any]:
    """What a run says of itself; ``edits`` change it in place, ``settings`` are the experiment's."""
    found = copy.deepcopy(_ACCOUNT)
    found["experiment"] = Experiment.from_name(NAME, {"threads": "1", **settings})
    for edit in edits:
        edit(found)
    return found


def put(path: str, value: Any) -> Edit:
    """An edit that sets one value: ``put("internal.device", "cuda:0")``. A tuple's item cannot be set."""

    def edit(document: dict[str, Any]) -> None:
        *above, last = path.split("/") if "/" in path else path.split(".")
        here = document
        for part in above:
            here = here[part]
        here[last] = value

    return edit


def packages(**changed: tuple[str, Any]) -> Edit:
    """An edit that sets some distributions to (version, RECORD's digest)."""

    def edit(document: dict[str, Any]) -> None:
        document["distributions"].update(changed)

    return edit


def external(experiment: Experiment, command: Sequence[str] = ("ndrepro", "run")) -> dict[str, Any]:
    seeds = {name: str(experiment.seed_of(name)) for name in STREAMS}
    return {
        "experiment": experiment.to_json(),
        "name": experiment.name,
        "seeds": seeds,
        "data": "/data/digits",
        "environment": "main",
        "command": list(command),
    }


def dependencies(found: Mapping[str, Any]) -> tuple[Resource, ...]:
    data = found["data"]
    commit = found["source"].get("commit")
    return (
        Resource(
            "source", digest={"gitCommit": commit} if isinstance(commit, str) else None, annotations=found["source"]
        ),
        *([Resource("code", digest={"sha256": found["code"]})] if found["code"] else []),
        Resource(
            "dataset:digits",
            digest={"sha256": data["tree_sha256"]} if "tree_sha256" in data else None,
            annotations=data,
        ),
        *(
            Resource(
                f"distribution:{name}",
                uri=f"pkg:pypi/{name}@{version}",
                digest={"sha256": record} if isinstance(record, str) else record,
            )
            for name, (version, record) in found["distributions"].items()
        ),
    )


def manifest(*edits: Edit, **settings: str) -> Manifest:
    """The manifest of a run that was never signed."""
    found = account(*edits, **settings)
    return Manifest(
        build_type="urn:ndrepro:training:v1",
        external_parameters=external(found["experiment"]),
        internal_parameters=found["internal"],
        dependencies=dependencies(found),
        builder=Builder("urn:ndrepro:builder", {"ndrepro": "0.1.0"}),
        invocation_id="20261121T101500Z-aaaaaa",
        started_on="2026-11-21T10:15:00Z",
        finished_on="2026-11-21T10:16:00Z",
        byproducts=tuple(Resource(name, annotations=value) for name, value in found["byproducts"].items()),
        outcome=found["outcome"],
        exit_code=0,
        attempts=(),
        machine=found["machine"],
        ledger=LedgerReference(1, "1e" * 32),
        artifacts=tuple(found["artifacts"]),
    )


def records(steps: int, first: int = 0, tensors: int = len(TENSORS), rate: float = 1e-3) -> Any:
    """Records of a calm training, uint64 (steps + 1, 2 + tensors): a falling loss, hashes that change every step."""
    count = np.arange(first, first + steps + 1, dtype=np.uint64)
    table = np.empty((len(count), 2 + tensors), dtype=np.uint64)
    table[:, 0] = count
    table[:, 1] = (2.3 * np.exp(-rate * count.astype(np.float64))).view(np.uint64)
    table[0, 1] = 0
    constants = np.arange(1, tensors + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    table[:, 2:] = (count[:, None] + np.uint64(1)) * constants
    return table


def records_of(found: Mapping[str, Any], steps: int, rate: float = 1e-3) -> Any:
    """Records of a training with the seeds in an account: no two seeds have the same."""
    table, experiment = records(steps, rate=rate), found["experiment"]
    table[:, 2:] ^= np.uint64(experiment.seed_of("init") << 20 ^ experiment.seed_of("order") << 40)
    return table


def parted(table: Any, step: int, columns: Sequence[int], loss: float | None = None, grows: float = 1.0) -> Any:
    """A copy that differs from ``step`` on: in ``columns`` of tensors, and in losses by the relative size ``loss``."""
    found = table.copy()
    place = int(np.flatnonzero(found[:, 0] == step)[0])
    for column in columns:
        found[place:, 2 + column] ^= np.uint64(1 << 40)
    if loss is not None:
        losses = found[place:, 1].view(np.float64)
        sizes = np.minimum(loss * grows ** np.arange(len(losses), dtype=np.float64), 0.5)
        found[place:, 1] = (losses * (1 + sizes)).view(np.uint64)
    return found


def write_trail(path: Path, table: Any, tensors: Sequence[TensorName] = TENSORS) -> Path:
    with TrailWriter(path, tensors) as writer:
        writer.append(table)
    return path


def write_metrics(path: Path, accuracies: Sequence[float], steps_per_epoch: int = 6) -> Path:
    rows = [
        Scores(n, n * steps_per_epoch, 2.0 / n, accuracy, 2.1 / n, accuracy, 0.1)
        for n, accuracy in enumerate(accuracies, 1)
    ]
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")
    return path


def sign_pair_member(
    root: Path,
    run: str,
    found: Mapping[str, Any],
    table: Any,
    accuracies: Sequence[float] = (0.4, 0.6),
    *,
    home: Path,
    tensors: Sequence[TensorName] = TENSORS,
) -> RunFolder:
    """A whole signed run folder ``root/runs/EXP/RUN``; no trail where ``table`` is None."""
    experiment = found["experiment"]
    folder = RunFolder(root / "runs" / experiment.name / run)
    folder.root.mkdir(parents=True)
    write_json(folder.request, Request(experiment, "/data/digits").to_json())
    if table is not None:
        write_trail(folder.trail, table, tensors)
        # weights that belong to the last record: other hashes, other bytes
        folder.weights.write_bytes(np.ascontiguousarray(table[-1, 2:]).tobytes())
    write_metrics(folder.metrics, accuracies)
    for name, text in found.get("files", {}).items():
        (folder.root / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.root / name).write_bytes(text)
    recorder = Recorder.open(
        folder.root,
        ledger=Ledger(root / "runs" / "ledger.jsonl"),
        home=home,
        build_type="urn:ndrepro:training:v1",
        name=experiment.name,
        run_id=run,
        external_parameters={**external(experiment, ("ndrepro", "run", run)), **found.get("external", {})},
        builder=Builder("urn:ndrepro:builder", {"ndrepro": "0.1.0"}),
    )
    recorder.close(
        outcome=found["outcome"],
        exit_code=0 if found["outcome"] == "completed" else None,
        started=MOMENT,
        finished=MOMENT,
        internal_parameters=found["internal"],
        dependencies=dependencies(found),
        byproducts=[Resource(name, annotations=value) for name, value in found["byproducts"].items()],
        machine=found["machine"],
    )
    return folder


def recorded_source(top: Path, run: Path, **edited: Any) -> Manifest:
    """What a manifest says of the code in ``top`` as it is now, with members of its source ``edited``."""
    captured = source.capture(top, run, packages=[top / "ndrepro", top / "provenance"], exclude=[])
    code = captured.pop("code")
    resources = (
        Resource("source", digest={"gitCommit": captured["commit"]}, annotations={**captured, **edited}),
        Resource("code", digest={"sha256": code["tree_sha256"]}, annotations=code),
    )
    return replace(manifest(), dependencies=resources)

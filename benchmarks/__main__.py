"""Measure every promise, or those named: ``python -m benchmarks [NAME…] [--json FILE]``; exit 1 if one is not kept."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from benchmarks import (
    appending,
    comparing,
    deconvolution,
    freed_memory,
    observing,
    recording,
    replaying,
    reporting,
    trackers,
    verifying,
    whole_run,
)
from benchmarks.measure import Result, write_document

BENCHMARKS: dict[str, Callable[[], Result | list[Result]]] = {
    "import": recording.command_line_import,
    "empty-run": recording.empty_run,
    "empty-program": recording.empty_program,
    "program-start": recording.program_start,
    "trackers": trackers.side_by_side,
    "scalar": recording.logged_scalar,
    "hash": recording.hashed_file,
    "trail-bn": lambda: recording.trail("vgg16_bn_1"),
    "trail-nd": lambda: recording.trail("vgg16_nd_1"),
    "states": recording.state_digests,
    "hashing": recording.epoch_hashing,
    "hook-start": observing.start_up,
    "hook-open": observing.opened_files,
    "hook-trail": observing.program_trail,
    "diff": comparing.diff,
    "spot": replaying.spot_check,
    "locate-bn": lambda: replaying.located_step("vgg11_bn_1"),
    "locate-nd": lambda: replaying.located_step("lenet_nd_1"),
    # what docs/explanation/determinism.md says they cost
    "canonical-bn": lambda: replaying.canonical("vgg11_bn_1", 9.0),
    "canonical-nd": lambda: replaying.canonical("lenet_nd_1", 4.0),
    **{f"deconv-{arch}": partial(deconvolution.faster, arch) for arch in deconvolution.BATCHES},
    **{f"operators-{arch}": partial(deconvolution.operators, arch) for arch in deconvolution.BATCHES},
    **{f"whole-{name.partition('_')[0]}": partial(whole_run.whole_run, name) for name in whole_run.SIZES},
    **{f"memory-{arch}": partial(freed_memory.steps, arch) for arch in ("vgg16", "resnet18", "mobilenetv2")},
    "ledger-append": appending.sixteen_writers,
    "ledger-verify": appending.long_ledger,
    "verify-many": verifying.first_reading,
    "verify-unchanged": verifying.unchanged,
    "verify-memory": verifying.memory,
    "report": reporting.table1,
    "report-many": reporting.many,
}


def main() -> int:
    """Run, print a line each, and say whether all were kept."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all when left out")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    chosen = parser.parse_args()
    unknown = set(chosen.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    results: list[Result] = []
    for name in chosen.names or BENCHMARKS:
        found = BENCHMARKS[name]()
        for row in [found] if isinstance(found, Result) else found:
            results.append(row)
            _print(row)
    if chosen.json:
        write_document(chosen.json, [asdict(found) for found in results])
    return 0 if all(found.kept for found in results) else 1


def _print(row: Result) -> None:
    mark = "--  " if row.limit is None else "ok  " if row.kept else "MISS"
    limit = "no limit" if row.limit is None else f"limit {row.limit:.3g}"
    spread = f"{row.low:.3g} to {row.high:.3g}, n={row.n}"
    print(f"{mark} {row.name:<44} {row.median:8.3g} {row.unit}  ({limit}; {spread})", flush=True)


if __name__ == "__main__":
    sys.exit(main())

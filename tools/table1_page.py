"""Publishes what there is of Table 1's first column: the signed runs, and the tables of docs/findings/results.md.

    python tools/table1_page.py RUNS     # packs the runs that ended into docs/runs/table1_epoch1, then the tables
    python tools/table1_page.py          # the tables alone, from the runs that are kept

RUNS is the folder of `ndrepro study run table1_epoch1`, which may still be under way: more runs are published by the
same command later. Each author, or machine with a key of its own, has an archive and the public key beside it, named
for the key; published again, it takes the place of that key's last one, and the others stay. The published values are
those of published/table1_attempts.csv. The tables are in the page between two comments, and a test compares them with
the kept runs.
"""

from __future__ import annotations

import csv
import json
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import kept_runs
import page_tables

from ndrepro.analysis.results.result_row import ResultRow
from ndrepro.analysis.results.results import Results, read_results
from ndrepro.execution.studies.study_file import find_study, load_study
from ndrepro.protocol.layout import RunFolder, RunsFolder
from provenance.attestation.key_home import KeyRing, default_home
from provenance.attestation.trust import TrustedKey, TrustPolicy
from provenance.signatures.public_key import PublicKey

ROOT = Path(__file__).resolve().parents[1]
KEPT, PAGE = ROOT / "docs" / "runs" / "table1_epoch1", ROOT / "docs" / "findings" / "results.md"
START = "<!-- tables: tools/table1_page.py -->"
TRAINING_IMAGES = 50_000
WITHIN = 10.0  # per cent of the published value, and points


@dataclass(frozen=True)
class Published:
    """Accuracy in per cent after one epoch of CIFAR-10: the original's, and the mean of the replication's attempts."""

    original: float | None
    replication: float | None


def published() -> dict[tuple[str, str], Published]:
    """The published values by network and method; None where a paper has another network under that name."""
    original: dict[tuple[str, str], float] = {}
    attempts: dict[tuple[str, str], list[float]] = {}
    with (ROOT / "published" / "table1_attempts.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if (row["dataset"], row["epochs"]) == ("cifar10", "1"):
                cell = row["architecture"], row["method"]
                original[cell] = float(row["original_accuracy_pct"])
                attempts.setdefault(cell, []).append(float(row["reproduced_accuracy_pct"]))
    found = {cell: Published(original[cell], mean(values)) for cell, values in attempts.items()}
    for method in ("bn", "nd"):
        both = found["resnet18", method]
        found["resnet18", method] = Published(both.original, None)
        found["resnet18d", method] = Published(None, both.replication)
    return found


def keep(runs: RunsFolder, key: PublicKey) -> None:
    """Packs the runs that ``key`` signed, in the place of those that it had signed before."""
    name = KEPT / key.keyid[:8]
    name.with_suffix(".tar.xz").write_bytes(kept_runs.pack(runs))
    name.with_suffix(".pub").write_text(key.pem, encoding="ascii")


def kept_results(folder: Path) -> Results:
    """The kept runs, unpacked into a folder of ``folder`` for each key, and verified."""
    keys = {path.stem: PublicKey.from_pem(path.read_bytes()) for path in sorted(KEPT.glob("*.pub"))}
    for name in keys:
        with tarfile.open(KEPT / f"{name}.tar.xz") as archive:
            archive.extractall(folder / name, filter="data")
    trusted = tuple(TrustedKey(key.pem, key.keyid, f"author {name}", "") for name, key in keys.items())
    folders = [folder / name for name in keys]
    return read_results(folders, policy=TrustPolicy(Path(), None, trusted))


def tables(results: Results) -> str:
    """What is between the two comments of the page."""
    rows = {(row.arch, row.method): row for row in results.distinct()[0]}
    asked = [(run.experiment.arch, run.experiment.method) for run in load_study(find_study("table1_epoch1")).runs()]
    cells = {cell: rows[cell] for cell in asked if cell in rows}
    return "\n".join([*_account(results, cells, len(asked)), *_cells(cells), *_pairs(cells)])


def with_tables(page: str, results: Results) -> str:
    """The page with its tables made anew. Raises ValueError where it has no place for them."""
    return page_tables.with_tables(page, START, tables(results))


def _account(results: Results, cells: dict[tuple[str, str], ResultRow], asked: int) -> Iterator[str]:
    repeats = [row for row in results.rows if row is not cells[row.arch, row.method]]
    equal = sum(not {*row.content}.isdisjoint(cells[row.arch, row.method].content) for row in repeats)
    outcomes = Counter(run.outcome for run in results.unfinished)
    others = "".join(f", {count} {outcome}" for outcome, count in sorted(outcomes.items()))
    yield f"{len(cells)} of its {asked} cells are trained, each with one seed (n = 1: no interval can be given)."
    yield f"Kept are {len(results.rows)} completed runs ({len(repeats)} of them of a cell that has another; {equal}"
    cost = results.cost()
    energy = f"{cost.kilowatt_hours:.3f} kWh" if cost.kilowatt_hours else "no machine had a counter of energy"
    yield f"with the same bits){others}: {cost.cpu_hours:.1f} CPU hours in their last attempts; {energy}.\n"


def _cells(cells: dict[tuple[str, str], ResultRow]) -> Iterator[str]:
    """Each cell beside the published values, and how many are near them."""
    near: dict[str, list[tuple[bool, bool]]] = {"original": [], "replication": []}
    lines = []
    for (arch, method), row in cells.items():
        here, words = row.test_accuracy_percent, []
        for paper, value in vars(published()[arch, method]).items():
            words.append(_beside(here, value))
            if value is not None:
                near[paper].append((abs(here - value) <= WITHIN / 100 * value, abs(here - value) <= WITHIN))
        lines.append(f"| {arch} {method} | {row.train_accuracy_percent:.2f} | {here:.2f} | {' | '.join(words)} |")
    yield "| network | train % | test % | original: value (difference; relative) | replication, mean of its attempts |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    yield from lines
    yield ""
    for paper, found in near.items():
        relative, absolute = (sum(each[kind] for each in found) for kind in (0, 1))
        yield f"Within {WITHIN:g} % of the {paper}'s value (relative): {relative} of {len(found)} cells; within"
        yield f"{WITHIN:g} points (absolute): {absolute}.\n"


def _beside(here: float, value: float | None) -> str:
    if value is None:
        return "another network"
    return f"{value:.2f} ({here - value:+.2f}; {100 * (here - value) / value:+.1f} %)"


def _pairs(cells: dict[tuple[str, str], ResultRow]) -> Iterator[str]:
    """Deconvolution beside batch norm where both are trained: points, here and published, and processor time.

    The ratio of times is given where both are of one archive, and so of one machine.
    """
    pairs = [
        (arch, row, cells[arch, "nd"])
        for (arch, method), row in cells.items()
        if (arch, "nd") in cells and method == "bn"
    ]
    if not pairs:
        yield "Of no network both methods are trained yet.\n"
        return
    yield "Deconvolution less batch norm, in points of test accuracy, and the processor seconds of a run:\n"
    yield "| network | here | original | replication | CPU s, bn | CPU s, nd | nd / bn |"
    yield "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
    for arch, bn, nd in pairs:
        leads = [f"{nd.test_accuracy_percent - bn.test_accuracy_percent:+.2f}"]
        for paper in ("original", "replication"):
            low, high = (getattr(published()[arch, method], paper) for method in ("bn", "nd"))
            leads.append("another network" if low is None else f"{high - low:+.2f}")
        seconds = [_whole_seconds(row) for row in (bn, nd)]
        times = ["resumed" if each is None else f"{each:.0f}" for each in seconds]
        together = _archive(bn) == _archive(nd)
        ratio = f"{seconds[1] / seconds[0]:.2f}" if together and seconds[0] and seconds[1] else "-"
        yield f"| {arch} | {' | '.join([*leads, *times, ratio])} |"
    gains = [nd.test_accuracy_percent - bn.test_accuracy_percent for _, bn, nd in pairs]
    better = [gain for gain in gains if gain > 0]
    yield f"\nDeconvolved {len(better)} of {len(gains)} networks are better after this epoch; the leads are from"
    yield f"{min(gains):.2f} to {max(gains):.2f} points, with a median of {median(gains):.2f}."
    yield ""


def _archive(row: ResultRow) -> Path:
    """The folder of runs that the archive made."""
    return row.folder.parents[1]


def _whole_seconds(row: ResultRow) -> float | None:
    """Processor seconds of the training process; None where its last attempt trained on a part of the epoch."""
    timing = json.loads(RunFolder(row.folder).timing.read_text(encoding="utf-8").splitlines()[-1])
    trained = timing["train_seconds"] * timing["images_per_second"]
    return row.cost.cpu_seconds if trained > TRAINING_IMAGES - 1 else None


def main(words: list[str]) -> None:
    """See the module."""
    if words:
        runs = RunsFolder(Path(words[0]))
        if not runs.ledger.is_file():
            sys.exit(f"{words[0]}: no folder of runs: it has no ledger (python tools/table1_page.py RUNS)")
        keep(runs, KeyRing(default_home()).public_key())
    with tempfile.TemporaryDirectory() as folder:
        page = with_tables(PAGE.read_text(encoding="utf-8"), kept_results(Path(folder)))
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

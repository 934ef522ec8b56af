"""Packs what a folder of runs says of itself: requests, signed manifests, results by epoch, and the ledger.

    python tools/kept_runs.py RUNS docs/runs/NAME/manifests.tar.xz

Weights, trails and logs stay where they are. Hundreds of manifests differ in little, so that all of them compress into
some hundred kilobytes. The archive unpacks into a folder of runs: ``ndrepro verify --manifest-only`` and reports read
it. Equal runs make equal archives: names are sorted, and nothing of this machine (owner, dates) goes in. While a study
is under way the ledger ends with the last run that ended: later entries are of runs that have no manifest yet.
"""

from __future__ import annotations

import io
import json
import lzma
import sys
import tarfile
from pathlib import Path

from ndrepro.protocol.layout import RunFolder, RunsFolder


def ended_ledger(runs: RunsFolder) -> bytes:
    """The ledger up to the last run that ended."""
    lines = runs.ledger.read_bytes().splitlines(keepends=True)
    documents = [json.loads(line) for line in lines]
    ends = [number for number, each in enumerate(documents, 1) if each.get("entry", each)["event"] == "ended"]
    return b"".join(lines[: max(ends, default=0)])


def kept_files(runs: RunsFolder) -> list[Path]:
    """The files to keep, sorted; a run without a manifest is in the ledger alone."""
    folders = [folder for folder in runs.runs() if folder.manifest.exists()]
    return sorted([runs.ledger, *(path for folder in folders for path in _of(folder))])


def tar(runs: RunsFolder) -> bytes:
    """The archive before it is compressed."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in kept_files(runs):
            entry = tarfile.TarInfo(path.relative_to(runs.root).as_posix())
            body = ended_ledger(runs) if path == runs.ledger else path.read_bytes()
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    return content.getvalue()


def pack(runs: RunsFolder) -> bytes:
    """The archive, tar in xz."""
    return lzma.compress(tar(runs), preset=9 | lzma.PRESET_EXTREME)


def _of(folder: RunFolder) -> list[Path]:
    kept = (folder.request, folder.manifest, folder.metrics, folder.timing)
    return [path for path in kept if path.exists()]


if __name__ == "__main__":
    source, target = sys.argv[1:]
    packed = pack(RunsFolder(Path(source)))
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_bytes(packed)
    sys.stdout.write(f"{target}: {len(kept_files(RunsFolder(Path(source))))} files, {len(packed):,} bytes\n")

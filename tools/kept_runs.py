"""Packs what a folder of runs says of itself: requests, signed manifests, results by epoch, and the ledger.

    python tools/kept_runs.py RUNS docs/runs/NAME/manifests.tar.xz

Weights, trails and logs stay where they are. Hundreds of manifests differ in little, so that all of them compress into
some hundred kilobytes. The archive unpacks into a folder of runs: ``ndrepro verify --manifest-only`` and reports read
it. Equal runs make equal archives: names are sorted, and nothing of this machine (owner, dates) goes in.
"""

from __future__ import annotations

import io
import lzma
import sys
import tarfile
from pathlib import Path

from ndrepro.protocol.layout import RunFolder, RunsFolder


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
            entry.size = path.stat().st_size
            with path.open("rb") as stream:
                archive.addfile(entry, stream)
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

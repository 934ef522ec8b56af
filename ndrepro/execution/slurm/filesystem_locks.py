"""Checks that file locks hold between nodes: the ledger depends on one, so a study on many nodes needs them.

The ledger's writers take a lock on a file beside it (``provenance.formats.atomic_io.locked``, flock) before they read
its end and write, and flush before they let it go. Linux sends such a lock to the server of an NFS mount, of Lustre,
GPFS and CephFS as well, so that one node at a time appends and reads what the last one wrote. A mount can be set
otherwise, by options that make a lock hold on its own node only; then two nodes would chain to the same entry.
"""

from __future__ import annotations

import os
from pathlib import Path

from provenance.errors import StorageError

_MOUNTS = Path("/proc/self/mounts")
# by file system: options with which locks hold on one node only
_LOCAL = {
    "nfs": ("nolock", "local_lock=all", "local_lock=flock"),
    "nfs4": ("nolock", "local_lock=all", "local_lock=flock"),
    "lustre": ("localflock", "noflock"),
    "fuse.sshfs": ("",),
    "9p": ("",),
}


def check_locks(folder: Path, mounts: Path = _MOUNTS) -> None:
    """Raise StorageError where the file system of ``folder`` is mounted so that locks do not reach other nodes."""
    kind, options, place = mount_of(folder, mounts.read_text(encoding="utf-8", errors="replace"))
    harmful = [option for option in _LOCAL.get(kind, ()) if not option or option in options]
    if kind == "lustre" and "flock" not in options and not harmful:
        harmful = ["without flock"]
    if harmful:
        how = f"{kind} {harmful[0]}".strip()
        raise StorageError(
            f"{folder}: {place} is mounted as {how}, where a lock on one node does not hold on another",
            "put the runs on a file system with locks between nodes: --runs DIR; or ask for the mount option flock",
        )


def mount_of(folder: Path, table: str) -> tuple[str, tuple[str, ...], str]:
    """Kind of file system, mount options and mount point of the mount that ``folder`` lies in, by /proc/mounts."""
    path = os.path.realpath(folder)
    best: tuple[str, tuple[str, ...], str] = ("", (), "/")
    for line in table.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        place = fields[1].encode().decode("unicode_escape")
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        # of two mounts on one place the later one is seen
        if inside and len(place) >= len(best[2]):
            best = (fields[2], tuple(fields[3].split(",")), place)
    return best

"""Checks that file locks hold between nodes: the ledger depends on one, so a study on many nodes needs them.

The ledger's writers take a lock on a file beside it (``provenance.formats.atomic_io.locked``, flock) before they read
its end and write, and flush before they let it go. Linux sends such a lock to the server of an NFS mount, of Lustre,
GPFS and CephFS as well, so that one node at a time appends and reads what the last one wrote. A mount can be set
otherwise, by options that make a lock hold on its own node only; then two nodes would chain to the same entry.
"""

from __future__ import annotations

from pathlib import Path

import psutil

from provenance.errors import StorageError

# by file system: options with which locks hold on one node only
_LOCAL = {
    "nfs": ("nolock", "local_lock=all", "local_lock=flock"),
    "nfs4": ("nolock", "local_lock=all", "local_lock=flock"),
    "lustre": ("localflock", "noflock"),
    "fuse.sshfs": ("",),
    "9p": ("",),
}


def check_locks(folder: Path) -> None:
    """Raise StorageError where the file system of ``folder`` is mounted so that locks do not reach other nodes."""
    path = folder.resolve()
    mounts = [mount for mount in psutil.disk_partitions(all=True) if path.is_relative_to(mount.mountpoint)]
    if not mounts:  # a root without a table of mounts says nothing
        return
    # the innermost mount, and of two on one folder the later one, which hides the other
    _, mount = max(enumerate(mounts), key=lambda item: (len(Path(item[1].mountpoint).parts), item[0]))
    options = mount.opts.split(",")
    harmful = [option for option in _LOCAL.get(mount.fstype, ()) if not option or option in options]
    if mount.fstype == "lustre" and "flock" not in options and not harmful:
        harmful = ["without flock"]
    if harmful:
        how = f"{mount.fstype} {harmful[0]}".strip()
        raise StorageError(
            f"{folder}: {mount.mountpoint} is mounted as {how}, where a lock on one node does not hold on another",
            "put the runs on a file system with locks between nodes: --runs DIR; or ask for the mount option flock",
        )

"""The claims on what code of the author's may read in the folder of a run's data, other than the data: files beside
them, which no digest binds, and what it takes of their bytes, their text or their attributes for code or weights.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from ndrepro.execution.reproduce.rare_files import rare_first
from ndrepro.execution.reproduce.unread_files import unread_files
from ndrepro.execution.sandbox.recorded_data import data_paths
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, read_json
from ndrepro.protocol.project_folders import CODE
from ndrepro.protocol.verdicts import ClaimCheck, claim
from ndrepro.text.plurals import all_of, bounded, first_of, plural
from provenance.capture.unavailable import printable
from provenance.formats.bounded_read import LOG_BYTES, read_bounded
from provenance.formats.folder_tree import files_and_links, walk
from provenance.formats.listing import parse

_SHOWN, _LETTERS = 20, 1000
_OF_THE_MACHINE = (
    "which files of the system, of the environment and in LD_LIBRARY_PATH its own code read, or looked for, what "
    "others wrote into its folder, and which variables that no record has, is not known; HOME was an empty folder"
)


def files_beside_data(executed: Path, repetition: RunFolder, data: Path | None) -> tuple[ClaimCheck, ...]:
    """The claims on what such code could read: the folder or file of ``data``, and what else a sandbox shows; () where
    all code was this checkout's own, whose readers open nothing else and take their bytes for data alone.

    What the data set has is the word of the process in which that code ran: so all files are counted, too.

    Args:
        executed: the code that was rebuilt, or this checkout's.
        repetition: the folder of the repetition, which was given the data.

    Raises StorageError for folders nested too deeply, DigestError for a listing that is none.
    """
    own = executed == CODE and not repetition.network.is_dir()
    if own:
        return ()
    other = claim("files of the machine", None, _OF_THE_MACHINE)
    if data is None or Request.from_json(read_json(repetition.request)).experiment.dataset == "digits":
        return (other,)
    if not data.exists():
        words = "the data are not at their path any more: nobody looked at their files"
        return other, claim("data as code", None, words)
    listed = parse(read_bounded(repetition.dataset_listing, LOG_BYTES).decode("utf-8", "surrogateescape"))
    linked, names = _looked_through(data) if data.is_dir() else ([], [data.name])
    found = _named(name for name in names if name not in listed and data.is_dir())
    unread = "".join(f"; not plain text: {each.evidence}" for each in unread_files(data, linked, (), ()))
    claims = [other, data_as_code(names, (data, *linked), unread)]
    if found:
        words = f"{plural(len(found), 'file')} in the data's folder that the data set does not have; the run's own code"
        words += f" may read them, and no digest binds them: {all_of(found)}"
        claims.append(claim("files beside the data", None, words))
    return tuple(claims)


def data_as_code(names: Collection[str], tops: Iterable[Path], more: str = "") -> ClaimCheck:
    """The claim on files of these ``names``, which are all at or below ``tops``; ``more`` is said of them, too.

    Raises StorageError for folders nested too deeply.
    """
    words = f"{plural(len(names), 'file')} of which its own code may take content, names and attributes for code: "
    words += bounded(first_of(_named(names), _SHOWN), _LETTERS) + more
    if found := [*_with_attributes(tops)]:
        words = f"attributes that no digest binds: {bounded(first_of(_named(found), _SHOWN), _LETTERS)}; {words}"
    return claim("data as code", None, bounded(words))


def _with_attributes(tops: Iterable[Path]) -> Iterator[str]:
    """The files and folders at or below ``tops`` that have extended attributes of a user's, and the names of these."""
    for top in tops:
        entries = (os.path.join(at, name) for at, below, files in walk(top) for name in (*below, *files))
        for path in (str(top), *entries):
            with suppress(OSError):  # none on this file system
                names = [name for name in _attributes(path) if name.startswith("user.")]
                if names:
                    yield f"{os.path.relpath(path, top.parent)} ({first_of(names, 3)})"


def _attributes(path: str) -> list[str]:
    return os.listxattr(path) if sys.platform == "linux" else []


def _named(names: Iterable[str]) -> list[str]:
    return rare_first(map(printable, names))


def _looked_through(top: Path) -> tuple[list[Path], list[str]]:
    """The linked folders directly in ``top``, which the run's code is shown; and every name in these and in ``top``:
    files, other links, and folders that cannot be listed, whose files open by their names all the same.
    """
    linked = [path for path in data_paths(top)[1:] if path.is_dir()]
    names, closed = list[str](), list[OSError]()
    for place in (top, *linked):
        for listing in walk(place, onerror=closed.append):
            names += (os.path.relpath(path, top) for path in files_and_links(listing) if Path(path) not in linked)
    unlisted = (f"{os.path.relpath(error.filename, top)} (a folder that cannot be listed)" for error in closed)
    return linked, [*names, *unlisted]

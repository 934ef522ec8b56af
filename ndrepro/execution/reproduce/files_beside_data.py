"""The claims on what code of the author's may read in the folder of a run's data, other than the data: files beside
them, which no digest binds, and what it takes of their bytes, or their text, for code or weights.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from pathlib import Path, PurePath

from ndrepro.execution.reproduce.unread_files import unread_files
from ndrepro.protocol.data_record import DataRecord
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, read_json
from ndrepro.protocol.project_folders import CODE
from ndrepro.protocol.verdicts import ClaimCheck, claim
from ndrepro.text.plurals import all_of, plural
from provenance.capture.unavailable import printable
from provenance.formats.bounded_read import LOG_BYTES, read_bounded
from provenance.formats.folder_tree import files_and_links, walk
from provenance.formats.listing import parse


def files_beside_data(executed: Path, repetition: RunFolder) -> tuple[ClaimCheck, ...]:
    """The claims on the data's folder, or file; () for nothing, and where all code was this checkout's own, whose
    readers open nothing else and take their bytes for data alone. Published files are nobody's code.

    Args:
        executed: the code that was rebuilt, or this checkout's.
        repetition: the folder of the repetition, which was given the data.

    Raises StorageError for folders nested too deeply, DigestError for a listing that is none.
    """
    request = Request.from_json(read_json(repetition.request))
    top = Path(request.data) if request.data else None
    if top is None or not top.exists() or (executed == CODE and not repetition.network.is_dir()):
        return ()
    listed = parse(read_bounded(repetition.dataset_listing, LOG_BYTES).decode("utf-8", "surrogateescape"))
    linked, names = _looked_through(top, listed) if top.is_dir() else ([], [])
    found = sorted(printable(name) for name in names if name not in listed)
    kinds = Counter(PurePath(name).suffix for name in found)
    found.sort(key=lambda name: kinds[PurePath(name).suffix])  # a rare one behind many of another data set
    claims = []
    if found:
        words = f"{plural(len(found), 'file')} in the data's folder that the data set does not have; the run's own code"
        claims.append(
            claim("files beside the data", None, f"{words} may read them, and no digest binds them: {all_of(found)}")
        )
    if not DataRecord.read(repetition.dataset).official_files:
        words = f"{plural(len(listed), 'file')} that the run's own code may take for code or weights, too"
        words += "".join(f"; not plain text: {each.evidence}" for each in unread_files(top, linked, (), ()))
        claims.append(claim("data as code", None, words))
    return tuple(claims)


def _looked_through(top: Path, listed: Collection[str]) -> tuple[list[Path], list[str]]:
    """The linked folders that the data set has files in, which the run's code is shown; and every name in these and in
    ``top``: files, other links, and folders that cannot be listed, whose files open by their names all the same.
    """
    folders = {
        str(above) for folder in {PurePath(name).parent for name in listed} for above in (folder, *folder.parents)
    }
    places, names, closed = [top], list[str](), list[OSError]()
    for place in places:  # which grow
        for listing in walk(place, onerror=closed.append):
            for path in files_and_links(listing):
                name = os.path.relpath(path, top)
                if name in folders and os.path.isdir(path):
                    places.append(Path(path))
                else:
                    names.append(name)
    unlisted = (f"{os.path.relpath(error.filename, top)} (a folder that cannot be listed)" for error in closed)
    return places[1:], [*names, *unlisted]

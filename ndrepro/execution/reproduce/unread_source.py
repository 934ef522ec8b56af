"""The claim that names which executed source of the author's own nobody reads as plain text, whatever a patch shows."""

from __future__ import annotations

import filecmp
from collections.abc import Collection, Iterator
from pathlib import Path

from ndrepro.execution.reproduce.code_execution import RecordedCode
from ndrepro.execution.reproduce.recorded_code import in_history
from ndrepro.execution.reproduce.unread_words import SOURCE, UnreadFile, unread_claim
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.project_folders import CODE, PACKAGES
from ndrepro.protocol.verdicts import ClaimCheck
from ndrepro.text.plain_text import ReadingObstacle, name_obstacle, reading_obstacles
from provenance.capture.source import python_files
from provenance.capture.unavailable import printable
from provenance.comparison.kept_source import encoded_paths
from provenance.formats.folder_tree import files_below

_ENCODED = ReadingObstacle("encoded in the patch")


def unread_source(recorded: RecordedCode, executed: Path, run: RunFolder) -> tuple[ClaimCheck, ...]:
    """The claim on the files of packages in ``executed`` that are not as in the commit, on all of them where the commit
    is none of this checkout's, and on those of an own network in the folder ``run``; () where a reader sees all whole.

    Args:
        recorded: what differs from the commit.
        executed: the code that was rebuilt, or this checkout's, of which nothing is the author's.
        run: the run that is repeated.

    Raises StorageError for folders nested too deeply, SourceError for no patch.
    """
    theirs = [] if executed == CODE else [*_changed(recorded, executed)]
    if run.network.is_dir():
        theirs += [(path.relative_to(run.root).as_posix(), path) for path in files_below(run.network)]
    encoded = () if recorded.patch is None else tuple(map(printable, encoded_paths(recorded.patch)))
    found = (UnreadFile(name, SOURCE, why) for name, path in theirs for why in _obstacles(name, path, encoded))
    return unread_claim(found, "that are no commit's of this checkout and are executed")


def _changed(recorded: RecordedCode, executed: Path) -> Iterator[tuple[str, Path]]:
    """The executed files that patch or untracked files brought, be it behind a link; all for a commit of others. None
    that is, to the byte, this program's own at that place.
    """
    known = in_history(recorded.commit)
    changed = {*recorded.changed, *(file.path for file in recorded.untracked)}
    top = executed.resolve()
    for package in PACKAGES:
        for path in python_files(executed / package):
            names = (path.relative_to(executed), path.resolve().relative_to(top))
            if (own := CODE / names[0]).is_file() and filecmp.cmp(path, own, shallow=False):
                continue
            found = {name for name in map(Path.as_posix, names) if printable(name) in changed}
            yield from ((name, path) for name in sorted(found or ([] if known else [names[0].as_posix()])))


def _obstacles(name: str, path: Path, encoded: Collection[str]) -> tuple[ReadingObstacle, ...]:
    if printable(name) in encoded:
        return (_ENCODED,)
    of_name = name_obstacle(name)
    return reading_obstacles(path) if of_name is None else (of_name,)

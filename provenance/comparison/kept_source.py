"""What the kept files of a run show of its source: its patch, untracked files, and those of its submodules.

A manifest says by which files the source differed from its commit; the patch and the copies in the run folder are what
is really put over the commit when it is run again. Here the second decides what the first may say: a change whose file
was kept cannot be signed away. What was not kept is the signer's word alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from provenance.capture.source_patch import PATCH
from provenance.capture.unavailable import is_missing, printable
from provenance.capture.untracked_copies import UNTRACKED
from provenance.capture.work_tree import SUBMODULES
from provenance.comparison.recorded_source import (
    COPIED,
    LEFT_OUT,
    changed_submodules,
    count_of,
    members,
    texts,
    untracked_files,
    untracked_not_named,
)
from provenance.errors import SourceError
from provenance.formats.bounded_read import LOG_BYTES, read_bounded
from provenance.formats.folder_tree import temporary_folder
from provenance.git.repository import Repository

# the recorder looks for no renames, and git names one of a renamed file's two paths only
_RENAMED = re.compile(rb"^(?:rename|copy) ", re.MULTILINE)


def is_source(name: str) -> bool:
    """Whether a file of a run folder is kept of the source, by its name there."""
    return name.partition("/")[0] in (PATCH, UNTRACKED, SUBMODULES)


def patched_paths(patch: Path) -> tuple[str, ...]:
    """The files that a patch changes, as ``git apply`` reads it. Raises SourceError for one that git would not take."""
    return tuple(path for _, _, path in _counted(patch))


def encoded_paths(patch: Path) -> tuple[str, ...]:
    """Those of them that it changes without showing a line of them, as a "GIT binary patch". Raises as above."""
    return tuple(path for added, _, path in _counted(patch) if added == "-")


def _counted(patch: Path) -> list[list[str]]:
    """Lines added and taken away, and the path, of each file of a patch."""
    try:
        text = read_bounded(patch, LOG_BYTES)
    except OSError as error:
        raise SourceError(f"{patch}: cannot be read ({error.strerror})") from None
    if _RENAMED.search(text):
        raise SourceError(f"{patch.name}: it renames or copies files, which no recorded patch does")
    with temporary_folder("ndrepro-patch-") as scratch:
        # in a repository git would leave out what is not below the folder
        outside = Repository(scratch, {"GIT_CEILING_DIRECTORIES": str(scratch.resolve().parent)})
        listed = outside.ask("apply", "--numstat", "-z", str(patch.resolve()))
    return [line.split("\t", 2) for line in listed.split("\0") if line]


def whole_files(recorded: Mapping[str, Any], patch: Path) -> tuple[str, ...]:
    """The files of the commit that are said to be exchanged as a whole: the patch must have each.

    Where it has one and does not create it, git does not apply it. Raises SourceError for another file, which would be
    removed without a word.
    """
    names = [printable(name) for name in texts(recorded.get("whole_files"))]
    paths = {printable(path): path for path in patched_paths(patch)} if names else {}
    hidden = [name for name in names if name not in paths]
    if hidden:
        raise SourceError(f"{patch.name} does not have {', '.join(hidden[:3])}, and the manifest has it exchanged")
    return tuple(paths[name] for name in names)


def differs(state: Mapping[str, Any], kept: Collection[str] = ()) -> bool:
    """Whether anything that a source's state names, or a file that was ``kept`` of it, is not as in its commit."""
    untracked = state.get("untracked")
    named = (
        members(state.get("patch")),
        count_of(state.get("changed")),
        members(state.get("changed")).get("files"),
        untracked_files(untracked, COPIED) or untracked_files(untracked, LEFT_OUT) or untracked_not_named(untracked),
        changed_submodules(state),
    )
    return any(named) or any(map(is_source, kept))


def described_files(state: Mapping[str, Any]) -> frozenset[str]:
    """The names in the run folder of the files that a source's state says were kept."""
    return frozenset(name for name, _ in _described(state, ""))


def expect_as_kept(state: Mapping[str, Any], kept: Mapping[str, str], folder: Path) -> None:
    """Raises SourceError where a manifest says another thing of its source than the files that were kept of it.

    Args:
        state: what it says: the members of ``provenance.capture.source.capture``.
        kept: name in the run folder -> SHA-256, of every file; those that are not of the source are not looked at.
        folder: the run folder.
    """
    kept = {name: digest for name, digest in kept.items() if is_source(name)}
    described = dict(_described(state, ""))
    for name in sorted(kept):
        if name not in described and not _unknown(state, name):
            raise SourceError(f"{name} was kept of the source, and the manifest does not say so", "ask its author")
        if name in described and described[name] != kept[name]:
            raise SourceError(f"{name} is another file than the manifest describes", "ask its author")
    for prefix, part in _states(state, ""):
        inner = {name.removeprefix(prefix) for name in kept if name.startswith(prefix)}
        _expect_changes(part, prefix, folder / f"{prefix}{PATCH}" if PATCH in inner else None)
        dirty = part.get("dirty")
        if differs(part, inner) and dirty is not True and not _is_unavailable(dirty):
            raise SourceError(f"{prefix or 'the source '}is said to be clean, with changes to its commit")


def _expect_changes(state: Mapping[str, Any], prefix: str, patch: Path | None) -> None:
    """The files of the patch are among those that are said to be changed, as far as these are known and listed."""
    if patch is None:
        return
    whole_files(members(state.get("patch")), patch)
    changed = state.get("changed")
    if _is_unavailable(changed):
        return
    # of a file that became a link, or the reverse, a patch has two sections
    paths = list(dict.fromkeys(printable(path) for path in patched_paths(patch)))
    files, count = members(changed).get("files"), count_of(changed)
    named = {members(entry).get("path") for entry in files} if isinstance(files, list) else set()
    hidden = [path for path in paths if path not in named] if count <= len(named) else []
    if hidden or count < len(paths):
        raise SourceError(f"{prefix}{PATCH} changes {', '.join(hidden[:3]) or paths[-1]}, and the manifest hides it")


def _described(state: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Name in the run folder and digest of every file that is said to be kept."""
    for above, part in _states(state, prefix):
        patch = members(part.get("patch"))
        if patch and "left_out" not in patch:
            yield f"{above}{PATCH}", patch.get("sha256")
        for entry in untracked_files(part.get("untracked"), COPIED):
            yield f"{above}{UNTRACKED}/{entry['path']}", entry.get("sha256")


def _states(state: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The state of the source and of each submodule that differs, with the folder of its files in the run folder."""
    yield prefix, state
    for module in changed_submodules(state):
        yield from _states(module, f"{prefix}{SUBMODULES}/{module['path']}/")


def _unknown(state: Mapping[str, Any], name: str) -> bool:
    """Whether the capture of that part failed, so that files may be there which nothing describes."""
    part = state.get(name.partition("/")[0])
    return name != PATCH and _is_unavailable(part)


def _is_unavailable(value: Any) -> bool:
    return is_missing(value) and "unavailable" in value

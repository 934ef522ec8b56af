"""What a manifest's free JSON says of its source, read with care: a signer may have written anything there.

Of another form than the recorder's, a part counts as not recorded; nothing here raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provenance.capture.unavailable import is_missing, unavailable

# untracked files whose content was kept, and others that are named
COPIED, LEFT_OUT = "copied", "left_out"


def members(value: Any) -> Mapping[str, Any]:
    """The members of an object; none of what is no object, or a marker for what is missing."""
    return value if isinstance(value, Mapping) and not is_missing(value) else {}


def patch_identity(patch: Any) -> Any:
    """The identity of a recorded patch: the digest of what it was before it was redacted or left out, or a marker."""
    if not members(patch):
        return patch if patch is None or is_missing(patch) else unavailable("the patch has another form")
    kept = members(patch.get("left_out")) or members(patch.get("unredacted")) or patch
    digest = kept.get("sha256", unavailable("the patch has no digest"))
    omitted = members(patch.get("omitted")).get("listing_sha256")
    return f"{digest}, and files not in it: {omitted}" if omitted else digest


def untracked_files(untracked: Any, kind: str) -> list[Mapping[str, Any]]:
    """The entries of COPIED or LEFT_OUT files that have a path."""
    found = members(untracked).get(kind)
    entries = [members(entry) for entry in found] if isinstance(found, list) else []
    return [entry for entry in entries if isinstance(entry.get("path"), str)]


def changed_submodules(state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The states of the submodules that differ from their commits, of those that have a path."""
    found = members(state.get("submodules")).get("changed")
    entries = [members(entry) for entry in found] if isinstance(found, list) else []
    return [entry for entry in entries if isinstance(entry.get("path"), str)]


def untracked_identities(untracked: Any) -> dict[str, Any]:
    """Path -> digest, before redaction, of every untracked file that is named."""
    return {
        entry["path"]: (members(entry.get("unredacted")) or entry).get("sha256", unavailable("it has no digest"))
        for kind in (COPIED, LEFT_OUT)
        for entry in untracked_files(untracked, kind)
    }


def untracked_not_named(untracked: Any) -> Mapping[str, Any]:
    """What sums up the files beyond those that are named: their number and a digest of their listing."""
    return members(members(untracked).get("left_out_too"))


def count_of(record: Any, name: str = "count") -> int:
    """A number of things; 0 where there is none."""
    value = members(record).get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def texts(value: Any) -> tuple[str, ...]:
    """The strings of a list; none of what is no list."""
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, (list, tuple)) else ()

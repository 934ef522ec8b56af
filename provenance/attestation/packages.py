"""Captured packages as a manifest holds them, and back: each distribution is one of its dependencies.

Beside the dependencies, under ``machine``, stay the count, what is odd (``shadowed``, ``leftovers``,
``disagreements``), the packages of a conda environment, and ``imported_files``: those files of imported packages that
were edited after they were installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from provenance.attestation.manifest import DISTRIBUTION, Manifest, Resource
from provenance.capture.imported_files import merged
from provenance.capture.unavailable import at, is_missing, mapping, unavailable

_ANNOTATED = ("content_sha256", "origin", "source", "imported_from")


def resources(environment: Mapping[str, Any]) -> list[Resource]:
    """One resource a distribution of a captured environment, its digest that of its RECORD; or why none is known."""
    captured = environment.get("distributions", environment)
    if "installed" not in captured:
        return [Resource("distributions", annotations=captured)]
    return [_resource(item) for item in captured["installed"]]


def _resource(item: Mapping[str, Any]) -> Resource:
    record, version = item["record_sha256"], item["version"]
    annotations = {key: item[key] for key in _ANNOTATED if key in item}
    if not isinstance(version, str):
        annotations["version"] = version
    return Resource(
        f"{DISTRIBUTION}{item['name']}",
        uri=f"pkg:pypi/{item['name']}" + (f"@{version}" if isinstance(version, str) else ""),
        digest={"sha256": record} if isinstance(record, str) else record,
        annotations=annotations or None,
    )


def machine(start: Mapping[str, Any], end: Mapping[str, Any], witnessed: Mapping[str, Any] | None = None) -> Any:
    """The environment at the start, without what ``resources`` has; files that were edited at either moment.

    ``witnessed`` is what the recorder saw itself of files and loaded code (``provenance.code.witness``).
    """
    seen = witnessed or {}
    found = dict(start)
    if "installed" in found.get("distributions", {}):
        found["distributions"] = {key: value for key, value in found["distributions"].items() if key != "installed"}
    # a process of earlier code records neither, where the recorder may have found something all the same
    for name, odd in (("imported_files", "edited"), ("loaded_code", "foreign")):
        if name not in found and mapping(seen.get(name)).get(odd):
            found[name] = seen[name]
    if "imported_files" in found:
        files = merged(found["imported_files"], end.get("imported_files"))
        found["imported_files"] = _with_witness(files, seen.get("imported_files"))
    if "loaded_code" in found:
        from provenance.code import foreign_code  # of training runs alone

        found["loaded_code"] = foreign_code.merged(
            seen.get("loaded_code"), end.get("loaded_code"), found["loaded_code"]
        )
    return found


def _with_witness(files: Any, seen: Any) -> Any:
    """The files that the process found edited, and those that the recorder did, with how many it compared."""
    if not isinstance(seen, Mapping) or not isinstance(files, Mapping):
        return files
    if "edited" not in seen:
        return {**files, "witness": seen}
    edited = {**seen["edited"], **files.get("edited", {})}
    return {**files, "edited": dict(sorted(edited.items())), "witness": {"checked": seen["checked"]}}


def distributions(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """Name -> version and record (digest or marker) of every distribution; or why none is known.

    With ``content_sha256``, ``origin`` and ``source``, those that have them.

    The reason is ``{"unavailable": reason}``, which is no name of a distribution.
    """
    found: dict[str, dict[str, Any]] = {}
    for item in manifest.dependencies:
        kind, _, name = item.name.partition(":")
        if kind == "distribution":
            digest = dict(item.digest or unavailable("not recorded"))
            annotations = item.annotations or {}
            _, at, version = (item.uri or "").partition("@")
            found[name] = {
                "version": version if at else annotations.get("version", unavailable("not recorded")),
                "record": digest.get("sha256", digest),
            }
            if "origin" in annotations:
                found[name]["origin"] = _public(annotations["origin"])
            found[name] |= {key: annotations[key] for key in ("content_sha256", "source") if key in annotations}
        elif item.name == "distributions":
            return dict(item.annotations or unavailable("not recorded"))
    return found


def _public(origin: Any) -> Any:
    """An origin without the folder of this machine that it may be."""
    if isinstance(origin, Mapping) and str(origin.get("url", "")).startswith("file:"):
        return {key: value for key, value in origin.items() if key != "url"}
    return origin


def edited_files(manifest: Manifest) -> dict[str, Any] | None:
    """ "DISTRIBUTION: FILE" -> the file's digest, for every file edited after installation; None if not recorded.

    ``{"unavailable": reason}`` where it was not found out.
    """
    files = _recorded_files(manifest, "imported_files", "edited")
    return _digests(files, lambda name, known: f"{known.get('distribution', '?')}: {name}", "actual")


def foreign_files(manifest: Manifest) -> dict[str, Any] | None:
    """ "KIND PATH" -> the file's digest, for every file that was executed and belongs to nothing known.

    ``{"unavailable": reason}`` where it was not found out; None in a manifest from before it was recorded. The kinds
    are those of ``provenance.code.foreign_code``.
    """
    files = _recorded_files(manifest, "loaded_code", "foreign")
    return _digests(files, lambda path, known: f"{known.get('kind', 'file')} {path}", "sha256")


def _recorded_files(manifest: Manifest, capture: str, member: str) -> dict[str, Any] | None:
    """The files under a capture's member of ``machine``, each as a mapping; unavailable; None if not recorded."""
    captured = mapping(manifest.machine).get(capture)
    if captured is None or is_missing(captured):
        return captured
    files = mapping(captured).get(member)
    if not isinstance(files, Mapping):
        return unavailable("recorded in another form than this version knows")
    return {name: mapping(found) for name, found in files.items()}


def _digests(
    files: dict[str, Any] | None, name: Callable[[str, Mapping[str, Any]], str], digest: str
) -> dict[str, Any] | None:
    if files is None or is_missing(files):
        return files
    return {name(path, known): known.get(digest, unavailable("not recorded")) for path, known in files.items()}


def warnings(manifest: Manifest) -> tuple[str, ...]:
    """A sentence for each fact of the packages that puts the recorded versions in doubt.

    These are files that were edited after installation, files that could not be compared, executed files of no
    distribution, modules imported from elsewhere than the installed package, and metadata that an interrupted
    installation left behind.
    """
    return (*_file_warnings(manifest), *_loaded_warnings(manifest), *_metadata_warnings(manifest))


def _file_warnings(manifest: Manifest) -> Iterator[str]:
    edited = _recorded_files(manifest, "imported_files", "edited") or {}
    if is_missing(edited):
        yield f"files of imported packages NOT COMPARED with their RECORDs: {_digest(edited)}"
        return
    for name, known in edited.items():
        owner, recorded, actual = (known.get(key, "?") for key in ("distribution", "recorded", "actual"))
        yield f"{owner}: {name} EDITED AFTER INSTALLATION: {_digest(recorded)} in RECORD, {_digest(actual)} on disk"
    unlisted = at(manifest.machine, "imported_files", "unlisted")
    if isinstance(unlisted, Mapping) and not is_missing(unlisted):
        names = unlisted.get("first")
        shown = ", ".join(map(str, names[:3])) if isinstance(names, list) else "?"
        yield f"imported files that NO RECORD lists: {unlisted.get('count')} ({shown})"


def _loaded_warnings(manifest: Manifest) -> Iterator[str]:
    foreign = _recorded_files(manifest, "loaded_code", "foreign") or {}
    if is_missing(foreign):
        yield f"loaded code NOT COMPARED with what is installed: {_digest(foreign)}"
        return
    for path, known in foreign.items():
        yield f"{known.get('kind', 'file')} {path} BELONGS TO NO DISTRIBUTION: {_digest(known.get('sha256', '?'))}"


def _metadata_warnings(manifest: Manifest) -> Iterator[str]:
    known = mapping(at(manifest.machine, "distributions"))
    for item in known.get("disagreements") or ():
        if isinstance(item, Mapping):
            yield f"{item.get('name')}: metadata DISAGREE: {item.get('reason')}"
    for item in known.get("leftovers") or ():
        if isinstance(item, Mapping):
            yield f"{item.get('name')}: LEFTOVER metadata {item.get('metadata')}: {item.get('reason')}"


def _digest(value: Any) -> str:
    """The beginning of a digest; of one that is missing, the reason."""
    if isinstance(value, Mapping):
        return str(next(iter(value.values()), "?"))
    return f"{str(value)[:12]}..."

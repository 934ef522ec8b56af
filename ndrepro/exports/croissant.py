"""Croissant 1.0 of the data set that a run read: every file with its digest.

The listing that was recorded beside the run names each file that was read. A data set of many files is described by
that listing alone: a document with a node for each of a million photographs helps nobody. A location is stated by
whoever publishes the data, and not here: files are named by their paths.

Source: https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from ndrepro.exports.run_facts import LISTING, NotExported, RunFacts, json_document, media_type
from provenance.attestation.manifest import DATASET, Artifact, Resource
from provenance.errors import DigestError
from provenance.formats.listing import parse

_MOST_FILES = 1000
_CROISSANT = "http://mlcommons.org/croissant/1.0"
# the context that the specification prescribes, of the terms used here
_TERMS = (
    "citeAs column equivalentProperty extract field fileObject fileProperty fileSet format includes isLiveDataset "
    "jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate separator source "
    "subField transform"
)
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "conformsTo": "dct:conformsTo",
    **{name: {"@id": f"cr:{name}", "@type": "@json"} for name in ("data", "examples")},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    **{name: f"cr:{name}" for name in _TERMS.split()},
}


def croissant_metadata(facts: RunFacts, name: str | None) -> bytes:
    """The bytes of the description of the data set ``name``, or of the only one.

    Raises NotExported where the run recorded none or several to choose from, or without the files.
    """
    data = _data(facts, name)
    listing = _listing(facts, data)
    try:
        files = parse(facts.read(listing).decode("utf-8", "backslashreplace"))
    except DigestError as error:
        raise NotExported(f"{facts.folder / listing.path}: {error.message}") from None
    return json_document(
        {
            "@context": _CONTEXT,
            "@type": "sc:Dataset",
            # a program's data set is called by its path
            "name": PurePosixPath(_name(data)).name or _name(data),
            "description": _description(facts, data, len(files)),
            "conformsTo": _CROISSANT,
            "distribution": _distribution(listing, files),
        }
    )


def _data(facts: RunFacts, name: str | None) -> Resource:
    known = {_name(item): item for item in facts.inputs if item.name.startswith(DATASET)}
    if name is None and len(known) == 1:
        return next(iter(known.values()))
    if name in known:
        return known[name]
    wanted = f"no data set {name!r} recorded" if name is not None else f"{len(known)} data sets recorded, expected one"
    cure = f"choose one with --data NAME: {', '.join(known)}" if known else "export a run that recorded its data"
    raise NotExported(f"{facts.title}: {wanted}", cure)


def _name(data: Resource) -> str:
    return data.name.removeprefix(DATASET)


def _listing(facts: RunFacts, data: Resource) -> Artifact:
    """The signed file that lists the data set's files with their digests."""
    path = (data.annotations or {}).get("listing", LISTING)
    listing = facts.manifest.artifact(path) if isinstance(path, str) else None
    if listing is None:
        raise NotExported(f"{facts.title}: no signed file lists the data set {_name(data)}")
    return listing


def _distribution(listing: Artifact, files: dict[str, str]) -> list[dict[str, Any]]:
    if len(files) > _MOST_FILES:
        what = "the digest of every file that was read, as sha256sum writes it"
        return [_file_object(listing.path, listing.sha256, what)]
    return [_file_object(name, digest, "a file that the run read") for name, digest in files.items()]


def _file_object(name: str, digest: str, what: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "description": what,
        "contentUrl": name,
        "encodingFormat": media_type(name),
        "sha256": digest,
    }


def _description(facts: RunFacts, data: Resource, files: int) -> str:
    seen = data.annotations or {}
    counts = [f"{seen[key]} {key.replace('_', ' ')}" for key in ("train_images", "test_images") if key in seen]
    official = ["the official files"] if seen.get("canonical") is True else []
    return f"The data that the run {facts.title} read: {', '.join([f'files: {files}', *official, *counts])}."

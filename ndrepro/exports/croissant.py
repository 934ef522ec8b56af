"""Croissant 1.0 of the data set that a run read: every file with its digest.

The recorded listing (``dataset.sha256``) names each file that was read; a data set of many files is described by that
listing alone, since a document with a node for each of a million photographs helps nobody. A location is stated by
whoever publishes the data, and not here: files are named by their paths.

Source: https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from __future__ import annotations

from typing import Any

from ndrepro.exports.run_facts import LISTING, NotExported, RunFacts, json_document, media_type
from provenance.attestation.manifest import DATASET, Resource
from provenance.errors import DigestError
from provenance.formats.listing import parse

_MOST_FILES = 1000
_CROISSANT = "http://mlcommons.org/croissant/1.0"
# the context that the specification prescribes, of the terms used here
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "citeAs": "cr:citeAs",
    "conformsTo": "dct:conformsTo",
    "column": "cr:column",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def croissant_metadata(facts: RunFacts) -> bytes:
    """The bytes of the description. Raises NotExported for a run that recorded no data set."""
    used = [item for item in facts.inputs if item.name.startswith(DATASET)]
    if len(used) != 1:
        raise NotExported(f"{facts.title}: {len(used)} data sets recorded, expected one", "export a run that read one")
    name = used[0].name.removeprefix(DATASET)
    files = _files(facts)
    return json_document(
        {
            "@context": _CONTEXT,
            "@type": "sc:Dataset",
            "name": name,
            "description": _description(facts, used[0], len(files)),
            "conformsTo": _CROISSANT,
            "distribution": _distribution(facts, files),
        }
    )


def _files(facts: RunFacts) -> dict[str, str]:
    listing = facts.manifest.artifact(LISTING)
    if listing is None:
        raise NotExported(f"{facts.title}: it has no {LISTING}, which lists the files of the data")
    try:
        return parse(facts.read(listing).decode("utf-8", "backslashreplace"))
    except DigestError as error:
        raise NotExported(f"{facts.folder / LISTING}: {error.message}") from None


def _distribution(facts: RunFacts, files: dict[str, str]) -> list[dict[str, Any]]:
    listing = facts.manifest.artifact(LISTING)
    if len(files) > _MOST_FILES and listing is not None:
        return [_file_object(LISTING, listing.sha256, "the digest of every file that was read, as sha256sum writes it")]
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

"""RO-Crate 1.1 metadata of recorded runs, after the profile Process Run Crate 0.5.

Each run is an action: its instrument is the recorded command, its objects are what was used, its results the signed
files. Files of the crate are named by their paths in it; what a run used and the crate does not hold is named by its
digest (RFC 6920, ``ni:///sha-256;…``), or not at all where no digest was recorded.

Source: https://www.researchobject.org/ro-crate/specification/1.1 and https://w3id.org/ro/wfrun/process/0.5
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from ndrepro.exports.run_facts import RunFacts, json_document, media_type
from provenance.attestation.manifest import Resource
from provenance.attestation.run_files import BUNDLES, MANIFEST
from provenance.formats.digest import bytes_digest

METADATA = "ro-crate-metadata.json"
_CRATE = "https://w3id.org/ro/crate/1.1"
_PROCESS_RUN = "https://w3id.org/ro/wfrun/process/0.5"
# the base context has no term for a digest
_TERMS = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}
# the property is required, and a text is allowed
_NO_LICENCE = "No licence was stated: ask the author how these files may be used."
_STATUS = {"completed": "http://schema.org/CompletedActionStatus"}
_FAILED = "http://schema.org/FailedActionStatus"

Entity = dict[str, Any]


@dataclass(frozen=True)
class CrateRun:
    """A run in a crate: its facts, and the path of its folder in the crate, without a slash at its end."""

    facts: RunFacts
    path: str


@dataclass(frozen=True)
class CrateText:
    """What is said of a crate as a whole.

    ``license`` is a URL, or None where nobody stated one; ``others`` are further files of the crate, each with what it
    is.
    """

    title: str
    description: str
    license: str | None = None
    authors: tuple[str, ...] = ()
    others: tuple[tuple[str, str], ...] = field(default=())


def crate_metadata(runs: Sequence[CrateRun], text: CrateText) -> bytes:
    """The bytes of ``ro-crate-metadata.json``; the same runs and text give the same bytes."""
    entities: dict[str, Entity] = {}
    for run in runs:
        for entity in _of_run(run):
            entities.setdefault(entity["@id"], entity)
    for path, what in text.others:
        entities.setdefault(quote(path), {"@id": quote(path), "@type": "File", "name": path, "description": what})
    people = [{"@id": f"#author-{quote(name)}", "@type": "Person", "name": name} for name in text.authors]
    files = [entity for entity in entities.values() if entity["@type"] == "File"]
    root: Entity = {
        "@id": "./",
        "@type": "Dataset",
        "name": text.title,
        "description": text.description,
        "datePublished": max(run.facts.manifest.finished_on for run in runs)[:10],
        "conformsTo": {"@id": _PROCESS_RUN},
        "hasPart": _ids(files),
        "mentions": _ids([{"@id": _action_id(run.facts)} for run in runs]),
    }
    if people:
        root["author"] = _ids(people)
    about = [root, {"@id": _PROCESS_RUN, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"}]
    root["license"] = {"@id": text.license} if text.license else _NO_LICENCE
    if text.license:
        about.append({"@id": text.license, "@type": "CreativeWork", "name": text.license.rpartition("/")[2]})
    descriptor = {"@id": METADATA, "@type": "CreativeWork", "conformsTo": {"@id": _CRATE}, "about": {"@id": "./"}}
    graph = [descriptor, *about, *people, *entities.values()]
    return json_document({"@context": [f"{_CRATE}/context", _TERMS], "@graph": graph})


def digest_uri(sha256: str) -> str:
    """The name of bytes by their digest: ``ni:///sha-256;…`` (RFC 6920)."""
    return f"ni:///sha-256;{base64.urlsafe_b64encode(bytes.fromhex(sha256)).rstrip(b'=').decode('ascii')}"


def _of_run(run: CrateRun) -> Iterator[Entity]:
    facts, manifest = run.facts, run.facts.manifest
    results = [
        _file(f"{run.path}/{file.path}", file.size, file.sha256, f"{file.path} of the run {facts.run}")
        for file in facts.files
    ]
    used = [entity for item in facts.inputs if (entity := _by_digest(item)) is not None]
    elsewhere = [entity for item in facts.outputs if (entity := _by_digest(item)) is not None]
    values = [
        {"@id": f"#{facts.run}/{quote(name)}", "@type": "PropertyValue", "name": name, "value": value}
        for name, value in facts.parameters.items()
    ]
    signed = facts.manifest_bytes()  # of several signatures, as an envelope with all of them
    about = f"the signed manifest of the run {facts.run}"
    envelope = _file(f"{run.path}/{MANIFEST}", len(signed), bytes_digest(signed), about)
    if (bundles := facts.bundles()) is not None:
        about = f"signatures by identities on the manifest of the run {facts.run}"
        results.append(_file(f"{run.path}/{BUNDLES}", len(bundles), bytes_digest(bundles), about))
    action: Entity = {
        "@id": _action_id(facts),
        "@type": "CreateAction",
        "name": f"Run {facts.title}",
        "description": shlex.join(facts.command) or f"the run {facts.title}",
        "instrument": {"@id": _program_id(facts)},
        "object": _ids([*used, *values]),
        "result": _ids([*results, *elsewhere, envelope]),
        "startTime": _time(manifest.started_on),
        "endTime": _time(manifest.finished_on),
        "actionStatus": _STATUS.get(manifest.outcome, _FAILED),
        "agent": {"@id": _signer_id(facts)},
    }
    if manifest.outcome not in _STATUS:
        action["error"] = f"the run is recorded as {manifest.outcome}, with exit code {manifest.exit_code}"
    signer = {"@id": _signer_id(facts), "@type": "Person", "name": f"holder of the signing key {facts.keyids[0]}"}
    yield from (action, _program(facts), signer, *used, *values, *results, *elsewhere, envelope)


def _file(path: str, size: int, sha256: str, what: str) -> Entity:
    return {
        "@id": quote(path),
        "@type": "File",
        "name": path,
        "description": what,
        "contentSize": str(size),
        "encodingFormat": media_type(path),
        "sha256": sha256,
    }


def _by_digest(item: Resource) -> Entity | None:
    """What the crate does not hold, by its digest or commit; None where neither was recorded."""
    digest = item.digest or {}
    if sha256 := digest.get("sha256"):
        return {"@id": digest_uri(sha256), "@type": "CreativeWork", "name": item.name, "sha256": sha256}
    if commit := digest.get("gitCommit"):
        place = f"urn:git:commit:{quote(commit)}"
        return {"@id": place, "@type": "SoftwareSourceCode", "name": item.name, "version": commit}
    return None


def _program(facts: RunFacts) -> Entity:
    """The command as it was typed; its version is the commit of its source, else the recorder's own."""
    return {
        "@id": _program_id(facts),
        "@type": "SoftwareApplication",
        "name": facts.name,
        "description": shlex.join(facts.command) or facts.name,
        "softwareVersion": facts.commit or f"recorded by {facts.manifest.builder.id}",
    }


def _action_id(facts: RunFacts) -> str:
    return f"#run-{quote(facts.run)}"


def _program_id(facts: RunFacts) -> str:
    return f"#program-of-{quote(facts.run)}"


def _signer_id(facts: RunFacts) -> str:
    return f"#key-{facts.keyids[0]}"


def _ids(entities: Iterable[Entity]) -> list[dict[str, str]] | dict[str, str]:
    """References to entities; to one alone without a list, as RO-Crate recommends."""
    found = [{"@id": entity["@id"]} for entity in entities]
    return found[0] if len(found) == 1 else found


def _time(time: str) -> str:
    """A time to the millisecond with its offset, as the profile recommends."""
    return datetime.fromisoformat(time).isoformat(timespec="milliseconds")

"""W3C PROV of a run, as PROV-JSON: what was used, what was generated, by which activity and for whom.

Entities are named by their SHA-256 or commit, so that two documents about the same bytes name the same entity.

Source: https://www.w3.org/submissions/prov-json/
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from ndrepro.exports.run_facts import RunFacts, json_document
from provenance.attestation.manifest import Resource

_PREFIXES = {
    "sha256": "urn:sha256:",
    "commit": "urn:git:commit:",
    "key": "urn:ndrepro:key:",
    "run": "urn:ndrepro:run:",
    "ndrepro": "urn:ndrepro:prov:",
}


def prov_json(facts: RunFacts) -> bytes:
    """The bytes of the PROV-JSON document of a run."""
    manifest, run, key = facts.manifest, f"run:{facts.run}", f"key:{facts.keyids[0]}"
    used = {name: item for item in facts.inputs if (name := _name(item))}
    generated: dict[str, list[str]] = {}
    for file in facts.files:  # equal bytes under two names are one entity
        generated.setdefault(f"sha256:{file.sha256}", []).append(file.path)
    for item in facts.outputs:
        if name := _name(item):
            generated.setdefault(name, []).append(item.name)
    envelope = f"sha256:{facts.digest}"
    entities: dict[str, Any] = {name: {"prov:label": item.name} for name, item in used.items()}
    for name, paths in generated.items():
        labels = [*([entities[name]["prov:label"]] if name in entities else []), *paths]
        entities[name] = {"prov:label": labels if len(labels) > 1 else labels[0]}
    entities[envelope] = {"prov:label": "signed manifest", "prov:type": "prov:Bundle"}
    activity = {
        "prov:label": facts.title,
        "prov:startTime": manifest.started_on,
        "prov:endTime": manifest.finished_on,
        "ndrepro:outcome": manifest.outcome,
        "ndrepro:buildType": manifest.build_type,
        **({"ndrepro:command": list(facts.command)} if facts.command else {}),
    }
    builder = "ndrepro:builder"
    document = {
        "prefix": _PREFIXES,
        "entity": entities,
        "activity": {run: activity},
        "agent": {
            key: {"prov:label": f"holder of the signing key {facts.keyids[0]}"},
            builder: {"prov:type": "prov:SoftwareAgent", "prov:label": manifest.builder.id},
        },
        "used": {f"_:u{n}": {"prov:activity": run, "prov:entity": name} for n, name in enumerate(used)},
        "wasGeneratedBy": {
            f"_:g{n}": {"prov:entity": name, "prov:activity": run, "prov:time": manifest.finished_on}
            for n, name in enumerate([*generated, envelope])
        },
        "wasAssociatedWith": {"_:a0": {"prov:activity": run, "prov:agent": builder}},
        "actedOnBehalfOf": {"_:b0": {"prov:delegate": builder, "prov:responsible": key, "prov:activity": run}},
        "wasAttributedTo": {"_:t0": {"prov:entity": envelope, "prov:agent": key}},
    }
    return json_document(document)


def _name(item: Resource) -> str:
    digest = item.digest or {}
    if "sha256" in digest:
        return f"sha256:{digest['sha256']}"
    return f"commit:{quote(digest['gitCommit'], safe='')}" if "gitCommit" in digest else ""

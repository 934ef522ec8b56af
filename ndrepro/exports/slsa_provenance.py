"""SLSA provenance v1 of a run: an in-toto statement whose predicate has the fields of SLSA and no other.

The manifest has the shape of SLSA's predicate with fields of its own beside them, under a type of its own. Here those
fields are byproducts, each with a name, and so is the signed manifest, by its digest. The statement is a transcript: it
is not signed, and whoever wants a signature verifies the manifest that it names.

Source: https://slsa.dev/spec/v1.0/provenance, https://github.com/in-toto/attestation (ResourceDescriptor)
"""

from __future__ import annotations

from typing import Any

from ndrepro.exports.run_facts import RunFacts, json_document
from provenance.attestation.manifest import Resource
from provenance.attestation.run_files import MANIFEST
from provenance.attestation.statement import STATEMENT_TYPE

PREDICATE_TYPE = "https://slsa.dev/provenance/v1"


def slsa_statement(facts: RunFacts) -> bytes:
    """The bytes of the statement: one subject for each signed file."""
    manifest = facts.manifest
    own = manifest.to_predicate()
    details = own["runDetails"]
    extra = {name: details[name] for name in ("outcome", "exitCode", "attempts", "machine", "ledger")}
    byproducts = [
        {"name": MANIFEST, "digest": {"sha256": facts.digest}, "mediaType": "application/json"},
        {"name": "run details", "annotations": {name: value for name, value in extra.items() if value is not None}},
        *map(_descriptor, manifest.byproducts),
    ]
    definition = {
        **own["buildDefinition"],
        "resolvedDependencies": [_descriptor(item) for item in manifest.dependencies],
    }
    run = {"builder": details["builder"], "metadata": details["metadata"], "byproducts": byproducts}
    return json_document(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": file.path, "digest": {"sha256": file.sha256}} for file in facts.files],
            "predicateType": PREDICATE_TYPE,
            "predicate": {"buildDefinition": definition, "runDetails": run},
        }
    )


def _descriptor(item: Resource) -> dict[str, Any]:
    """A resource as in-toto has it: a digest that was unavailable becomes an annotation with the reason."""
    found = item.to_json()
    reason = found.get("digest", {}).get("unavailable")
    if reason is not None:
        del found["digest"]
        found["annotations"] = {**found.get("annotations", {}), "digest unavailable": reason}
    return found

"""CycloneDX 1.6 of a trained network: a bill of materials whose subject is the model, with what it was made with.

The model is a component of type machine-learning-model with a model card (architecture, data sets, results); the
distributions that were installed are its libraries, the data sets its data. The recorded digest of a distribution is
that of its RECORD and no hash of the package: it is a property, so that nobody compares it with an index.

Source: https://cyclonedx.org/docs/1.6/json/
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from ndrepro.exports.run_facts import RunFacts, json_document
from provenance.attestation.manifest import DATASET, Artifact, Resource
from provenance.attestation.run_files import MANIFEST

_MODEL = "model"


def cyclonedx_bom(facts: RunFacts, model: Artifact) -> bytes:
    """The bytes of the bill of ``model``, one of the run's files; the same run gives the same bytes."""
    manifest = facts.manifest
    libraries = [_library(item) for item in facts.distributions]
    data = [_data(item) for item in facts.inputs if item.name.startswith(DATASET)]
    components = [*libraries, *data]
    return json_document(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{facts.digest}#{model.path}')}",
            "version": 1,
            "metadata": {"timestamp": manifest.finished_on, "component": _model(facts, model)},
            "components": components,
            "dependencies": [{"ref": _MODEL, "dependsOn": [component["bom-ref"] for component in components]}],
        }
    )


def _model(facts: RunFacts, model: Artifact) -> dict[str, Any]:
    manifest = facts.manifest
    facts_of_run = {
        "ndrepro:run": facts.run,
        "ndrepro:outcome": manifest.outcome,
        "ndrepro:file": model.path,
        **({"ndrepro:commit": facts.commit} if facts.commit else {}),
        **{f"ndrepro:parameter:{name}": value for name, value in facts.parameters.items()},
    }
    attestation = {"alg": "SHA-256", "content": facts.digest}
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": facts.name,
        "version": facts.run,
        "hashes": [{"alg": "SHA-256", "content": model.sha256}],
        "externalReferences": [{"type": "attestation", "url": MANIFEST, "hashes": [attestation]}],
        "modelCard": _card(facts),
        "properties": _properties(facts_of_run),
    }


def _card(facts: RunFacts) -> dict[str, Any]:
    """What the run says of the network; a field of which it says nothing is left out."""
    experiment = facts.manifest.external_parameters.get("experiment")
    arch = experiment.get("arch") if isinstance(experiment, Mapping) else None
    sets = [{"ref": item.name} for item in facts.inputs if item.name.startswith(DATASET)]
    results = [{"type": name, "value": repr(value)} for name, value in facts.last_metrics().items()]
    parameters = {"modelArchitecture": arch if isinstance(arch, str) else None, "datasets": sets}
    card = {
        "modelParameters": {name: value for name, value in parameters.items() if value},
        "quantitativeAnalysis": {"performanceMetrics": results} if results else {},
    }
    return {name: value for name, value in card.items() if value}


def _library(item: Resource) -> dict[str, Any]:
    name, version = item.distribution or (item.name, "")
    record = (item.digest or {}).get("sha256")
    component = {
        "type": "library",
        "bom-ref": item.name,
        "name": name,
        "version": version,
        "purl": item.uri,
        "properties": _properties({"ndrepro:record-sha256": record}) if record else None,
    }
    return {key: value for key, value in component.items() if value}


def _data(item: Resource) -> dict[str, Any]:
    name, sha256 = item.name.removeprefix(DATASET), (item.digest or {}).get("sha256")
    component: dict[str, Any] = {
        "type": "data",
        "bom-ref": item.name,
        "name": name,
        "data": [{"type": "dataset", "name": name}],
    }
    # the digest is that of the list of its files, each with its own
    return {**component, "properties": _properties({"ndrepro:listing-sha256": sha256})} if sha256 else component


def _properties(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in values.items()]

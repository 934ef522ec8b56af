"""What `make image ARGS=--attest` signs of an image: in-toto statements, SLSA's build provenance and a CycloneDX bill.

Facts go in, statements come out; ``ndrepro.execution.containers.image_attestation`` signs them and reads them again.

Source: https://slsa.dev/spec/v1.0/provenance, https://cyclonedx.org/bom
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ndrepro import __version__
from ndrepro.execution.containers.image_attestation import PROVENANCE
from provenance.attestation.statement import STATEMENT_TYPE

BUILD_TYPE = "urn:ndrepro:image:v1"
BUILDER = "urn:ndrepro:image-builder"
BILL = "https://cyclonedx.org/bom"


@dataclass(frozen=True)
class Build:
    """One build: the image's name and digests, what it was made of, by what, and when (RFC 3339).

    ``lock`` is the SHA-256 of the lock that was installed, ``machine`` the image's architecture.
    """

    image: str
    digests: frozenset[str]
    commit: str
    remote: str
    base: str
    base_digest: str
    lock: str
    engine: str
    engine_version: str
    machine: str
    started: str
    finished: str


def statements(build: Build, bill: str) -> list[dict[str, Any]]:
    """The provenance of the build, and the bill of materials (CycloneDX JSON)."""
    return [_statement(build, PROVENANCE, _provenance(build)), _statement(build, BILL, json.loads(bill))]


def _statement(build: Build, kind: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    subjects = [
        {"name": build.image, "digest": {"sha256": digest.removeprefix("sha256:")}} for digest in sorted(build.digests)
    ]
    return {"_type": STATEMENT_TYPE, "subject": subjects, "predicateType": kind, "predicate": predicate}


def _provenance(build: Build) -> dict[str, Any]:
    source = {"name": "source", "digest": {"gitCommit": build.commit}}
    base: dict[str, Any] = {"name": "base image", "uri": build.base}
    # docker's classic store has no digest of an image that no registry has
    base |= {"digest": {"sha256": build.base_digest.removeprefix("sha256:")}} if build.base_digest else {}
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"dockerfile": "Dockerfile", "image": build.image, "base": build.base},
            "internalParameters": {"engine": build.engine, "machine": build.machine},
            "resolvedDependencies": [
                source | ({"uri": f"git+{build.remote}"} if build.remote else {}),
                base,
                {"name": "lock", "uri": "runtime.lock", "digest": {"sha256": build.lock}},
            ],
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"ndrepro": __version__, build.engine: build.engine_version}},
            "metadata": {"startedOn": build.started, "finishedOn": build.finished},
        },
    }

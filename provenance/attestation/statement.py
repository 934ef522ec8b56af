"""The in-toto Statement v1 around a manifest: its subjects are the run's artifacts.

A subject carries a name and a digest, and in-toto matches by digest only, so two subjects' names could be swapped
unnoticed. The signed predicate therefore lists every artifact with name, size and digest too, and ``verify`` compares
the two lists; parsing alone does not.

What is read is the bytes that were verified, whole and once: no part of a statement is taken from anywhere else. They
have the one spelling that every recorder has written: blanks, escapes and the order of members would carry what no
reader sees. Law: ``canonical_bytes(parse(b)) == b`` for every b that ``Statement.from_bytes`` reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from provenance.attestation.manifest import SCHEMA_V1, Manifest
from provenance.errors import CanonicalError, ManifestError
from provenance.formats.canonical_json import canonical_bytes, parse
from provenance.formats.strict_json import Field

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"


@dataclass(frozen=True)
class Subject:
    """What the statement is about: a file's name and its SHA-256."""

    name: str
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """The in-toto form."""
        return {"name": self.name, "digest": {"sha256": self.sha256}}

    @classmethod
    def from_json(cls, field: Field) -> Subject:
        """The subject that ``to_json`` wrote. Raises the field's error."""
        members = field.members(("name", "digest"))
        return cls(members["name"].text(), members["digest"].members(("sha256",))["sha256"].sha256())


@dataclass(frozen=True)
class Statement:
    """A manifest, the subjects it is about, and the schema it was written in."""

    subjects: tuple[Subject, ...]
    schema: str
    manifest: Manifest

    @classmethod
    def about(cls, manifest: Manifest) -> Statement:
        """The statement of a manifest in the newest schema: one subject an artifact, in the same order."""
        subjects = tuple(Subject(artifact.path, artifact.sha256) for artifact in manifest.artifacts)
        return cls(subjects, SCHEMA_V1, manifest)

    def to_bytes(self) -> bytes:
        """The canonical JSON that is signed. Raises CanonicalError naming what in the manifest has no JSON form."""
        return canonical_bytes(
            {
                "_type": STATEMENT_TYPE,
                "subject": [subject.to_json() for subject in self.subjects],
                "predicateType": self.schema,
                "predicate": self.manifest.to_predicate(),
            }
        )

    @classmethod
    def from_bytes(cls, payload: bytes) -> Statement:
        """The statement in a verified payload. Raises ManifestError naming the JSON path of what is wrong."""
        try:
            document = parse(payload)
            as_written = canonical_bytes(document) == payload
        except CanonicalError as error:
            raise ManifestError(f"the statement is {error.message}", error.cure) from None
        if not as_written:
            raise ManifestError("the statement is not as a recorder writes it: no canonical JSON", "ask its author")
        members = Field(document).members(("_type", "subject", "predicateType", "predicate"))
        members["_type"].one_of((STATEMENT_TYPE,))
        schema = members["predicateType"].text()
        return cls(
            subjects=tuple(map(Subject.from_json, members["subject"].items())),
            schema=schema,
            manifest=Manifest.from_predicate(members["predicate"].value, schema),
        )

"""The in-toto Statement v1 around a manifest: its subjects are the run's artifacts.

A subject carries a name and a digest, and in-toto matches by digest only, so two subjects' names could be swapped
unnoticed. The signed predicate therefore lists every artifact with name, size and digest too, and ``verify`` compares
the two lists; parsing alone does not.

More than half of a statement is its list of dependencies, which is the same text in every run of one environment: of
many statements it is read once (``_apart``). What comes out is what reading each of them whole gives.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from provenance.attestation.manifest import SCHEMA_V1, Manifest, Resource
from provenance.errors import CanonicalError, ManifestError
from provenance.formats.canonical_json import canonical_bytes, parse
from provenance.formats.strict_json import Field, is_sha256

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_BEGIN, _END = b',"resolvedDependencies":[', b']},"runDetails":{'


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
        value = field.value
        if type(value) is dict and value.keys() == {"name", "digest"}:
            # one that is as it must be, without a Field for each member
            name, digest = value["name"], value["digest"]
            whole = type(digest) is dict and digest.keys() == {"sha256"} and is_sha256(digest["sha256"])
            if name and type(name) is str and whole:
                return cls(name, digest["sha256"])
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
        document = _apart(payload)
        if document is None:
            try:
                document = parse(payload)
            except CanonicalError as error:
                raise ManifestError(f"the statement is {error.message}", error.cure) from None
        members = Field(document).members(("_type", "subject", "predicateType", "predicate"))
        members["_type"].one_of((STATEMENT_TYPE,))
        schema = members["predicateType"].text()
        return cls(
            subjects=tuple(map(Subject.from_json, members["subject"].items())),
            schema=schema,
            manifest=Manifest.from_predicate(members["predicate"].value, schema),
        )


def _apart(payload: bytes) -> Any:
    """What ``parse`` gives, with the dependencies as a tuple of resources; None for what has to be read whole.

    The list is taken out and a random word put in its place. Where both are JSON, and that word comes back alone at
    the place of the dependencies, the list was one value and stood there: no text can be a whole list and the
    beginning of a longer one, a quote after a comma cannot lie within a string that goes on, and who wrote the payload
    did not know the word.
    """
    begin = payload.find(_BEGIN) + len(_BEGIN)
    end = payload.find(_END, begin)
    if begin < len(_BEGIN) or end < 0:
        return None
    word = secrets.token_hex(16)
    try:
        document = parse(b'%b"%b"%b' % (payload[:begin], word.encode(), payload[end:]))
        definition = document["predicate"]["buildDefinition"]
        if definition["resolvedDependencies"] != [word]:
            return None
        definition["resolvedDependencies"] = _dependencies(payload[begin - 1 : end + 1])
    except (CanonicalError, ManifestError, KeyError, TypeError):
        return None
    return document


@lru_cache(maxsize=64)
def _dependencies(text: bytes) -> tuple[Resource, ...]:
    return tuple(map(Resource.from_json, Field(parse(text)).items()))

"""The signed statements on an image: how it was built, and what is in it.

    make image ARGS=--attest ── write ──> KEY HOME/images/DIGEST.intoto.jsonl, also beside an image file
    a run in that image ── attested ──> its manifest names the statements by their digest
    a recorded command in that image ── attestation_of ──> likewise

The file is a bundle of in-toto attestations, one DSSE envelope a line: SLSA's build provenance, and the bill of
materials (CycloneDX). A run refers only to statements on its very image that a trusted key signed; where there are none
it refers to none, and others stop it before it starts. A recorded command, which may do without this project, is not
stopped: its manifest refers to none then, and says why.

Source: https://github.com/in-toto/attestation/blob/main/spec/v1/bundle.md
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ndrepro.protocol.errors import EngineError
from ndrepro.protocol.image_reference import FILE_ENGINES
from ndrepro.protocol.messages import Container
from provenance.attestation.dsse import read_envelope, sign_envelope, verify_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.statement import STATEMENT_TYPE, Subject
from provenance.attestation.trust import TrustedKey, TrustPolicy
from provenance.errors import CanonicalError, ManifestError, ProvenanceError
from provenance.formats.atomic_io import make_folder, write_atomically
from provenance.formats.bounded_read import read_bounded
from provenance.formats.canonical_json import canonical_bytes, parse
from provenance.formats.digest import bytes_digest, file_digest
from provenance.formats.strict_json import Field

SUFFIX = ".intoto.jsonl"
PROVENANCE = "https://slsa.dev/provenance/v1"


def kept_at(home: Path, identifier: str) -> Path:
    """Where the key home keeps the statements on an image, by the digest of its configuration."""
    return home / "images" / f"{identifier.removeprefix('sha256:')}{SUFFIX}"


def beside(image: Path) -> Path:
    """Where the statements on an image file lie that came with it."""
    return image.with_name(image.name + SUFFIX)


def write(path: Path, statements: Iterable[Mapping[str, Any]], home: Path) -> None:
    """Sign statements with this machine's key, one envelope a line."""
    signer = KeyRing(home).signer()
    lines = [sign_envelope(canonical_bytes(each), signer) for each in statements]
    make_folder(path.parent)
    write_atomically(path, b"".join(lines))


def attested(container: Container, home: Path) -> Container:
    """The same, with the digest of the statements on its image where there are any.

    Raises EngineError for statements that do not verify, are on another image, or that no trusted key signed.
    """
    return replace(container, attestation=attestation_of(container.engine, container.image, container.digests, home))


def attestation_of(engine: str, image: str, digests: Iterable[str], home: Path) -> str:
    """The digest of the statements on an image, "" where there are none: those beside its file, else the key home's.

    Raises EngineError for statements that do not verify, are on another image, or that no trusted key signed.
    """
    path = find_statements(engine, image, digests, home)
    if path is None:
        return ""
    try:
        data = read_bounded(path)
        check(data, digests, TrustPolicy.load(home).keys())
    except ProvenanceError as error:
        cure = error.cure or "attest the image anew: make image ARGS=--attest"
        raise EngineError(f"{path}: {error.message}", f"{cure}; or move the file away") from None
    return f"sha256:{bytes_digest(data)}"


def write_for_file(data: bytes, digests: Iterable[str], file: Path, home: Path) -> None:
    """Sign the statements on an image anew, beside a file that was made of it, which becomes a subject of theirs.

    Raises as ``check`` does for what are no statements on an image with one of ``digests``.
    """
    check(data, digests, TrustPolicy.load(home).keys())
    subject = {"name": file.name, "digest": {"sha256": file_digest(file).sha256}}
    statements = [parse(read_envelope(line)[1]) for line in data.splitlines()]
    write(beside(file), [{**each, "subject": [*each["subject"], subject]} for each in statements], home)


def find_statements(engine: str, image: str, digests: Iterable[str], home: Path) -> Path | None:
    """Where the statements on an image are."""
    places = [beside(Path(image))] if engine in FILE_ENGINES else []
    places += [kept_at(home, digest) for digest in sorted(digests)]
    return next((place for place in places if place.exists()), None)


def check(data: bytes, digests: Iterable[str], keys: Iterable[TrustedKey]) -> None:
    """Whether each line is a statement on an image with one of ``digests`` that one of ``keys`` signed in its time.

    Raises EnvelopeError, TrustError or ManifestError.
    """
    wanted, known = {each.removeprefix("sha256:") for each in digests}, {key.keyid: key for key in keys}
    signed_on: str | None = None
    for line in data.splitlines():
        verified = verify_envelope(line, known.values())
        try:
            members = Field(parse(verified.payload)).members(("_type", "subject", "predicateType", "predicate"))
        except CanonicalError as error:
            raise ManifestError(f"a statement is {error.message}", error.cure) from None
        members["_type"].one_of((STATEMENT_TYPE,))
        if not wanted & {Subject.from_json(each).sha256 for each in members["subject"].items()}:
            raise ManifestError("a statement on another image", "attest this one: make image ARGS=--attest")
        if members["predicateType"].text() == PROVENANCE:
            metadata = members["predicate"].member("runDetails").member("metadata")
            signed_on = metadata.member("finishedOn").time()
        refusals = [known[keyid].refusal(signed_on) for keyid in verified.signers]
        if all(refusals):
            raise ManifestError(f"the key that signed it: {refusals[0]}", "attest the image anew with a current key")
    if signed_on is None:
        raise ManifestError("no statement on how the image was built", "attest it anew: make image ARGS=--attest")

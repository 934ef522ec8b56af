"""The OpenSSF Model Signing sidecar of a run's model: who may verify it needs neither this project nor the run.

A Sigstore bundle whose envelope is an in-toto statement of one subject, the model, in the form that ``model_signing
verify key`` reads for a model of one file. Model Signing knows elliptic-curve keys on NIST's curves and no Ed25519, so
the key is the key home's own where that is such a key, else a file's.

Source: https://github.com/sigstore/model-transparency (predicate https://model_signing/signature/v1.0)
"""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath

from ndrepro.exports.run_facts import json_document
from provenance.attestation.dsse import sign_envelope
from provenance.attestation.key_home import KeyRing
from provenance.attestation.manifest import Artifact
from provenance.attestation.passphrases import asked_passphrase, passphrase_file, stored_passphrase
from provenance.attestation.private_keys import open_signer
from provenance.attestation.statement import STATEMENT_TYPE
from provenance.errors import KeyFileError
from provenance.formats.canonical_json import parse
from provenance.signatures.public_key import PublicKey

_BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PREDICATE = "https://model_signing/signature/v1.0"
_SCHEMES = ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384")
_CURE = (
    "name a file by --signing-key=; to make one: "
    "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out FILE"
)


def model_signature(model: Artifact, home: Path, key: Path | None) -> bytes:
    """The bytes of the bundle for ``model``, signed with the key in the file ``key``, else with the key home's.

    Raises KeyFileError for a key that cannot be read, or that is on none of NIST's curves.
    """
    if key is None:
        signer = KeyRing(home).signer()
        public = PublicKey.of_signer(signer)
    else:
        signer, public = open_signer(str(key), None, _passphrase)
    if signer.public_key.scheme not in _SCHEMES:
        where = key or home
        raise KeyFileError(f"{where}: a key of the kind {signer.public_key.scheme}, expected one on P-256", _CURE)
    return json_document(
        {
            "mediaType": _BUNDLE,
            "verificationMaterial": {
                "publicKey": {"hint": hashlib.sha256(public.pem.encode("ascii")).hexdigest()},
                "tlogEntries": [],
            },
            "dsseEnvelope": parse(sign_envelope(json_document(_statement(model)), signer)),
        }
    )


def _statement(model: Artifact) -> dict[str, object]:
    """A model of one file is its own root: the subject's digest is that of all digests, here of this one."""
    root = hashlib.sha256(bytes.fromhex(model.sha256)).hexdigest()
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []}
    resources = [{"name": ".", "algorithm": "sha256", "digest": model.sha256}]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": PurePosixPath(model.path).name, "digest": {"sha256": root}}],
        "predicateType": _PREDICATE,
        "predicate": {"serialization": serialization, "resources": resources},
    }


def _passphrase(what: str) -> bytes:
    file = passphrase_file()
    return asked_passphrase(what) if file is None else stored_passphrase(file)

"""Verifies a run of ndrepro without ndrepro: Python 3.8 and the package cryptography, sixty lines to read.

    python verify_envelope.py PUBLIC_KEY RUN_FOLDER        exit code 0: verified, 1: not

It checks that the key signed the manifest (DSSE 1.0.2 over an in-toto statement v1), that the statement's subjects are
the files that its predicate lists, and that the folder holds those files and no other. It checks no ledger, no trail
and no policy, and not whether the key was revoked: `ndrepro verify` does.
"""

import base64
import hashlib
import json
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

MANIFEST, NOT_LISTED = "manifest.dsse.json", {"manifest.dsse.json", ".lock"}
TYPE = "application/vnd.in-toto+json"


def signed_payload(envelope, key):
    """The bytes that the key signed, from an envelope; raises ValueError where no signature of it is the key's."""
    payload = base64.b64decode(envelope["payload"], validate=True)
    kind = envelope["payloadType"].encode()
    message = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    for signature in envelope["signatures"]:
        try:
            made = base64.b64decode(signature["sig"], validate=True)
            if isinstance(key, ed25519.Ed25519PublicKey):
                key.verify(made, message)
            else:
                key.verify(made, message, ec.ECDSA(SHA256()))  # a key on P-256
            return payload
        except InvalidSignature:
            continue
    raise ValueError("no signature is this key's")


def verify(key_file, folder):
    """Raises ValueError, KeyError, OSError or TypeError where the folder is not the run that the key signed."""
    key = load_pem_public_key(Path(key_file).read_bytes())
    envelope = json.loads((folder / MANIFEST).read_bytes())
    statement = json.loads(signed_payload(envelope, key))
    if envelope["payloadType"] != TYPE or statement["_type"] != "https://in-toto.io/Statement/v1":
        raise ValueError("the signature is over something else than an in-toto statement")
    subjects = {each["name"]: each["digest"]["sha256"] for each in statement["subject"]}
    listed = statement["predicate"]["runDetails"]["artifacts"]
    if subjects != {each["path"]: each["sha256"] for each in listed} or len(subjects) != len(statement["subject"]):
        raise ValueError("the statement's subjects are not the files that its predicate lists")
    there = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    names = {path.relative_to(folder).as_posix() for path in there} - NOT_LISTED
    if names != set(subjects) or any(path.is_symlink() for path in there):
        raise ValueError(f"missing, added or linked: {sorted(names ^ set(subjects)) or 'a symbolic link'}")
    for name, digest in subjects.items():
        if hashlib.sha256((folder / name).read_bytes()).hexdigest() != digest:
            raise ValueError(f"{name} is not the file that was signed")
    return len(subjects)


if __name__ == "__main__":
    try:
        print(f"verified: {verify(sys.argv[1], Path(sys.argv[2]))} files")
    except (ValueError, KeyError, OSError, TypeError, IndexError) as error:
        sys.exit(f"NOT verified: {type(error).__name__}: {error}")

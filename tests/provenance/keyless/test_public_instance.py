"""The trusted root that comes with Sigstore's library verifies a bundle of the public instance, offline.

The bundle is public: a publisher's attestation of pypi-attestation-models 0.0.4a2, from the source distribution of
pypi-attestations 0.0.30 on PyPI (test/assets), Apache-2.0.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from provenance.errors import TrustError
from provenance.keyless.bundle import public_root, verified_bundle
from provenance.keyless.identities import Identity

BUNDLE = Path(__file__).with_name("public_instance.sigstore.json")
ISSUER = "https://token.actions.githubusercontent.com"


def test_a_public_bundle_verifies_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: Any, **more: Any) -> None:
        raise AssertionError("nothing is fetched")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    found = verified_bundle(BUNDLE.read_bytes(), public_root())
    assert json.loads(found.payload)["subject"][0]["name"] == "pypi_attestation_models-0.0.4a2.tar.gz"
    (identity,) = found.identities()
    assert identity.issuer == ISSUER and identity.identity.endswith("/.github/workflows/release.yml@refs/tags/v0.0.4a2")
    assert f"{found.signed_on:%Y-%m-%d}" == "2024-06-10"
    assert found.accepted([Identity(identity.identity, "https://evil.example", "x")]) is None
    assert found.accepted([identity]) == identity
    damaged = (
        BUNDLE.read_bytes().replace(b'"integratedTime":"1', b'"integratedTime":"2').replace(b': "1718', b': "1719')
    )
    with pytest.raises(TrustError):
        verified_bundle(damaged, public_root())

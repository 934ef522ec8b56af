"""Redacts environment variables. Those that only a prefix admits may be anybody's, whatever they are called.

``NDREPRO_`` and ``TORCH`` begin the names of settings, and of what users invent: a value there that looks like no
setting, path or identifier, but like a password's or a token's letters, is hidden whatever the name says.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from provenance.redaction.marker import marker
from provenance.redaction.redact import redact_tree
from provenance.redaction.rules import entropy

_OPEN_PREFIXES = ("NDREPRO_", "TORCH", "PYTORCH_", "CONDA_", "PYTHON")
_UUID = re.compile(r"(?:GPU-|MIG-)?[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# one word of letters and digits, as long as generated secrets are
_OPAQUE = re.compile(
    r"(?<!sha256:)(?<![\w/.-])(?=[A-Za-z+/_-]*[0-9])(?=[0-9+/_-]*[A-Za-z])[A-Za-z0-9+/_-]{20,}={0,2}(?![\w/.-])"
)
# hexadecimal letters reach 4.0, words and version numbers stay below
_LEAST_ENTROPY = 3.3


def redact_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """The same variables with every secret in their values replaced."""
    found: dict[str, str] = redact_tree(dict(variables))
    return {
        name: _OPAQUE.sub(_hidden, value) if name.startswith(_OPEN_PREFIXES) else value for name, value in found.items()
    }


def _hidden(match: re.Match[str]) -> str:
    value = match.group()
    if value.startswith("/") or _UUID.fullmatch(value) or entropy(value) < _LEAST_ENTROPY:
        return value
    return marker("opaque-value")

"""The environment variables that a confined process inherits: those that move numbers or find libraries, no other."""

from __future__ import annotations

from collections.abc import Mapping

from ndrepro.protocol.recorded.variables import is_passed
from provenance.redaction.redact import redact_tree


def passed_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Those of ``environment`` that are passed on; one that looks like a secret is not."""
    allowed = {name: value for name, value in environment.items() if is_passed(name)}
    redacted = redact_tree(allowed)
    return {name: value for name, value in allowed.items() if redacted.get(name) == value}

"""A lock is read whole or not at all: nothing unpinned or unhashed passes."""

from __future__ import annotations

import pytest

from ndrepro.execution.environments.lockfile import Pin, read_pins
from provenance.capture.distribution_metadata import normalized
from provenance.errors import UsageError

HASH = f"sha256:{'0a' * 32}"
LOCK = f"""\
# python: 3.10
# written by a resolver
numpy==1.23.5 ; python_full_version < '3.12' \\
    --hash={HASH} \\
    --hash=sha256:{"1b" * 32}
    # via torch
Typing_Extensions[extra]==4.16.0 \\
    --hash={HASH}
"""


def test_pins_are_read_in_order_with_markers_and_all_hashes() -> None:
    assert read_pins(LOCK, "a.lock") == (
        Pin("numpy", "1.23.5", "python_full_version < '3.12'", (HASH, f"sha256:{'1b' * 32}")),
        Pin("typing-extensions", "4.16.0", "", (HASH,)),
    )


def test_names_are_compared_as_pep_503_says() -> None:
    assert normalized("Typing_Extensions") == normalized("typing.extensions") == "typing-extensions"


@pytest.mark.parametrize(
    ("doctored", "expected"),
    [
        (f"numpy>=1.23 \\\n    --hash={HASH}\n", "does not pin"),
        ("-i https://mirror.example\n", "does not pin"),
        (f"numpy @ https://mirror.example/numpy.whl \\\n    --hash={HASH}\n", "does not pin"),
        ("numpy==1.23.5\n", "no sha256 hash"),
        ("numpy==1.23.5 \\\n    --hash=md5:0a0a\n", "no sha256 hash"),
        (f"numpy==1.23.5 \\\n    --hash={HASH[:-1]}\n", "no sha256 hash"),
    ],
)
def test_a_doctored_line_is_refused_by_name(doctored: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected) as error:
        read_pins(LOCK + doctored, "a.lock")
    assert "a.lock" in error.value.message
    assert "make lock" in error.value.cure

"""A lock has a line that pins nothing and is indented below a pin.

Before, it was taken for a part of the pin, and the installer obeyed it: another index, or code that is built here.
"""

from __future__ import annotations

import pytest

from ndrepro.execution.environments.lockfile import read_pins
from provenance.errors import UsageError

HASH = f"--hash=sha256:{'a' * 64}"
PIN = f"numpy==2.4.6 ; python_full_version < '3.12' \\\n    {HASH} \\\n    {HASH}\n    # via torch\n"


@pytest.mark.parametrize(
    "more",
    [
        "    -i https://example.org/simple\n",
        "    --find-links /tmp\n",
        "  -e /tmp/evil\n",
        "  -r /tmp/more.txt\n",
        f"  evil @ https://example.org/evil.tar.gz {HASH}\n",
        "  evil==1.0\n",
        "\r-e /tmp/evil\n",
        "\x0c-e /tmp/evil\n",
    ],
)
def test_no_line_of_a_lock_hides_behind_a_pin(more: str) -> None:
    assert [len(pin.hashes) for pin in read_pins(PIN, "a lock")] == [2], "the control"
    with pytest.raises(UsageError, match=r"does not pin a version|line below that is no sha256 hash"):
        read_pins(f"{PIN}{more}", "a lock")

"""The newest Python of Debian: a fresh clone sets itself up with it, trains, and verifies what others signed.

Needs the root that `.ci/engines` makes, and the package index, as set-up does.
"""

from pathlib import Path

import pytest
from real_engines import SMALL, need, run

pytestmark = [pytest.mark.engines, pytest.mark.timeout(1200)]

# no version manager's Python, nothing that this machine has installed, and no options of the make that runs the tests
PLAIN = (
    "env",
    "-u",
    "MAKEFLAGS",
    "-u",
    "ARGS",
    "-u",
    "PYENV_ROOT",
    "-u",
    "PYTHON",
    "-u",
    "PYTHONPATH",
    "PATH=/usr/bin:/bin",
    "LANG=C.UTF-8",
)


@pytest.fixture(scope="module")
def checkout(clone: Path, scratch: Path) -> Path:
    """A clone whose .venv was made inside the root, by its own Python."""
    need("newest-debian")
    place = scratch / "newest"
    run("git", "clone", "--quiet", str(clone), str(place))
    run("newest-debian", *PLAIN, "make", "env", cwd=place)
    return place


def inside(checkout: Path, *words: str) -> str:
    return run("newest-debian", *PLAIN, f"NDREPRO_HOME={checkout.parent / 'newest-key'}", *words, cwd=checkout)


def test_it_is_newer_than_the_pythons_of_the_matrix(checkout: Path) -> None:
    assert inside(checkout, ".venv/bin/python", "-V").split()[1].startswith("3.14.")


def test_it_trains_and_verifies_as_any_other(checkout: Path) -> None:
    inside(checkout, ".venv/bin/ndrepro", "run", "lenet_nd_1_digits", *SMALL)
    assert "verified: 14 checks passed" in inside(checkout, "make", "verify")


def test_it_verifies_a_run_that_was_signed_elsewhere(checkout: Path) -> None:
    kept = checkout / "docs" / "runs" / "lenet_nd_1"
    words = ["--manifest-only", "--key", str(kept / "author.pub"), str(kept / "manifest.dsse.json")]
    assert "verified" in inside(checkout, ".venv/bin/ndrepro", "verify", *words)

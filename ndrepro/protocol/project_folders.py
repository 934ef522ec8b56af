"""Where this project's packages and its own data lie: in a checkout, and in an installed copy.

folder           in a checkout      in an installed copy (pyproject.toml, tool.hatch)
environments     at its top         in the package ndrepro
studies          at its top         in the package ndrepro
published        at its top         in the package ndrepro
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]
# holds the packages ndrepro and provenance: the top of a checkout, or site-packages
CODE = _PACKAGE.parent


def packages_of(code: Path) -> tuple[Path, ...]:
    """The packages in a folder of this project's code: what a training process imports of it."""
    return (code / "ndrepro", code / "provenance")


def project_folder(name: str) -> Path:
    """The folder of that name: the copy that a wheel brought, else the checkout's own."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else CODE / name

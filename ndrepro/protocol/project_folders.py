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
PACKAGES = ("ndrepro", "provenance")
_OUTER = ("analysis", "checklists", "cli", "execution", "exports", "integrations", "report", "reproduction")
# what no training process imports, of any commit
UNUSED_IN_TRAINING = tuple(f"ndrepro/{name}/" for name in _OUTER)


def packages_of(code: Path) -> tuple[Path, ...]:
    """The packages in a folder of this project's code, which training imports but for ``UNUSED_IN_TRAINING``."""
    return tuple(code / name for name in PACKAGES)


def project_folder(name: str) -> Path:
    """The folder of that name: the copy that a wheel brought, else the checkout's own."""
    installed = _PACKAGE / name
    return installed if installed.is_dir() else CODE / name

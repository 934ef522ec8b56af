"""Small site folders, with metadata as installers write them, and as they are left behind."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path


def site(root: Path, files: dict[str, str | bytes]) -> Path:
    """A folder with these files."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def row(name: str, content: str) -> str:
    """A line of a RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}\n"


INIT = "__version__ = '2.4.6'\n"
NUMPY: dict[str, str | bytes] = {
    "numpy/__init__.py": INIT,
    "numpy-2.4.6.dist-info/METADATA": "Metadata-Version: 2.4\nName: numpy\nVersion: 2.4.6\n",
    "numpy-2.4.6.dist-info/RECORD": row("numpy/__init__.py", INIT),
}

"""Git as a test calls it, and the captured source of a work tree with what must hold of every one."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import psutil

from provenance.capture import source


def git(folder: Path, *arguments: str, **variables: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], env={**os.environ, **variables}, capture_output=True, check=True
    )
    return os.fsdecode(done.stdout).strip()


def capture(start: Path, into: Path | None = None, **options: Any) -> dict[str, Any]:
    """The captured source; it must be JSON, name every field, and leave no process behind."""
    before = psutil.Process().children()  # other tests may have left multiprocessing's
    found = source.capture(start, into, **options)
    json.dumps(found, ensure_ascii=False).encode("utf-8")
    assert set(found) == {
        *("root", "commit", "tree", "branch", "describe", "remotes", "shallow", "dirty", "changed"),
        *("submodules", "unwatched", "converted", "patch", "untracked", "excluded", "code"),
    }
    assert set(psutil.Process().children()) <= set(before)
    return found


def tree_of(top: Path) -> dict[str, tuple[str, bytes]]:
    """Every file of a work tree: kind, and content or target."""
    found = {}
    for path in sorted(top.rglob("*")):
        name = path.relative_to(top).as_posix()
        if name.split("/")[0] == ".git" or (path.is_dir() and not path.is_symlink()):
            continue
        kind = "x" if path.stat().st_mode & stat.S_IXUSR else "f"
        found[name] = ("l", os.fsencode(os.readlink(path))) if path.is_symlink() else (kind, path.read_bytes())
    return found


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def reason(found: dict[str, Any], field: str) -> str:
    assert list(found[field]) == ["unavailable"], found[field]
    return str(found[field]["unavailable"])

"""Environments that have a package installed editable, from a folder that no wheel filled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FINDER = """
import sys
from importlib.util import spec_from_file_location
MAPPING: dict[str, str] = {MAPPING}
class _Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        first, _, rest = name.partition('.')
        if first in MAPPING:
            place = MAPPING[first] + ('/' + rest.replace('.', '/') + '.py' if rest else '/__init__.py')
            return spec_from_file_location(name, place, submodule_search_locations=None if rest else [MAPPING[first]])
def install():
    sys.meta_path.append(_Finder)
"""


def environment(place: Path, imported: Path) -> Path:
    """An environment that imports from a folder, as ``pip install -e`` leaves it; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "__editable__.mypkg.pth").write_text(f"{imported}\n")
    return place / "bin" / "python"


def finding(place: Path, name: str, package: Path) -> Path:
    """An environment that finds a package by a module, as setuptools leaves it; its interpreter."""
    python = environment(place, place / "nothing")
    (packages,) = place.glob("lib/python*/site-packages")
    finder = f"__editable___{name}_1_0_finder"
    (packages / f"{finder}.py").write_text(FINDER.replace("{MAPPING}", repr({name: str(package)})))
    (packages / "__editable__.mypkg.pth").write_text(f"import {finder}; {finder}.install()\n")
    return python


def use(monkeypatch: pytest.MonkeyPatch, python: Path) -> None:
    monkeypatch.setenv("PATH", f"{python.parent}:{os.environ['PATH']}")

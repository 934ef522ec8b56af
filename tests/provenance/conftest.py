"""A small run, really recorded: a folder with a few files, a key home, a ledger. And a small repository."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from captured_source import git
from small_runs import signed_run, small_run

__all__ = ["signed_run", "small_run"]


@pytest.fixture
def own_git_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No setting of whoever runs the tests counts."""
    home = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    (home / ".gitconfig").write_text(
        '[user]\n name = A\n email = a@example.org\n[init]\n defaultBranch = main\n[protocol "file"]\n allow = always\n'
    )
    return home / ".gitconfig"


@pytest.fixture
def repository(tmp_path: Path, own_git_settings: Path) -> Path:
    """A small repository in a folder whose name is not simple, with everything committed."""
    top = tmp_path / "žluťoučký kůň"
    files = {
        "code/a.py": "one\ntwo\nthree\n\nfour\nfive\nsix\n",
        "code/b.py": "b\n",
        "code/naïve name.txt": "text",
        "dos.txt": "a\r\nb\r\n",
        "notes.md": "notes\n",
        ".gitignore": "ignored/\n*.log\n",
    }
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(text.encode())
    (top / "image.bin").write_bytes(bytes(range(256)) * 4)
    (top / "link").symlink_to("notes.md")
    git(tmp_path, "init", "-q", str(top))
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "first")
    return top

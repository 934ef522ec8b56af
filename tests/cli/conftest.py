"""Each test has its own key home, folder of runs and current folder; commands run in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import json_schemas
import pytest
from recorded_runs import Answer

from ndrepro.cli import main
from ndrepro.cli.display import output, terminal
from ndrepro.protocol.layout import RunsFolder


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of whoever runs the tests is seen or touched."""
    home = tmp_path / "home"
    monkeypatch.setenv("NDREPRO_HOME", str(home))
    monkeypatch.delenv("NDREPRO_RUNS", raising=False)
    monkeypatch.delenv("COLUMNS", raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return home


@pytest.fixture
def ndrepro(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run a command in this process."""

    def call(*words: str) -> Answer:
        terminal.console.cache_clear()
        code = main(words)
        captured = capsys.readouterr()
        return Answer(code, captured.out, captured.err)

    return call


@pytest.fixture(autouse=True)
def documents_have_their_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a command of a test prints with ``--json`` is valid under the command's schema."""
    written = output.document_text

    def checked(document: dict[str, Any]) -> str:
        text = written(document)
        json_schemas.validate(json.loads(text))
        return text

    monkeypatch.setattr(output, "document_text", checked)


@pytest.fixture
def runs() -> RunsFolder:
    """The folder of runs that commands look into when none is named."""
    return RunsFolder(Path("runs"))

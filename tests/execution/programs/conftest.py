"""Each test works in a folder of its own, with its own key home and folder of runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorded_programs import Programs


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    found = Programs(tmp_path)
    monkeypatch.chdir(found.work)
    return found

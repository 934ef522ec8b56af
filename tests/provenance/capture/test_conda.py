"""The packages of a conda environment, from the JSON files that conda keeps."""

from __future__ import annotations

import json
from pathlib import Path

from provenance.capture import conda

MKL = {
    "name": "mkl",
    "version": "2023.1.0",
    "build": "h213fc3f_46344",
    "channel": "https://repo.anaconda.com/pkgs/main/linux-64",
    "subdir": "linux-64",
    "sha256": "01" * 32,
    "md5": "02" * 16,
    "files": ["lib/libmkl_core.so.2"],
    "link": {"source": "/somewhere", "type": 1},
}


def test_every_package_with_version_build_channel_and_digest(tmp_path: Path) -> None:
    assert conda.capture(tmp_path) is None
    folder = tmp_path / "conda-meta"
    folder.mkdir()
    (folder / "history").write_text("==> 2024-01-01 <==\n")
    (folder / "mkl-2023.1.0-h213fc3f_46344.json").write_text(json.dumps(MKL, indent=2))
    (folder / "half-1-0.json").write_text('{"name": "half", "ver')
    (folder / "list-1-0.json").write_text("[]")
    (folder / "latin-1-0.json").write_bytes(b'{"name": "\xff"}')
    found = conda.capture(tmp_path)
    assert found is not None
    assert found["mkl"] == {key: MKL[key] for key in ("version", "build", "channel", "subdir", "sha256", "md5")}
    assert {name for name in found if "unavailable" in found[name]} == {
        "half-1-0.json",
        "list-1-0.json",
        "latin-1-0.json",
    }

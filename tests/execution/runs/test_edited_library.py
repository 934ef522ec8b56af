"""A run whose library was edited by hand: behind the same version and RECORD, its manifest names the file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any

from ndrepro.protocol.project_folders import CODE

SETTINGS = ("train_images=32", "test_images=16", "batch_size=16", "threads=1", "device=cpu")


def test_verify_warns_of_it_and_no_reproduction_with_it_is_clean(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", symlinks=True)
    here = Path(sysconfig.get_path("purelib"))
    (site,) = (tmp_path / "env").glob("lib/python3*/site-packages")
    # a copy: what is installed are links into a cache that every environment shares
    for name in ("safetensors", *(each.name for each in here.glob("safetensors-*.dist-info"))):
        shutil.copytree(here / name, site / name)
    (site / "others.pth").write_text(f"{here}\n{CODE}\n")
    edited = site / "safetensors" / "numpy.py"
    edited.write_text(edited.read_text() + "\nEDITED = True\n")

    def ndrepro(*words: str, code: int = 0) -> dict[str, Any]:
        command = [tmp_path / "env/bin/python", "-m", "ndrepro", *words, "--runs", tmp_path / "runs", "--json"]
        variables = {**os.environ, "NDREPRO_HOME": str(tmp_path / "home")}
        done = subprocess.run(command, env=variables, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    ndrepro("run", "lenet_bn_1_digits", *(word for each in SETTINGS for word in ("--set", each)))
    verdict = ndrepro("verify", "latest")
    assert verdict["ok"] is True
    (warning,) = verdict["warnings"]
    assert warning.startswith("safetensors: safetensors/numpy.py EDITED AFTER INSTALLATION: ")
    files = ndrepro("show", "latest")["manifest"]["runDetails"]["machine"]["imported_files"]
    assert list(files["edited"]) == ["safetensors/numpy.py"]
    assert {"numpy", "torch", "safetensors"} <= set(files["imported"])
    assert files["witness"]["checked"] > files["checked"]
    # the reviewer's library is the same edited file: equal bits, and no word of the library that is named
    again = ndrepro("reproduce", "latest", code=1)
    assert again["repeated"][0]["verdict"] == "identical" and again["verdict"] == "undecided"
    (flagged,) = (claim["evidence"] for claim in again["claims"] if claim["status"] == "flagged")
    edited_files = "edited libraries: 1 file (safetensors: safetensors/numpy.py)"
    assert flagged == f"the recorded run: {edited_files}; the repetition: {edited_files}"

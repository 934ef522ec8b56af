"""The runbook's line for Pyxis, in real Pyxis with real Enroot on a real cluster, where they were built from source.

No registry has either, so that CI skips this; test_slurm.py runs the line without Pyxis. NDREPRO_TESTS_PYXIS names the
plug-in's file, spank_pyxis.so. It passed with Pyxis 0.24.0 and Enroot 4.1.2.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import real_slurm
from real_engines import SMALL, need, run
from runbook_commands import pyxis_line

from ndrepro.execution.runs.run_lookup import read_recorded
from ndrepro.protocol.layout import RunFolder
from provenance.formats.digest import file_digest

PLUGIN = os.environ.get("NDREPRO_TESTS_PYXIS", "")
pytestmark = [
    pytest.mark.engines,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not PLUGIN or shutil.which("enroot") is None, reason="Pyxis and Enroot are in no registry"),
]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[dict[str, str]]:
    need(*real_slurm.PROGRAMS)
    made = real_slurm.Cluster(tmp_path / "slurm", plugin=f"required {PLUGIN} runtime_path={tmp_path / 'pyxis'}\n")
    try:
        made.start()
        yield made.variables
    finally:
        made.stop()


def test_a_step_trains_in_the_image_and_what_it_signed_verifies_outside(
    squashfs: str, cluster: dict[str, str], tmp_path: Path
) -> None:
    for name in ("runs", "node-keys"):
        (tmp_path / name).mkdir()
    (tmp_path / "ndrepro.sqsh").symlink_to(squashfs)
    run("sh", "-c", f"{pyxis_line()} {' '.join(SMALL)}", cwd=tmp_path, **cluster, PWD=str(tmp_path))
    (folder,) = (tmp_path / "runs" / "lenet_nd_1_digits").iterdir()
    image = read_recorded(RunFolder(folder)).manifest.machine["container"]["image"]
    assert image == {"name": "ndrepro.sqsh", "digest": f"sha256:{file_digest(Path(squashfs)).sha256}"}
    run(sys.executable, "-m", "ndrepro", "verify", str(folder), NDREPRO_HOME=str(tmp_path / "node-keys"))

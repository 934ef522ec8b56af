"""What a session of engine tests leaves in podman: the images that were there, and whatever a build still uses."""

import shutil
import subprocess
from pathlib import Path

import pytest
from real_engines import StoredImages, need, run

pytestmark = pytest.mark.engines


def test_what_was_made_since_is_removed_but_not_from_under_a_build(
    podman: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("buildah")
    storage = f'[storage]\ndriver = "vfs"\ngraphroot = "{tmp_path}/images"\nrunroot = "{tmp_path}/run"\n'
    (tmp_path / "storage.conf").write_text(storage, encoding="utf-8")
    monkeypatch.setenv("CONTAINERS_STORAGE_CONF", str(tmp_path / "storage.conf"))

    def make(name: str) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "file").write_text(name, encoding="utf-8")
        (folder / "Dockerfile").write_text("FROM scratch\nCOPY file /a\nCOPY file /b\n", encoding="utf-8")
        words = ["podman", "build", "--quiet", f"--tag=localhost/{name}", f"--tag=localhost/{name}-too", str(folder)]
        return run(*words).strip()

    kept = make("kept")
    before = StoredImages.now()
    used, unused = make("used"), make("unused")
    building = run("buildah", "from", used).strip()
    run("podman", "tag", unused, "localhost/kept")
    before.restore()
    after = StoredImages.now()
    assert {kept, used} == {each.removeprefix("sha256:") for each in after.identifiers} & {kept, used, unused}
    assert after.names["localhost/kept:latest"] == before.names["localhost/kept:latest"]
    run("buildah", "rm", building)
    before.restore()
    assert StoredImages.now() == before
    subprocess.run(["podman", "rmi", "--all", "--force"], capture_output=True)
    shutil.rmtree(tmp_path / "images", ignore_errors=True)

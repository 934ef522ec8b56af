"""A study with an image beside the main environment, on real engines: run, counted, compared, resumed, refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from real_engines import BASE, ROOT, run
from small_studies import write_study

from ndrepro.execution.containers.engines import ContainerChoice, pin
from ndrepro.protocol.image_reference import PinnedImage
from ndrepro.protocol.layout import RunFolder
from ndrepro.protocol.messages import Request, read_json

pytestmark = [pytest.mark.engines, pytest.mark.timeout(1200)]
SEEDS = 'seed = [0, 1], method = ["nd"]'


@pytest.fixture(params=["podman", "apptainer"])
def pinned(request: pytest.FixtureRequest) -> PinnedImage:
    """The image as each engine has it, with its digest."""
    fixture = {"podman": "image", "apptainer": "sif"}[request.param]
    return pin(ContainerChoice.from_words(request.param, str(request.getfixturevalue(fixture))))


class Bench:
    """A study file, a folder of runs and a key home, for ndrepro in this Python or another."""

    def __init__(self, folder: Path, python: str = sys.executable) -> None:
        self.folder = folder
        self.python = python

    def ndrepro(self, *words: str, code: int = 0) -> str:
        """Standard output, of a refusal standard error."""
        done = subprocess.run(
            [self.python, "-m", "ndrepro", *words],
            cwd=self.folder,
            env={**os.environ, "NDREPRO_HOME": str(self.folder / "keys"), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    def write(self, axes: str) -> None:
        write_study(self.folder, f"[grids.main]\naxes = {{ {axes} }}")

    @property
    def ledger(self) -> bytes:
        return (self.folder / "runs" / "ledger.jsonl").read_bytes()

    def requests(self) -> dict[RunFolder, Request]:
        """Every run, and what was asked of it."""
        found = [RunFolder(path.parent) for path in sorted(self.folder.glob("runs/lenet*/*/request.json"))]
        return {folder: Request.from_json(read_json(folder.request)) for folder in found}

    def trails(self, *, inside: bool) -> dict[int, bytes]:
        """The trails of runs in containers, or of those outside, by seed."""
        return {
            request.experiment.seed: folder.trail.read_bytes()
            for folder, request in self.requests().items()
            if (request.container is not None) is inside
        }


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_one_study_compares_an_image_with_the_main_environment(
    bench: Bench, pinned: PinnedImage, python: str, tmp_path: Path
) -> None:
    bench.write(f'environment = ["main", "{pinned}"], {SEEDS}')
    assert f"main, {pinned.label} ({pinned.image})" in bench.ndrepro("study", "plan", "mini.toml")
    done = json.loads(bench.ndrepro("study", "run", "mini.toml", "--jobs=2", "--json"))
    assert done["complete"] and done["states"] == {"done": 4}
    for folder in bench.requests():
        bench.ndrepro("verify", str(folder.root))
    inside = bench.trails(inside=True)
    assert set(inside) == set(bench.trails(inside=False)) == {0, 1}

    before = bench.ledger
    assert json.loads(bench.ndrepro("study", "run", "mini.toml", "--json"))["complete"]
    assert bench.ledger == before, "what is done is passed over"

    found = json.loads(bench.ndrepro("sensitivity", "runs", "--json"))
    assert found["reference"] == "main" and found["missing"] == []
    assert set(found["cells"]) == {"main", pinned.label}
    (bits,) = found["bits"]
    (pair,) = bits["pairs"]
    assert pair["pairs"] == 2 and not bits["without_trail"]
    # how many of them are equal is the libraries' doing: with the image's own, outside of it, all are
    same = Bench(tmp_path / "same", python)
    same.folder.mkdir()
    same.write(SEEDS)
    same.ndrepro("study", "run", "mini.toml", "--jobs=2")
    assert same.trails(inside=False) == inside and inside[0] != inside[1]
    one = next(folder for folder, request in bench.requests().items() if request.container)
    assert "verdict    identical" in bench.ndrepro("reproduce", str(one.root))

    # the control: the same study, of another image
    before = bench.ledger
    other = PinnedImage(pinned.engine, pinned.image, f"sha256:{'0' * 64}")
    bench.write(f'environment = ["main", "{other}"], {SEEDS}')
    assert json.loads(bench.ndrepro("study", "plan", "mini.toml", "--json"))["states"] == {"done": 2, "to do": 2}
    assert f"asked for is {other.digest}" in bench.ndrepro("study", "run", "mini.toml", code=3)
    assert bench.ledger == before


def test_a_study_is_resumed_in_the_image_that_it_was_begun_in(bench: Bench, image: str) -> None:
    bench.write('seed = [0], method = ["nd"]')
    bench.ndrepro("study", "run", "mini.toml", "--in=podman", f"--image={image}")
    bench.write(SEEDS)
    bench.ndrepro("study", "resume", "mini.toml")
    assert set(bench.trails(inside=True)) == {0, 1}
    assert "2 of 2" in bench.ndrepro("study", "status", "mini.toml")
    run("podman", "image", "exists", BASE)
    said = bench.ndrepro("study", "resume", "mini.toml", "--in=podman", f"--image={BASE}", code=2)
    assert "nothing of mini has been started in podman:" in said and "study resume mini.toml --in podman" in said
    bench.ndrepro("study", "resume", "mini.toml", "--in=podman", "--image=localhost/no-such-image", code=3)
    assert len(bench.requests()) == 2


def test_an_image_that_was_kept_with_its_study_is_loaded_again_when_it_is_gone(bench: Bench, image: str) -> None:
    tag = "localhost/ndrepro-kept:latest"
    (bench.folder / "Dockerfile").write_text(f'FROM {image}\nLABEL one="more"\n', encoding="utf-8")
    run("podman", "build", "--quiet", f"--tag={tag}", str(bench.folder))
    bench.write('seed = [0], method = ["nd"]')
    bench.ndrepro("study", "run", "mini.toml", "--in=podman", f"--image={tag}", "--archive-image")
    (archive,) = bench.folder.glob("runs/images/*.tar")
    (one,) = bench.requests()
    run("podman", "rmi", "--force", tag)
    assert "verdict    identical" in bench.ndrepro("reproduce", str(one.root))
    run("podman", "rmi", "--force", archive.stem)
    archive.unlink()
    said = bench.ndrepro("reproduce", str(one.root), code=3)
    assert f"no image {tag}" in said and "put its archive into" in said, "the control"

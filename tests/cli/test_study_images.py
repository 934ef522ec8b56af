"""``ndrepro study … --in ENGINE --image IMAGE``: a whole study in one image, and nowhere else by mistake."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_runs import Answer
from small_studies import write_study
from stand_in_engine import write_engine, write_image

from ndrepro.protocol.image_reference import PinnedImage

Command = Callable[..., Answer]
ONE = "[grids.main]\naxes = { method = ['bn'], seed = [0] }"


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PinnedImage:
    engine = write_engine(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{engine}{os.pathsep}{os.environ['PATH']}")
    return write_image(tmp_path / "one.sif")


def test_a_study_is_resumed_in_the_image_that_it_was_begun_in_and_in_no_other(
    ndrepro: Command, tmp_path: Path, image: PinnedImage
) -> None:
    study = str(write_study(tmp_path, ONE))
    inside = ("--in", "apptainer", "--image")
    started = ndrepro("study", "run", study, *inside, image.image)
    assert started.code == 0 and f"in {image.label} ({image.image})" in started.out
    (request,) = Path("runs").glob("*/*/request.json")
    assert json.loads(request.read_text())["container"]["digest"] == image.digest

    for verb in ("resume", "status", "plan"):
        answer = ndrepro("study", verb, study, "--json")
        (found,) = answer.json["runs"]
        assert (answer.code, found["state"]) == (0, "done"), verb
        assert PinnedImage.from_text(found["environment"]).key == image.key

    other = write_image(tmp_path / "two.sif", "another image")
    refused = ndrepro("study", "resume", study, *inside, other.image)
    what, cure = refused.err.splitlines()
    assert refused.code == 2
    assert f"nothing of mini has been started in {other.label} ({other.image})" in what
    assert f"it was started in {image.label}" in cure and f"--image {image.image}@{image.digest}" in cure

    outside = ndrepro("study", "plan", study, *inside, other.image)
    assert f"note       1 of the same experiments were run in {image.label}, and do not count" in outside.out
    assert outside.out.splitlines()[-1].endswith(f"--in apptainer --image {other.image}@{other.digest}")
    assert len(list(Path("runs").glob("*/*/request.json"))) == 1


@pytest.mark.parametrize(
    ("file", "words", "code", "said"),
    [
        ("one.sif", (), 2, "mini names 'torch-2.8.0' in grids.main, and would all be run in apptainer:"),
        ("one.sif@sha256:" + "0" * 64, ("--grid", "plain"), 2, "would all be run in apptainer:000000000000"),
        ("none.sif", (), 3, "none.sif: no such image file"),
    ],
)
def test_what_cannot_be_meant_or_had_starts_nothing(
    ndrepro: Command, tmp_path: Path, image: PinnedImage, file: str, words: tuple[str, ...], code: int, said: str
) -> None:
    grids = "[grids.main]\naxes = { method = ['bn'], environment = ['main', 'torch-2.8.0'] }\n"
    study = str(write_study(tmp_path, grids + "[grids.plain]\naxes = { method = ['nd'] }"))
    answer = ndrepro("study", "run", study, "--in", "apptainer", "--image", str(tmp_path / file), *words)
    assert (answer.code, said in answer.err) == (code, True), answer.err
    assert not Path("runs").exists()


def test_an_image_that_is_another_one_by_now_starts_nothing(
    ndrepro: Command, tmp_path: Path, image: PinnedImage
) -> None:
    study = str(write_study(tmp_path, ONE))
    pinned = f"{image.image}@{image.digest}"
    write_image(Path(image.image), "written anew")
    for verb, code, said in (
        ("run", 3, f"asked for is {image.digest}"),
        ("resume", 2, "nothing of mini has been started"),
    ):
        answer = ndrepro("study", verb, study, "--in", "apptainer", "--image", pinned)
        assert (answer.code, said in answer.err) == (code, True), answer.err
    assert not Path("runs").exists()

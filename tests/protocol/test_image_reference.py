"""A container image as an environment of a study: pinned, or not at all."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from ndrepro.execution.containers.engines import ENGINES
from ndrepro.protocol import image_reference
from ndrepro.protocol.errors import UsageError
from ndrepro.protocol.experiment.experiment import Experiment
from ndrepro.protocol.image_reference import PinnedImage, key_of, label_of, located, recorded_in
from ndrepro.protocol.messages import Container, Request
from ndrepro.protocol.study.study import Study, identity, inside
from ndrepro.protocol.study.study_schema import from_document

A, B = (f"sha256:{letter * 64}" for letter in "ab")
HEAD = {"title": "t", "settings": {"arch": "lenet", "method": "bn", "epochs": 1, "dataset": "digits"}}


def study(*environments: str, **grid: object) -> Study:
    axes = {"environment": list(environments)} if environments else {"seed": [0, 1]}
    return from_document("mini", {**HEAD, "grids": {"main": {"axes": axes, **grid}}}, "mini.toml")


@pytest.mark.parametrize(
    "text", [f"podman:ndrepro@{A}", f"docker:host:5000/ndrepro:1.2@{A}", f"apptainer:/a b/x@sha256:y.sif@{A}"]
)
def test_an_image_is_its_text_and_back(text: str) -> None:
    assert str(PinnedImage.from_text(text)) == text
    assert image_reference.is_image(text)
    assert not image_reference.is_image("torch-2.8.0") and not image_reference.is_image("main")


def test_every_engine_can_be_named() -> None:
    assert set(image_reference.ENGINES) == set(ENGINES)


@pytest.mark.parametrize(
    ("text", "said", "cure"),
    [
        ("podman:ndrepro:latest", "no digest", "podman image inspect"),
        ("apptainer:ndrepro.sif", "no digest", "sha256sum FILE"),
        (f"docker:@{A}", "no digest", "docker image inspect"),
        ("podman:ndrepro@sha256:12", "'12' is no SHA-256", "64 lower-case"),
        (f"podman:ndrepro@sha256:{'A' * 64}", "no SHA-256", "64 lower-case"),
    ],
)
def test_an_image_that_could_become_another_is_refused_with_file_key_and_cure(text: str, said: str, cure: str) -> None:
    assert len(study("main", f"podman:ndrepro@{A}").runs()) == 2
    with pytest.raises(UsageError) as wrong:
        study("main", text)
    assert wrong.value.message.startswith(f"mini.toml: grids.main.axes: environment={text!r}: ")
    assert said in wrong.value.message and cure in wrong.value.cure


def test_what_an_image_is_called_is_no_part_of_what_it_is() -> None:
    asked = Experiment.from_name("lenet_bn_1_digits", {})
    named = identity(asked, f"podman:ndrepro:latest@{A}")
    assert named == identity(asked, f"podman:localhost/other:1@{A}")
    others = (f"podman:ndrepro:latest@{B}", f"docker:ndrepro:latest@{A}", "main", "torch-2.8.0")
    assert named not in {identity(asked, other) for other in others}
    with pytest.raises(UsageError, match="comes twice"):
        study(f"podman:one@{A}", f"podman:two@{A}")


def test_runs_are_labelled_shortly() -> None:
    labels = [run.label for run in study("main", f"podman:ndrepro:latest@{A}").runs()]
    assert labels == ["lenet_bn_1_digits", "lenet_bn_1_digits podman:aaaaaaaaaaaa"]
    assert label_of("torch-2.8.0") == key_of("torch-2.8.0") == "torch-2.8.0"


def test_several_processes_are_not_started_in_an_image() -> None:
    with pytest.raises(UsageError, match=r"grids.main.axes: environment='podman:aaaaaaaaaaaa': processes=2"):
        study(f"podman:ndrepro@{A}", settings={"processes": 2})


def test_a_recorded_run_has_the_name_of_each_digest_of_its_image() -> None:
    found = Container("podman", "5", "ndrepro", A, B)
    request = Request(Experiment.from_name("lenet_bn_1_digits", {}), "data", container=found)
    assert request.environments == recorded_in("main", asdict(found)) == (f"podman:ndrepro@{B}", f"podman:ndrepro@{A}")
    file = replace(found, engine="apptainer", image="/images/one.sif")
    assert recorded_in("main", asdict(file)) == (f"apptainer:/images/one.sif@{file.digest}",), "its label names no file"
    assert recorded_in("", None) == ("main",)
    assert recorded_in("torch-2.8.0", None) == ("torch-2.8.0",)


def test_a_file_is_found_from_any_folder() -> None:
    here = PinnedImage.from_text(located(f"apptainer:x.sif@{A}"))
    assert here.image.endswith("/x.sif") and here.image.startswith("/")
    assert located(f"podman:x@{A}") == f"podman:x@{A}" and located("main") == "main"


def test_a_whole_study_is_moved_into_an_image_unless_it_names_environments() -> None:
    image = PinnedImage.from_text(f"podman:ndrepro@{A}")
    moved = inside(study(), image)
    assert {run.environment for run in moved.runs()} == {str(image)}
    assert [run.label for run in moved.runs()] == [run.label for run in study().runs()]
    for named in (study("main", "torch-2.8.0"), study("main", str(image)), study("main")):
        with pytest.raises(UsageError, match="would all be run in podman:aaaaaaaaaaaa") as wrong:
            inside(named, image)
        assert "leave --in out" in wrong.value.cure

"""What can be said of containers without an engine; with real ones: tests/engines/test_containers.py."""

from itertools import pairwise
from pathlib import Path

import pytest
from real_runs import Bench

from ndrepro.execution.containers import apptainer, enroot
from ndrepro.execution.containers.command_image import command_image
from ndrepro.execution.containers.container_spec import Enclosure
from ndrepro.execution.containers.engine_variables import engine_variables
from ndrepro.execution.containers.engines import DEFAULT_IMAGE, ContainerChoice, pin
from ndrepro.execution.reproduce.reexecute import container_differences
from ndrepro.protocol.errors import EngineError, UsageError
from ndrepro.protocol.image_reference import PinnedImage
from ndrepro.protocol.messages import Container, Request

DIGEST = f"sha256:{'a' * 64}"
FOUND = Container("podman", "4.3.1", "ndrepro:latest", DIGEST, f"sha256:{'b' * 64}", "580.1")


def test_a_request_keeps_its_container(bench: Bench) -> None:
    request = Request(bench.experiment(), "data", container=FOUND)
    assert Request.from_json(request.to_json()) == request
    older = {key: value for key, value in request.to_json().items() if key != "container"}
    assert Request.from_json(older).container is None


def test_a_recorded_container_is_asked_for_by_either_digest() -> None:
    wanted = ContainerChoice.recorded(FOUND)
    assert (wanted.engine, wanted.image, wanted.digests) == ("podman", "ndrepro:latest", FOUND.digests)


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_an_image_is_read_from_its_option_and_written_back(engine: str) -> None:
    assert ContainerChoice.from_words(engine, None) == ContainerChoice(engine, DEFAULT_IMAGE)
    pinned = ContainerChoice.from_words(engine, f"host:5000/ndrepro:1@{DIGEST}")
    assert (pinned.image, pinned.digests) == ("host:5000/ndrepro:1", frozenset({DIGEST}))
    assert (
        ContainerChoice.pinned(PinnedImage(engine, pinned.image, DIGEST))
        == pinned
        == ContainerChoice.pinned(pin(pinned))
    )


@pytest.mark.parametrize(
    ("engine", "image", "said"),
    [
        ("rkt", None, "not an engine"),
        ("apptainer", None, "no --image"),
        ("enroot", None, "no --image"),
        ("podman", "ndrepro@sha256:12", "no SHA-256"),
        ("podman", f"ndrepro@sha256:{'A' * 64}", "no SHA-256"),
    ],
)
def test_options_that_make_no_sense_are_refused(engine: str, image: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        ContainerChoice.from_words(engine, image)


def write_program(path: Path, text: str = "") -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_only_the_places_of_apptainers_files_reach_it_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path / "apptainer")
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("APPTAINER_BIND", "APPTAINERENV_X", "SINGULARITY_NV", "SINGULARITYENV_Y", "APPTAINER_CACHEDIR"):
        monkeypatch.setenv(name, "site")
    monkeypatch.delenv("NDREPRO_APPTAINER_PASS", raising=False)

    def passed() -> set[str]:
        return {name for name in apptainer._variables({"A": "1"}) if name.startswith(("APPTAINER", "SINGULARITY"))}

    assert passed() == {"APPTAINER_CACHEDIR", "APPTAINERENV_A"}
    monkeypatch.setenv("NDREPRO_APPTAINER_PASS", "APPTAINER_BIND")
    assert passed() == {"APPTAINER_CACHEDIR", "APPTAINERENV_A", "APPTAINER_BIND"}
    monkeypatch.setenv("NDREPRO_APPTAINER_PASS", "HOME")
    with pytest.raises(UsageError, match="HOME is no variable of Apptainer"):
        apptainer._variables({})


def test_no_engine_gets_the_secrets_of_other_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an engine does for an image is done with its variables. Before: only the key's were withheld."""
    write_program(tmp_path / "apptainer")
    monkeypatch.setenv("PATH", str(tmp_path))
    kept = ("XDG_RUNTIME_DIR", "https_proxy", "HTTPS_PROXY", "LC_ALL", "CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID")
    for name in ("GITHUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "SSH_AUTH_SOCK", "SLURM_JWT", "NDREPRO_HOME", *kept):
        monkeypatch.setenv(name, "x")
    for seen in (apptainer._variables({}), enroot._variables(), engine_variables()):
        assert {name for name, value in seen.items() if value == "x"} == {*kept} and seen["PATH"] == str(tmp_path)
    # nor one that is asked for the image of a recorded command; before, it had all
    write_program(tmp_path / "podman", f"/usr/bin/env > {tmp_path / 'seen'}")
    monkeypatch.setenv("CONTAINER_HOST", "x")
    command_image(tmp_path / "podman", ("podman", "run", "image"), tmp_path, tmp_path)
    lines = (tmp_path / "seen").read_text().splitlines()
    assert {line.removesuffix("=x") for line in lines if line.endswith("=x")} == {*kept, "CONTAINER_HOST"}


def test_singularity_ce_is_called_as_documented_where_there_is_no_apptainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No registry has SingularityCE: what it is asked is tested here, and that it takes it by its manual alone."""
    write_program(tmp_path / "singularity", 'echo "singularity-ce version 4.3.1"')
    monkeypatch.setenv("PATH", str(tmp_path))
    words = apptainer.words("x.sif", Enclosure(("true",), {}, readable=(Path("/d"),)))
    assert words[0] == str(tmp_path / "singularity") and words[-2:] == ["x.sif", "true"]
    assert set(apptainer._variables({"A": "1", "HOME": "/tmp"})) & {"SINGULARITYENV_A", "APPTAINERENV_A"} == {
        "SINGULARITYENV_A"
    }
    (tmp_path / "x.sif").touch()
    assert apptainer.find("apptainer", str(tmp_path / "x.sif")).engine_version == "4.3.1"


def test_paths_with_commas_and_quotes_stay_whole_in_apptainers_mounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_program(tmp_path / "apptainer")
    monkeypatch.setenv("PATH", str(tmp_path))
    words = apptainer.words("x.sif", Enclosure(("true",), {}, writable=(Path('/a,b"c'),), readable=(Path("/d"),)))
    assert 'type=bind,"source=/a,b""c","destination=/a,b""c"' in words
    assert 'type=bind,"source=/d","destination=/d",ro' in words
    assert words[words.index("--network") + 1] == "none"
    assert "--nv" not in words
    assert "--nv" in apptainer.words("x.sif", Enclosure(("true",), {}, gpu=True))


def test_another_container_than_the_recorded_one_is_a_difference(bench: Bench) -> None:
    inside, outside = (Request(bench.experiment(), "data", container=each) for each in (FOUND, None))
    assert container_differences(inside, inside) == ()
    assert container_differences(outside, outside) == ()
    (said,) = container_differences(inside, outside)
    assert said == f"container: podman, ndrepro:latest ({DIGEST}) then, none now"


def test_enroots_command_line_is_the_documented_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether Enroot takes it, tests/engines/test_enroot.py asks Enroot, where it is installed."""
    program = tmp_path / "enroot"
    write_program(program, "echo 3.5.0")
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("ENROOT_MOUNT_HOME", "ENROOT_DATA_PATH", "NVIDIA_VISIBLE_DEVICES", "NDREPRO_HOME"):
        monkeypatch.setenv(name, "site")
    enclosure = Enclosure(("true",), {"A": "1"}, writable=(Path("/w"),), readable=(Path("/r"),))
    words = enroot.words("/x.sqsh", enclosure)
    assert words[:3] == [str(program), "start", "--net"] and words[-2:] == ["/x.sqsh", "true"]
    pairs = list(pairwise(words))
    assert ("--mount", "/w:/w:none:x-create=auto,bind,rw,nosuid,nodev") in pairs
    assert ("--mount", "/r:/r:none:x-create=auto,bind,ro,nosuid,nodev") in pairs
    assert ("--env", "A=1") in pairs and ("--env", "NVIDIA_VISIBLE_DEVICES=void") in pairs
    (runner,) = (Path(value) for option, value in pairs if option == "--rc")
    assert runner.read_text(encoding="utf-8") == 'exec "$@"\n'
    seen = enroot._variables()
    assert seen["ENROOT_DATA_PATH"] == "site" and seen["ENROOT_ROOTFS_WRITABLE"] == "no"
    assert not {"ENROOT_MOUNT_HOME", "NVIDIA_VISIBLE_DEVICES", "NDREPRO_HOME"} & seen.keys()
    with pytest.raises(UsageError, match="no path with a colon or white space"):
        enroot.words("/x.sqsh", Enclosure(("true",), {}, writable=(Path("/a b"),)))
    (tmp_path / "x.sqsh").touch()
    with pytest.raises(EngineError, match=r"enroot 3\.5\.0 cannot start a container without a network"):
        enroot.find("enroot", str(tmp_path / "x.sqsh"))

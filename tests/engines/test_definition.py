"""Singularity.def builds the image's content from the same lock, tests itself with a whole run, and runs."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from real_engines import CA, SMALL, run

pytestmark = [pytest.mark.engines, pytest.mark.timeout(1500)]
BUILDER = 2000  # building from a definition file fails for root; .ci/engines makes this user
LISTING = """
from importlib.metadata import distributions
print(sorted((each.metadata["Name"], each.version) for each in distributions()))
"""


@pytest.fixture(scope="module")
def built(apptainer: None, clone: Path, cpu_lock: Path, base: str, scratch: Path) -> Path:
    tree, out = scratch / "definition", scratch / "definition-out"
    shutil.copytree(clone, tree, ignore=shutil.ignore_patterns(".git"))
    shutil.copyfile(cpu_lock, tree / "runtime.lock")
    archive = scratch / "base-archive.tar"
    run("podman", "save", "--quiet", "--format", "docker-archive", "--output", str(archive), base)
    out.mkdir()
    variables = {"APPTAINER_TMPDIR": str(out), "APPTAINER_CACHEDIR": str(out / "cache")}
    if os.getuid() == 0:
        os.chown(out, BUILDER, BUILDER)
        variables["NDREPRO_APPTAINER_USER"] = str(BUILDER)
    words = ["apptainer", "build", "--mksquashfs-args", "-comp zstd -Xcompression-level 3"]
    words += ["--bind", f"{scratch / 'wheels'}:/mnt", *(["--bind", f"{CA}:{CA}"] if CA.exists() else [])]
    for name, value in {
        "BOOTSTRAP": "docker-archive",
        "FROM": str(archive),
        "PIP_OPTIONS": "--no-index --find-links /mnt",
        "REVISION": "tested",
    }.items():
        words += ["--build-arg", f"{name}={value}"]
    run(*words, str(out / "built.sif"), "Singularity.def", cwd=tree, **variables)
    archive.unlink()
    return out / "built.sif"


def test_it_has_the_libraries_of_the_image_and_no_tools(built: Path, image: str) -> None:
    inside = ["apptainer", "--quiet", "exec", "--containall", str(built)]
    theirs = run("podman", "run", "--rm", "--network=none", "--entrypoint=python3", image, "-c", LISTING)
    assert run(*inside, "python3", "-c", LISTING) == theirs
    assert "torch" in theirs
    assert run(*inside, "sh", "-c", "command -v gcc cc g++ make pip pip3 || true") == ""


def test_a_run_in_it_verifies(built: Path, tmp_path: Path) -> None:
    runs, keys = f"--runs={tmp_path / 'runs'}", str(tmp_path / "keys")
    words = [sys.executable, "-m", "ndrepro"]
    place = ["--in=apptainer", f"--image={built}"]
    run(*words, "run", "lenet_nd_1_digits", *SMALL, runs, *place, NDREPRO_HOME=keys)
    run(*words, "verify", "lenet_nd_1_digits", runs, NDREPRO_HOME=keys)


def test_what_it_is_can_be_read_off_it(built: Path) -> None:
    said = run("apptainer", "inspect", str(built))
    assert "org.opencontainers.image.revision: tested" in said


def test_apptainer_signs_it_with_a_key_and_refuses_another(built: Path, tmp_path: Path) -> None:
    """The last test of this file: signing changes it."""
    for name in ("own", "other"):
        run("openssl", "genpkey", "-algorithm", "ed25519", "-out", str(tmp_path / f"{name}.pem"))
        run("openssl", "pkey", "-in", str(tmp_path / f"{name}.pem"), "-pubout", "-out", str(tmp_path / f"{name}.pub"))
    run("apptainer", "sign", "--key", str(tmp_path / "own.pem"), str(built))
    run("apptainer", "verify", "--key", str(tmp_path / "own.pub"), str(built))
    with pytest.raises(AssertionError, match="exit code"):
        run("apptainer", "verify", "--key", str(tmp_path / "other.pub"), str(built))

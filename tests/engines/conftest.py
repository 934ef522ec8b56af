"""Real engines for tests: podman, Apptainer and Slurm, each with a configuration of its own, in folders of its own.

`.ci/engines` installs them on a Debian machine. Where one is missing the tests that need it are skipped with the
reason; with CI set that is a failure. The image is built once, for the CPU, from a clone of the commit that is checked
out, on a base that mmdebstrap makes from wherever this machine's apt gets its packages.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_engines import BASE, CONTAINERS_CONF, IMAGE, ROOT, build, need, run

from ndrepro.execution.environments.interpreters import find_python
from ndrepro.protocol.experiment.determinism import INSTRUCTION_LIMITS


@pytest.fixture(scope="session", autouse=True)
def no_instruction_limits() -> None:
    """A container gets none of this machine's, so that what is compared with it must have none either."""
    for name in INSTRUCTION_LIMITS:
        os.environ.pop(name, None)


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """podman, set up so that it runs anywhere."""
    need("podman", "mmdebstrap", "runc")
    if os.getuid() == 0:
        path = tmp_path_factory.mktemp("podman") / "containers.conf"
        path.write_text(CONTAINERS_CONF, encoding="utf-8")
        os.environ["CONTAINERS_CONF"] = str(path)
    before = libraries()
    yield
    # a machine of CI is thrown away, and removing them takes a minute and a half
    if (made := libraries() - before) and not os.environ.get("CI"):
        subprocess.run(["podman", "rmi", "--force", *made], capture_output=True)
    os.environ.pop("CONTAINERS_CONF", None)


def libraries() -> set[str]:
    """The names of the images of libraries that builds share: a second build of the session with one lock has them."""
    words = ["podman", "image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "localhost/ndrepro-libraries"]
    return set(run(*words).split())


@pytest.fixture(scope="session")
def apptainer() -> None:
    """The apptainer command."""
    need("apptainer")


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder on a disk with space, readable for the ordinary user that builds from definition files."""
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"ndrepro-engines-{os.getpid()}"
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def clone(scratch: Path) -> Path:
    """The commit that is checked out, by itself: nobody's edits move it while images are built."""
    run("git", "clone", "--quiet", str(ROOT), str(scratch / "clone"))
    return scratch / "clone"


@pytest.fixture(scope="session")
def cpu_lock(clone: Path, scratch: Path) -> Path:
    """The lock with torch for the CPU; its wheels lie in ``wheels`` beside it."""
    run(
        sys.executable,
        str(clone / "tools" / "cpu_lock.py"),
        str(scratch / "wheels"),
        str(scratch / "cpu.lock"),
        "--python=3.11",
    )
    return scratch / "cpu.lock"


@pytest.fixture(scope="session")
def base(podman: None, scratch: Path) -> str:
    """A bare Debian as the base image; it has no Python, that the build must bring."""
    listing = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages")
    mirror = next(line.split()[0] for line in listing.splitlines() if line.endswith(" Debian"))
    archive = scratch / "base.tar"
    source = f"deb {mirror} bookworm main"
    words = ["mmdebstrap", "--quiet", "--variant=apt", "--include=ca-certificates", "bookworm", str(archive), source]
    run(*words)
    run("podman", "import", "--quiet", str(archive), BASE)
    archive.unlink()
    return BASE


@pytest.fixture(scope="session")
def image(podman: None, request: pytest.FixtureRequest) -> Iterator[str]:
    """The image for the CPU; NDREPRO_TESTS_IMAGE names one that is there, for those who change the tests."""
    if there := os.environ.get("NDREPRO_TESTS_IMAGE"):
        yield there
        return
    clone, base, lock = (request.getfixturevalue(name) for name in ("clone", "base", "cpu_lock"))
    build(clone, IMAGE, base, lock)
    yield IMAGE
    subprocess.run(["podman", "rmi", "--force", IMAGE], capture_output=True)
    if os.environ.get("CI"):  # elsewhere, what else is untagged may be somebody's
        subprocess.run(["podman", "image", "prune", "--force"], capture_output=True)


@pytest.fixture(scope="session")
def python(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Python outside of containers that has the image's own libraries: the very files, none installed anew."""
    root = run("podman", "image", "mount", image).strip()
    version = next(Path(root).glob("opt/ndrepro/lib/python3.*")).name
    folder = tmp_path_factory.mktemp("outside") / "venv"
    run(str(find_python(version.removeprefix("python"))), "-m", "venv", "--without-pip", str(folder))
    link = folder / "lib" / version / "site-packages" / "image.pth"
    link.write_text(f"{root}/opt/ndrepro/lib/{version}/site-packages\n", encoding="utf-8")
    yield str(folder / "bin" / "python")
    run("podman", "image", "unmount", image)


@pytest.fixture(scope="session")
def sif(apptainer: None, image: str, request: pytest.FixtureRequest) -> Path:
    """The same image as a file, made as `make sif` does; NDREPRO_TESTS_SIF names one that is there."""
    if there := os.environ.get("NDREPRO_TESTS_SIF"):
        return Path(there)
    clone, target = request.getfixturevalue("clone"), request.getfixturevalue("scratch") / "ndrepro.sif"
    words = [sys.executable, str(clone / "tools" / "image.py"), "sif", "--engine", "podman", "--tag", image]
    run(*words, "--out", str(target), cwd=clone)
    return target

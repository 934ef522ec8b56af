"""Real engines for tests: podman, Apptainer and Slurm, each with a configuration of its own, in folders of its own.

`.ci/engines` installs them on a Debian machine. Where one is missing the tests that need it are skipped with the
reason; with CI set that is a failure. The image is built once, for the CPU, from a clone of the commit that is checked
out, on a base that mmdebstrap makes from wherever this machine's apt gets its packages.

The files of tests run side by side, in two processes: what several of them need is made by whichever comes first, and
removed by whichever ends last. Two images stay, so that the next time nothing large is built: the base, and the
libraries of the image.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from real_engines import BASE, CONTAINERS_CONF, IMAGE, ROOT, StoredImages, build, made_once, need, run

from ndrepro.execution.environments.interpreters import find_python
from ndrepro.protocol.experiment.determinism import INSTRUCTION_LIMITS

# of a distribution that gets security updates
BASE_DAYS = 30
# the file that takes longest comes first, and those that wait go beside those that compute
FIRST = ("test_slurm", "test_containers", "test_docker", "test_study_images", "test_image", "test_runbooks")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files in the order in which the processes take them."""
    here = Path(__file__).parent
    places = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(FIRST)) if item.path.parent == here else -1)


@pytest.fixture(scope="session", autouse=True)
def no_instruction_limits() -> None:
    """A container gets none of this machine's, so that what is compared with it must have none either."""
    for name in INSTRUCTION_LIMITS:
        os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def scratch() -> Iterator[Path]:
    """A folder on a disk with space, readable for the ordinary user that builds from definition files.

    All processes of the session share it; the last to end removes it, and the images that were made.
    """
    # a few characters: the path of a Unix socket has at most 104, and Docker's own are deep below
    session = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))[:8]
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"ndrepro-engines-{session}"
    folder.mkdir(mode=0o755, exist_ok=True)
    with (folder / ".in-use").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        yield folder
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        if (stored := folder / "stored-images.json").exists():
            StoredImages.read(stored).restore()
            # what sessions left that did not come to their end; elsewhere it may be somebody's
            if os.environ.get("CI"):
                subprocess.run(["podman", "image", "prune", "--force"], capture_output=True)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def podman(scratch: Path) -> None:
    """podman, set up so that it runs anywhere."""
    need("podman", "mmdebstrap", "runc")
    if os.getuid() == 0:
        path = scratch / "containers.conf"
        path.write_text(CONTAINERS_CONF, encoding="utf-8")
        os.environ["CONTAINERS_CONF"] = str(path)
    made_once(scratch / "stored-images.json", lambda target: StoredImages.now().write(target))


@pytest.fixture(scope="session")
def apptainer() -> None:
    """The apptainer command."""
    need("apptainer")


@pytest.fixture(scope="session")
def clone(scratch: Path) -> Path:
    """The commit that is checked out, by itself: nobody's edits move it while images are built."""
    return made_once(scratch / "clone", lambda target: run("git", "clone", "--quiet", str(ROOT), str(target)))


@pytest.fixture(scope="session")
def cpu_lock(clone: Path, scratch: Path) -> Path:
    """The lock with torch for the CPU; its wheels lie in ``wheels`` beside it."""
    words = [sys.executable, str(clone / "tools" / "cpu_lock.py"), str(scratch / "wheels")]
    return made_once(scratch / "cpu.lock", lambda target: run(*words, str(target), "--python=3.11"))


@pytest.fixture(scope="session")
def base(podman: None, scratch: Path) -> str:
    """A bare Debian as the base image; it has no Python, that the build must bring."""
    made_once(scratch / "base.made", make_base)
    return BASE


def make_base(marker: Path) -> None:
    """Make the base image, where there is none of the last weeks."""
    inspect = ["podman", "image", "inspect", "--format", "{{.Created.Unix}}", BASE]
    found = subprocess.run(inspect, capture_output=True, text=True)
    if found.returncode or time.time() - int(found.stdout) > BASE_DAYS * 86_400:
        listing = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Created-By: Packages")
        mirror = next(line.split()[0] for line in listing.splitlines() if line.endswith(" Debian"))
        archive = marker.with_name("base.tar")
        source = f"deb {mirror} bookworm main"
        run("mmdebstrap", "--quiet", "--variant=apt", "--include=ca-certificates", "bookworm", str(archive), source)
        run("podman", "import", "--quiet", str(archive), BASE)
        archive.unlink()
    marker.touch()


@pytest.fixture(scope="session")
def image(podman: None, scratch: Path, request: pytest.FixtureRequest) -> str:
    """The image for the CPU; NDREPRO_TESTS_IMAGE names one that is there, for those who change the tests."""
    if there := os.environ.get("NDREPRO_TESTS_IMAGE"):
        return there
    clone, base, lock = (request.getfixturevalue(name) for name in ("clone", "base", "cpu_lock"))
    made_once(scratch / "image.digest", lambda target: target.write_text(build(clone, IMAGE, base, lock)))
    return IMAGE


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
    clone, scratch = (request.getfixturevalue(name) for name in ("clone", "scratch"))
    words = [sys.executable, str(clone / "tools" / "image.py"), "sif", "--engine", "podman", "--tag", image]
    return made_once(scratch / "ndrepro.sif", lambda target: run(*words, "--out", str(target), cwd=clone))


@pytest.fixture(scope="session")
def squashfs(scratch: Path, request: pytest.FixtureRequest) -> str:
    """The same image as a file for Enroot; NDREPRO_TESTS_SQSH names one that is there."""
    if there := os.environ.get("NDREPRO_TESTS_SQSH"):
        return there
    words = ["enroot", "import", "--output"], f"podman://{request.getfixturevalue('image')}"
    return str(made_once(scratch / "ndrepro.sqsh", lambda target: run(*words[0], str(target), words[1])))

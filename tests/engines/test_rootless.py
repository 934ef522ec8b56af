"""podman as an ordinary user has it: a run in a container, started by a user who is not root."""

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from real_engines import CONTAINERS_CONF, ROOT, SMALL, need, run

pytestmark = [pytest.mark.engines, pytest.mark.timeout(600)]
USER = "ndrepro-rootless"


@pytest.fixture
def rootless(image: str, scratch: Path) -> Iterator[dict[str, str]]:
    """That user's variables, with the image in its own store."""
    need("podman", "setpriv", "newuidmap")
    try:
        user = pwd.getpwnam(USER)
    except KeyError:
        pytest.fail("see .ci/engines") if os.environ.get("CI") else pytest.skip(f"no user {USER}: see .ci/engines")
    home = scratch / "rootless"
    for folder in (home, home / "run", home / "config" / "containers"):
        folder.mkdir(parents=True, exist_ok=True)
    (home / "config" / "containers" / "containers.conf").write_text(CONTAINERS_CONF, encoding="utf-8")
    (home / "config" / "containers" / "storage.conf").write_text('[storage]\ndriver = "overlay"\n', encoding="utf-8")
    for folder in (home, *home.rglob("*")):
        os.chown(folder, user.pw_uid, user.pw_gid)
    variables = {"HOME": str(home), "XDG_RUNTIME_DIR": str(home / "run"), "XDG_CONFIG_HOME": str(home / "config")}
    variables |= {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    with subprocess.Popen(["podman", "save", "--quiet", image], stdout=subprocess.PIPE) as saved:
        words = as_user("podman", "load", "--quiet")
        loaded = subprocess.run(words, cwd=home, env=variables, stdin=saved.stdout, capture_output=True, text=True)
    assert loaded.returncode == 0, loaded.stderr
    yield variables
    for pause in (home / "run").rglob("pause.pid"):  # podman keeps one process for its user namespace
        with suppress(ProcessLookupError):
            os.kill(int(pause.read_text()), signal.SIGKILL)


def as_user(*words: str) -> list[str]:
    """Reading everything is allowed, for a checkout in a home folder that nobody else may enter; nothing else is."""
    right = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", *right, *words]


def test_an_ordinary_users_run_in_podman_is_its_own_and_verifies(rootless: dict[str, str], image: str) -> None:
    home = Path(rootless["HOME"])
    words = as_user(sys.executable, "-m", "ndrepro")
    place = ["--in=podman", f"--image={image}", "--runs=runs"]
    done = subprocess.run(
        [*words, "run", "lenet_nd_1_digits", *SMALL, *place], cwd=home, env=rootless, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (folder,) = home.glob("runs/*/*/")
    owner = pwd.getpwnam(USER).pw_uid
    assert {path.stat().st_uid for path in (folder, *folder.iterdir())} == {owner}
    verified = subprocess.run([*words, "verify", str(folder)], cwd=home, env=rootless, capture_output=True, text=True)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert run("stat", "-c", "%U", str(folder / "weights.safetensors")).strip() == USER

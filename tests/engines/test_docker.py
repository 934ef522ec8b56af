"""Docker Engine as people have it: both stores of images, users remapped, a daemon that goes away.

The images are small, BusyBox and a file or two: what is tried is how images are built and containers started, for
which podman (test_containers.py) has whole runs.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from real_docker import CONFIGURATIONS, USER, Daemon
from real_engines import ROOT, need, run

from ndrepro.execution.containers import docker_engine, image_archive
from ndrepro.execution.containers.container_spec import Enclosure
from ndrepro.execution.containers.engines import ContainerChoice
from ndrepro.protocol.errors import EngineError
from ndrepro.protocol.image_reference import PinnedImage

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]
BUILD = (sys.executable, "tools/image.py", "build", "--engine=docker")
DOCKERFILE = """ARG BASE_IMAGE
ARG LIBRARIES=libraries
FROM scratch AS wheels
FROM ${BASE_IMAGE} AS libraries
ARG APT_SNAPSHOT=20240101T000000Z
COPY runtime.lock /made/
RUN --network=none --mount=type=secret,id=ca --mount=type=bind,from=wheels,target=/run/wheels \\
    touch /made/now && cat /run/wheels/* /run/secrets/ca 2>/dev/null || true
FROM ${LIBRARIES}
COPY f /made/f
ARG BASE_DIGEST=none
LABEL org.opencontainers.image.base.digest="${BASE_DIGEST}"
"""


@pytest.fixture(scope="module")
def base() -> str:
    """The name of the base image, which every daemon has."""
    return "localhost/ndrepro-busybox:latest"


def busybox(folder: Path) -> Path:
    """An archive of a root with Debian's BusyBox and its names in ``/bin``."""
    run("apt-get", "download", "-qq", "--option=APT::Sandbox::User=root", "busybox-static", cwd=folder)
    (package,) = folder.glob("busybox-static_*.deb")
    root = folder / "root"
    run("dpkg-deb", "--extract", str(package), str(root))
    for name in run(str(root / "bin" / "busybox"), "--list").split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    run("tar", "--create", "--owner=0", "--group=0", "--file", "root.tar", "-C", str(root), "bin", cwd=folder)
    return folder / "root.tar"


@pytest.fixture(scope="module")
def daemons(scratch: Path, base: str) -> Iterator[dict[str, Daemon]]:
    """One of each kind, with the base image."""
    need("dockerd")
    if os.getuid():
        pytest.fail("needs root") if os.environ.get("CI") else pytest.skip("needs root")
    folder = scratch / "docker"
    folder.mkdir()
    started: dict[str, Daemon] = {}
    try:
        for kind in CONFIGURATIONS:
            started[kind] = Daemon(folder, kind)
        root = busybox(folder)
        for daemon in started.values():
            daemon.wait_ready()
            run("docker", "import", str(root), base, **daemon.variables)
        yield started
    finally:
        for daemon in started.values():
            daemon.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=list(CONFIGURATIONS))
def daemon(daemons: dict[str, Daemon], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    chosen = daemons[request.param]
    monkeypatch.setenv("DOCKER_HOST", chosen.variables["DOCKER_HOST"])
    return chosen


@pytest.fixture(scope="module")
def repository(scratch: Path) -> Path:
    """A commit with the builder and a Dockerfile of a few seconds."""
    folder = scratch / "small-repository"
    (folder / "tools").mkdir(parents=True)
    for name in ("image.py", "image_times.py"):
        shutil.copy(ROOT / "tools" / name, folder / "tools")
    (folder / "Dockerfile").write_text(DOCKERFILE, encoding="utf-8")
    for name in ("f", "runtime.lock"):
        (folder / name).write_text(name, encoding="utf-8")
    run("git", "init", "--quiet", str(folder))
    commit(folder, "2024-05-01T10:00:00Z")
    return folder


def commit(folder: Path, when: str) -> None:
    roles = ("AUTHOR", "COMMITTER")
    who = {f"GIT_{role}_{what}": "a@b.c" for role in roles for what in ("NAME", "EMAIL")}
    run("git", "-C", str(folder), "add", ".")
    words = ["git", "-C", str(folder), "commit", "--quiet", "--message=small"]
    run(*words, **who, **{f"GIT_{role}_DATE": when for role in roles})


def layers(daemon: Daemon, image: str) -> list[str]:
    words = ["docker", "image", "inspect", "--format", "{{json .RootFS.Layers}}", image]
    return list(json.loads(run(*words, **daemon.variables)))


def test_two_builds_of_a_commit_have_one_digest(daemon: Daemon, repository: Path, base: str) -> None:
    words = [
        sys.executable,
        "tools/image.py",
        "build",
        "--engine=docker",
        "--tag=small:1",
        f"--base={base}",
        "--no-cache",
    ]
    first, again = (run(*words, cwd=repository, **daemon.variables).split()[-1] for _ in range(2))
    assert first == again
    inside = ["docker", "run", "--rm", "--network=none", "small:1", "stat", "-c", "%Y", "/made/now", "/made/f"]
    assert run(*inside, **daemon.variables).split() == ["1704067200", "1714557600"], "the archive's, and the commit's"
    label = '{{index .Config.Labels "org.opencontainers.image.base.digest"}}'
    digest = run("docker", "image", "inspect", "--format", label, "small:1", **daemon.variables).strip()
    manifest = run("docker", "image", "inspect", "--format", "{{.Id}}", base, **daemon.variables).strip()
    assert digest == (manifest if daemon.folder.name == "containerd" else ""), "of a manifest, where there is one"
    found = docker_engine.find("docker", "small:1")
    assert found.identifier == first


def test_a_later_commit_shares_every_layer_but_the_projects(
    daemon: Daemon, repository: Path, base: str, tmp_path: Path
) -> None:
    folder = tmp_path / "later"
    run("git", "clone", "--quiet", str(repository), str(folder))

    def build(tag: str, *more: str) -> list[str]:
        run(*BUILD, f"--tag={tag}", f"--base={base}", *more, cwd=folder, **daemon.variables)
        return layers(daemon, tag)

    first = build("small:3", "--no-cache")
    (folder / "f").write_text("another", encoding="utf-8")
    commit(folder, "2024-06-01T10:00:00Z")
    later = build("small:4", "--no-cache")
    assert (first[:-1], first[-1] == later[-1]) == (later[:-1], False)
    (folder / "runtime.lock").write_text("another", encoding="utf-8")
    commit(folder, "2024-06-01T10:00:00Z")
    control = build("small:5")
    assert [*layers(daemon, base), later[-1]] == [*control[: -len(first) + 1], control[-1]] and later != control


def test_wheels_and_certificates_reach_the_build_and_leave_nothing(
    daemon: Daemon, repository: Path, base: str, tmp_path: Path
) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "one.whl").write_text("of a wheel\n", encoding="utf-8")
    (tmp_path / "ca.pem").write_text("of a certificate\n", encoding="utf-8")
    words = [
        sys.executable,
        "tools/image.py",
        "build",
        "--engine=docker",
        "--tag=small:2",
        f"--base={base}",
        "--no-cache",
    ]
    given = [f"--wheels={tmp_path / 'wheels'}", f"--ca={tmp_path / 'ca.pem'}"]
    environment = {**os.environ, **daemon.variables, "HTTPS_PROXY": "http://proxy.example:1"}
    built = [
        subprocess.run([*words, *more], cwd=repository, env=environment, capture_output=True, text=True)
        for more in ([], given)
    ]
    seen = [(" of a wheel" in each.stderr, " of a certificate" in each.stderr) for each in built]
    assert seen == [(False, False), (True, True)], built[1].stderr
    assert built[0].stdout == built[1].stdout, "one digest"
    history = run("docker", "history", "--no-trunc", "small:2", **daemon.variables)
    assert "proxy.example" not in history
    missing = subprocess.run(
        [*words, "--ca=nowhere.pem"], cwd=repository, env=environment, capture_output=True, text=True
    )
    assert "error: nowhere.pem: no such file or folder" in missing.stderr


def test_an_image_that_is_gone_is_loaded_from_where_it_was_kept(
    daemon: Daemon, repository: Path, base: str, tmp_path: Path
) -> None:
    run(*BUILD, "--tag=small:6", f"--base={base}", cwd=repository, **daemon.variables)
    found = docker_engine.find("docker", "small:6")
    kept = image_archive.keep(PinnedImage("docker", "small:6", found.identifier), tmp_path / "images", tmp_path)
    run("docker", "image", "rm", "--force", found.identifier, **daemon.variables)
    wanted = ContainerChoice("docker", "small:6", frozenset({found.identifier}))
    with pytest.raises(EngineError, match="no image small:6"):
        image_archive.find_kept(wanted, "cpu", [tmp_path])
    loaded = image_archive.find_kept(wanted, "cpu", [kept.parent])
    assert (loaded.image, loaded.identifier) == (found.identifier, found.identifier)
    assert docker_engine.output("docker", loaded.image, Enclosure(("cat", "/made/f"), {})) == (0, "f")
    status, said = docker_engine.output("docker", loaded.image, Enclosure(("sh", "-c", "yes | head -c 67108864"), {}))
    assert status == 0 and len(said) < 32 << 20, "the engine keeps the end"
    archive = kept.rename(kept.with_name(f"{'0' * 64}.tar"))
    with pytest.raises(EngineError, match=f"{archive.name}: it is .*, expected sha256:0000"):
        image_archive.find_kept(replace(wanted, digests=frozenset({f"sha256:{'0' * 64}"})), "cpu", [kept.parent])


def test_selinux_labels_are_off_where_the_daemon_has_them(daemon: Daemon, base: str) -> None:
    """SELinux itself is not to be had on every machine; that the daemon takes the option is seen."""
    options = docker_engine.security_options("['name=seccomp,profile=builtin', 'name=selinux', 'name=cgroupns']")
    assert options == ["no-new-privileges", "label=disable"]
    assert docker_engine.security_options("['name=seccomp,profile=builtin']") == ["no-new-privileges"]
    words = ["docker", "run", "--rm", "--network=none", *(f"--security-opt={each}" for each in options), base, "true"]
    run(*words, **daemon.variables)


# a container in this process's own name: its exit code; then one whose log cannot be opened from inside
CALLER = """
import sys
from pathlib import Path
from ndrepro.execution.containers import docker_engine
from ndrepro.execution.containers.container_spec import Enclosure
base, folder = sys.argv[1], Path(sys.argv[2])
script = f"id -u; touch {folder}/made; exit 3"
enclosure = Enclosure(("sh", "-c", script), {}, writable=(folder,), log=folder / "log.txt")
print(docker_engine.start("docker", base, enclosure).wait(60))
unheard = folder / "elsewhere" / "log.txt"
unheard.parent.mkdir()
print(docker_engine.start("docker", base, Enclosure(("true",), {}, readable=(folder,), log=unheard)).wait(60))
"""


def test_a_container_writes_as_its_caller_and_is_heard_before_its_log_is_open(
    daemon: Daemon, base: str, scratch: Path
) -> None:
    """As root, and with rootless Docker as the daemon's own user, who is root inside."""
    user = USER if daemon.caller else os.getuid()
    folder = scratch / f"caller-{daemon.folder.name}"
    folder.mkdir()
    os.chown(folder, user, user)
    words = [*daemon.caller, sys.executable, "-c", CALLER, base, str(folder)]
    codes = run(*words, PYTHONPATH=str(ROOT), HOME=str(folder), **daemon.variables).split()
    assert codes[0] == "3" and codes[1] != "0"
    assert (folder / "log.txt").read_text() == ("0\n" if daemon.caller else f"{user}\n")
    assert (folder / "made").stat().st_uid == user
    assert "Read-only file system" in (folder / "elsewhere" / "log.txt").read_text()


def test_a_daemon_that_goes_away_counts_as_a_kill_and_nothing_hangs(
    daemons: dict[str, Daemon], base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last test of this daemon."""
    lost = daemons["remapped"]
    monkeypatch.setenv("DOCKER_HOST", lost.variables["DOCKER_HOST"])
    enclosure = Enclosure(("sleep", "600"), {}, writable=(tmp_path,), log=tmp_path / "log.txt")
    process = docker_engine.start("docker", base, enclosure)
    assert process.poll() is None
    lost.stop()
    assert process.wait(60) < 0

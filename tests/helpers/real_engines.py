"""What the tests of engines share: where a missing engine is said, how commands are run, how the image is built, and
what of it stays."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE = "localhost/ndrepro-base:latest"
IMAGE = "localhost/ndrepro-tests:latest"
# a second name of the libraries of that image, which stay for the next session
LIBRARIES = "localhost/ndrepro-tests-libraries:latest"
CA = Path("/etc/ssl/certs/ca-certificates.crt")
SMALL = ("--set=train_images=96", "--set=test_images=32", "--set=batch_size=16", "--threads=1")
# Some machines have control groups in both versions, which crun refuses, and limits that cannot be raised.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[network]
network_backend = "netavark"
"""


def need(*programs: str) -> None:
    """Skip, or in CI fail, where a program is missing."""
    os.environ["PATH"] = f"{os.environ['PATH']}{os.pathsep}/var/lib/ndrepro-engines/bin{os.pathsep}/usr/sbin"
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        reason = f"{', '.join(missing)} not installed: see .ci/engines"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def run(*words: str, cwd: Path = ROOT, **variables: str) -> str:
    """Run to success and answer with the standard output; both outputs are in the failure."""
    done = subprocess.run(words, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def sources(lock: Path) -> list[str]:
    """Where the build's packages come from: the wheels beside the lock, and this machine's certificates."""
    return [f"--wheels={lock.parent / 'wheels'}", *([f"--ca={CA}"] if CA.exists() else [])]


def build(clone: Path, tag: str, base: str, lock: Path, *more: str, **variables: str) -> str:
    """Build the image as `make image` does; its digest."""
    words = [sys.executable, str(clone / "tools" / "image.py"), "build", "--engine", "podman", "--tag", tag]
    return run(*words, "--base", base, "--lock", str(lock), *sources(lock), *more, cwd=clone, **variables).split()[-1]


def made_once(target: Path, make: Callable[[Path], object]) -> Path:
    """The file or folder that ``make`` writes, by whichever process of the session comes first; the others wait."""
    with target.with_name(f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = target.with_name(f".{target.name}.made")
        if not done.exists():
            make(target)
            done.touch()
    return target


@dataclass(frozen=True)
class StoredImages:
    """podman's images at one time: every identifier, and the one that each name means."""

    identifiers: tuple[str, ...]
    names: dict[str, str]

    @classmethod
    def now(cls) -> StoredImages:
        """What podman has."""
        lines = run("podman", "image", "ls", "--all", "--no-trunc", "--format", "{{.Id}} {{.Repository}}:{{.Tag}}")
        pairs = [line.split() for line in lines.splitlines()]
        names = {name: identifier for identifier, name in pairs if "<none>" not in name}
        return cls(tuple(dict.fromkeys(identifier for identifier, _ in pairs)), names)

    @classmethod
    def read(cls, path: Path) -> StoredImages:
        """What was written."""
        document = json.loads(path.read_text(encoding="utf-8"))
        return cls(tuple(document["identifiers"]), document["names"])

    def write(self, path: Path) -> None:
        """Write it down."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    def restore(self) -> None:
        """Have names mean what they meant, and remove what was made since, by whomever, unless a build still uses it.

        The base and the libraries of the image stay, and take the place of those of an earlier session.
        """
        now = StoredImages.now()
        libraries = _libraries(now)
        kept = {now.names.get(BASE, ""), libraries}
        replaced = {self.names[name] for name in (BASE, LIBRARIES) if name in self.names and libraries} - kept
        for name, identifier in self.names.items():
            if now.names.get(name) != identifier and identifier not in replaced and name not in (BASE, LIBRARIES):
                subprocess.run(["podman", "tag", identifier, name], capture_output=True)
        if libraries:
            run("podman", "tag", libraries, LIBRARIES)
        # those that others stand on are removed with the last of them
        made = [each for each in now.identifiers if each not in self.identifiers and each not in kept]
        # an interrupted session leaves these names; elsewhere they may be somebody's
        ours = re.compile(f"{re.escape(IMAGE)}|localhost/ndrepro:[0-9a-f]{{12}}")
        stale = list(filter(ours.fullmatch, now.names)) if os.environ.get("CI") else []
        unwanted = {*made, *replaced}
        # an image of two names is not removed by its identifier; --force would, and end the builds that stand on it
        names = [name for name, identifier in now.names.items() if identifier in unwanted and name not in self.names]
        for name in names + stale:
            subprocess.run(["podman", "untag", name, name], capture_output=True)
        subprocess.run(["podman", "rmi", "--ignore", *unwanted], capture_output=True)


def _libraries(stored: StoredImages) -> str:
    """The image of libraries that the tests' image stands on, "" where that was not built."""
    if IMAGE not in stored.names:
        return ""
    image = _layers(IMAGE)
    for name, identifier in stored.names.items():
        if name.startswith("localhost/ndrepro-libraries:") and (below := _layers(name)) == image[: len(below)]:
            return identifier
    return ""


def _layers(name: str) -> list[str]:
    return list(json.loads(run("podman", "image", "inspect", "--format", "{{json .RootFS.Layers}}", name)))

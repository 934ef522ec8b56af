"""What the tests of engines share: where a missing engine is said, how commands are run, how the image is built."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE = "localhost/ndrepro-base:latest"
IMAGE = "localhost/ndrepro-tests:latest"
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

"""Every command of the runbooks that need engines runs, on real ones."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import real_slurm
from real_engines import ROOT, need, sources
from runbook_commands import RUNBOOKS, run_all

pytestmark = [pytest.mark.engines, pytest.mark.timeout(1200)]


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    return {
        **os.environ,
        "NDREPRO_HOME": str(tmp_path / "keys"),
        "NDREPRO_RUNS": str(tmp_path / "runs"),
        "WORK": str(tmp_path),
    }


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    need(*real_slurm.PROGRAMS)
    made = real_slurm.Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        made.start()
        yield made.variables
    finally:
        made.stop()


def runbook(name: str) -> Path:
    return next(each for each in RUNBOOKS if each.stem == name)


def test_the_laptops(base: str, cpu_lock: Path, variables: dict[str, str]) -> None:
    """On a base without CUDA, with torch for the CPU; otherwise as it stands there."""
    words = [f"--engine podman --base {base} --lock {cpu_lock}", *sources(cpu_lock)]
    run_all(runbook("laptop"), {**variables, "ARGS": " ".join(words)})


def test_the_clusters(image: str, sif: Path, slurm: dict[str, str], variables: dict[str, str]) -> None:
    """``make sif`` finds the file of this very image, made by the same command, and keeps it."""
    target = ROOT / "dist" / "ndrepro.sif"
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(sif, target)
    run_all(runbook("cluster"), {**variables, **slurm, "ARGS": f"--engine podman --tag {image}"})

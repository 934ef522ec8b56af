"""Fixtures of the attacks: recorded runs for which nothing was trained, and one that was trained."""

import os
import venv
from collections.abc import Iterator

import pytest
from real_runs import Bench
from small_runs import signed_run, small_run

from ndrepro.execution.runs.run import Finished

__all__ = ["signed_run", "small_run"]


@pytest.fixture(scope="session", autouse=True)
def small_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The reviewer's Python has no distributions: each reproduction compares all that are there."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
        yield


@pytest.fixture(scope="session")
def author(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The folder of runs and the key of an author."""
    return Bench(tmp_path_factory.mktemp("author"))


@pytest.fixture(scope="session")
def honest(author: Bench) -> Finished:
    """A run of four epochs of six steps, with a checkpoint after each; tests copy it before they change it."""
    return author.run("lenet_nd_4_digits")

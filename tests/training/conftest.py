"""The miniature ImageNet, made once; one thread for each test and what its module shares."""

from collections.abc import Iterator

import pytest
import torch
from miniature_imagenet import Miniature, make


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return make(tmp_path_factory.mktemp("imagenet"))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads of two test processes on two cores wait for each other, up to ten times as long as they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

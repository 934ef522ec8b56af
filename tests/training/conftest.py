"""The miniature ImageNet, made once."""

import pytest
from miniature_imagenet import Miniature, make


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    return make(tmp_path_factory.mktemp("imagenet"))

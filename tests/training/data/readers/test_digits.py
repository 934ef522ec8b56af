"""The bundled digits come out the same everywhere, and a damaged file is named."""

import gzip
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from ndrepro.protocol.errors import DataError
from ndrepro.protocol.experiment.catalogue import DATASETS
from ndrepro.training.data.readers import digits


@pytest.fixture(scope="module")
def bundled() -> Path:
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"


def test_the_file_is_the_official_one_and_its_pixels_never_change(bundled: Path) -> None:
    described = digits.load(bundled).describe()
    assert described["canonical"] is True
    assert (described["train_images"], described["test_images"]) == (1437, 360)
    assert described["pixels_sha256"]["train"] == "6c99b4779071a2eecc863f36914b75f906b1b7bf169a2b6681f5af4a07231966"


def test_enlarging_is_bilinear(bundled: Path) -> None:
    from scipy.ndimage import zoom

    with gzip.open(bundled) as content:
        table = np.loadtxt(content, delimiter=",", max_rows=20)[:, :64].reshape(-1, 8, 8) * 255 / 16
    expected = zoom(table, (1, 4, 4), order=1, grid_mode=True, mode="nearest")
    assert np.abs(digits.load(bundled).train.images[:20, 0] - expected).max() <= 0.5


def test_the_recipe_normalises_the_training_pixels(bundled: Path) -> None:
    scaled = digits.load(bundled).train.images / 255
    assert abs(scaled.mean() - DATASETS["digits"].mean[0]) < 1e-4
    assert abs(scaled.std() - DATASETS["digits"].std[0]) < 1e-4


@pytest.mark.parametrize("damage", ["cut", "garbage", "rows", "missing"])
def test_a_damaged_file_is_named(bundled: Path, tmp_path: Path, damage: str) -> None:
    path = tmp_path / digits.FILE_NAME
    content = bundled.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "garbage":
        path.write_bytes(b"no gzip")
    elif damage == "rows":
        path.write_bytes(gzip.compress(gzip.decompress(content)[:1000].rpartition(b"\n")[0]))
    with pytest.raises(DataError, match=r"digits\.csv\.gz"):
        digits.load(tmp_path)

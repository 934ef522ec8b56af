"""Every s-th pixel of a batch, in pieces or by index, is every s-th pixel; adding back is the adjoint."""

from __future__ import annotations

import pytest
import torch

from ndrepro.training.deconv_kernels import pixels


@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("before", [0, 1, 5])
@pytest.mark.parametrize(("images", "height", "width", "step"), [(4, 3, 5, 9), (13, 2, 2, 9), (20, 1, 1, 9),
    (3, 4, 4, 36), (2, 8, 8, 4), (1, 2, 2, 9), (5, 3, 3, 1)])  # fmt: skip
def test_the_pixels_of_the_whole_batch_that_are_multiples_of_the_step(
    images: int, height: int, width: int, step: int, before: int, indexed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixels, "_by_index", lambda x, pieces: indexed)
    torch.manual_seed(0)
    x = torch.randn(images, 2, height, width, dtype=torch.float64)
    whole = torch.cat([torch.zeros(before, 2, height, width, dtype=torch.float64), x])
    numbered = whole.permute(0, 2, 3, 1).reshape(-1, 2)
    numbers = torch.arange(0, len(numbered), step)
    expected = numbered[numbers[numbers >= before * height * width]].t()
    columns = pixels.sample(x, step, before)
    assert torch.equal(columns.sort(1).values, expected.sort(1).values)

    gradient, image = torch.randn_like(columns), torch.zeros_like(x)
    pixels.add_back(image, gradient, step, before)
    assert torch.allclose((columns * gradient).sum(), (x * image).sum(), rtol=1e-12)
    assert int((image != 0).sum()) == columns.numel()

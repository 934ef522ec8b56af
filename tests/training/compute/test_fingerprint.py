"""The hash is the same computed in a tensor's memory and in one batch as on a GPU; what cannot be hashed is refused."""

import pytest
import torch

from ndrepro.training.compute.fingerprint import DeviceFingerprints, HostFingerprints, tensor_names


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"conv.weight": (64, 3, 3, 3), "big": (300, 301), "bias": (7,), "block": (8192,), "one more": (8193,)}
    made = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {**made, "step": torch.tensor(5), "counts": torch.arange(3), "double": torch.arange(5).double() / 3}


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.mark.parametrize("device", DEVICES)
def test_both_ways_give_the_same_bits(device: str) -> None:
    host = HostFingerprints(tensors()).compute()
    there = {name: tensor.to(device) for name, tensor in tensors().items()}
    assert torch.equal(DeviceFingerprints(there).compute().cpu(), host)


def test_both_ways_follow_a_change_in_place() -> None:
    state = tensors()
    ways = HostFingerprints(state), DeviceFingerprints(state)
    before = [way.compute() for way in ways]
    state["big"].view(-1).view(torch.int32)[90_299] ^= 1
    after = [way.compute() for way in ways]
    assert torch.equal(after[0], after[1])
    changed = (after[0] != before[0]).tolist()
    assert changed == [name == "big" for name in state]


def test_what_cannot_be_hashed_in_place_is_refused() -> None:
    with pytest.raises(ValueError, match="strides"):
        DeviceFingerprints({"turned": torch.rand(4, 6).t()})
    with pytest.raises(ValueError, match="half"):
        DeviceFingerprints({"half": torch.rand(4).half()})


def test_the_host_hashes_what_a_device_cannot() -> None:
    turned = torch.rand(4, 6).t()
    assert torch.equal(
        HostFingerprints({"x": turned}).compute(), HostFingerprints({"x": turned.contiguous()}).compute()
    )
    assert HostFingerprints({"half": torch.rand(3).bfloat16()}).compute().numel() == 1


def test_names_are_the_headers() -> None:
    names = tensor_names(tensors())
    assert (names[0].name, names[0].shape, names[0].dtype) == ("conv.weight", (64, 3, 3, 3), "float32")
    assert (names[5].shape, names[5].dtype) == ((), "int64")

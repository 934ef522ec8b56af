"""Every classification family of torchvision is converted; what a conversion cannot reach is listed, with why.

The networks are built on the meta device: shapes without numbers, so that even the wide ones take no memory.
"""

from __future__ import annotations

import pytest
import torch
from called_layers import never_called
from torch import nn
from torchvision import models

from ndrepro.training.layers.census import summary
from ndrepro.training.layers.convert import deconvolve

# the smallest of each family; the others are the same code with more layers or channels
FAMILIES = {
    "alexnet": "alexnet",
    "convnext": "convnext_tiny",
    "densenet": "densenet121",
    "efficientnet_b": "efficientnet_b0",
    "efficientnet_v2": "efficientnet_v2_s",
    "googlenet": "googlenet",
    "inception": "inception_v3",
    "maxvit": "maxvit_t",
    "mnasnet": "mnasnet0_5",
    "mobilenet_v2": "mobilenet_v2",
    "mobilenet_v3": "mobilenet_v3_small",
    "regnet": "regnet_y_400mf",
    "resnet": "resnet18",
    "resnext": "resnext50_32x4d",
    "shufflenet": "shufflenet_v2_x0_5",
    "squeezenet": "squeezenet1_1",
    "swin_": "swin_t",
    "vgg": "vgg11_bn",
    "vit": "vit_b_32",
    "wide_resnet": "wide_resnet50_2",
}

# names that end so are not called, and so not deconvolved in effect
OUT_OF_REACH = {
    "swin_t": (".attn.qkv", ".attn.proj"),  # their weights are read by a function
    "vit_b_32": (".self_attention.out_proj",),  # likewise, by MultiheadAttention; left as they are
    "googlenet": ("conv.conv", ".fc1", ".fc2"),  # heads of training alone: converted, not called in evaluation
    "inception_v3": ("conv0.conv", "conv1.conv", "AuxLogits.fc"),  # likewise
}


def built(name: str) -> nn.Module:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    # regnet works out its widths with tensors, which need numbers
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        return models.get_model(name, **options)


def test_every_classification_network_belongs_to_a_family() -> None:
    names = models.list_models(module=models)
    assert len(names) >= 80
    assert [name for name in names if not name.startswith(tuple(FAMILIES))] == []


@pytest.mark.parametrize("name", FAMILIES.values())
def test_a_family_is_converted_and_what_is_not_called_is_known(name: str) -> None:
    net = built(name)
    before = summary(net)
    conversion = deconvolve(net)
    after = summary(net)
    assert after.deconv2d_layers == before.conv2d_layers > 0
    assert after.batchnorm2d_layers == after.conv2d_layers == 0
    left = [change for change in conversion.left if change.before.endswith("Linear")]
    assert after.delinear_layers + len(left) == before.linear_layers
    assert all("MultiheadAttention" in change.why for change in left)
    size = 299 if name == "inception_v3" else 224
    missed = never_called(net, (1, 3, size, size))
    assert all(layer.endswith(OUT_OF_REACH.get(name, ())) for layer in missed)
    assert bool(missed) == (name in OUT_OF_REACH)

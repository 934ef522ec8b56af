"""The operations of transformers: attention, layer norm, embedding, GELU, softmax, Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ndrepro.training.operators.case import Case, draw

# (batch, heads, tokens, width of a head); 65 and 77 tokens are no multiple of any vector's length
ATTENTION = [(2, 4, 65, 32), (1, 12, 77, 64)]
# (tokens, width)
TOKENS = [(130, 256), (77, 384)]
VOCABULARY = 200
_STEPS = 3


def cases(dtype: torch.dtype) -> Iterator[Case]:
    """Every case, made when it is asked for. An operation that this torch lacks raises AttributeError when computed."""
    for shape in ATTENTION:
        heads = tuple(draw(name, *shape, dtype=dtype) for name in ("query", "key", "value"))
        yield Case("attention, written out", str(shape), _attention, heads)
        for causal in (False, True):
            name = "scaled_dot_product_attention" + (" causal" if causal else "")
            yield Case(name, str(shape), _Fused(causal), heads)
    for tokens, width in TOKENS:
        x, words = draw("tokens", tokens, width, dtype=dtype), str((tokens, width))
        affine = (draw("gain", width, dtype=dtype), draw("shift", width, dtype=dtype))
        yield Case("layer_norm", words, lambda x, w, b: F.layer_norm(x, x.shape[-1:], w, b), (x, *affine))
        yield Case("gelu", words, F.gelu, (x,))
        yield Case("gelu tanh", words, lambda x: F.gelu(x, approximate="tanh"), (x,))
        yield Case("silu", words, F.silu, (x,))
        yield Case("softmax", words, lambda x: torch.softmax(x, -1), (x,))
        yield Case("log_softmax", words, lambda x: torch.log_softmax(x, -1), (x,))
        projection = (draw("projection", 2 * width, width, dtype=dtype), draw("offset", 2 * width, dtype=dtype))
        yield Case("linear", f"{words} to {2 * width}", F.linear, (x, *projection))
        ids = torch.arange(4 * 50).remainder(37).mul(5).view(4, 50)  # each row of the table several times
        table = draw("table", VOCABULARY, width, dtype=dtype)
        yield Case("embedding", f"{VOCABULARY}, {width}", lambda w, i=ids: F.embedding(i, w), (table,))
    for name, optimizer, settings in (
        ("adam", torch.optim.Adam, {"lr": 1e-3}),
        ("adamw", torch.optim.AdamW, {"lr": 1e-3, "weight_decay": 0.01}),
    ):
        gradients = [draw(f"gradient {step}", 4097, dtype=dtype).detach() for step in range(_STEPS)]
        yield Case(
            name, f"{_STEPS} steps", _Stepped(optimizer, settings, gradients), (draw("values", 4097, dtype=dtype),)
        )


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]))
    return torch.softmax(scores, -1) @ value


class _Fused:
    """Torch's own attention, which came with 2.0."""

    def __init__(self, causal: bool) -> None:
        self._causal = causal

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """The result; raises AttributeError where this torch has none."""
        return F.scaled_dot_product_attention(query, key, value, is_causal=self._causal)


class _Stepped:
    """What an optimizer of torch makes of a parameter, and its state, after a few steps."""

    def __init__(self, optimizer: type[torch.optim.Optimizer], settings: dict[str, Any], steps: list[Tensor]) -> None:
        self._optimizer, self._settings, self._steps = optimizer, settings, steps

    def __call__(self, start: Tensor) -> tuple[Tensor, ...]:
        """The parameter, its gradients' mean and their squares' mean."""
        parameter = torch.nn.Parameter(start.detach().clone())
        optimizer = self._optimizer([parameter], **self._settings)
        for gradient in self._steps:
            parameter.grad = gradient.clone()
            optimizer.step()
        state = optimizer.state[parameter]
        return parameter.detach(), state["exp_avg"], state["exp_avg_sq"]

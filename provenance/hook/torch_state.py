"""What torch is set to: determinism, precision, threads, seeds, and how data are loaded. Reading changes nothing.

Of settings that torch renamed, the old name is not asked where the new one exists: torch warns or refuses then, and the
program would see the warning. No question here initializes a GPU.
"""

from __future__ import annotations

import gc
import os
import sys
import typing

# attributes of a DataLoader
_LOADER = ("num_workers", "batch_size", "drop_last", "pin_memory", "persistent_workers", "prefetch_factor")
_SCALER = ("_enabled", "_init_scale", "_growth_interval")
_LISTED = 20


def torch_flags(torch: typing.Any) -> dict[str, object]:
    """Each flag by name: a truth value, a whole number or text; ``None`` where this torch has none."""
    backends, c = torch.backends, torch._C
    renamed = hasattr(c, "_get_fp32_precision_getter")
    asked: dict[str, typing.Callable[[], object]] = {
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled,
        "deterministic_warn_only": lambda: torch.is_deterministic_algorithms_warn_only_enabled(),
        "deterministic_fill": lambda: torch.utils.deterministic.fill_uninitialized_memory,
        "cudnn_enabled": lambda: backends.cudnn.enabled,
        "cudnn_deterministic": lambda: backends.cudnn.deterministic,
        "cudnn_benchmark": lambda: backends.cudnn.benchmark,
        "mkldnn_enabled": lambda: backends.mkldnn.enabled,
        "matmul_fp16_reduced_precision": lambda: backends.cuda.matmul.allow_fp16_reduced_precision_reduction,
        "matmul_bf16_reduced_precision": lambda: backends.cuda.matmul.allow_bf16_reduced_precision_reduction,
        "default_dtype": lambda: str(torch.get_default_dtype()),
        "threads": torch.get_num_threads,
        "interop_threads": torch.get_num_interop_threads,
        "autocast": torch.is_autocast_enabled,
        "CUBLAS_WORKSPACE_CONFIG": lambda: os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    }
    if renamed:
        for name, backend, operation in _PRECISIONS:
            asked[name] = _precision(c, backend, operation)
    else:
        asked["cudnn_allow_tf32"] = lambda: backends.cudnn.allow_tf32
        asked["matmul_allow_tf32"] = lambda: backends.cuda.matmul.allow_tf32
        asked["float32_matmul_precision"] = lambda: torch.get_float32_matmul_precision()
    return {name: _plain(question) for name, question in asked.items()}


_PRECISIONS = (
    ("fp32_precision", "generic", "all"),
    ("fp32_precision_matmul", "cuda", "matmul"),
    ("fp32_precision_cudnn_conv", "cuda", "conv"),
    ("fp32_precision_mkldnn_matmul", "mkldnn", "matmul"),
)


def _precision(c: typing.Any, backend: str, operation: str) -> typing.Callable[[], object]:
    return lambda: c._get_fp32_precision_getter(backend, operation)


def _plain(question: typing.Callable[[], object]) -> object:
    try:
        answer = question()
    except Exception:
        return None
    return answer if answer is None or isinstance(answer, (bool, int, str)) else str(answer)


def seeds(torch: typing.Any) -> dict[str, str]:
    """The seed that each generator of torch was last given; of GPUs that are in use already."""
    found = {"torch": str(torch.initial_seed())}
    if torch.cuda.is_initialized():
        found["cuda"] = str(torch.cuda.initial_seed())
    return found


def loaders() -> list[str]:
    """The settings of each DataLoader and GradScaler that is alive, as text, without repetitions."""
    data = sys.modules.get("torch.utils.data.dataloader")
    loader = getattr(data, "DataLoader", None)
    found: dict[str, None] = {}
    for each in gc.get_objects():
        # never isinstance: asking a stranger's object for its class may run the program's code
        kind = type(each)
        if loader is not None and issubclass(kind, loader):
            found[_settings(kind.__name__, each.__dict__, _LOADER)] = None
        elif kind.__name__ == "GradScaler" and hasattr(each, "__dict__"):
            found[_settings("GradScaler", each.__dict__, _SCALER)] = None
    return list(found)[:_LISTED]


def _settings(name: str, attributes: dict[str, object], wanted: tuple[str, ...]) -> str:
    shown = [f"{each.lstrip('_')}={attributes[each]!r}"[:80] for each in wanted if each in attributes]
    sampler = attributes.get("sampler")
    if sampler is not None:
        shown.append(f"sampler={type(sampler).__name__}")
    return f"{name}({', '.join(shown)})"

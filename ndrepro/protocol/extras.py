"""What the light installation leaves out, and which extra of pyproject.toml installs it.

``pip install ndrepro`` verifies, shows, lists, compares, imports and records runs. Whatever needs more calls
``require`` before it starts any work; nothing is imported for the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

from ndrepro.protocol.errors import MissingExtra

# extra -> the modules that it is there for; pyproject.toml names their distributions
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "train": ("torch", "torchvision", "PIL", "sklearn", "pynvml", "uv"),
    "report": ("scipy", "statsmodels", "pandas", "threadpoolctl", "matplotlib", "jinja2"),
    "containers": ("docker",),
    "slurm": ("submitit",),
    "search": ("optuna",),
    "timestamps": ("rfc3161_client",),
    "sigstore": ("sigstore",),
    "datasets": ("pyarrow",),
}
# extras for those who use another tool of the field, or build the documentation: not in [all]
TOOLS: Mapping[str, tuple[str, ...]] = {
    "docs": ("sphinx", "myst_parser", "furo"),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "tensorboard": ("tensorboard",),
    "lightning": ("lightning",),
    "transformers": ("transformers", "accelerate"),
}
_EXTRA_OF = {module: extra for extra, modules in {**EXTRAS, **TOOLS}.items() for module in modules}


def require(*modules: str) -> None:
    """Check that modules of extras are installed. Raises MissingExtra for the first that is not."""
    for module in modules:
        if find_spec(module) is None:
            raise missing(module)


def missing(module: str) -> MissingExtra:
    """The error for a module, one of ``EXTRAS`` or ``TOOLS``, that is not installed."""
    extra = _EXTRA_OF[module]
    return MissingExtra(
        f"{module} is not installed: it is part of ndrepro's extra [{extra}]", f"pip install 'ndrepro[{extra}]'"
    )


def translated(error: BaseException) -> BaseException:
    """A failed import of an extra's module as the MissingExtra that it is; any other error unchanged."""
    top = (error.name or "").partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    return missing(top) if top in _EXTRA_OF else error

"""Reports when the program has imported a module: a finder that leaves the finding to those behind it.

The module's own loader stays, so whoever asks ``torch.__spec__`` finds what is always there.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # most programs never import typing
if TYPE_CHECKING:
    import typing


class ModuleFinder:
    """Stands first on ``sys.meta_path`` until the module is imported; ``imported`` is then called with it."""

    def __init__(self, name: str, imported: typing.Callable[[typing.Any], None]) -> None:
        self._name = name
        self._imported = imported
        self._asking = False

    def install(self) -> None:
        """Take the first place on ``sys.meta_path``."""
        _finders().insert(0, self)

    def find_spec(self, name: str, path: object = None, target: object = None) -> object:
        """The spec that the other finders give for the module, its loader's ``exec_module`` followed; else None."""
        if name != self._name or self._asking:
            return None
        self._asking = True
        try:
            spec = self._from_the_others(path, target)
        finally:
            self._asking = False
        loader: typing.Any = getattr(spec, "loader", None)
        execute = getattr(loader, "exec_module", None)
        # with a loader that takes no attributes it is imported unobserved
        if execute is not None and hasattr(loader, "__dict__"):
            loader.exec_module = self._followed(loader, execute)
        return spec

    def _from_the_others(self, path: object, target: object) -> object:
        for finder in list(_finders()):
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec: object = find(self._name, path, target)
            if spec is not None:
                return spec
        return None

    def _followed(
        self, loader: typing.Any, execute: typing.Callable[[typing.Any], None]
    ) -> typing.Callable[[typing.Any], None]:
        def exec_module(module: typing.Any) -> None:
            loader.__dict__.pop("exec_module", None)
            execute(module)
            if self in _finders():
                _finders().remove(self)
                self._imported(module)

        return exec_module


def _finders() -> list[typing.Any]:
    return sys.meta_path

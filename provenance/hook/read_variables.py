"""The names of the environment variables that Python code of this process reads, each once; never their values.

``os.environ`` keeps its variables in a dictionary, in whose place one stands that takes note of what is asked for. A
walk through all of them, as a copy for another process is made, asks for each in its order and for none in particular.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # most programs never import typing
if TYPE_CHECKING:
    import typing

    _Dictionary = typing.Dict[bytes, bytes]
else:  # whose parameters Python 3.8 does not take
    _Dictionary = dict

# names of one process
LIMIT = 500
_LETTERS = 200


class _Variables(_Dictionary):
    """Those of ``os.environ``, encoded; ``noted`` gets the names of those that are there and are asked for."""

    noted: dict[str, None]
    walk: typing.Any = None
    next: object = None

    def __iter__(self) -> typing.Iterator[typing.Any]:
        self.walk = iter(dict.__iter__(self))
        self.next = next(self.walk, None)
        return dict.__iter__(self)

    def __getitem__(self, name: typing.Any) -> typing.Any:
        value = dict.__getitem__(self, name)
        if self.next is not None and name == self.next:
            try:
                self.next = next(self.walk, None)
            except RuntimeError:  # one was added meanwhile
                self.next = None
        elif len(self.noted) < LIMIT:
            self.noted[os.fsdecode(name)[:_LETTERS]] = None
        return value


def note_read_variables(noted: dict[str, None]) -> None:
    """Have ``noted`` filled from now on. Python without that dictionary is left as it is."""
    if os.name != "posix" or type(getattr(os.environ, "_data", None)) is not dict:
        return
    variables = _Variables(os.environ._data)  # type: ignore[attr-defined]
    variables.noted = noted
    os.environ._data = os.environb._data = variables  # type: ignore[attr-defined]

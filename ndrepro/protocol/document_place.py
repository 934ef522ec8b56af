"""Strict reading of TOML that people write: an error names file, place and key, and the nearest right word."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ndrepro.protocol.errors import UsageError, suggestion


class DocumentPlace:
    """A place in a TOML document, which every error names: the file, the keys that lead there.

    ``example`` is the hint of errors that have none of their own.
    """

    def __init__(self, file: str, example: str, keys: tuple[str, ...] = ()) -> None:
        self.file = file
        self.example = example
        self.keys = keys

    def at(self, key: str) -> DocumentPlace:
        """The place of a member."""
        return DocumentPlace(self.file, self.example, (*self.keys, key))

    def error(self, message: str, cure: str = "") -> UsageError:
        """The error about what is here."""
        where = ".".join(self.keys)
        cure = cure or self.example
        return UsageError(f"{self.file}: {where}: {message}" if where else f"{self.file}: {message}", cure)

    def table(self, value: Any) -> Mapping[str, Any]:
        """A table, empty where there is none. Raises UsageError for anything else."""
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise self.error(f"{value!r}, expected a table", "write it as [table] or { key = value }")
        return value

    def members(self, value: Any, known: tuple[str, ...]) -> Mapping[str, Any]:
        """A table with no other keys than these. Raises UsageError with the nearest right ones."""
        table = self.table(value)
        for key in table:
            if key not in known:
                raise self.error(f"unknown key '{key}'", suggestion(key, known))
        return table

    def text(self, value: Any) -> str:
        """A text, "" where there is none. Raises UsageError for anything else."""
        if value is not None and not isinstance(value, str):
            raise self.error(f"{value!r}, expected text in quotes")
        return value or ""

    def rows(self, value: Any) -> Iterator[tuple[DocumentPlace, Mapping[str, Any]]]:
        """The tables of a list, each with its place. Raises UsageError for anything else."""
        if not isinstance(value, list):
            raise self.error(f"{value!r}, expected a list of tables", "write it as [{ key = value }, …]")
        for number, row in enumerate(value, 1):
            place = DocumentPlace(self.file, self.example, (*self.keys[:-1], f"{self.keys[-1]}[{number}]"))
            yield place, place.table(row)

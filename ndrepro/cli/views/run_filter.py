"""Which runs a command shows: by experiment, outcome, start and settings, as its options say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from ndrepro.execution.runs.run_lookup import OUTCOMES, RunSummary
from ndrepro.protocol.errors import UsageError, suggestion
from ndrepro.protocol.experiment.experiment import SETTINGS
from ndrepro.protocol.experiment.names import folder_name
from ndrepro.protocol.experiment.setting import unknown_setting

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True)
class RunFilter:
    """What a run must be to be shown; an empty filter lets every run through.

    ``experiment`` is a name with ``*`` and ``?`` where wanted; ``since`` the earliest start; ``where`` the settings as
    text by key, ``seed`` among them.
    """

    experiment: str = ""
    outcome: str = ""
    since: datetime | None = None
    where: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_options(
        cls, experiment: str | None, outcome: str | None, since: str | None, where: Sequence[str], now: datetime
    ) -> RunFilter:
        """The filter that options ask for. Raises UsageError with the nearest right word."""
        if outcome is not None and outcome not in OUTCOMES:
            raise UsageError(f"--outcome {outcome}: no outcome", suggestion(outcome, OUTCOMES))
        pairs = []
        for text in where:
            key, equals, value = text.partition("=")
            if not key or not equals:
                raise UsageError(f"--where {text!r}: expected KEY=VALUE", "e.g. --where learning_rate=0.05")
            pairs.append((key, value))
        return cls(
            folder_name(experiment or ""), outcome or "", None if since is None else _moment(since, now), tuple(pairs)
        )

    def select(self, runs: Iterable[RunSummary]) -> list[RunSummary]:
        """The runs that pass. Raises UsageError for a key of ``where`` that is a setting of no run."""
        every = list(runs)
        for key, _ in self.where:
            if key not in SETTINGS and not any(key in run.settings for run in every):
                raise unknown_setting(key, SETTINGS)
        return [run for run in every if self._passes(run)]

    def _passes(self, run: RunSummary) -> bool:
        if self.experiment and not fnmatchcase(run.experiment, self.experiment):
            return False
        if self.outcome and run.outcome != self.outcome:
            return False
        if self.since and not (run.started_on and datetime.fromisoformat(run.started_on) >= self.since):
            return False
        return all(_is(run.settings, key, text) or (key == "seed" and run.seed == text) for key, text in self.where)


def _is(settings: Mapping[str, Any], key: str, text: str) -> bool:
    """Whether a run has that value, read by the type that its own value has: 0.10 is 0.1, and True is true."""
    if key not in settings:
        return False
    value = settings[key]
    if isinstance(value, bool) or value is None:
        return str(value).lower() == text.lower()
    if isinstance(value, int | float):
        try:
            return bool(float(text) == value)
        except ValueError:
            return False
    return str(value) == text


def _moment(text: str, now: datetime) -> datetime:
    """A date, a date with a time (UTC unless it says otherwise), or so long ago: 90m, 12h, 3d, 2w."""
    ago = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if ago:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--since {text}: no date or duration", "e.g. --since 2026-11-28, --since 2026-11-28T09:30, --since 12h"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)

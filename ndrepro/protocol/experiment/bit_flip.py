"""The smallest change that a run can start with: one bit of one first weight, as the setting ``nudge`` names it.

``conv1.weight:0:0`` flips bit 0, the last of the fraction, of element 0 of the parameter ``conv1.weight``, counted in
the order in which its elements lie. It is the yardstick of a sensitivity study: what a change of library moves the
result by is compared with what the least possible change moves it by. ``none`` flips nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ndrepro.protocol.errors import UsageError

NO_NUDGE = "none"
BITS = 32  # of a float32: 0 to 22 the fraction, 23 to 30 the exponent, 31 the sign
_FORM = re.compile(r"(?P<parameter>[A-Za-z_]\w*(?:\.\w+)*):(?P<element>\d{1,18}):(?P<bit>\d{1,3})", re.ASCII)


@dataclass(frozen=True)
class Nudge:
    """Which bit: the parameter's name, the element's index in the flattened tensor, the bit (0: the last)."""

    parameter: str
    element: int
    bit: int

    def __str__(self) -> str:
        return f"{self.parameter}:{self.element}:{self.bit}"

    @classmethod
    def parse(cls, text: str) -> Nudge | None:
        """The nudge in a setting's text, None for ``none``. Law: ``parse(str(nudge)) == nudge``.

        Raises UsageError for what names no bit.
        """
        if text == NO_NUDGE:
            return None
        found = _FORM.fullmatch(text)
        if found is None:
            raise UsageError(
                f"nudge={text!r}: expected PARAMETER:ELEMENT:BIT, or none",
                "e.g. nudge=conv1.weight:0:0, the last bit of that parameter's first element",
            )
        nudge = cls(found["parameter"], int(found["element"]), int(found["bit"]))
        if nudge.bit >= BITS:
            raise UsageError(f"nudge={text!r}: bit {nudge.bit}, expected 0 to {BITS - 1}", "0 is the smallest nudge")
        if str(nudge) != text:  # one nudge, one text: else the same run could be recorded as two
            raise UsageError(f"nudge={text!r}: expected {nudge}", "write numbers without leading zeros")
        return nudge

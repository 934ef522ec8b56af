"""Which epochs a spot check trains again: drawn so that the author could not know them when signing.

The draw is SHA-256 over the reviewer's word, the value of a public beacon where one is given, and the digest of the
signed bytes. Signatures have no part in it: an author can append any number of them to a signed manifest, and could
try until the draw avoids the false epochs. A word that the author could guess would allow the same while signing, so
a reviewer's word that is left out or empty is drawn at random here.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from provenance.formats.canonical_json import canonical_bytes


@dataclass(frozen=True)
class Challenge:
    """What draws the epochs: the word, the beacon's value ("" without one), the SHA-256 of the signed bytes.

    ``random``: the word was drawn here.
    """

    word: str
    beacon: str
    payload: str
    random: bool

    @classmethod
    def of(cls, word: str | None, beacon: str | None, payload: bytes) -> Challenge:
        """The challenge of a reviewer to a manifest with that payload; without a word one is drawn at random."""
        text = (word or "").strip()
        digest = hashlib.sha256(payload).hexdigest()
        return cls(text or secrets.token_hex(16), (beacon or "").strip(), digest, random=not text)

    def draw(self, total: int, count: int) -> tuple[int, ...]:
        """``count`` different epochs of 1 to ``total``, ascending."""
        order = sorted(range(1, total + 1), key=self._rank)
        return tuple(sorted(order[:count]))

    def _rank(self, epoch: int) -> bytes:
        return hashlib.sha256(canonical_bytes([self.word, self.beacon, self.payload, epoch])).digest()

"""An authority's answer (RFC 3161) with its certificates in the order in which a strict reader expects them.

They are a SET in the answer's SignedData (RFC 5652), of which DER sorts the members by their bytes. OpenSSL writes
them as they come, the stamp's own first, and a strict reader refuses an answer with several. No signature is over them.
"""

from __future__ import annotations

from collections.abc import Iterator

_SEQUENCE, _EXPLICIT = 0x30, 0xA0


def with_sorted_certificates(answer: bytes) -> bytes:
    """The answer with its certificates sorted; as it is where none are found, which its reader then judges."""
    try:
        # TimeStampResp: the token, ContentInfo: its content, SignedData: the certificates
        place = [0, len(answer)]
        for tag, number in ((_SEQUENCE, 0), (_SEQUENCE, 1), (_EXPLICIT, 1), (_SEQUENCE, 0), (_EXPLICIT, 3)):
            found, _, *place = list(_members(answer, *place))[number]
            if found != tag:
                return answer
        inside, end = place
        members = sorted(answer[start:stop] for _, start, _, stop in _members(answer, inside, end))
        return answer[:inside] + b"".join(members) + answer[end:]
    except IndexError:
        return answer


def _members(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Tag, start, start of the content and end of every DER member there. Raises IndexError where one is incomplete."""
    while start < end:
        inside, length = start + 2, data[start + 1]
        if length > 0x7F:
            inside, length = inside + length - 0x80, int.from_bytes(data[inside : inside + length - 0x80], "big")
        if inside + length > end:
            raise IndexError
        yield data[start], start, inside, inside + length
        start = inside + length

"""Line ends of a message: CRLF where it is text, and nothing changed where it is not.

A part with the Content-Transfer-Encoding binary (RFC 2045 section 2.9) may have
any octets. IMAP clients append such messages with a literal8 (RFC 3516), and
want them back octet for octet.
"""

import re
from collections.abc import Callable, Iterator

from ..octets import with_crlf
from . import message

_BARE = re.compile(rb"(?<!\r)\n")


def canonical(octets: bytes) -> bytes:
    """Return a message as it is stored: with CRLF line ends, but in binary parts."""
    return _outside_binary(octets, with_crlf)


def with_lf(octets: bytes) -> bytes:
    """Return a message with LF line ends, but in binary parts."""
    return _outside_binary(octets, lambda text: text.replace(b"\r\n", b"\n"))


def _outside_binary(octets: bytes, convert: Callable[[bytes], bytes]) -> bytes:
    """Return a message with all of it converted but what is in binary parts."""
    if b"binary" not in octets.lower():
        return convert(octets)
    pieces: list[bytes] = []
    at = 0
    offsets = _before_crlf(octets, [offset for span in _binary(octets) for offset in span])
    for start, end in zip(offsets, offsets, strict=True):
        pieces += convert(octets[at:start]), octets[start:end]
        at = end
    return b"".join([*pieces, convert(octets[at:])])


def _binary(octets: bytes) -> list[tuple[int, int]]:
    """Return where the bodies of binary parts are in the octets with CRLF line ends: start and end, in order.

    Programs that know no better call all text binary. Where a mail server has
    made all line ends LF, its lines are those of any text.
    """
    has_crlf = b"\r\n" in octets
    root = message.parse(with_crlf(octets))
    spans, waiting = [], [root]
    while waiting:
        part = waiting.pop()
        if part.octets is root.octets:  # else it is in an encoding
            waiting += [part.message] if part.message else part.children
            is_kept = part.encoding == b"binary" and (has_crlf or part.type != b"text")
            if is_kept and not (part.message or part.children):
                spans.append((part.body, part.end))
    return sorted(spans)


def _before_crlf(octets: bytes, offsets: list[int]) -> Iterator[int]:
    """Yield where these offsets in `with_crlf(octets)`, in rising order, are in `octets`."""
    bare = _BARE.finditer(octets)
    added, line_end = 0, next(bare, None)
    for offset in offsets:
        while line_end and line_end.start() + added < offset:
            added, line_end = added + 1, next(bare, None)
        yield offset - added

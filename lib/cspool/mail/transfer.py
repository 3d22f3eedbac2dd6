"""Content-Transfer-Encoding: the octets of a part as they were before it was encoded (RFC 2045 section 6)."""

import binascii
import re
from typing import NamedTuple

KNOWN = (b"7bit", b"8bit", b"binary", b"base64", b"quoted-printable")
UUENCODE = (b"x-uuencode", b"x-uue", b"uuencode", b"uue")

_BLANKS = b" \t\r\n"
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_DATA = re.compile(rb"[A-Za-z0-9+/=_-]*")
_RULE = re.compile(rb"[-_]{2,}")  # a line that separates what a mailing list has added


class Decoded(NamedTuple):
    """Octets without their encoding, and whether that is all of them."""

    octets: bytes
    is_whole: bool


def decode(octets: bytes, encoding: bytes) -> Decoded:
    """Decode the body of a part, as far as that is possible; `encoding` is in lower case."""
    if encoding == b"base64":
        return _base64(octets)
    if encoding == b"quoted-printable":
        return Decoded(_quoted_printable(octets), True)
    if encoding in UUENCODE:
        return Decoded(_uuencoded(octets), False)
    return Decoded(octets, encoding in KNOWN)


def _base64(octets: bytes) -> Decoded:
    clean = octets.translate(None, _BLANKS)
    if len(clean) % 4 == 0 and _BASE64.fullmatch(clean):
        return Decoded(binascii.a2b_base64(clean), True)
    data = _data(octets).translate(bytes.maketrans(b"-_", b"+/"))
    found, is_whole = [], True
    for piece in data.split(b"="):
        # Padding may be missing, or stand in the middle, where two encoded texts were put together.
        rest = len(piece) % 4
        if rest == 1:
            piece, is_whole = piece[:-1], False  # noqa: PLW2901
        found.append(binascii.a2b_base64(piece + b"=" * (-len(piece) % 4)))
    return Decoded(b"".join(found), is_whole)


def _data(octets: bytes) -> bytes:
    """Return the characters of base64, also of the alphabet for URLs (RFC 4648 section 5), up to what is none.

    A mailing list may have added a footer to a body that it did not decode.
    """
    lines = []
    for line in octets.splitlines():
        data = line.translate(None, _BLANKS)
        if _RULE.fullmatch(data) or not _DATA.fullmatch(data):
            break
        lines.append(data)
    return b"".join(lines)


def _quoted_printable(octets: bytes) -> bytes:
    """Decode quoted-printable; blanks at the end of a line are none of the sender's (RFC 2045 section 6.7, rule 3)."""
    if b" \r" in octets or b"\t\r" in octets or octets.endswith((b" ", b"\t")):
        octets = b"\r\n".join(line.rstrip(b" \t") for line in octets.split(b"\r\n"))
    return binascii.a2b_qp(octets)


def _uuencoded(octets: bytes) -> bytes:
    found = []
    for line in octets.split(b"\r\n"):
        if line.startswith((b"begin ", b"end")) or not line:
            continue
        try:
            found.append(binascii.a2b_uu(line))
        except binascii.Error:
            continue
    return b"".join(found)


def encoded_word(octets: bytes, encoding: bytes) -> bytes:
    """Decode the text of an encoded word (RFC 2047 section 4); `encoding` is B or Q, in any case."""
    if encoding in b"bB":
        return _base64(octets).octets
    return binascii.a2b_qp(octets, header=True)

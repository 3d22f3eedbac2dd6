"""Content-Transfer-Encoding: the octets of a part as they were before it was encoded (RFC 2045 section 6)."""

import binascii
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

PIECE = 1 << 20  # octets of a large part that are decoded at a time
KNOWN = (b"7bit", b"8bit", b"binary", b"base64", b"quoted-printable")
UUENCODE = (b"x-uuencode", b"x-uue", b"uuencode", b"uue")

_BLANKS = b" \t\r\n"
_BASE64 = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_OTHERS = bytes(set(range(256)) - set(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-"))
_URL = re.compile(rb"[-_]")
_LINE = re.compile(rb"[^\r\n]+")  # of matches, only one is in memory at a time
_BETWEEN_PADDING = re.compile(rb"[^=]+")
_TRAILING = re.compile(rb"(?<![ \t])[ \t]++(?=\r\n|\Z)")
_BAD_QP = re.compile(rb"=(?==|\r(?!\n))")  # the library would drop octets behind these
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


def pieces(octets: bytes, start: int, end: int, encoding: bytes) -> Iterator[bytes]:
    """Yield octets[start:end] decoded, in pieces of some PIECE octets.

    A piece ends before a line end, if there is one, or with a character of UTF-8.
    """
    if end - start <= PIECE:
        yield decode(octets[start:end], encoding).octets
        return
    rest = b""
    for piece in _decoded(octets, start, end, encoding):
        rest += piece
        at = _end_of_piece(rest)
        yield rest[:at]
        rest = rest[at:]
    yield rest


def _end_of_piece(octets: bytes) -> int:
    """Return where a piece ends: before the last line end, or else blank, or character, of its second half."""
    middle = len(octets) // 2
    at = octets.rfind(b"\n", middle)
    if at > middle:
        return at - (octets[at - 1] == 13)
    at = octets.rfind(b" ", middle)
    if at > middle:
        return at
    at = len(octets) - 1
    while at > middle and octets[at] & 0xC0 == 0x80:
        at -= 1
    return at if at > middle and octets[at] >= 0xC0 else len(octets)


def _decoded(octets: bytes, start: int, end: int, encoding: bytes) -> Iterator[bytes]:
    """Yield octets[start:end] decoded, in pieces that end where a line of the encoded octets does."""
    if encoding in UUENCODE:
        yield decode(octets[start:end], encoding).octets
        return
    waiting = b""  # characters of base64, less than four
    while start < end:
        at = min(start + PIECE, end)
        if encoding in (b"base64", b"quoted-printable"):
            at = octets.find(b"\n", at, end) + 1 or end
        if encoding == b"base64":
            data = waiting + octets[start:at].translate(None, _BLANKS)
            whole = len(data) - len(data) % 4
            if not _BASE64.fullmatch(data) or (whole < len(data) and b"=" in data):
                yield _base64(waiting + octets[start:end]).octets
                return
            yield binascii.a2b_base64(data[:whole])
            waiting = data[whole:]
        else:
            yield decode(octets[start:at], encoding).octets
        start = at
    if waiting:
        yield _base64(waiting).octets


def _base64(octets: bytes) -> Decoded:
    """Decode base64, also of the alphabet for URLs (RFC 4648 section 5).

    Padding may be missing, or stand in the middle, where two encoded texts were
    put together. Other characters are passed over (RFC 2045 section 6.8), but
    then this may not be the whole. A mailing list may have added a footer to a
    body that it did not decode: that is none of the part.
    """
    clean = octets.translate(None, _BLANKS)
    if len(clean) % 4 == 0 and _BASE64.fullmatch(clean):
        return Decoded(binascii.a2b_base64(clean), True)
    data, is_whole = _data(octets)
    found = bytearray()
    for part in _BETWEEN_PADDING.finditer(data.translate(bytes.maketrans(b"-_", b"+/"))):
        piece = part[0]
        rest = len(piece) % 4
        if rest == 1 or (rest and part.start() and not data.endswith(b"=")):
            # One character is no octet, and behind padding only whole groups are clearly data.
            is_whole = False
        piece = piece[: len(piece) - (rest == 1)]
        found += binascii.a2b_base64(piece + b"=" * (-len(piece) % 4))
    return Decoded(bytes(found), is_whole)


def _data(octets: bytes) -> tuple[bytes, bool]:
    """Return the characters of base64 up to a footer, and whether there are no others."""
    found, is_whole, is_url = bytearray(), True, False
    for line in _LINE.finditer(octets):
        data = line[0].translate(None, _BLANKS)
        is_complete = found and (len(found) % 4 == 0 or found.endswith(b"="))
        if is_complete and not is_url and _RULE.fullmatch(data):
            break
        kept = data.translate(None, _OTHERS)
        is_url = is_url or _URL.search(kept) is not None
        is_whole = is_whole and kept == data
        found += kept
    return bytes(found), is_whole


def _quoted_printable(octets: bytes) -> bytes:
    """Decode quoted-printable; blanks at the end of a line are none of the sender's (RFC 2045 section 6.7, rule 3)."""
    if b" \r" in octets or b"\t\r" in octets or octets.endswith((b" ", b"\t")):
        kept, at = bytearray(), 0
        for blanks in _TRAILING.finditer(octets):
            kept += octets[at : blanks.start()]
            at = blanks.end()
        octets = bytes(kept + octets[at:])
    if _BAD_QP.search(octets):
        octets = _BAD_QP.sub(b"=3D", octets)
    return binascii.a2b_qp(octets)


def _uuencoded(octets: bytes) -> bytes:
    found = bytearray()
    for line in _LINE.finditer(octets):
        if not line[0].startswith((b"begin ", b"end")):
            with suppress(binascii.Error):
                found += binascii.a2b_uu(line[0])
    return bytes(found)


def encoded_word(octets: bytes, encoding: bytes) -> bytes:
    """Decode the text of an encoded word (RFC 2047 section 4); `encoding` is B or Q, in any case."""
    if encoding in b"bB":
        return _base64(octets).octets
    return binascii.a2b_qp(octets, header=True)

"""The text of a message as a person reads it, decoded and case-folded, for searching.

It is made once, when a message arrives. Nothing here fails: text that cannot be
decoded is searched as it is.
"""

import binascii
import codecs
import re
from contextlib import suppress

from .message import Part

_FOLD = re.compile(rb"\r\n(?=[ \t])")
# RFC 2047 section 2, without its length limits, which many senders exceed.
_WORD = re.compile(rb"=\?([^?\s]{1,40})\?([bBqQ])\?([^?\r\n]*)\?=(?:[ \t\r\n]+(?==\?))?")

# Codecs of Python that are not charsets of mail; some are slow on hostile input.
_NO_CHARSETS = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"}


def fold_case(text: str) -> str:
    """Return the form in which texts are compared (close to i;unicode-casemap, RFC 5051)."""
    return text if text.isascii() and text.islower() else text.casefold()


def header_text(header: bytes) -> str:
    """Return a header as unfolded, decoded, case-folded lines "name: value", each after a line end (LF)."""
    return "\n" + fold_case(decode_words(_FOLD.sub(b"", header))).replace("\r\n", "\n")


def decode_words(octets: bytes) -> str:
    """Return an unfolded header or value as text, with its encoded words decoded (RFC 2047)."""
    if b"=?" in octets:
        octets = _WORD.sub(_decode_word, octets)
    return decode(octets, "utf-8")


def body_text(octets: bytes, root: Part) -> str:
    """Return the text parts of a message and the headers of the messages enclosed in it, case-folded, in order."""
    found = []
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if part.message:
            found.append(header_text(octets[part.message.start : part.message.body]))
            waiting.append(part.message)
        elif part.children:
            waiting += reversed(part.children)
        elif part.type == b"text":
            charset = (part.parameter(b"charset") or b"us-ascii").decode("ascii", "replace")
            found.append(fold_case(decode(decoded(octets, part), charset)))
    return "\n".join(found)


PREVIEW_MAX = 200  # characters, RFC 8970 section 3.2
_TAG = re.compile(r"<(?:style|script)\b.*?</(?:style|script)>|<!--.*?-->|<[^>]*>", re.IGNORECASE | re.DOTALL)


def preview(octets: bytes, root: Part) -> str:
    """Return the first PREVIEW_MAX characters of the first text part, with white space as one space; else ""."""
    waiting = [root]
    while waiting:
        part = waiting.pop()
        if part.children:
            waiting += reversed(part.children)
        elif part.type == b"text":
            charset = (part.parameter(b"charset") or b"us-ascii").decode("ascii", "replace")
            # Enough octets for the preview in any charset.
            shown = decode(decoded(octets, part)[: PREVIEW_MAX * 50], charset)
            if part.subtype == b"html":
                shown = _unescape(_TAG.sub(" ", shown))
            words = shown.replace("\0", " ").split(None, PREVIEW_MAX)
            return " ".join(words[:PREVIEW_MAX])[:PREVIEW_MAX]
    return ""


def _unescape(shown: str) -> str:
    """Return HTML text with its character references replaced."""
    import html

    try:
        return html.unescape(shown)
    except ValueError:  # a number of thousands of digits
        return shown


def sent(date: bytes) -> tuple[int | None, int | None]:
    """Return the Date of a message as seconds since 1970 and as days since 1970 in its own zone, or None twice."""
    from email.utils import mktime_tz, parsedate_tz

    try:
        parsed = parsedate_tz(date.decode("ascii", "replace"))
        seconds = mktime_tz(parsed) if parsed else None
    except (ValueError, OverflowError, IndexError, TypeError):
        return None, None
    if parsed is None or seconds is None or abs(seconds) > 1 << 48:
        return None, None
    return seconds, (seconds + (parsed[9] or 0)) // 86400


def decoded(octets: bytes, part: Part) -> bytes:
    """Return the body of a part without its Content-Transfer-Encoding (RFC 2045 section 6)."""
    body = octets[part.body : part.end]
    if part.encoding == b"base64":
        return _decode_base64(body)
    if part.encoding == b"quoted-printable":
        return binascii.a2b_qp(body)
    return body


def decode(octets: bytes, charset: str) -> str:
    """Return octets in a charset as text; if it is unknown or wrong, they are read as UTF-8 or ISO 8859-1.

    The text has no lone surrogates, which UTF-7, for example, can hold, so it
    can be encoded in UTF-8.
    """
    if octets.isascii() and charset.lower() in ("us-ascii", "utf-8", "iso-8859-1", "ascii", "windows-1252"):
        return octets.decode("ascii")
    try:
        if codecs.lookup(charset).name not in {"utf-8", *_NO_CHARSETS}:
            return octets.decode(charset).encode("utf-8", "replace").decode()
    except (LookupError, ValueError):
        pass
    with suppress(ValueError):
        return octets.decode("utf-8")
    return octets.decode("iso-8859-1")


def _decode_word(word: re.Match[bytes]) -> bytes:
    """Return an encoded word as UTF-8."""
    charset, encoding, octets = word.groups()
    octets = _decode_base64(octets) if encoding in b"bB" else binascii.a2b_qp(octets, header=True)
    # RFC 2231 section 5 allows a language after the charset.
    text = decode(octets, charset.partition(b"*")[0].decode("ascii", "replace"))
    return text.encode("utf-8", "replace").replace(b"\n", b" ").replace(b"\r", b" ")


def _decode_base64(octets: bytes) -> bytes:
    """Decode as much as can be decoded: bad padding is common at the end of a part."""
    try:
        return binascii.a2b_base64(octets)
    except binascii.Error:
        clean = re.sub(rb"[^A-Za-z0-9+/]", b"", octets)
        return binascii.a2b_base64(clean[: len(clean) // 4 * 4])

"""The text of a message as a person reads it, decoded, for searching and for previews.

It is made once, when a message arrives. Nothing here fails: text that cannot be
decoded is searched as it is. Texts for searching are in the form of
casemap.searchable.
"""

import io
import re
from collections.abc import Iterator
from itertools import islice

from . import envelope, transfer
from .casemap import searchable, visible
from .charset import codec_of, decode
from .hypertext import texts_of
from .message import Part, extended, parse_parameters, unfolded

# Encoded words beside each other: RFC 2047 section 2, without its length limits, which many senders exceed.
_ONE = rb"=\?[^?\s]{1,40}\?[bBqQ]\?[^?\r\n]*\?="
_WORDS = re.compile(_ONE + rb"(?:[ \t\r\n]*+" + _ONE + rb")*+")
_WORD = re.compile(rb"=\?([^?*\s]+)[^?\s]*\?([bBqQ])\?([^?\r\n]*)\?=")  # a language may follow the charset (RFC 2231)
_LINE = re.compile(rb"[^\r\n]+|[\r\n]+")
_EXTENDED = re.compile(rb";[^;\r\n=]*\*\s*=|;[^;\r\n=]*\*0\*?\s*=")

# Parts that are text though their type is not, and those that need no look whether they are.
_TEXT_TYPES = {
    (b"message", b"delivery-status"), (b"message", b"disposition-notification"), (b"message", b"global-headers"),
    (b"message", b"feedback-report"), (b"application", b"json"), (b"application", b"xml"),
    (b"application", b"csv"), (b"application", b"ics"), (b"application", b"rtf"),
}  # fmt: skip
_NO_TEXT = (b"image", b"audio", b"video", b"font", b"model")
_FOLDED_TYPES = (
    b"calendar",
    b"x-vcalendar",
    b"vcard",
    b"x-vcard",
    b"directory",
    b"ics",
)  # RFC 5545 section 3.1, RFC 6350 section 3.2
_STATEFUL = ("utf-16", "utf_16", "utf-32", "utf_32", "utf-7", "utf_7", "iso2022", "hz")  # codecs
_SAMPLE = 1024  # octets that tell whether a part is text
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def header_text(header: bytes, label: str = "utf-8") -> str:
    """Return a header as unfolded lines "name: value", each after a line end (LF), for searching.

    8-bit text that is not UTF-8 is read in the charset of `label`, that of the
    message. What is written otherwise than a person sees it stands behind it.
    """
    header = unfolded(header)
    has_parameters = b'\\"' in header or (b"*" in header and _EXTENDED.search(header) is not None)
    if has_parameters or b'"' in header or b"\\" in header or b"(" in header:
        header = b"\r\n".join(
            [
                _with_readable(line, has_parameters)
                if has_parameters or b'"' in line or b"(" in line or b"\\" in line
                else line
                for line in header.split(b"\r\n")
            ]
        )
    lines = decode_words(header, label).replace("\r\n", "\n")
    if not lines.isascii():
        shown = io.StringIO()
        for line in io.StringIO(lines):
            shown.write("\n" + searchable(line.removesuffix("\n")))
        return shown.getvalue() + "\n" * lines.endswith("\n")
    lines = lines.lower().replace("\t", " ")
    while "  " in lines:
        lines = lines.replace("  ", " ")
    return "\n" + lines


_FIRST_LETTERS = tuple(b"%c" % letter for letter in b"FSRTCBfsrtcb")  # of the fields with addresses
_ADDRESSES = re.compile(rb"(?:resent-)?(?:from|sender|reply-to|to|cc|bcc)[ \t]*:", re.IGNORECASE)


def _with_readable(line: bytes, has_parameters: bool) -> bytes:
    """Return a field with what a person sees of it behind it.

    These are addresses without quotes and comments, and, if the header
    `has_parameters` that are extended, continued or quoted oddly (RFC 2231),
    what they say.
    """
    if line[:1] in _FIRST_LETTERS and _ADDRESSES.match(line):
        if b"\\" not in line and b"(" not in line:
            return line + b" " + line.replace(b'"', b"") if b'"' in line else line
        found = envelope.addresses(line.partition(b":")[2].strip())
        return (
            line
            + b" "
            + b", ".join(b"%b <%b@%b>" % (one.name or b"", one.mailbox or b"", one.host or b"") for one in found)
        )
    if not has_parameters or (not _EXTENDED.search(line) and b'\\"' not in line):
        return line
    readable = []
    for name, value in parse_parameters(line):
        if name.endswith(b"*"):
            charset, octets = extended(value)
            value = decode(octets, charset.decode("ascii", "replace")).encode()  # noqa: PLW2901
        readable.append(value)
    return line + b" " + b" ".join(readable).replace(b"\r", b" ").replace(b"\n", b" ")


def decode_words(octets: bytes, label: str = "utf-8") -> str:
    """Return an unfolded header or value as text, with its encoded words decoded (RFC 2047); `label` as above."""
    if not octets.isascii() or b"\x1b" in octets:
        converted = bytearray()
        for line in _LINE.finditer(octets):
            converted += _in_utf8(line[0], label)
        octets = bytes(converted)
    if b"=?" in octets:
        octets = _WORDS.sub(_decode_words, octets)
    return decode(octets, "utf-8")


def _in_utf8(line: bytes, label: str) -> bytes:
    """Return a line with its 8-bit text in UTF-8."""
    try:
        line.decode("utf-8")
        if b"\x1b" not in line:
            return line
    except UnicodeDecodeError:
        pass
    return decode(line, label).encode("utf-8", "replace")


def _decode_words(words: re.Match[bytes]) -> bytes:
    """Return encoded words that stand beside each other as UTF-8; a character may be cut between two of one charset."""
    shown, waiting, codec = [], bytearray(), ""
    for word in _WORD.finditer(words[0]):
        charset, encoding, encoded = word.groups()
        named = codec_of(charset.decode("ascii", "replace"))
        if named != codec:
            shown.append(decode(bytes(waiting), codec))
            waiting, codec = bytearray(), named
        waiting += transfer.encoded_word(encoded, encoding)
    shown.append(decode(bytes(waiting), codec))
    return "".join(shown).replace("\n", " ").replace("\r", " ").encode("utf-8", "replace")


PREVIEW_MAX = 200  # characters, RFC 8970 section 3.2


def body_text(root: Part) -> tuple[bytearray, str]:
    """Return what is searched of a body, in UTF-8, and its preview.

    Searched are the texts of all parts and the headers of parts and enclosed
    messages, a line each. The preview is the first PREVIEW_MAX characters of
    the first text part, with white space as one space.
    """
    found, preview = bytearray(), ""  # it grows in place, where many pieces would leave holes in memory
    for part in _walk(root):
        if part is not root and part.body > part.start:
            found += b"\n" * bool(found) + header_text(part.header, label_of(root)).encode("utf-8", "replace")
        for index, text in enumerate(filter(None, pieces(part))):
            if not preview and part.type == b"text" and part.subtype != b"css":
                preview = _preview(part, text)
            shown = searchable(text).encode("utf-8", "replace")
            if not index:
                found += b"\n" * bool(found)
            elif found.endswith(b" "):
                shown = shown.removeprefix(b" ")
            found += shown
    return found, preview


def _preview(part: Part, text: str) -> str:
    """Return the beginning of a text in one line; "" for an attachment."""
    if part.fields.get(b"content-disposition", b"")[:10].lower() == b"attachment":
        return ""
    words = visible(text[: 1 << 18]).replace("\0", " ").split(None, PREVIEW_MAX)
    return " ".join(words[:PREVIEW_MAX])[:PREVIEW_MAX]


def label_of(root: Part) -> str:
    """Return the charset that a message names, which its header may be in, too."""
    for part in islice(_walk(root), 5):
        label = part.parameter(b"charset")
        if label:
            return label.decode("ascii", "replace")
    return "utf-8"


def _walk(root: Part) -> Iterator[Part]:
    """Yield a message and all its parts in order."""
    waiting = [root]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += [part.message] if part.message else reversed(part.children)


def pieces(part: Part) -> Iterator[str]:
    """Yield the text of a part as a person sees it, if it has one; that of a large part piece by piece.

    So it need not be in memory as a whole in each of its forms.
    """
    if part.message or (part.children and part.parameter(b"boundary")) or part.end == part.body:
        return
    sample = part.octets[part.body : min(part.end, part.body + 2 * _SAMPLE)]
    is_text = part.type in (b"text", b"multipart") or (part.type, part.subtype) in _TEXT_TYPES
    is_text = is_text or part.subtype.endswith((b"+xml", b"+json"))
    if not is_text and (part.type in _NO_TEXT or not _looks_like_text(sample, part.encoding)):
        return
    is_html = part.subtype in (b"html", b"xhtml+xml", b"enriched", b"richtext")
    is_flowed = (part.parameter(b"format") or b"").lower() == b"flowed"
    codec = codec_of((part.parameter(b"charset") or b"").decode("ascii", "replace"))
    # In these, what one octet means depends on others before it.
    is_one = is_html or is_flowed or part.subtype in _FOLDED_TYPES or codec.startswith(_STATEFUL)
    decoded = transfer.pieces(part.octets, part.body, part.end, part.encoding)
    for octets in _joined(decoded) if is_one else decoded:
        label = _label(part, octets)
        if part.subtype in _FOLDED_TYPES:
            unfolded = decode(re.sub(rb"\r?\n[ \t]", b"", octets), label)
            yield _CALENDAR.sub(lambda found: " " if found[1] in "nN" else found[1], unfolded)
            continue
        text = decode(octets, label)
        del octets
        if is_html:
            yield from texts_of(text)
            continue
        if is_flowed:
            text = _unflowed(text, (part.parameter(b"delsp") or b"").lower() == b"yes")
        yield _QUOTES.sub("\n", text) if part.subtype == b"plain" and "\n>" in text else text


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield b"".join(pieces)


_CALENDAR = re.compile(r"\\([\\;,nN])")  # RFC 5545 section 3.3.11
_QUOTES = re.compile(r"\n>[> ]*+")  # a mail client shows a bar, or nothing
_META = re.compile(rb"<meta\b[^<>]*charset\s*=\s*[\"']?\s*([A-Za-z0-9_:-]{1,40})", re.IGNORECASE)


def _label(part: Part, octets: bytes) -> str:
    """Return the charset of a part: as it says, or as HTML says in itself, or as its octets show."""
    label = part.parameter(b"charset")
    if not label and part.subtype == b"html":
        found = _META.search(octets, 0, _SAMPLE)
        label = found[1] if found else None
    if not label and (b"\x1b$B" in octets or b"\x1b$@" in octets):
        label = b"iso-2022-jp"
    return (label or b"us-ascii").decode("ascii", "replace")


def _looks_like_text(octets: bytes, encoding: bytes) -> bool:
    """Return whether a part of an unknown type begins like text: without controls, in UTF-8."""
    sample = transfer.decode(octets[: 2 * _SAMPLE], encoding).octets[:_SAMPLE]
    if _CONTROLS.search(sample):
        return False
    try:
        sample.decode("utf-8")
    except UnicodeDecodeError as error:
        return len(sample) - error.start < 4 and error.start > 0  # the sample may end within a character
    return True


def _unflowed(text: str, deletes_space: bool) -> str:
    """Return text of format=flowed with its paragraphs in one line, also quoted ones (RFC 3676 section 4)."""
    return _SOFT.sub("" if deletes_space else " ", text)


_SOFT = re.compile(r"(?<!\n--) \r?\n>*+ ?")

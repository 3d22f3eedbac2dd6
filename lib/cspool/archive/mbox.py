"""Reading an mbox: where its messages begin, and the flags in their headers."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from ..errors import NoInput
from ..frame import LIMIT
from ..mail import date
from ..octets import FROM_DATE
from . import ArchivedMessage, LeftOut, marks

PIECE = 1 << 20  # octets of a line that are read at a time

_QUOTED = re.compile(rb">+From ")
_FIELD = re.compile(
    rb"[!-9;-~]+[ \t]*:|>From "
)  # the first line of a header; some servers keep a quoted line before it
_KNOWN = re.compile(
    rb"(?:return-path|received|from|to|cc|subject|date|message-id|delivered-to|x-[!-9;-~]+|mime-version|content-type"
    rb"|status|dkim-signature|reply-to|sender|in-reply-to|references|resent-[a-z-]+|envelope-to|delivery-date"
    rb"|authentication-results|arc-[a-z-]+)[ \t]*:",
    re.IGNORECASE,
)
_WHO = re.compile(rb"From \S+\s*")  # without a date
_DATE = re.compile(FROM_DATE)
_END = re.compile(rb"(?:\A|\n)\r?\n\Z")
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_INTERNAL = b"FOLDER INTERNAL DATA"  # in the subject of what is no message, but data of a mail program


def messages(stream: BinaryIO, mailbox: str, left_out: LeftOut, where: str = "message") -> Iterator[ArchivedMessage]:
    """Yield the messages of an mbox. Raises NoInput if it does not begin with a "From " line.

    A message begins with a "From " line that has a date, in any usual form, if
    an empty line is before it or a field behind it; or without a date, if only
    who sent it stands there, an empty line is before it and a known field
    behind it. In a message, one ">" is removed from lines
    that begin with ">From ", ">>From " and so on, as in mboxrd. mboxo is read
    in the same way. `where` and a number name a message.
    """
    message: bytearray | None = None
    number, line_number, sent = 0, 0, None
    empty = begins = True  # the line before is empty; `line` is the beginning of a line
    line = stream.readline(PIECE)
    while line:
        following = stream.readline(PIECE)
        line_number += begins
        is_from = begins and line.startswith(b"From ")
        if is_from and (message is None or _separates(line, following, empty)):
            if message is not None:
                yield from _message(f"{where} {number}", message, sent, mailbox, left_out)
            message, sent, number = bytearray(), _date(line), number + 1
            empty = False
        elif message is not None:
            if is_from and _is_like_one(line, following, empty):
                left_out.add(f"line {line_number}", 'a "From " line that was taken for text, not for the next message')
            if len(message) <= LIMIT:
                message += line[1:] if begins and _QUOTED.match(line) else line
            empty = begins and not line.rstrip(b"\r\n")
        elif line.strip():
            raise NoInput('standard input: no mbox (it does not begin with a line of "From ")')
        begins = line.endswith(b"\n")
        line = following
    if message is not None:
        yield from _message(f"{where} {number}", message, sent, mailbox, left_out)


def has_several(stream: BinaryIO) -> bool:
    """Return whether a file that begins with a "From " line has another message after the first."""
    none = LeftOut()
    found = (one for one in messages(stream, "", none))
    return next(found, None) is not None and next(found, None) is not None


def _separates(line: bytes, following: bytes, after_empty: bool) -> bool:
    """Return whether a "From " line, which is not the first, begins a message."""
    if _date(line) is not None:
        return after_empty or bool(_FIELD.match(following))
    return after_empty and bool(_WHO.fullmatch(line) and _KNOWN.match(following))


def _is_like_one(line: bytes, following: bytes, after_empty: bool) -> bool:
    """Return whether a "From " line that begins no message could have been meant to."""
    return _date(line) is not None or bool((after_empty or _WHO.fullmatch(line)) and _KNOWN.match(following))


def _date(line: bytes) -> int | None:
    """Return the time in a "From " line in seconds since 1970, or None. Without a zone it is UTC (RFC 4155)."""
    words = line.split()
    found = _DATE.search(line)
    for first in range(2, min(6, len(words))) if not found else (0,):
        value = line[found.start() + 1 : found.end()] if found else b" ".join(words[first:])
        sent = date.sent(value)
        if sent:
            return max(0, sent.seconds)
    return None


def _date_of(header: bytes) -> int | None:
    """Return the time in the field Date of a header, for want of one in the "From " line."""
    found = re.search(rb"^date[ \t]*:([^\n]*)", header, re.IGNORECASE | re.MULTILINE)
    sent = date.sent(found[1].strip()) if found else None
    return max(0, sent.seconds) if sent else None


def _message(
    where: str, message: bytearray, sent: int | None, mailbox: str, left_out: LeftOut
) -> Iterator[ArchivedMessage]:
    octets = bytes(message)
    if _END.search(octets, max(0, len(octets) - 4)) and len(octets) <= LIMIT:
        octets = octets[: -2 if octets.endswith(b"\r\n") else -1]  # the empty line belongs to the mbox
    end = _HEADER_END.search(octets)
    header = octets[: end.start() if end else len(octets)]
    if _INTERNAL in header:
        return
    found = marks.of(header)
    if found.is_expunged:
        left_out.add(where, "left out: expunged, but still in its file")
        return
    if sent is None:
        sent = _date_of(header)
    yield ArchivedMessage(where, octets[: LIMIT + 1], sent, marks.under(mailbox, found.mailbox), found.flags)

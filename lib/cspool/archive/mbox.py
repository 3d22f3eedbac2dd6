"""Reading an mbox: where its messages begin, and the flags in their headers."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import BinaryIO

from ..errors import NoInput
from ..frame import LIMIT
from ..mail import date
from ..octets import FROM_DATE
from . import ArchivedMessage, LeftOut, marks

PIECE = 1 << 20  # octets of a line that are read at a time

_QUOTED = re.compile(rb">+From ")
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:|>From ")  # some servers keep a quoted line before the first field
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
# What Alpine and others put before the first message.
_INTERNAL = re.compile(rb"^Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\r?$", re.MULTILINE)


def messages(stream: BinaryIO, mailbox: str, left_out: LeftOut, where: str = "message") -> Iterator[ArchivedMessage]:
    """Yield the messages of an mbox. Raises NoInput if it does not begin with a "From " line.

    A message begins with a "From " line that has a date, in any usual form, if
    an empty line is before it or a field behind it; or without a date, if only
    who sent it stands there, an empty line is before it and a known field
    behind it. In a message, one ">" is removed from lines
    that begin with ">From ", ">>From " and so on, as in mboxrd. mboxo is read
    in the same way. `where` and a number name a message.
    """
    for number, (octets, sent) in enumerate(_split(stream, left_out), 1):
        name = f"{where} {number}"
        end = _HEADER_END.search(octets)
        header = octets[: end.start() if end else len(octets)]
        found = marks.of(header)
        if number == 1 and _INTERNAL.search(header):
            left_out.add(name, "left out: no message, but data of a mail program")
        elif found.is_expunged:
            left_out.add(name, "left out: expunged, but still in its file")
        else:
            date_ = _date_of(header) if sent is None else sent
            yield ArchivedMessage(name, octets, date_, marks.under(mailbox, found.mailbox), found.flags)


def has_several(stream: BinaryIO) -> bool:
    """Return whether a file that begins with a "From " line has another message after the first."""
    return len(list(islice(_split(stream, LeftOut()), 2))) == 2


def _split(stream: BinaryIO, left_out: LeftOut) -> Iterator[tuple[bytes, int | None]]:
    """Yield the octets of each message, LIMIT + 1 at most, and the time in its "From " line."""
    message: bytearray | None = None
    line_number, sent = 0, None
    empty = begins = True  # the line before is empty; `line` is the beginning of a line
    line = stream.readline(PIECE)
    while line:
        following = stream.readline(PIECE)
        line_number += begins
        is_from = begins and line.startswith(b"From ")
        if is_from and (message is None or _separates(line, following, empty)):
            if message is not None:
                yield _octets(message), sent
            message, sent = bytearray(), _date(line)
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
        yield _octets(message), sent


def _octets(message: bytearray) -> bytes:
    """Return the octets of a message without the empty line behind it, which belongs to the mbox."""
    octets = bytes(message[: LIMIT + 1])
    if len(octets) <= LIMIT and _END.search(octets, max(0, len(octets) - 4)):
        return octets[: -2 if octets.endswith(b"\r\n") else -1]
    return octets


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

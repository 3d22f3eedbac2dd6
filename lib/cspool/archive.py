"""Archives of mail: reading mbox, Maildir and plain directories, one message at a time.

A folder becomes the mailbox that is named by its path. The flags and times in
an archive are kept. Only one message is in memory at a time.
"""

import calendar
import os
import re
import time
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from . import maildir
from .errors import NoInput
from .frame import LIMIT
from .mail import utf7
from .octets import FROM_DATE

MBOX_FLAGS = {
    "status": {"R": "\\Seen"},
    "x-status": {"A": "\\Answered", "F": "\\Flagged", "D": "\\Deleted", "T": "\\Draft"},
}
_STATUS = re.compile(rb"^(status|x-status):[ \t]*(\w*)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_FROM = re.compile(rb">+From ")


class ArchivedMessage(NamedTuple):
    """A message of an archive; `path` names it in messages to people."""

    path: str
    octets: bytes  # the first LIMIT + 1 of a message that is longer than LIMIT
    date: int | None  # seconds since 1970; None if unknown
    mailbox: str
    flags: list[str]


class Tree:
    """A Maildir or a directory of files, with the folders below it: both Lists/a and .Lists.a become Lists/a.

    Iterating yields the messages. `count` is the number of their files when it
    was made. Raises NoInput if `path` is not a directory, and OSError.
    """

    def __init__(self, path: str, mailbox: str = "INBOX") -> None:
        if not os.path.isdir(path):
            raise NoInput(f"{path}: no such directory")
        self.path = path
        self.mailbox = mailbox
        self.folders = sorted(
            ((folder, self._name(folder)) for folder in maildir.folders(path)), key=lambda folder: folder[1]
        )
        self.count = sum(len(maildir.files(folder)) for folder, _ in self.folders)

    def __iter__(self) -> Iterator[ArchivedMessage]:
        for folder, mailbox in self.folders:
            keywords = maildir.Keywords(folder)
            for path in maildir.files(folder):
                found = _read(path)
                if found:
                    yield ArchivedMessage(path, *found, mailbox, keywords.flags(path))

    def _name(self, folder: str) -> str:
        relative = os.path.relpath(folder, self.path)
        if relative == ".":
            return self.mailbox
        if relative.startswith(".") and "/" not in relative:  # as Maildir++ has them
            try:
                relative = utf7.decode(os.fsencode(relative[1:])).replace(".", "/")
            except ValueError:
                relative = relative[1:].replace(".", "/")
        relative = maildir.mailbox_of(os.fsencode(relative).decode("utf-8", "replace"))
        return relative if self.mailbox == "INBOX" else f"{self.mailbox}/{relative}"


def _read(path: str) -> tuple[bytes, int] | None:
    """Return the octets and the time of a message, or None if it is gone. A change of its flags has renamed it."""
    for _ in range(5):
        try:
            with open(path, "rb") as file:
                return file.read(LIMIT + 1), max(0, int(os.fstat(file.fileno()).st_mtime))
        except FileNotFoundError:
            folder = os.path.dirname(os.path.dirname(path))
            again = (
                [other for other in maildir.files(folder) if maildir.base(other) == maildir.base(path)]
                if maildir.is_maildir(folder)
                else []
            )
            if not again:
                return None
            path = again[0]
    return None


def mbox(stream: BinaryIO, mailbox: str = "INBOX") -> Iterator[ArchivedMessage]:
    """Yield the messages of an mbox. Raises NoInput if it does not begin with a "From " line.

    A message begins with a "From " line that has a date, at the start or after
    an empty line. If the first such line has no date, none of them needs one.
    In a message, one ">" is removed from lines that begin with ">From ",
    ">>From " and so on, as in mboxrd. mboxo is read in the same way.
    """
    message: bytearray | None = None
    number, date, dated = 0, None, True
    empty = begins = True  # the line before is empty; `line` is the beginning of a line
    while line := stream.readline(PIECE):
        if begins and empty and line.startswith(b"From ") and (not (number and dated) or _FROM_DATE.search(line)):
            if message is not None:
                yield _message(number, message, date, mailbox)
            message, date, number = bytearray(), _from_date(line), number + 1
            dated = dated and date is not None
            empty = False
        elif message is not None:
            if len(message) <= LIMIT:
                message += line[1:] if begins and _FROM.match(line) else line
            empty = begins and not line.rstrip(b"\r\n")
        elif line.strip():
            raise NoInput('standard input: no mbox (it does not begin with a line of "From ")')
        begins = line.endswith(b"\n")
    if message is not None:
        yield _message(number, message, date, mailbox)


PIECE = 1 << 20  # octets of a line that are read at a time
_END = re.compile(rb"(?:\A|\n)\r?\n\Z")
_HEADER_END = re.compile(rb"\r?\n\r?\n")


def _message(number: int, message: bytearray, date: int | None, mailbox: str) -> ArchivedMessage:
    octets = bytes(message)
    if _END.search(octets, max(0, len(octets) - 4)) and len(octets) <= LIMIT:
        octets = octets[: -2 if octets.endswith(b"\r\n") else -1]  # the empty line belongs to the mbox
    end = _HEADER_END.search(octets)
    flags = [
        flag
        for name, letters in _STATUS.findall(octets, 0, end.start() if end else len(octets))
        for letter, flag in MBOX_FLAGS[name.decode().lower()].items()
        if letter in letters.decode().upper()
    ]
    return ArchivedMessage(f"message {number}", octets[: LIMIT + 1], date, mailbox, flags)


_FROM_DATE = re.compile(FROM_DATE)


def _from_date(line: bytes) -> int | None:
    """Return the time in a "From " line in seconds since 1970, or None. It is UTC (RFC 4155) or has a numeric zone."""
    found = _FROM_DATE.search(line)
    if not found:
        return None
    month, day, hour, minute, second, east, more, year = (part and part.decode() for part in found.groups())
    try:
        there = time.strptime(f"{day} {month} {year} {hour}:{minute}:{second or '00'}", "%d %b %Y %H:%M:%S")
    except ValueError:
        return None
    offset = (int(east) * 60 + int(east[0] + (more or "00"))) * 60 if east else 0
    return max(0, calendar.timegm(there) - offset)

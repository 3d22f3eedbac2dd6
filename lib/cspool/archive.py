"""Archives of mail: reading mbox, Maildir and plain directories, one message at a time.

A folder becomes the mailbox of its path, and what an archive knows of flags
and times is kept. Whatever it is, only one message is in memory.
"""

import calendar
import hashlib
import os
import re
import time
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from .errors import NoInput
from .frame import LIMIT
from .mail import utf7

# The letters behind ":2," in the name of a Maildir file, and in the fields Status and X-Status of mbox.
MAILDIR_FLAGS = {
    "D": "\\Draft",
    "F": "\\Flagged",
    "P": "$Forwarded",
    "R": "\\Answered",
    "S": "\\Seen",
    "T": "\\Deleted",
}
MBOX_FLAGS = {
    "status": {"R": "\\Seen"},
    "x-status": {"A": "\\Answered", "F": "\\Flagged", "D": "\\Deleted", "T": "\\Draft"},
}
KEYWORDS = "dovecot-keywords"  # the file of a Maildir that says what the letters a to z are, "0 name" for a

_STATUS = re.compile(rb"^(status|x-status):[ \t]*(\w*)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_FROM = re.compile(rb">+From ")


class ArchivedMessage(NamedTuple):
    """A message of an archive; `path` names it for people."""

    path: str
    octets: bytes  # of one that is longer than LIMIT, no more than LIMIT + 1
    date: int | None  # seconds since 1970
    mailbox: str
    flags: list[str]


class Tree:
    """A Maildir, with its folders below it in either of the two ways, or a directory of files. Raises NoInput."""

    def __init__(self, path: str, mailbox: str = "INBOX") -> None:
        if not os.path.isdir(path):
            raise NoInput(f"{path}: no such directory")
        self.path = path
        self.mailbox = mailbox
        self.folders = sorted(((folder, self._name(folder)) for folder in folders(path)), key=lambda folder: folder[1])
        self.count = sum(len(_files(folder)) for folder, _ in self.folders)

    def __iter__(self) -> Iterator[ArchivedMessage]:
        for folder, mailbox in self.folders:
            keywords = Keywords(folder)
            for path in _files(folder):
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
        relative = mailbox_of(os.fsencode(relative).decode("utf-8", "replace"))
        return relative if self.mailbox == "INBOX" else f"{self.mailbox}/{relative}"


def folders(path: str) -> list[str]:
    """Return all folders at `path`, itself included. Raises OSError where one cannot be read.

    Neither the parts of a Maildir are folders, nor what is hidden and none: an index of notmuch, say.
    """
    found = []

    def fail(error: OSError) -> None:
        raise error

    for folder, inside, _ in os.walk(path, onerror=fail):
        found.append(folder)
        parts = ("cur", "new", "tmp") if is_maildir(folder) else ()
        paths = [(name, os.path.join(folder, name)) for name in inside if name not in parts]
        inside[:] = [name for name, below in paths if not name.startswith(".") or is_maildir(below)]
    return found


PART_MAX = 200  # octets of a level of a name that a file system is asked to take


def folder_name(mailbox: str) -> str:
    """Return the relative path that a mailbox has as a folder.

    No two have the same. What no folder can be called begins with %hex there,
    and so does what begins like that; the end of what is too long is a hash.
    """
    parts = []
    for part in mailbox.split("/"):
        octets = part.encode()
        if len(octets) > PART_MAX:
            start = octets[: PART_MAX // 2].decode("utf-8", "ignore")
            part = f"%~{start}~{hashlib.blake2b(octets, digest_size=16).hexdigest()}"  # noqa: PLW2901
        elif part in ("cur", "new", "tmp", KEYWORDS) or part.startswith((".", "%")):
            part = f"%{octets[0]:02x}{part[1:]}"  # noqa: PLW2901
        parts.append(part)
    return os.fsdecode("/".join(parts).encode())


def mailbox_of(relative: str) -> str:
    """Return the mailbox of a folder; where `folder_name` has not made its name, they are called the same."""
    parts = []
    for part in relative.split("/"):
        plain = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), part)
        parts.append(plain if folder_name(plain) == os.fsdecode(part.encode()) else part)
    return "/".join(parts)


_ESCAPED = re.compile(r"^%([0-7][0-9a-f])")


def is_maildir(folder: str) -> bool:
    """Tell whether a directory is a Maildir."""
    return os.path.isdir(os.path.join(folder, "cur")) and os.path.isdir(os.path.join(folder, "new"))


def _files(folder: str) -> list[str]:
    """Return the paths of the messages in a folder, in the order in which they came, as far as the names tell."""
    found = []
    for part in ("cur", "new") if is_maildir(folder) else ("",):
        for name in os.listdir(os.path.join(folder, part)):
            path = os.path.join(folder, part, name)
            if not name.startswith(".") and os.path.isfile(path):
                found.append(path)
    return sorted(found, key=lambda path: [(int(n), "") if n.isdigit() else (-1, n) for n in _PARTS.split(_base(path))])


_PARTS = re.compile(r"(\d{1,18})")


def _base(path: str) -> str:
    """Return what a message keeps of its name in a Maildir when its flags change."""
    return os.path.basename(path).partition(":")[0]


def _read(path: str) -> tuple[bytes, int] | None:
    """Return octets and time of a message; None where it is gone. Its flags may just have been changed."""
    for _ in range(5):
        try:
            with open(path, "rb") as file:
                return file.read(LIMIT + 1), max(0, int(os.fstat(file.fileno()).st_mtime))
        except FileNotFoundError:
            folder = os.path.dirname(os.path.dirname(path))
            again = [other for other in _files(folder) if _base(other) == _base(path)] if is_maildir(folder) else []
            if not again:
                return None
            path = again[0]
    return None


class Keywords:
    """What the letters behind ":2," mean in a folder: those of Maildir, and a to z for keywords (as with Dovecot)."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, KEYWORDS)
        self._saved: dict[int, str] = {}  # by number, 0 for a
        try:
            with open(self._path, encoding="utf-8", errors="replace") as file:
                rows = [line.split() for line in file]
        except FileNotFoundError:
            rows = []
        for row in rows:
            if len(row) == 2 and row[0].isascii() and row[0].isdigit() and len(row[0]) < 9:
                self._saved[int(row[0])] = row[1]
        self._keywords = self._saved.copy()

    def flags(self, path: str) -> list[str]:
        """Return the flags that the name of a file says."""
        letters = os.path.basename(path).partition(":2,")[2]
        known = {chr(ord("a") + number): keyword for number, keyword in self._keywords.items() if number < 26}
        known |= MAILDIR_FLAGS
        return [known[letter] for letter in letters if letter in known]

    def letters(self, flags: list[str]) -> str:
        """Return the letters for flags, in order; keywords beyond the 26th of a folder have none."""
        found = []
        for flag in flags:
            if flag in _LETTERS:
                found.append(_LETTERS[flag])
                continue
            numbers = {keyword: number for number, keyword in self._keywords.items() if number < 26}
            number = numbers.get(flag, min(set(range(26)) - self._keywords.keys(), default=None))
            if number is not None:
                self._keywords[number] = flag
                found.append(chr(ord("a") + number))
        return "".join(sorted(found))

    def save(self) -> None:
        """Write down what keywords have got letters."""
        if self._keywords != self._saved:
            with open(self._path + ".new", "w", encoding="utf-8") as file:
                file.writelines(f"{number} {keyword}\n" for number, keyword in sorted(self._keywords.items()))
            os.rename(self._path + ".new", self._path)


_LETTERS = {flag: letter for letter, flag in MAILDIR_FLAGS.items()}


def mbox(stream: BinaryIO, mailbox: str = "INBOX") -> Iterator[ArchivedMessage]:
    """Yield the messages of an mbox.

    A message begins with a "From " line that says when it came, behind an
    empty line, and ends before the next. (Where the first does not say it,
    none has to.) In its body one ">" is taken off each line of them before
    "From ", as mboxrd has it, and mboxo is read alike.
    """
    message: bytearray | None = None
    number, date, dated = 0, None, True
    empty = begins = True  # the line before was empty; here a line begins
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
        octets = octets[: -2 if octets.endswith(b"\r\n") else -1]  # the empty line is a part of the mbox
    end = _HEADER_END.search(octets)
    flags = [
        flag
        for name, letters in _STATUS.findall(octets, 0, end.start() if end else len(octets))
        for letter, flag in MBOX_FLAGS[name.decode().lower()].items()
        if letter in letters.decode().upper()
    ]
    return ArchivedMessage(f"message {number}", octets[: LIMIT + 1], date, mailbox, flags)


_FROM_DATE = re.compile(
    rb" ([A-Z][a-z]{2}) +(\d{1,2}) +(\d\d):(\d\d)(?::(\d\d))?(?: +[A-Z]{1,5})?(?: +([+-]\d\d)(\d\d))? +(\d{4})\b"
)


def _from_date(line: bytes) -> int | None:
    """Return the time of a "From " line (RFC 4155: in UTC, unless it has a number for the zone), None for none."""
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

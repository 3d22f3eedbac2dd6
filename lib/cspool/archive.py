"""Archives of mail: reading mbox, Maildir and plain directories, one message at a time.

A folder becomes the mailbox of its path, and what an archive knows of flags
and times is kept. Whatever it is, only one message is in memory.
"""

import calendar
import os
import re
import time
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from .errors import NoInput
from .imap import names

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


class Message(NamedTuple):
    """A message of an archive; `path` names it for people."""

    path: str
    octets: bytes
    date: int | None  # seconds since 1970
    mailbox: str
    flags: list[str]


class Directory:
    """A Maildir, with its folders below it in either of the two ways, or a directory of files. Raises NoInput."""

    def __init__(self, path: str, mailbox: str = "INBOX") -> None:
        if not os.path.isdir(path):
            raise NoInput(f"{path}: no such directory")
        self.path = path
        self.mailbox = mailbox
        self.folders = [(folder, self._name(folder)) for folder, _, _ in os.walk(path) if not _is_part(folder)]
        self.folders.sort(key=lambda folder: folder[1])
        self.count = sum(len(_files(folder)) for folder, _ in self.folders)

    def __iter__(self) -> Iterator[Message]:
        for folder, mailbox in self.folders:
            keywords = Keywords(folder)
            for path in _files(folder):
                found = _read(path)
                if found:
                    yield Message(path, *found, mailbox, keywords.flags(path))

    def _name(self, folder: str) -> str:
        relative = os.path.relpath(folder, self.path)
        if relative == ".":
            return self.mailbox
        if relative.startswith(".") and "/" not in relative:  # as Maildir++ has them
            try:
                relative = names.decode(os.fsencode(relative[1:])).replace(".", "/")
            except ValueError:
                relative = relative[1:].replace(".", "/")
        relative = relative.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return relative if self.mailbox == "INBOX" else f"{self.mailbox}/{relative}"


def _is_part(folder: str) -> bool:
    """Tell whether a directory is a part of a Maildir, and no folder by itself."""
    head, tail = os.path.split(folder)
    return tail in ("cur", "new", "tmp") and is_maildir(head)


def folder_name(mailbox: str) -> str:
    """Return the relative path that a mailbox has as a folder; what no folder can be called is written as %hex."""
    parts = []
    for part in mailbox.split("/"):
        if part in ("cur", "new", "tmp") or part.startswith("."):
            part = "".join(f"%{octet:02x}" for octet in part[:1].encode()) + part[1:]  # noqa: PLW2901
        parts.append(part)
    return "/".join(parts)


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
                return file.read(), max(0, int(os.fstat(file.fileno()).st_mtime))
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
        self._saved: list[str] = []
        try:
            with open(self._path, encoding="utf-8", errors="replace") as file:
                rows = [line.split() for line in file]
        except FileNotFoundError:
            rows = []
        for row in rows:
            if len(row) == 2 and row[0] == str(len(self._saved)):
                self._saved.append(row[1])
        self._keywords = self._saved[:]

    def flags(self, path: str) -> list[str]:
        """Return the flags that the name of a file says."""
        letters = os.path.basename(path).partition(":2,")[2]
        known = {chr(ord("a") + number): keyword for number, keyword in enumerate(self._keywords[:26])} | MAILDIR_FLAGS
        return [known[letter] for letter in letters if letter in known]

    def letters(self, flags: list[str]) -> str:
        """Return the letters for flags, in order; keywords beyond the 26th of a folder have none."""
        found = []
        for flag in flags:
            if flag in _LETTERS:
                found.append(_LETTERS[flag])
                continue
            if flag not in self._keywords and len(self._keywords) < 26:
                self._keywords.append(flag)
            if flag in self._keywords:
                found.append(chr(ord("a") + self._keywords.index(flag)))
        return "".join(sorted(found))

    def save(self) -> None:
        """Write down what keywords have got letters."""
        if self._keywords != self._saved:
            with open(self._path + ".new", "w", encoding="utf-8") as file:
                file.writelines(f"{number} {keyword}\n" for number, keyword in enumerate(self._keywords))
            os.rename(self._path + ".new", self._path)


_LETTERS = {flag: letter for letter, flag in MAILDIR_FLAGS.items()}


def mbox(stream: BinaryIO, mailbox: str = "INBOX") -> Iterator[Message]:
    """Yield the messages of an mbox: a message begins with a "From " line behind an empty one, and ends before it.

    In its body one ">" is taken off each line of them before "From ", as mboxrd
    has it (and mboxo is read alike).
    """
    lines: list[bytes] = []
    number, date, empty = 0, None, True
    for line in stream:
        if empty and line.startswith(b"From "):
            if number:
                yield _message(number, lines, date, mailbox)
            lines, date = [], _from_date(line)
            number += 1
            empty = False
            continue
        if not number:
            if line.strip():
                raise NoInput('standard input: no mbox (it does not begin with a line of "From ")')
            continue
        lines.append(line[1:] if _FROM.match(line) else line)
        empty = not line.rstrip(b"\r\n")
    if number:
        yield _message(number, lines, date, mailbox)


def _message(number: int, lines: list[bytes], date: int | None, mailbox: str) -> Message:
    if lines and not lines[-1].rstrip(b"\r\n"):
        lines.pop()  # the empty line is a part of the mbox
    octets = b"".join(lines)
    header = re.split(rb"\r?\n\r?\n", octets, maxsplit=1)[0]
    flags = [
        flag
        for name, letters in _STATUS.findall(header)
        for letter, flag in MBOX_FLAGS[name.decode().lower()].items()
        if letter in letters.decode().upper()
    ]
    return Message(f"message {number}", octets, date, mailbox, flags)


def _from_date(line: bytes) -> int | None:
    """Return the time of a "From " line (RFC 4155: in UTC), None where it has none."""
    words = line.decode("ascii", "replace").split()
    for end in (len(words), len(words) - 1):  # some have a zone behind it
        try:
            return max(0, calendar.timegm(time.strptime(" ".join(words[end - 5 : end]), "%a %b %d %H:%M:%S %Y")))
        except ValueError:
            continue
    return None

"""Maildir: what the names of its folders and files mean, for moving in and out."""

import hashlib
import os
import re

from ..mail import utf7

# The letters after ":2," in a file name.
MAILDIR_FLAGS = {
    "D": "\\Draft",
    "F": "\\Flagged",
    "P": "$Forwarded",
    "R": "\\Answered",
    "S": "\\Seen",
    "T": "\\Deleted",
}
KEYWORDS = "dovecot-keywords"  # the file in a Maildir with the keywords for the letters a to z: "0 name" for a


def folders(path: str) -> list[str]:
    """Return the directory `path` and all folders below it. Raises OSError if one cannot be read.

    Not folders are the parts of a Maildir, and hidden directories that are not a Maildir, such as an index of notmuch.
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


PART_MAX = 200  # octets in a level of a folder's name; a longer one is shortened


def folder_name(mailbox: str) -> str:
    """Return the relative path of the folder for a mailbox. Two mailboxes never have the same.

    The first octet of a level that cannot be a folder's name, or that begins
    with %, is written as % and two hex digits. A level that is too long is
    shortened, and ends with a hash.
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


def dotted_name(mailbox: str) -> str:
    """Return the path of the folder for a mailbox in Maildir++, as Dovecot reads it: `.a.b`, in modified UTF-7.

    INBOX is the Maildir itself. A dot in a level is written as %2e.
    """
    if mailbox == "INBOX":
        return ""
    levels = (part.replace(".", "%2e") for part in folder_name(mailbox).split("/"))
    return "".join(f".{utf7.encode(os.fsencode(level).decode()).decode()}" for level in levels)


def mailbox_of(relative: str) -> str:
    """Return the mailbox for the folder at this relative path: the reverse of `folder_name`; other names are kept."""
    parts = []
    for part in relative.split("/"):
        plain = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), part)
        parts.append(plain if folder_name(plain) == os.fsdecode(part.encode()) else part)
    return "/".join(parts)


_ESCAPED = re.compile(r"^%([0-7][0-9a-f])")


def is_maildir(folder: str) -> bool:
    """Return whether a directory is a Maildir: git, zip and others leave out `new` where it is empty."""
    return os.path.isdir(os.path.join(folder, "cur")) or os.path.isdir(os.path.join(folder, "new"))


def files(folder: str) -> list[str]:
    """Return the paths of the messages in a folder, in the order of arrival as far as their names show it."""
    found = []
    for part in ("cur", "new") if is_maildir(folder) else ("",):
        for name in os.listdir(os.path.join(folder, part)) if os.path.isdir(os.path.join(folder, part)) else ():
            path = os.path.join(folder, part, name)
            if not name.startswith(".") and os.path.isfile(path):
                found.append(path)
    return sorted(found, key=order)


def order(path: str) -> list[tuple[int, str]]:
    """Return the key by which files of messages are in the order of arrival: numbers in a name count as such."""
    return [(int(n), "") if n.isdecimal() else (-1, n) for n in _PARTS.split(base(path))]


_PARTS = re.compile(r"(\d{1,18})", re.ASCII)
# Where a file system has no colon, programs write something else before the flags.
_INFO = re.compile(r"(?:%3A|[^\w,=]|_|(?<=\W))2,([A-Za-z]*)\Z", re.IGNORECASE)


def base(path: str) -> str:
    """Return the part of a message's file name that stays when its flags change."""
    name = os.path.basename(path)
    found = _INFO.search(name)
    return name[: found.start()] if found else name


def letters_of(path: str) -> str:
    """Return the letters of the flags in a message's file name."""
    found = _INFO.search(os.path.basename(path))
    return found[1] if found else ""


class Keywords:
    """What the letters after ":2," mean in a folder: those of Maildir, and a to z for keywords, as in Dovecot."""

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
        """Return the flags in the name of a file."""
        letters = letters_of(path)
        known = {chr(ord("a") + number): keyword for number, keyword in self._keywords.items() if number < 26}
        known |= MAILDIR_FLAGS
        return [known[letter] for letter in letters if letter in known]

    def letters(self, flags: list[str]) -> str:
        """Return the letters for flags, in order. A new keyword gets a letter if the folder has one of the 26 left."""
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
        """Write the file of keywords if one of them has got a letter."""
        if self._keywords != self._saved:
            with open(self._path + ".new", "w", encoding="utf-8") as file:
                file.writelines(f"{number} {keyword}\n" for number, keyword in sorted(self._keywords.items()))
            os.rename(self._path + ".new", self._path)


_LETTERS = {flag: letter for letter, flag in MAILDIR_FLAGS.items()}

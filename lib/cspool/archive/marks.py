"""Flags and labels that mail programs write into the header of a message in their files."""

import re
from typing import NamedTuple

from . import labels

_STATUS = {
    b"status": {"R": "\\Seen"},
    b"x-status": {"A": "\\Answered", "F": "\\Flagged", "D": "\\Deleted", "T": "\\Draft"},
}
_MOZILLA = {0x1: "\\Seen", 0x2: "\\Answered", 0x4: "\\Flagged", 0x1000: "$Forwarded"}
_MOZILLA_EXPUNGED = 0x8
_FOLD = re.compile(rb"\r?\n(?=[ \t])")
# What a program writes stands before all that a sender can have written.
_OWN = {
    b"x-mozilla-status", b"x-mozilla-status2", b"x-mozilla-keys", b"x-account-key", b"x-uidl", b"x-gm-thrid",
    b"x-gmail-labels",
}  # fmt: skip


class Marks(NamedTuple):
    """What a header says of a message: `mailbox` is None if it says nothing of that."""

    flags: list[str]
    mailbox: str | None = None
    is_expunged: bool = False


def of(header: bytes) -> Marks:
    """Return what the programs of an mbox have written into a header."""
    own = of_own(header)
    flags = own.flags
    for name, value in _fields(header):
        if name in _STATUS:
            flags += [
                flag for letter, flag in _STATUS[name].items() if letter in value.decode("ascii", "replace").upper()
            ]
        elif name == b"x-keywords":  # of Dovecot and UW IMAP
            flags += value.decode("ascii", "replace").split()
    return own._replace(flags=list(dict.fromkeys(flags)))


def of_own(header: bytes) -> Marks:
    """Return what a program has written at the top of a header: Thunderbird, and Google's Takeout."""
    flags: list[str] = []
    mailbox, is_expunged = None, False
    for name, value in _fields(header):
        if name not in _OWN:
            break
        text = value.decode("ascii", "replace")
        if name == b"x-mozilla-status":
            bits = int(text, 16) if re.fullmatch("[0-9A-Fa-f]{1,8}", text) else 0
            flags += [flag for bit, flag in _MOZILLA.items() if bits & bit]
            is_expunged = bool(bits & _MOZILLA_EXPUNGED)
        elif name == b"x-mozilla-keys":
            flags += text.split()
        elif name == b"x-gmail-labels":
            found = labels.read(value)
            flags += found.flags
            mailbox = found.mailbox
    return Marks(flags, mailbox, is_expunged)


def _fields(header: bytes) -> list[tuple[bytes, bytes]]:
    """Return names, in lower case, and values of the fields of a header."""
    lines = _FOLD.sub(b"", header).split(b"\n")
    pairs = (line.partition(b":") for line in lines)
    return [(name.strip().lower(), value.strip()) for name, colon, value in pairs if colon]


def under(mailbox: str, name: str | None) -> str:
    """Return the mailbox for a name below the one that an archive goes to: INBOX has none below it."""
    if name is None or name == "INBOX":
        return mailbox
    return name if mailbox == "INBOX" else f"{mailbox}/{name}"

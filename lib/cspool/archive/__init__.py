"""Other people's formats: mail in an mbox, a Maildir, and what other programs keep it in, one message at a time.

    mbox      an mbox, and where its messages begin
    tree      a directory, and what layout it has
    maildir   the names of folders and files in a Maildir
    marks     flags and labels that programs write into the header of a message
    labels    the labels of Gmail

Flags and times are kept. No message stays behind in silence: what is not taken
is counted by kind (LeftOut).
"""

from typing import NamedTuple


class ArchivedMessage(NamedTuple):
    """A message of an archive; `path` names it in messages to people."""

    path: str
    octets: bytes  # the first LIMIT + 1 of a message that is longer than LIMIT
    date: int | None  # seconds since 1970; None if unknown
    mailbox: str
    flags: list[str]


class LeftOut:
    """What of an archive is not taken, and why: counted by kind, so that a thousand of a kind are one line."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, int]] = {}  # the first of a kind, and how many

    def add(self, where: str, why: str) -> None:
        """Count something that is not taken; `where` is shown if it is the first of its kind."""
        first, count = self._found.get(why, (where, 0))
        self._found[why] = first, count + 1

    def lines(self) -> list[str]:
        """Return a line for each kind."""
        return [
            f"{first}: {why}" if count == 1 else f"{first} and {count - 1:,} more: {why}"
            for why, (first, count) in self._found.items()
        ]

"""What a client is told of the entries of METADATA that others change (RFC 5464 section 4.4.2)."""

import hashlib
import sqlite3
from collections.abc import Callable, Iterable

from .grammar import astring


class EntryChanges:
    """The entries as a client knows them. `covers` says of which mailboxes it is told, by name; "" is the server."""

    def __init__(
        self, db: sqlite3.Connection, encode: Callable[[str], bytes], covers: Callable[[str], bool] = lambda name: True
    ) -> None:
        self.db = db
        self.encode = encode  # makes a mailbox name an IMAP string
        self.covers = covers
        self._answers: list[bytes] = []  # still to be sent
        self._known = self._look()

    def take(self) -> list[bytes]:
        """Return the untagged answers for what has changed since the last call."""
        self.collect()
        answers, self._answers = self._answers, []
        return answers

    def collect(self) -> None:
        """Note what has changed, to be told later."""
        before, self._known = self._known, self._look()
        changed: dict[int, set[str]] = {}
        for (mailbox, entry), _ in before.items() ^ self._known.items():
            changed.setdefault(mailbox, set()).add(entry)
        for mailbox, entries in sorted(changed.items()):
            name = self._name(mailbox)
            if name is not None and self.covers(name):
                self._answers.append(self._answer(name, entries))

    def pass_over(self) -> None:
        """Take what has changed since `collect` as known to the client, which has done it."""
        self._known = self._look()

    def _look(self) -> dict[tuple[int, str], bytes]:
        """Return the hash of the value of each entry."""
        rows = self.db.execute("SELECT mailbox, entry, view FROM metadata WHERE view NOTNULL")
        return {(mailbox, entry): hashlib.blake2b(value).digest() for mailbox, entry, value in rows}

    def _name(self, mailbox: int) -> str | None:
        """Return the name of a mailbox, or "" for the server; None for a mailbox that is gone."""
        if not mailbox:
            return ""
        found = self.db.execute("SELECT name FROM mailbox WHERE key = ?", (mailbox,)).fetchone()
        return found[0] if found else None

    def _answer(self, name: str, entries: Iterable[str]) -> bytes:
        """Return the answer, with names and no values."""
        names = b" ".join(astring(one.encode()) for one in sorted(entries))
        return b"METADATA %b %b" % (self.encode(name), names)

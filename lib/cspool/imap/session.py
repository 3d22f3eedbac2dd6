"""A session: who is logged in, which mailbox is selected, and what the client has been told of it.

The client's sequence numbers are its own: a message that somebody else
expunges stays in them until the client can be told (RFC 3501 section 7.4.1),
and one that arrives is not in them before EXISTS has been sent.
"""

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any

from .. import database, view
from ..command import Fields
from .connection import Connection
from .grammar import BadCommand, SequenceSet

SYSTEM_FLAGS = r"\Answered \Flagged \Deleted \Seen \Draft"
IDS_MAX = 100_000  # message ids in one change; more become several


class No(Exception):
    """The command cannot be done: a NO answer with this text."""


class Session:
    """One client. `selected` is None outside the selected state."""

    def __init__(self, db: sqlite3.Connection, connection: Connection, password_file: str) -> None:
        self.db = db
        self.connection = connection
        self.password_file = password_file
        self.authenticated = False
        self.failures = 0  # of LOGIN and AUTHENTICATE
        self.selected: Selected | None = None
        self.ended = False

    def untagged(self, octets: bytes) -> None:
        """Send an untagged answer."""
        self.connection.write(b"* %b\r\n" % octets)

    @staticmethod
    def mailbox_name(name: str) -> str:
        """Return a name as it is kept: INBOX is one in any case (RFC 3501 section 5.1)."""
        return "INBOX" if name.upper() == "INBOX" else name

    def mailbox(self, name: str) -> int:
        """Return the key of a mailbox by its name in the view. Raises No."""
        found = self.db.execute("SELECT key FROM mailbox WHERE name = ?", (self.mailbox_name(name),)).fetchone()
        if not found:
            raise No("[NONEXISTENT] No such mailbox")
        key: int = found[0]
        return key

    def mailbox_id(self, name: str) -> bytes:
        """Return the permanent id of a mailbox by its name in the view. Raises No."""
        key = self.mailbox(name)
        mailbox_id: bytes = self.db.execute("SELECT id FROM mailbox WHERE key = ?", (key,)).fetchone()[0]
        return mailbox_id

    def change(self, rows: list[Fields], octets: bytes = b"") -> None:
        """Make small changes, here and in the outbox, in one transaction."""
        with database.writing(self.db):
            view.change(self.db, rows, octets)

    def change_messages(self, rows: list[Fields], ids: list[bytes]) -> None:
        """Make the same small changes to all these messages: `rows` lack nothing but `ids`."""
        for start in range(0, len(ids), IDS_MAX):
            some = b"".join(ids[start : start + IDS_MAX]).hex()
            self.change([{**row, "ids": some} for row in rows])

    def tell(self, expunges: bool) -> None:
        """Tell the client what has changed in the selected mailbox; `expunges` says whether it may hear of those."""
        if self.selected:
            for answer in self.selected.news(expunges):
                self.untagged(answer)


class Selected:
    """The selected mailbox as this client knows it: uids[n - 1] is the UID of message n."""

    def __init__(self, db: sqlite3.Connection, key: int, read_only: bool) -> None:
        self.db = db
        self.key = key
        self.read_only = read_only
        self.recent: set[int] = set()  # UIDs that are \\Recent in this session, and in no other
        self.uids: list[int] = []
        self.known = 0  # the highest UID that has ever been in `uids`
        self.told: dict[int, str] = {}  # flags that the client knows although their MODSEQ is above `modseq`
        self.modseq = 0  # up to here flags and arrivals have been told
        self.expunge_modseq = 0  # up to here expunges have been told
        self.uidvalidity: int = self._mailbox("uidvalidity")
        self.news(expunges=True)

    def _mailbox(self, column: str) -> int:
        value: int = self.db.execute(f"SELECT {column} FROM mailbox WHERE key = ?", (self.key,)).fetchone()[0]
        return value

    # What the client is told

    def news(self, expunges: bool) -> list[bytes]:
        """Return untagged answers for what has changed since the last time."""
        modseq = self._mailbox("modseq")
        if self.modseq == modseq and (self.expunge_modseq == modseq or not expunges):
            return []
        self.db.execute("BEGIN")  # one snapshot for all that is told
        try:
            modseq = self._mailbox("modseq")
            told = self._expunges() if expunges else []
            told += self._changed_flags()
            new = self._arrivals()
        finally:
            self.db.execute("COMMIT")
        if expunges:
            self.expunge_modseq = modseq
        if new:
            self._claim_recent(new)
            told += [b"%d EXISTS" % len(self.uids), b"%d RECENT" % len(self.recent)]
        self.modseq = modseq
        self.told.clear()
        return told

    def _expunges(self) -> list[bytes]:
        query = "SELECT uid FROM vanished WHERE mailbox = ? AND modseq > ?"
        gone = {uid for (uid,) in self.db.execute(query, (self.key, self.expunge_modseq))}
        places = sorted((place for place in map(self.place, gone) if place is not None), reverse=True)
        if places:
            self.uids = [uid for uid in self.uids if uid not in gone]
            self.recent -= gone
        return [b"%d EXPUNGE" % (place + 1) for place in places]

    def _arrivals(self) -> list[int]:
        query = "SELECT uid FROM message WHERE mailbox = ? AND uid > ? ORDER BY uid"
        new = [uid for (uid,) in self.db.execute(query, (self.key, self.known))]
        self.uids += new
        self.known = max(self.known, *new, 0)
        return new

    def _changed_flags(self) -> list[bytes]:
        query = "SELECT uid, flags FROM message WHERE mailbox = ? AND modseq > ? AND uid <= ? ORDER BY uid"
        changed = []
        if self.modseq:  # else the mailbox has just been selected
            for uid, flags in self.db.execute(query, (self.key, self.modseq, self.known)):
                place = self.place(uid)
                if place is not None and self.told.get(uid) != flags:
                    changed.append(b"%d FETCH (UID %d FLAGS %b)" % (place + 1, uid, self.flags(uid, flags)))
        return changed

    def _claim_recent(self, new: list[int]) -> None:
        """Make new messages \\Recent here unless another session was first (RFC 3501 section 2.3.2)."""
        recent = self._mailbox("recent")
        if recent <= new[-1] and not self.read_only:
            with database.writing(self.db):
                recent = self._mailbox("recent")
                self.db.execute("UPDATE mailbox SET recent = max(recent, ?) WHERE key = ?", (new[-1] + 1, self.key))
        self.recent.update(uid for uid in new if uid >= recent)

    # Messages

    def keywords(self) -> str:
        """Return the keywords that messages here have."""
        texts = self.db.execute("SELECT DISTINCT flags FROM message WHERE mailbox = ?", (self.key,))
        return " ".join(sorted({flag for (flags,) in texts for flag in flags.split() if flag[0] != "\\"}))

    def first_unseen(self) -> int:
        """Return the sequence number of the first message without \\Seen, 0 for none."""
        query = "SELECT uid FROM message WHERE mailbox = ? AND instr(flags, '\\Seen') = 0 ORDER BY uid LIMIT 1"
        found = self.db.execute(query, (self.key,)).fetchone()
        place = self.place(found[0]) if found else None
        return 0 if place is None else place + 1

    def place(self, uid: int) -> int | None:
        """Return the place of a UID in `uids`, which is its sequence number less one."""
        place = bisect_left(self.uids, uid)
        return place if place < len(self.uids) and self.uids[place] == uid else None

    def flags(self, uid: int, flags: str) -> bytes:
        """Return the flags of a message as IMAP sends them."""
        if uid in self.recent:
            flags = f"\\Recent {flags}".rstrip()
        return b"(%b)" % flags.encode()

    def ranges(self, numbers: SequenceSet, by_uid: bool) -> list[tuple[int, int]]:
        """Return the UID ranges, ascending and disjoint, of a sequence set.

        Raises BadCommand for a sequence number that no message has (RFC 3501
        section 9, seq-number); where "*" is the other end, it is the last one's.
        """
        found = []
        highest = (self.uids[-1] if self.uids else 0) if by_uid else len(self.uids)
        for low, high in numbers:
            first, last = sorted((highest if low is None else low, highest if high is None else high))
            if not by_uid:
                if low is None or high is None:
                    last = highest
                if last > highest:
                    raise BadCommand("No message has such a number")
                if not last:
                    continue  # "*" in an empty mailbox
                first, last = self.uids[min(first, last) - 1], self.uids[last - 1]
            found.append((first, last))
        found.sort()
        merged: list[tuple[int, int]] = []
        for first, last in found:
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return merged

    def rows(self, ranges: Iterable[tuple[int, int]], columns: str, tables: str = "") -> Iterator[tuple[Any, ...]]:
        """Yield sequence number, UID and `columns` of those messages in these UID ranges that the client knows.

        What another session has expunged meanwhile is left out.
        """
        query = (
            f"SELECT message.uid, {columns} FROM message {tables}"
            " WHERE message.mailbox = ? AND message.uid BETWEEN ? AND ? ORDER BY message.uid"
        )
        for first, last in ranges:
            place = bisect_left(self.uids, first)
            for row in self.db.execute(query, (self.key, first, min(last, self.known))):
                uid = row[0]
                while place < len(self.uids) and self.uids[place] < uid:
                    place += 1
                if place < len(self.uids) and self.uids[place] == uid:
                    yield place + 1, *row

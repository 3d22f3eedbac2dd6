"""The selected mailbox: what the client has been told of it.

The client's sequence numbers are its own: a message that somebody else
expunges stays in them until the client can be told (RFC 3501 section 7.4.1),
and one that arrives is not in them before EXISTS has been sent.
"""

import sqlite3
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any

from ..database.schema import UNSEEN, reading, writing
from .grammar import CONDSTORE, QRESYNC, REV2, BadCommand, SequenceSet
from .sets import Ranges, merged, uid_set


class Selected:
    """The selected mailbox as this client knows it: uids[n - 1] is the UID of message n."""

    def __init__(self, db: sqlite3.Connection, enabled: set[str], key: int, read_only: bool) -> None:
        self.db = db
        self.enabled = enabled  # what ENABLE has enabled, also from here on
        self.key = key
        self.read_only = read_only
        self.recent: set[int] = set()  # UIDs that are \Recent in this session, and in no other
        self.uids: list[int] = []
        self.known = 0  # the highest UID that has ever been in `uids`
        self.uidnext = 1  # as the client has it
        self.saved: Ranges = []  # the result of SEARCH RETURN (SAVE), which is "$" (RFC 5182)
        self.told: dict[int, str] = {}  # flags that the client knows although their MODSEQ is above `modseq`
        self.modseq = 0  # up to here flags and arrivals have been told
        self.expunge_modseq = 0  # up to here expunges have been told
        self.news(expunges=True)

    def mailbox(self, column: str) -> int:
        """Return a number that the database has of this mailbox."""
        value: int = self.db.execute(f"SELECT {column} FROM mailbox WHERE key = ?", (self.key,)).fetchone()[0]
        return value

    # What the client is told

    def news(self, expunges: bool) -> list[bytes]:
        """Return untagged answers for what has changed since the last time."""
        modseq = self.mailbox("modseq")
        if self.modseq == modseq and (self.expunge_modseq == modseq or not expunges):
            return []
        with reading(self.db):
            modseq, self.uidnext = self.mailbox("modseq"), self.mailbox("uidnext")
            told = self._expunges() if expunges else []
            told += self._changed_flags()
            new = self._arrivals()
        if expunges:
            self.expunge_modseq = modseq
        if new:
            self._claim_recent(new)
            told.append(b"%d EXISTS" % len(self.uids))
            if REV2 not in self.enabled:
                told.append(b"%d RECENT" % len(self.recent))
        self.modseq = modseq
        self.told.clear()
        return told

    def expunges_wait(self) -> bool:
        """Tell whether there are expunges that the client has not heard of, before changes that it has."""
        query = "SELECT 1 FROM vanished WHERE mailbox = ? AND modseq > ? AND modseq <= ?"
        waiting = self.expunge_modseq < self.modseq
        return waiting and bool(self.db.execute(query, (self.key, self.expunge_modseq, self.modseq)).fetchone())

    def _expunges(self) -> list[bytes]:
        query = "SELECT uid FROM vanished WHERE mailbox = ? AND modseq > ?"
        gone = {uid for (uid,) in self.db.execute(query, (self.key, self.expunge_modseq))}
        places = sorted((place for place in map(self.place, gone) if place is not None), reverse=True)
        if not places:
            return []
        uids = [self.uids[place] for place in reversed(places)]
        self.uids = [uid for uid in self.uids if uid not in gone]
        self.recent -= gone
        if QRESYNC in self.enabled:
            return [b"VANISHED " + uid_set(uids)]
        return [b"%d EXPUNGE" % (place + 1) for place in places]

    def _changed_flags(self) -> list[bytes]:
        query = "SELECT uid, flags, modseq FROM message WHERE mailbox = ? AND modseq > ? AND uid <= ? ORDER BY uid"
        changed = []
        if self.modseq:  # else the mailbox has just been selected
            for uid, flags, modseq in self.db.execute(query, (self.key, self.modseq, self.known)):
                place = self.place(uid)
                if place is not None and self.told.get(uid) != flags:
                    changed.append(self.flags_answer(place, uid, flags, modseq, with_uid=True))
        return changed

    def untold(self) -> set[int]:
        """Return the UIDs of messages of which the client does not know the flags that they have now."""
        query = "SELECT uid, flags FROM message WHERE mailbox = ? AND modseq > ?"
        return {uid for uid, flags in self.db.execute(query, (self.key, self.modseq)) if self.told.get(uid) != flags}

    def flags_answer(self, place: int, uid: int, flags: str, modseq: int, with_uid: bool) -> bytes:
        """Return the FETCH answer that tells flags, and MODSEQ where the client has enabled it."""
        items = [b"UID %d" % uid] if with_uid or QRESYNC in self.enabled else []
        items.append(b"FLAGS " + self.flags(uid, flags))
        if CONDSTORE in self.enabled:
            items.append(b"MODSEQ (%d)" % modseq)
        return b"%d FETCH (%b)" % (place + 1, b" ".join(items))

    def _arrivals(self) -> list[int]:
        query = "SELECT uid FROM message WHERE mailbox = ? AND uid > ? ORDER BY uid"
        new = [uid for (uid,) in self.db.execute(query, (self.key, self.known))]
        self.uids += new
        self.known = max(self.known, *new, 0)
        return new

    def _claim_recent(self, new: list[int]) -> None:
        r"""Make new messages \Recent here unless another session was first (RFC 3501 section 2.3.2)."""
        recent = self.mailbox("recent")
        if recent <= new[-1] and not self.read_only:
            with writing(self.db):
                recent = self.mailbox("recent")
                self.db.execute("UPDATE mailbox SET recent = max(recent, ?) WHERE key = ?", (new[-1] + 1, self.key))
        if recent <= new[-1]:
            self.recent.update(new[bisect_left(new, recent) :])

    # Messages

    def place(self, uid: int) -> int | None:
        """Return the place of a UID in `uids`, which is its sequence number less one."""
        place = bisect_left(self.uids, uid)
        return place if place < len(self.uids) and self.uids[place] == uid else None

    def flags(self, uid: int, flags: str) -> bytes:
        """Return the flags of a message as IMAP sends them."""
        if uid in self.recent and REV2 not in self.enabled:
            flags = f"\\Recent {flags}".rstrip()
        return b"(%b)" % flags.encode()

    def keywords(self) -> str:
        """Return the keywords that messages here have."""
        texts = self.db.execute("SELECT DISTINCT flags FROM message WHERE mailbox = ?", (self.key,))
        return " ".join(sorted({flag for (flags,) in texts for flag in flags.split() if flag[0] != "\\"}))

    def first_unseen(self) -> int:
        r"""Return the sequence number of the first message without \Seen, 0 for none."""
        query = rf"SELECT min(uid) FROM message WHERE mailbox = ? AND {UNSEEN}"
        (uid,) = self.db.execute(query, (self.key,)).fetchone()
        place = None if uid is None else self.place(uid)
        return 0 if place is None else place + 1

    def past_ranges(self, numbers: SequenceSet) -> Ranges:
        """Return the UIDs of a set in which "*" is the highest UID that any message has had."""
        if numbers is None:
            return self.saved
        highest = self.uidnext - 1
        ends = [(highest if low is None else low, highest if high is None else high) for low, high in numbers]
        return merged([(min(pair), max(pair)) for pair in ends])

    def ranges(self, numbers: SequenceSet, by_uid: bool, searching: bool = False) -> Ranges:
        """Return the UIDs of a sequence set.

        Raises BadCommand for a sequence number that no message has (RFC 3501
        section 9, seq-number), but in a search, where it finds nothing; where
        "*" is the other end, it is the last one's.
        """
        if numbers is None:
            return self.saved
        found = []
        highest = (self.uids[-1] if self.uids else 0) if by_uid else len(self.uids)
        for low, high in numbers:
            first, last = sorted((highest if low is None else low, highest if high is None else high))
            if not by_uid:
                if low is None or high is None:
                    first, last = min(first, highest), highest
                if last > highest and not searching:
                    raise BadCommand("No message has such a number")
                if first > highest or not highest:
                    continue
                first, last = self.uids[first - 1], self.uids[min(last, highest) - 1]
            found.append((first, last))
        return merged(found)

    def rows(self, ranges: Iterable[tuple[int, int]], columns: str, tables: str = "") -> Iterator[tuple[Any, ...]]:
        """Yield sequence number, UID and `columns` of those messages in these UID ranges that the client knows.

        What another session has expunged meanwhile is left out.
        """
        query = (
            f"SELECT message.uid, {columns} FROM message {tables}"
            " WHERE message.mailbox = ? AND message.uid BETWEEN ? AND ? ORDER BY message.uid"
        )
        uids, end = self.uids, len(self.uids)
        for first, last in ranges:
            place = bisect_left(uids, first)
            for row in self.db.execute(query, (self.key, first, min(last, self.known))):
                if place < end and uids[place] != row[0]:
                    place = bisect_left(uids, row[0], place)
                if place < end and uids[place] == row[0]:
                    place += 1
                    yield place, *row

    def ids(self, ranges: Ranges) -> list[tuple[int, bytes]]:
        """Return UID and id of the messages in these UID ranges."""
        return [(uid, message_id) for _, uid, message_id in self.rows(ranges, "message.id")]

"""The selected mailbox, as the client has been told of it.

Sequence numbers belong to the session. A message that another session expunges
keeps its number until this client can be told (RFC 3501 section 7.4.1), and a
new message has none until EXISTS is sent.
"""

import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import Any

from ..database import vanished
from ..database.schema import UNSEEN, reading, writing
from .grammar import CONDSTORE, QRESYNC, REV2, BadCommand, SequenceSet
from .sets import Ranges, merged, uid_set, within

FEW = 100  # expunges for which the list of UIDs is not made anew
SYSTEM_FLAGS = r"\Answered \Flagged \Deleted \Seen \Draft"


class Selected:
    """The selected mailbox as this client knows it: `uids[n - 1]` is the UID of sequence number n."""

    def __init__(self, db: sqlite3.Connection, enabled: set[str], key: int, read_only: bool) -> None:
        self.db = db
        self.enabled = enabled  # the session's own set: it can grow while the mailbox is selected
        self.key = key
        self.read_only = read_only
        self.recent: set[int] = set()  # UIDs that are \Recent in this session, and in no other
        self.uids: list[int] = []  # ascending
        self.own: set[int] = set()  # UIDs of messages that this client has put here
        self.known = 0  # the highest UID that has ever been in `uids`
        self.uidnext = 1  # UIDNEXT at the last update
        self.saved: Ranges = []  # the result of SEARCH RETURN (SAVE), which is "$" (RFC 5182)
        self.told: dict[int, str] = {}  # flags already sent to the client, by UID, though newer than `modseq`
        self.modseq = 0  # flags and arrivals up to this MODSEQ have been sent
        self.expunge_modseq = 0  # expunges up to this MODSEQ have been sent
        self.known_keywords: set[str] = set()  # that an untagged FLAGS has named
        self.updates(expunges=True)

    def mailbox(self, column: str) -> int:
        """Return a number from the row of this mailbox, as the database has it now."""
        value: int = self.db.execute(f"SELECT {column} FROM mailbox WHERE key = ?", (self.key,)).fetchone()[0]
        return value

    # What the client is told

    def updates(self, expunges: bool, flags: bool = True) -> list[bytes]:
        """Return the untagged answers for what has changed since the last call, expunges only if `expunges`.

        They count as sent from then on. Without `flags`, no flags of messages
        that the client knows are sent, now or later.
        """
        modseq = self.mailbox("modseq")
        if self.modseq == modseq and (self.expunge_modseq == modseq or not expunges):
            return []
        with reading(self.db):
            modseq, self.uidnext = self.mailbox("modseq"), self.mailbox("uidnext")
            told = self._expunges() if expunges else []
            changed, new = self._changed_flags() if flags else [], self._arrivals()
            told += self.new_keywords(self._flags_since(self.modseq)) if self.modseq else []
            told += changed
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
        """Return whether expunges are still untold that are earlier than changes already told."""
        waiting = self.expunge_modseq < self.modseq
        return waiting and vanished.has(self.db, self.key, self.expunge_modseq, self.modseq)

    def _expunges(self) -> list[bytes]:
        gone = set(vanished.since(self.db, self.key, self.expunge_modseq, self.known))
        indexes = sorted((index for index in map(self.index_of, gone) if index is not None), reverse=True)
        if not indexes:
            return []
        uids = [self.uids[index] for index in reversed(indexes)]
        if len(indexes) > FEW:
            self.uids = [uid for uid in self.uids if uid not in gone]
        else:
            for index in indexes:  # the last first
                del self.uids[index]
        self.recent -= gone
        if QRESYNC in self.enabled:
            return [b"VANISHED " + uid_set(uids)]
        return [b"%d EXPUNGE" % (index + 1) for index in indexes]

    def _changed_flags(self) -> list[bytes]:
        # By this index, else SQLite reads the whole mailbox to have it in order.
        query = (
            "SELECT uid, flags, modseq FROM message INDEXED BY message_modseq"
            " WHERE mailbox = ? AND modseq > ? AND uid <= ? ORDER BY uid"
        )
        changed = []
        if self.modseq:  # 0 when the mailbox is being selected: the client asks for flags itself
            for uid, flags, modseq in self.db.execute(query, (self.key, self.modseq, self.known)):
                index = self.index_of(uid)
                if index is not None and self.told.get(uid) != flags:
                    changed.append(self.flags_answer(index, uid, flags, modseq, with_uid=True))
        return changed

    def _flags_since(self, modseq: int) -> list[str]:
        """Return the different flags of messages that have been changed or have come after a MODSEQ."""
        query = "SELECT DISTINCT flags FROM message WHERE mailbox = ? AND modseq > ?"
        return [flags for (flags,) in self.db.execute(query, (self.key, modseq))]

    def new_keywords(self, texts: Iterable[str]) -> list[bytes]:
        """Return an untagged FLAGS if these flags have keywords that none has named (RFC 9051 section 7.3.5)."""
        new = {flag for flags in texts for flag in flags.split() if flag[0] != "\\"} - self.known_keywords
        if not new:
            return []
        self.known_keywords |= new
        return [f"FLAGS ({' '.join([SYSTEM_FLAGS, *sorted(self.known_keywords)])})".encode()]

    def untold(self) -> set[int]:
        """Return the UIDs of messages whose current flags have not been sent to the client."""
        query = "SELECT uid, flags FROM message WHERE mailbox = ? AND modseq > ?"
        return {uid for uid, flags in self.db.execute(query, (self.key, self.modseq)) if self.told.get(uid) != flags}

    def flags_answer(self, index: int, uid: int, flags: str, modseq: int, with_uid: bool) -> bytes:
        """Return the FETCH answer with the flags of the message `uids[index]`, and with its MODSEQ for CONDSTORE.

        `flags` are as in the database. QRESYNC adds the UID in any case.
        """
        items = [b"UID %d" % uid] if with_uid or QRESYNC in self.enabled else []
        items.append(b"FLAGS " + self.flags(uid, flags))
        if CONDSTORE in self.enabled:
            items.append(b"MODSEQ (%d)" % modseq)
        return b"%d FETCH (%b)" % (index + 1, b" ".join(items))

    def _arrivals(self) -> list[int]:
        query = "SELECT uid FROM message WHERE mailbox = ? AND uid > ? ORDER BY uid"
        new = [uid for (uid,) in self.db.execute(query, (self.key, self.known))]
        self.uids += new
        self.known = max(self.known, *new, 0)
        return new

    def _claim_recent(self, new: list[int]) -> None:
        r"""Make new messages \Recent here, unless another session was first (RFC 3501 section 2.3.2)."""
        recent = self.mailbox("recent")
        if recent <= new[-1] and not self.read_only:
            with writing(self.db):
                recent = self.mailbox("recent")
                self.db.execute("UPDATE mailbox SET recent = max(recent, ?) WHERE key = ?", (new[-1] + 1, self.key))
        if recent <= new[-1]:
            self.recent.update(new[bisect_left(new, recent) :])

    # Messages

    def index_of(self, uid: int) -> int | None:
        """Return the index of a UID in `uids`: its sequence number less one. None if the client does not know it."""
        index = bisect_left(self.uids, uid)
        return index if index < len(self.uids) and self.uids[index] == uid else None

    def flags(self, uid: int, flags: str) -> bytes:
        r"""Return the flags of a message, given as in the database, as IMAP sends them; \Recent is added here."""
        if uid in self.recent and REV2 not in self.enabled:
            flags = f"\\Recent {flags}".rstrip()
        return b"(%b)" % flags.encode()

    def keywords(self) -> str:
        """Return the keywords that messages of this mailbox have, sorted, separated by spaces; they count as named."""
        for flags in self._flags_since(-1):
            self.known_keywords.update(flag for flag in flags.split() if flag[0] != "\\")
        return " ".join(sorted(self.known_keywords))

    def first_unseen(self) -> int:
        r"""Return the sequence number of the first message without \Seen, 0 if there is none."""
        query = rf"SELECT min(uid) FROM message WHERE mailbox = ? AND {UNSEEN}"
        (uid,) = self.db.execute(query, (self.key,)).fetchone()
        index = None if uid is None else self.index_of(uid)
        return 0 if index is None else index + 1

    def gone_since(self, modseq: int, ranges: Ranges) -> list[int]:
        """Return the UIDs in these ranges that were expunged after `modseq`, or perhaps before; ascending."""
        return within(vanished.since(self.db, self.key, modseq, self.uidnext - 1), ranges)

    def past_ranges(self, numbers: SequenceSet) -> Ranges:
        """Return the UIDs of a UID set, expunged ones too: "*" is the highest UID that a message has had here."""
        if numbers is None:
            return self.saved
        highest = self.uidnext - 1
        ends = [(highest if low is None else low, highest if high is None else high) for low, high in numbers]
        return merged([(min(pair), max(pair)) for pair in ends])

    def ranges(self, numbers: SequenceSet, by_uid: bool, searching: bool = False) -> Ranges:
        """Return the UIDs of a sequence set, or with `by_uid` of a UID set.

        Raises BadCommand for a sequence number above that of the last message
        (RFC 3501 section 9, seq-number). In a search it finds nothing instead,
        and in a range with "*" it stands for the last message.
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

    def numbers(self, ranges: Ranges) -> list[int]:
        """Return the sequence numbers of the messages in these UID ranges that the client knows."""
        spans = [range(bisect_left(self.uids, first), bisect_right(self.uids, last)) for first, last in ranges]
        return [index + 1 for span in spans for index in span]

    def rows(
        self, ranges: Iterable[tuple[int, int]], columns: str, tables: str = "", condition: str = "TRUE"
    ) -> Iterator[tuple[Any, ...]]:
        """Yield (sequence number, UID, *columns) of the messages in these UID ranges that the client knows, by UID.

        Messages that another session has expunged since are left out.
        """
        query = (
            f"SELECT message.uid, {columns} FROM message {tables} WHERE message.mailbox = ?"
            f" AND message.uid BETWEEN ? AND ? AND {condition} ORDER BY message.uid"
        )
        uids, end = self.uids, len(self.uids)
        for first, last in ranges:
            index = bisect_left(uids, first)
            for row in self.db.execute(query, (self.key, first, min(last, self.known))):
                if index < end and uids[index] != row[0]:
                    index = bisect_left(uids, row[0], index)
                if index < end and uids[index] == row[0]:
                    index += 1
                    yield index, *row

    def ids(self, ranges: Ranges) -> list[tuple[int, bytes]]:
        """Return (UID, id) of the messages that `rows` yields for these UID ranges."""
        return [(uid, message_id) for _, uid, message_id in self.rows(ranges, "message.id")]

"""What has been seen of the log: how far it has been applied, its chain, and the digest of the fold (digest.py).

A log that contradicts it has been rolled back, or is another one: promise 6
of cspool(7).
"""

import sqlite3
import time
from typing import NamedTuple

from .. import frame, keys
from ..errors import BadConfig, Contradiction, TryAgain
from ..frame import Frame, Position
from ..keys import SecretKey
from ..spool.files import CHECKPOINT_LATEST, Head

# Chain and digest are kept for the last 65,536 records, and for each 1024th before them.
HISTORY_STEP = 1024
HISTORY_KEPT = CHECKPOINT_LATEST


class Cursor(NamedTuple):
    """How far the log has been applied. `spool` and `chain` are None before the first stream."""

    spool: bytes | None
    number: int
    chain: bytes | None
    user: bytes | None
    device: bytes
    digest: bytes  # of the fold there


class Point(NamedTuple):
    """What the log has come to behind a record."""

    chain: bytes
    digest: bytes  # of the fold


class Seen:
    """The log as it has been seen, in a write transaction that begins with `load` and ends with `save`.

    `number` and `chain` are those of the last record applied, `log_end` is
    the number of the last that is known of, `user` the Ed25519 key of the
    user there.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.spool, self.number, chain, self.user, *_ = cursor(db)
        self.chain = chain or b""
        self.log_end = 0
        self.size = 0  # octets of the records applied since `load`, as frames
        # No head may be below what was known when the stream began, or what the stream itself has shown.
        # Between the two another cspool-apply may have gone further.
        self.floor = self.number

    def load(self, own: list[SecretKey]) -> None:
        """Read how far the log has been applied by now. Raises BadConfig when none of these keys is the user's."""
        self.spool, self.number, chain, *_ = cursor(self.db)
        self.chain = chain or b""
        self.read_user(own)
        self.db.execute("UPDATE cursor SET user = ?", (self.user,))

    def read_user(self, own: list[SecretKey]) -> None:
        """Read which key is the user's by now. Raises BadConfig when it is none of these."""
        self.user = user_key(self.db, own).public.sign

    def save(self) -> None:
        """Write it down, and forget what is no more needed of the history."""
        if self.spool is not None:
            row = (self.number, self.chain, self.size)
            self.db.execute("UPDATE cursor SET number = ?, chain = ?, log_size = log_size + ?", row)
            self.size = 0
        forgotten = (self.number - HISTORY_KEPT, HISTORY_STEP)
        self.db.execute("DELETE FROM history WHERE number < ? AND number % ?", forgotten)

    def advance(self, number: int, chain: bytes) -> None:
        """Go on behind record `number`, where the chain is this and the fold is as it is now."""
        self.number, self.chain = number, chain
        self.db.execute("INSERT INTO history SELECT ?, ?, digest FROM cursor", (number, chain))

    def at(self, number: int) -> Point | None:
        """Return chain and digest behind a record that has been applied; None where they are not known any more."""
        if number < self.number - HISTORY_KEPT and number % HISTORY_STEP:
            return None  # on all machines alike
        found = self.db.execute("SELECT chain, digest FROM history WHERE number = ?", (number,)).fetchone()
        return Point(*found) if found else None

    def contradicts(self, number: int, chain: bytes) -> bool:
        """Return whether the chain behind a record that has been applied is known to be another one."""
        point = self.at(number)
        return point is not None and point.chain != chain

    def lose(self, last: int, chain: bytes, head: Head) -> None:
        """Go on behind record `last`, where the chain is this, without the records before it.

        Raises Contradiction unless the head says that the spool has lost them.
        """
        if last >= head.first:
            raise Contradiction(f"{frame.records(self.number + 1, last)} missing")
        self.give_up(last, chain)

    def give_up(self, last: int, chain: bytes) -> None:
        """Go on behind record `last`, where the chain is this, and note that the records before it are lost."""
        self.db.execute("INSERT INTO lost VALUES (?, ?, ?)", (self.number + 1, last, int(time.time())))
        self.advance(last, chain)

    # Does the log go with it?

    def check_head(self, head: Head) -> None:
        """Raise Contradiction when a head alone contradicts what has been applied."""
        self.log_end = head.next - 1
        if self.spool is None:
            self.spool = head.spool
            self.advance(0, frame.first_chain(head.spool))
            self.db.execute("UPDATE cursor SET spool = ?, chain = ?", (self.spool, self.chain))
        if head.spool != self.spool:
            raise Contradiction(f"the spool is another one: {head.spool.hex()}, not {self.spool.hex()}")
        self.db.execute("UPDATE cursor SET log_end = max(log_end, ?)", (self.log_end,))
        if self.log_end < self.floor:
            raise Contradiction(f"the log ends at record {self.log_end}, but record {self.floor} has been seen")
        if self.log_end <= self.number:
            self.check_end(head)

    def check_end(self, head: Head) -> None:
        """Raise Contradiction when the log up to the end that a head names is not the one that has been applied."""
        if self.contradicts(self.log_end, head.chain):
            raise Contradiction(f"the log up to record {self.log_end} is not the one that has been seen")

    def check_applied(self, one: Frame) -> None:
        """Raise Contradiction when a frame that was applied before now stands behind another log."""
        if self.contradicts(one.number - 1, one.chain):
            raise Contradiction(f"the log before record {one.number} is not the one that has been seen")

    def reach_end(self, head: Head) -> None:
        """Note that the log has been applied up to the end that this head names."""
        self.floor = self.log_end
        if self.number == self.log_end:
            row = (self.log_end, head.segment, head.length, int(time.time()))
            self.db.execute("UPDATE cursor SET located = ?, segment = ?, offset = ?, synced = ?", row)
            self.db.execute("DELETE FROM contradiction")

    def remember(self, contradiction: Contradiction, head: Head | None) -> None:
        """Keep a contradiction beside what has been applied: a person has to judge."""
        row = (int(time.time()), str(contradiction), head and head.text().decode())
        self.db.execute("DELETE FROM contradiction WHERE reason = ?", row[1:2])
        self.db.execute("INSERT INTO contradiction VALUES (?, ?, ?)", row)


class Lost(NamedTuple):
    """Records that the spool had lost before they could be applied."""

    first: int
    last: int
    noticed: int  # seconds since 1970


def lost(db: sqlite3.Connection, after: int = 0) -> list[Lost]:
    """Return the ranges of lost records that begin above `after`, in order."""
    query = "SELECT number, last, noticed FROM lost WHERE number > ? ORDER BY number"
    return [Lost(*row) for row in db.execute(query, (after,))]


def is_lost(db: sqlite3.Connection, number: int) -> bool:
    """Return whether a record was lost before it could be applied."""
    return bool(db.execute("SELECT 1 FROM lost WHERE ? BETWEEN number AND last", (number,)).fetchone())


def is_lossy(db: sqlite3.Connection, number: int) -> bool:
    """Return whether records were lost up to record `number` and after what the last checkpoint there states.

    Other machines may have had them, and come to another fold.
    """
    stated = "(SELECT coalesce(max(stated), 0) FROM checkpoint WHERE number <= :number)"
    query = f"SELECT 1 FROM lost WHERE last <= :number AND last > {stated}"
    return bool(db.execute(query, {"number": number}).fetchone())


class LogProgress(NamedTuple):
    """How far the log has been applied, for people: record numbers, a time in seconds since 1970, and a size."""

    applied: int
    log_end: int  # the last record that is known of
    synced: int | None  # when all there was had been applied; None for never
    log_size: int  # octets that the log has, as frames


def progress(db: sqlite3.Connection) -> LogProgress:
    """Return how far the log has been applied, and how far it is known to go.

    A sync in the future, which a wrong clock has noted, counts as never.
    """
    query = "SELECT number, log_end, CASE WHEN synced <= ? THEN synced END, log_size FROM cursor"
    return LogProgress(*db.execute(query, (int(time.time()),)).fetchone())


def check_all_applied(db: sqlite3.Connection) -> None:
    """Raise TryAgain unless all of the log has been applied, Contradiction where something speaks against it."""
    applied, log_end, synced, _ = progress(db)
    if synced is None or applied < log_end:
        raise TryAgain("not all of the log has been applied: cspool-sync first")
    for reason in contradictions(db):
        raise Contradiction(f"the spool contradicts what has been seen: {reason}")


def cursor(db: sqlite3.Connection) -> Cursor:
    """Return how far this database has applied the log."""
    return Cursor(*db.execute("SELECT spool, number, chain, user, device, digest FROM cursor").fetchone())


def user_key(db: sqlite3.Connection, own: list[SecretKey]) -> SecretKey:
    """Return the key that is the user's as far as the log has been applied: the oldest one in a new database.

    Raises BadConfig when the database belongs to none of them: all mail would
    be set aside, and the cursor would move past it.
    """
    user = cursor(db).user
    if user is None:
        return own[-1]
    for key in own:
        if key.public.sign == user:
            return key
    raise BadConfig(f"not the key of this message database ({keys.short(user)})")


def agrees(db: sqlite3.Connection, head: Head) -> bool:
    """Return whether a head, by itself, goes with what has been applied."""
    spool, number, chain, *_ = cursor(db)
    if spool is None:
        return True
    end = head.next - 1
    return head.spool == spool and end >= number and (end > number or head.chain == chain)


def contradictions(db: sqlite3.Connection) -> list[str]:
    """Return the contradictions that the spool has shown since the last good sync, oldest first."""
    return [reason for (reason,) in db.execute("SELECT reason FROM contradiction ORDER BY rowid")]


def reached(db: sqlite3.Connection) -> int:
    """Return the number above which records are still needed: the cursor, or how far a checkpoint has been loaded."""
    (number,) = db.execute("SELECT max(number, loaded) FROM cursor").fetchone()
    return int(number)


def position(db: sqlite3.Connection) -> Position | None:
    """Return where in the log the frame behind the cursor begins, if that is known: a hint that saves reading."""
    query = "SELECT segment, offset FROM cursor WHERE located = number AND segment != '-'"
    found = db.execute(query).fetchone()
    return Position(*found) if found else None

"""The fold: the state that the log alone gives, its commands done one after the other.

It must be the same on all machines, so nothing enters it but the log.
"""

import sqlite3
from collections.abc import Callable, Iterable

from .. import command
from ..command import Fields
from ..errors import DataError
from ..mail.lines import canonical
from ..octets import with_crlf
from . import aside, content, schema
from .layer import Layer, with_flags

FORGET = 30 * 86400  # seconds after which a mail server has given up its retries
# All but the last one before each record that is set aside, which tells whether that is too old (Fold._check_age).
FORGET_CHECKPOINTS = """
DELETE FROM checkpoint WHERE number <= ? AND NOT EXISTS (
    SELECT 1 FROM aside WHERE aside.number > checkpoint.number AND NOT EXISTS (
        SELECT 1 FROM checkpoint AS later WHERE later.number > checkpoint.number AND later.number < aside.number))
"""


def forgotten(db: sqlite3.Connection) -> int:
    """Return the number up to which the last checkpoint has let the fold forget tombstones."""
    last = "SELECT date FROM checkpoint ORDER BY number DESC LIMIT 1"
    query = f"SELECT coalesce(max(stated), 0) FROM checkpoint WHERE date <= ({last}) - ?"
    return int(db.execute(query, (FORGET,)).fetchone()[0])


def trusted(db: sqlite3.Connection) -> dict[bytes, str]:
    """Return the comments of the hosts that may deliver, by Ed25519 key."""
    return dict(db.execute("SELECT key, comment FROM trust").fetchall())


class Fold(Layer):
    """The fold as the command in record `number` finds it."""

    prefix = "fold_"
    column = "fold"

    def __init__(
        self,
        db: sqlite3.Connection,
        number: int,
        deliver_aside: Callable[[bytes], dict[bytes, None]] = lambda sender: {},
    ) -> None:
        """Begin with a record. `deliver_aside` delivers what is set aside of a sender, and returns ids of messages."""
        super().__init__(db)
        self.number = number
        self._deliver_aside = deliver_aside

    def deliver(self, fields: Fields, octets: bytes, flags: Iterable[str] = (), by_user: bool = False) -> None:
        """Put a delivered message into its mailbox, unless the log has had it before.

        Raises DataError, with nothing done, if it may have been expunged and
        forgotten, or has been expunged and is now delivered by the user: no
        mail server has tried that again.
        """
        message_id = command.delivery_id(fields["mailbox"], with_crlf(octets))
        if self._was_here(message_id):
            if by_user and self.db.execute("SELECT 1 FROM tombstone WHERE id = ?", (message_id,)).fetchone():
                raise DataError("a message that has been expunged does not come back")
            return
        self._check_age(fields["sealed"])
        mailbox = self._named(fields["mailbox"])
        if mailbox is None:
            mailbox = self._create_delivered(fields["mailbox"])
        key = self._content(message_id, canonical(octets), 0)
        self._insert(message_id, key, fields["date"], mailbox, with_flags("", flags))

    def _check_age(self, sealed: int | None) -> None:
        """Refuse a message that was sealed before the time whose tombstones have been forgotten.

        No mail server retries for so long, but an operator may repeat a record.
        The checkpoint that counts is the last before the record: mail of a host
        may be set aside for long before it is trusted.
        """
        query = "SELECT date FROM checkpoint WHERE number < ? ORDER BY number DESC LIMIT 1"
        found = self.db.execute(query, (self.number,)).fetchone()
        if sealed is not None and found and sealed <= found[0] - FORGET:
            raise DataError("sealed so long ago that it may have been expunged and forgotten")

    def _create_delivered(self, name: str) -> int:
        """Create and subscribe the mailbox that a delivery names."""
        (spool,) = self.db.execute("SELECT spool FROM cursor").fetchone()
        key = schema.mailbox(self.db, command.delivered_mailbox_id(spool, self.number))
        self._mark_created(key)
        self._name(key, name)
        self._subscribe(name, True)
        return key

    def checkpoint(self, stated: int, date: int) -> None:
        """Note a checkpoint made at `date`, and forget the tombstones that one of 30 days before it has stated."""
        self.db.execute("INSERT INTO checkpoint VALUES (?, ?, ?)", (self.number, stated, date))
        old = (forgotten(self.db),)
        self.db.execute("DELETE FROM tombstone WHERE number <= ?", old)
        self.db.execute("DELETE FROM distrust WHERE number <= ?", old)
        self.db.execute(FORGET_CHECKPOINTS, old)

    def trust(self, change: Fields) -> None:
        """Trust a host, and deliver what it has sent so far, each message as the record that it came in."""
        sender = change["key"]
        self.db.execute("INSERT OR REPLACE INTO trust VALUES (?, ?, ?)", (sender, change["comment"], self.number))
        self.db.execute("DELETE FROM distrust WHERE key = ?", (sender,))
        self.touched.update(self._deliver_aside(sender))

    def distrust(self, change: Fields) -> None:
        """Trust a host no more, and note when, as with a tombstone."""
        if self.db.execute("DELETE FROM trust WHERE key = ?", (change["key"],)).rowcount:
            self.db.execute("INSERT OR REPLACE INTO distrust VALUES (?, ?)", (change["key"], self.number))

    def user_key(self, change: Fields) -> None:
        """Make another key that of the user; the next record is the first that it must sign."""
        self.db.execute("UPDATE cursor SET user = ?", (change["sign"],))

    def discard(self, change: Fields) -> None:
        """Forget records that were set aside."""
        aside.remove(self.db, change["numbers"])

    def expunge(self, change: Fields) -> list[bytes]:
        """Expunge messages, and keep a tombstone for each, so that no retry of its delivery brings it back."""
        expunged = super().expunge(change)
        rows = [(message_id, self.number) for message_id in expunged]
        self.db.executemany("INSERT OR IGNORE INTO tombstone VALUES (?, ?)", rows)
        return expunged

    def _create(self, key: int, name: str, use: str) -> None:
        self._mark_created(key)
        super()._create(key, name, use)

    def _mark_created(self, key: int) -> None:
        self.db.execute("UPDATE mailbox SET created = 1 WHERE key = ?", (key,))

    def _content(self, message_id: bytes, octets: bytes, offset: int) -> int:
        """Return the key of the content of a message that is in this record.

        A content that is here from the outbox is that of this record from now
        on. One that is here from an earlier record stays there, for a copy may
        have it: whether the rows of a message that is gone are still here must
        not enter the fold.
        """
        query = "SELECT content.key, number FROM message JOIN content ON content.key = content WHERE message.id = ?"
        key, number = self.db.execute(query, (message_id,)).fetchone() or (None, None)
        if key is None or number is not None:
            return content.add(self.db, message_id, octets, self.number, offset)
        content.set_origin(self.db, key, self.number, offset)
        return int(key)

    def _found_row(self, message_id: bytes, old: int, key: int, date: int) -> None:
        """Make content and date of a message what the log says."""
        self.db.execute("UPDATE message SET content = ?, date = ? WHERE id = ?", (key, date, message_id))
        content.forget_unused(self.db, old)

"""Making the fold what a checkpoint states, as a difference to what it was.

The rows of the state come as checkpoint.read_rows yields them. The octets of
the messages are here already: loading.py has seen to that, in table `kept`.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

from ..errors import Contradiction
from . import checkpoint, schema, seen
from .checkpoint import StateRow
from .fold import forgotten

ASIDE = -1  # stands for the offset of a message in `kept`, in a record that is set aside
BATCH = 10_000  # messages whose view is made at a time


class Replacement:
    """Makes the fold what the rows of a state say: one method for each kind of row."""

    def __init__(self, db: sqlite3.Connection, name: str, cursor: int) -> None:
        self.db = db
        self.name = name  # of the checkpoint
        self.cursor = cursor  # of the fold that is replaced
        self.now = int(time.time())
        self.changed: list[bytes] = []  # ids of messages whose fold has changed
        self._do: dict[str, Callable[..., Any]] = {
            "lost": self._lost,
            "checkpoint": self._insert("checkpoint", 3),
            "trust": self._insert("trust", 3),
            "distrusted": self._insert("distrust", 2),
            "device": self._insert("device", 3),
            "mailbox": self._mailbox,
            "subscribed": self._subscribed,
            "metadata": self._metadata,
            "gone": self._insert("tombstone", 2),
            "message": self._message,
        }

    def run(self, rows: Iterator[StateRow]) -> Iterator[list[bytes]]:
        db = self.db
        db.execute("CREATE TEMP TABLE IF NOT EXISTS stated (id BLOB PRIMARY KEY) WITHOUT ROWID")
        before = _Before(db)
        db.execute("UPDATE mailbox SET fold_name = NULL, fold_same_as = NULL, fold_use = '', created = 0")
        db.execute("UPDATE subscription SET fold = 0")
        db.execute("UPDATE metadata SET fold = NULL")
        for table in ("trust", "distrust", "device", "tombstone", "checkpoint"):
            db.execute(f"DELETE FROM {table}")
        db.execute("DELETE FROM aside WHERE number NOT IN (SELECT number FROM kept WHERE offset = ?)", (ASIDE,))
        lost = []
        for kind, *columns in rows:
            if kind in self._do:
                self._do[kind](*columns)
            if kind == "lost":
                lost.append(columns[0])
            if len(self.changed) >= BATCH:
                yield self.changed
                self.changed = []
        for gap in seen.lost(db):
            if gap.first not in lost:
                db.execute("DELETE FROM lost WHERE number = ?", (gap.first,))
        self._check_nothing_vanishes(before)
        self.changed += self._expunged()
        db.execute("DELETE FROM stated")
        checkpoint.forget_records(db)
        yield self.changed

    def _insert(self, table: str, columns: int) -> Callable[..., Any]:
        statement = f"INSERT OR REPLACE INTO {table} VALUES (?{', ?' * (columns - 1)})"
        return lambda *row: self.db.execute(statement, row)

    def _lost(self, first: int, last: int) -> None:
        statement = "INSERT INTO lost VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET last = excluded.last"
        self.db.execute(statement, (first, last, self.now))

    def _mailbox(self, mailbox_id: bytes, name: str | None, use: str, other: bytes | None) -> None:
        same_as = schema.mailbox(self.db, other) if other else None
        row = (name, use, same_as, schema.mailbox(self.db, mailbox_id))
        update = "UPDATE mailbox SET fold_name = ?, fold_use = ?, fold_same_as = ?, created = 1 WHERE key = ?"
        self.db.execute(update, row)

    def _subscribed(self, name: str) -> None:
        self.db.execute("INSERT INTO subscription VALUES (?, 1, 0) ON CONFLICT DO UPDATE SET fold = 1", (name,))

    def _metadata(self, mailbox_id: bytes | None, entry: str, value: bytes) -> None:
        key = schema.mailbox(self.db, mailbox_id) if mailbox_id else 0
        statement = "INSERT INTO metadata VALUES (?, ?, ?, NULL) ON CONFLICT DO UPDATE SET fold = excluded.fold"
        self.db.execute(statement, (key, entry, value))

    def _message(self, message_id: bytes, mailbox_id: bytes, flags: str, date: int, number: int, offset: int) -> None:
        """Put a message where it is stated to be."""
        db = self.db
        (key,) = db.execute("SELECT content FROM kept WHERE number = ? AND offset = ?", (number, offset)).fetchone()
        if key is None:
            return  # its record is lost
        db.execute("INSERT INTO stated VALUES (?)", (message_id,))
        stated = (key, date, schema.mailbox(db, mailbox_id), flags)
        query = "SELECT content, date, fold_mailbox, fold_flags FROM message WHERE id = ?"
        found = db.execute(query, (message_id,)).fetchone()
        if found == stated:
            return
        if found:
            update = "UPDATE message SET content = ?, date = ?, fold_mailbox = ?, fold_flags = ? WHERE id = ?"
            db.execute(update, (*stated, message_id))
        else:
            insert = "INSERT INTO message (content, date, fold_mailbox, fold_flags, id) VALUES (?, ?, ?, ?, ?)"
            db.execute(insert, (*stated, message_id))
        self.changed.append(message_id)

    def _check_nothing_vanishes(self, before: "_Before") -> None:
        """Raise Contradiction when the state lacks what has been seen, and no command can have taken it away.

        A message needs a tombstone that is newer than our cursor, and a trust
        a distrust; a mailbox is never forgotten. If the log has forgotten
        tombstones that are newer than our cursor, this cannot be known.
        """
        created = {one for (one,) in self.db.execute("SELECT id FROM mailbox WHERE created")}
        if before.mailboxes - created:
            raise Contradiction(f"{self.name} does not know of a mailbox that has been seen")
        if self.cursor < forgotten(self.db):
            return
        known = "SELECT key FROM trust UNION SELECT key FROM distrust WHERE number > ?"
        if before.trusted - {one for (one,) in self.db.execute(known, (self.cursor,))}:
            raise Contradiction(f"{self.name} does not know of a trust that has been seen")
        query = (
            "SELECT count(*) FROM message WHERE fold_mailbox NOTNULL AND id NOT IN (SELECT id FROM stated)"
            " AND id NOT IN (SELECT id FROM tombstone WHERE number > ?)"
        )
        (count,) = self.db.execute(query, (self.cursor,)).fetchone()
        if count:
            messages = f"{count:,} message{'s' * (count > 1)}"
            raise Contradiction(f"{self.name} does not know of {messages} that this machine has")

    def _expunged(self) -> list[bytes]:
        """Take away the messages that the state does not have; return their ids."""
        query = "SELECT id FROM message WHERE fold_mailbox NOTNULL AND id NOT IN (SELECT id FROM stated)"
        ids = [message_id for (message_id,) in self.db.execute(query)]
        clear = "UPDATE message SET fold_mailbox = NULL, fold_flags = NULL WHERE id = ?"
        self.db.executemany(clear, [(message_id,) for message_id in ids])
        return ids


class _Before:
    """The mailboxes and the trust of the fold that is replaced."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.mailboxes = {one for (one,) in db.execute("SELECT id FROM mailbox WHERE created")}
        self.trusted = {one for (one,) in db.execute("SELECT key FROM trust")}

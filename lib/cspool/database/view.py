"""The view: the fold with the outbox on top, and the UIDs and MODSEQs that IMAP sees of it.

Whatever happens inside a transaction, IMAP sees only its net effect: a
message that is in the same mailbox afterwards keeps its UID, and its MODSEQ
moves only if its flags differ. So a change made here is never seen undone and
done again when it comes back in the log.
"""

import json
import sqlite3
import time
from collections.abc import Iterable

from .. import command
from ..command import Fields
from . import outbox
from .content import forget_unused
from .fold import Layer


class View(Layer):
    """The view as a layer, inside a write transaction that ends with `settle`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__(db, "")
        self.before: dict[bytes, tuple[int | None, str | None, int | None]] = {}
        # A UID belongs to one mailbox; settle gives it back to what returns there.
        self._put = (
            "UPDATE message SET uid = CASE WHEN mailbox = :mailbox THEN uid END,"
            " mailbox = :mailbox, flags = :flags WHERE id = :id"
        )

    def reset(self, ids: Iterable[bytes]) -> None:
        """Take the outbox's effects off these messages: make them what the fold says."""
        for message_id in ids:
            fold = "SELECT fold_mailbox, fold_flags FROM message WHERE id = ?"
            found = self.db.execute(fold, (message_id,)).fetchone()
            if found:
                self._set(message_id, *found)

    def put_on(self, changes: list[Fields], octets: bytes) -> None:
        """Do the changes of an outbox entry, and note which messages they touch."""
        self.touched = {}
        self.perform(changes, octets)
        self.db.executemany("INSERT OR IGNORE INTO overlay VALUES (?)", [(one,) for one in self.touched])

    def settle(self) -> None:
        """Give UIDs and MODSEQs for the net effect, and forget messages that are nowhere."""
        modseq: int = self.db.execute("SELECT modseq FROM cursor").fetchone()[0] + 1
        uidnext: dict[int, int] = {}
        changed: set[int] = set()
        now = int(time.time())
        row = "SELECT key, mailbox, flags, uid, fold_mailbox, content FROM message WHERE id = ?"
        for message_id, (mailbox_was, flags_was, uid_was) in self.before.items():
            key, mailbox, flags, uid, fold_mailbox, content = self.db.execute(row, (message_id,)).fetchone()
            if mailbox == mailbox_was:
                if mailbox is not None and flags != flags_was:
                    changed.add(mailbox)
                    update = "UPDATE message SET uid = ?, modseq = ? WHERE key = ?"
                    self.db.execute(update, (uid_was, modseq, key))
                elif uid != uid_was:
                    self.db.execute("UPDATE message SET uid = ? WHERE key = ?", (uid_was, key))
            else:
                if mailbox_was is not None:
                    changed.add(mailbox_was)
                    self.db.execute("INSERT INTO vanished VALUES (?, ?, ?)", (mailbox_was, modseq, uid_was))
                if mailbox is not None:
                    changed.add(mailbox)
                    uid = uidnext.get(mailbox) or self._uidnext(mailbox)
                    uidnext[mailbox] = uid + 1
                    update = "UPDATE message SET uid = ?, modseq = ?, saved = ? WHERE key = ?"
                    self.db.execute(update, (uid, modseq, now, key))
            if mailbox is None and fold_mailbox is None:
                self._forget(key, content)
        self.db.executemany("UPDATE mailbox SET uidnext = ? WHERE key = ?", [(n, m) for m, n in uidnext.items()])
        self.db.executemany("UPDATE mailbox SET modseq = ? WHERE key = ?", [(modseq, m) for m in changed])
        if changed:
            self.db.execute("UPDATE cursor SET modseq = ?", (modseq,))

    def _uidnext(self, mailbox: int) -> int:
        uid: int = self.db.execute("SELECT uidnext FROM mailbox WHERE key = ?", (mailbox,)).fetchone()[0]
        return uid

    def _forget(self, key: int, content: int) -> None:
        self.db.execute("DELETE FROM message WHERE key = ?", (key,))
        forget_unused(self.db, content)

    def _remember(self, message_id: bytes) -> None:
        if message_id not in self.before:
            row = "SELECT mailbox, flags, uid FROM message WHERE id = ?"
            found = self.db.execute(row, (message_id,)).fetchone()
            self.before[message_id] = found or (None, None, None)

    def _set(self, message_id: bytes, mailbox: int | None, flags: str | None) -> None:
        self._remember(message_id)
        super()._set(message_id, mailbox, flags)

    def _insert(self, message_id: bytes, content: int, date: int, mailbox: int, flags: str) -> None:
        self._remember(message_id)
        super()._insert(message_id, content, date, mailbox, flags)


def refresh(db: sqlite3.Connection, folded: Iterable[bytes]) -> None:
    """Make the view again after the fold of the messages `folded` (in order) or the outbox has changed."""
    view = View(db)
    view.reset(folded)
    view.reset([one for (one,) in db.execute("SELECT id FROM overlay")])
    db.execute("DELETE FROM overlay")
    _reset_mailboxes(db)
    for key, changes in db.execute("SELECT key, changes FROM outbox ORDER BY key").fetchall():
        (octets,) = db.execute("SELECT octets FROM outbox WHERE key = ?", (key,)).fetchone()
        view.put_on(command.changes(json.loads(changes)), octets)
    view.settle()


def _reset_mailboxes(db: sqlite3.Connection) -> None:
    """Make the mailboxes what the fold says."""
    # Names are unique, also while they change hands.
    db.execute("UPDATE mailbox SET name = NULL WHERE name IS NOT fold_name")
    db.execute(
        "UPDATE mailbox SET name = fold_name, same_as = fold_same_as, use = fold_use"
        " WHERE name IS NOT fold_name OR same_as IS NOT fold_same_as OR use IS NOT fold_use"
    )
    db.execute("UPDATE subscription SET view = fold WHERE view IS NOT fold")


def change(db: sqlite3.Connection, rows: list[Fields], octets: bytes = b"") -> None:
    """Do what the user wants, here and at once, and put it into the outbox.

    `rows` are small changes as they stand in a command, `octets` those of its
    appended messages. The caller holds a write transaction (database.writing).
    """
    changes = command.changes(rows)
    view = View(db)
    view.put_on(changes, octets)
    view.settle()
    outbox.add(db, rows, octets)

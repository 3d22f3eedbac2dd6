"""The view: the fold with the outbox on top, and the UIDs and MODSEQs that IMAP sees of it.

IMAP sees only the net effect of a transaction: a message that is in the same
mailbox afterwards keeps its UID, and its MODSEQ moves only if its flags differ.
So a change made here is never seen undone and done again when it comes back in
the log.
"""

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .. import command
from ..command import Fields
from . import content, outbox, schema, vanished
from .layer import Layer


class Shown(NamedTuple):
    """A message as IMAP saw it before the transaction; all None where it did not."""

    mailbox: int | None
    flags: str | None
    uid: int | None


class View(Layer):
    """The view as a layer, inside a write transaction that ends with `settle`."""

    prefix = ""
    column = "view"

    def __init__(self, db: sqlite3.Connection) -> None:
        super().__init__(db)
        self.before: dict[bytes, Shown] = {}  # of each message that was touched
        self.left: set[int] = set()  # mailboxes from which a message has gone
        # A UID belongs to one mailbox; settle gives it back to a message that returns there.
        self._put = (
            "UPDATE message SET uid = CASE WHEN mailbox = :mailbox THEN uid END,"
            " mailbox = :mailbox, flags = :flags WHERE id = :id"
        )

    def reset(self, ids: Iterable[bytes]) -> None:
        """Make these messages what the fold says."""
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

    # What IMAP sees of it

    def settle(self) -> None:
        """Give UIDs and MODSEQs for the net effect, and forget messages that neither fold nor view has."""
        modseq: int = self.db.execute("SELECT modseq FROM cursor").fetchone()[0] + 1
        changed: set[int] = set()  # mailboxes
        arrivals = _Arrivals(self.db)
        query = "SELECT key, content, fold_mailbox, mailbox, flags, uid FROM message WHERE id = ?"
        for message_id, before in self.before.items():
            key, content_key, fold_mailbox, *row = self.db.execute(query, (message_id,)).fetchone()
            now = Shown(*row)
            if now.mailbox == before.mailbox:
                self._settle_flags(key, before, now, modseq, changed)
            else:
                self._settle_move(key, before, now, modseq, changed, arrivals)
            if now.mailbox is None and fold_mailbox is None:
                self.db.execute("DELETE FROM message WHERE key = ?", (key,))
                content.forget_unused(self.db, content_key)
        arrivals.save()
        self.db.executemany("UPDATE mailbox SET modseq = ? WHERE key = ?", [(modseq, one) for one in changed])
        for mailbox in self.left:
            vanished.trim(self.db, mailbox)
        if changed:
            self.db.execute("UPDATE cursor SET modseq = ?", (modseq,))

    def _settle_flags(self, key: int, before: Shown, now: Shown, modseq: int, changed: set[int]) -> None:
        """Settle a message that is where it was: it keeps its UID, and has a new MODSEQ if its flags are others."""
        if now.mailbox is not None and now.flags != before.flags:
            changed.add(now.mailbox)
            self.db.execute("UPDATE message SET uid = ?, modseq = ? WHERE key = ?", (before.uid, modseq, key))
        elif now.uid != before.uid:
            self.db.execute("UPDATE message SET uid = ? WHERE key = ?", (before.uid, key))

    def _settle_move(
        self, key: int, before: Shown, now: Shown, modseq: int, changed: set[int], arrivals: "_Arrivals"
    ) -> None:
        """Settle a message that has left a mailbox, come into one, or both."""
        if before.mailbox is not None:
            changed.add(before.mailbox)
            assert before.uid is not None
            vanished.add(self.db, before.mailbox, modseq, before.uid)
            self.left.add(before.mailbox)
        if now.mailbox is not None:
            changed.add(now.mailbox)
            row = (arrivals.uid(now.mailbox), modseq, arrivals.time, key)
            self.db.execute("UPDATE message SET uid = ?, modseq = ?, saved = ? WHERE key = ?", row)

    def _remember(self, message_id: bytes) -> None:
        if message_id not in self.before:
            row = "SELECT mailbox, flags, uid FROM message WHERE id = ?"
            self.before[message_id] = Shown(*(self.db.execute(row, (message_id,)).fetchone() or (None, None, None)))

    # The layer

    def _set(self, message_id: bytes, mailbox: int | None, flags: str | None) -> None:
        self._remember(message_id)
        super()._set(message_id, mailbox, flags)

    def _content(self, message_id: bytes, octets: bytes, offset: int) -> int:
        found = self.db.execute("SELECT content FROM message WHERE id = ?", (message_id,)).fetchone()
        return int(found[0]) if found else content.add(self.db, message_id, octets, None, offset)

    def _insert(self, message_id: bytes, content: int, date: int, mailbox: int, flags: str) -> None:
        self._remember(message_id)
        super()._insert(message_id, content, date, mailbox, flags)


class _Arrivals:
    """Gives the messages that come into mailboxes their UIDs; `time` is their SAVEDATE."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.time = int(time.time())
        self._uidnext: dict[int, int] = {}  # by mailbox

    def uid(self, mailbox: int) -> int:
        """Return the next UID of a mailbox."""
        if mailbox not in self._uidnext:
            query = "SELECT uidnext FROM mailbox WHERE key = ?"
            self._uidnext[mailbox] = self.db.execute(query, (mailbox,)).fetchone()[0]
        self._uidnext[mailbox] += 1
        return self._uidnext[mailbox] - 1

    def save(self) -> None:
        rows = [(uidnext, mailbox) for mailbox, uidnext in self._uidnext.items()]
        self.db.executemany("UPDATE mailbox SET uidnext = ? WHERE key = ?", rows)


class Mailbox(NamedTuple):
    """A mailbox, for people."""

    name: str
    messages: int
    unseen: int


class Listed(NamedTuple):
    """A message in a mailbox: its permanent id, the key of its content, INTERNALDATE in seconds since 1970, flags."""

    id: bytes
    content: int
    date: int
    flags: list[str]


def mailboxes(db: sqlite3.Connection) -> list[Mailbox]:
    """Return all mailboxes, INBOX first and then by name."""
    query = (
        f"SELECT mailbox.name, count(message.key), coalesce(sum({schema.UNSEEN}), 0) FROM mailbox"
        " LEFT JOIN message ON message.mailbox = mailbox.key WHERE mailbox.name IS NOT NULL"
        " GROUP BY mailbox.key ORDER BY mailbox.name != 'INBOX', mailbox.name"
    )
    return [Mailbox(*row) for row in db.execute(query)]


def come_since(db: sqlite3.Connection, number: int) -> list[Fields]:
    """Return what has come behind record `number` and is not seen, for each mailbox that has some of it.

    That is the name ("mailbox"), and the numbers of messages: these ("new"),
    all that are not seen ("unseen"), and all ("messages").
    """
    query = (
        "SELECT mailbox.key, name, count(*) FROM content JOIN message ON content = content.key"
        " JOIN mailbox ON mailbox.key = mailbox"
        f" WHERE number > ? AND {schema.UNSEEN} GROUP BY mailbox.key ORDER BY name != 'INBOX', name"
    )
    counts = f"SELECT coalesce(sum({schema.UNSEEN}), 0), count(*) FROM message WHERE mailbox = ?"
    found = []
    for key, name, new in db.execute(query, (number,)).fetchall():
        unseen, messages = db.execute(counts, (key,)).fetchone()
        found.append({"mailbox": name, "new": new, "unseen": unseen, "messages": messages})
    return found


def has_message(db: sqlite3.Connection, message_id: bytes) -> bool:
    """Return whether a message with this Message-ID, in angle brackets, is in a mailbox."""
    query = (
        "SELECT 1 FROM ordering JOIN message ON message.content = ordering.content"
        " WHERE message_id = ? AND mailbox IS NOT NULL"
    )
    return bool(db.execute(query, (message_id,)).fetchone())


def names(db: sqlite3.Connection) -> list[str]:
    """Return the names of all mailboxes."""
    return [name for (name,) in db.execute("SELECT name FROM mailbox WHERE name NOTNULL")]


def messages(db: sqlite3.Connection, mailbox: str) -> Iterator[Listed]:
    """Yield the messages of a mailbox, by name, in the order of their UIDs."""
    query = (
        "SELECT message.id, content, date, flags FROM message JOIN mailbox ON mailbox.key = mailbox"
        " WHERE name = ? ORDER BY uid"
    )
    for message_id, content_key, date, flags in db.execute(query, (mailbox,)):
        yield Listed(message_id, content_key, date, flags.split())


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
    db.execute("UPDATE metadata SET view = fold WHERE view IS NOT fold")
    db.execute("DELETE FROM metadata WHERE fold IS NULL")


def change(db: sqlite3.Connection, rows: list[Fields], octets: bytes = b"") -> None:
    """Do what the user wants, here and at once, and add it to the outbox.

    `rows` are small changes as they stand in a command, `octets` those of its
    appended messages. The caller holds a write transaction (schema.writing).
    """
    changes = command.changes(rows)
    view = View(db)
    view.put_on(changes, octets)
    view.settle()
    outbox.add(db, rows, octets)


def renumber(db: sqlite3.Connection, mailbox: int, ids: list[bytes]) -> None:
    """Give messages new UIDs in the mailbox that they are in, by its key: nothing that the log knows of.

    The caller holds a write transaction.
    """
    modseq: int = db.execute("SELECT modseq FROM cursor").fetchone()[0] + 1
    arrivals = _Arrivals(db)
    for message_id in ids:
        (uid,) = db.execute("SELECT uid FROM message WHERE id = ?", (message_id,)).fetchone()
        vanished.add(db, mailbox, modseq, uid)
        row = (arrivals.uid(mailbox), modseq, arrivals.time, message_id)
        db.execute("UPDATE message SET uid = ?, modseq = ?, saved = ? WHERE id = ?", row)
    arrivals.save()
    vanished.trim(db, mailbox)
    if ids:
        db.execute("UPDATE mailbox SET modseq = ? WHERE key = ?", (modseq, mailbox))
        db.execute("UPDATE cursor SET modseq = ?", (modseq,))

"""UIDs that are no more: for sessions that still show them, and for clients that come back (RFC 7162 section 3.2).

The last KEPT of a mailbox are known one by one. To who asks for older ones,
all UIDs are gone that no message has.
"""

import sqlite3

KEPT = 5_000  # of a mailbox, or a few more


def add(db: sqlite3.Connection, mailbox: int, modseq: int, uid: int) -> None:
    """Note that a UID has gone from a mailbox, by its key, with this MODSEQ."""
    db.execute("INSERT INTO vanished VALUES (?, ?, ?)", (mailbox, modseq, uid))


def trim(db: sqlite3.Connection, mailbox: int) -> None:
    """Forget the oldest, if there are twice as many as are kept; of a deleted mailbox, all."""
    (name,) = db.execute("SELECT name FROM mailbox WHERE key = ?", (mailbox,)).fetchone()
    at = "SELECT modseq FROM vanished WHERE mailbox = ? ORDER BY modseq DESC LIMIT 1 OFFSET ?"
    if name is not None and not db.execute(at, (mailbox, 2 * KEPT)).fetchone():
        return
    found = db.execute(at, (mailbox, 0 if name is None else KEPT)).fetchone()
    if found:
        db.execute("DELETE FROM vanished WHERE mailbox = ? AND modseq <= ?", (mailbox, *found))
        db.execute("UPDATE mailbox SET forgotten = ? WHERE key = ?", (*found, mailbox))


def since(db: sqlite3.Connection, mailbox: int, modseq: int, highest: int) -> list[int]:
    """Return the UIDs up to `highest` that have gone from a mailbox after `modseq`, ascending.

    If not all of these are remembered, those that had gone before are among them.
    """
    if not is_forgotten(db, mailbox, modseq):
        query = "SELECT uid FROM vanished WHERE mailbox = ? AND modseq > ? AND uid <= ? ORDER BY uid"
        return [uid for (uid,) in db.execute(query, (mailbox, modseq, highest))]
    gone: list[int] = []
    expected = 1
    query = "SELECT uid FROM message WHERE mailbox = ? AND uid <= ? ORDER BY uid"
    for (uid,) in db.execute(query, (mailbox, highest)):
        gone += range(expected, uid)
        expected = uid + 1
    return gone + list(range(expected, highest + 1))


def has(db: sqlite3.Connection, mailbox: int, after: int, until: int) -> bool:
    """Return whether a UID has gone with a MODSEQ above `after`, up to `until`."""
    query = "SELECT 1 FROM vanished WHERE mailbox = ? AND modseq > ? AND modseq <= ?"
    return is_forgotten(db, mailbox, after) or bool(db.execute(query, (mailbox, after, until)).fetchone())


def is_forgotten(db: sqlite3.Connection, mailbox: int, modseq: int) -> bool:
    """Return whether UIDs are forgotten that have gone after `modseq`."""
    (forgotten,) = db.execute("SELECT forgotten FROM mailbox WHERE key = ?", (mailbox,)).fetchone()
    return bool(forgotten > modseq)

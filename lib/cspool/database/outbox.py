"""The outbox: changes made here that have not yet taken effect in the log.

When they are to be sent they are frozen, as many as go into one, as the body
of a `change` command: with our device id, the next counter, the hash of the
change before it and our cursor. Frozen, it can be signed, sealed and sent as
often as one likes, for the fold takes each body once.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterator

from .. import command, form
from ..command import FIRST, Fields
from ..keys import PublicKey
from . import schema, seen

USER_KEY = '"do":"user-key"'  # is in the text of a change that changes the user key, and of no other
TOGETHER = 1 << 20  # octets of changes, and of messages, that are put into one


def add(db: sqlite3.Connection, rows: list[Fields], octets: bytes) -> None:
    """Put a change, as small changes in the form of a command, at the end of the outbox."""
    db.execute(
        "INSERT INTO outbox (changes, octets, made) VALUES (?, ?, ?)",
        (form.line(rows).decode(), octets, int(time.time())),
    )


def freeze(db: sqlite3.Connection) -> None:
    """Freeze what is not frozen, in order and as few as may be. The spool has to be known."""
    cursor = seen.cursor(db)
    if cursor.spool is None or cursor.chain is None:
        return
    counter, previous = _last(db, cursor.device)
    for keys in list(_batches(db)):
        changes, octets = _together(db, keys)
        counter += 1
        fields: Fields = {
            "command": "change",
            "spool": cursor.spool.hex(),
            "device": cursor.device.hex(),
            "counter": counter,
            "previous": previous.hex(),
            "number": cursor.number,
            "chain": cursor.chain.hex(),
            "changes": json.loads(changes),
        }
        body = command.encode(fields, octets)
        previous = command.body_hash(body)
        line = body[: len(body) - len(octets) - 1]
        update = "UPDATE outbox SET counter = ?, line = ?, hash = ? WHERE key = ?"
        db.execute(update, (counter, line, previous, keys[-1]))


def _batches(db: sqlite3.Connection) -> Iterator[list[int]]:
    """Yield the keys of entries that go into one change, in order."""
    batch: list[int] = []
    size, alone = 0, False
    query = (
        "SELECT key, length(changes) + length(octets), instr(changes, ?) FROM outbox WHERE line IS NULL ORDER BY key"
    )
    for key, more, is_user_key in db.execute(query, (USER_KEY,)).fetchall():
        if batch and (size + more > TOGETHER or is_user_key or alone):
            yield batch
            batch, size = [], 0
        batch.append(key)
        size, alone = size + more, bool(is_user_key)
    if batch:
        yield batch


def _together(db: sqlite3.Connection, keys: list[int]) -> tuple[str, bytes]:
    """Make one of these entries, the last, and return its changes and octets."""
    query = "SELECT changes, octets FROM outbox WHERE key = ?"
    found = [db.execute(query, (key,)).fetchone() for key in keys]
    if len(keys) == 1:
        return found[0][0], found[0][1]
    changes = "[" + ",".join(text[1:-1] for text, _ in found) + "]"
    octets = b"".join(some for _, some in found)
    db.execute("UPDATE outbox SET changes = ?, octets = ? WHERE key = ?", (changes, octets, keys[-1]))
    db.executemany("DELETE FROM outbox WHERE key = ?", [(key,) for key in keys[:-1]])
    return changes, octets


def _last(db: sqlite3.Connection, device: bytes) -> tuple[int, bytes]:
    """Return counter and hash of our last change: in the outbox, or already in the fold."""
    newest = "SELECT counter, hash FROM outbox WHERE line IS NOT NULL ORDER BY key DESC LIMIT 1"
    folded = "SELECT counter, hash FROM device WHERE id = ?"
    found = db.execute(newest).fetchone() or db.execute(folded, (device,)).fetchone()
    return found or (0, FIRST)


def took_effect(db: sqlite3.Connection, device: bytes, body_hash: bytes) -> None:
    """Note that a change has taken effect in the log.

    One of ours leaves the outbox. One under our device id that we did not make
    comes from a copy of this database, or from its own later state before it
    was restored from a backup: we go on under a new id, and what is left in the
    outbox is issued again.
    """
    if db.execute("DELETE FROM outbox WHERE hash = ?", (body_hash,)).rowcount:
        return
    if device == seen.cursor(db).device:
        _issue_again(db)


def covered(db: sqlite3.Connection, line: tuple[int, bytes]) -> None:
    """Note that a checkpoint says where our device's line is, and not what led there: counter and hash.

    Called before it is loaded. What the line covers has taken effect. If we
    have never been at that place, somebody else has gone on under our id.
    """
    (device,) = db.execute("SELECT device FROM cursor").fetchone()
    before = db.execute("SELECT counter, hash FROM device WHERE id = ?", (device,)).fetchone() or (0, FIRST)
    ours = db.execute("SELECT 1 FROM outbox WHERE counter = ? AND hash = ?", line).fetchone()
    if ours:
        db.execute("DELETE FROM outbox WHERE counter <= ?", line[:1])
    elif line != before:
        _issue_again(db)


def issue_lost(db: sqlite3.Connection) -> None:
    """Issue what is left in the outbox again, if some of it can take effect no more.

    The spool had it, and lost it, and a later change of ours has taken effect.
    """
    query = (
        "SELECT 1 FROM outbox JOIN cursor JOIN device ON device.id = cursor.device AND outbox.counter <= device.counter"
    )
    if db.execute(query).fetchone():
        _issue_again(db)


def _issue_again(db: sqlite3.Connection) -> None:
    db.execute("UPDATE cursor SET device = ?", (os.urandom(16),))
    db.execute("UPDATE outbox SET line = NULL, counter = NULL, hash = NULL")


def user_key(key: PublicKey) -> Fields:
    """Return the small change that makes a key that of the user."""
    return {"do": "user-key", "sign": key.sign.hex(), "box": key.box.hex()}


def changes_key(db: sqlite3.Connection) -> bool:
    """Tell whether a change of the user key is in the outbox."""
    return bool(db.execute("SELECT 1 FROM outbox WHERE instr(changes, ?)", (USER_KEY,)).fetchone())


def bodies(db: sqlite3.Connection) -> Iterator[bytes]:
    """Yield the bodies to be sent, in order, but for those that take effect meanwhile.

    Behind one that changes the user key comes none before it has taken effect,
    for the old key signs them all.
    """
    with schema.writing(db):
        freeze(db)
    for (key,) in db.execute("SELECT key FROM outbox WHERE line IS NOT NULL ORDER BY key").fetchall():
        found = db.execute("SELECT line, octets FROM outbox WHERE key = ? AND line IS NOT NULL", (key,)).fetchone()
        if found:
            last = USER_KEY.encode() in found[0]
            yield found[0] + b"\n" + found[1]
            if last:
                return

"""The outbox: changes made here that have not yet taken effect in the log.

When they are to be sent they are frozen, as many as go into one, as the body
of a `change` command: with our device id, the next counter, the hash of the
change before it and our cursor. Frozen, it can be signed, sealed and sent any
number of times, for the fold takes each body once.
"""

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from typing import NamedTuple

from .. import command, form
from ..command import FIRST, Fields
from ..keys import PublicKey
from . import schema, seen

USER_KEY = '"do":"user-key"'  # is in the text of a change that changes the user key, and of no other
TOGETHER = 1 << 20  # octets of changes, and of messages, that are put into one


class LastChange(NamedTuple):
    """The last change of a device that took effect: its counter, and the hash of its body."""

    counter: int
    hash: bytes


def add(db: sqlite3.Connection, rows: list[Fields], octets: bytes) -> None:
    """Add a change to the end of the outbox: small changes in the form of a command, and the octets of its appends."""
    is_large = len(octets) > schema.LARGE
    key = db.execute(
        "INSERT INTO outbox (changes, octets, queued) VALUES (?, ?, ?)",
        (form.line(rows).decode(), b"" if is_large else octets, int(time.time())),
    ).lastrowid
    if is_large and key:
        schema.fill(db, "outbox", "octets", key, octets)


class Waiting(NamedTuple):
    """What is in the outbox: how many entries, and when the oldest was queued (seconds since 1970)."""

    entries: int
    oldest: int | None


def waiting(db: sqlite3.Connection) -> Waiting:
    """Return what is in the outbox."""
    return Waiting(*db.execute("SELECT count(*), min(queued) FROM outbox").fetchone())


def mark(db: sqlite3.Connection, since: int = 0) -> tuple[int, bytes] | None:
    """Return a value that changes whenever the outbox does; None when nothing is ready to be sent.

    Nothing is before the spool has been seen, at `since` (seconds since 1970)
    or later, to be the one that we know.
    """
    query = "SELECT max(outbox.key), device FROM outbox, cursor WHERE synced BETWEEN ? AND ?"
    newest, device = db.execute(query, (since, int(time.time()))).fetchone()
    return (newest, device) if newest else None


def pending_trust(db: sqlite3.Connection) -> Iterator[Fields]:
    """Yield the small changes in the outbox that trust a host, or no longer do, in order."""
    for (changes,) in db.execute("SELECT changes FROM outbox ORDER BY key"):
        yield from (row for row in json.loads(changes) if row["do"] in ("trust", "distrust"))


# Sending


def bodies(db: sqlite3.Connection) -> Iterator[bytes]:
    """Yield the bodies to be sent, in order, without those that take effect meanwhile.

    Behind one that changes the user key comes none before it has taken effect,
    for the old key signs them all.
    """
    with schema.writing(db):
        freeze(db)
    for (key,) in db.execute("SELECT key FROM outbox WHERE frozen IS NOT NULL ORDER BY key").fetchall():
        query = "SELECT frozen, octets FROM outbox WHERE key = ? AND frozen IS NOT NULL"
        found = db.execute(query, (key,)).fetchone()
        if found:
            changes_user_key = USER_KEY.encode() in found[0]
            yield found[0] + b"\n" + found[1]
            if changes_user_key:
                return


def freeze(db: sqlite3.Connection) -> None:
    """Freeze what is not frozen, in order, in as few changes as possible. The spool must be known."""
    cursor = seen.cursor(db)
    if cursor.spool is None or cursor.chain is None:
        return
    # Others may have come to another fold by records that we have missed.
    digest = {} if seen.is_lossy(db, cursor.number) else {"digest": cursor.digest.hex()}
    counter, previous = _last(db, cursor.device)
    for keys in list(_batches(db)):
        changes, octets = _join(db, keys)
        counter += 1
        fields: Fields = {
            "command": "change",
            "spool": cursor.spool.hex(),
            "device": cursor.device.hex(),
            "counter": counter,
            "previous": previous.hex(),
            "number": cursor.number,
            "chain": cursor.chain.hex(),
            **digest,
            "changes": json.loads(changes),
        }
        body = command.encode(fields, octets)
        previous = command.body_hash(body)
        frozen = body[: len(body) - len(octets) - 1]
        update = "UPDATE outbox SET counter = ?, frozen = ?, hash = ? WHERE key = ?"
        db.execute(update, (counter, frozen, previous, keys[-1]))


def _batches(db: sqlite3.Connection) -> Iterator[list[int]]:
    """Yield the keys of the entries that go into one change, in order. A change of the user key goes alone."""
    batch: list[int] = []
    size, alone = 0, False
    query = (
        "SELECT key, length(changes) + length(octets), instr(changes, ?) FROM outbox WHERE frozen IS NULL ORDER BY key"
    )
    for key, more, is_user_key in db.execute(query, (USER_KEY,)).fetchall():
        if batch and (size + more > TOGETHER or is_user_key or alone):
            yield batch
            batch, size = [], 0
        batch.append(key)
        size, alone = size + more, bool(is_user_key)
    if batch:
        yield batch


def _join(db: sqlite3.Connection, keys: list[int]) -> tuple[str, bytes]:
    """Join these entries in the last of them, and return its changes and octets."""
    query = "SELECT changes, octets FROM outbox WHERE key = ?"
    found = [db.execute(query, (key,)).fetchone() for key in keys]
    if len(keys) == 1:
        return found[0][0], found[0][1]
    changes = "[" + ",".join(text[1:-1] for text, _ in found) + "]"
    octets = b"".join(some for _, some in found)
    db.execute("UPDATE outbox SET changes = ?, octets = ? WHERE key = ?", (changes, octets, keys[-1]))
    db.executemany("DELETE FROM outbox WHERE key = ?", [(key,) for key in keys[:-1]])
    return changes, octets


def _last(db: sqlite3.Connection, device: bytes) -> LastChange:
    """Return our last change: in the outbox, or already in the fold."""
    newest = "SELECT counter, hash FROM outbox WHERE frozen IS NOT NULL ORDER BY key DESC LIMIT 1"
    found = db.execute(newest).fetchone()
    return LastChange(*found) if found else last_change(db, device) or LastChange(0, FIRST)


def last_change(db: sqlite3.Connection, device: bytes) -> LastChange | None:
    """Return the last change of a device that took effect; None for a device that the log does not know."""
    found = db.execute("SELECT counter, hash FROM device WHERE id = ?", (device,)).fetchone()
    return LastChange(*found) if found else None


# What the log says of it


def confirm(db: sqlite3.Connection, device: bytes, body_hash: bytes) -> None:
    """Note that a change has taken effect in the log.

    If it is ours, it leaves the outbox. If it has our device id and we did not
    make it, it comes from a copy of this database, or from its own later state
    before it was restored from a backup: we take a new id, and what is left in
    the outbox is issued again.
    """
    if db.execute("DELETE FROM outbox WHERE hash = ?", (body_hash,)).rowcount:
        return
    if device == seen.cursor(db).device:
        _requeue(db)


def confirm_up_to(db: sqlite3.Connection, stated: LastChange) -> None:
    """Note which change of ours a checkpoint states as the last, before it is loaded.

    Up to there all have taken effect. If we have never made that change, a copy
    of this database has gone on under our id.
    """
    before = last_change(db, seen.cursor(db).device) or LastChange(0, FIRST)
    ours = db.execute("SELECT 1 FROM outbox WHERE counter = ? AND hash = ?", stated).fetchone()
    if ours:
        db.execute("DELETE FROM outbox WHERE counter <= ?", (stated.counter,))
    elif stated != before:
        _requeue(db)


def requeue_lost(db: sqlite3.Connection) -> None:
    """Issue what is left in the outbox again if some of it can no longer take effect.

    That is so when the spool had it and lost it, and a later change of ours
    has taken effect.
    """
    query = (
        "SELECT 1 FROM outbox JOIN cursor JOIN device ON device.id = cursor.device AND outbox.counter <= device.counter"
    )
    if db.execute(query).fetchone():
        _requeue(db)


def _requeue(db: sqlite3.Connection) -> None:
    db.execute("UPDATE cursor SET device = ?", (os.urandom(16),))
    db.execute("UPDATE outbox SET frozen = NULL, counter = NULL, hash = NULL")


# The user key


def user_key(key: PublicKey) -> Fields:
    """Return the small change that makes a key that of the user."""
    return {"do": "user-key", "sign": key.sign.hex(), "box": key.box.hex()}


def next_user_key(db: sqlite3.Connection) -> bytes | None:
    """Return the Ed25519 key that the last change of the user key in the outbox makes the user's; None for none."""
    query = "SELECT changes FROM outbox WHERE instr(changes, ?) ORDER BY key DESC LIMIT 1"
    found = db.execute(query, (USER_KEY,)).fetchone()
    if not found:
        return None
    signs = [row["sign"] for row in json.loads(found[0]) if row["do"] == "user-key"]
    return bytes.fromhex(signs[-1])

"""What has been seen of the log: how far it has been applied, and its chain."""

import sqlite3
from typing import NamedTuple

from .. import keys
from ..errors import BadConfig
from ..frame import Place
from ..keys import SecretKey

# The chain is kept for the last 65,536 records, and for each 1024th before them. A checkpoint states it for the last
# 1024 and for each 1024th, so it states nothing that a reader who has replayed the log could lack.
CHAIN_STEP = 1024
CHAIN_KEPT = 1 << 16


class Cursor(NamedTuple):
    """How far the log has been applied. `spool` and `chain` are None before the first stream."""

    spool: bytes | None
    number: int
    chain: bytes | None
    user: bytes | None
    device: bytes


def cursor(db: sqlite3.Connection) -> Cursor:
    """Return how far this database has applied the log."""
    return Cursor(*db.execute("SELECT spool, number, chain, user, device FROM cursor").fetchone())


def contradictions(db: sqlite3.Connection) -> list[str]:
    """Return what the spool has shown since the last good sync that contradicts what had been applied."""
    query = (
        "SELECT reason FROM contradiction WHERE noticed >= (SELECT coalesce(synced, 0) FROM cursor) ORDER BY noticed"
    )
    return [reason for (reason,) in db.execute(query)]


def reached(db: sqlite3.Connection) -> int:
    """Return the number above which records are still needed: the cursor, or how far a checkpoint has been loaded."""
    (number,) = db.execute("SELECT max(number, loaded) FROM cursor").fetchone()
    return int(number)


def place(db: sqlite3.Connection) -> Place | None:
    """Return where in the log the frame behind the cursor begins, if that is known: a hint that saves reading."""
    query = "SELECT segment, offset FROM cursor WHERE placed = number AND segment != '-'"
    found = db.execute(query).fetchone()
    return Place(*found) if found else None


def check_keys(db: sqlite3.Connection, own: list[SecretKey]) -> SecretKey:
    """Return the key that is the user's as far as the log has been applied: of a new database the oldest.

    Raises BadConfig when this database belongs to none of them: all mail
    would be set aside, and the cursor would move past it.
    """
    user = cursor(db).user
    if user is None:
        return own[-1]
    for key in own:
        if key.public.sign == user:
            return key
    raise BadConfig(f"not the key of this message database ({keys.short(user)})")

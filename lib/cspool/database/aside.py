"""Records that are set aside: kept sealed, and not acted on, until a trust or a new user key delivers them.

A record costs its own size here. Its sender is the key that it says has signed
it; nothing of that is verified before the user trusts that key. A record whose
box does not open has no sender.
"""

import sqlite3
from typing import NamedTuple


class Aside(NamedTuple):
    """A record that is set aside, and why."""

    number: int
    reason: str


class Kind(NamedTuple):
    """The records that are set aside for one reason: how many, and the first and the last of them."""

    reason: str
    records: int
    first: int
    last: int


def describe(kind: Kind) -> str:
    """Return the line in which messages speak of the records that are set aside for one reason."""
    if kind.records == 1:
        return f"record {kind.first} is set aside: {kind.reason}"
    return f"{kind.records:,} records from {kind.first} to {kind.last} are set aside: {kind.reason}"


def add(db: sqlite3.Connection, number: int, reason: str, sender: bytes | None, sealed: bytes) -> None:
    """Set a record aside; `sender` is None when its box does not open."""
    db.execute("INSERT OR REPLACE INTO aside VALUES (?, ?, ?, ?)", (number, reason, sender, sealed))


def remove(db: sqlite3.Connection, numbers: list[int]) -> None:
    """Forget records that are set aside; numbers of others are ignored."""
    db.executemany("DELETE FROM aside WHERE number = ?", [(number,) for number in numbers])


def list_all(db: sqlite3.Connection) -> list[Aside]:
    """Return what is set aside, in order."""
    return [Aside(*row) for row in db.execute("SELECT number, reason FROM aside ORDER BY number")]


def kinds(db: sqlite3.Connection, after: int = 0) -> list[Kind]:
    """Return what is set aside and numbered above `after`, a row for each reason, in the order of their first."""
    query = (
        "SELECT reason, count(*), min(number) AS first, max(number) FROM aside WHERE number > ?"
        " GROUP BY reason ORDER BY first"
    )
    return [Kind(*row) for row in db.execute(query, (after,))]


def untrusted(db: sqlite3.Connection) -> dict[bytes, int]:
    """Return how many records are set aside of each key that is neither trusted nor the user's, by Ed25519 key."""
    query = (
        "SELECT sender, count(*) FROM aside WHERE sender NOTNULL AND sender IS NOT (SELECT user FROM cursor)"
        " AND sender NOT IN (SELECT key FROM trust) GROUP BY sender"
    )
    return dict(db.execute(query).fetchall())


def senders(db: sqlite3.Connection) -> list[bytes]:
    """Return the Ed25519 keys of which records are set aside."""
    return [key for (key,) in db.execute("SELECT DISTINCT sender FROM aside WHERE sender NOTNULL")]


def numbers_of(db: sqlite3.Connection, sender: bytes | None) -> list[int]:
    """Return the numbers of the records that are set aside of this sender, in order; None: whose box does not open."""
    query = "SELECT number FROM aside WHERE sender IS ? ORDER BY number"
    return [number for (number,) in db.execute(query, (sender,))]


def sealed(db: sqlite3.Connection, number: int) -> bytes:
    """Return a record that is set aside."""
    return bytes(db.execute("SELECT sealed FROM aside WHERE number = ?", (number,)).fetchone()[0])

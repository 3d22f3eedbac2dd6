"""Records that are set aside: kept, and not acted on, until a trust delivers them or the user discards them."""

import sqlite3
from typing import NamedTuple

from ..record import Opened


class Aside(NamedTuple):
    """A record that is set aside, and why."""

    number: int
    reason: str


def add(db: sqlite3.Connection, number: int, reason: str, opened: Opened | None = None) -> None:
    """Set a record aside; `opened` for a delivery that a later trust would deliver."""
    row = (number, reason, opened and opened.sender, opened and opened.body)
    db.execute("INSERT OR REPLACE INTO aside VALUES (?, ?, ?, ?)", row)


def remove(db: sqlite3.Connection, numbers: list[int]) -> None:
    """Forget records that are set aside; numbers of others are ignored."""
    db.executemany("DELETE FROM aside WHERE number = ?", [(number,) for number in numbers])


def list_all(db: sqlite3.Connection, after: int = 0) -> list[Aside]:
    """Return what is set aside and numbered above `after`, in order."""
    return [
        Aside(*row) for row in db.execute("SELECT number, reason FROM aside WHERE number > ? ORDER BY number", (after,))
    ]


def waiting(db: sqlite3.Connection) -> dict[bytes, int]:
    """Return how many deliveries wait for trust in their sender, by Ed25519 key."""
    return dict(db.execute("SELECT sender, count(*) FROM aside WHERE body IS NOT NULL GROUP BY sender").fetchall())


def numbers_of(db: sqlite3.Connection, sender: bytes) -> list[int]:
    """Return the numbers of the deliveries that wait for trust in this sender, in order."""
    query = "SELECT number FROM aside WHERE sender = ? AND body IS NOT NULL ORDER BY number"
    return [number for (number,) in db.execute(query, (sender,))]


def body(db: sqlite3.Connection, number: int) -> bytes | None:
    """Return the body of a delivery that waits for trust; None for any other record."""
    found = db.execute("SELECT body FROM aside WHERE number = ?", (number,)).fetchone()
    return found[0] if found else None

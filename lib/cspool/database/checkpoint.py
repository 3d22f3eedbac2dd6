"""Checkpoints: the fold as text, and the records that it needs. cspool-commands(5) is the definition.

One fold has one text, octet for octet, and one digest (digest.py). So a reader
who has replayed the log can tell whether a checkpoint states what it had come to.
"""

import sqlite3
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from .. import command, form, frame
from ..errors import DataError, TryAgain
from ..form import integer
from . import digest, seen

PART = 4 << 20  # octets of rows that go into one record

StateRow = list[Any]


class StatePart(NamedTuple):
    """A part of a checkpoint that has been read from the log."""

    number: int
    hash: bytes  # of its body
    digest: bytes  # of its rows


class Sizes(NamedTuple):
    """Octets of the log, as frames, and of the records that the fold needs."""

    log: int
    needed: int

    @property
    def garbage(self) -> int:
        return self.log - self.needed


NEEDED = (
    "SELECT number FROM aside UNION SELECT content.number FROM content"
    " JOIN message ON message.content = content.key WHERE fold_mailbox NOTNULL"
)


def _parts(db: sqlite3.Connection) -> Iterator[list[bytes]]:
    """Yield the rows of each part that states the fold."""
    rows: list[bytes] = []
    size = 0
    for row in digest.state(db):
        if size + len(row) + 1 > PART:
            yield rows
            rows, size = [], 0
        rows.append(row)
        size += len(row) + 1
    yield rows


def bodies(db: sqlite3.Connection) -> Iterator[bytes]:
    """Yield the bodies of the records of a checkpoint at our cursor. The caller holds a transaction.

    Raises DataError if it would not keep every record that holds a message,
    or if the fold has not the digest that was kept of it: a fault in cspool,
    which must not drop mail.
    """
    cursor = seen.cursor(db)
    assert cursor.spool is not None and cursor.chain is not None
    if parts(db):
        # Who loads it would not know the beginning of that one, and set it aside.
        raise TryAgain("the log ends within another checkpoint: cspool-sync first")
    unknown = (
        "SELECT 1 FROM message JOIN content ON content.key = content WHERE fold_mailbox NOTNULL AND number IS NULL"
    )
    if db.execute(unknown).fetchone():
        raise DataError("the record of a message here is not known: make a new database from the spool")
    hashes, digests = [], []
    for rows in _parts(db):
        body = command.checkpoint_part(cursor.spool, b"".join(row + b"\n" for row in rows))
        hashes.append(command.body_hash(body).hex())
        digests.append(digest.of(rows))
        yield body
    if digest.total(digests) != cursor.digest:
        raise DataError("the digest of the mailboxes is wrong: make a new database from the spool")
    yield command.encode(
        {
            "command": "checkpoint",
            "spool": cursor.spool.hex(),
            "number": cursor.number,
            "chain": cursor.chain.hex(),
            "digest": cursor.digest.hex(),
            "date": _date(db),
            "parts": hashes,
        }
    )


def _date(db: sqlite3.Connection) -> int:
    """Return the date of a checkpoint made now: the time, but not later than the last delivery was sealed.

    A clock that is ahead must not make all mail too old (fold.py).
    """
    query = "SELECT max(coalesce(sealed, 0), (SELECT coalesce(max(date), 0) FROM checkpoint)) FROM cursor"
    (known,) = db.execute(query).fetchone()
    return min(int(time.time()), int(known))


def read_rows(octets: bytes) -> Iterator[StateRow]:
    """Yield the rows of a part: the kind, and its columns with hex as octets. Raises DataError if it is none."""
    *lines, rest = octets.split(b"\n")
    if rest:
        raise DataError("a part of a checkpoint that is cut off")
    for line in lines:
        try:
            kind, *columns = form.read(line)
            checks = _CHECKS[kind]
            row = [kind, *(check(value) for check, value in zip(checks, columns, strict=True))]
        except (ValueError, TypeError, KeyError, DataError):
            raise DataError("a part of a checkpoint that is not understood") from None
        yield row


# Records that the fold may need: those that hold messages, and those that are set aside


def note_record(db: sqlite3.Connection, number: int, sealed: bytes) -> None:
    """Note a record that the fold may need."""
    db.execute("INSERT OR REPLACE INTO record VALUES (?, ?)", (number, frame.HEADER_SIZE + len(sealed)))


def forget_records(db: sqlite3.Connection) -> None:
    """Forget the records that the fold no longer needs."""
    db.execute(
        "DELETE FROM record WHERE number NOT IN"
        " (SELECT number FROM aside UNION SELECT number FROM content WHERE number NOTNULL)"
    )


def kept(db: sqlite3.Connection) -> Iterator[int]:
    """Yield the numbers of the records that the fold needs, in order."""
    for (number,) in db.execute(f"{NEEDED} ORDER BY 1"):
        yield number


def sizes(db: sqlite3.Connection) -> Sizes:
    """Return how much of the log is needed."""
    (log,) = db.execute("SELECT log_size FROM cursor").fetchone()
    query = f"SELECT coalesce(sum(size), 0) FROM record WHERE number IN ({NEEDED})"
    return Sizes(log, *db.execute(query).fetchone())


def note_compacted(db: sqlite3.Connection) -> None:
    """Note how long the log is once it has been compacted: the records that the fold may need, and the parts."""
    query = "SELECT (SELECT coalesce(sum(size), 0) FROM record) + (SELECT coalesce(sum(size), 0) FROM part)"
    db.execute(f"UPDATE cursor SET log_size = ({query})")


# Parts that have been read


def read_part(number: int, body_hash: bytes, rows: bytes) -> StatePart:
    """Return a part of these rows, by the hash of its body."""
    return StatePart(number, body_hash, digest.of(rows.split(b"\n")[:-1]))


def add_part(db: sqlite3.Connection, part: StatePart, size: int) -> None:
    """Note a part that stands in its place, and the octets of its record as a frame."""
    db.execute("INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?)", (*part, size))


def parts(db: sqlite3.Connection) -> list[StatePart]:
    """Return the parts that the last records were, in order."""
    return [StatePart(*row) for row in db.execute("SELECT number, hash, digest FROM part ORDER BY number")]


def last_stated(db: sqlite3.Connection) -> int:
    """Return the number up to which the last checkpoint in the log states it; 0 if there is none."""
    return int(db.execute("SELECT coalesce(max(stated), 0) FROM checkpoint").fetchone()[0])


def last_record(db: sqlite3.Connection) -> int:
    """Return the number of the last checkpoint in the log; 0 if there is none."""
    return int(db.execute("SELECT coalesce(max(number), 0) FROM checkpoint").fetchone()[0])


def forget_parts(db: sqlite3.Connection) -> None:
    """Forget all parts."""
    db.execute("DELETE FROM part")


# Checks of the columns


def _flags(value: Any) -> str:
    if not all(form.is_flag(flag) for flag in _string(value).split()):
        raise ValueError
    return str(value)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


_ID, _HASH = form.octets(16), form.octets(32)
_CHECKS: dict[str, tuple[form.Check, ...]] = {
    "user": (_HASH,),
    "lost": (integer, integer),
    "checkpoint": (integer, integer, form.date),
    "trust": (_HASH, form.text, integer),
    "distrusted": (_HASH, integer),
    "device": (_ID, integer, lambda value: b"" if value == "" else _HASH(value)),
    "mailbox": (_ID, form.or_null(form.mailbox_name), form.or_empty(form.special_use), form.or_null(_ID)),
    "subscribed": (form.mailbox_name,),
    "metadata": (form.or_null(_ID), form.entry, form.metadata),
    "gone": (_ID, integer),
    "aside": (integer,),
    "message": (_ID, _ID, _flags, form.date, integer, integer),
}

"""The fold as text: what a checkpoint states. cspool-commands(5) is the definition.

One fold has one text, octet for octet, so whoever has replayed the log can
hold its own against that of a checkpoint.
"""

import sqlite3
import time
from collections.abc import Iterator
from typing import Any

from .. import command, form
from ..errors import DataError
from ..form import integer
from . import seen
from .seen import CHAIN_STEP

PART = 4 << 20  # octets of rows that go into one record

Row = list[Any]

# In this order; a row is its kind and these columns.
QUERIES = {
    "user": "SELECT user FROM cursor",
    "chain": "SELECT number, chain FROM history"
    f" WHERE number <= :number AND (number % {CHAIN_STEP} = 0 OR number > :number - {CHAIN_STEP}) ORDER BY number",
    "lost": "SELECT number, last FROM lost ORDER BY number",
    "checkpoint": "SELECT number, date FROM checkpoint ORDER BY number",
    "trust": "SELECT key, comment, number FROM trust ORDER BY key",
    "device": "SELECT id, counter, hash FROM device ORDER BY id",
    "mailbox": "SELECT one.id, one.fold_name, one.fold_use, other.id FROM mailbox AS one"
    " LEFT JOIN mailbox AS other ON other.key = one.fold_same_as WHERE one.made ORDER BY one.id",
    "subscribed": "SELECT name FROM subscription WHERE fold ORDER BY name",
    "gone": "SELECT id, number FROM gone ORDER BY id",
    "aside": "SELECT number FROM aside ORDER BY number",
    "record": "SELECT number, hash FROM record WHERE number IN (SELECT number FROM aside UNION SELECT number FROM"
    " content JOIN message ON message.content = content.key WHERE fold_mailbox NOTNULL) ORDER BY number",
    "message": "SELECT message.id, mailbox.id, fold_flags, date, content.number, place FROM message"
    " JOIN content ON content.key = content JOIN mailbox ON mailbox.key = fold_mailbox"
    " ORDER BY content.number, place, message.id",
}


def parts(db: sqlite3.Connection, number: int) -> Iterator[bytes]:
    """Yield the text of the fold, which is that of the log up to `number`, as it is parted into records."""
    lines: list[bytes] = []
    size = 0
    for kind, query in QUERIES.items():
        for row in db.execute(query, {"number": number}):
            line = _line([kind, *(value.hex() if isinstance(value, bytes) else value for value in row)])
            if size + len(line) > PART:
                yield b"".join(lines)
                lines, size = [], 0
            lines.append(line)
            size += len(line)
    yield b"".join(lines)


def checkpoint(db: sqlite3.Connection) -> Iterator[bytes]:
    """Yield the bodies of the records of a checkpoint at our cursor. The caller holds a transaction.

    Raises DataError where it would not keep all that is needed: a fault, which must not drop mail.
    """
    cursor = seen.cursor(db)
    assert cursor.spool is not None and cursor.chain is not None
    unknown = (
        "SELECT 1 FROM message JOIN content ON content.key = content WHERE fold_mailbox NOTNULL AND number IS NULL"
    )
    if db.execute(unknown).fetchone():
        raise DataError("no record is known of a message that is here: a new database is to be made from the spool")
    hashes = []
    for octets in parts(db, cursor.number):
        body = command.checkpoint_part(cursor.spool, octets)
        hashes.append(command.body_hash(body).hex())
        yield body
    yield command.encode(
        {
            "command": "checkpoint",
            "spool": cursor.spool.hex(),
            "number": cursor.number,
            "chain": cursor.chain.hex(),
            "date": int(time.time()),
            "parts": hashes,
        }
    )


def _line(row: Row) -> bytes:
    return form.line(row) + b"\n"


def rows(octets: bytes) -> Iterator[Row]:
    """Yield the rows of a part, with hex as bytes. Raises DataError where it is none."""
    for line in octets.splitlines():
        try:
            kind, *columns = form.read(line)
            checks = _CHECKS[kind]
            row = [kind, *(check(value) for check, value in zip(checks, columns, strict=True))]
        except (ValueError, TypeError, KeyError, RecursionError, DataError):
            raise DataError("a part of a checkpoint that is not understood") from None
        yield row


def kept(db: sqlite3.Connection) -> Iterator[int]:
    """Yield the numbers of the records that the fold needs, in order."""
    for number, _ in db.execute(QUERIES["record"]):
        yield number


def sizes(db: sqlite3.Connection) -> tuple[int, int]:
    """Return how many octets the log has, as frames, and how many the fold needs: what is between is garbage."""
    (octets,) = db.execute("SELECT octets FROM cursor").fetchone()
    (needed,) = db.execute(
        f"SELECT coalesce(sum(size), 0) FROM record JOIN ({QUERIES['record']}) USING (number)"
    ).fetchone()
    return octets, needed


def forget_records(db: sqlite3.Connection) -> None:
    """Forget what was known of records that the fold needs no more."""
    db.execute(
        "DELETE FROM record WHERE number NOT IN"
        " (SELECT number FROM aside UNION SELECT number FROM content WHERE number NOTNULL)"
    )


def _flags(value: Any) -> str:
    if not all(form.is_flag(flag) for flag in _string(value).split()):
        raise ValueError
    return str(value)


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _line_hash(value: Any) -> bytes:
    """The hash of a device's last change; nothing where that is not known."""
    return b"" if value == "" else _HASH(value)


_ID, _HASH = form.octets(16), form.octets(32)
_CHECKS: dict[str, tuple[form.Check, ...]] = {
    "user": (_HASH,),
    "chain": (integer, _HASH),
    "lost": (integer, integer),
    "checkpoint": (integer, form.date),
    "trust": (_HASH, form.text, integer),
    "device": (_ID, integer, _line_hash),
    "mailbox": (_ID, form.optional(form.mailbox_name), form.special_use, form.optional(_ID)),
    "subscribed": (form.mailbox_name,),
    "gone": (_ID, integer),
    "aside": (integer,),
    "record": (integer, _HASH),
    "message": (_ID, _ID, _flags, form.date, integer, integer),
}

"""The running digest of the fold: one number that machines compare at each record.

    digest = the sum, modulo 2^256, of the BLAKE2b-256 of the rows of the state

A row is a line of cspool-commands(5) CHECKPOINTS, without its line end; its
hash counts as a little-endian number. So a row that comes adds its hash, one
that goes takes it away, and their order does not matter. Only the user can sign
what a fold is made of, so that a sum needs no protection against rows that
were made to collide.

Triggers in the database keep it, in the table cursor: what writes a column
of the fold changes the digest in the same transaction.
"""

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from .. import form

SIZE = 32  # octets of a digest, little-endian
EMPTY = bytes(SIZE)  # of no rows


def row(kind: str, *columns: Any) -> bytes:
    """Return a row of the state, without its line end; octets among the columns become hex."""
    return form.line([kind, *(one.hex() if isinstance(one, bytes) else one for one in columns)])


def of(rows: Iterable[bytes]) -> bytes:
    """Return the digest of these rows."""
    return _sum(EMPTY, sum(map(_hash, rows)))


def total(digests: Iterable[bytes]) -> bytes:
    """Return the digest of all the rows that these are digests of."""
    return _sum(EMPTY, sum(int.from_bytes(one, "little") for one in digests))


def _hash(one: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(one, digest_size=SIZE).digest(), "little")


def _sum(digest: bytes, more: int) -> bytes:
    return ((int.from_bytes(digest, "little") + more) % (1 << 8 * SIZE)).to_bytes(SIZE, "little")


def install(db: sqlite3.Connection) -> None:
    """Give a connection the functions that the triggers call, with a digest, the kind of a row and its columns."""
    db.create_function("row_added", -1, lambda digest, *one: _sum(digest, _hash(row(*one))), deterministic=True)
    db.create_function("row_taken", -1, lambda digest, *one: _sum(digest, -_hash(row(*one))), deterministic=True)
    # Else a row that INSERT OR REPLACE replaces would not be taken away.
    db.execute("PRAGMA recursive_triggers = ON")


class Rows(NamedTuple):
    """The rows of one kind: `columns` of each row of `table` that `condition` is true of. `{0}` stands for that row."""

    kind: str
    table: str
    columns: str
    watched: str  # the columns that an update may change
    condition: str = "true"
    order: str = "1"  # columns, counted from 1


# In the order that the state has them.
ROWS = (
    Rows("user", "cursor", "{0}.user", "user", "{0}.user NOTNULL"),
    Rows("lost", "lost", "{0}.number, {0}.last", "number, last"),
    Rows("checkpoint", "checkpoint", "{0}.number, {0}.stated, {0}.date", "number, stated, date"),
    Rows("trust", "trust", "{0}.key, {0}.comment, {0}.number", "key, comment, number"),
    Rows("distrusted", "distrust", "{0}.key, {0}.number", "key, number"),
    Rows("device", "device", "{0}.id, {0}.counter, {0}.hash", "id, counter, hash"),
    Rows(
        "mailbox",
        "mailbox",
        "{0}.id, {0}.fold_name, {0}.fold_use, (SELECT id FROM mailbox AS other WHERE key = {0}.fold_same_as)",
        "created, fold_name, fold_use, fold_same_as",
        "{0}.created",
    ),
    Rows("subscribed", "subscription", "{0}.name", "fold", "{0}.fold"),
    Rows(
        "metadata",
        "metadata",
        "(SELECT id FROM mailbox WHERE key = {0}.mailbox), {0}.entry, {0}.fold",
        "fold",
        "{0}.fold NOTNULL",
        "1, 2",
    ),
    Rows("gone", "tombstone", "{0}.id, {0}.number", "id, number"),
    Rows("aside", "aside", "{0}.number", "number"),
    Rows(
        "message",
        "message",
        "{0}.id, (SELECT id FROM mailbox WHERE key = {0}.fold_mailbox), {0}.fold_flags, {0}.date,"
        " (SELECT number FROM content WHERE key = {0}.content), (SELECT offset FROM content WHERE key = {0}.content)",
        "content, date, fold_mailbox, fold_flags",
        "{0}.fold_mailbox NOTNULL",
        "5, 6, 1",
    ),
)


def state(db: sqlite3.Connection) -> Iterator[bytes]:
    """Yield the rows of the state, in order."""
    for kind, table, columns, _, condition, order in ROWS:
        query = f"SELECT {columns} FROM {table} WHERE {condition} ORDER BY {order}".format(table)
        for found in db.execute(query):
            yield row(kind, *found)


def triggers() -> Iterator[str]:
    """Yield the statements that make the triggers: one that adds a row and one that takes it away."""
    for kind, table, columns, watched, condition, _ in ROWS:
        for function, version, events in (
            ("row_taken", "OLD", {"delete": "DELETE", "change": f"UPDATE OF {watched}"}),
            ("row_added", "NEW", {"insert": "INSERT", "changed": f"UPDATE OF {watched}"}),
        ):
            values = f"digest, '{kind}', {columns}".format(version)
            for name, event in events.items():
                yield (
                    f"CREATE TRIGGER {table}_{name} AFTER {event} ON {table} WHEN {condition.format(version)}"
                    f" BEGIN UPDATE cursor SET digest = {function}({values}); END"
                )

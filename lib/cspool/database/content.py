"""The content of messages: their octets, and what is computed of them once. Copies of a message share it."""

import sqlite3

from ..command import Fields
from ..mail import date, envelope, message, order, text
from . import schema

# What is computed of a message has at most so many octets, and so many times its size.
COMPUTED_MAX = 1 << 20
COMPUTED_RATIO = 8


def add(db: sqlite3.Connection, message_id: bytes, octets: bytes, number: int | None, offset: int) -> int:
    """Store the octets of a message (CRLF line ends) and what is computed of them; return their key.

    They are in record `number`, or in none yet (None), `offset` octets behind
    the line of its command.
    """
    root = message.parse(octets)
    reduced = 0
    try:
        columns, texts, ordering = computed(root)
        size = sum(map(len, (columns["envelope"], columns["structure"], columns["preview"], *texts)))
        if size > COMPUTED_MAX + COMPUTED_RATIO * len(octets):
            raise ValueError("no limit has foreseen this")
    except Exception:
        # A fault of ours in what only helps clients must not stop the log, and with it all mail.
        columns, texts, ordering = computed(message.parse(b""))
        reduced = 1
    columns["reduced"] = reduced
    columns |= {"number": number, "offset": offset, "id": message_id, "size": len(octets)}
    key = db.execute(f"INSERT INTO content ({', '.join(columns)}) VALUES (:{', :'.join(columns)})", columns).lastrowid
    assert key is not None
    body = memoryview(octets)[root.body :]
    is_large = len(body) > schema.LARGE
    db.execute("INSERT INTO octets VALUES (?, ?, ?)", (key, octets[: root.body], b"" if is_large else body))
    if is_large:
        schema.fill(db, "octets", "body", key, body)
    header, shown = texts
    is_large = len(shown) > schema.LARGE
    db.execute("INSERT INTO text VALUES (?, ?, ?)", (key, header, "" if is_large else shown.decode()))
    if is_large:
        schema.fill(db, "text", "body", key, shown)
    db.execute(f"INSERT INTO ordering VALUES (?{', ?' * len(ordering)})", (key, *ordering))
    return key


def computed(root: message.Part) -> tuple[Fields, tuple[str, bytearray], order.Order]:
    """Return what is computed of a message: columns of `content`, texts of header and body, and `ordering`."""
    body, preview = text.body_text(root)
    label = text.label_of(root)
    addresses = envelope.address_lists(root.fields)
    columns: Fields = {
        "envelope": envelope.envelope(root.fields, addresses),
        "structure": envelope.structure(root),
        "preview": envelope.string(preview.encode("utf-8", "replace")),
    }
    columns["sent"], columns["sent_day"] = date.sent(root.fields.get(b"date", b"")) or (None, None)
    return columns, (text.header_text(root.header, label), body), order.order(root.fields, addresses, label)


def reduced(db: sqlite3.Connection, after: int) -> list[int]:
    """Return the numbers above `after` of the records whose messages are kept without what is computed of them."""
    query = "SELECT DISTINCT number FROM content WHERE reduced AND number > ? ORDER BY number"
    return [number for (number,) in db.execute(query, (after,))]


def octets_of(db: sqlite3.Connection, key: int) -> bytes:
    """Return the octets of a message, with CRLF line ends."""
    header, body = db.execute("SELECT header, body FROM octets WHERE content = ?", (key,)).fetchone()
    return bytes(header + body)


def set_origin(db: sqlite3.Connection, key: int, number: int, offset: int) -> None:
    """Note which record a content is in, `offset` octets behind the line of its command."""
    db.execute("UPDATE content SET number = ?, offset = ? WHERE key = ?", (number, offset, key))


def forget_unused(db: sqlite3.Connection, key: int) -> None:
    """Remove a content that no message has any more."""
    if not db.execute("SELECT 1 FROM message WHERE content = ?", (key,)).fetchone():
        _forget(db, key)


def forget_all_unused(db: sqlite3.Connection) -> None:
    """Remove all contents that no message has: a load that came to no end has left them."""
    query = "SELECT key FROM content WHERE key NOT IN (SELECT content FROM message)"
    for (key,) in db.execute(query).fetchall():
        _forget(db, key)


def _forget(db: sqlite3.Connection, key: int) -> None:
    db.execute("DELETE FROM content WHERE key = ?", (key,))
    for table in ("octets", "text", "ordering"):
        db.execute(f"DELETE FROM {table} WHERE content = ?", (key,))

"""The content of messages: their octets, and what is computed of them once. Copies of a message share it."""

import sqlite3

from ..command import Fields
from ..mail import envelope, message, order, text


def add(db: sqlite3.Connection, message_id: bytes, octets: bytes, number: int | None, place: int) -> int:
    """Store the octets of a message (CRLF line ends) and what is computed of them; return their key."""
    root = message.parse(octets)
    try:
        columns, texts, ordering = computed(octets, root)
    except Exception:
        # A fault of ours in what only helps clients must not stop the log, and with it all mail.
        columns, texts, ordering = computed(b"", message.parse(b""))
    columns |= {"number": number, "place": place, "id": message_id, "size": len(octets)}
    key = db.execute(f"INSERT INTO content ({', '.join(columns)}) VALUES (:{', :'.join(columns)})", columns).lastrowid
    assert key is not None
    db.execute("INSERT INTO octets VALUES (?, ?, ?)", (key, octets[: root.body], octets[root.body :]))
    db.execute("INSERT INTO text VALUES (?, ?, ?)", (key, *texts))
    db.execute(f"INSERT INTO ordering VALUES (?{', ?' * len(ordering)})", (key, *ordering))
    return key


def computed(octets: bytes, root: message.Part) -> tuple[Fields, tuple[str, str], order.Order]:
    """Return what is computed of a message: columns of `content`, texts of header and body, and `ordering`."""
    columns: Fields = {
        "envelope": envelope.envelope(root.fields),
        "structure": envelope.structure(octets, root),
        "preview": envelope.string(text.preview(octets, root).encode("utf-8", "replace")),
    }
    columns["sent"], columns["sent_day"] = text.sent(root.fields.get(b"date", b""))
    texts = text.header_text(octets[: root.body]), text.body_text(octets, root)
    return columns, texts, order.order(root.fields)


def forget_unused(db: sqlite3.Connection, key: int) -> None:
    """Remove a content that no message has any more."""
    if not db.execute("SELECT 1 FROM message WHERE content = ?", (key,)).fetchone():
        forget(db, key)


def forget(db: sqlite3.Connection, key: int) -> None:
    """Remove what `add` has stored."""
    db.execute("DELETE FROM content WHERE key = ?", (key,))
    for table in ("octets", "text", "ordering"):
        db.execute(f"DELETE FROM {table} WHERE content = ?", (key,))

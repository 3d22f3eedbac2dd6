"""STATUS, as a command and in LIST (RFC 9051 section 6.3.11, RFC 5819)."""

from typing import Any

from ..database import schema
from .grammar import BadCommand, Parser
from .session import Session
from .verbs import APPEND_MAX

# To compute these, each message is read. They stay the same until HIGHESTMODSEQ changes, and are cached until then.
COUNTS = (b"MESSAGES", b"UNSEEN", b"DELETED", b"SIZE", b"DELETED-STORAGE")

COUNT = "SELECT count(*) FROM message WHERE mailbox = ?"
SIZE = "SELECT coalesce(sum(size), 0) FROM message JOIN content ON content.key = content WHERE mailbox = ?"

# Each item as a query, whose parameter is the key of the mailbox.
STATUS = {
    b"MESSAGES": COUNT,
    b"RECENT": f"{COUNT} AND uid >= (SELECT recent FROM mailbox WHERE key = mailbox)",
    b"UIDNEXT": "SELECT uidnext FROM mailbox WHERE key = ?",
    b"UIDVALIDITY": "SELECT uidvalidity FROM mailbox WHERE key = ?",
    b"UNSEEN": f"{COUNT} AND {schema.UNSEEN}",
    b"DELETED": f"{COUNT} AND {schema.DELETED}",
    b"SIZE": SIZE,
    b"DELETED-STORAGE": f"{SIZE} AND {schema.DELETED}",  # RFC 9208 section 4.1.4
    b"HIGHESTMODSEQ": "SELECT modseq FROM mailbox WHERE key = ?",
    b"APPENDLIMIT": f"SELECT {APPEND_MAX} WHERE ? > 0",
    b"MAILBOXID": "SELECT id FROM mailbox WHERE key = ?",
}


def parse_items(session: Session, parser: Parser) -> list[bytes]:
    """Read the items of STATUS, in parentheses. HIGHESTMODSEQ enables CONDSTORE (RFC 7162 section 3.1).

    Raises BadCommand.
    """
    items = parser.parenthesized(parser.atom)
    if not items or not all(item in STATUS for item in items):
        raise BadCommand("Unknown STATUS item")
    if b"HIGHESTMODSEQ" in items:
        session.enable_condstore()
    return items


def count(session: Session, key: int, item: bytes) -> Any:
    """Return the value of an item for a mailbox, by its key. Those that are in COUNTS are counted once a MODSEQ."""

    def value(item: bytes) -> Any:
        return session.db.execute(STATUS[item], (key,)).fetchone()[0]

    if item not in COUNTS:
        return value(item)
    with schema.reading(session.db):
        modseq = value(b"HIGHESTMODSEQ")
        counts = session.counts.setdefault(key, {})
        if counts.get(b"HIGHESTMODSEQ") != modseq:
            counts.clear()
            counts[b"HIGHESTMODSEQ"] = modseq
        if item not in counts:
            counts[item] = value(item)
        return counts[item]


def status_answer(session: Session, name: str, items: list[bytes]) -> bytes:
    """Return the untagged answer for a mailbox, in one snapshot. Raises No if no mailbox has this name."""
    key = session.mailbox(name)
    with schema.reading(session.db):
        pairs = [(item, count(session, key, item)) for item in items]
    shown = [
        b"%b (F%b)" % (item, value.hex().encode()) if item == b"MAILBOXID" else b"%b %d" % (item, value)
        for item, value in pairs
    ]
    return b"STATUS %b (%b)" % (session.mailbox_name(name), b" ".join(shown))

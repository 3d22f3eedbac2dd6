"""APPEND: new messages from a client (RFC 9051 section 6.3.12, RFC 3502)."""

import os
import time

from ..command import append_id
from ..octets import with_crlf
from .grammar import BadCommand, No, Parser
from .messages import settable_flags
from .session import Session
from .sets import uid_set
from .verbs import LOGGED_IN, verb


@verb(LOGGED_IN)
def append(session: Session, parser: Parser) -> str:
    """Append one message, or several, all or none of them (section 6.3.12, RFC 3502)."""
    parser.space()
    name = parser.mailbox()
    rows, literals = [], []
    while parser.at(b" "):
        row, octets = _message(parser)
        rows.append(row)
        literals.append(octets)
    parser.end()
    if not rows:
        raise BadCommand("Nothing to append")
    mailbox_id = session.target(name).hex()
    session.change([{**row, "mailbox": mailbox_id} for row in rows], b"".join(literals))
    return _appended(session, mailbox_id, rows, literals)


def _message(parser: Parser) -> tuple[dict[str, object], bytes]:
    """Read flags, date and octets of a message. Return the small change, without "mailbox", and the octets."""
    flags = []
    if parser.peek() == b"(":
        flags = settable_flags(parser.flags())
        parser.space()
    date = int(time.time())
    if parser.peek() == b'"':
        date = parser.date_time()
        parser.space()
    if parser.at(b"UTF8 ("):  # RFC 6855 section 4
        octets = parser.string()
        parser.expect(b")")
    else:
        octets = parser.string()
    if not octets:
        raise No("An empty message is none")
    nonce = os.urandom(16).hex()
    return {"do": "append", "flags": flags, "date": date, "size": len(octets), "nonce": nonce}, octets


def _appended(session: Session, mailbox_id: str, rows: list[dict[str, object]], literals: list[bytes]) -> str:
    """Return the text of the OK, with the UIDs that the messages have got (RFC 4315 section 3).

    They are left out if one of the messages has left the mailbox again already.
    """
    query = "SELECT uid FROM message WHERE id = ? AND mailbox = ?"
    key, uidvalidity = session.db.execute(
        "SELECT key, uidvalidity FROM mailbox WHERE id = ?", (bytes.fromhex(mailbox_id),)
    ).fetchone()
    uids: list[int] = []
    for row, octets in zip(rows, literals, strict=True):
        message_id = append_id(bytes.fromhex(str(row["nonce"])), with_crlf(octets))
        found = session.db.execute(query, (message_id, key)).fetchone()
        uids += found or ()
    code = f"[APPENDUID {uidvalidity} {uid_set(uids).decode()}] " if len(uids) == len(rows) else ""
    return f"{code}APPEND completed"

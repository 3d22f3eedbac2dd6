"""APPEND and REPLACE: new messages from a client (RFC 9051 section 6.3.12, RFC 3502, RFC 8508)."""

import os
import time

from ..command import append_id
from ..database import schema
from ..octets import with_crlf
from .grammar import BadCommand, No, Parser
from .messages import settable_flags
from .session import Session
from .sets import uid_set
from .verbs import LOGGED_IN, numbered_verb, verb


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
    return f"{_appenduid(session, mailbox_id, rows, literals)}APPEND completed"


@numbered_verb(expunges=True)
def replace(session: Session, parser: Parser, by_uid: bool) -> str:
    """Append a message and expunge another one, both or neither (RFC 8508)."""
    parser.space()
    numbers = parser.sequence_set()
    parser.space()
    name = parser.mailbox()
    parser.space()
    row, octets = _message(parser)
    parser.end()
    if numbers is None or len(numbers) > 1 or numbers[0][0] != numbers[0][1]:
        raise BadCommand("REPLACE takes one message")
    selected = session.writable()
    mailbox_id = session.target(name).hex()
    with schema.writing(session.db):
        found = selected.ids(selected.ranges(numbers, by_uid))
        if not found:
            raise No("[NONEXISTENT] The message to be replaced is gone")
        expunge = {"do": "expunge", "ids": found[0][1].hex()}
        session.change([{**row, "mailbox": mailbox_id}, expunge], octets)
    # Before the expunge: a client that is cut off in between knows where its message is.
    session.untagged(f"OK {_appenduid(session, mailbox_id, [row], [octets])}Replacement is there".encode())
    session.tell_selected()
    return f"{session.highest()}REPLACE completed"


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


def _appenduid(session: Session, mailbox_id: str, rows: list[dict[str, object]], literals: list[bytes]) -> str:
    """Return the APPENDUID code with the UIDs that the messages have got (RFC 4315 section 3).

    It is left out if one of the messages has left the mailbox again already.
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
    if session.selected and session.selected.key == key:
        session.selected.own.update(uids)
    return f"[APPENDUID {uidvalidity} {uid_set(uids).decode()}] " if len(uids) == len(rows) else ""

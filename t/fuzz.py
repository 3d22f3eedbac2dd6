"""Fuzz what reads hostile octets, guided by coverage. By hand: it needs atheris, and runs until it is stopped.

Usage: PYTHONPATH=lib:t python t/fuzz.py (mime | imap) [OPTIONS OF LIBFUZZER]
"""

import contextlib
import sqlite3
import sys

import atheris

with atheris.instrument_imports(include=["cspool"]):
    from cspool import envelope, message, order, text
    from cspool.imap.server import Server
    from cspool.imap.session import Session
from imap import mail
from test_grammar import Pipe, check_syntax

EMPTY = sqlite3.connect(":memory:", isolation_level=None)


def mime(octets):
    """All that is computed of a message when it arrives."""
    octets = message.with_crlf(octets)
    root = message.parse(octets)
    answers = b"* 1 FETCH (%b %b)\r\n"
    check_syntax(answers % (envelope.envelope(root.fields), envelope.structure(octets, root)))
    check_syntax(answers % (b"x", envelope.structure(octets, root, extended=False)))
    text.body_text(octets, root)
    text.header_text(octets[: root.body])
    text.preview(octets, root)
    text.sent(root.fields.get(b"date", b""))
    order.order(root.fields)


def imap(octets):
    """A session of these commands on a mailbox with one message."""
    connection = Pipe(b"a SELECT INBOX\r\n" + octets + b"\r\n")
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        EMPTY.backup(db)
        session = Session(db, connection, "/nonexistent")
        session.authenticated = True
        Server(session).run()
    check_syntax(b"".join(connection.told))


def main(target, *options):
    if target == "imap":
        import tempfile

        from imap import Mailboxes

        with tempfile.TemporaryDirectory() as directory:
            boxes = Mailboxes(f"{directory}/mail.db")
            boxes.append(mail("hello", From="bob@example.org"))
            boxes.db.backup(EMPTY)
    atheris.Setup([sys.argv[0], *options], {"mime": mime, "imap": imap}[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])

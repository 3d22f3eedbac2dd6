"""The readers of hostile octets, each as a function of octets, for test_hostile.py and fuzz.py.

None may raise anything but a Failure.
"""

import contextlib
import http.client
import io
import os
import sqlite3

from cspool import command, frame, keys, record
from cspool.database import checkpoint
from cspool.errors import Failure
from cspool.imap.passwords import Passwords
from cspool.imap.server import Server
from cspool.imap.session import Session
from cspool.mail import date, envelope, message, order, text
from cspool.octets import with_crlf
from cspool.spool import compact, files, scan, web
from imap import Mailboxes, mail
from test_grammar import Pipe, check_syntax

EMPTY = sqlite3.connect(":memory:", isolation_level=None)


def mime(octets):
    """What is computed from a message when it arrives."""
    octets = with_crlf(octets)
    root = message.parse(octets)
    answers = b"* 1 FETCH (%b %b)\r\n"
    check_syntax(
        answers % (envelope.envelope(root.fields, envelope.address_lists(root.fields)), envelope.structure(root))
    )
    check_syntax(answers % (b"x", envelope.structure(root, extended=False)))
    text.body_text(root)
    text.header_text(root.header)
    date.sent(root.fields.get(b"date", b""))
    order.order(root.fields, envelope.address_lists(root.fields))


def imap(octets):
    """An IMAP session with these commands in a mailbox with one message."""
    connection = Pipe(b"a SELECT INBOX\r\n" + octets + b"\r\n")
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        EMPTY.backup(db)
        session = Session(lambda: db, connection, Passwords("/nonexistent", "/nonexistent"))
        session.authenticate()
        Server(session).run()
    check_syntax(b"".join(connection.told))


def stream(octets):
    """A stream, as cspool-append and cspool-apply read it."""
    with contextlib.suppress(Failure):
        for one in frame.read(io.BytesIO(octets)):
            files.Head.parse(one.record, "it")


def segment(octets):
    """A segment, as cspool-fsck reads it."""
    scan.header(octets)
    for found in scan.frames(octets, 0, len(octets), range(1, 1 << 40)):
        assert 0 <= found.start < found.end <= len(octets)


def head(octets):
    for parse in (files.Head.parse, files.parse_list, compact.Keep.parse):
        with contextlib.suppress(Failure):
            parse(octets, "it")


def rows(octets):
    """The lines of the state in a part of a checkpoint."""
    with contextlib.suppress(Failure):
        list(checkpoint.read_rows(octets))


class Opens:
    """A key that opens anything."""

    public = keys.PublicKey(bytes(32), bytes(32))

    def open(self, sealed):
        return sealed


def sealed(octets):
    """The plaintext of a record."""
    with contextlib.suppress(Failure):
        record.open_with([Opens()], bytes([record.VERSION]) + octets)


def commands(octets):
    with contextlib.suppress(Failure):
        fields, _ = command.decode(octets)
        assert fields["command"] in ("deliver", "change", "checkpoint-part", "checkpoint")


KEY = os.memfd_create("key")


def key(octets):
    os.ftruncate(KEY, 0)
    os.pwrite(KEY, octets, 0)
    for read in (keys.read_public, keys.is_locked, lambda path: keys.read_secret(path, lambda _: b"secret")):
        with contextlib.suppress(Failure):
            read(f"/proc/self/fd/{KEY}")


class Socket(io.BytesIO):
    """A connection to a server that gives these octets as the answer to any request."""

    def makefile(self, *_, **__):
        return self

    def sendall(self, _):
        pass

    def close(self):
        pass


def server(octets):
    """The answer of a web server to cspool-fetch."""

    class Connection(http.client.HTTPConnection):
        def connect(self):
            self.sock = Socket(octets)

    files = web.Web("http://example.org/alice")
    files._connection = Connection("example.org")
    for read in (lambda: files.read("head"), lambda: b"".join(files.pieces("x.log", 0, 100))):
        with contextlib.suppress(Failure, FileNotFoundError):
            read()


def prepare(directory):
    """Create in a directory what the targets need."""
    os.environ["HOME"] = directory  # no .netrc
    boxes = Mailboxes(f"{directory}/mail.db")
    boxes.append(mail("hello", From="bob@example.org"))
    boxes.db.backup(EMPTY)


TARGETS = (mime, imap, stream, segment, head, sealed, commands, rows, key, server)

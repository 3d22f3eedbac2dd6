"""A message database and IMAP sessions on it, inside the test's own process."""

import re
import socket
import threading

from cspool import command
from cspool.database import schema, seen, view
from cspool.imap.connection import Connection
from cspool.imap.passwords import Passwords
from cspool.imap.server import Server
from cspool.imap.session import Session


def mail(subject="hello", body="text", **fields):
    """Return a message; field names with _ for -."""
    lines = [f"{name.replace('_', '-').title()}: {value}" for name, value in fields.items()]
    return "\r\n".join([f"Subject: {subject}", *lines, "", body, ""]).encode()


class Mailboxes:
    """A database that no log is behind: all that is in it has been appended here."""

    def __init__(self, path):
        self.path = str(path)
        self.db = schema.open_database(self.path, create=True)
        self.nonce = 0

    def create(self, name):
        """Make a mailbox as a delivery does: not for a special use."""
        with schema.writing(self.db):
            view.change(self.db, [{"do": "create", "name": name, "nonce": name.encode().hex()[:32].zfill(32)}])

    def append(self, octets, mailbox="INBOX", flags=(), date=1795507200):
        (mailbox_id,) = self.db.execute("SELECT id FROM mailbox WHERE name = ?", (mailbox,)).fetchone()
        self.nonce += 1
        row = {"do": "append", "mailbox": mailbox_id.hex(), "flags": [*flags], "date": date, "size": len(octets),
               "nonce": f"{self.nonce:032x}"}  # fmt: skip
        with schema.writing(self.db):
            view.change(self.db, [row], octets)

    def change_all(self, **row):
        ids = b"".join(one for (one,) in self.db.execute("SELECT id FROM message WHERE mailbox IS NOT NULL"))
        with schema.writing(self.db):
            view.change(self.db, [{**row, "ids": ids.hex()}])

    def state(self):
        return seen.cursor(self.db), command.INBOX


class Client:
    """One session, with the server in a thread. Calls return the untagged answers, then the tagged one."""

    def __init__(self, path, authenticated=True, timeout=30):
        self.socket, server = socket.socketpair()
        self.socket.settimeout(30)
        self.file = self.socket.makefile("rb")
        self.count = 0
        self.thread = threading.Thread(target=self.serve, args=(path, server, authenticated, timeout), daemon=True)
        self.thread.start()
        self.greeting = self.answer()

    @staticmethod
    def serve(path, server, authenticated, timeout):
        with server, schema.opened(str(path)) as db:
            passwords = Passwords(f"{path}.passwd", f"{path}.failures")
            session = Session(lambda: db, Connection(server.fileno(), server.fileno(), timeout), passwords)
            if authenticated:
                session.authenticate()
            Server(session).run()

    def close(self):
        self.file.close()
        self.socket.close()
        self.thread.join(30)
        assert not self.thread.is_alive()

    def send(self, octets):
        self.socket.sendall(octets)

    def answer(self):
        """One answer, with its literals."""
        octets = self.file.readline()
        assert octets, "the server has closed"
        while found := re.search(rb"\{(\d+)\}\r\n\Z", octets):
            octets += self.file.read(int(found[1])) + self.file.readline()
        assert octets.endswith(b"\r\n")
        return octets[:-2]

    def __call__(self, line, *literals):
        """Do a command; each literal goes to the next {} in it, without asking."""
        self.count += 1
        tag = b"t%d" % self.count
        parts = (line if isinstance(line, bytes) else line.encode()).split(b"{}")
        octets = tag + b" " + parts[0]
        for literal, part in zip(literals, parts[1:], strict=True):
            octets += b"{%d+}\r\n%b%b" % (len(literal), literal, part)
        self.send(octets + b"\r\n")
        return self.until(tag)

    def until(self, tag):
        answers = []
        while True:
            one = self.answer()
            if one.startswith(tag + b" "):
                return [*answers, one[len(tag) + 1 :]]
            answers.append(one)

    def ok(self, line, *literals):
        """Do a command that succeeds; return its untagged answers without "* "."""
        *untagged, tagged = self(line, *literals)
        assert tagged.startswith(b"OK"), tagged
        return [one[2:] for one in untagged]

    def no(self, line, *literals):
        """Do a command that does not; return the text."""
        tagged = self(line, *literals)[-1]
        assert not tagged.startswith(b"OK"), tagged
        return tagged

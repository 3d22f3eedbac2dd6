"""A spool in memory, with a user's and a mail host's key, and message databases that replay it."""

from collections import Counter
from contextlib import suppress

from cspool import database, frame, keys, outbox, record, view
from cspool.frame import Frame
from cspool.replay import Replay
from cspool.spool import Head

ALICE = keys.SecretKey(b"a" * 32)
HOST = keys.SecretKey(b"h" * 32)
SPOOL = b"spool id 16 octs"


class Log:
    """A spool in memory."""

    def __init__(self):
        self.records, self.bodies, self.chains = [], [], [frame.first_chain(SPOOL)]

    def append(self, body, sender):
        sealed = record.seal(body, sender, ALICE.public)
        self.records.append(sealed)
        self.bodies.append((sender, body))
        self.chains.append(frame.next_chain(self.chains[-1], len(self.records), sealed))

    def stream(self, after, end):
        head = Head(SPOOL, end + 1, self.chains[end], 1, "-", 0, 0, bytes(32))
        yield Frame(frame.HEAD_NUMBER, frame.UNCHAINED, head.text())
        for number in range(after + 1, end + 1):
            yield Frame(number, self.chains[number - 1], self.records[number - 1])


class Device:
    """One message database."""

    def __init__(self, directory, name):
        self.path = str(directory / name)
        self.db = database.open_database(self.path, create=True)

    def change(self, *rows, octets=b""):
        with database.writing(self.db):
            view.change(self.db, list(rows), octets)

    def push(self, log, most=None):
        for body in list(outbox.bodies(self.db))[:most]:
            log.append(body, ALICE)

    def fetch(self, log, end=None):
        end = len(log.records) if end is None else end
        number = database.cursor(self.db).number
        if end >= number:
            Replay(self.db, [ALICE]).run(log.stream(number, end))

    def fetch_and_die(self, log, frames, commits):
        """Killed before this many frames have been read, having committed where `commits` says so."""
        replay = Replay(self.db, [ALICE])

        def stream():
            for place, one in enumerate(log.stream(database.cursor(self.db).number, len(log.records))):
                if place == frames:
                    raise KeyboardInterrupt
                if place in commits:
                    replay.commit()
                yield one

        with suppress(KeyboardInterrupt):
            replay.run(stream())

    def ids(self):
        return [one for (one,) in self.db.execute("SELECT id FROM message WHERE mailbox IS NOT NULL ORDER BY id")]

    def state(self, prefix=""):
        rows = self.db.execute(
            f"SELECT mailbox.{prefix}name, message.id, {prefix}flags FROM message"
            f" JOIN mailbox ON mailbox.key = {prefix}mailbox"
        )
        return Counter((name, message_id, flags) for name, message_id, flags in rows)

    def mailboxes(self, prefix=""):
        return dict(self.db.execute(f"SELECT id, {prefix}name FROM mailbox WHERE {prefix}name IS NOT NULL"))

    def subscribed(self, column="view"):
        return {name for (name,) in self.db.execute(f"SELECT name FROM subscription WHERE {column}")}

    def seen_by_imap(self):
        """UID, flags and MODSEQ of each message, as a client would have them."""
        rows = self.db.execute("SELECT id, mailbox, uid, flags, modseq FROM message WHERE mailbox IS NOT NULL")
        return {message_id: row for message_id, *row in rows}

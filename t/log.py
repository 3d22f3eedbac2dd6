"""A spool in memory, the keys of a user and a mail host, and message databases that replay the log."""

from collections import Counter
from contextlib import suppress

from cspool import frame, keys, record
from cspool.database import checkpoint, digest, outbox, schema, seen, view
from cspool.database.replay import Replay
from cspool.errors import TryAgain
from cspool.frame import Frame
from cspool.spool.files import Head

ALICE = keys.SecretKey(b"a" * 32)
HOST = keys.SecretKey(b"h" * 32)
SPOOL = b"spool id 16 octs"


class Log:
    """A spool in memory."""

    def __init__(self):
        self.records, self.bodies, self.chains = [], [], [frame.first_chain(SPOOL)]
        self.stated = self.checkpoint_first = self.checkpoint_end = 0
        self.hashes = {}  # of records, from when they were dropped
        self.kept = []  # numbers up to `stated` of the records that have not been dropped

    def append(self, body, sender):
        self.append_sealed(record.seal(body, sender, ALICE.public), body, sender)

    def append_sealed(self, sealed, body, sender):
        self.records.append(sealed)
        self.bodies.append((sender, body))
        self.chains.append(frame.next_chain(self.chains[-1], len(self.records), sealed))

    def compact(self, bodies, kept, stated=None, sender=ALICE):
        """Append a checkpoint and drop what it does not keep. Readers with an older head still find those records."""
        self.stated, self.kept = len(self.records) if stated is None else stated, kept
        self.checkpoint_first = len(self.records) + 1
        for body in bodies:
            self.append(body, sender)
        self.checkpoint_end = len(self.records)

    def hash(self, number):
        return self.hashes.setdefault(number, frame.record_hash(self.records[number - 1]))

    def head(self, end):
        covered = (self.stated, self.checkpoint_first, self.checkpoint_end)
        covered = covered if self.checkpoint_end <= end else (0, 0, 0)
        return Head(SPOOL, end + 1, self.chains[end], 1, "-", 0, 0, bytes(32), *covered)

    def frame(self, number):
        return Frame(number, self.chains[number - 1], self.records[number - 1])

    def compacted(self, after):
        """Yield the frames that are left of the log up to what the checkpoint states."""
        run = []
        for number in range(after + 1, self.stated + 2):
            if run and (number in self.kept or number > self.stated):
                yield Frame(frame.DROPPED + run[0], self.chains[run[0] - 1], b"".join(map(self.hash, run)))
                run = []
            if number in self.kept:
                yield self.frame(number)
            elif number <= self.stated:
                run.append(number)

    def stream(self, after, end):
        """Yield the frames that cspool-fetch writes."""
        head = self.head(end)
        yield Frame(frame.HEAD_NUMBER, frame.UNCHAINED, head.text())
        if after < head.stated:
            yield from map(self.frame, range(head.checkpoint_first, head.checkpoint_end + 1))
            yield from self.compacted(after)
            after = head.stated
        yield from map(self.frame, range(after + 1, end + 1))


class Device:
    """One message database."""

    def __init__(self, directory, name, own=(ALICE,)):
        self.own = own  # the keys of the user, newest first
        self.path = str(directory / name)
        self.db = schema.open_database(self.path, create=True)

    def change(self, *rows, octets=b""):
        with schema.writing(self.db):
            view.change(self.db, list(rows), octets)

    def push(self, log, most=None):
        for body in list(outbox.bodies(self.db))[:most]:
            log.append(body, self.user)

    def trust(self, log, key):
        """Trust a host, and let the log know."""
        self.change({"do": "trust", "key": key.public.sign.hex(), "comment": "host"})
        self.push(log)

    @property
    def user(self):
        """The key that is the user's as far as this machine knows."""
        return seen.user_key(self.db, list(self.own))

    def fetch(self, log, end=None):
        end = len(log.records) if end is None else end
        if end >= seen.cursor(self.db).number:
            try:
                Replay(self.db, list(self.own)).run(log.stream(seen.reached(self.db), end))
            except TryAgain:  # it found a newer checkpoint while it was loading an older one
                Replay(self.db, list(self.own)).run(log.stream(seen.reached(self.db), end))

    def checkpoint(self, log):
        """Make a checkpoint and compact the log with it; return False if the device has not applied all of the log."""
        cursor = seen.cursor(self.db)
        if cursor.spool is None or cursor.number != len(log.records):
            return False
        log.compact(list(checkpoint.bodies(self.db)), list(checkpoint.kept(self.db)), sender=self.user)
        return True

    def fetch_and_die(self, log, frames, commits):
        """Be killed after reading this many frames, with a commit before each frame whose index is in `commits`."""
        replay = Replay(self.db, list(self.own))

        def stream():
            for place, one in enumerate(log.stream(seen.reached(self.db), len(log.records))):
                if place == frames:
                    raise KeyboardInterrupt
                if place in commits:
                    replay.commit()
                yield one

        with suppress(KeyboardInterrupt, TryAgain):  # of a newer checkpoint than the one that was loaded before
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

    def metadata(self, column="view"):
        """Return the values of entries, by the id of their mailbox (None: the server) and their name."""
        query = f"SELECT id, entry, {column} FROM metadata LEFT JOIN mailbox ON mailbox.key = mailbox"
        return {(one, entry): value for one, entry, value in self.db.execute(f"{query} WHERE {column} NOTNULL")}

    def seen_by_imap(self):
        """Return mailbox, UID, flags and MODSEQ of each message, by id, as a client sees them."""
        rows = self.db.execute("SELECT id, mailbox, uid, flags, modseq FROM message WHERE mailbox IS NOT NULL")
        return {message_id: row for message_id, *row in rows}


def state_of(db):
    """Return the text of the fold; its digest is the one that has been kept."""
    rows = list(digest.state(db))
    assert digest.of(rows) == seen.cursor(db).digest
    return b"".join(row + b"\n" for row in rows)


def read(reader, log, end=None):
    """Have the second reader read the log from its cursor on, as cspool-fetch sends it."""
    frames = [
        frame.encode(one.record, one.number, one.chain) for one in log.stream(reader.cursor, end or len(log.records))
    ]
    reader.read(b"".join(frames) + frame.encode_end(len(frames)))

"""A spool in memory, with a user's and a mail host's key."""

from cspool import frame, keys, record
from cspool.frame import Frame
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

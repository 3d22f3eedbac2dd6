"""Replaying a log into the message database: what cspool-apply does with a stream.

Each record goes through the same gates: it continues the log that this
database has applied (else the spool contradicts itself: stop), it opens and is
a command (else set aside), and its signer may do what it says (else set
aside). Records are folded in large transactions, and the cursor moves with
them.
"""

import sqlite3
import time
from collections.abc import Iterator

from . import command, database, frame, keys, outbox, record, view
from .command import FIRST, Fields
from .errors import Contradiction, DataError, Failure, TooOld
from .fold import Layer
from .frame import Frame
from .keys import SecretKey
from .record import Opened
from .spool import Head

TRANSACTION = 1.0  # seconds after which what was folded is committed
HISTORY = 1 << 16  # so many numbers back the chain is kept of each, before that of every 1024th
HISTORY_STEP = 1024


class Replay:
    """One stream on its way into the database."""

    def __init__(self, db: sqlite3.Connection, key: SecretKey) -> None:
        self.db = db
        self.key = key
        self.folded: dict[bytes, None] = {}  # ids of messages that this transaction's records touched

    def run(self, frames: Iterator[Frame]) -> None:
        """Apply all that is new in the stream. Raises what frame.read raises, and Contradiction.

        What came before an error has then been applied, and is on disk.
        """
        one = next(frames, None)
        if one is None or one.number != frame.HEAD_NUMBER:
            raise DataError("standard input: not read from a spool (no head in front)")
        head = Head.parse(one.record, "standard input")
        database.check_key(self.db, self.key.public.sign)
        self._begin()
        try:
            self._check_head(head)
            for one in frames:
                self._take(one)
                if time.monotonic() > self.due:
                    self._commit()
                    self._begin()
            self._check_end(head)
        except Failure:
            self._commit()
            raise
        except BaseException:
            database.roll_back(self.db)
            raise
        self._commit()

    # The log

    def _begin(self) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self.due = time.monotonic() + TRANSACTION
        cursor = database.cursor(self.db)
        self.spool, self.number, self.chain = cursor.spool, cursor.number, cursor.chain or b""
        self.db.execute("UPDATE cursor SET user = ?", (self.key.public.sign,))

    def _commit(self) -> None:
        if self.spool is not None:
            self.db.execute("UPDATE cursor SET number = ?, chain = ?", (self.number, self.chain))
        self.db.execute("DELETE FROM history WHERE number < ? AND number % ?", (self.number - HISTORY, HISTORY_STEP))
        outbox.freeze(self.db)
        view.refresh(self.db, self.folded)
        self.db.execute("COMMIT")
        self.folded = {}

    def _check_head(self, head: Head) -> None:
        """Stop when the head alone contradicts what has been applied."""
        if self.spool is None:
            self.spool, self.chain = head.spool, frame.first_chain(head.spool)
            self.db.execute("UPDATE cursor SET spool = ?, chain = ?", (self.spool, self.chain))
        if head.spool != self.spool:
            raise Contradiction(f"the spool is another one: {head.spool.hex()}, not {self.spool.hex()}")
        if head.next - 1 < self.number:
            raise Contradiction(f"the log ends at record {head.next - 1}, but record {self.number} has been seen")
        if head.next - 1 == self.number and head.chain != self.chain:
            raise Contradiction(f"the log up to record {self.number} is not the one that has been seen")

    def _check_end(self, head: Head) -> None:
        if self.number == head.next - 1 and self.chain == head.chain:
            return
        # The records of this transaction may be the wrong ones: none is used.
        self.db.execute("ROLLBACK")
        self.folded = {}
        number = self.number
        self._begin()
        if number < head.next - 1:
            raise Contradiction(f"records {number + 1} to {head.next - 1} are missing")
        raise Contradiction(f"the log up to record {number} is not what its head says")

    def _take(self, one: Frame) -> None:
        """Fold the record of a frame, after the check that it continues the log."""
        if one.number <= self.number:
            known = self.db.execute("SELECT chain FROM history WHERE number = ?", (one.number - 1,)).fetchone()
            if known and known[0] != one.chain:
                raise Contradiction(f"the log before record {one.number} is not the one that has been seen")
            return  # applied before
        if one.number > self.number + 1:
            raise Contradiction(f"records {self.number + 1} to {one.number - 1} are missing")
        if one.chain != self.chain:
            raise Contradiction(f"record {one.number} does not continue the log that has been seen")
        try:
            opened = record.open_with(self.key, one.record)
            self._fold(one.number, opened)
        except DataError as error:
            self._set_aside(one.number, str(error))
        self.number, self.chain = one.number, frame.next_chain(one.chain, one.number, one.record)
        self.db.execute("INSERT INTO history VALUES (?, ?)", (self.number, self.chain))

    # Commands

    def _fold(self, number: int, opened: Opened) -> None:
        """Do what a record says. Raises DataError, before it has done anything, for what is to be set aside."""
        by_user = opened.sender == self.key.public.sign
        try:
            fields, octets = command.decode(opened.body)
        except TooOld as error:
            if by_user:
                raise TooOld(f"record {number}: {error}") from None
            raise DataError(str(error)) from None
        layer = Layer(self.db, "fold_", number)
        if fields["command"] == "deliver":
            trusted = "SELECT 1 FROM trust WHERE key = ?"
            if by_user or self.db.execute(trusted, (opened.sender,)).fetchone():
                layer.deliver(fields, octets)
            else:
                reason = f"delivered by a key that is not trusted ({keys.short(opened.sender)})"
                self._set_aside(number, reason, opened)
        elif not by_user:
            raise DataError(f"a change by a key that is not the user's ({keys.short(opened.sender)})")
        elif self._continues(number, fields):
            layer.perform(fields["changes"], octets)
            body_hash = command.body_hash(opened.body)
            device = fields["device"]
            self.db.execute("INSERT OR REPLACE INTO device VALUES (?, ?, ?)", (device, fields["counter"], body_hash))
            outbox.took_effect(self.db, device, body_hash)
        self.folded.update(layer.touched)

    def _continues(self, number: int, fields: Fields) -> bool:
        """Tell whether a change takes effect: only if it continues its device's line in this spool."""
        if fields["spool"] != self.spool:
            raise DataError("a change for another spool")
        self._check_witness(number, fields)
        line = self.db.execute("SELECT counter, hash FROM device WHERE id = ?", (fields["device"],)).fetchone()
        counter, last = line or (0, FIRST)
        if fields["counter"] <= counter:
            return False  # pushed again
        if fields["counter"] == counter + 1 and fields["previous"] == last:
            return True
        raise DataError("a change that does not continue the line of its device")

    def _check_witness(self, number: int, fields: Fields) -> None:
        """The author says how far it had read, and what: a second opinion on the log before this record."""
        seen, chain = fields["number"], fields["chain"]
        if seen >= number:
            raise Contradiction(f"record {number} was written by a device that has seen record {seen}")
        known = self.db.execute("SELECT chain FROM history WHERE number = ?", (seen,)).fetchone()
        if (known and known[0] != chain) or (seen == 0 and chain != frame.first_chain(fields["spool"])):
            raise Contradiction(f"the device that wrote record {number} has seen another log up to record {seen}")

    def _set_aside(self, number: int, reason: str, opened: Opened | None = None) -> None:
        row = (number, reason, opened and opened.sender, opened and opened.body)
        self.db.execute("INSERT INTO aside VALUES (?, ?, ?, ?)", row)

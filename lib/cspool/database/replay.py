"""Replaying a log into the message database: what cspool-apply does with a stream.

Each record goes through the same gates: it continues the log that this
database has applied (else the spool contradicts itself: stop), it opens and is
a command (else set aside), and its signer may do what it says (else set
aside). Records are folded in large transactions, and the cursor moves with
them.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator

from .. import command, frame, keys, record, tool
from ..command import FIRST, Fields
from ..errors import BadConfig, Contradiction, DataError, Failure, TooOld
from ..frame import Frame
from ..keys import SecretKey
from ..record import Opened
from ..spool.files import Head
from . import checkpoint, outbox, schema, seen, view
from .fold import Layer
from .loading import Loading
from .seen import CHAIN_KEPT, CHAIN_STEP

TRANSACTION = 1.0  # seconds after which what was folded is committed
UNKNOWN = b""  # the hash of a device's last change, when records are lost


class Replay:
    """One stream on its way into the database.

    After each commit `progress` is called with the number of the last record
    applied and that of the last one that is known of; and when the two are
    one, or an error ends it, `complain` with a line for each record that has
    been set aside or is lost.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        own: list[SecretKey],
        progress: Callable[[int, int], None] = lambda number, last: None,
        complain: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.db = db
        self.own = own  # the user's keys, the newest first
        self.progress = progress
        self.complain = complain
        self.folded: dict[bytes, None] = {}  # ids of messages that this transaction's records touched
        # No head may be below what was known when the stream began, or what the stream itself has shown.
        # Between the two another cspool-apply may have gone further.
        self.floor = seen.cursor(db).number
        self.number = self.last = self.octets = 0
        # The last frame that was read: its record is used once what follows it has told that it is the right one.
        self.waiting: Frame | None = None
        self.loading: Loading | None = None
        self.reported = self.floor
        self.due = 0.0

    def run(self, frames: Iterator[Frame]) -> None:
        """Apply all that is new in the stream. Raises what frame.read raises, and Contradiction.

        A head says how far the records behind it go; a stream that follows a
        spool has one for each batch. What came before an error, but for the
        last record, has then been applied, and is on disk; before a
        Contradiction, only what had been committed.
        """
        seen.check_keys(self.db, self.own)
        head = None
        try:
            for one in frames:
                if one.number == frame.HEAD_NUMBER:
                    if head:
                        self._check_end(head)
                    head = Head.parse(one.record, "standard input")
                    self._check_head(head)
                elif head:
                    self._take(one, head)
                else:
                    raise DataError("standard input: not read from a spool (no head in front)")
                if (self.waiting.number if self.waiting else self.number) == self.last:
                    self._check_end(head)
                self.pause(False)
            if not head:
                raise DataError("standard input: not read from a spool (no head in front)")
            self._check_end(head)
        except Failure as failure:
            self.waiting = None
            if isinstance(failure, Contradiction):
                # The records of this transaction may be the wrong ones: none is used.
                schema.roll_back(self.db)
                self.folded = {}
                self._remember(failure, head)
            self.commit()
            self._report()
            raise
        except BaseException:
            schema.roll_back(self.db)
            raise
        self.commit()

    def _remember(self, contradiction: Contradiction, head: Head | None) -> None:
        """Keep what contradicts, beside what had been applied: a person has to judge."""
        self._begin()
        row = (int(time.time()), str(contradiction), head and head.text().decode())
        self.db.execute("DELETE FROM contradiction WHERE reason = ?", row[1:2])
        self.db.execute("INSERT INTO contradiction VALUES (?, ?, ?)", row)

    def pause(self, waits: bool) -> None:
        """Commit before a wait for input, and when the transaction is old: nobody else can write meanwhile."""
        if waits or time.monotonic() > self.due:
            self.commit()

    def commit(self) -> None:
        """Let others see what has been applied."""
        if not self.db.in_transaction:
            return
        self._save()
        self.refresh(self.folded)
        self.db.execute("COMMIT")
        self.folded = {}
        self.progress(self.loading.reached if self.loading else self.number, self.last)
        if self.number >= self.last:
            self._report()

    def refresh(self, folded: Iterable[bytes]) -> None:
        """Make the view again of the messages whose fold has changed."""
        view.refresh(self.db, folded)

    def _report(self) -> None:
        """Tell of what has been set aside and still is, and of what is lost: a `trust` may come long after it."""
        rows = self.db.execute(
            "SELECT number, number, 'is set aside: ' || reason FROM aside WHERE number > :reported UNION ALL"
            " SELECT number, last, 'lost by the spool before it could be read' FROM lost"
            " WHERE number > :reported ORDER BY 1",
            {"reported": self.reported},
        )
        for number, last, what in rows.fetchall():
            self.complain(f"{tool.records(number, last)} {what}")
            self.reported = last

    def _begin(self) -> None:
        if self.db.in_transaction:
            return
        self.db.execute("BEGIN IMMEDIATE")
        self.due = time.monotonic() + TRANSACTION
        self._load()

    def _load(self) -> None:
        cursor = seen.cursor(self.db)
        self.spool, self.number, self.chain = cursor.spool, cursor.number, cursor.chain or b""
        if self.loading and self.number > self.loading.stated:
            self.loading = None  # another cspool-apply was faster
        self.user = seen.check_keys(self.db, self.own).public.sign
        self.db.execute("UPDATE cursor SET user = ?", (self.user,))

    def _save(self) -> None:
        if self.spool is not None:
            row = (self.number, self.chain, self.octets)
            self.db.execute("UPDATE cursor SET number = ?, chain = ?, octets = octets + ?", row)
            self.octets = 0
        self.db.execute("DELETE FROM history WHERE number < ? AND number % ?", (self.number - CHAIN_KEPT, CHAIN_STEP))

    # The log

    def _check_head(self, head: Head) -> None:
        """Stop when the head alone contradicts what has been applied."""
        self._begin()
        self.last = head.next - 1
        if self.spool is None:
            self.spool, self.chain = head.spool, frame.first_chain(head.spool)
            self.db.execute("UPDATE cursor SET spool = ?, chain = ?", (self.spool, self.chain))
        if head.spool != self.spool:
            raise Contradiction(f"the spool is another one: {head.spool.hex()}, not {self.spool.hex()}")
        self.db.execute("UPDATE cursor SET last = max(last, ?)", (self.last,))
        if self.last < self.floor:
            raise Contradiction(f"the log ends at record {self.last}, but record {self.floor} has been seen")
        if self.last <= self.number:
            self._check_chain(head)
        if self.number < head.stated:
            self._save()
            self.loading = Loading(self, head)

    def _check_chain(self, head: Head) -> None:
        """Stop when the log up to the end that a head names is not the one that has been applied."""
        if self.chain_of(self.last) not in (None, head.chain):
            raise Contradiction(f"the log up to record {self.last} is not the one that has been seen")

    def chain_of(self, number: int) -> bytes | None:
        """Return the chain behind a record that has been applied; None where it is not kept any more."""
        if number == self.number:
            return self.chain
        if number < self.number - CHAIN_KEPT and number % CHAIN_STEP:
            return None  # on all machines alike
        found = self.db.execute("SELECT chain FROM history WHERE number = ?", (number,)).fetchone()
        return found[0] if found else None

    def _check_end(self, head: Head) -> None:
        """Stop when the records behind a head were not those that it speaks of."""
        self._begin()
        self._load_checkpoint()
        if self.waiting and self.waiting.number == self.last and frame.chain_behind(self.waiting) != head.chain:
            raise Contradiction(f"the log up to record {self.last} is not the one that its head speaks of")
        self._use()
        if self.number < self.last:
            self._lose(self.last, head.chain, head)
        self._check_chain(head)
        self.floor = self.last
        if self.number == self.last:
            outbox.issue_lost(self.db)
            row = (self.last, head.segment, head.length, int(time.time()))
            self.db.execute("UPDATE cursor SET placed = ?, segment = ?, offset = ?, synced = ?", row)

    def _lose(self, last: int, chain: bytes, head: Head) -> None:
        """Go on behind records that are missing, if the head says that the spool has lost them; else stop."""
        if last >= head.first:
            raise Contradiction(f"{tool.records(self.number + 1, last)} missing")
        self.db.execute("INSERT INTO lost VALUES (?, ?, ?)", (self.number + 1, last, int(time.time())))
        # Some of them may have been changes: how each device goes on is not known.
        self.db.execute("UPDATE device SET hash = ?", (UNKNOWN,))
        self._advance(last, chain)

    def _advance(self, number: int, chain: bytes) -> None:
        self.number, self.chain = number, chain
        self.db.execute("INSERT INTO history VALUES (?, ?)", (number, chain))

    def _take(self, one: Frame, head: Head) -> None:
        """Keep a frame for use, after the check that it continues the log, and use the one before."""
        self._begin()
        if one.number > self.last:
            raise Contradiction(f"record {one.number} stands behind the end of the log, {self.last}")
        if self.loading and one.number <= self.loading.epoch:
            self.loading.take(one)
            if self.loading.complete:
                self._load_checkpoint()
            return
        self._load_checkpoint()
        if one == self.waiting:
            return  # came twice
        if self.waiting and one.number == self.waiting.number + 1 and one.chain != frame.chain_behind(self.waiting):
            raise Contradiction(f"record {one.number} does not follow the record before it")
        self._use()
        if one.number <= self.number:
            if self.chain_of(one.number - 1) not in (None, one.chain):
                raise Contradiction(f"the log before record {one.number} is not the one that has been seen")
            return  # applied before
        if one.number > self.number + 1:
            self._lose(one.number - 1, one.chain, head)
        if one.chain != self.chain:
            raise Contradiction(f"record {one.number} does not continue the log that has been seen")
        self.waiting = one

    def _load_checkpoint(self) -> None:
        """Go on behind the checkpoint that has been read, if there is one."""
        loading, self.loading = self.loading, None
        if loading:
            loading.finish()
            self._load()

    def lacks(self, numbers: list[int], checkpoint: str) -> None:
        """Stop where records are missing that a checkpoint keeps."""
        more = f" and {len(numbers) - 1:,} more" if numbers[1:] else ""
        raise Contradiction(f"record {numbers[0]}{more} missing, which {checkpoint} keeps")

    def _use(self) -> None:
        """Fold the record of the frame that waits."""
        one, self.waiting = self.waiting, None
        if not one or one.number <= self.number:
            return  # another cspool-apply was faster
        size = frame.HEADER_SIZE + len(one.record)
        self.octets += size
        try:
            holds = self._fold(one.number, self.open(one.record), size)
        except DataError as error:
            self._set_aside(one.number, str(error))
            holds = True
        if holds:
            self.db.execute("INSERT INTO record VALUES (?, ?, ?)", (one.number, frame.record_hash(one.record), size))
        self._advance(one.number, frame.chain_behind(one))

    # Commands

    def open(self, sealed: bytes) -> Opened:
        """Open a record with one of the user's keys. Raises DataError."""
        return record.open_with_any(self.own, sealed)

    def _fold(self, number: int, opened: Opened, size: int) -> bool:
        """Do what a record says; tell whether it holds a message, or is set aside.

        Raises DataError, before it has done anything, for what is to be set aside.
        """
        by_user = opened.sender == self.user
        try:
            fields, octets = command.decode(opened.body, self.spool)
        except TooOld as error:
            if by_user:
                raise TooOld(f"record {number}: {error}") from None
            raise DataError(str(error)) from None
        layer = Layer(self.db, "fold_", number)
        if fields["command"] == "deliver":
            trusted = "SELECT 1 FROM trust WHERE key = ?"
            if by_user or self.db.execute(trusted, (opened.sender,)).fetchone():
                layer.deliver(fields, octets, fields["flags"] if by_user else ())
            else:
                reason = f"delivered by a key that is not trusted ({keys.short(opened.sender)})"
                self._set_aside(number, reason, opened)
        elif not by_user:
            raise DataError(f"a {fields['command']} by a key that is not the user's ({keys.short(opened.sender)})")
        elif fields["command"] == "checkpoint-part":
            row = (number, command.body_hash(opened.body), size, None)
            self.db.execute("INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?)", row)
            return False
        elif fields["command"] == "checkpoint":
            self._check_checkpoint(number, fields)
            layer.checkpoint(fields["date"])
            checkpoint.forget_records(self.db)
            query = "SELECT (SELECT coalesce(sum(size), 0) FROM record) + (SELECT coalesce(sum(size), 0) FROM part)"
            self.octets = size
            self.db.execute(f"UPDATE cursor SET octets = ({query})")
            self.db.execute("DELETE FROM part")
            return False
        elif self._continues(number, fields):
            self._check_user_key(number, fields)
            layer.perform(fields["changes"], octets)
            body_hash = command.body_hash(opened.body)
            device = fields["device"]
            self.db.execute("INSERT OR REPLACE INTO device VALUES (?, ?, ?)", (device, fields["counter"], body_hash))
            outbox.took_effect(self.db, device, body_hash)
            self.user = seen.check_keys(self.db, self.own).public.sign
        self.folded.update(layer.touched)
        return bool(octets)

    def _check_checkpoint(self, number: int, fields: Fields) -> None:
        """Hold what a checkpoint states against our own: we have replayed the log that it stands for.

        Raises DataError where it stands for another place in the log.
        """
        stated, hashes = fields["number"], fields["parts"]
        parts = self.db.execute("SELECT number, hash FROM part WHERE number > ? ORDER BY number", (stated,)).fetchall()
        if parts != list(zip(range(stated + 1, number), hashes, strict=False)) or len(parts) != len(hashes):
            raise DataError("a checkpoint for another place in the log")
        if self.chain_of(stated) not in (None, fields["chain"]):
            raise Contradiction(f"the checkpoint in record {number} is of another log than has been seen")
        own = [
            command.body_hash(command.checkpoint_part(fields["spool"], one))
            for one in checkpoint.parts(self.db, stated)
        ]
        if own != fields["parts"]:
            raise Contradiction(
                f"the checkpoint in record {number} states other mailboxes than the log before it: a fork, or a fault"
            )

    def _continues(self, number: int, fields: Fields) -> bool:
        """Tell whether a change takes effect: only if it continues its device's line in this spool."""
        self._check_witness(number, fields)
        line = self.db.execute("SELECT counter, hash FROM device WHERE id = ?", (fields["device"],)).fetchone()
        counter, last = line or (0, UNKNOWN if self.db.execute("SELECT 1 FROM lost").fetchone() else FIRST)
        if fields["counter"] <= counter:
            return False  # pushed again
        if last == UNKNOWN or (fields["counter"] == counter + 1 and fields["previous"] == last):
            return True
        raise DataError("a change that does not continue the line of its device")

    def _check_witness(self, number: int, fields: Fields) -> None:
        """The author says how far it had read, and what: a second opinion on the log before this record."""
        seen, chain = fields["number"], fields["chain"]
        if seen >= number:
            raise Contradiction(f"record {number} was written by a device that has seen record {seen}")
        if self.chain_of(seen) not in (None, chain) or (seen == 0 and chain != frame.first_chain(fields["spool"])):
            raise Contradiction(f"the device that wrote record {number} has seen another log up to record {seen}")

    def _check_user_key(self, number: int, fields: Fields) -> None:
        """Stop before a change of the user key to one that we do not have: we could read nothing behind it."""
        signs = {key.public.sign for key in self.own}
        for change in fields["changes"]:
            if change["do"] == "user-key" and change["sign"] not in signs:
                raise BadConfig(f"record {number} makes {keys.short(change['sign'])} the key of the user: we need it")

    def _set_aside(self, number: int, reason: str, opened: Opened | None = None) -> None:
        row = (number, reason, opened and opened.sender, opened and opened.body)
        self.db.execute("INSERT INTO aside VALUES (?, ?, ?, ?)", row)


def agrees(db: sqlite3.Connection, head: Head) -> bool:
    """Tell whether a head, by itself, goes with what has been applied."""
    cursor = seen.cursor(db)
    if cursor.spool is None:
        return True
    last = head.next - 1
    same = head.spool == cursor.spool and last >= cursor.number
    return same and (last > cursor.number or head.chain == cursor.chain)

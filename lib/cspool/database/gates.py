"""The gates that a record goes through before it changes the fold.

It opens and is a command, its signer may do what it says, and a change
continues the changes of its device. A record that fails is set aside.
"""

import sqlite3
from typing import NamedTuple

from .. import command, frame, keys, record
from ..command import FIRST, Fields
from ..errors import BadConfig, Contradiction, DataError, TooOld
from ..frame import Frame
from ..keys import SecretKey
from ..record import Opened
from . import aside, checkpoint, outbox
from .checkpoint import StatePart
from .fold import Fold
from .outbox import LastChange
from .seen import Seen

UNKNOWN = b""  # the hash of a device's last change, when records are lost


class Judge:
    """What is done with a record that contradicts the log before it: here, the log is not applied any further."""

    def checkpoint(self, found: Contradiction) -> None:
        """A checkpoint states something else than the log before it."""
        raise found

    def change(self, found: Contradiction) -> None:
        """The author of a change has seen another log."""
        raise found

    def lacking(self, found: Contradiction) -> None:
        """Records are missing that a checkpoint keeps."""
        raise found


class Entry(NamedTuple):
    """A record of the log, open, and the command in it."""

    number: int
    size: int  # octets, as a frame
    opened: Opened
    fields: Fields
    octets: bytes


class Gates:
    """Lets records into the fold. `touched` has the ids of the messages that they changed, in order."""

    def __init__(self, db: sqlite3.Connection, own: list[SecretKey], seen: Seen, judge: Judge) -> None:
        self.db = db
        self.own = own  # the user's keys, newest first
        self.seen = seen
        self.judge = judge
        self.touched: dict[bytes, None] = {}

    def fold(self, one: Frame) -> None:
        """Do what the record of a frame says, or set it aside, and go on behind it."""
        size = frame.HEADER_SIZE + len(one.record)
        self.seen.size += size
        try:
            opened = record.open_with_any(self.own, one.record)
            is_needed = self._do(Entry(one.number, size, opened, *self._decode(one.number, opened)))
        except DataError as error:
            aside.add(self.db, one.number, str(error))
            is_needed = True
        if is_needed:
            checkpoint.note_record(self.db, one.number, one.record)
        self.seen.advance(one.number, frame.chain_behind(one))

    def lose(self) -> None:
        """Note that records are lost: some may have been changes, so how each device goes on is not known."""
        self.db.execute("UPDATE device SET hash = ?", (UNKNOWN,))

    def _decode(self, number: int, opened: Opened) -> tuple[Fields, bytes]:
        """Return the command in a record. Raises DataError, and TooOld if the user has sent it with a newer cspool."""
        try:
            return command.decode(opened.body, self.seen.spool)
        except TooOld as error:
            if opened.sender == self.seen.user:
                raise TooOld(f"record {number}: {error}") from None
            raise DataError(str(error)) from None

    def _do(self, entry: Entry) -> bool:
        """Do what a record says; return whether the fold may need it later: it holds a message, or is set aside.

        Raises DataError, before it has done anything, for a record that is to be set aside.
        """
        kind = entry.fields["command"]
        if kind == "deliver":
            self._deliver(entry)
        elif entry.opened.sender != self.seen.user:
            raise DataError(f"a {kind} by a key that is not the user's ({keys.short(entry.opened.sender)})")
        elif kind == "change":
            self._change(entry)
        elif kind == "checkpoint-part":
            body_hash = command.body_hash(entry.opened.body)
            checkpoint.add_part(self.db, StatePart(entry.number, body_hash, entry.size, None))
            return False
        elif kind == "checkpoint":
            self._checkpoint(entry)
        return bool(entry.octets)

    def _deliver(self, entry: Entry) -> None:
        number, _, opened, fields, octets = entry
        by_user = opened.sender == self.seen.user
        if by_user or self.db.execute("SELECT 1 FROM trust WHERE key = ?", (opened.sender,)).fetchone():
            layer = Fold(self.db, number)
            layer.deliver(fields, octets, fields["flags"] if by_user else ())
            self.touched.update(layer.touched)
        else:
            reason = f"delivered by a key that is not trusted ({keys.short(opened.sender)})"
            aside.add(self.db, number, reason, opened)

    # Changes

    def _change(self, entry: Entry) -> None:
        number, _, opened, fields, octets = entry
        if not self._continues(number, fields):
            return
        self._check_user_key(number, fields)
        layer = Fold(self.db, number)
        layer.perform(fields["changes"], octets)
        self.touched.update(layer.touched)
        body_hash = command.body_hash(opened.body)
        row = (fields["device"], fields["counter"], body_hash)
        self.db.execute("INSERT OR REPLACE INTO device VALUES (?, ?, ?)", row)
        outbox.confirm(self.db, fields["device"], body_hash)
        self.seen.read_user(self.own)

    def _continues(self, number: int, fields: Fields) -> bool:
        """Return whether a change takes effect: only if it continues the changes of its device in this spool."""
        self._check_author(number, fields)
        last = outbox.last_change(self.db, fields["device"])
        if not last:
            is_lost = self.db.execute("SELECT 1 FROM lost").fetchone()
            last = LastChange(0, UNKNOWN if is_lost else FIRST)
        if fields["counter"] <= last.counter:
            return False  # pushed again
        is_next = fields["counter"] == last.counter + 1 and fields["previous"] == last.hash
        if last.hash != UNKNOWN and not is_next:
            raise DataError("a change that does not continue the line of its device")
        return True

    def _check_author(self, number: int, fields: Fields) -> None:
        """Judge how far the author had read, and what: a second opinion on the log before this record."""
        read, chain = fields["number"], fields["chain"]
        if read >= number:
            self.judge.change(Contradiction(f"record {number} was written by a device that has seen record {read}"))
        is_first = read == 0 and chain == frame.first_chain(fields["spool"])
        if self.seen.chain_at(read) not in (None, chain) or (read == 0 and not is_first):
            text = f"the device that wrote record {number} has seen another log up to record {read}"
            self.judge.change(Contradiction(text))

    def _check_user_key(self, number: int, fields: Fields) -> None:
        """Stop before a change of the user key to one that we do not have: we could read nothing behind it."""
        signs = {key.public.sign for key in self.own}
        for change in fields["changes"]:
            if change["do"] == "user-key" and change["sign"] not in signs:
                raise BadConfig(f"record {number} makes {keys.short(change['sign'])} the key of the user: we need it")

    # Checkpoints

    def _checkpoint(self, entry: Entry) -> None:
        self._check_checkpoint(entry.number, entry.fields)
        Fold(self.db, entry.number).checkpoint(entry.fields["date"])
        checkpoint.forget_records(self.db)
        checkpoint.note_compacted(self.db)
        checkpoint.forget_parts(self.db)
        self.seen.size = entry.size  # what came before is counted

    def _check_checkpoint(self, number: int, fields: Fields) -> None:
        """Compare what a checkpoint states with our own fold: we have replayed the log that it stands for.

        Raises DataError where it stands for another place in the log.
        """
        stated = fields["number"]
        expected = list(zip(range(stated + 1, number), fields["parts"], strict=False))
        if checkpoint.parts(self.db, stated) != expected or len(expected) != len(fields["parts"]):
            raise DataError("a checkpoint for another place in the log")
        if self.seen.chain_at(stated) not in (None, fields["chain"]):
            text = f"the checkpoint in record {number} is of another log than has been seen"
            self.judge.checkpoint(Contradiction(text))
        elif checkpoint.hashes(self.db, fields["spool"], stated) != fields["parts"]:
            text = (
                f"the checkpoint in record {number} states other mailboxes than the log before it: a fork, or a fault"
            )
            self.judge.checkpoint(Contradiction(text))

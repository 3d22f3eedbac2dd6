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
from ..record import Box
from ..spool.files import CHECKPOINT_LATEST
from . import aside, checkpoint, digest, outbox, seen
from .fold import Fold
from .outbox import LastChange
from .seen import Seen

UNKNOWN = b""  # the hash of a device's last change, when records are lost


class Judge:
    """What is done with a record that contradicts the log before it: here, the log is not applied any further."""

    def state(self, found: Contradiction) -> None:
        """A checkpoint or the author of a change has come to another fold than the log before it gives."""
        raise found

    def change(self, found: Contradiction) -> None:
        """The author of a change has seen another log."""
        raise found

    def user_key(self, found: Contradiction) -> None:
        """The log ends before a newer key of ours has become the user's."""
        raise found

    def lacking(self, found: Contradiction) -> None:
        """Records are missing that a checkpoint keeps."""
        raise found


class Refused(DataError):
    """A record that is set aside: why, and the key that says it has signed it (None when the box does not open)."""

    def __init__(self, reason: str, sender: bytes | None) -> None:
        super().__init__(reason)
        self.sender = sender


class Entry(NamedTuple):
    """A record of the log, open, and the command in it."""

    number: int
    size: int  # octets, as a frame
    sender: bytes
    by_user: bool
    body_hash: bytes
    fields: Fields
    octets: bytes

    @property
    def flags(self) -> list[str]:
        """The flags of a delivery: those of a host do not count."""
        return self.fields["flags"] if self.by_user else []


def stranger(sender: bytes) -> str:
    """Return why a record of a key that is neither the user's nor trusted is set aside."""
    return f"signed by a key that is not trusted ({keys.short(sender)})"


class Gates:
    """Lets records into the fold. `touched` has the ids of the messages that they changed, in order."""

    def __init__(self, db: sqlite3.Connection, own: list[SecretKey], log: Seen, judge: Judge) -> None:
        self.db = db
        self.own = own  # the user's keys, newest first
        self.seen = log
        self.judge = judge
        self.touched: dict[bytes, None] = {}
        self._has_parts = True  # as far as we know

    def fold(self, one: Frame) -> None:
        """Do what the record of a frame says, or set it aside, and go on after it."""
        self.seen.size += frame.HEADER_SIZE + len(one.record)
        try:
            entry = self._enter(one.number, one.record)
            is_part = entry.fields["command"] == "checkpoint-part"
            is_needed = self._do(entry)
        except Refused as refused:
            is_part = False
            aside.add(self.db, one.number, str(refused), refused.sender, one.record)
            is_needed = True
        if self._has_parts and not is_part:
            checkpoint.forget_parts(self.db)  # a checkpoint stands right behind its parts
        self._has_parts = is_part
        if is_needed:
            checkpoint.note_record(self.db, one.number, one.record)
        self.seen.advance(one.number, frame.chain_behind(one))

    def lose(self) -> None:
        """Note that records are lost: some may have been changes, so how each device goes on is not known."""
        self.db.execute("UPDATE device SET hash = ?", (UNKNOWN,))
        checkpoint.forget_parts(self.db)

    def check_user_key(self) -> None:
        """Judge a log whose end does not know our newest key as the user's, unless we are about to say so.

        A thief of the old key and the operator could show a new machine a log
        that was cut before the change of the key.
        """
        newest = self.own[0].public.sign
        if newest != self.seen.user and newest != outbox.next_user_key(self.db):
            text = f"the log ends before {keys.short(newest)} became the key of the user, which `key` has as the newest"
            self.judge.user_key(Contradiction(text))

    # Who may say it

    def _enter(self, number: int, sealed: bytes) -> Entry:
        """Return the command in a record. Raises Refused.

        A record of a stranger ends here, sealed and deflated as it came. So it
        costs its own size.
        """
        try:
            box = record.open_box(keys.up_to(self.own, self.seen.user), sealed)
        except DataError as error:
            raise Refused(str(error), None) from None
        by_user = box.sender == self.seen.user
        if not by_user and not self.db.execute("SELECT 1 FROM trust WHERE key = ?", (box.sender,)).fetchone():
            raise Refused(stranger(box.sender), box.sender)
        return self._open(number, len(sealed), box, by_user)

    def _open(self, number: int, size: int, box: Box, by_user: bool) -> Entry:
        """Return the command in a box, within the limits of its sender. Raises Refused, and TooOld for the user's."""
        try:
            body = record.body_of(box, record.BODY_MAX if by_user else command.DELIVERY_MAX)
            # A host can only deliver.
            fields, octets = command.decode(body, self.seen.spool, None if by_user else command.DELIVERY_LINE_MAX)
        except TooOld as error:
            if by_user:
                raise TooOld(f"record {number}: {error}") from None
            raise Refused(str(error), box.sender) from None
        except DataError as error:
            raise Refused(str(error), box.sender) from None
        if not by_user and fields["command"] != "deliver":
            reason = f"a {fields['command']} by a key that is not the user's ({keys.short(box.sender)})"
            raise Refused(reason, box.sender)
        return Entry(number, frame.HEADER_SIZE + size, box.sender, by_user, command.body_hash(body), fields, octets)

    def _deliver_aside(self, sender: bytes | None) -> dict[bytes, None]:
        """Deliver what is set aside of a host that is trusted now; return the ids of the messages.

        None stands for the records that did not open before there was another
        user key. Each record is delivered whole, or stays set aside for another
        reason.
        """
        touched: dict[bytes, None] = {}
        for number in aside.numbers_of(self.db, sender):
            sealed = aside.sealed(self.db, number)
            fold, entry = Fold(self.db, number), None
            try:
                entry = self._enter(number, sealed)
                if entry.fields["command"] != "deliver":
                    raise Refused(f"a {entry.fields['command']} that came too early", entry.sender)
                fold.deliver(entry.fields, entry.octets, entry.flags, entry.by_user)
            except Refused as refused:
                aside.add(self.db, number, str(refused), refused.sender, sealed)
                continue
            except (DataError, TooOld) as error:
                aside.add(self.db, number, str(error), entry.sender if entry else sender, sealed)
                continue
            aside.remove(self.db, [number])
            self._note_sealed(entry.fields)
            touched.update(fold.touched)
        return touched

    def _do(self, entry: Entry) -> bool:
        """Do a command; return whether the fold may need its record later, which it does if it holds a message.

        Raises Refused before anything is done.
        """
        try:
            match entry.fields["command"]:
                case "deliver":
                    fold = Fold(self.db, entry.number)
                    fold.deliver(entry.fields, entry.octets, entry.flags, entry.by_user)
                    self._note_sealed(entry.fields)
                    self.touched.update(fold.touched)
                case "change":
                    self._change(entry)
                case "checkpoint-part":
                    checkpoint.add_part(
                        self.db, checkpoint.read_part(entry.number, entry.body_hash, entry.octets), entry.size
                    )
                    return False
                case "checkpoint":
                    self._checkpoint(entry)
        except DataError as error:
            raise Refused(str(error), entry.sender) from None
        return bool(entry.octets)

    def _note_sealed(self, fields: Fields) -> None:
        """Note the latest time that a delivery has, by which the date of a checkpoint is bounded."""
        if fields["sealed"] is not None:
            self.db.execute("UPDATE cursor SET sealed = max(coalesce(sealed, 0), ?)", (fields["sealed"],))

    # Changes

    def _change(self, entry: Entry) -> None:
        fields = entry.fields
        if not self._continues(entry.number, fields):
            return
        self._check_user_key(entry.number, fields)
        fold = Fold(self.db, entry.number, self._deliver_aside)
        fold.perform(fields["changes"], entry.octets)
        self.touched.update(fold.touched)
        row = (fields["device"], fields["counter"], entry.body_hash)
        self.db.execute("INSERT OR REPLACE INTO device VALUES (?, ?, ?)", row)
        outbox.confirm(self.db, fields["device"], entry.body_hash)
        before = self.seen.user
        self.seen.read_user(self.own)
        if self.seen.user != before:
            self.touched.update(self._deliver_aside(None))

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
        """Judge how far the author had read, and to what it had come: a second opinion on the log and on the fold."""
        read = fields["number"]
        if read >= number:
            self.judge.change(Contradiction(f"record {number} was written by a device that has seen record {read}"))
        if self.seen.contradicts(read, fields["chain"]):
            text = f"the device that wrote record {number} has seen another log up to record {read}"
            self.judge.change(Contradiction(text))
        point = self.seen.at(read)
        if point and fields["digest"] not in (None, point.digest) and not seen.is_lossy(self.db, read):
            text = f"the device that wrote record {number} has come to other mailboxes at record {read}"
            self.judge.state(Contradiction(f"{text}: a fork, or a fault"))

    def _check_user_key(self, number: int, fields: Fields) -> None:
        """Check that we have the key that a change makes the user's: without it we could read nothing after it.

        Raises BadConfig when we do not, and DataError when the halves are not those of one key.
        """
        boxes = {key.public.sign: key.public.box for key in self.own}
        for change in fields["changes"]:
            if change["do"] != "user-key":
                continue
            if change["sign"] not in boxes:
                raise BadConfig(f"record {number} makes {keys.short(change['sign'])} the key of the user: we need it")
            if change["box"] != boxes[change["sign"]]:
                raise DataError("change with a user-key whose halves are not of one key")

    # Checkpoints

    def _checkpoint(self, entry: Entry) -> None:
        self._check_checkpoint(entry.number, entry.fields)
        Fold(self.db, entry.number).checkpoint(entry.fields["number"], entry.fields["date"])
        checkpoint.forget_records(self.db)
        checkpoint.note_compacted(self.db)
        checkpoint.forget_parts(self.db)
        self.seen.size = entry.size  # what came before is counted

    def _check_checkpoint(self, number: int, fields: Fields) -> None:
        """Compare what a checkpoint states with what the log had come to there.

        Raises DataError if it does not stand where it may stand in the log.
        """
        stated, first = fields["number"], number - len(fields["parts"])
        parts = checkpoint.parts(self.db)[-len(fields["parts"]) :]
        is_whole = [(one.number, one.hash) for one in parts] == list(enumerate(fields["parts"], first))
        if not is_whole or not checkpoint.last_stated(self.db) < stated < first or number - stated > CHECKPOINT_LATEST:
            raise DataError("a checkpoint for another place in the log")
        name = f"the checkpoint in record {number}"
        if self.seen.contradicts(stated, fields["chain"]):
            self.judge.state(Contradiction(f"{name} is of another log than has been seen"))
            return
        point = self.seen.at(stated)
        found = {digest.total(one.digest for one in parts)} | ({point.digest} if point else set())
        # Who has loaded a later one does not know what the log had come to there, and compares nothing.
        if found != {fields["digest"]} or (not point and seen.is_lost(self.db, stated)):
            text = f"{name} states other mailboxes than the log before it: a fork, or a fault"
            self.judge.state(Contradiction(text))

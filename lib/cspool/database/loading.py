"""Load a checkpoint into a database that is behind it, when the log no longer holds all earlier records.

The stream brings the checkpoint first, then the log from the cursor on: the
records that it keeps, the hashes of those that were dropped, and all that came
after what it states, itself included. So the chain is computed from what has
been seen up to what the checkpoint states, and proves that it is of the same
log. Messages are stored as their records come. When none is missing, what the
checkpoint states replaces the fold, as a difference and in one transaction.
Until then the cursor stays. A load that was cut off goes on where it was.
"""

import os
import sqlite3
from collections.abc import Iterator

from .. import command, frame, keys, record
from ..command import FIRST, Fields
from ..errors import BadConfig, CheckpointDamaged, Contradiction, DataError, TryAgain
from ..frame import Frame
from ..keys import SecretKey
from ..mail.lines import canonical
from ..octets import with_crlf
from ..record import Opened
from ..spool.files import Head
from . import aside, checkpoint, content, digest, outbox, seen
from .checkpoint import StatePart, StateRow
from .gates import stranger
from .outbox import LastChange
from .replacement import ASIDE, Replacement
from .seen import Seen

MISSING = "SELECT 1 FROM kept WHERE number = ? AND content IS NULL"


class Loading:
    """The checkpoint that a head names, on its way into the database.

    `complete` says that it has come whole, with all records that it keeps;
    `reached` is the last of those that has come. If it `is_skipped`, only the
    frames that come first are taken from the stream: they come again in their
    place. Raises Contradiction for a frame that does not go with it, or with
    what has been seen.
    """

    def __init__(self, db: sqlite3.Connection, own: list[SecretKey], log: Seen, head: Head, is_skipped: bool) -> None:
        self.db = db
        self.own = own  # the user's keys, newest first
        self.log = log
        self.stated, self.parts = head.stated, range(head.checkpoint_first, head.checkpoint_end)
        self.name = f"the checkpoint in {frame.records(head.checkpoint_first, head.checkpoint_end)}"
        self.parts_to_come = range(head.checkpoint_first, head.checkpoint_end + 1)
        self.last_part: Frame | None = None  # the last of its records that has come
        self.is_skipped = is_skipped
        self.command: Fields = {}  # of its last record
        self.user = b""  # whose signature that has
        self.own_change = LastChange(0, FIRST)  # the last of our device that it knows of
        # How far the log before it has come, and the chain there.
        self.reached, self.chain = log.number, log.chain
        self.waiting: Frame | None = None  # the last frame of it that was read, until its chain is confirmed
        self.first = head.first  # no record from this number on is missing
        self.gaps: list[range] = []  # records that the spool has lost
        self.loader = os.urandom(8)  # names us among processes that load
        self.skipped: list[Frame] = []  # frames taken while it is skipped
        if not is_skipped:
            self.db.execute("DELETE FROM loading_part")

    @property
    def complete(self) -> bool:
        is_whole = bool(self.command) and self.reached == self.stated and not self.is_skipped and not self.gaps
        return is_whole and not self.db.execute("SELECT 1 FROM wanted").fetchone()

    def wants(self, one: Frame) -> bool:
        """Return whether a frame is of the checkpoint that comes first, or of the log up to what it states."""
        if self.is_skipped:
            return one.number in self.parts_to_come
        return not self.command or frame.covered(one.number, len(one.record)).start <= self.stated

    def take(self, one: Frame) -> None:
        """Take in a frame of the checkpoint, or of the log up to what it states."""
        numbers = frame.covered(one.number, len(one.record))
        if self.is_skipped:
            self.parts_to_come = range(one.number + 1, self.parts_to_come.stop)  # some may be lost
            self.skipped.append(one)
        elif not self.command:
            self._take_part(one)
        elif one != self.waiting and numbers.stop - 1 > self.reached:
            self._follow(one, numbers)

    # The checkpoint

    def _take_part(self, one: Frame) -> None:
        before = self.last_part
        if one == before:
            return  # came twice
        is_next = one.number in self.parts_to_come[:1]
        if not is_next or (before and one.chain != frame.chain_behind(before)):
            first = frame.covered(one.number, len(one.record)).start
            raise CheckpointDamaged(f"record {first} is not the next one of {self.name}")
        self.last_part = one
        self.parts_to_come = self.parts_to_come[1:]
        is_last = not self.parts_to_come
        opened, fields, octets = self._open_part(one, "checkpoint" if is_last else "checkpoint-part")
        body_hash = command.body_hash(opened.body)
        if is_last:
            self._check_last(opened.sender, fields)
            self._check_rows(opened.sender)
            self.command, self.user = fields, opened.sender
            self._prepare(body_hash)
        else:
            part = checkpoint.read_part(one.number, body_hash, octets)
            self.db.execute("INSERT OR REPLACE INTO loading_part VALUES (?, ?, ?, ?, ?)", (*part, octets, self.loader))

    def _open_part(self, one: Frame, kind: str) -> tuple[Opened, Fields, bytes]:
        try:
            box = record.open_box(self.own, one.record)
        except DataError as error:
            text = f"record {one.number}, of {self.name}: {error}: is a newer key missing? (cspool-rekey(1))"
            # What cannot be opened proves nothing against the spool.
            raise BadConfig(text) from None
        signs = [key.public.sign for key in self.own]  # newest first
        # Before it is inflated: a stranger's record costs its own size.
        if box.sender not in signs or signs.index(box.sender) > signs.index(self.log.user or b""):
            raise self._not_the_user(box.sender)
        try:
            opened = record.Opened(box.sender, record.body_of(box))
        except DataError as error:
            raise CheckpointDamaged(f"record {one.number}, of {self.name}: {error}") from None
        try:
            fields, octets = command.decode(opened.body, self.log.spool)
            if fields["command"] != kind:
                raise DataError(f"a {fields['command']}")
        except DataError as error:
            raise CheckpointDamaged(f"record {one.number} is no part of {self.name}: {error}") from None
        return opened, fields, octets

    def _check_last(self, sender: bytes, fields: Fields) -> None:
        """Check that the checkpoint is the user's, and states the log up to here."""
        parts = self._parts()
        if (fields["number"], fields["parts"]) != (self.stated, [one.hash for one in parts]):
            raise Contradiction(f"{self.name} is for another place in the log")
        if fields["digest"] != digest.total(one.digest for one in parts):
            raise CheckpointDamaged(f"{self.name} has not the digest of what it states")

    def _parts(self) -> list[StatePart]:
        """Return the parts that we have read. Raises TryAgain if another process has begun to load."""
        query = "SELECT number, hash, digest FROM loading_part WHERE loader = ? ORDER BY number"
        parts = [StatePart(*row) for row in self.db.execute(query, (self.loader,))]
        if [one.number for one in parts] != list(self.parts):
            raise TryAgain(f"another cspool-apply is at a checkpoint beside {self.name}")
        return parts

    def check_alone(self) -> None:
        """Raise TryAgain if another process has begun to load, when what we have read is no longer in the database."""
        if self.command and not self.is_skipped:
            self._parts()

    def _not_the_user(self, sender: bytes) -> Contradiction:
        return Contradiction(f"{self.name} is signed by a key that is not the user's ({keys.short(sender)})")

    def _check_rows(self, sender: bytes) -> None:
        """Check that what it states goes with all that has been seen."""
        known = {device: LastChange(*row) for device, *row in self.db.execute("SELECT * FROM device")}
        own = seen.cursor(self.db).device
        for kind, *columns in self._rows():
            if kind == "user" and columns != [sender]:
                raise self._not_the_user(sender)
            if kind == "device":
                device, stated = columns[0], LastChange(*columns[1:])
                before = known.pop(device, LastChange(0, FIRST))
                # A hash is empty where records have been lost since.
                known_hashes = {before.hash, stated.hash} - {b""}
                other = stated.counter == before.counter and len(known_hashes) > 1
                if stated.counter < before.counter or other:
                    raise Contradiction(f"{self.name} does not know of changes that have been seen")
                if device == own:
                    self.own_change = stated
        if known:
            raise Contradiction(f"{self.name} does not know of devices that have been seen")

    def _rows(self) -> Iterator[StateRow]:
        for (octets,) in self.db.execute("SELECT body FROM loading_part ORDER BY number"):
            try:
                yield from checkpoint.read_rows(octets)
            except DataError as error:
                raise Contradiction(f"{self.name}: {error}") from None

    # The records that it keeps

    def _prepare(self, body_hash: bytes) -> None:
        """Find out what we lack, unless a load of this checkpoint has got that far before."""
        loading, loaded, chain = self.db.execute("SELECT loading, loaded, loaded_chain FROM cursor").fetchone()
        # What we lack depends on the cursor, too: an older head may have moved it meanwhile.
        name = body_hash + self.log.number.to_bytes(8, "big")
        if loading != name:
            self._want(name)
            if loaded > self.log.number:
                # The stream begins there, and more of the records before it may be wanted now.
                raise TryAgain(f"{self.name} has come while an older one was loaded: it begins anew")
        elif loaded > self.reached:
            self.reached, self.chain = loaded, chain

    def _want(self, name: bytes) -> None:
        """Fill the tables wanted and kept, and take what is here already."""
        for table in ("wanted", "kept"):
            self.db.execute(f"DELETE FROM {table}")
        content.forget_all_unused(self.db)
        self.db.execute("UPDATE cursor SET loading = ?, loaded = 0, loaded_chain = NULL", (name,))
        for kind, *columns in self._rows():
            if kind == "aside":
                self.db.execute("INSERT INTO wanted VALUES (?)", columns[:1])
                here = "SELECT 0 FROM aside WHERE number = :number"
                row = {"number": columns[0], "offset": ASIDE}
                self.db.execute(f"INSERT INTO kept VALUES (:number, :offset, ({here}), NULL)", row)
            elif kind == "message":
                self.db.execute("INSERT OR IGNORE INTO wanted VALUES (?)", columns[4:5])
                # It may belong to another message here, of which this is a copy.
                here = "SELECT key FROM content WHERE number = :number AND offset = :offset"
                row = dict(zip(("number", "offset"), columns[4:], strict=True))
                self.db.execute(f"INSERT OR IGNORE INTO kept VALUES (:number, :offset, ({here}), NULL)", row)
        # What a trust has delivered meanwhile may be here, set aside.
        lacking = "SELECT number FROM kept WHERE content IS NULL"
        for (number,) in self.db.execute(f"SELECT number FROM aside WHERE number IN ({lacking})").fetchall():
            sealed = aside.sealed(self.db, number)
            self._open_kept(number, sealed)
        known = f"number IN (SELECT number FROM record) AND number NOT IN ({lacking})"
        self.db.execute(f"DELETE FROM wanted WHERE {known}")

    def _follow(self, one: Frame, numbers: range) -> None:
        """Check that a frame continues the log that has been seen, and use the one before, whose chain it confirms."""
        other = Contradiction(f"record {numbers.start} does not continue the log that has been seen")
        if numbers.stop - 1 > self.stated:
            raise other  # hashes that reach over what it states would never be compared with its chain
        if self.waiting:
            follows = frame.covered(*_size(self.waiting)).stop
            if numbers.start == follows and one.chain != self._chain_after(self.waiting):
                raise other
            if numbers.start > max(follows, self.first):
                raise Contradiction(f"{frame.records(follows, numbers.start - 1)} missing")
            if numbers.start > follows:
                self.waiting = None  # it is unproven, as if it were lost, too
            else:
                self._use_waiting()
            if numbers.stop - 1 <= self.reached:
                return  # the frame that waited stands for these records, too, and its chain has been checked
        if numbers.start > self.reached + 1:
            gap = range(self.reached + 1, numbers.start)
            if gap.stop > self.first:
                raise Contradiction(f"{frame.records(gap.start, gap.stop - 1)} missing")
            self.gaps.append(gap)  # the head says that the spool has lost them
            self.reached, self.chain = numbers.start - 1, one.chain
        elif numbers.start == self.reached + 1 and one.chain != self.chain:
            raise other
        self.waiting = one
        if numbers.stop - 1 == self.stated:
            if self._chain_after(one) != self.command["chain"]:
                raise Contradiction(f"{self.name} is of another log than has been seen")
            self._use_waiting()

    def _chain_after(self, one: Frame) -> bytes:
        """Return the chain after a frame, as what has been seen makes it: its own chain may stand before our cursor."""
        start = frame.covered(*_size(one)).start
        known = max(0, self.reached + 1 - start)
        hashes = frame.hashes(one)[known * frame.HASH_SIZE :]
        return frame.chain_after(self.chain, start + known, hashes)

    def _use_waiting(self) -> None:
        """Store what the state needs of the frame that waits, and go on after it."""
        one, self.waiting = self.waiting, None
        assert one
        if one.number < frame.DROPPED:
            self._take_kept(one)
        self.chain, self.reached = self._chain_after(one), frame.covered(*_size(one)).stop - 1
        if not self.gaps:  # else a load that goes on here would not know of the gap, and not say it
            self.db.execute("UPDATE cursor SET loaded = ?, loaded_chain = ?", (self.reached, self.chain))

    def _take_kept(self, one: Frame) -> None:
        if not self.db.execute("SELECT 1 FROM wanted WHERE number = ?", (one.number,)).fetchone():
            return  # it is here, or not needed
        if self.db.execute("SELECT 1 FROM kept WHERE number = ? AND offset = ?", (one.number, ASIDE)).fetchone():
            row = (one.record, one.number, ASIDE)
            self.db.execute("UPDATE kept SET content = 0, sealed = ? WHERE number = ? AND offset = ?", row)
        if self.db.execute(MISSING, (one.number,)).fetchone():
            reason = self._open_kept(one.number, one.record) or "it does not hold the message"
            if self.db.execute(MISSING, (one.number,)).fetchone():
                # The user's key has signed for this record, so a machine with the user's keys could read it.
                raise BadConfig(f"record {one.number}, which {self.name} keeps: {reason}: is an old key missing?")
        checkpoint.note_record(self.db, one.number, one.record)
        self.db.execute("DELETE FROM wanted WHERE number = ?", (one.number,))

    def _set_aside(self, number: int, sealed: bytes) -> None:
        """Set a record aside that the state has set aside, without doing what it says."""
        try:
            sender = record.open_box(keys.up_to(self.own, self.user), sealed).sender
        except DataError as error:
            aside.add(self.db, number, str(error), None, sealed)
            return
        own = any(sender == key.public.sign for key in self.own)
        aside.add(self.db, number, "a change that had no effect" if own else stranger(sender), sender, sealed)

    def _open_kept(self, number: int, sealed: bytes) -> str | None:
        """Store the messages of a record that the state needs; return why that is not possible."""
        try:
            opened = record.open_with(self.own, sealed)
            self._store(number, *command.decode(opened.body, self.log.spool))
        except DataError as error:
            return str(error)
        return None

    def _store(self, number: int, fields: Fields, octets: bytes) -> None:
        """Store the messages of a record that are lacking."""
        query = "SELECT offset FROM kept WHERE number = ? AND content IS NULL"
        offsets = {offset for (offset,) in self.db.execute(query, (number,))}
        start = 0
        appends = [one for one in fields.get("changes", ()) if one["do"] == "append"]
        for change in [fields] if fields["command"] == "deliver" else appends:
            end = start + change.get("size", len(octets))
            if start in offsets:
                whole = with_crlf(octets[start:end])
                if change is fields:
                    message_id = command.delivery_id(fields["mailbox"], whole)
                else:
                    message_id = command.append_id(change["nonce"], whole)
                self._found(
                    number, start, content.add(self.db, message_id, canonical(octets[start:end]), number, start)
                )
            start = end

    def _found(self, number: int, offset: int, key: int) -> None:
        self.db.execute("UPDATE kept SET content = ? WHERE number = ? AND offset = ?", (key, number, offset))

    def lacking(self) -> Contradiction | None:
        """Return the error for the records that it keeps and that have not come; None when all have.

        Raises Contradiction when the checkpoint itself has not come.
        """
        if not self.command:
            raise CheckpointDamaged(f"{self.name} is missing")
        follows = frame.covered(*_size(self.waiting)).stop if self.waiting else self.reached + 1
        self.waiting = None  # what no chain has confirmed counts as lost, too
        if self.reached < self.stated:
            if self.stated >= self.first:
                return Contradiction(f"{frame.records(follows, self.stated)} missing, before {self.name}")
            self.gaps.append(range(self.reached + 1, self.stated + 1))
        self._distrust_unproven()
        if not self.db.execute("SELECT 1 FROM wanted").fetchone():
            return None
        (first,) = self.db.execute("SELECT min(number) FROM wanted").fetchone()
        (count,) = self.db.execute("SELECT count(*) FROM wanted").fetchone()
        more = f" and {count - 1:,} more" if count > 1 else ""
        return Contradiction(f"record {first}{more} missing, which {self.name} keeps")

    def _distrust_unproven(self) -> None:
        """Take back what records before a gap have supplied, unless the ids of the messages prove their octets.

        The chain of the checkpoint confirms only what comes after the last gap.
        """
        if not self.gaps:
            return
        unproven = {
            (number, offset): key
            for number, offset, key in self.db.execute(
                "SELECT kept.number, kept.offset, content FROM kept JOIN content ON content.key = content"
                " WHERE kept.offset != ? AND kept.number BETWEEN ? AND ?",
                (ASIDE, self.log.number + 1, self.gaps[-1].start),
            )
        }
        for kind, *columns in self._rows() if unproven else ():
            if kind == "message" and tuple(columns[4:]) in unproven:
                query = "SELECT id FROM content WHERE key = ?"
                if self.db.execute(query, (unproven[tuple(columns[4:])],)).fetchone() == (columns[0],):
                    del unproven[tuple(columns[4:])]
        for number, offset in unproven:
            self.db.execute("UPDATE kept SET content = NULL WHERE number = ? AND offset = ?", (number, offset))
            self.db.execute("INSERT OR IGNORE INTO wanted VALUES (?)", (number,))

    # What it states

    def replace(self) -> Iterator[list[bytes]]:
        """Replace the fold by what the checkpoint states, and put the cursor there.

        Yields the ids of the messages whose fold has changed, a batch of
        them at a time: their view is to be made before the next are asked for.
        """
        self._parts()
        outbox.confirm_up_to(self.db, self.own_change)
        for (number,) in self.db.execute("SELECT number FROM kept WHERE sealed NOTNULL").fetchall():
            query = "SELECT sealed FROM kept WHERE number = ? AND offset = ?"
            self._set_aside(number, *self.db.execute(query, (number, ASIDE)).fetchone())
        for number in aside.numbers_of(self.db, None):  # a newer key may open it
            self._set_aside(number, aside.sealed(self.db, number))
        yield from Replacement(self.db, self.name, self.log.number).run(self._rows())
        content.forget_all_unused(self.db)
        row = (self.stated, self.command["chain"], self.user)
        self.db.execute("UPDATE cursor SET number = ?, chain = ?, user = ?", row)
        self.db.execute("UPDATE cursor SET loading = NULL, loaded = 0, loaded_chain = NULL")
        self.log.advance(self.stated, self.command["chain"])
        checkpoint.forget_parts(self.db)  # they come again in their place
        checkpoint.note_compacted(self.db)
        for table in ("wanted", "kept", "loading_part"):
            self.db.execute(f"DELETE FROM {table}")


def _size(one: Frame) -> tuple[int, int]:
    return one.number, len(one.record)

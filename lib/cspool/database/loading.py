"""Loading a checkpoint: how a client goes on whose cursor is before its end, where records may be gone.

The stream brings the checkpoint, then the records that it keeps, from the
cursor on, then what follows it. The messages are taken from the records as
they come; when none is missing, what the checkpoint states replaces the fold,
as a difference and in one transaction. Until then the cursor stays. A load
that was cut off goes on where it was.
"""

import time
from typing import TYPE_CHECKING, Any

from .. import command, frame, keys, tool
from ..command import FIRST, Fields
from ..errors import BadConfig, Contradiction, DataError, TryAgain
from ..frame import Frame
from ..octets import with_crlf
from ..spool.files import Head
from . import checkpoint, content, outbox, schema, seen
from .fold import Layer

if TYPE_CHECKING:
    from .replay import Replay

ASIDE = -1  # the place of a record that is set aside
BATCH = 10_000  # messages of which the view is made at a time


class Loading:
    """A checkpoint that a head speaks of, on its way into the database of a replay.

    `complete` tells that nothing is to come before `finish`, `reached` how
    far its records have come. Raises Contradiction for whatever it does not
    speak for.
    """

    def __init__(self, replay: "Replay", head: Head) -> None:
        self.replay = replay
        self.db = replay.db
        self.stated, self.epoch = head.stated, head.epoch
        self.name = f"the checkpoint in {tool.records(head.stated + 1, head.epoch)}"
        self.next = head.stated + 1
        self.chains: list[bytes] = []  # h(stated) and on
        self.last: Fields = {}  # the command that ends it
        self.user = b""  # who has signed it
        self.line = (0, FIRST)  # where it says that the line of our device is
        self.reached = replay.number
        self.db.execute("DELETE FROM part WHERE number NOT BETWEEN ? AND ?", (self.next, self.epoch))

    @property
    def complete(self) -> bool:
        return bool(self.last) and not self.db.execute("SELECT 1 FROM wanted").fetchone()

    def take(self, one: Frame) -> None:
        """Take in a frame of the checkpoint, or of the log before it."""
        if one.number > self.stated:
            self._take_part(one)
        elif not self.last:
            raise Contradiction(f"record {one.number} comes before {self.name}")
        else:
            self._take_kept(one)

    def _take_part(self, one: Frame) -> None:
        if one.number == self.next - 1 and frame.chain_behind(one) == self.chains[-1]:
            return  # came twice
        if one.number != self.next or (self.chains and one.chain != self.chains[-1]):
            raise Contradiction(f"record {one.number} is not the next one of {self.name}")
        if not self.chains:
            self.chains.append(one.chain)
        self.chains.append(frame.chain_behind(one))
        self.next += 1
        try:
            opened = self.replay.open(one.record)
            fields, octets = command.decode(opened.body, self.replay.spool)
            if fields["command"] != ("checkpoint" if one.number == self.epoch else "checkpoint-part"):
                raise DataError(f"a {fields['command']}")
        except DataError as error:
            # Or it is sealed to a user key that we have not.
            raise Contradiction(f"record {one.number} is no part of {self.name}: {error}") from None
        body_hash = command.body_hash(opened.body)
        row = (one.number, body_hash, frame.HEADER_SIZE + len(one.record), octets)
        self.db.execute("INSERT OR REPLACE INTO part VALUES (?, ?, ?, ?)", row)
        if one.number == self.epoch:
            self._check(opened.sender, fields)
            self.last, self.user = fields, opened.sender
            self._begin(body_hash)

    # What it may say

    def _check(self, sender: bytes, fields: Fields) -> None:
        """Stop unless it is the user's, for this place in the log, and goes with what we have seen."""
        signs = [key.public.sign for key in self.replay.own]  # the newest first
        if sender not in signs or signs.index(sender) > signs.index(self.replay.user):
            raise Contradiction(f"{self.name} is signed by a key that is not the user's ({keys.short(sender)})")
        query = "SELECT hash FROM part WHERE number < ? ORDER BY number"
        hashes = [one for (one,) in self.db.execute(query, (self.epoch,))]
        if (fields["number"], fields["chain"], fields["parts"]) != (self.stated, self.chains[0], hashes):
            raise Contradiction(f"{self.name} is for another place in the log")
        lines = {one: (counter, last) for one, counter, last in self.db.execute("SELECT * FROM device")}
        device = seen.cursor(self.db).device
        for kind, *columns in self._rows():
            if kind == "user" and columns != [sender]:
                raise Contradiction(f"{self.name} is signed by a key that is not the user's ({keys.short(sender)})")
            if kind == "chain" and self.replay.chain_of(columns[0]) not in (None, columns[1]):
                raise Contradiction(f"{self.name} is of another log than has been seen, up to record {columns[0]}")
            if kind == "record" and self._known_record(columns[0]) not in (None, columns[1]):
                raise Contradiction(f"{self.name} keeps another record {columns[0]} than has been seen")
            if kind == "device":
                counter, last = lines.pop(columns[0], (0, FIRST))
                if columns[1] < counter or (columns[1] == counter and last not in (b"", columns[2])):
                    raise Contradiction(f"{self.name} does not know of changes that have been seen")
                if columns[0] == device:
                    self.line = (columns[1], columns[2])
        if lines:
            raise Contradiction(f"{self.name} does not know of devices that have been seen")

    def _known_record(self, number: int) -> bytes | None:
        found = self.db.execute("SELECT hash FROM record WHERE number = ?", (number,)).fetchone()
        return found[0] if found else None

    def _rows(self) -> Any:
        query = "SELECT body FROM part WHERE number < ? ORDER BY number"
        for (octets,) in self.db.execute(query, (self.epoch,)):
            try:
                yield from checkpoint.rows(octets)
            except DataError as error:
                raise Contradiction(f"{self.name}: {error}") from None

    # What it keeps

    def _begin(self, body_hash: bytes) -> None:
        """Find out what we lack, unless we are at it already."""
        loading, loaded = self.db.execute("SELECT loading, loaded FROM cursor").fetchone()
        # What we lack depends on how far we have come, too: an older head may have taken us further meanwhile.
        name = body_hash + self.replay.number.to_bytes(8, "big")
        if loading != name:
            self._want(name)
            if loaded > self.replay.number:
                # The records were asked for from there on, and more of them may be wanted now.
                raise TryAgain(f"{self.name} has come while an older one was loaded: it begins anew")

    def _want(self, name: bytes) -> None:
        for table in ("wanted", "kept"):
            self.db.execute(f"DELETE FROM {table}")
        self._forget_contents()
        self.db.execute("UPDATE cursor SET loading = ?, loaded = 0", (name,))
        for kind, *columns in self._rows():
            if kind == "record":
                self.db.execute("INSERT INTO wanted VALUES (?, ?)", columns)
            elif kind == "aside":
                here = "SELECT 0 FROM aside WHERE number = :number"
                row = {"number": columns[0], "place": ASIDE}
                self.db.execute(f"INSERT INTO kept VALUES (:number, :place, ({here}))", row)
            elif kind == "message":
                # It may belong to another message here, of which this is a copy.
                here = "SELECT key FROM content WHERE number = :number AND place = :place"
                row = dict(zip(("number", "place"), columns[4:], strict=True))
                self.db.execute(f"INSERT OR IGNORE INTO kept VALUES (:number, :place, ({here}))", row)
        # What a trust has delivered meanwhile may be here, set aside.
        lacking = "SELECT number FROM kept WHERE content IS NULL"
        query = f"SELECT number, body FROM aside WHERE body NOTNULL AND number IN ({lacking})"
        for number, body in self.db.execute(query).fetchall():
            self._put(number, *command.decode(body))
        known = f"number IN (SELECT number FROM record) AND number NOT IN ({lacking})"
        self.db.execute(f"DELETE FROM wanted WHERE {known}")

    def _take_kept(self, one: Frame) -> None:
        wanted = self.db.execute("SELECT hash FROM wanted WHERE number = ?", (one.number,)).fetchone()
        if not wanted:
            return  # it is here, or nobody needs it
        record_hash = frame.record_hash(one.record)
        if record_hash != wanted[0]:
            raise Contradiction(f"record {one.number} is not the one that {self.name} keeps")
        reason, sender, body = "a change that had no effect", None, None
        try:
            opened = self.replay.open(one.record)
            fields, octets = command.decode(opened.body, self.replay.spool)
            if fields["command"] == "deliver":
                reason = f"delivered by a key that is not trusted ({keys.short(opened.sender)})"
                sender, body = opened.sender, opened.body
            self._put(one.number, fields, octets)
        except DataError as error:
            reason = str(error)
        if self.db.execute("SELECT 1 FROM kept WHERE number = ? AND place = ?", (one.number, ASIDE)).fetchone():
            aside = "INSERT OR REPLACE INTO aside VALUES (?, ?, ?, ?)"
            self.db.execute(aside, (one.number, reason, sender, body))
            self._found(one.number, ASIDE, 0)
        if self.db.execute("SELECT 1 FROM kept WHERE number = ? AND content IS NULL", (one.number,)).fetchone():
            # What the user's key has signed has been read by somebody with the user's keys.
            raise BadConfig(f"record {one.number}, which {self.name} keeps: {reason}: is an old key missing?")
        row = (one.number, record_hash, frame.HEADER_SIZE + len(one.record))
        self.db.execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", row)
        self.db.execute("DELETE FROM wanted WHERE number = ?", (one.number,))
        self.db.execute("UPDATE cursor SET loaded = ?", (one.number,))
        self.reached = one.number

    def _put(self, number: int, fields: Fields, octets: bytes) -> None:
        """Store the messages of a record that are lacking."""
        query = "SELECT place FROM kept WHERE number = ? AND content IS NULL"
        places = {place for (place,) in self.db.execute(query, (number,))}
        position = 0
        appends = [one for one in fields.get("changes", ()) if one["do"] == "append"]
        for change in [fields] if fields["command"] == "deliver" else appends:
            end = position + change.get("size", len(octets))
            if position in places:
                whole = with_crlf(octets[position:end])
                if change is fields:
                    message_id = command.delivery_id(fields["mailbox"], whole)
                else:
                    message_id = command.append_id(change["nonce"], whole)
                self._found(number, position, content.add(self.db, message_id, whole, number, position))
            position = end

    def _found(self, number: int, place: int, content: int) -> None:
        self.db.execute("UPDATE kept SET content = ? WHERE number = ? AND place = ?", (content, number, place))

    def _forget_contents(self) -> None:
        """Forget what belongs to no message: a load that came to no end has left it."""
        query = "SELECT key FROM content WHERE key NOT IN (SELECT content FROM message)"
        for (key,) in self.db.execute(query).fetchall():
            content.forget(self.db, key)

    # What it states

    def finish(self) -> None:
        """Put the fold that it states in the place of ours, and the cursor behind it."""
        if not self.last:
            raise Contradiction(f"{self.name} is missing")
        if not self.complete:
            numbers = self.db.execute("SELECT number FROM wanted ORDER BY number").fetchall()
            self.replay.lacks([number for (number,) in numbers], self.name)
        (parts,) = self.db.execute("SELECT count(*) FROM part").fetchone()
        if parts != self.epoch - self.stated:
            raise TryAgain(f"another cspool-apply is at a checkpoint beside {self.name}")
        outbox.covered(self.db, self.line)
        self._replace()
        self._forget_contents()
        Layer(self.db, "fold_", self.epoch).checkpoint(self.last["date"])
        numbered = enumerate(self.chains[1:], self.stated + 1)
        self.db.executemany("INSERT OR REPLACE INTO history VALUES (?, ?)", numbered)
        self.db.execute(
            "UPDATE cursor SET number = ?, chain = ?, user = ?, loading = NULL, loaded = 0,"
            " octets = (SELECT coalesce(sum(size), 0) FROM record) + (SELECT sum(size) FROM part)",
            (self.epoch, self.chains[-1], self.user),
        )
        for table in ("part", "wanted", "kept"):
            self.db.execute(f"DELETE FROM {table}")

    def _replace(self) -> None:
        """Make our fold what is stated, and the view after it."""
        db, now = self.db, int(time.time())
        db.execute("CREATE TEMP TABLE IF NOT EXISTS stated (id BLOB PRIMARY KEY) WITHOUT ROWID")
        lost: list[int] = []
        db.execute("UPDATE mailbox SET fold_name = NULL, fold_same_as = NULL, fold_use = '', made = 0")
        db.execute("UPDATE subscription SET fold = 0")
        for table in ("trust", "device", "gone", "checkpoint"):
            db.execute(f"DELETE FROM {table}")
        db.execute("DELETE FROM aside WHERE number NOT IN (SELECT number FROM kept WHERE place = ?)", (ASIDE,))
        touched: list[bytes] = []
        for kind, *columns in self._rows():
            match kind:
                case "chain":
                    db.execute("INSERT OR REPLACE INTO history VALUES (?, ?)", columns)
                case "lost":
                    lost.append(columns[0])
                    db.execute("INSERT OR IGNORE INTO lost VALUES (?, ?, ?)", (*columns, now))
                case "checkpoint" | "gone":
                    db.execute(f"INSERT INTO {kind} VALUES (?, ?)", columns)
                case "trust" | "device":
                    db.execute(f"INSERT INTO {kind} VALUES (?, ?, ?)", columns)
                case "mailbox":
                    mailbox_id, name, use, other = columns
                    row = (name, use, other and schema.mailbox(db, other), schema.mailbox(db, mailbox_id))
                    update = "UPDATE mailbox SET fold_name = ?, fold_use = ?, fold_same_as = ?, made = 1 WHERE key = ?"
                    db.execute(update, row)
                case "subscribed":
                    upsert = "INSERT INTO subscription VALUES (?, 1, 0) ON CONFLICT DO UPDATE SET fold = 1"
                    db.execute(upsert, columns)
                case "message":
                    touched += self._state_message(*columns)
                    if len(touched) >= BATCH:
                        self.replay.refresh(touched)
                        touched = []
        gone = [one for (one,) in db.execute(
            "SELECT id FROM message WHERE fold_mailbox NOTNULL AND id NOT IN (SELECT id FROM stated)")]  # fmt: skip
        clear = "UPDATE message SET fold_mailbox = NULL, fold_flags = NULL WHERE id = ?"
        db.executemany(clear, [(one,) for one in gone])
        for (number,) in db.execute("SELECT number FROM lost").fetchall():
            if number not in lost:
                db.execute("DELETE FROM lost WHERE number = ?", (number,))
        db.execute("DELETE FROM stated")
        checkpoint.forget_records(db)
        self.replay.refresh(touched + gone)

    def _state_message(
        self, message_id: bytes, mailbox_id: bytes, flags: str, date: int, number: int, place: int
    ) -> list[bytes]:
        """Put a message where it is stated to be; return its id, if it was elsewhere or otherwise."""
        db = self.db
        (content,) = db.execute("SELECT content FROM kept WHERE number = ? AND place = ?", (number, place)).fetchone()
        if content is None:
            return []  # lost
        db.execute("INSERT INTO stated VALUES (?)", (message_id,))
        mailbox = schema.mailbox(db, mailbox_id)
        fold_row = "SELECT content, date, fold_mailbox, fold_flags FROM message WHERE id = ?"
        found = db.execute(fold_row, (message_id,)).fetchone()
        stated = (content, date, mailbox, flags)
        if found == stated:
            return []
        if found:
            update = "UPDATE message SET content = ?, date = ?, fold_mailbox = ?, fold_flags = ? WHERE id = ?"
            db.execute(update, (*stated, message_id))
        else:
            db.execute(
                "INSERT INTO message (id, content, date, fold_mailbox, fold_flags) VALUES (?, ?, ?, ?, ?)",
                (message_id, content, date, mailbox, flags),
            )
        return [message_id]

"""Accepting a log that contradicts what has been seen: what cspool-apply --accept does.

The fold is made again from the new log alone. What the user had before and it
lacks goes into the outbox: messages as appends, flags, mailboxes and trust as
changes. So the user sees what was there before, plus what the new log has,
and restoring an old copy of a spool deletes no mail. It is one transaction:
all of it is done, or nothing.
"""

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

from .. import command, frame, keys, record
from ..command import INBOX, Fields
from ..errors import BadConfig, CheckpointDamaged, Contradiction, DataError, TooOld
from ..frame import Frame
from ..keys import SecretKey
from ..octets import with_crlf
from ..spool.files import Head
from . import aside, outbox, schema, seen, view
from .content import octets_of
from .gates import Judge
from .replay import Replay, Transactions
from .seen import Seen

ENTRY_MESSAGES = 1000  # messages and octets that go into one entry of the outbox, which must fit into a record
ENTRY_OCTETS = 8 << 20
MESSAGE_MAX = frame.LIMIT - (3 << 20)  # octets of a message: padding and the line of its append need room too

CLEAR = f"""
CREATE TEMP TABLE was_message AS
    SELECT message.id, message.date, mailbox.name, message.flags FROM message
    JOIN mailbox ON mailbox.key = message.mailbox WHERE fold_mailbox NOTNULL;
CREATE TEMP TABLE was_mailbox AS SELECT name, use FROM mailbox WHERE name NOTNULL;
CREATE TEMP TABLE was_subscription AS SELECT name, view FROM subscription;
CREATE TEMP TABLE was_metadata AS SELECT mailbox.name, entry, view FROM metadata
    LEFT JOIN mailbox ON mailbox.key = mailbox WHERE view NOTNULL;
CREATE TEMP TABLE was_trust AS SELECT key, comment FROM trust;
CREATE TEMP TABLE was_known AS SELECT id FROM message WHERE fold_mailbox NOTNULL UNION SELECT id FROM tombstone;
CREATE TEMP TABLE was_history AS SELECT number, chain FROM history;
DELETE FROM history; DELETE FROM trust; DELETE FROM distrust; DELETE FROM device; DELETE FROM aside;
DELETE FROM tombstone; DELETE FROM lost;
DELETE FROM contradiction; DELETE FROM checkpoint; DELETE FROM record; DELETE FROM part; DELETE FROM loading_part;
DELETE FROM wanted;
DELETE FROM kept;
UPDATE message SET fold_mailbox = NULL, fold_flags = NULL;
UPDATE content SET number = NULL;
UPDATE metadata SET fold = NULL;
UPDATE subscription SET fold = name = 'INBOX';
UPDATE mailbox SET fold_name = NULL, fold_same_as = NULL, fold_use = '', created = 0 WHERE id != x'{INBOX.hex()}';
UPDATE cursor SET spool = NULL, chain = NULL, number = 0, log_end = 0, located = NULL, segment = NULL, offset = NULL,
    user = NULL, log_size = 0, loading = NULL, loaded = 0, loaded_chain = NULL;
UPDATE outbox SET frozen = NULL, counter = NULL, hash = NULL;
"""
FOLDED = (
    " FROM was_message JOIN message ON message.id = was_message.id"
    " LEFT JOIN mailbox ON mailbox.key = message.fold_mailbox WHERE fold_mailbox IS {} NULL ORDER BY message.key"
)


class Without(NamedTuple):
    """A log that was applied without its checkpoint: up to where that states it, and why it could not be used."""

    stated: int
    reason: str


class Accepted(NamedTuple):
    """What accepting a log has come to."""

    lacking: int  # messages that the log lacked, and that are sent again
    without_checkpoint: str | None  # why the checkpoint in the log could not be used


def accept(db: sqlite3.Connection, own: list[SecretKey], frames: Callable[[], Iterator[Frame]]) -> Accepted:
    """Take a log, as `frames` yields it from its first record on, for the true one.

    If its checkpoint is damaged, the log is read without it: all messages that
    are there are found, but not what records that were dropped had done to
    them. Raises what `Replay.run` raises, and has done nothing then.
    """
    (user,) = db.execute("SELECT user FROM cursor").fetchone()
    db.execute("BEGIN IMMEDIATE")
    try:
        for statement in CLEAR.split(";")[:-1]:
            db.execute(statement)
        db.execute("UPDATE cursor SET device = ?", (os.urandom(16),))
        without = _apply(db, own, frames)
        _check_owner(db, own, user)
        mailboxes = _queue_mailboxes(db)
        lacking = _queue_messages(db, mailboxes)
        lacking += _queue_aside(db, own, mailboxes, without.stated if without else 0)
        _queue_trust(db)
        _queue_differences(db, mailboxes)
        if seen.user_key(db, own) != own[0]:
            outbox.add(db, [outbox.user_key(own[0].public)], b"")
        view.refresh(db, [one for (one,) in db.execute("SELECT id FROM message ORDER BY key")])
        for table in ("message", "mailbox", "subscription", "metadata", "trust", "known", "history"):
            db.execute(f"DROP TABLE was_{table}")
        db.execute("COMMIT")
    except BaseException:
        schema.roll_back(db)
        raise
    return Accepted(lacking, without.reason if without else None)


def _check_owner(db: sqlite3.Connection, own: list[SecretKey], user: bytes | None) -> None:
    """Raise BadConfig if we have another user's key by mistake.

    After a theft a database goes on with a key that it has not known. Then the
    log is new and empty, or has changes of that key.
    """
    (is_empty,) = db.execute("SELECT number = 0 FROM cursor").fetchone()
    is_ours = user is None or any(user == key.public.sign for key in own)
    if not is_ours and not is_empty and not db.execute("SELECT 1 FROM device").fetchone():
        raise BadConfig(f"not the key of this message database ({keys.short(user or b'')}), nor of this log")


def _apply(db: sqlite3.Connection, own: list[SecretKey], frames: Callable[[], Iterator[Frame]]) -> Without | None:
    """Apply the log; return a Without if that had to be done without its checkpoint."""
    db.execute("SAVEPOINT before")
    try:
        _replay(db, own).run(frames())
    except CheckpointDamaged as damaged:
        db.execute("ROLLBACK TO before")
        replay = _replay(db, own)
        replay.with_checkpoint = False
        replay.run(frames())
        return Without(replay.head.stated if replay.head else 0, str(damaged))
    return None


def _replay(db: sqlite3.Connection, own: list[SecretKey]) -> Replay:
    replay = Replay(db, own, transactions=_Whole(db), judge=_Lenient())
    replay.seen.load(own)
    return replay


class _Whole(Transactions):
    """The one transaction, which `accept` begins and ends."""

    def begin(self) -> bool:
        return False

    def is_due(self) -> bool:
        return False

    def refresh(self, folded: Iterable[bytes]) -> None:
        """Leave the view alone: what the log lacks is still seen there, until it is in the outbox."""

    def commit(self) -> None:
        pass

    def roll_back(self) -> None:
        pass

    def remember(self, log: Seen, contradiction: Contradiction, head: Head | None) -> None:
        pass


class _Lenient(Judge):
    """The log counts, even where it contradicts itself or what has been seen."""

    def state(self, found: Contradiction) -> None:
        pass

    def user_key(self, found: Contradiction) -> None:
        """The log will know our newest key by a change in the outbox."""

    def change(self, found: Contradiction) -> None:
        """Do the change all the same, if it continues its device's line here.

        Not all machines can tell that it came from another log, and all must
        come to the same.
        """

    def lacking(self, found: Contradiction) -> None:
        """Go on without the messages; what we have of them is sent again."""


def _queue_mailboxes(db: sqlite3.Connection) -> dict[str, str]:
    """Queue the mailboxes, subscriptions and metadata that the log lacks; return the ids of all mailboxes by name."""
    mailboxes = {
        name: one.hex() for name, one in db.execute("SELECT fold_name, id FROM mailbox WHERE fold_name NOTNULL")
    }
    rows: list[Fields] = []
    for name, use in db.execute("SELECT name, use FROM was_mailbox ORDER BY name").fetchall():
        if name not in mailboxes:
            nonce = os.urandom(16)
            rows.append({"do": "create", "name": name, "nonce": nonce.hex(), **({"use": use} if use else {})})
            mailboxes[name] = command.create_id(nonce, name).hex()
    for name, subscribed in db.execute(
        "SELECT name, view FROM was_subscription EXCEPT SELECT name, fold FROM subscription"
    ):
        rows.append({"do": "subscribe" if subscribed else "unsubscribe", "name": name})
    if rows:
        outbox.add(db, rows, b"")
    for name, entry, value in db.execute(
        "SELECT name, entry, view FROM was_metadata EXCEPT SELECT fold_name, entry, fold FROM metadata"
        " LEFT JOIN mailbox ON mailbox.key = mailbox"
    ).fetchall():
        where = {} if name is None else {"mailbox": mailboxes[name]}
        outbox.add(db, [{"do": "set-metadata", **where, "entry": entry, "value": value.hex()}], b"")
    return mailboxes


def _queue_trust(db: sqlite3.Connection) -> None:
    """Queue the trust that the log lacks, and the distrust of what it trusts though that was taken back here."""
    rows: list[Fields] = []
    for one, comment in db.execute("SELECT key, comment FROM was_trust WHERE key NOT IN (SELECT key FROM trust)"):
        rows.append({"do": "trust", "key": one.hex(), "comment": comment})
    # Only what we have seen, and taken back since: not what another machine, which has accepted before, has trusted.
    seen = "(SELECT max(number) FROM was_history JOIN history USING (number, chain))"
    taken_back = f"SELECT key FROM trust WHERE key NOT IN (SELECT key FROM was_trust) AND number <= {seen}"
    for (one,) in db.execute(taken_back):
        rows.append({"do": "distrust", "key": one.hex()})
    if rows:
        outbox.add(db, rows, b"")


class Append(NamedTuple):
    """A message to be sent again."""

    mailbox: str  # id in hex
    flags: list[str]
    date: int
    octets: bytes


def _queue_messages(db: sqlite3.Connection, mailboxes: dict[str, str]) -> int:
    """Queue the messages that the log lacks as appends; return how many."""
    was = "SELECT message.content, was_message.date, was_message.name, was_message.flags"
    lacking = db.execute(was + FOLDED.format("")).fetchall()
    there = _new_messages(db) if lacking else set()

    def appends() -> Iterator[Append]:
        for content, date, name, flags in lacking:
            octets = octets_of(db, content)
            if len(octets) > MESSAGE_MAX:
                size = len(octets) >> 20
                raise DataError(f"a message of {size} MiB in {name!r} is too long to be sent again: export it first")
            # Another machine may have accepted the log before, and appended the same.
            if _digest(octets) not in there:
                yield Append(mailboxes[name], flags.split(), date, octets)

    return _queue_appends(db, appends())


def _queue_aside(db: sqlite3.Connection, own: list[SecretKey], mailboxes: dict[str, str], stated: int) -> int:
    """Queue what is set aside up to `stated` and is a delivery as appends; return how many.

    The records that trusted its sender may have been dropped, and without the
    checkpoint nothing else says that it was mail. A record whose message has
    been here is discarded, before a trust that is queued delivers it again.
    """
    done: list[int] = []

    def appends() -> Iterator[Append]:
        for one in aside.list_all(db):
            sealed = aside.sealed(db, one.number)
            with suppress(DataError, TooOld):
                box = record.open_box(own, sealed)
                fields, octets = command.decode(
                    record.body_of(box, command.DELIVERY_MAX), None, command.DELIVERY_LINE_MAX
                )
                if fields["command"] != "deliver" or len(octets) > MESSAGE_MAX:
                    continue
                message_id = command.delivery_id(fields["mailbox"], with_crlf(octets))
                if db.execute("SELECT 1 FROM was_known WHERE id = ?", (message_id,)).fetchone():
                    done.append(one.number)
                elif one.number <= stated:
                    done.append(one.number)
                    yield Append(mailboxes.get(fields["mailbox"], INBOX.hex()), [], fields["date"], octets)

    count = _queue_appends(db, appends())
    if done:
        outbox.add(db, [{"do": "discard", "numbers": done}], b"")
    return count


def _queue_appends(db: sqlite3.Connection, appends: Iterator[Append]) -> int:
    """Queue messages, as many in an entry as fit into a record; return how many."""
    rows: list[Fields] = []
    octets: list[bytes] = []
    count = 0
    for one in appends:
        if rows and (len(rows) == ENTRY_MESSAGES or sum(map(len, octets)) + len(one.octets) > ENTRY_OCTETS):
            outbox.add(db, rows, b"".join(octets))
            rows, octets = [], []
        row = {"do": "append", "mailbox": one.mailbox, "flags": one.flags, "date": one.date, "size": len(one.octets)}
        rows.append({**row, "nonce": os.urandom(16).hex()})
        octets.append(one.octets)
        count += 1
    if rows:
        outbox.add(db, rows, b"".join(octets))
    return count


def _new_messages(db: sqlite3.Connection) -> set[bytes]:
    """Return the digests of the messages that the log has and we have never had."""
    query = "SELECT content FROM message WHERE fold_mailbox NOTNULL AND id NOT IN (SELECT id FROM was_known)"
    return {_digest(octets_of(db, content)) for (content,) in db.execute(query).fetchall()}


def _queue_differences(db: sqlite3.Connection, mailboxes: dict[str, str]) -> None:
    """Queue flags and moves, where the log has a message otherwise than it was."""
    changes: dict[tuple[str, str], list[bytes]] = {}  # what to do, and with which flag or mailbox: ids
    was = "SELECT message.id, was_message.name, mailbox.fold_name, was_message.flags, message.fold_flags"
    for message_id, name, folded, flags_text, folded_text in db.execute(was + FOLDED.format("NOT")):
        flags, folded_flags = set(flags_text.split()), set(folded_text.split())
        found = [("add-flags", flag) for flag in flags - folded_flags]
        found += [("remove-flags", flag) for flag in folded_flags - flags]
        found += [("move", name)] if name != folded else []
        for change in found:
            changes.setdefault(change, []).append(message_id)
    rows: list[Fields] = []
    for (do, what), ids in sorted(changes.items()):
        value = {"mailbox": mailboxes[what]} if do == "move" else {"flags": [what]}
        rows.append({"do": do, "ids": b"".join(ids).hex(), **value})
    if rows:
        outbox.add(db, rows, b"")


def _digest(octets: bytes) -> bytes:
    return hashlib.blake2b(octets, digest_size=32).digest()

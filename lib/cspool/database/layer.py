"""What commands do: to the fold when they come from the log, to the view when they are made here.

The state of the mailboxes is the fold of the log: the commands, one after the
other, in log order. A `Layer` is that state as either the fold or the view
has it, and each small change is one method, so that both know the same rules.
cspool-commands(5) says what a person may expect of them.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .. import command
from ..command import INBOX, Fields
from ..octets import with_crlf
from . import schema
from .content import add as add_content
from .content import forget_unused

FORGET = 30 * 86400  # seconds


class Layer:
    """Mailboxes and messages as the fold (`prefix` "fold_") or the view ("") has them."""

    def __init__(self, db: sqlite3.Connection, prefix: str, number: int | None = None) -> None:
        self.db = db
        self.number = number  # of the record that is being folded; None for the view
        self.touched: dict[bytes, None] = {}  # ids of messages that were changed, in order
        self._get = f"SELECT {prefix}mailbox, {prefix}flags FROM message WHERE id = ?"
        self._put = f"UPDATE message SET {prefix}mailbox = :mailbox, {prefix}flags = :flags WHERE id = :id"
        self._add = f"INSERT INTO message (id, content, date, {prefix}mailbox, {prefix}flags) VALUES (?, ?, ?, ?, ?)"
        self._in_mailbox = f"SELECT id, {prefix}flags FROM message WHERE {prefix}mailbox = ?"
        self._by_id = f"SELECT key, {prefix}name, {prefix}same_as FROM mailbox WHERE id = ?"
        self._by_key = f"SELECT key, {prefix}name, {prefix}same_as FROM mailbox WHERE key = ?"
        self._by_name = f"SELECT key FROM mailbox WHERE {prefix}name = ?"
        self._set_name = f"UPDATE mailbox SET {prefix}name = ?, {prefix}same_as = ? WHERE key = ?"
        self._set_use = f"UPDATE mailbox SET {prefix}use = ? WHERE key = ?"
        column = "fold" if prefix else "view"
        self._set_subscribed = (
            "INSERT INTO subscription (name, fold, view) VALUES (:name, 0, 0) ON CONFLICT DO NOTHING",
            f"UPDATE subscription SET {column} = :subscribed WHERE name = :name",
        )

    # Small changes, each named as in the command

    def perform(self, changes: list[Fields], octets: bytes) -> None:
        """Do small changes, as `command.changes` returns them, in order."""
        position = 0
        for change in changes:
            if change["do"] == "append":
                end = position + change["size"]
                self._append(change, octets[position:end], position)
                position = end
            else:
                CHANGES[change["do"]](self, change)

    def add_flags(self, change: Fields) -> None:
        for message_id, mailbox, flags in self._each(change["ids"]):
            self._set(message_id, mailbox, with_flags(flags, change["flags"]))

    def remove_flags(self, change: Fields) -> None:
        for message_id, mailbox, flags in self._each(change["ids"]):
            self._set(message_id, mailbox, without_flags(flags, change["flags"]))

    def expunge(self, change: Fields) -> None:
        for message_id, _, flags in self._each(change["ids"]):
            self._set(message_id, None, flags)
            if self.number is not None:
                self.db.execute("INSERT OR IGNORE INTO gone VALUES (?, ?)", (message_id, self.number))

    def move(self, change: Fields) -> None:
        mailbox = self._mailbox_or_inbox(change["mailbox"])
        for message_id, _, flags in self._each(change["ids"]):
            self._set(message_id, mailbox, flags)

    def copy(self, change: Fields) -> None:
        mailbox = self._mailbox_or_inbox(change["mailbox"])
        for source, _, flags in self._each(change["ids"]):
            row = "SELECT content, date FROM message WHERE id = ?"
            content, date = self.db.execute(row, (source,)).fetchone()
            message_id = command.copy_id(change["nonce"], source)
            if not self._known(message_id):
                self._insert(message_id, content, date, mailbox, flags)

    def _append(self, change: Fields, octets: bytes, place: int) -> None:
        octets = with_crlf(octets)
        message_id = command.append_id(change["nonce"], octets)
        if self._known(message_id):
            return
        mailbox = self._mailbox_or_inbox(change["mailbox"])
        content = self._content(message_id, octets, place)
        self._insert(message_id, content, change["date"], mailbox, with_flags("", change["flags"]))

    def create(self, change: Fields) -> None:
        """Make a mailbox; of a name that is taken, make the id another one of that mailbox."""
        mailbox_id = command.create_id(change["nonce"], change["name"])
        found = self.db.execute("SELECT key, made FROM mailbox WHERE id = ?", (mailbox_id,)).fetchone()
        if found and found[1]:
            return  # issued again
        key = found[0] if found else schema.add_mailbox(self.db, mailbox_id)
        if self.number is not None:
            self.db.execute("UPDATE mailbox SET made = 1 WHERE key = ?", (key,))
        taken = self._named(change["name"])
        if taken is None:
            self._name(key, change["name"])
            self.db.execute(self._set_use, (change["use"], key))
        elif taken != key:
            self._name(key, None, taken)

    def rename(self, change: Fields) -> None:
        """Rename a mailbox; to a name that is taken, put it together with that mailbox."""
        key, taken = self._mailbox(change["mailbox"]), self._named(change["name"])
        if key is None or key == self._mailbox(INBOX) or key == taken:
            return
        if taken is None:
            self._name(key, change["name"])
        else:
            self._empty(key, taken)
            self._name(key, None, taken)

    def delete(self, change: Fields) -> None:
        """Delete a mailbox with the messages that are named; what else is in it goes to INBOX."""
        key, inbox = self._mailbox(change["mailbox"]), self._mailbox(INBOX)
        if key is None or inbox is None or key == inbox:
            return
        there = [message_id for message_id, mailbox, _ in self._each(change["ids"]) if mailbox == key]
        self.expunge({"ids": there})
        self._empty(key, inbox)
        self._name(key, None)

    def subscribe(self, change: Fields) -> None:
        self._subscribe(change["name"], True)

    def unsubscribe(self, change: Fields) -> None:
        self._subscribe(change["name"], False)

    def trust(self, change: Fields) -> None:
        """Take effect only in the log, at its place there; the view has no trust of its own."""
        if self.number is None:
            return
        sender = change["key"]
        self.db.execute("INSERT OR REPLACE INTO trust VALUES (?, ?, ?)", (sender, change["comment"], self.number))
        waiting = "SELECT number FROM aside WHERE sender = ? AND body IS NOT NULL ORDER BY number"
        for (number,) in self.db.execute(waiting, (sender,)).fetchall():
            (body,) = self.db.execute("SELECT body FROM aside WHERE number = ?", (number,)).fetchone()
            self.db.execute("DELETE FROM aside WHERE number = ?", (number,))
            earlier = Layer(self.db, "fold_", number)
            earlier.deliver(*command.decode(body))
            self.touched.update(earlier.touched)

    def distrust(self, change: Fields) -> None:
        if self.number is not None:
            self.db.execute("DELETE FROM trust WHERE key = ?", (change["key"],))

    def user_key(self, change: Fields) -> None:
        """From here on the user's changes are signed by another key; in the log, as with trust."""
        if self.number is not None:
            self.db.execute("UPDATE cursor SET user = ?", (change["sign"],))

    def discard(self, change: Fields) -> None:
        """Forget records that were set aside; in the log, as with trust."""
        if self.number is not None:
            rows = [(number,) for number in change["numbers"]]
            self.db.executemany("DELETE FROM aside WHERE number = ?", rows)

    # What only the log does

    def checkpoint(self, date: int) -> None:
        """Forget the ids of messages that went before a checkpoint of 30 days ago or more: no late retry has them."""
        self.db.execute("INSERT INTO checkpoint VALUES (?, ?)", (self.number, date))
        query = "SELECT coalesce(max(number), 0) FROM checkpoint WHERE date <= ?"
        old = self.db.execute(query, (date - FORGET,)).fetchone()
        self.db.execute("DELETE FROM gone WHERE number < ?", old)
        self.db.execute("DELETE FROM checkpoint WHERE number < ?", old)

    def deliver(self, fields: Fields, octets: bytes, flags: Iterable[str] = ()) -> None:
        """Put a delivered message into its mailbox, unless it has been there before."""
        assert self.number is not None
        octets = with_crlf(octets)
        message_id = command.delivery_id(fields["mailbox"], octets)
        if self._known(message_id):
            return
        mailbox = self._named(fields["mailbox"])
        if mailbox is None:
            (spool,) = self.db.execute("SELECT spool FROM cursor").fetchone()
            mailbox = schema.mailbox(self.db, command.delivered_mailbox_id(spool, self.number))
            self.db.execute("UPDATE mailbox SET made = 1 WHERE key = ?", (mailbox,))
            self._name(mailbox, fields["mailbox"])
            self._subscribe(fields["mailbox"], True)
        content = self._content(message_id, octets, 0)
        self._insert(message_id, content, fields["date"], mailbox, with_flags("", flags))

    # Rows

    def _each(self, ids: list[bytes]) -> Iterator[tuple[bytes, int, str]]:
        """Yield id, mailbox and flags of those of these messages that are there."""
        for message_id in ids:
            found = self.db.execute(self._get, (message_id,)).fetchone()
            if found and found[0] is not None:
                yield message_id, *found

    def _mailbox(self, mailbox_id: bytes) -> int | None:
        """Return the key of the mailbox that an id stands for; None when it is deleted."""
        found = self.db.execute(self._by_id, (mailbox_id,)).fetchone()
        while found and found[2] is not None:
            found = self.db.execute(self._by_key, (found[2],)).fetchone()
        return found[0] if found and found[1] is not None else None

    def _mailbox_or_inbox(self, mailbox_id: bytes) -> int:
        """Return the key of a mailbox; what goes into one that was deleted goes to INBOX."""
        found = self._mailbox(mailbox_id)
        key = self._mailbox(INBOX) if found is None else found
        assert key is not None
        return key

    def _named(self, name: str) -> int | None:
        found = self.db.execute(self._by_name, (name,)).fetchone()
        return found[0] if found else None

    def _name(self, key: int, name: str | None, same_as: int | None = None) -> None:
        self.db.execute(self._set_name, (name, same_as, key))

    def _empty(self, mailbox: int, into: int) -> None:
        """Put all messages of a mailbox into another."""
        for message_id, flags in self.db.execute(self._in_mailbox, (mailbox,)).fetchall():
            self._set(message_id, into, flags)

    def _subscribe(self, name: str, subscribed: bool) -> None:
        for statement in self._set_subscribed:
            self.db.execute(statement, {"name": name, "subscribed": subscribed})

    def _set(self, message_id: bytes, mailbox: int | None, flags: str | None) -> None:
        self.touched[message_id] = None
        self.db.execute(self._put, {"mailbox": mailbox, "flags": flags, "id": message_id})

    def _known(self, message_id: bytes) -> bool:
        """Tell whether the log has put this message somewhere before, be it gone by now: ids are given once."""
        query = (
            "SELECT 1 FROM message WHERE id = :id AND fold_mailbox IS NOT NULL"
            " UNION ALL SELECT 1 FROM gone WHERE id = :id"
        )
        return bool(self.db.execute(query, {"id": message_id}).fetchone())

    def _content(self, message_id: bytes, octets: bytes, place: int) -> int:
        """Return the key of the content of a message, which the other layer may have stored already."""
        found = self.db.execute("SELECT content FROM message WHERE id = ?", (message_id,)).fetchone()
        if not found:
            return add_content(self.db, message_id, octets, self.number, place)
        if self.number is not None:
            self.db.execute("UPDATE content SET number = ?, place = ? WHERE key = ?", (self.number, place, found[0]))
        return int(found[0])

    def _insert(self, message_id: bytes, content: int, date: int, mailbox: int, flags: str) -> None:
        """Put a message there; its row may exist already, because the other layer has it."""
        row = "SELECT content FROM message WHERE id = ?"
        found = self.db.execute(row, (message_id,)).fetchone()
        if found:
            if self.number is not None:  # what the log says counts, and where it says it
                update = "UPDATE message SET content = ?, date = ? WHERE id = ?"
                self.db.execute(update, (content, date, message_id))
                forget_unused(self.db, found[0])
            self._set(message_id, mailbox, flags)
        else:
            self.touched[message_id] = None
            self.db.execute(self._add, (message_id, content, date, mailbox, flags))


CHANGES: dict[str, Callable[[Layer, Fields], Any]] = {
    "add-flags": Layer.add_flags,
    "remove-flags": Layer.remove_flags,
    "expunge": Layer.expunge,
    "move": Layer.move,
    "copy": Layer.copy,
    "create": Layer.create,
    "rename": Layer.rename,
    "delete": Layer.delete,
    "subscribe": Layer.subscribe,
    "unsubscribe": Layer.unsubscribe,
    "trust": Layer.trust,
    "distrust": Layer.distrust,
    "user-key": Layer.user_key,
    "discard": Layer.discard,
}


def with_flags(flags: str, added: Iterable[str]) -> str:
    """Return flags and the added ones; two that differ only in case are one (RFC 9051 section 2.3.2)."""
    found = {flag.lower(): flag for flag in flags.split()}
    for flag in added:
        found.setdefault(flag.lower(), flag)
    return " ".join(sorted(found.values()))


def without_flags(flags: str, removed: list[str]) -> str:
    """Return flags without the removed ones."""
    gone = {flag.lower() for flag in removed}
    return " ".join(flag for flag in flags.split() if flag.lower() not in gone)

"""The rules of mailboxes and messages: one method for each small change of cspool-commands(5).

The same rules hold twice. The fold (fold.py) is what the log alone gives; the
view (view.py) is the fold with the outbox on top, which is what the user sees.
Each is a `Layer` over its own columns of the same tables, and says what it
does differently.
"""

import sqlite3
from collections.abc import Iterable, Iterator

from .. import command
from ..command import INBOX, Fields
from ..mail.lines import canonical
from ..octets import with_crlf
from . import schema


class Layer:
    """Mailboxes and messages as one layer has them. `touched` has the ids of messages that were changed, in order."""

    prefix: str  # of the columns in mailbox and message
    column: str  # in subscription and metadata
    # Statements with these columns.
    _get: str
    _put: str
    _add: str
    _in_mailbox: str
    _by_id: str
    _by_key: str
    _by_name: str
    _set_name: str
    _set_use: str
    _set_subscribed: tuple[str, str]
    _set_metadata: tuple[str, str, str]
    _clear_metadata: str

    def __init_subclass__(cls) -> None:
        prefix, column = cls.prefix, cls.column
        cls._get = f"SELECT {prefix}mailbox, {prefix}flags FROM message WHERE id = ?"
        cls._put = f"UPDATE message SET {prefix}mailbox = :mailbox, {prefix}flags = :flags WHERE id = :id"
        cls._add = f"INSERT INTO message (id, content, date, {prefix}mailbox, {prefix}flags) VALUES (?, ?, ?, ?, ?)"
        cls._in_mailbox = f"SELECT id, {prefix}flags FROM message WHERE {prefix}mailbox = ?"
        cls._by_id = f"SELECT key, {prefix}name, {prefix}same_as FROM mailbox WHERE id = ?"
        cls._by_key = f"SELECT key, {prefix}name, {prefix}same_as FROM mailbox WHERE key = ?"
        cls._by_name = f"SELECT key FROM mailbox WHERE {prefix}name = ?"
        cls._set_name = f"UPDATE mailbox SET {prefix}name = ?, {prefix}same_as = ? WHERE key = ?"
        cls._set_use = f"UPDATE mailbox SET {prefix}use = ? WHERE key = ?"
        cls._set_subscribed = (
            "INSERT INTO subscription (name, fold, view) VALUES (:name, 0, 0) ON CONFLICT DO NOTHING",
            f"UPDATE subscription SET {column} = :subscribed WHERE name = :name",
        )
        cls._set_metadata = (
            "INSERT INTO metadata (mailbox, entry) VALUES (:mailbox, :entry) ON CONFLICT DO NOTHING",
            f"UPDATE metadata SET {column} = :value WHERE mailbox = :mailbox AND entry = :entry",
            "DELETE FROM metadata WHERE mailbox = :mailbox AND entry = :entry AND fold IS NULL AND view IS NULL",
        )
        cls._clear_metadata = f"UPDATE metadata SET {column} = NULL WHERE mailbox = ? AND {column} NOTNULL"

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.touched: dict[bytes, None] = {}

    def perform(self, changes: list[Fields], octets: bytes) -> None:
        """Do small changes, as `command.changes` returns them, in order; `octets` are those of its appends."""
        offset = 0
        for change in changes:
            if change["do"] == "append":
                end = offset + change["size"]
                self.append(change, octets[offset:end], offset)
                offset = end
            else:
                getattr(self, change["do"].replace("-", "_"))(change)

    # Small changes, each named as in the command

    def add_flags(self, change: Fields) -> None:
        for message_id, mailbox, flags in self._present(change["ids"]):
            self._set(message_id, mailbox, with_flags(flags, change["flags"]))

    def remove_flags(self, change: Fields) -> None:
        for message_id, mailbox, flags in self._present(change["ids"]):
            self._set(message_id, mailbox, without_flags(flags, change["flags"]))

    def expunge(self, change: Fields) -> list[bytes]:
        """Expunge messages; return the ids of those that were in a mailbox."""
        expunged = []
        for message_id, _, flags in self._present(change["ids"]):
            self._set(message_id, None, flags)
            expunged.append(message_id)
        return expunged

    def move(self, change: Fields) -> None:
        mailbox = self._mailbox_or_inbox(change["mailbox"])
        for message_id, _, flags in self._present(change["ids"]):
            self._set(message_id, mailbox, flags)

    def copy(self, change: Fields) -> None:
        mailbox = self._mailbox_or_inbox(change["mailbox"])
        for source, _, flags in self._present(change["ids"]):
            row = "SELECT content, date FROM message WHERE id = ?"
            content, date = self.db.execute(row, (source,)).fetchone()
            message_id = command.copy_id(change["nonce"], source)
            if not self._was_here(message_id):
                self._insert(message_id, content, date, mailbox, flags)

    def append(self, change: Fields, octets: bytes, offset: int) -> None:
        """Put a message into a mailbox; its octets stand `offset` octets behind the line of the command."""
        message_id = command.append_id(change["nonce"], with_crlf(octets))
        if self._was_here(message_id):
            return
        mailbox = self._mailbox_or_inbox(change["mailbox"])
        content = self._content(message_id, canonical(octets), offset)
        self._insert(message_id, content, change["date"], mailbox, with_flags("", change["flags"]))

    def create(self, change: Fields) -> None:
        """Create a mailbox. If the name is taken, the id becomes an alias of the mailbox that has it."""
        mailbox_id = command.create_id(change["nonce"], change["name"])
        found = self.db.execute("SELECT key, created FROM mailbox WHERE id = ?", (mailbox_id,)).fetchone()
        if found and found[1]:
            return  # a change that was issued again
        self._create(found[0] if found else schema.add_mailbox(self.db, mailbox_id), change["name"], change["use"])

    def _create(self, key: int, name: str, use: str) -> None:
        taken = self._named(name)
        if taken is None:
            self._name(key, name)
            self.db.execute(self._set_use, (use, key))
        elif taken != key:
            self._name(key, None, taken)

    def rename(self, change: Fields) -> None:
        """Rename a mailbox. If the name is taken, its messages go to the mailbox that has it, and so does its id."""
        key, taken = self._mailbox(change["mailbox"]), self._named(change["name"])
        if key is None or key == self._mailbox(INBOX) or key == taken:
            return
        if taken is None:
            self._name(key, change["name"])
        else:
            self._empty(key, taken)
            self._name(key, None, taken)

    def delete(self, change: Fields) -> None:
        """Delete a mailbox and expunge the messages `ids` in it; its other messages go to INBOX."""
        key, inbox = self._mailbox(change["mailbox"]), self._mailbox(INBOX)
        if key is None or inbox is None or key == inbox:
            return
        inside = [message_id for message_id, mailbox, _ in self._present(change["ids"]) if mailbox == key]
        self.expunge({"ids": inside})
        self._empty(key, inbox)
        self._name(key, None)

    def subscribe(self, change: Fields) -> None:
        self._subscribe(change["name"], True)

    def unsubscribe(self, change: Fields) -> None:
        self._subscribe(change["name"], False)

    def set_metadata(self, change: Fields) -> None:
        """Give an entry of a mailbox, or of the server, a value, or take it away."""
        mailbox = 0 if change["mailbox"] is None else self._mailbox(change["mailbox"])
        if mailbox is not None:
            for statement in self._set_metadata:
                self.db.execute(statement, {**change, "mailbox": mailbox})

    # These take effect in the log and nowhere else: the view shows neither trust nor keys.

    def trust(self, change: Fields) -> None:
        pass

    def distrust(self, change: Fields) -> None:
        pass

    def user_key(self, change: Fields) -> None:
        pass

    def discard(self, change: Fields) -> None:
        pass

    # Rows

    def _present(self, ids: list[bytes]) -> Iterator[tuple[bytes, int, str]]:
        """Yield id, mailbox and flags of those of these messages that are in a mailbox."""
        for message_id in ids:
            found = self.db.execute(self._get, (message_id,)).fetchone()
            if found and found[0] is not None:
                yield message_id, *found

    def _mailbox(self, mailbox_id: bytes) -> int | None:
        """Return the key of the mailbox that an id stands for, also as an alias; None if it is deleted."""
        found = self.db.execute(self._by_id, (mailbox_id,)).fetchone()
        while found and found[2] is not None:
            found = self.db.execute(self._by_key, (found[2],)).fetchone()
        return found[0] if found and found[1] is not None else None

    def _mailbox_or_inbox(self, mailbox_id: bytes) -> int:
        """Return the key of a mailbox, or of INBOX if it is deleted: a message must not be lost with its mailbox."""
        found = self._mailbox(mailbox_id)
        key = self._mailbox(INBOX) if found is None else found
        assert key is not None
        return key

    def _named(self, name: str) -> int | None:
        found = self.db.execute(self._by_name, (name,)).fetchone()
        return found[0] if found else None

    def _name(self, key: int, name: str | None, same_as: int | None = None) -> None:
        self.db.execute(self._set_name, (name, same_as, key))
        if name is None:
            self.db.execute(self._clear_metadata, (key,))

    def _empty(self, mailbox: int, into: int) -> None:
        """Move all messages of a mailbox into another."""
        for message_id, flags in self.db.execute(self._in_mailbox, (mailbox,)).fetchall():
            self._set(message_id, into, flags)

    def _subscribe(self, name: str, subscribed: bool) -> None:
        for statement in self._set_subscribed:
            self.db.execute(statement, {"name": name, "subscribed": subscribed})

    def _set(self, message_id: bytes, mailbox: int | None, flags: str | None) -> None:
        self.touched[message_id] = None
        self.db.execute(self._put, {"mailbox": mailbox, "flags": flags, "id": message_id})

    def _was_here(self, message_id: bytes) -> bool:
        """Return whether the log has ever had this message, even if it is expunged by now: an id is used once."""
        query = (
            "SELECT 1 FROM message WHERE id = :id AND fold_mailbox IS NOT NULL"
            " UNION ALL SELECT 1 FROM tombstone WHERE id = :id"
        )
        return bool(self.db.execute(query, {"id": message_id}).fetchone())

    def _content(self, message_id: bytes, octets: bytes, offset: int) -> int:
        """Return the key of the content of a message; store it first unless the other layer has."""
        raise NotImplementedError

    def _insert(self, message_id: bytes, content: int, date: int, mailbox: int, flags: str) -> None:
        """Put a message into a mailbox; the other layer may have its row already."""
        found = self.db.execute("SELECT content FROM message WHERE id = ?", (message_id,)).fetchone()
        if found:
            self._found_row(message_id, found[0], content, date)
            self._set(message_id, mailbox, flags)
        else:
            self.touched[message_id] = None
            self.db.execute(self._add, (message_id, content, date, mailbox, flags))

    def _found_row(self, message_id: bytes, old: int, content: int, date: int) -> None:
        """Called before a message is put into a mailbox that the other layer knows already, with the content `old`."""


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

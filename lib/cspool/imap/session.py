"""The client's session: login, enabled extensions, selected mailbox, and the changes that the client makes."""

import os
import sqlite3
from collections.abc import Callable
from typing import Protocol

from ..command import Fields
from ..database import schema, view
from ..errors import Failure
from ..form import SPECIAL_USES, canonical
from ..mail import utf7
from ..mail.envelope import string
from .connection import Closed, Connection
from .entries import EntryChanges
from .grammar import CONDSTORE, QRESYNC, REV2, UTF8, No
from .passwords import Login, Passwords
from .pieces import Pieces
from .selected import Selected

IDS_MAX = 10_000  # message ids in one change; more become several changes, so that only one is in memory
Admit = Callable[[bytes], None]
OpenDb = Callable[[], sqlite3.Connection]


class Listening(Protocol):
    """What a client wants to be told of: notify.py."""

    @property
    def is_active(self) -> bool:
        """Return whether the client is to be told of anything between its commands."""

    def tell(self, expunges: bool) -> None:
        """Send what has changed; its expunges only if `expunges`, or if they may come at any time."""

    def collect(self) -> None:
        """Note what has changed in other mailboxes, to be sent later."""

    def pass_over(self) -> None:
        """Take what has changed since `collect` as known to the client, which has done it."""


class Session:
    """One client of one database, `db`, which `open_db` opens once the client has logged in.

    `selected` is None outside the selected state. `admit` is called when the
    client has logged in, with the record of its login.
    """

    db: sqlite3.Connection
    pieces: Pieces

    def __init__(
        self, open_db: OpenDb, connection: Connection, passwords: Passwords, admit: Admit | None = None
    ) -> None:
        self.open_db = open_db
        self.connection = connection
        self.passwords = passwords
        self.admit = admit
        self.authenticated = False
        self.login: Login | None = None  # None too for a client that needs none
        self.failures = 0  # failed logins
        self.enabled: set[str] = set()  # extensions, by their names in grammar.py
        self.selected: Selected | None = None
        self.notify: Listening | None = None  # None until the client gives NOTIFY
        self.entries: EntryChanges | None = None  # None until the client enables METADATA
        self.counts: dict[int, dict[bytes, int]] = {}  # by mailbox key, then STATUS item: the cache of status.py
        self.tag = b""  # of the command that is being done
        self.ended = False  # whether the session ends after this command

    def untagged(self, octets: bytes) -> None:
        """Send an untagged answer, given without "* " and line end."""
        self.connection.write(b"* %b\r\n" % octets)

    def authenticate(self, login: Login | None = None) -> None:
        """Treat the client as the user from here on; `login` is what it has logged in with. Raises as `open_db`."""
        self.db = self.open_db()
        self.pieces = Pieces(self.db)
        self.authenticated, self.login = True, login
        self.connection.deadline = None
        self.connection.check = self._check_login if login else None
        if self.admit:
            self.admit(login.record if login else b"")

    def _check_login(self) -> None:
        """Raise Closed if the password with which the client has logged in is none any more."""
        assert self.login
        try:
            allowed, text = self.passwords.allow(self.login), "AUTHORIZATIONFAILED] The password has been changed"
        except Failure:
            allowed, text = False, "UNAVAILABLE] The passwords cannot be read"
        if not allowed:
            self.connection.check = None  # so that this can be said
            raise Closed(f"[{text}")

    def enable_condstore(self) -> None:
        """Enable CONDSTORE; the first time, say what the selected mailbox has got to (RFC 7162 section 3.1)."""
        if CONDSTORE not in self.enabled:
            self.enabled.add(CONDSTORE)
            if self.selected:
                self.untagged(b"OK [HIGHESTMODSEQ %d] Highest" % max(1, self.selected.modseq))

    def selection(self) -> Selected:
        """Return the selected mailbox, for what is done only in the selected state."""
        assert self.selected
        return self.selected

    def writable(self) -> Selected:
        """Return the selected mailbox. Raises No if it was selected read-only."""
        if self.selection().read_only:
            raise No("[READ-ONLY] The mailbox is selected read-only")
        return self.selection()

    def highest(self) -> str:
        """Return the HIGHESTMODSEQ code if QRESYNC is enabled, else nothing (RFC 7162 section 3.2.7)."""
        return f"[HIGHESTMODSEQ {self.selected.modseq}] " if self.selected and QRESYNC in self.enabled else ""

    def tell(self, expunges: bool) -> None:
        """Send what has changed since the last call, expunges in the selected mailbox only if `expunges`.

        That is what has changed in the selected mailbox, or what NOTIFY asked for.
        """
        if self.notify:
            self.notify.tell(expunges)
        else:
            self.tell_selected(expunges)
            for answer in self.entries.take() if self.entries else ():
                self.untagged(answer)

    def tell_selected(self, expunges: bool = True) -> None:
        """Send what has changed in the selected mailbox since the last call, expunges only if `expunges`."""
        if self.selected:
            for answer in self.selected.updates(expunges):
                self.untagged(answer)

    # Mailboxes

    @property
    def utf8(self) -> bool:
        """Return whether mailbox names are UTF-8 on the wire (RFC 6855 section 3, RFC 9051 section 5.1)."""
        return bool(self.enabled & {UTF8, REV2})

    def mailbox_name(self, name: str) -> bytes:
        """Return a mailbox name as an IMAP string, in UTF-8 or in modified UTF-7 (RFC 3501 section 5.1.3)."""
        if not self.utf8:
            return string(utf7.encode(name))
        return b'"' + name.encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'

    def exists(self, name: str) -> bool:
        """Return whether a mailbox has this name in the view."""
        return bool(self.db.execute("SELECT 1 FROM mailbox WHERE name = ?", (name,)).fetchone())

    def mailbox(self, name: str) -> int:
        """Return the key of the mailbox with this name in the view, created if it is one of `special_names`.

        Raises No if there is none.
        """
        name = canonical(name)
        query = "SELECT key FROM mailbox WHERE name = ?"
        found = self.db.execute(query, (name,)).fetchone()
        if not found and name in self.special_names():
            self.create([name], SPECIAL_USES[name])
            found = self.db.execute(query, (name,)).fetchone()
        if not found:
            raise No("[NONEXISTENT] No such mailbox")
        key: int = found[0]
        return key

    def target(self, name: str) -> bytes:
        """Return the id of the mailbox that is to receive messages.

        Raises No with TRYCREATE if there is none (RFC 9051 section 7.1).
        """
        try:
            return self.mailbox_id(self.mailbox(name))
        except No:
            raise No("[TRYCREATE] No such mailbox") from None

    def mailbox_id(self, key: int) -> bytes:
        """Return the permanent id of a mailbox, by its key."""
        mailbox_id: bytes = self.db.execute("SELECT id FROM mailbox WHERE key = ?", (key,)).fetchone()[0]
        return mailbox_id

    def special_names(self) -> set[str]:
        """Return the names of the special-use mailboxes to create at first use: no mailbox has the name or the use."""
        there = self.db.execute("SELECT name, use FROM mailbox WHERE name IS NOT NULL").fetchall()
        taken = {name for name, _ in there}
        used = {one for _, use in there for one in use.split()}
        return {name for name, use in SPECIAL_USES.items() if name not in taken and use not in used}

    # Changes

    def create(self, wanted: list[str], use: str = "") -> None:
        """Create mailboxes, in this order. If `use` is given, the last one gets that special use and is subscribed."""
        if not wanted:
            return
        rows: list[Fields] = [{"do": "create", "name": name, "nonce": os.urandom(16).hex()} for name in wanted]
        if use:
            rows[-1]["use"] = use
            rows.append({"do": "subscribe", "name": wanted[-1]})
        self.change(rows)

    def change(self, rows: list[Fields], octets: bytes = b"") -> None:
        """Do small changes in the view and add them to the outbox, in one transaction.

        `octets` are the messages of their appends, joined.
        """
        told = [one for one in (self.notify, self.entries) if one]
        with schema.writing(self.db):
            for one in told:
                one.collect()
            view.change(self.db, rows, octets)
            for one in told:
                one.pass_over()

    def change_messages(self, rows: list[Fields], ids: list[bytes]) -> None:
        """Do the same small changes to all these messages; `rows` are complete except for `ids`."""
        for start in range(0, len(ids), IDS_MAX):
            some = b"".join(ids[start : start + IDS_MAX]).hex()
            self.change([{**row, "ids": some} for row in rows])

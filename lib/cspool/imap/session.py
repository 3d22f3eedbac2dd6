"""A session: who is logged in, what is enabled, which mailbox is selected; and the changes that its client makes."""

import os
import sqlite3

from ..command import Fields
from ..database import schema, view
from ..form import SPECIAL_USES, canonical
from ..mail import utf7
from ..mail.envelope import string
from .connection import Connection
from .grammar import REV2, UTF8, No
from .selected import Selected

SYSTEM_FLAGS = r"\Answered \Flagged \Deleted \Seen \Draft"
IDS_MAX = 10_000  # message ids in one change; more become several, one after the other in memory


class Session:
    """One client. `selected` is None outside the selected state."""

    def __init__(self, db: sqlite3.Connection, connection: Connection, password_file: str) -> None:
        self.db = db
        self.connection = connection
        self.password_file = password_file
        self.authenticated = False
        self.failures = 0  # of LOGIN and AUTHENTICATE
        self.enabled: set[str] = set()
        self.selected: Selected | None = None
        self.counts: dict[int, dict[bytes, int]] = {}  # by mailbox: what status.py has counted
        self.tag = b""  # of the command that is being done
        self.ended = False

    def untagged(self, octets: bytes) -> None:
        """Send an untagged answer."""
        self.connection.write(b"* %b\r\n" % octets)

    def tell(self, expunges: bool) -> None:
        """Tell the client what is new in the selected mailbox; `expunges`: whether it may hear of those."""
        if self.selected:
            for answer in self.selected.news(expunges):
                self.untagged(answer)

    # Mailboxes

    @property
    def utf8(self) -> bool:
        """Whether mailbox names are UTF-8 on the wire (RFC 6855 section 3, RFC 9051 section 5.1)."""
        return bool(self.enabled & {UTF8, REV2})

    def mailbox_name(self, name: str) -> bytes:
        """Return a mailbox name as it is sent."""
        if not self.utf8:
            return string(utf7.encode(name))
        return b'"' + name.encode().replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'

    def exists(self, name: str) -> bool:
        """Tell whether a mailbox has this name in the view."""
        return bool(self.db.execute("SELECT 1 FROM mailbox WHERE name = ?", (name,)).fetchone())

    def mailbox(self, name: str) -> int:
        """Return the key of a mailbox by its name in the view; one for a special use is made. Raises No."""
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
        """Return the id of the mailbox to put messages into; TRYCREATE when there is none (RFC 9051 section 7.1)."""
        try:
            return self.mailbox_id(self.mailbox(name))
        except No:
            raise No("[TRYCREATE] No such mailbox") from None

    def mailbox_id(self, key: int) -> bytes:
        """Return the permanent id of a mailbox."""
        mailbox_id: bytes = self.db.execute("SELECT id FROM mailbox WHERE key = ?", (key,)).fetchone()[0]
        return mailbox_id

    def special_names(self) -> set[str]:
        """Return the names of mailboxes that are made at first use: no other has their use or their name."""
        there = self.db.execute("SELECT name, use FROM mailbox WHERE name IS NOT NULL").fetchall()
        taken = {name for name, _ in there}
        used = {one for _, use in there for one in use.split()}
        return {name for name, use in SPECIAL_USES.items() if name not in taken and use not in used}

    # Changes

    def create(self, wanted: list[str], use: str = "") -> None:
        """Create mailboxes; the last one may be for a special use, and is then subscribed."""
        if not wanted:
            return
        rows: list[Fields] = [{"do": "create", "name": name, "nonce": os.urandom(16).hex()} for name in wanted]
        if use:
            rows[-1]["use"] = use
            rows.append({"do": "subscribe", "name": wanted[-1]})
        self.change(rows)

    def change(self, rows: list[Fields], octets: bytes = b"") -> None:
        """Make small changes, here and in the outbox, in one transaction."""
        with schema.writing(self.db):
            view.change(self.db, rows, octets)

    def change_messages(self, rows: list[Fields], ids: list[bytes]) -> None:
        """Make the same small changes to all these messages: `rows` lack nothing but `ids`."""
        for start in range(0, len(ids), IDS_MAX):
            some = b"".join(ids[start : start + IDS_MAX]).hex()
            self.change([{**row, "ids": some} for row in rows])

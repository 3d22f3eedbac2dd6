"""The verbs that name mailboxes (RFC 9051 section 6.3)."""

import os
import time

from ..command import append_id
from ..database import schema
from ..errors import DataError
from ..form import SPECIAL_USES, canonical, mailbox_name
from ..octets import with_crlf
from . import listing
from .fetch import vanished_since
from .grammar import CONDSTORE, QRESYNC, REV2, BadCommand, No, Parser, SequenceSet
from .messages import expunge_deleted, settable_flags
from .selected import Selected
from .session import SYSTEM_FLAGS, Session
from .sets import uid_set
from .status import parse_items, status_answer
from .verbs import LOGGED_IN, SELECTED, verb

# SELECT


@verb(LOGGED_IN)
def select(session: Session, parser: Parser) -> str:
    return _select(session, parser, read_only=False)


@verb(LOGGED_IN)
def examine(session: Session, parser: Parser) -> str:
    return _select(session, parser, read_only=True)


def _select(session: Session, parser: Parser, read_only: bool) -> str:
    parser.space()
    name = parser.mailbox()
    resync = _Resync()
    if parser.at(b" "):
        parser.parenthesized(lambda: resync.parse(session, parser))
    parser.end()
    if session.selected:
        session.selected = None  # also when this fails (section 6.3.2)
        session.untagged(b"OK [CLOSED] The other mailbox is not selected any more")
    key = session.mailbox(name)
    selected = Selected(session.db, session.enabled, key, read_only)
    flags = f"{SYSTEM_FLAGS} {selected.keywords()}".rstrip()
    session.untagged(f"FLAGS ({flags})".encode())
    session.untagged(b"%d EXISTS" % len(selected.uids))
    if REV2 in session.enabled:
        session.untagged(b'LIST () "/" ' + session.mailbox_name(canonical(name)))
    else:
        session.untagged(b"%d RECENT" % len(selected.recent))
        unseen = selected.first_unseen()
        if unseen:
            session.untagged(b"OK [UNSEEN %d] First unseen message" % unseen)
    permanent = "" if read_only else rf"{flags} \*"
    session.untagged(f"OK [PERMANENTFLAGS ({permanent})] Flags that are kept".encode())
    session.untagged(b"OK [UIDVALIDITY %d] UIDs are valid" % selected.mailbox("uidvalidity"))
    session.untagged(b"OK [UIDNEXT %d] Next UID" % selected.uidnext)
    session.untagged(b"OK [HIGHESTMODSEQ %d] Highest" % max(1, selected.modseq))
    session.untagged(b"OK [MAILBOXID (F%b)] Permanent id" % session.mailbox_id(key).hex().encode())
    session.selected = selected
    resync.answer(session, selected)
    return "[READ-ONLY] EXAMINE completed" if read_only else "[READ-WRITE] SELECT completed"


class _Resync:
    """The parameters of SELECT: CONDSTORE, and QRESYNC with what the client knows (RFC 7162 section 3.2.5)."""

    def __init__(self) -> None:
        self.uidvalidity = self.modseq = 0
        self.known: SequenceSet = [(1, None)]

    def parse(self, session: Session, parser: Parser) -> None:
        name = parser.atom()
        if name == b"CONDSTORE":
            session.enabled.add(CONDSTORE)
            return
        if name != b"QRESYNC" or QRESYNC not in session.enabled:
            raise BadCommand("Unknown parameter, or QRESYNC is not enabled")
        parser.expect(b" (")
        self.uidvalidity = parser.number()
        parser.space()
        self.modseq = parser.modseq()
        if parser.at(b" ") and parser.peek() != b"(":
            self.known = parser.sequence_set()
            parser.at(b" ")
        if parser.at(b"("):
            # Numbers and UIDs that the client has: they could only make the answer shorter.
            parser.sequence_set()
            parser.space()
            parser.sequence_set()
            parser.expect(b")")
        parser.expect(b")")

    def answer(self, session: Session, selected: Selected) -> None:
        """Tell what has vanished and changed since, if the client's UIDs are still those of this mailbox."""
        if not self.modseq or self.uidvalidity != selected.mailbox("uidvalidity"):
            return
        ranges = selected.past_ranges(self.known)
        gone = vanished_since(session, selected.key, self.modseq, ranges)
        if gone:
            session.untagged(b"VANISHED (EARLIER) " + uid_set(gone))
        for number, uid, flags, modseq in selected.rows(ranges, "message.flags, message.modseq"):
            if modseq > self.modseq:
                session.untagged(selected.flags_answer(number - 1, uid, flags, modseq, with_uid=True))


@verb((SELECTED,))
def close(session: Session, parser: Parser) -> str:
    parser.end()
    selected = session.selected
    if selected and not selected.read_only:
        expunge_deleted(session, selected, None)
    session.selected = None
    return "CLOSE completed"


@verb((SELECTED,))
def unselect(session: Session, parser: Parser) -> str:
    parser.end()
    session.selected = None
    return "UNSELECT completed"


# Mailboxes come and go


@verb(LOGGED_IN)
def create(session: Session, parser: Parser) -> str:
    parser.space()
    name = _new_name(parser.mailbox().removesuffix("/"))
    use = ""
    if parser.at(b" "):
        parser.expect(b"(USE ")
        use = " ".join(_special_use(flag) for flag in parser.parenthesized(parser.flag))
        parser.expect(b")")
    parser.end()
    if session.exists(name):
        raise No("[ALREADYEXISTS] There is one of this name")
    if not use and name in session.special_names():
        use = SPECIAL_USES[name]
    session.create([*_missing_parents(session, name), name], use)
    return f"[MAILBOXID (F{session.mailbox_id(session.mailbox(name)).hex()})] CREATE completed"


def _missing_parents(session: Session, name: str) -> list[str]:
    """Return the names above this one that no mailbox has (sections 6.3.4 and 6.3.6)."""
    levels = name.split("/")
    parents = ["/".join(levels[:depth]) for depth in range(1, len(levels))]
    return [parent for parent in parents if not session.exists(parent)]


def _new_name(name: str) -> str:
    try:
        return mailbox_name(canonical(name))
    except DataError:
        raise No("[CANNOT] No mailbox can have this name") from None


def _special_use(flag: str) -> str:
    for use in SPECIAL_USES.values():
        if use.lower() == flag.lower():
            return use
    raise No("[USEATTR] No such special use")


@verb(LOGGED_IN)
def delete(session: Session, parser: Parser) -> str:
    parser.space()
    name = canonical(parser.mailbox())
    parser.end()
    if name == "INBOX":
        raise No("[CANNOT] INBOX cannot be deleted")
    found = session.db.execute("SELECT key, id FROM mailbox WHERE name = ?", (name,)).fetchone()
    if not found:
        raise No("[NONEXISTENT] No such mailbox")
    key, mailbox_id = found
    if session.selected and session.selected.key == key:
        session.selected = None
    with schema.writing(session.db):
        ids = b"".join(one for (one,) in session.db.execute("SELECT id FROM message WHERE mailbox = ?", (key,)))
        session.change([{"do": "delete", "mailbox": mailbox_id.hex(), "ids": ids.hex()}])
    return "DELETE completed"


@verb(LOGGED_IN)
def rename(session: Session, parser: Parser) -> str:
    parser.space()
    old = canonical(parser.mailbox())
    parser.space()
    new = _new_name(parser.mailbox().removesuffix("/"))
    parser.end()
    if session.exists(new):
        raise No("[ALREADYEXISTS] There is one of that name")
    if old == "INBOX":
        return _empty_inbox(session, new)
    session.mailbox(old)  # one for a special use, which LIST shows, is made
    named = session.db.execute("SELECT name, id FROM mailbox WHERE name IS NOT NULL")
    there = {name: mailbox_id.hex() for name, mailbox_id in named}
    if new.startswith(old + "/"):
        raise No("[CANNOT] A mailbox cannot be below itself")
    moved = {name: new + name[len(old) :] for name in there if name == old or name.startswith(old + "/")}
    if any(name in there for name in moved.values()):
        raise No("[ALREADYEXISTS] There is one of that name below it")
    with schema.writing(session.db):
        session.create(_missing_parents(session, new))
        session.change([{"do": "rename", "mailbox": there[name], "name": target} for name, target in moved.items()])
    return "RENAME completed"


def _empty_inbox(session: Session, name: str) -> str:
    """RENAME of INBOX moves its messages to a new mailbox, and leaves it empty (section 6.3.6)."""
    with schema.writing(session.db):
        session.create([*_missing_parents(session, name), name])
        inbox = session.mailbox("INBOX")
        ids = [one for (one,) in session.db.execute("SELECT id FROM message WHERE mailbox = ? ORDER BY uid", (inbox,))]
        target = session.mailbox_id(session.mailbox(name)).hex()
        session.change_messages([{"do": "move", "mailbox": target}], ids)
    return "RENAME completed"


@verb(LOGGED_IN)
def subscribe(session: Session, parser: Parser) -> str:
    return _subscribe(session, parser, "subscribe")


@verb(LOGGED_IN)
def unsubscribe(session: Session, parser: Parser) -> str:
    return _subscribe(session, parser, "unsubscribe")


def _subscribe(session: Session, parser: Parser, do: str) -> str:
    """Subscriptions are names: they outlast the mailbox, which may come back (section 6.3.7)."""
    parser.space()
    name = _new_name(parser.mailbox().removesuffix("/"))
    parser.end()
    if do == "subscribe":
        session.mailbox(name)  # what nobody has is a typing error
    (now,) = session.db.execute("SELECT count(*) FROM subscription WHERE name = ? AND view", (name,)).fetchone()
    if bool(now) != (do == "subscribe"):
        session.change([{"do": do, "name": name}])
    return f"{do.upper()} completed"


@verb(LOGGED_IN)
def list_(session: Session, parser: Parser) -> str:
    for answer, status_of in listing.list_(session, parser):
        session.untagged(answer)
        if status_of:
            session.untagged(status_answer(session, *status_of))
    return "LIST completed"


@verb(LOGGED_IN)
def lsub(session: Session, parser: Parser) -> str:
    for answer in listing.lsub(session, parser):
        session.untagged(answer)
    return "LSUB completed"


@verb(LOGGED_IN)
def status(session: Session, parser: Parser) -> str:
    parser.space()
    name = canonical(parser.mailbox())
    parser.space()
    items = parse_items(parser)
    parser.end()
    session.untagged(status_answer(session, name, items))
    return "STATUS completed"


# APPEND


@verb(LOGGED_IN)
def append(session: Session, parser: Parser) -> str:
    """Append one message, or several of which all or none get there (RFC 3502)."""
    parser.space()
    name = parser.mailbox()
    rows, literals = [], []
    while parser.at(b" "):
        row, octets = _message(parser)
        rows.append(row)
        literals.append(octets)
    parser.end()
    if not rows:
        raise BadCommand("Nothing to append")
    mailbox_id = session.target(name).hex()
    session.change([{**row, "mailbox": mailbox_id} for row in rows], b"".join(literals))
    return _appended(session, mailbox_id, rows, literals)


def _message(parser: Parser) -> tuple[dict[str, object], bytes]:
    """Read flags, date and octets of a message; return them as a small change that lacks its mailbox."""
    flags = []
    if parser.peek() == b"(":
        flags = settable_flags(parser.flags())
        parser.space()
    date = int(time.time())
    if parser.peek() == b'"':
        date = parser.date_time()
        parser.space()
    if parser.at(b"UTF8 ("):  # RFC 6855 section 4
        octets = parser.string()
        parser.expect(b")")
    else:
        octets = parser.string()
    if not octets:
        raise No("An empty message is none")
    nonce = os.urandom(16).hex()
    return {"do": "append", "flags": flags, "date": date, "size": len(octets), "nonce": nonce}, octets


def _appended(session: Session, mailbox_id: str, rows: list[dict[str, object]], literals: list[bytes]) -> str:
    """Return the OK that says which UIDs the messages have got (RFC 4315 section 3)."""
    query = "SELECT uid FROM message WHERE id = ? AND mailbox = ?"
    key, uidvalidity = session.db.execute(
        "SELECT key, uidvalidity FROM mailbox WHERE id = ?", (bytes.fromhex(mailbox_id),)
    ).fetchone()
    uids: list[int] = []
    for row, octets in zip(rows, literals, strict=True):
        message_id = append_id(bytes.fromhex(str(row["nonce"])), with_crlf(octets))
        found = session.db.execute(query, (message_id, key)).fetchone()
        uids += found or ()
    code = f"[APPENDUID {uidvalidity} {uid_set(uids).decode()}] " if len(uids) == len(rows) else ""
    return f"{code}APPEND completed"

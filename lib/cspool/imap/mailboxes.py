"""The verbs that name a mailbox, and those that leave it (RFC 9051 sections 6.3, 6.4.1, 6.4.2)."""

from ..database import schema
from ..errors import DataError
from ..form import SPECIAL_USES, canonical, mailbox_name
from . import listing
from .grammar import CONDSTORE, QRESYNC, REV2, BadCommand, No, Parser, SequenceSet
from .messages import expunge_deleted
from .selected import SYSTEM_FLAGS, Selected
from .session import Session
from .sets import uid_set
from .status import parse_items, status_answer
from .verbs import LOGGED_IN, SELECTED, verb

# SELECT


@verb(LOGGED_IN)
def select(session: Session, parser: Parser) -> str:
    """Section 6.3.2."""
    return _select(session, parser, read_only=False)


@verb(LOGGED_IN)
def examine(session: Session, parser: Parser) -> str:
    """Section 6.3.3."""
    return _select(session, parser, read_only=True)


def _select(session: Session, parser: Parser, read_only: bool) -> str:
    parser.space()
    name = parser.mailbox()
    resync = _Resync()
    if parser.at(b" "):
        parser.parenthesized(lambda: resync.parse(session, parser))
    parser.end()
    if session.selected:
        session.selected = None  # even if this SELECT fails (section 6.3.2)
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
    """The parameters of SELECT: CONDSTORE (RFC 7162 section 3.1.8), and QRESYNC with the client's state (3.2.5)."""

    def __init__(self) -> None:
        self.uidvalidity = self.modseq = 0  # of QRESYNC; a MODSEQ of 0 means that it was not given
        self.known: SequenceSet = [(1, None)]  # UIDs

    def parse(self, session: Session, parser: Parser) -> None:
        """Read one parameter, inside the parentheses. Raises BadCommand."""
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
            # Sequence numbers and their UIDs: they could only make the answer shorter.
            parser.sequence_set()
            parser.space()
            parser.sequence_set()
            parser.expect(b")")
        parser.expect(b")")

    def answer(self, session: Session, selected: Selected) -> None:
        """Send expunges and flags since the client's MODSEQ, if its UIDVALIDITY is still that of this mailbox."""
        if not self.modseq or self.uidvalidity != selected.mailbox("uidvalidity"):
            return
        ranges = selected.past_ranges(self.known)
        gone = selected.gone_since(self.modseq, ranges)
        if gone:
            session.untagged(b"VANISHED (EARLIER) " + uid_set(gone))
        for number, uid, flags, modseq in selected.rows(ranges, "message.flags, message.modseq"):
            if modseq > self.modseq:
                session.untagged(selected.flags_answer(number - 1, uid, flags, modseq, with_uid=True))


@verb((SELECTED,))
def close(session: Session, parser: Parser) -> str:
    """Section 6.4.1."""
    parser.end()
    selected = session.selected
    if selected and not selected.read_only:
        expunge_deleted(session, selected, None)
    session.selected = None
    return "CLOSE completed"


@verb((SELECTED,))
def unselect(session: Session, parser: Parser) -> str:
    """Section 6.4.2."""
    parser.end()
    session.selected = None
    return "UNSELECT completed"


# CREATE, DELETE, RENAME


@verb(LOGGED_IN)
def create(session: Session, parser: Parser) -> str:
    """Section 6.3.4, with a special use if the client gives one (RFC 6154 section 3)."""
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
    """Return the names above this one that no mailbox has, to be created first (sections 6.3.4 and 6.3.6)."""
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
    """Section 6.3.5. Mailboxes below it stay."""
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
    """Section 6.3.6. Mailboxes below it are renamed too."""
    parser.space()
    old = canonical(parser.mailbox())
    parser.space()
    new = _new_name(parser.mailbox().removesuffix("/"))
    parser.end()
    if session.exists(new):
        raise No("[ALREADYEXISTS] There is one of that name")
    if old == "INBOX":
        return _empty_inbox(session, new)
    session.mailbox(old)  # LIST shows special-use mailboxes that do not exist yet: create one now
    named = session.db.execute("SELECT name, id FROM mailbox WHERE name IS NOT NULL")
    ids = {name: mailbox_id.hex() for name, mailbox_id in named}
    if new.startswith(old + "/"):
        raise No("[CANNOT] A mailbox cannot be below itself")
    moved = {name: new + name[len(old) :] for name in ids if name == old or name.startswith(old + "/")}
    if any(name in ids for name in moved.values()):
        raise No("[ALREADYEXISTS] There is one of that name below it")
    with schema.writing(session.db):
        session.create(_missing_parents(session, new))
        session.change([{"do": "rename", "mailbox": ids[name], "name": target} for name, target in moved.items()])
    return "RENAME completed"


def _empty_inbox(session: Session, name: str) -> str:
    """Do RENAME of INBOX: its messages move to a new mailbox, and INBOX stays, empty (section 6.3.6)."""
    with schema.writing(session.db):
        session.create([*_missing_parents(session, name), name])
        inbox = session.mailbox("INBOX")
        ids = [one for (one,) in session.db.execute("SELECT id FROM message WHERE mailbox = ? ORDER BY uid", (inbox,))]
        target = session.mailbox_id(session.mailbox(name)).hex()
        session.change_messages([{"do": "move", "mailbox": target}], ids)
    return "RENAME completed"


# SUBSCRIBE, LIST, STATUS


@verb(LOGGED_IN)
def subscribe(session: Session, parser: Parser) -> str:
    """Section 6.3.7."""
    return _subscribe(session, parser, "subscribe")


@verb(LOGGED_IN)
def unsubscribe(session: Session, parser: Parser) -> str:
    """Section 6.3.8."""
    return _subscribe(session, parser, "unsubscribe")


def _subscribe(session: Session, parser: Parser, do: str) -> str:
    """Subscribe to a name or unsubscribe from it: a subscription outlasts its mailbox (section 6.3.7)."""
    parser.space()
    name = _new_name(parser.mailbox().removesuffix("/"))
    parser.end()
    if do == "subscribe" or name in session.special_names():  # which are subscribed until they are created, too
        session.mailbox(name)  # refuse a name that no mailbox has: it is mistyped
    (now,) = session.db.execute("SELECT count(*) FROM subscription WHERE name = ? AND view", (name,)).fetchone()
    if bool(now) != (do == "subscribe"):
        session.change([{"do": do, "name": name}])
    return f"{do.upper()} completed"


@verb(LOGGED_IN)
def list_(session: Session, parser: Parser) -> str:
    """Section 6.3.9."""
    for answer, name, status_items in listing.list_answers(session, parser):
        session.untagged(answer)
        if status_items:
            session.untagged(status_answer(session, name, status_items))
    return "LIST completed"


@verb(LOGGED_IN)
def lsub(session: Session, parser: Parser) -> str:
    """RFC 3501 section 6.3.9."""
    for answer in listing.lsub_answers(session, parser):
        session.untagged(answer)
    return "LSUB completed"


@verb(LOGGED_IN)
def status(session: Session, parser: Parser) -> str:
    """Section 6.3.11."""
    parser.space()
    name = canonical(parser.mailbox())
    parser.space()
    items = parse_items(session, parser)
    parser.end()
    session.untagged(status_answer(session, name, items))
    return "STATUS completed"

"""METADATA: what clients note of a mailbox, or of the server, for each other (RFC 5464)."""

from ..command import Fields
from ..database import schema
from ..form import VALUE_MAX, canonical
from ..form import entry as check_entry
from ..mail.envelope import nstring
from .grammar import BadCommand, No, Parser, astring
from .session import Session
from .verbs import LOGGED_IN, verb

ENTRIES_MAX = 1000  # of the server and all mailboxes
SERVER = 0  # stands for the key of a mailbox
# The entries of one mailbox whose names begin with these octets, and their values.
BELOW = "SELECT entry, view FROM metadata WHERE mailbox = ? AND view NOTNULL AND substr(entry, 1, ?) = ? ORDER BY entry"

Values = dict[str, bytes | None]


@verb(LOGGED_IN)
def getmetadata(session: Session, parser: Parser) -> str:
    """Section 4.2. An entry without a value is NIL, unless those below it were asked for too."""
    parser.space()
    most, depth = _options(parser)
    mailbox, name = _mailbox(session, parser)
    parser.space()
    asked = parser.parenthesized(lambda: _entry(parser)) if parser.peek() == b"(" else [_entry(parser)]
    parser.end()
    values: Values = {}
    with schema.reading(session.db):
        for entry in asked:
            values.update(_values(session, mailbox, entry, depth))
    sizes = [len(value) for value in values.values() if value is not None]
    shown = {entry: value for entry, value in values.items() if value is None or len(value) <= most}
    if shown:
        pairs = b" ".join(b"%b %b" % (astring(entry.encode()), _value(value)) for entry, value in shown.items())
        session.untagged(b"METADATA %b (%b)" % (session.mailbox_name(name), pairs))
    longest = max(sizes, default=0)
    return (f"[METADATA LONGENTRIES {longest}] " if longest > most else "") + "GETMETADATA completed"


def _options(parser: Parser) -> tuple[int, float]:
    """Read MAXSIZE and DEPTH, and the space behind them, if they come next; return both."""
    found: dict[bytes, float] = {b"MAXSIZE": VALUE_MAX, b"DEPTH": 0}

    def option() -> None:
        name = parser.atom()
        parser.space()
        if name == b"DEPTH" and parser.at(b"INFINITY"):
            found[name] = float("inf")
        elif name in found:
            found[name] = parser.number()
        if name not in found or (name == b"DEPTH" and found[name] not in (0, 1, float("inf"))):
            raise BadCommand("MAXSIZE with a number, or DEPTH with 0, 1 or infinity")

    if parser.peek() == b"(":
        parser.parenthesized(option)
        parser.space()
    return int(found[b"MAXSIZE"]), found[b"DEPTH"]


def _values(session: Session, mailbox: int, asked: str, depth: float) -> Values:
    """Return an entry, and those at most `depth` levels below it, with their values."""
    if not depth:
        query = "SELECT view FROM metadata WHERE mailbox = ? AND entry = ?"
        return {asked: (session.db.execute(query, (mailbox, asked)).fetchone() or (None,))[0]}
    found: Values = {}
    for prefix in (asked, f"{asked}/"):
        for entry, value in session.db.execute(BELOW, (mailbox, len(prefix), prefix)):
            below = entry[len(asked) :]
            if not below or (below.startswith("/") and below.count("/") <= depth):
                found[entry] = value
    return found


def _value(value: bytes | None) -> bytes:
    """Return a value as IMAP sends it; one with NUL is a literal8."""
    return b"~{%d}\r\n%b" % (len(value), value) if value and b"\0" in value else nstring(value)


def _mailbox(session: Session, parser: Parser) -> tuple[int, str]:
    """Read the name of a mailbox, or "" for the server; return its key, and its name."""
    name = canonical(parser.mailbox())
    return (session.mailbox(name) if name else SERVER), name


def _entry(parser: Parser) -> str:
    """Read the name of an entry, or of what is above entries."""
    name = parser.astring().decode("latin-1").lower()
    if name in ("/private", "/shared"):
        return name
    return _checked(name)


def _checked(name: str) -> str:
    try:
        return check_entry(name)
    except ValueError:
        raise BadCommand("An entry begins with /private/ or /shared/ (RFC 5464 section 3.2)") from None


@verb(LOGGED_IN)
def setmetadata(session: Session, parser: Parser) -> str:
    """Section 4.3. All entries are set, or none."""
    parser.space()
    mailbox, _ = _mailbox(session, parser)
    parser.space()
    rows: list[Fields] = []

    def pair() -> None:
        row: Fields = {"do": "set-metadata", "entry": _checked(parser.astring().decode("latin-1").lower())}
        parser.space()
        value = parser.nil_or_string()
        if value is not None and len(value) > VALUE_MAX:
            raise No(f"[METADATA MAXSIZE {VALUE_MAX}] A value is too long")
        rows.append(row if value is None else {**row, "value": value.hex()})

    parser.parenthesized(pair)
    parser.end()
    if not rows:
        raise BadCommand("No entry is given")
    where = {"mailbox": session.mailbox_id(mailbox).hex()} if mailbox else {}
    with schema.writing(session.db):
        there = session.db.execute("SELECT mailbox, entry FROM metadata WHERE view NOTNULL").fetchall()
        if len({*there, *((mailbox, row["entry"]) for row in rows if "value" in row)}) > ENTRIES_MAX:
            raise No(f"[METADATA TOOMANY] No more than {ENTRIES_MAX} entries")
        session.change([{**row, **where} for row in rows])
    return "SETMETADATA completed"

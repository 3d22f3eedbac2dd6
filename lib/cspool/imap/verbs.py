"""The verbs of RFC 3501 section 6, one function each, found by name in VERBS.

A verb reads its arguments with the parser, does its work, writes its untagged
answers, and returns the text of its OK; it raises No or BadCommand instead.
"""

import binascii
import os
import time
from collections.abc import Callable
from typing import NamedTuple

from .. import keys
from ..command import append_id, copy_id, is_flag
from ..envelope import string
from ..message import with_crlf
from . import names
from .fetch import Fetch
from .grammar import BadCommand, Parser
from .search import Search
from .session import SYSTEM_FLAGS, No, Selected, Session

CAPABILITY = "IMAP4rev1 SASL-IR UIDPLUS"
APPEND_MAX = 50 << 20  # octets: with padding still a frame
FAILURES_MAX = 3  # of logins, before BYE
FAILURE_DELAY = 2.0  # seconds, times the failures so far

NOT_AUTHENTICATED, AUTHENTICATED, SELECTED = "not authenticated", "authenticated", "selected"
ANY = (NOT_AUTHENTICATED, AUTHENTICATED, SELECTED)
LOGGED_IN = (AUTHENTICATED, SELECTED)


class Verb(NamedTuple):
    """What does a command, in which states, and whether the client may hear of expunges at its end."""

    do: Callable[[Session, Parser], str]
    states: tuple[str, ...]
    expunges: bool


VERBS: dict[bytes, Verb] = {}

Do = Callable[[Session, Parser], str]


def verb(states: tuple[str, ...], expunges: bool = True) -> Callable[[Do], Do]:
    """Put a function into VERBS, under its name (list_ is LIST, uid_fetch is UID FETCH)."""

    def register(do: Do) -> Do:
        VERBS[do.__name__.strip("_").upper().replace("_", " ").encode()] = Verb(do, states, expunges)
        return do

    return register


# Any state (section 6.1)


@verb(ANY)
def capability(session: Session, parser: Parser) -> str:
    parser.end()
    session.untagged(f"CAPABILITY {capabilities(session)}".encode())
    return "CAPABILITY completed"


def capabilities(session: Session) -> str:
    """Return the capabilities that hold now."""
    if session.authenticated:
        return CAPABILITY
    return CAPABILITY + (" AUTH=PLAIN" if os.path.exists(session.password_file) else " LOGINDISABLED")


@verb(ANY)
def noop(session: Session, parser: Parser) -> str:
    parser.end()
    return "NOOP completed"


@verb(ANY)
def logout(session: Session, parser: Parser) -> str:
    parser.end()
    session.untagged(b"BYE Logging out")
    session.ended = True
    return "LOGOUT completed"


# Not authenticated (section 6.2)


@verb((NOT_AUTHENTICATED,))
def login(session: Session, parser: Parser) -> str:
    parser.space()
    parser.astring()  # the home is one user's: any name will do
    parser.space()
    password = parser.astring()
    parser.end()
    return _authenticate(session, password)


@verb((NOT_AUTHENTICATED,))
def authenticate(session: Session, parser: Parser) -> str:
    """SASL PLAIN (RFC 4616), the first answer with the command if the client likes (RFC 4959)."""
    parser.space()
    mechanism = parser.atom()
    if mechanism != b"PLAIN":
        raise No("[CANNOT] Only PLAIN")
    if parser.at(b" "):
        answer = parser.line[parser.position :]
    else:
        session.connection.write(b"+ \r\n")
        session.connection.flush()
        answer = session.connection.read_line() or b"*"
    if answer == b"*":
        raise BadCommand("Cancelled")
    try:
        _, _, password = binascii.a2b_base64(answer).split(b"\0")
    except ValueError:
        raise BadCommand("Not the answer that PLAIN asks for") from None
    return _authenticate(session, password)


def _authenticate(session: Session, password: bytes) -> str:
    try:
        with open(session.password_file, encoding="ascii") as file:
            hashed = file.readline().strip()
    except FileNotFoundError:
        raise No("[PRIVACYREQUIRED] No password is set: cspool-imapd --set-password") from None
    if not keys.check_password(hashed, password):
        session.failures += 1
        time.sleep(FAILURE_DELAY * session.failures)
        session.ended = session.failures >= FAILURES_MAX
        raise No("[AUTHENTICATIONFAILED] Wrong password")
    session.authenticated = True
    return f"[CAPABILITY {capabilities(session)}] Logged in"


@verb((NOT_AUTHENTICATED,))
def starttls(session: Session, parser: Parser) -> str:
    parser.end()
    raise BadCommand("No TLS here: this server is for localhost")


# Authenticated (section 6.3)


@verb(LOGGED_IN)
def select(session: Session, parser: Parser) -> str:
    return _select(session, parser, read_only=False)


@verb(LOGGED_IN)
def examine(session: Session, parser: Parser) -> str:
    return _select(session, parser, read_only=True)


def _select(session: Session, parser: Parser, read_only: bool) -> str:
    parser.space()
    name = parser.mailbox()
    parser.end()
    session.selected = None  # also when this fails (section 6.3.1)
    key = session.mailbox(name)
    selected = Selected(session.db, key, read_only)
    row = "SELECT uidvalidity, uidnext FROM mailbox WHERE key = ?"
    uidvalidity, uidnext = session.db.execute(row, (key,)).fetchone()
    flags = f"{SYSTEM_FLAGS} {selected.keywords()}".rstrip()
    session.untagged(f"FLAGS ({flags})".encode())
    session.untagged(b"%d EXISTS" % len(selected.uids))
    session.untagged(b"%d RECENT" % len(selected.recent))
    unseen = selected.first_unseen()
    if unseen:
        session.untagged(b"OK [UNSEEN %d] First unseen message" % unseen)
    permanent = "" if read_only else rf"{flags} \*"
    session.untagged(f"OK [PERMANENTFLAGS ({permanent})] Flags that are kept".encode())
    session.untagged(b"OK [UIDVALIDITY %d] UIDs are valid" % uidvalidity)
    # A message may have come since the snapshot; the client would miss it below a higher UIDNEXT.
    session.untagged(b"OK [UIDNEXT %d] Next UID" % (selected.known + 1 if selected.uids else uidnext))
    session.selected = selected
    return "[READ-ONLY] EXAMINE completed" if read_only else "[READ-WRITE] SELECT completed"


@verb(LOGGED_IN)
def create(session: Session, parser: Parser) -> str:
    raise No("[CANNOT] Mailboxes are made by deliveries")


@verb(LOGGED_IN)
def delete(session: Session, parser: Parser) -> str:
    raise No("[CANNOT] Mailboxes cannot be deleted")


@verb(LOGGED_IN)
def rename(session: Session, parser: Parser) -> str:
    raise No("[CANNOT] Mailboxes cannot be renamed")


@verb(LOGGED_IN)
def subscribe(session: Session, parser: Parser) -> str:
    parser.space()
    session.mailbox(parser.mailbox())
    parser.end()
    return "SUBSCRIBE completed: every mailbox is subscribed"


@verb(LOGGED_IN)
def unsubscribe(session: Session, parser: Parser) -> str:
    raise No("[CANNOT] Every mailbox is subscribed")


@verb(LOGGED_IN)
def list_(session: Session, parser: Parser) -> str:
    return _list(session, parser, b"LIST")


@verb(LOGGED_IN)
def lsub(session: Session, parser: Parser) -> str:
    return _list(session, parser, b"LSUB")


def _list(session: Session, parser: Parser, answer: bytes) -> str:
    parser.space()
    reference = parser.mailbox()
    parser.space()
    wanted = parser.list_mailbox()
    parser.end()
    if not wanted:
        # The hierarchy delimiter, and the root of the reference (section 6.3.8).
        session.untagged(b'%b (\\Noselect) "/" ""' % answer)
        return f"{answer.decode()} completed"
    there = {name for (name,) in session.db.execute("SELECT name FROM mailbox WHERE name IS NOT NULL")}
    parents = {name[:slash] for name in there for slash in _slashes(name)}
    for name in sorted(there | parents, key=lambda name: (name != "INBOX", name)):
        if names.matches(reference + wanted, name):
            attributes = ([] if name in there else [b"\\Noselect"]) + (
                [b"\\HasChildren"] if name in parents else [b"\\HasNoChildren"]
            )
            session.untagged(b'%b (%b) "/" %b' % (answer, b" ".join(attributes), string(names.encode(name))))
    return f"{answer.decode()} completed"


def _slashes(name: str) -> list[int]:
    return [place for place, letter in enumerate(name) if letter == "/"]


STATUS = {
    b"MESSAGES": "SELECT count(*) FROM message WHERE mailbox = ?",
    b"RECENT": "SELECT count(*) FROM message JOIN mailbox ON mailbox.key = message.mailbox"
    " WHERE mailbox = ? AND uid >= recent",
    b"UIDNEXT": "SELECT uidnext FROM mailbox WHERE key = ?",
    b"UIDVALIDITY": "SELECT uidvalidity FROM mailbox WHERE key = ?",
    b"UNSEEN": "SELECT count(*) FROM message WHERE mailbox = ? AND instr(flags, '\\Seen') = 0",
}


@verb(LOGGED_IN)
def status(session: Session, parser: Parser) -> str:
    parser.space()
    name = parser.mailbox()
    parser.expect(b" (")
    items = [parser.atom()]
    while parser.at(b" "):
        items.append(parser.atom())
    parser.expect(b")")
    parser.end()
    if not all(item in STATUS for item in items):
        raise BadCommand("Unknown STATUS item")
    key = session.mailbox(name)
    session.db.execute("BEGIN")
    try:
        values = [session.db.execute(STATUS[item], (key,)).fetchone()[0] for item in items]
    finally:
        session.db.execute("COMMIT")
    pairs = b" ".join(b"%b %d" % pair for pair in zip(items, values, strict=True))
    session.untagged(b"STATUS %b (%b)" % (string(names.encode(name)), pairs))
    return "STATUS completed"


@verb(LOGGED_IN)
def append(session: Session, parser: Parser) -> str:
    parser.space()
    name = parser.mailbox()
    parser.space()
    flags = []
    if parser.peek() == b"(":
        flags = _settable(parser.flags())
        parser.space()
    date = int(time.time())
    if parser.peek() == b'"':
        date = parser.date_time()
        parser.space()
    octets = parser.string()
    parser.end()
    if not octets:
        raise No("An empty message is none")
    mailbox_id, nonce = _target(session, name), os.urandom(16)
    row = {
        "do": "append",
        "mailbox": mailbox_id.hex(),
        "flags": flags,
        "date": date,
        "size": len(octets),
        "nonce": nonce.hex(),
    }
    session.change([row], octets)
    return _appended(session, name, append_id(nonce, with_crlf(octets)))


def _appended(session: Session, name: str, message_id: bytes) -> str:
    """Return the OK that says which UID a message has got (RFC 4315 section 3)."""
    where = (
        "SELECT uidvalidity, uid FROM message JOIN mailbox ON mailbox.key = message.mailbox"
        " WHERE message.id = ? AND name = ?"
    )
    found = session.db.execute(where, (message_id, session.mailbox_name(name))).fetchone()
    code = f"[APPENDUID {found[0]} {found[1]}] " if found else ""
    return f"{code}APPEND completed"


def _target(session: Session, name: str) -> bytes:
    """Return the id of the mailbox that APPEND or COPY puts into; TRYCREATE when there is none (section 7.1)."""
    try:
        return session.mailbox_id(name)
    except No:
        raise No("[TRYCREATE] No such mailbox") from None


# Selected (section 6.4)


@verb((SELECTED,))
def check(session: Session, parser: Parser) -> str:
    parser.end()
    return "CHECK completed"


@verb((SELECTED,))
def close(session: Session, parser: Parser) -> str:
    parser.end()
    selected = _selected(session)
    if not selected.read_only:
        _expunge(session, selected, None)
    session.selected = None
    return "CLOSE completed"


@verb((SELECTED,))
def expunge(session: Session, parser: Parser) -> str:
    parser.end()
    _expunge(session, _writable(session), None)
    return "EXPUNGE completed"


@verb((SELECTED,))
def uid_expunge(session: Session, parser: Parser) -> str:
    """Expunge only some of what is marked \\Deleted (RFC 4315 section 2.1)."""
    parser.space()
    selected = _writable(session)
    ranges = selected.ranges(parser.sequence_set(), by_uid=True)
    parser.end()
    _expunge(session, selected, ranges)
    return "EXPUNGE completed"


def _expunge(session: Session, selected: Selected, ranges: list[tuple[int, int]] | None) -> None:
    rows = selected.rows([(1, selected.known)] if ranges is None else ranges, "message.id, message.flags")
    deleted = [message_id for _, _, message_id, flags in rows if "\\Deleted" in flags.split()]
    session.change_messages([{"do": "expunge"}], deleted)


@verb((SELECTED,), expunges=False)
def search(session: Session, parser: Parser) -> str:
    return _search(session, parser, by_uid=False)


@verb((SELECTED,))
def uid_search(session: Session, parser: Parser) -> str:
    return _search(session, parser, by_uid=True)


def _search(session: Session, parser: Parser, by_uid: bool) -> str:
    parser.space()
    one = Search(_selected(session))
    key = one.parse(parser)
    parser.end()
    found = one.run(session.db, key)
    numbers = "".join(f" {candidate.uid if by_uid else candidate.number}" for candidate in found)
    session.untagged(f"SEARCH{numbers}".encode())
    return "SEARCH completed"


@verb((SELECTED,), expunges=False)
def fetch(session: Session, parser: Parser) -> str:
    return _fetch(session, parser, by_uid=False)


@verb((SELECTED,))
def uid_fetch(session: Session, parser: Parser) -> str:
    return _fetch(session, parser, by_uid=True)


def _fetch(session: Session, parser: Parser, by_uid: bool) -> str:
    parser.space()
    ranges = _selected(session).ranges(parser.sequence_set(), by_uid)
    parser.space()
    one = Fetch(session, by_uid)
    one.parse(parser)
    parser.end()
    one.run(session, ranges)
    return "FETCH completed"


@verb((SELECTED,), expunges=False)
def store(session: Session, parser: Parser) -> str:
    return _store(session, parser, by_uid=False)


@verb((SELECTED,))
def uid_store(session: Session, parser: Parser) -> str:
    return _store(session, parser, by_uid=True)


def _store(session: Session, parser: Parser, by_uid: bool) -> str:
    parser.space()
    selected = _writable(session)
    ranges = selected.ranges(parser.sequence_set(), by_uid)
    parser.space()
    sign = parser.peek() if parser.peek() in (b"+", b"-") else b""
    parser.expect(sign + b"FLAGS")
    silent = parser.at(b".SILENT")
    parser.space()
    flags = _settable(parser.flags())
    parser.end()
    _set_flags(session, selected, ranges, sign, flags)
    told = {uid: flags_now for _, uid, flags_now in selected.rows(ranges, "message.flags")}
    selected.told.update(told)
    if not silent:
        for uid, flags_now in told.items():
            place = selected.place(uid)
            assert place is not None
            known = b"UID %d " % uid if by_uid else b""
            session.untagged(b"%d FETCH (%bFLAGS %b)" % (place + 1, known, selected.flags(uid, flags_now)))
    return "STORE completed"


def _set_flags(
    session: Session, selected: Selected, ranges: list[tuple[int, int]], sign: bytes, flags: list[str]
) -> None:
    """Change what differs; messages that need the same change share one."""
    wanted = {flag.lower(): flag for flag in flags}
    same: dict[tuple[tuple[str, ...], tuple[str, ...]], list[bytes]] = {}
    for _, _, message_id, flags_now in selected.rows(ranges, "message.id, message.flags"):
        now = {flag.lower(): flag for flag in flags_now.split()}
        added = tuple(flag for name, flag in wanted.items() if name not in now) if sign != b"-" else ()
        removed = {b"+": (), b"-": tuple(now.keys() & wanted.keys()), b"": tuple(now.keys() - wanted.keys())}[sign]
        if added or removed:
            same.setdefault((added, tuple(sorted(now[name] for name in removed))), []).append(message_id)
    for (added, removed), ids in same.items():
        rows = [{"do": "remove-flags", "flags": [*removed]}] if removed else []
        rows += [{"do": "add-flags", "flags": [*added]}] if added else []
        session.change_messages(rows, ids)


def _settable(flags: list[str]) -> list[str]:
    """Return flags without \\Recent, which nobody can set; raise No for one that is not kept."""
    system = {name.lower(): name for name in SYSTEM_FLAGS.split()}
    found = [system.get(flag.lower(), flag) for flag in flags if flag.lower() != "\\recent"]
    for flag in found:
        if not is_flag(flag):
            raise No("[CANNOT] No such flag")
    return found


@verb((SELECTED,))
def copy(session: Session, parser: Parser) -> str:
    return _copy(session, parser, by_uid=False)


@verb((SELECTED,))
def uid_copy(session: Session, parser: Parser) -> str:
    return _copy(session, parser, by_uid=True)


def _copy(session: Session, parser: Parser, by_uid: bool) -> str:
    parser.space()
    selected = _selected(session)
    ranges = selected.ranges(parser.sequence_set(), by_uid)
    parser.space()
    name = parser.mailbox()
    parser.end()
    mailbox_id, nonce = _target(session, name), os.urandom(16)
    sources = [(uid, message_id) for _, uid, message_id in selected.rows(ranges, "message.id")]
    row = {"do": "copy", "mailbox": mailbox_id.hex(), "nonce": nonce.hex()}
    session.change_messages([row], [message_id for _, message_id in sources])
    return _copied(session, mailbox_id, [(uid, copy_id(nonce, message_id)) for uid, message_id in sources])


def _copied(session: Session, mailbox_id: bytes, copies: list[tuple[int, bytes]]) -> str:
    """Return the OK that says which UIDs the copies have got (RFC 4315 section 3)."""
    key, uidvalidity = session.db.execute("SELECT key, uidvalidity FROM mailbox WHERE id = ?", (mailbox_id,)).fetchone()
    query = "SELECT uid FROM message WHERE id = ? AND mailbox = ?"
    pairs = [(uid, session.db.execute(query, (copy, key)).fetchone()) for uid, copy in copies]
    there = [(uid, found[0]) for uid, found in pairs if found]
    if not there:
        return "COPY completed"
    sources, targets = (uid_set([pair[side] for pair in there]) for side in (0, 1))
    return f"[COPYUID {uidvalidity} {sources} {targets}] COPY completed"


def uid_set(uids: list[int]) -> str:
    """Return UIDs, in their order, as a uid-set: runs as ranges."""
    ranges: list[list[int]] = []
    for uid in uids:
        if ranges and uid == ranges[-1][1] + 1:
            ranges[-1][1] = uid
        else:
            ranges.append([uid, uid])
    return ",".join(str(first) if first == last else f"{first}:{last}" for first, last in ranges)


def _selected(session: Session) -> Selected:
    assert session.selected
    return session.selected


def _writable(session: Session) -> Selected:
    selected = _selected(session)
    if selected.read_only:
        raise No("[READ-ONLY] The mailbox is selected read-only")
    return selected

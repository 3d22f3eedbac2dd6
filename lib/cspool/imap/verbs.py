"""The table of verbs, and the verbs that name neither a mailbox nor a message (RFC 9051 sections 6.1 to 6.3).

A verb reads its arguments with the parser, does its work, writes its untagged
answers and returns the text of its OK. It raises No or BadCommand instead.
mailboxes.py and messages.py have the other verbs.
"""

import binascii
import time
from collections.abc import Callable
from typing import NamedTuple

from .. import __version__
from ..errors import TryAgain
from .entries import EntryChanges
from .grammar import CONDSTORE, METADATA, QRESYNC, REV2, UTF8, BadCommand, No, Parser
from .session import Session

APPEND_MAX = 50 << 20  # octets: sealed and padded, such a message still fits into a frame

# cspool-imapd(8) lists them with their RFCs.
CAPABILITIES = (
    "IMAP4rev1 IMAP4rev2 LITERAL+ SASL-IR ID ENABLE IDLE NAMESPACE UIDPLUS UNSELECT CHILDREN LIST-EXTENDED"
    " LIST-STATUS SPECIAL-USE CREATE-SPECIAL-USE MOVE CONDSTORE QRESYNC NOTIFY ESEARCH MULTISEARCH SEARCHRES WITHIN"
    " SORT SORT=DISPLAY ESORT THREAD=ORDEREDSUBJECT THREAD=REFERENCES I18NLEVEL=1 MULTIAPPEND REPLACE BINARY METADATA"
    f" UTF8=ACCEPT APPENDLIMIT={APPEND_MAX} QUOTA QUOTA=RES-STORAGE STATUS=SIZE SAVEDATE PREVIEW OBJECTID PARTIAL"
    " COMPRESS=DEFLATE"
)

FAILURES_MAX = 3  # failed logins, before the session ends
POLL = 0.3  # seconds between two looks at the database while a client idles

NOT_AUTHENTICATED, AUTHENTICATED, SELECTED = "not authenticated", "authenticated", "selected"
ANY = (NOT_AUTHENTICATED, AUTHENTICATED, SELECTED)
LOGGED_IN = (AUTHENTICATED, SELECTED)


class Verb(NamedTuple):
    """A command: the function that does it and returns the text of its OK, and when it may be given."""

    do: Callable[[Session, Parser], str]
    states: tuple[str, ...]
    expunges: bool  # whether the client may be told of expunges at its end


VERBS: dict[bytes, Verb] = {}  # by name in upper case, UID FETCH among them

Do = Callable[[Session, Parser], str]
DoNumbered = Callable[[Session, Parser, bool], str]  # the last argument is by_uid


def verb(states: tuple[str, ...], expunges: bool = True) -> Callable[[Do], Do]:
    """Return a decorator that registers a function under its name: list_ is LIST, uid_expunge is UID EXPUNGE."""

    def register(do: Do) -> Do:
        VERBS[do.__name__.strip("_").upper().replace("_", " ").encode()] = Verb(do, states, expunges)
        return do

    return register


def numbered_verb(expunges: bool) -> Callable[[DoNumbered], DoNumbered]:
    """Return a decorator that registers a function twice: for sequence numbers, and with UID for UIDs (section 6.4.9).

    `expunges` is for the first form: after FETCH, STORE and SEARCH sequence
    numbers must stay valid (section 7.5.1). After the second form the client
    is always told of expunges.
    """

    def register(do: DoNumbered) -> DoNumbered:
        name = do.__name__.upper().encode()
        VERBS[name] = Verb(lambda session, parser: do(session, parser, False), (SELECTED,), expunges)
        VERBS[b"UID " + name] = Verb(lambda session, parser: do(session, parser, True), (SELECTED,), True)
        return do

    return register


# Any state (section 6.1)


@verb(ANY)
def capability(session: Session, parser: Parser) -> str:
    """Section 6.1.1."""
    parser.end()
    session.untagged(f"CAPABILITY {capabilities(session)}".encode())
    return "CAPABILITY completed"


def capabilities(session: Session) -> str:
    """Return the capabilities that the client can use now, separated by spaces."""
    if session.authenticated:
        return CAPABILITIES
    return CAPABILITIES + (" AUTH=PLAIN" if session.passwords.are_set() else " LOGINDISABLED")


@verb(ANY)
def noop(session: Session, parser: Parser) -> str:
    """Section 6.1.2."""
    parser.end()
    return "NOOP completed"


@verb(ANY)
def logout(session: Session, parser: Parser) -> str:
    """Section 6.1.3."""
    parser.end()
    session.untagged(b"BYE Logging out")
    session.ended = True
    return "LOGOUT completed"


@verb(ANY)
def id_(session: Session, parser: Parser) -> str:
    """Send our name and version; the client's are read and ignored (RFC 2971)."""
    parser.space()
    if not parser.at(b"NIL"):
        parser.parenthesized(parser.nil_or_string)
    parser.end()
    session.untagged(f'ID ("name" "cspool" "version" "{__version__}")'.encode())
    return "ID completed"


@verb(LOGGED_IN)
def compress(session: Session, parser: Parser) -> str:
    """Deflate both directions, after the tagged OK, which is sent here (RFC 4978)."""
    parser.space()
    mechanism = parser.atom()
    parser.end()
    if mechanism != b"DEFLATE":
        raise No("[CANNOT] Only DEFLATE")
    if session.connection.compressed:
        raise No("[COMPRESSIONACTIVE] It is on already")
    session.connection.write(b"%b OK Deflating\r\n" % session.tag)
    session.connection.compress()
    return ""


# Not authenticated (section 6.2)


@verb((NOT_AUTHENTICATED,))
def login(session: Session, parser: Parser) -> str:
    """Section 6.2.3."""
    parser.space()
    parser.astring()  # any user name: a home belongs to one user
    parser.space()
    password = parser.astring()
    parser.end()
    return _authenticate(session, password)


@verb((NOT_AUTHENTICATED,))
def authenticate(session: Session, parser: Parser) -> str:
    """Section 6.2.2, with SASL PLAIN (RFC 4616). The client may send its response with the command (RFC 4959)."""
    parser.space()
    mechanism = parser.atom()
    if mechanism != b"PLAIN":
        raise No("[CANNOT] Only PLAIN")
    if parser.at(b" "):
        answer = parser.line[parser.offset :]
    else:
        session.connection.write(b"+ \r\n")
        session.connection.flush()
        answer = session.connection.read_line()
    if answer == b"*":
        raise BadCommand("Cancelled")
    try:
        _, _, password = binascii.a2b_base64(answer).split(b"\0")
    except ValueError:
        raise BadCommand("Not the answer that PLAIN asks for") from None
    return _authenticate(session, password)


def _authenticate(session: Session, password: bytes) -> str:
    if not session.passwords.are_set():
        raise No("[PRIVACYREQUIRED] No password is set: cspool-imapd --set-password")
    try:
        login = session.passwords.log_in(password, session.connection.sleep)
    except TryAgain as error:
        raise No(f"[UNAVAILABLE] {error}") from None
    if not login:
        session.failures += 1
        session.ended = session.failures >= FAILURES_MAX
        raise No("[AUTHENTICATIONFAILED] Wrong password")
    session.authenticate(login)
    return f"[CAPABILITY {capabilities(session)}] Logged in"


@verb((NOT_AUTHENTICATED,))
def starttls(session: Session, parser: Parser) -> str:
    """Section 6.2.1; always refused."""
    parser.end()
    raise BadCommand("TLS begins with the connection, if at all: cspool-imapd --tls")


# Authenticated (section 6.3)


@verb(LOGGED_IN)
def enable(session: Session, parser: Parser) -> str:
    """Enable extensions that change the answers; unknown ones are ignored (RFC 5161 section 3.1)."""
    wanted = []
    while parser.at(b" "):
        wanted.append(parser.atom().decode())
    parser.end()
    if not wanted:
        raise BadCommand("Nothing to enable")
    known = [name for name in wanted if name in (CONDSTORE, QRESYNC, UTF8, METADATA, REV2)]
    session.untagged(" ".join(["ENABLED", *known]).replace(REV2, "IMAP4rev2").encode())
    if {CONDSTORE, QRESYNC} & set(known):
        session.enable_condstore()  # RFC 7162 section 3.2.3
    if METADATA in known and METADATA not in session.enabled:
        session.entries = EntryChanges(session.db, session.mailbox_name)
    session.enabled.update(known)
    return "ENABLE completed"


@verb(LOGGED_IN)
def namespace(session: Session, parser: Parser) -> str:
    """Answer that all mailboxes are the user's own (RFC 2342)."""
    parser.end()
    session.untagged(b'NAMESPACE (("" "/")) NIL NIL')
    return "NAMESPACE completed"


@verb(LOGGED_IN)
def idle(session: Session, parser: Parser) -> str:
    """Send changes in the selected mailbox as they come, until the client sends DONE (RFC 2177)."""
    parser.end()
    session.connection.write(b"+ idling\r\n")
    if not watch(session, expunges=True):
        session.untagged(b"BYE Idle for too long")
        session.ended = True
        return "IDLE ended"
    if session.connection.read_line().upper() != b"DONE":
        raise BadCommand("Expected DONE")
    return "IDLE completed"


def watch(session: Session, expunges: bool) -> bool:
    """Send changes as they come, until the client sends something; return False if it is silent for too long."""
    connection = session.connection
    version = None
    ends = time.monotonic() + connection.timeout
    while True:
        # SQLite's counter of commits by other connections: reading it touches no table.
        (now,) = session.db.execute("PRAGMA data_version").fetchone()
        if now != version:
            version = now
            session.tell(expunges)
        connection.flush()
        if connection.wait(POLL):
            return True
        if time.monotonic() > ends:
            return False

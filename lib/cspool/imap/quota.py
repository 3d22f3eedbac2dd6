"""QUOTA: what the message database takes, and what the disk leaves for it (RFC 9208). There is one root for all."""

import os

from .grammar import No, Parser
from .session import Session
from .verbs import LOGGED_IN, verb

ROOT = b"User quota"  # as other servers name it
UNIT = 1024  # octets, section 5.1


@verb(LOGGED_IN)
def getquota(session: Session, parser: Parser) -> str:
    """Section 4.2."""
    parser.space()
    root = parser.astring()
    parser.end()
    if root != ROOT:
        raise No("[NONEXISTENT] No such quota root")
    session.untagged(_quota(session))
    return "GETQUOTA completed"


@verb(LOGGED_IN)
def getquotaroot(session: Session, parser: Parser) -> str:
    """Section 4.3. The mailbox need not be there."""
    parser.space()
    name = parser.mailbox()
    parser.end()
    session.untagged(b'QUOTAROOT %b "%b"' % (session.mailbox_name(name), ROOT))
    session.untagged(_quota(session))
    return "GETQUOTAROOT completed"


def _quota(session: Session) -> bytes:
    """Return the untagged answer. The limit moves with what else is on the disk."""
    (path,) = session.db.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()
    used = sum(os.path.getsize(path + end) for end in ("", "-wal") if os.path.exists(path + end))
    disk = os.statvfs(os.path.dirname(path) or ".")
    free = disk.f_bavail * disk.f_frsize
    return b'QUOTA "%b" (STORAGE %d %d)' % (ROOT, used // UNIT, (used + free) // UNIT)

"""What is known of how this machine stands, and what of it needs attention."""

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import Any

from . import home, pipeline, tool
from .database import aside, checkpoint, outbox, schema, seen, view
from .errors import Failure
from .spool.files import Head
from .words import DAY, age, counted

Status = dict[str, Any]  # what cspool-status --json prints


# Returns the head of a spool, which this machine has applied up to that record, or None if it is not to be asked.
Ask = Callable[[str, int], Head | None]


def ask(spool: str, applied: int) -> Head | None:
    """Return the head of a spool. Raises TryAgain."""
    return pipeline.head(spool)


def look(path: str, ask: Ask = ask) -> Status:
    """Return the status, for the message database at `path`. Raises as schema.opened."""
    with schema.opened(path) as db, schema.reading(db):
        status = known(db)
        try:
            status["spool"] = home.spool(None)
            head = ask(status["spool"], status["applied"])  # behind the snapshot: else a sync could come in between
            if head:
                status["last"] = head.next - 1
                if not seen.agrees(db, head):
                    status["attention"].append("the spool contradicts what has been seen: cspool-sync says how")
        except Failure as failure:
            status["unreachable"] = str(failure)
    status["disk"] = sum(os.path.getsize(path + end) for end in ("", "-wal") if os.path.exists(path + end))
    status["attention"] += overdue(status["synced"], status["outbox"]["oldest"])
    return status


def known(db: sqlite3.Connection) -> Status:
    """Return the part of the status that the message database has."""
    log, sizes, waiting = seen.progress(db), checkpoint.sizes(db), outbox.waiting(db)
    untrusted = sum(aside.untrusted(db).values())
    attention = []
    if untrusted:
        attention.append(f"{counted(untrusted, 'record')} of hosts that are not trusted: cspool-trust --list")
    contradictions = [f"the spool contradicts what has been seen: {reason}" for reason in seen.contradictions(db)]
    attention += contradictions or [f"the last sync has failed: {line}: cspool doctor" for line in failed()]
    return {
        "applied": log.applied,
        "last": log.log_end,
        "synced": log.synced,
        "octets": sizes.log,
        "needed": sizes.needed,
        "outbox": {"changes": waiting.entries, "oldest": waiting.oldest},
        "mailboxes": [one._asdict() for one in view.mailboxes(db)],
        "aside": [one._asdict() for one in aside.kinds(db)],
        "lost": [one._asdict() for one in seen.lost(db)],
        "attention": attention,
    }


def failed() -> list[str]:
    """Return what the last cspool-sync has reported, if no retry can mend it."""
    try:
        with open(home.path("sync.failed"), errors="replace") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        return [str(tool.os_error(error))]


def overdue(synced: int | None, oldest: int | None) -> Iterator[str]:
    """Yield what has taken too long: the last good sync, and the oldest change in the outbox (seconds since 1970)."""
    now = time.time()
    if oldest is not None and now - oldest > DAY:
        yield f"a change has waited in the outbox for {age(oldest)}: cspool-sync"
    if synced is None:
        yield "there has been no good sync: cspool-sync"
    elif now - synced > DAY:
        yield f"there has been no good sync for {age(synced)}: cspool-sync"

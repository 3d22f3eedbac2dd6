"""The verbs on messages of the selected mailbox (RFC 9051 section 6.4)."""

import os
from collections.abc import Callable
from typing import NamedTuple

from ..command import Fields, copy_id
from ..database import schema, view
from ..form import is_flag
from .fetch import Fetch
from .grammar import CONDSTORE, QRESYNC, No, Parser, SequenceSet
from .selected import SYSTEM_FLAGS, Selected
from .session import Session
from .sets import Ranges, merged, uid_set
from .verbs import SELECTED, numbered_verb, verb


@verb((SELECTED,))
def check(session: Session, parser: Parser) -> str:
    """RFC 3501 section 6.4.1."""
    parser.end()
    return "CHECK completed"


# EXPUNGE


@verb((SELECTED,))
def expunge(session: Session, parser: Parser) -> str:
    """Section 6.4.3."""
    parser.end()
    return _expunge(session, None)


@verb((SELECTED,))
def uid_expunge(session: Session, parser: Parser) -> str:
    r"""Expunge those of these UIDs that are marked \Deleted (RFC 4315 section 2.1)."""
    parser.space()
    numbers = parser.sequence_set()
    parser.end()
    return _expunge(session, session.selection().ranges(numbers, by_uid=True))


def _expunge(session: Session, ranges: Ranges | None) -> str:
    selected = session.writable()
    expunge_deleted(session, selected, ranges)
    session.tell_selected()
    return f"{session.highest()}EXPUNGE completed"


def expunge_deleted(session: Session, selected: Selected, ranges: Ranges | None) -> None:
    r"""Expunge the messages marked \Deleted in these UID ranges; None means all that the client knows."""
    with schema.writing(session.db):  # so that no other session takes the mark away in between
        if ranges is None:
            ranges = [(1, selected.known)]
        rows = selected.rows(ranges, "message.id, message.flags", condition=schema.DELETED)
        deleted = [message_id for _, _, message_id, flags in rows if "\\Deleted" in flags.split()]
        session.change_messages([{"do": "expunge"}], deleted)


# FETCH


@numbered_verb(expunges=False)
def fetch(session: Session, parser: Parser, by_uid: bool) -> str:
    """Section 6.4.5."""
    parser.space()
    numbers = parser.sequence_set()
    parser.space()
    command = Fetch(session, by_uid)
    command.parse(parser)
    parser.end()
    is_whole = command.run(numbers)
    return "FETCH completed" if is_whole else "[EXPUNGEISSUED] FETCH completed but for messages that are no more"


# STORE


class _StoreArguments(NamedTuple):
    numbers: SequenceSet
    unchanged_since: int | None  # MODSEQ
    sign: bytes  # b"+" adds the flags, b"-" removes them, b"" replaces all flags by them
    silent: bool
    flags: list[str]


class _Stored(NamedTuple):
    """A message as it is after STORE."""

    number: int  # sequence number
    uid: int
    flags: str
    modseq: int


@numbered_verb(expunges=False)
def store(session: Session, parser: Parser, by_uid: bool) -> str:
    """Section 6.4.6, RFC 7162 section 3.1.3."""
    arguments = _store_arguments(session, parser)
    selected = session.writable()
    ranges = selected.ranges(arguments.numbers, by_uid)
    modified: list[int] = []
    with schema.writing(session.db):
        if arguments.unchanged_since is not None:
            ranges, modified = _unmodified(selected, ranges, arguments.unchanged_since, by_uid)
        before, untold = selected.mailbox("modseq"), selected.untold()
        _set_flags(session, selected, ranges, arguments.sign, arguments.flags)
        # A silent STORE that changes nothing needs no query: there is nothing to tell.
        changed = selected.mailbox("modseq") != before
        needed = changed or not arguments.silent or CONDSTORE in session.enabled
        stored = _stored(selected, ranges) if needed else []
    if arguments.silent:
        # Flags that another session has changed before are still to be sent.
        _note_told(selected, [one for one in stored if one.uid not in untold])
        if CONDSTORE in session.enabled:
            # With UNCHANGEDSINCE, the MODSEQ is sent even of a message that had the flags already.
            everything = arguments.unchanged_since is not None
            _tell_modseqs(session, [one for one in stored if everything or one.modseq > before], by_uid)
    else:
        _note_told(selected, stored)
        _tell_flags(session, selected, stored, by_uid)
    if modified:
        return f"[MODIFIED {uid_set(modified).decode()}] STORE completed but for these"
    return "STORE completed"


def _store_arguments(session: Session, parser: Parser) -> _StoreArguments:
    parser.space()
    numbers = parser.sequence_set()
    parser.space()
    unchanged_since = None
    if parser.at(b"(UNCHANGEDSINCE "):
        unchanged_since = parser.modseq()
        parser.expect(b") ")
        session.enable_condstore()
    sign = parser.peek() if parser.peek() in (b"+", b"-") else b""
    parser.expect(sign + b"FLAGS")
    silent = parser.at(b".SILENT")
    parser.space()
    flags = settable_flags(parser.flags())
    parser.end()
    return _StoreArguments(numbers, unchanged_since, sign, silent, flags)


def _unmodified(selected: Selected, ranges: Ranges, since: int, by_uid: bool) -> tuple[Ranges, list[int]]:
    """Return the UIDs of messages not changed since this MODSEQ; of the others, UIDs or sequence numbers."""
    rows = list(selected.rows(ranges, "message.modseq"))
    unmodified = merged([(uid, uid) for _, uid, modseq in rows if modseq <= since])
    return unmodified, [uid if by_uid else number for number, uid, modseq in rows if modseq > since]


def _set_flags(session: Session, selected: Selected, ranges: Ranges, sign: bytes, flags: list[str]) -> None:
    """Change the flags of messages where they differ. Messages that need the same change are changed together."""
    wanted = {flag.lower(): flag for flag in flags}
    ids_by_flags: dict[str, list[bytes]] = {}
    for _, _, message_id, flags_now in selected.rows(ranges, "message.id, message.flags"):
        ids_by_flags.setdefault(flags_now, []).append(message_id)
    ids_by_change: dict[tuple[tuple[str, ...], tuple[str, ...]], list[bytes]] = {}
    for flags_now, ids in ids_by_flags.items():
        now = {flag.lower(): flag for flag in flags_now.split()}
        added = tuple(flag for name, flag in wanted.items() if name not in now) if sign != b"-" else ()
        removed = {b"+": (), b"-": tuple(now.keys() & wanted.keys()), b"": tuple(now.keys() - wanted.keys())}[sign]
        if added or removed:
            change = added, tuple(sorted(now[name] for name in removed))
            ids_by_change.setdefault(change, []).extend(ids)
    for (added, removed), ids in ids_by_change.items():
        rows: list[Fields] = [{"do": "remove-flags", "flags": [*removed]}] if removed else []
        rows += [{"do": "add-flags", "flags": [*added]}] if added else []
        session.change_messages(rows, ids)


def _stored(selected: Selected, ranges: Ranges) -> list[_Stored]:
    return [_Stored(*row) for row in selected.rows(ranges, "message.flags, message.modseq")]


def _note_told(selected: Selected, stored: list[_Stored]) -> None:
    """Note that the client knows the flags of these messages, so that the next update does not send them."""
    selected.told.update({one.uid: one.flags for one in stored})


def _tell_flags(session: Session, selected: Selected, stored: list[_Stored], by_uid: bool) -> None:
    for named in selected.new_keywords({one.flags for one in stored}):
        session.untagged(named)
    for one in stored:
        session.untagged(selected.flags_answer(one.number - 1, one.uid, one.flags, one.modseq, with_uid=by_uid))


def _tell_modseqs(session: Session, stored: list[_Stored], by_uid: bool) -> None:
    with_uid = by_uid or QRESYNC in session.enabled
    for one in stored:
        uid = b"UID %d " % one.uid if with_uid else b""
        session.untagged(b"%d FETCH (%bMODSEQ (%d))" % (one.number, uid, one.modseq))


def settable_flags(flags: list[str]) -> list[str]:
    r"""Return flags as they are stored, without \Recent, which a client cannot set. Raises No for an invalid flag."""
    system = {name.lower(): name for name in SYSTEM_FLAGS.split()}
    found = [system.get(flag.lower(), flag) for flag in flags if flag.lower() != "\\recent"]
    for flag in found:
        if not is_flag(flag):
            raise No("[CANNOT] No such flag")
    return found


# COPY and MOVE


@numbered_verb(expunges=True)
def copy(session: Session, parser: Parser, by_uid: bool) -> str:
    """Section 6.4.7."""
    numbers, mailbox_id = _set_and_target(session, parser)
    nonce = os.urandom(16)
    row = {"do": "copy", "mailbox": mailbox_id.hex(), "nonce": nonce.hex()}
    with schema.writing(session.db):
        messages = session.selection().ids(session.selection().ranges(numbers, by_uid))
        session.change_messages([row], [message_id for _, message_id in messages])
        code = _copyuid(session, mailbox_id, messages, lambda source: copy_id(nonce, source))
    return f"{code}COPY completed"


@numbered_verb(expunges=True)
def move(session: Session, parser: Parser, by_uid: bool) -> str:
    """Section 6.4.8. COPYUID is sent before the expunges (RFC 6851 section 4.3)."""
    numbers, mailbox_id = _set_and_target(session, parser)
    selected = session.writable()
    row = {"do": "move", "mailbox": mailbox_id.hex()}
    with schema.writing(session.db):
        messages = selected.ids(selected.ranges(numbers, by_uid))
        ids = [message_id for _, message_id in messages]
        if session.mailbox_id(selected.key) == mailbox_id:
            view.renumber(session.db, selected.key, ids)  # they stay the same messages for the other machines
        else:
            session.change_messages([row], ids)
        code = _copyuid(session, mailbox_id, messages, lambda source: source)
    if code:
        session.untagged(f"OK {code}Moved".encode())
    session.tell_selected()
    return f"{session.highest()}MOVE completed"


def _set_and_target(session: Session, parser: Parser) -> tuple[SequenceSet, bytes]:
    """Read the arguments of COPY and MOVE: a set of messages, and a mailbox, of which the id is returned."""
    parser.space()
    numbers = parser.sequence_set()
    parser.space()
    name = parser.mailbox()
    parser.end()
    return numbers, session.target(name)


def _copyuid(
    session: Session, mailbox_id: bytes, messages: list[tuple[int, bytes]], target_id: Callable[[bytes], bytes]
) -> str:
    """Return the COPYUID code, or nothing if no message has arrived (RFC 4315 section 3).

    `messages` are (UID, id) in the source; `target_id` returns the id of one in the target.
    """
    key, uidvalidity = session.db.execute("SELECT key, uidvalidity FROM mailbox WHERE id = ?", (mailbox_id,)).fetchone()
    query = "SELECT uid FROM message WHERE id = ? AND mailbox = ?"
    pairs = [(uid, session.db.execute(query, (target_id(source), key)).fetchone()) for uid, source in messages]
    arrived = [(uid, found[0]) for uid, found in pairs if found]
    if not arrived:
        return ""
    if session.selected and session.selected.key == key:
        session.selected.own.update(target for _, target in arrived)
    sources, targets = (uid_set(pair[side] for pair in arrived).decode() for side in (0, 1))
    return f"[COPYUID {uidvalidity} {sources} {targets}] "

"""The verbs on messages of the selected mailbox (RFC 9051 section 6.4)."""

import os
from collections.abc import Callable

from ..command import Fields, copy_id
from ..database import schema
from ..form import is_flag
from .fetch import Fetch, cut
from .grammar import CONDSTORE, QRESYNC, REV2, BadCommand, No, Parser, SequenceSet
from .search import Found, Search
from .selected import Selected
from .session import SYSTEM_FLAGS, Session
from .sets import Ranges, merged, uid_set
from .sort import criterion
from .sort import sort as sorted_by
from .thread import answer, ordered_subject, references
from .verbs import SELECTED, numbered_verb, verb


@verb((SELECTED,))
def check(session: Session, parser: Parser) -> str:
    parser.end()
    return "CHECK completed"


# EXPUNGE


@verb((SELECTED,))
def expunge(session: Session, parser: Parser) -> str:
    parser.end()
    return _expunge(session, None)


@verb((SELECTED,))
def uid_expunge(session: Session, parser: Parser) -> str:
    r"""Expunge only some of what is marked \Deleted (RFC 4315 section 2.1)."""
    parser.space()
    numbers = parser.sequence_set()
    parser.end()
    return _expunge(session, _selected(session).ranges(numbers, by_uid=True))


def _expunge(session: Session, ranges: Ranges | None) -> str:
    selected = _writable(session)
    expunge_deleted(session, selected, ranges)
    session.tell(expunges=True)
    return f"{_highest(session, selected)}EXPUNGE completed"


def expunge_deleted(session: Session, selected: Selected, ranges: Ranges | None) -> None:
    r"""Expunge what is marked \Deleted: all that the client knows of, or what is in these ranges."""
    with schema.writing(session.db):  # lest somebody takes the mark away in between
        rows = selected.rows([(1, selected.known)] if ranges is None else ranges, "message.id, message.flags")
        deleted = [message_id for _, _, message_id, flags in rows if "\\Deleted" in flags.split()]
        session.change_messages([{"do": "expunge"}], deleted)


def _highest(session: Session, selected: Selected) -> str:
    """Return the response code that lets a client keep up (RFC 7162 section 3.2.7)."""
    return f"[HIGHESTMODSEQ {selected.modseq}] " if QRESYNC in session.enabled else ""


# SEARCH, SORT, THREAD


@numbered_verb(expunges=False)
def search(session: Session, parser: Parser, by_uid: bool) -> str:
    parser.space()
    one = Search(session)
    with _Result(session, by_uid, "SEARCH") as result:
        if parser.at(b"RETURN "):
            result.parse(parser)
        if parser.at(b"CHARSET "):
            one.charset(parser)
            parser.space()
        key = one.keys(parser)
        parser.end()
        result.answer(one.run(key), one.with_modseq)
    return "SEARCH completed"


@numbered_verb(expunges=False)
def sort(session: Session, parser: Parser, by_uid: bool) -> str:
    parser.space()
    one = Search(session)
    with _Result(session, by_uid, "SORT") as result:
        if parser.at(b"RETURN "):  # RFC 5267
            result.parse(parser)
        criteria = parser.parenthesized(lambda: criterion(parser))
        parser.space()
        one.charset(parser)
        parser.space()
        key = one.keys(parser)
        parser.end()
        with schema.reading(session.db):
            found = sorted_by(one.selected, one.run(key), criteria)
        result.answer(found, one.with_modseq)
    return "SORT completed"


@numbered_verb(expunges=False)
def thread(session: Session, parser: Parser, by_uid: bool) -> str:
    parser.space()
    algorithm = {b"ORDEREDSUBJECT": ordered_subject, b"REFERENCES": references}.get(parser.atom())
    if not algorithm:
        raise BadCommand("Unknown thread algorithm")
    parser.space()
    one = Search(session)
    one.charset(parser)
    parser.space()
    key = one.keys(parser)
    parser.end()
    with schema.reading(session.db):
        threads = algorithm(one.selected, one.run(key))
    session.untagged(f"THREAD {answer(threads, by_uid)}".rstrip().encode())
    return "THREAD completed"


class _Result:
    """How the result of SEARCH or SORT is answered: plainly, or as RETURN says (RFC 4731, RFC 5182, RFC 9394).

    Within it, a NO empties the saved result (RFC 5182 section 2.1).
    """

    def __init__(self, session: Session, by_uid: bool, plain: str) -> None:
        self.session = session
        self.by_uid = by_uid
        self.plain = plain
        self.options: set[bytes] | None = None
        self.partial = (1, 1)
        if REV2 in session.enabled and plain == "SEARCH":
            self.options = {b"ALL"}  # RFC 9051 section 6.4.4

    def __enter__(self) -> "_Result":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is No and self.options and b"SAVE" in self.options:
            _selected(self.session).saved = []

    def parse(self, parser: Parser) -> None:
        """Read the result options, in parentheses."""
        options = parser.parenthesized(lambda: self._option(parser))
        parser.space()
        self.options = set(options) or {b"ALL"}
        if {b"ALL", b"PARTIAL"} <= self.options:
            raise BadCommand("ALL or PARTIAL")

    def _option(self, parser: Parser) -> bytes:
        name = parser.atom()
        if name == b"PARTIAL":
            parser.space()
            self.partial = parser.partial_range()
        elif name not in (b"MIN", b"MAX", b"ALL", b"COUNT", b"SAVE"):
            raise BadCommand("Unknown result option")
        return name

    def answer(self, found: list[Found], with_modseq: bool) -> None:
        """Send the result, and save it for "$" if that is asked for."""
        if self.options is None:
            parts = [self.plain, *(str(self._number(one)) for one in found)]
            if with_modseq and found:
                parts.append(f"(MODSEQ {max(one.modseq for one in found)})")
            self.session.untagged(" ".join(parts).encode())
            return
        ends, shown = self._ends(found), found
        if b"PARTIAL" in self.options:
            shown = cut(found, self.partial)
        elif ends and not {b"ALL", b"COUNT"} & self.options:
            shown = list(ends.values())
        if b"SAVE" in self.options:
            _selected(self.session).saved = merged([(one.uid, one.uid) for one in shown])
        if self.options != {b"SAVE"}:
            parts = [f'ESEARCH (TAG "{self.session.tag.decode()}")'] + (["UID"] if self.by_uid else [])
            parts += [f"{name} {self._number(one)}" for name, one in ends.items()]
            parts += self._sets([self._number(one) for one in found])
            if with_modseq and shown:
                parts.append(f"MODSEQ {max(one.modseq for one in shown)}")
            self.session.untagged(" ".join(parts).encode())

    def _number(self, one: Found) -> int:
        number: int = one.uid if self.by_uid else one.number
        return number

    def _ends(self, found: list[Found]) -> dict[str, Found]:
        """Return what MIN and MAX stand for: of SORT, the first and the last in its order (RFC 5267 section 3)."""
        assert self.options is not None
        ends = {"MIN": 0, "MAX": -1}
        return {name: found[place] for name, place in ends.items() if name.encode() in self.options and found}

    def _sets(self, numbers: list[int]) -> list[str]:
        assert self.options is not None
        parts = []
        if b"ALL" in self.options and numbers:
            parts.append(f"ALL {uid_set(numbers).decode()}")
        if b"COUNT" in self.options:
            parts.append(f"COUNT {len(numbers)}")
        if b"PARTIAL" in self.options:
            some = uid_set(cut(numbers, self.partial)).decode() or "NIL"
            parts.append(f"PARTIAL ({self.partial[0]}:{self.partial[1]} {some})")
        return parts


# FETCH and STORE


@numbered_verb(expunges=False)
def fetch(session: Session, parser: Parser, by_uid: bool) -> str:
    parser.space()
    numbers = parser.sequence_set()
    parser.space()
    one = Fetch(session, by_uid)
    one.parse(parser)
    parser.end()
    one.run(numbers)
    return "FETCH completed"


@numbered_verb(expunges=False)
def store(session: Session, parser: Parser, by_uid: bool) -> str:
    parser.space()
    numbers = parser.sequence_set()
    parser.space()
    unchanged_since = None
    if parser.at(b"(UNCHANGEDSINCE "):  # RFC 7162 section 3.1.3
        unchanged_since = parser.modseq()
        parser.expect(b") ")
        session.enabled.add(CONDSTORE)
    sign = parser.peek() if parser.peek() in (b"+", b"-") else b""
    parser.expect(sign + b"FLAGS")
    silent = parser.at(b".SILENT")
    parser.space()
    flags = settable_flags(parser.flags())
    parser.end()
    selected = _writable(session)
    ranges = selected.ranges(numbers, by_uid)
    modified: list[int] = []
    with schema.writing(session.db):
        if unchanged_since is not None:
            ranges, modified = _unmodified(selected, ranges, unchanged_since)
        before = selected.mailbox("modseq")
        untold = selected.untold()
        _set_flags(session, selected, ranges, sign, flags)
        nothing_to_tell = silent and CONDSTORE not in session.enabled and selected.mailbox("modseq") == before
        rows = [] if nothing_to_tell else list(selected.rows(ranges, "message.flags, message.modseq"))
    for number, uid, flags_now, modseq in rows:
        if not silent or uid not in untold:
            selected.told[uid] = flags_now
        if not silent:
            session.untagged(selected.flags_answer(number - 1, uid, flags_now, modseq, with_uid=by_uid))
        elif CONDSTORE in session.enabled and (modseq > before or unchanged_since is not None):
            items = (b"UID %d " % uid) if by_uid or QRESYNC in session.enabled else b""
            session.untagged(b"%d FETCH (%bMODSEQ (%d))" % (number, items, modseq))
    if modified:
        said = uid_set(modified if by_uid else [(selected.place(uid) or 0) + 1 for uid in modified])
        return f"[MODIFIED {said.decode()}] STORE completed but for these"
    return "STORE completed"


def _unmodified(selected: Selected, ranges: Ranges, since: int) -> tuple[Ranges, list[int]]:
    """Divide messages into those to store to and the UIDs of those that have changed since."""
    rows = [(uid, modseq) for _, uid, modseq in selected.rows(ranges, "message.modseq")]
    unchanged = merged([(uid, uid) for uid, modseq in rows if modseq <= since])
    return unchanged, [uid for uid, modseq in rows if modseq > since]


def _set_flags(session: Session, selected: Selected, ranges: Ranges, sign: bytes, flags: list[str]) -> None:
    """Change what differs; messages that need the same change share one."""
    wanted = {flag.lower(): flag for flag in flags}
    having: dict[str, list[bytes]] = {}
    for _, _, message_id, flags_now in selected.rows(ranges, "message.id, message.flags"):
        having.setdefault(flags_now, []).append(message_id)
    same: dict[tuple[tuple[str, ...], tuple[str, ...]], list[bytes]] = {}
    for flags_now, ids in having.items():
        now = {flag.lower(): flag for flag in flags_now.split()}
        added = tuple(flag for name, flag in wanted.items() if name not in now) if sign != b"-" else ()
        removed = {b"+": (), b"-": tuple(now.keys() & wanted.keys()), b"": tuple(now.keys() - wanted.keys())}[sign]
        if added or removed:
            same.setdefault((added, tuple(sorted(now[name] for name in removed))), []).extend(ids)
    for (added, removed), ids in same.items():
        rows: list[Fields] = [{"do": "remove-flags", "flags": [*removed]}] if removed else []
        rows += [{"do": "add-flags", "flags": [*added]}] if added else []
        session.change_messages(rows, ids)


def settable_flags(flags: list[str]) -> list[str]:
    r"""Return flags without \Recent, which nobody can set; raise No for one that is not kept."""
    system = {name.lower(): name for name in SYSTEM_FLAGS.split()}
    found = [system.get(flag.lower(), flag) for flag in flags if flag.lower() != "\\recent"]
    for flag in found:
        if not is_flag(flag):
            raise No("[CANNOT] No such flag")
    return found


# COPY and MOVE


@numbered_verb(expunges=True)
def copy(session: Session, parser: Parser, by_uid: bool) -> str:
    numbers, mailbox_id = _set_and_target(session, parser)
    nonce = os.urandom(16)
    row = {"do": "copy", "mailbox": mailbox_id.hex(), "nonce": nonce.hex()}
    with schema.writing(session.db):
        messages = _selected(session).ids(_selected(session).ranges(numbers, by_uid))
        session.change_messages([row], [message_id for _, message_id in messages])
        code = _copyuid(session, mailbox_id, messages, lambda source: copy_id(nonce, source))
    return f"{code}COPY completed"


@numbered_verb(expunges=True)
def move(session: Session, parser: Parser, by_uid: bool) -> str:
    """Move messages: COPYUID comes before their EXPUNGEs (RFC 6851 section 4.3)."""
    numbers, mailbox_id = _set_and_target(session, parser)
    selected = _writable(session)
    if session.mailbox_id(selected.key) == mailbox_id:
        return "MOVE completed: they are there"
    row = {"do": "move", "mailbox": mailbox_id.hex()}
    with schema.writing(session.db):
        messages = selected.ids(selected.ranges(numbers, by_uid))
        session.change_messages([row], [message_id for _, message_id in messages])
        code = _copyuid(session, mailbox_id, messages, lambda source: source)
    if code:
        session.untagged(f"OK {code}Moved".encode())
    session.tell(expunges=True)
    return f"{_highest(session, selected)}MOVE completed"


def _set_and_target(session: Session, parser: Parser) -> tuple[SequenceSet, bytes]:
    parser.space()
    numbers = parser.sequence_set()
    parser.space()
    name = parser.mailbox()
    parser.end()
    return numbers, session.target(name)


def _copyuid(
    session: Session, mailbox_id: bytes, messages: list[tuple[int, bytes]], there: Callable[[bytes], bytes]
) -> str:
    """Return the response code that says which UIDs messages have got, or nothing (RFC 4315 section 3)."""
    key, uidvalidity = session.db.execute("SELECT key, uidvalidity FROM mailbox WHERE id = ?", (mailbox_id,)).fetchone()
    query = "SELECT uid FROM message WHERE id = ? AND mailbox = ?"
    pairs = [(uid, session.db.execute(query, (there(source), key)).fetchone()) for uid, source in messages]
    arrived = [(uid, found[0]) for uid, found in pairs if found]
    if not arrived:
        return ""
    sources, targets = (uid_set(pair[side] for pair in arrived).decode() for side in (0, 1))
    return f"[COPYUID {uidvalidity} {sources} {targets}] "


def _selected(session: Session) -> Selected:
    assert session.selected
    return session.selected


def _writable(session: Session) -> Selected:
    selected = _selected(session)
    if selected.read_only:
        raise No("[READ-ONLY] The mailbox is selected read-only")
    return selected

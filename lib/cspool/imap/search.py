"""SEARCH: the keys as one predicate over messages (RFC 9051 section 6.4.4).

Texts are compared decoded and case-folded, as the database has them. A text
is read only for messages that match the keys before it.
"""

import re
import sqlite3
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ..database.schema import DELETED, UNSEEN
from ..mail.casemap import searchable
from .grammar import BadCommand, No, Parser, SequenceSet
from .selected import Selected
from .session import Session

DEPTH_MAX = 50  # levels of parentheses, NOT and OR


class Candidate:
    """A message that SEARCH tests. Dates are in seconds since 1970, `sent_day` in days; flags are in lower case."""

    __slots__ = (
        "content",
        "date",
        "db",
        "flags",
        "id",
        "modseq",
        "number",
        "recent",
        "saved",
        "sent_day",
        "size",
        "uid",
    )

    def __init__(self, db: sqlite3.Connection, selected: Selected, row: tuple[Any, ...]) -> None:
        self.db = db
        self.number, self.uid, flags, self.date, self.size, self.sent_day = row[:6]
        self.content, self.id, self.modseq, self.saved = row[6:]
        self.flags = flags.lower().split()
        self.recent = self.uid in selected.recent

    def header(self) -> str:
        """Return the header as `header_text` of mail/text.py has stored it: a line a field, each after an LF."""
        return self._text("header")

    def body(self) -> str:
        """Return the text parts, and the headers of enclosed messages."""
        return self._text("body")

    def thread(self) -> bytes:
        """Return the THREADID."""
        query = "SELECT thread FROM ordering WHERE content = ?"
        found: bytes = self.db.execute(query, (self.content,)).fetchone()[0]
        return found or self.id

    def _text(self, column: str) -> str:
        query = f"SELECT CAST({column} AS TEXT) FROM text WHERE content = ?"  # a large one is a BLOB
        found: str = self.db.execute(query, (self.content,)).fetchone()[0]
        return found


class Hit(NamedTuple):
    """A message that matches. It is kept small, since all messages may match."""

    number: int  # sequence number
    uid: int
    modseq: int


# What a Candidate is made of, after sequence number and UID.
COLUMNS = (
    "message.flags, message.date, content.size, content.sent_day, message.content, content.id,"
    " message.modseq, message.saved"
)


class Key(NamedTuple):
    """A search key: a test, and a condition in SQL that is true of each message that passes it."""

    test: Callable[[Candidate], bool]
    condition: str = "TRUE"


class Search:
    """The search program of one SEARCH, SORT or THREAD, in a mailbox, which is selected unless `alone` is False."""

    def __init__(self, session: Session, selected: Selected, alone: bool = True) -> None:
        self.session = session
        self.selected = selected
        self.alone = alone
        self.ascii_only = False
        self.with_modseq = False  # whether the answer has the highest MODSEQ (RFC 7162 section 3.1.6)

    def charset(self, parser: Parser) -> None:
        """Read the name of a charset. Raises No unless it is US-ASCII or UTF-8."""
        name = parser.astring().decode("ascii", "replace").upper()
        if name not in ("US-ASCII", "UTF-8"):
            raise No("[BADCHARSET (US-ASCII UTF-8)] Unknown charset")
        self.ascii_only = name == "US-ASCII"

    def program(self, parser: Parser) -> Key:
        """Read a charset, if one is given, and all keys, to the end of the command. Raises as these."""
        if parser.at(b"CHARSET "):
            self.charset(parser)
            parser.space()
        key = self.keys(parser)
        parser.end()
        return key

    def keys(self, parser: Parser) -> Key:
        """Read all keys; return the predicate that all of them make. Raises BadCommand."""
        return _all(self._keys(parser, 1))

    def _keys(self, parser: Parser, depth: int) -> list[Key]:
        keys = [self._key(parser, depth)]
        while parser.at(b" ") and parser.peek():  # some clients send a space too many
            keys.append(self._key(parser, depth))
        return keys

    def _key(self, parser: Parser, depth: int) -> Key:
        if depth > DEPTH_MAX:
            raise BadCommand("Search keys too deep in each other")
        if parser.at(b"("):
            keys = self._keys(parser, depth + 1)
            parser.expect(b")")
            return _all(keys)
        if parser.peek().isdigit() or parser.peek() in (b"*", b"$"):
            if not self.alone:
                raise BadCommand("Numbers of messages are those of the selected mailbox")
            return self._in_set(parser.sequence_set(), by_uid=False)
        name = parser.atom()
        if name == b"NOT":
            parser.space()
            key = self._key(parser, depth + 1)
            return Key(lambda one: not key.test(one))
        if name == b"OR":
            parser.space()
            first = self._key(parser, depth + 1)
            parser.space()
            second = self._key(parser, depth + 1)
            return Key(lambda one: first.test(one) or second.test(one))
        if name in FLAG_KEYS:
            return FLAG_KEYS[name]
        if name == b"SAVEDATESUPPORTED":  # RFC 8514 section 4.3
            return Key(lambda one: True)
        parser.space()
        return self._with_argument(name, parser)

    def _with_argument(self, name: bytes, parser: Parser) -> Key:
        if name == b"UID":
            return self._in_set(parser.sequence_set(), by_uid=True)
        if name in (b"KEYWORD", b"UNKEYWORD"):
            return _has(parser.flag().lower(), name == b"KEYWORD")
        if name in NUMBER_KEYS:
            number, measure = parser.number(), NUMBER_KEYS[name]
            return Key(lambda one: measure(one, number))
        if name in DATE_KEYS:
            day, compare = parser.date(), DATE_KEYS[name]
            return Key(lambda one: compare(one, day))
        if name in (b"FROM", b"TO", b"CC", b"BCC", b"SUBJECT"):
            return _in_field(name.decode().lower(), self._string(parser))
        if name == b"HEADER":
            field = parser.astring().decode("utf-8", "replace").lower()
            parser.space()
            return _in_field(field, self._string(parser))
        if name == b"BODY":
            wanted = self._string(parser)
            return Key(lambda one: wanted in one.body())
        if name == b"TEXT":
            wanted = self._string(parser)
            return Key(lambda one: wanted in one.header() or wanted in one.body())
        if name == b"MODSEQ":
            return self._modseq(parser)
        if name == b"EMAILID":  # RFC 8474 section 6
            email_id = parser.astring().decode("ascii", "replace").lower()
            return Key(lambda one: "m" + one.id.hex() == email_id)
        if name == b"THREADID":
            thread_id = parser.astring().decode("ascii", "replace").lower()
            return Key(lambda one: "t" + one.thread().hex() == thread_id)
        raise BadCommand("Unknown SEARCH key")

    def _modseq(self, parser: Parser) -> Key:
        """Read the argument of MODSEQ: a MODSEQ, after an entry name and its type or alone (RFC 7162 section 3.1.5)."""
        self.with_modseq = True
        self.session.enable_condstore()
        if parser.peek() == b'"':
            parser.string()
            parser.space()
            parser.atom()
            parser.space()
        modseq = parser.modseq()
        return Key(lambda one: one.modseq >= modseq)

    def _string(self, parser: Parser) -> str:
        try:
            return searchable(parser.astring().decode("ascii" if self.ascii_only else "utf-8"))
        except UnicodeDecodeError:
            raise BadCommand("Search text is not in its charset") from None

    def _in_set(self, numbers: SequenceSet, by_uid: bool) -> Key:
        ranges = self.selected.ranges(numbers, by_uid, searching=True)
        if len(ranges) < 10:
            condition = " OR ".join(f"message.uid BETWEEN {first} AND {last}" for first, last in ranges)
            return Key(lambda one: any(first <= one.uid <= last for first, last in ranges), f"({condition or 'FALSE'})")
        uids = {uid for _, uid, _ in self.selected.rows(ranges, "NULL")}
        return Key(lambda one: one.uid in uids)

    def run(self, key: Key) -> list[Hit]:
        """Return the messages that match, in order of their UIDs."""
        db, selected = self.session.db, self.selected
        if key.test is _everything:  # the usual key of SORT and THREAD: needs no columns of content
            return [Hit(*row) for row in selected.rows([(1, selected.known)], "message.modseq")]
        content = "JOIN content ON content.key = message.content"
        rows = selected.rows([(1, selected.known)], COLUMNS, content, key.condition)
        hits = []
        for row in rows:
            one = Candidate(db, selected, row)
            if key.test(one):
                hits.append(Hit(one.number, one.uid, one.modseq))
        return hits


def _all(keys: list[Key]) -> Key:
    if len(keys) == 1:
        return keys[0]
    conditions = {key.condition for key in keys} - {"TRUE"}
    return Key(lambda one: all(key.test(one) for key in keys), " AND ".join(sorted(conditions)) or "TRUE")


def _in_field(name: str, wanted: str) -> Key:
    """Return the key for a text in a header field; the empty text is in every such field, even an empty one."""
    field = re.compile(rf"\n{re.escape(name)}[ \t]*:([^\n]*)")
    return Key(lambda one: any(wanted in value for value in field.findall(one.header())))


def _has(flag: str, wanted: bool = True, condition: str = "TRUE") -> Key:
    return Key(lambda one: (flag in one.flags) == wanted, condition)


def _everything(one: Candidate) -> bool:
    return True


# Keys without an argument.
FLAG_KEYS: dict[bytes, Key] = {
    b"ALL": Key(_everything),
    b"NEW": Key(lambda one: one.recent and "\\seen" not in one.flags, UNSEEN),
    b"OLD": Key(lambda one: not one.recent),
    b"RECENT": Key(lambda one: one.recent),
}
for _name in ("answered", "deleted", "draft", "flagged", "seen"):
    FLAG_KEYS[_name.upper().encode()] = _has(f"\\{_name}")
    FLAG_KEYS[b"UN" + _name.upper().encode()] = _has(f"\\{_name}", False)
FLAG_KEYS[b"UNSEEN"] = _has("\\seen", False, UNSEEN)
FLAG_KEYS[b"DELETED"] = _has("\\deleted", True, DELETED)

NUMBER_KEYS: dict[bytes, Callable[[Candidate, int], bool]] = {
    b"LARGER": lambda one, size: one.size > size,
    b"SMALLER": lambda one, size: one.size < size,
    b"OLDER": lambda one, seconds: one.date <= time.time() - seconds,  # RFC 5032
    b"YOUNGER": lambda one, seconds: one.date >= time.time() - seconds,
}


def day_of(seconds: int) -> int:
    """Return the day, in days since 1970, of a time, in the time zone of this machine, as FETCH shows dates."""
    day: int = (seconds + time.localtime(seconds).tm_gmtoff) // 86400
    return day


DATE_KEYS: dict[bytes, Callable[[Candidate, int], bool]] = {
    b"BEFORE": lambda one, day: day_of(one.date) < day,
    b"ON": lambda one, day: day_of(one.date) == day,
    b"SINCE": lambda one, day: day_of(one.date) >= day,
    b"SENTBEFORE": lambda one, day: one.sent_day is not None and one.sent_day < day,
    b"SENTON": lambda one, day: one.sent_day == day,
    b"SENTSINCE": lambda one, day: one.sent_day is not None and one.sent_day >= day,
    b"SAVEDBEFORE": lambda one, day: day_of(one.saved) < day,  # RFC 8514 section 4.3
    b"SAVEDON": lambda one, day: day_of(one.saved) == day,
    b"SAVEDSINCE": lambda one, day: day_of(one.saved) >= day,
}

"""SEARCH: keys made into one predicate over messages (RFC 3501 section 6.4.4).

Texts are compared decoded and case-folded, as they lie ready in the database;
they are read only for messages that the keys before them let through.
"""

import re
import sqlite3
import time
from collections.abc import Callable
from typing import Any

from .. import text
from .grammar import BadCommand, Parser, SequenceSet
from .session import No, Selected

DEPTH_MAX = 50  # parentheses, NOT and OR inside each other


class Candidate:
    """A message that SEARCH looks at."""

    __slots__ = ("content", "date", "db", "flags", "number", "recent", "sent_day", "size", "uid")

    def __init__(self, db: sqlite3.Connection, selected: Selected, row: tuple[Any, ...]) -> None:
        self.db = db
        self.number, self.uid, flags, self.date, self.size, self.sent_day, self.content = row
        self.flags = flags.lower().split()
        self.recent = self.uid in selected.recent

    def header(self) -> str:
        return self._text("header")

    def body(self) -> str:
        return self._text("body")

    def _text(self, column: str) -> str:
        query = f"SELECT {column} FROM text WHERE content = ?"
        found: str = self.db.execute(query, (self.content,)).fetchone()[0]
        return found


COLUMNS = "message.flags, message.date, content.size, content.sent_day, message.content"

Key = Callable[[Candidate], bool]


class Search:
    """One SEARCH command."""

    def __init__(self, selected: Selected) -> None:
        self.selected = selected
        self.charset = "utf-8"

    def parse(self, parser: Parser) -> Key:
        """Read charset and keys. Raises BadCommand, or No for a charset that we do not know."""
        if parser.at(b"CHARSET "):
            name = parser.astring().decode("ascii", "replace")
            if name.upper() not in ("US-ASCII", "UTF-8"):
                raise No("[BADCHARSET (US-ASCII UTF-8)] Unknown charset")
            parser.space()
        keys = [self._key(parser, 1)]
        while parser.at(b" "):
            keys.append(self._key(parser, 1))
        return _all(keys)

    def _key(self, parser: Parser, depth: int) -> Key:
        if depth > DEPTH_MAX:
            raise BadCommand("Search keys too deep in each other")
        if parser.at(b"("):
            keys = [self._key(parser, depth + 1)]
            while parser.at(b" "):
                keys.append(self._key(parser, depth + 1))
            parser.expect(b")")
            return _all(keys)
        if parser.peek().isdigit() or parser.peek() == b"*":
            return self._in_set(parser.sequence_set(), by_uid=False)
        name = parser.atom()
        if name == b"NOT":
            parser.space()
            key = self._key(parser, depth + 1)
            return lambda one: not key(one)
        if name == b"OR":
            parser.space()
            first = self._key(parser, depth + 1)
            parser.space()
            second = self._key(parser, depth + 1)
            return lambda one: first(one) or second(one)
        if name == b"UID":
            parser.space()
            return self._in_set(parser.sequence_set(), by_uid=True)
        return self._simple(name, parser)

    def _simple(self, name: bytes, parser: Parser) -> Key:
        if name in FLAG_KEYS:
            return FLAG_KEYS[name]
        if name in (b"KEYWORD", b"UNKEYWORD"):
            parser.space()
            flag, wanted = parser.flag().lower(), name == b"KEYWORD"
            return lambda one: (flag in one.flags) == wanted
        if name in (b"LARGER", b"SMALLER"):
            parser.space()
            size = parser.number()
            return (lambda one: one.size > size) if name == b"LARGER" else (lambda one: one.size < size)
        if name in DATE_KEYS:
            parser.space()
            day, compare = parser.date(), DATE_KEYS[name]
            return lambda one: compare(one, day)
        if name in (b"FROM", b"TO", b"CC", b"BCC", b"SUBJECT"):
            return _in_field(name.decode().lower(), self._string(parser))
        if name == b"HEADER":
            parser.space()
            field = parser.astring().decode("utf-8", "replace").lower()
            return _in_field(field, self._string(parser))
        if name == b"BODY":
            wanted_text = self._string(parser)
            return lambda one: wanted_text in one.body()
        if name == b"TEXT":
            wanted_text = self._string(parser)
            return lambda one: wanted_text in one.header() or wanted_text in one.body()
        raise BadCommand("Unknown SEARCH key")

    def _string(self, parser: Parser) -> str:
        parser.space()
        try:
            return text.fold_case(parser.astring().decode(self.charset))
        except UnicodeDecodeError:
            raise BadCommand("Search text is not UTF-8") from None

    def _in_set(self, numbers: SequenceSet, by_uid: bool) -> Key:
        ranges = self.selected.ranges(numbers, by_uid)
        return lambda one: any(first <= one.uid <= last for first, last in ranges)

    def run(self, db: sqlite3.Connection, key: Key) -> list[Candidate]:
        """Return the messages that the key lets through, in order."""
        ranges = [(1, self.selected.known)]
        rows = self.selected.rows(ranges, COLUMNS, "JOIN content ON content.key = message.content")
        candidates = (Candidate(db, self.selected, row) for row in rows)
        return [one for one in candidates if key(one)]


def _all(keys: list[Key]) -> Key:
    if len(keys) == 1:
        return keys[0]
    return lambda one: all(key(one) for key in keys)


def _in_field(name: str, wanted: str) -> Key:
    """A header field contains a text; an empty one is in every field that is there."""
    field = re.compile(rf"\n{re.escape(name)}[ \t]*:([^\n]*)")
    return lambda one: any(wanted in value for value in field.findall(one.header()))


def _has(flag: str, wanted: bool = True) -> Key:
    return lambda one: (flag in one.flags) == wanted


FLAG_KEYS: dict[bytes, Key] = {
    b"ALL": lambda one: True,
    b"NEW": lambda one: one.recent and "\\seen" not in one.flags,
    b"OLD": lambda one: not one.recent,
    b"RECENT": lambda one: one.recent,
}
for _name in ("answered", "deleted", "draft", "flagged", "seen"):
    FLAG_KEYS[_name.upper().encode()] = _has(f"\\{_name}")
    FLAG_KEYS[b"UN" + _name.upper().encode()] = _has(f"\\{_name}", False)


def _day(one: Candidate) -> int:
    """The day of INTERNALDATE in the zone of this machine, in which it is also shown."""
    day: int = (one.date + time.localtime(one.date).tm_gmtoff) // 86400
    return day


DATE_KEYS: dict[bytes, Callable[[Candidate, int], bool]] = {
    b"BEFORE": lambda one, day: _day(one) < day,
    b"ON": lambda one, day: _day(one) == day,
    b"SINCE": lambda one, day: _day(one) >= day,
    b"SENTBEFORE": lambda one, day: one.sent_day is not None and one.sent_day < day,
    b"SENTON": lambda one, day: one.sent_day == day,
    b"SENTSINCE": lambda one, day: one.sent_day is not None and one.sent_day >= day,
}

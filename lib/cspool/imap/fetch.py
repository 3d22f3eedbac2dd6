"""FETCH: what a client asks for, made into one query and one function for each item (RFC 3501 section 6.4.5).

ENVELOPE and BODYSTRUCTURE lie ready in the database. A message is parsed only
for BODY and for sections that name a part.
"""

import re
import time
from collections.abc import Callable
from typing import Any

from .. import envelope, message
from .grammar import BadCommand, Parser, Section
from .session import Session

MACROS = {
    b"FAST": [b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE"],
    b"ALL": [b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE"],
    b"FULL": [b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE", b"BODY"],
}

CONTENT = "JOIN content ON content.key = message.content"
OCTETS = "JOIN octets ON octets.content = message.content"

Row = tuple[Any, ...]
Item = Callable[[Row], bytes]


class Fetch:
    """One FETCH command: its items, and whether they set \\\\Seen."""

    def __init__(self, session: Session, by_uid: bool) -> None:
        assert session.selected
        self.selected = session.selected
        self.columns: list[str] = []
        self.tables: list[str] = []
        self.items: dict[bytes, Item] = {}
        self.sets_seen = False
        if by_uid:
            self.add(b"UID")

    def parse(self, parser: Parser) -> None:
        """Read the items of the command."""
        if not parser.at(b"("):
            self._item(parser, macros=True)
            return
        self._item(parser)
        while not parser.at(b")"):
            parser.space()
            self._item(parser)

    def _item(self, parser: Parser, macros: bool = False) -> None:
        for name in (b"BODY.PEEK[", b"BODY["):
            if parser.at(name):
                section = parser.section()
                self._section(section, parser.partial())
                self.sets_seen |= name == b"BODY["
                return
        name = parser.atom()
        for one in MACROS.get(name, [name]) if macros else [name]:
            self.add(one)
        self.sets_seen |= name in (b"RFC822", b"RFC822.TEXT")

    def add(self, name: bytes) -> None:
        """Add an item by its name. Raises BadCommand."""
        if name == b"UID":
            self.items[name] = lambda row: b"UID %d" % row[1]
        elif name == b"FLAGS":
            flags = self._column("message.flags")
            self.items[name] = lambda row: b"FLAGS " + self.selected.flags(row[1], row[flags])
        elif name == b"INTERNALDATE":
            date = self._column("message.date")
            self.items[name] = lambda row: b"INTERNALDATE " + internal_date(row[date])
        elif name == b"RFC822.SIZE":
            size = self._column("content.size", CONTENT)
            self.items[name] = lambda row: b"RFC822.SIZE %d" % row[size]
        elif name == b"ENVELOPE":
            ready = self._column("content.envelope", CONTENT)
            self.items[name] = lambda row: b"ENVELOPE " + row[ready]
        elif name == b"BODYSTRUCTURE":
            structure = self._column("content.structure", CONTENT)
            self.items[name] = lambda row: b"BODYSTRUCTURE " + row[structure]
        elif name == b"BODY":
            self.items[name] = self._body()
        elif name in (b"RFC822", b"RFC822.HEADER", b"RFC822.TEXT"):
            what = name.partition(b".")[2]
            self._section(Section([], what, [], what), None, name)
        else:
            raise BadCommand("Unknown FETCH item")

    def _column(self, column: str, table: str = "") -> int:
        """Ask for a column, and return its place in a row, behind sequence number and UID."""
        if table and table not in self.tables:
            self.tables.append(table)
        if column not in self.columns:
            self.columns.append(column)
        return self.columns.index(column) + 2

    def _body(self) -> Item:
        header, body = self._column("octets.header", OCTETS), self._column("octets.body", OCTETS)

        def item(row: Row) -> bytes:
            octets = row[header] + row[body]
            return b"BODY " + envelope.structure(octets, message.parse(octets), extended=False)

        return item

    def _section(self, section: Section, partial: tuple[int, int] | None, name: bytes = b"") -> None:
        answer = name or b"BODY[%b]" % section.raw
        if partial:
            answer += b"<%d>" % partial[0]
        read = self._reader(section)

        def item(row: Row) -> bytes:
            octets = read(row)
            if octets is None:
                return answer + b" NIL"
            if partial:
                octets = octets[partial[0] : partial[0] + partial[1]]
            return b"%b {%d}\r\n%b" % (answer, len(octets), octets)

        self.items[answer + b"%d" % (partial[1] if partial else -1)] = item

    def _reader(self, section: Section) -> Callable[[Row], bytes | None]:
        """Return what takes a section out of a row; None where the message has no such part."""
        header = self._column("octets.header", OCTETS)
        if not section.path and section.what == b"HEADER":
            return lambda row: bytes(row[header])
        if not section.path and section.what.startswith(b"HEADER."):
            choose = header_fields(section)
            return lambda row: choose(row[header])
        body = self._column("octets.body", OCTETS)
        if not section.path:
            return lambda row: bytes(row[body]) if section.what == b"TEXT" else row[header] + row[body]
        return lambda row: part_of(row[header] + row[body], section)

    def run(self, session: Session, ranges: list[tuple[int, int]]) -> None:
        """Answer for the messages in these UID ranges."""
        seen = self._set_seen(session, ranges) if self.sets_seen and not self.selected.read_only else {}
        items = list(self.items.values())
        columns = ", ".join(["NULL", *self.columns] if not self.columns else self.columns)
        for row in self.selected.rows(ranges, columns, " ".join(self.tables)):
            parts = [item(row) for item in items]
            if row[1] in seen and b"FLAGS" not in self.items:
                parts.append(b"FLAGS " + self.selected.flags(row[1], seen[row[1]]))
            session.untagged(b"%d FETCH (%b)" % (row[0], b" ".join(parts)))

    def _set_seen(self, session: Session, ranges: list[tuple[int, int]]) -> dict[int, str]:
        """Set \\\\Seen on those of the messages that lack it; return their flags by UID."""
        unseen = [
            (uid, message_id)
            for _, uid, message_id, flags in self.selected.rows(ranges, "message.id, message.flags")
            if "\\Seen" not in flags.split()
        ]
        if not unseen:
            return {}
        session.change_messages([{"do": "add-flags", "flags": ["\\Seen"]}], [message_id for _, message_id in unseen])
        wanted = {uid for uid, _ in unseen}
        now = {uid: flags for _, uid, flags in self.selected.rows(ranges, "message.flags") if uid in wanted}
        self.selected.told.update(now)
        return now


def internal_date(seconds: int) -> bytes:
    """Return a date-time in the zone of this machine (RFC 3501 section 9)."""
    from .grammar import MONTHS

    date = time.localtime(seconds)
    sign, minutes = "-" if date.tm_gmtoff < 0 else "+", abs(date.tm_gmtoff) // 60
    month = MONTHS[date.tm_mon - 1].decode().capitalize()
    return (
        f'"{date.tm_mday:2}-{month}-{date.tm_year:04} {date.tm_hour:02}:{date.tm_min:02}:{date.tm_sec:02}'
        f' {sign}{minutes // 60:02}{minutes % 60:02}"'
    ).encode()


def header_fields(section: Section) -> Callable[[bytes], bytes]:
    """Return what picks the fields of HEADER.FIELDS or HEADER.FIELDS.NOT out of a header.

    The empty line behind the header is always there (RFC 3501 section 6.4.5).
    """
    wanted = b"|".join(re.escape(name) for name in section.names)
    if section.what == b"HEADER.FIELDS.NOT":
        wanted = rb"(?!(?:%b)[ \t]*:)[^\s:][^:\n]*?" % wanted
    fields = re.compile(rb"^(?:%b)[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*\n?" % wanted, re.IGNORECASE | re.MULTILINE)

    def choose(header: bytes) -> bytes:
        found = b"".join(fields.findall(header))
        # A message may end within its header.
        return found + (b"\r\n" if not found or found.endswith(b"\n") else b"\r\n\r\n")

    return choose


def part_of(octets: bytes, section: Section) -> bytes | None:
    """Return a section that names a part, or None where there is no such part."""
    part = message.parse(octets).find(section.path)
    if part is None:
        return None
    if not section.what:
        return octets[part.body : part.end]
    if section.what == b"MIME":
        return octets[part.start : part.body]
    inner = part.message
    if inner is None:
        return None
    if section.what == b"TEXT":
        return octets[inner.body : inner.end]
    header = octets[inner.start : inner.body]
    return header if section.what == b"HEADER" else header_fields(section)(header)

"""FETCH: what a client asks for, made into one query and one function for each item (RFC 9051 section 6.4.5).

ENVELOPE, BODYSTRUCTURE and PREVIEW lie ready in the database. A message is
parsed only for BODY and for sections that name a part.
"""

import re
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from ..mail import envelope, message, text
from .grammar import CONDSTORE, MONTHS, QRESYNC, BadCommand, No, Parser, Section, SequenceSet
from .session import Session
from .sets import Ranges, merged, uid_set, within

MACROS = {
    b"FAST": [b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE"],
    b"ALL": [b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE"],
    b"FULL": [b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE", b"BODY"],
}

CONTENT = "JOIN content ON content.key = message.content"
OCTETS = "JOIN octets ON octets.content = message.content"

_BETWEEN_FIELDS = re.compile(rb"\n(?![ \t])")

T = TypeVar("T")
Row = tuple[Any, ...]
Item = Callable[[Row], bytes]


class Fetch:
    r"""One FETCH command: its items, its modifiers, and whether it sets \Seen."""

    def __init__(self, session: Session, by_uid: bool) -> None:
        assert session.selected
        self.session = session
        self.selected = session.selected
        self.by_uid = by_uid
        self.columns: list[str] = []
        self.tables: list[str] = []
        self.items: dict[bytes, Item] = {}
        self.sets_seen = False
        self.changed_since: int | None = None
        self.vanished = False
        self.partial: tuple[int, int] | None = None
        if by_uid:
            self.add(b"UID")

    def parse(self, parser: Parser) -> None:
        """Read the items and modifiers of the command."""
        if parser.peek() == b"(":
            if not parser.parenthesized(lambda: self._item(parser)):
                raise BadCommand("Nothing to fetch")
        else:
            self._item(parser, macros=True)
        if parser.at(b" "):
            parser.parenthesized(lambda: self._modifier(parser))
        if self.vanished and not (self.by_uid and self.changed_since is not None and QRESYNC in self.session.enabled):
            raise BadCommand("VANISHED needs UID FETCH, CHANGEDSINCE and QRESYNC")
        if CONDSTORE in self.session.enabled and b"FLAGS" in self.items:
            self.add(b"MODSEQ")

    def _modifier(self, parser: Parser) -> None:
        name = parser.atom()
        if name == b"CHANGEDSINCE":
            parser.space()
            self.changed_since = parser.modseq()
            self.session.enabled.add(CONDSTORE)
            self.add(b"MODSEQ")
        elif name == b"VANISHED":
            self.vanished = True
        elif name == b"PARTIAL" and self.by_uid:
            parser.space()
            self.partial = parser.partial_range()
        else:
            raise BadCommand("Unknown FETCH modifier")

    def _item(self, parser: Parser, macros: bool = False) -> None:
        for name in (b"BODY.PEEK[", b"BODY["):
            if parser.at(name):
                section = parser.section()
                self._section(section, parser.partial())
                self.sets_seen |= name == b"BODY["
                return
        for name in (b"BINARY.PEEK[", b"BINARY.SIZE[", b"BINARY["):
            if parser.at(name):
                path = parser.binary_section()
                self._binary(path, name == b"BINARY.SIZE[", None if b"SIZE" in name else parser.partial())
                self.sets_seen |= name == b"BINARY["
                return
        name = parser.atom()
        for one in MACROS.get(name, [name]) if macros else [name]:
            self.add(one)
        if name == b"PREVIEW":
            parser.at(b" (LAZY)")  # RFC 8970 section 4.1; a preview is always there
        self.sets_seen |= name in (b"RFC822", b"RFC822.TEXT")

    def add(self, name: bytes) -> None:
        """Add an item by its name. Raises BadCommand."""
        if name in (b"RFC822", b"RFC822.HEADER", b"RFC822.TEXT"):
            what = name.partition(b".")[2]
            self._section(Section([], what, [], what), None, name)
            return
        make = ITEMS.get(name)
        if not make:
            raise BadCommand("Unknown FETCH item")
        self.items[name] = make(self)
        if name == b"MODSEQ":
            self.session.enabled.add(CONDSTORE)

    def column(self, column: str, table: str = "") -> int:
        """Ask for a column, and return its place in a row, behind sequence number and UID."""
        if table and table not in self.tables:
            self.tables.append(table)
        if column not in self.columns:
            self.columns.append(column)
        return self.columns.index(column) + 2

    def octets(self) -> Callable[[Row], bytes]:
        """Return what reads the whole message from a row."""
        header, body = self.column("octets.header", OCTETS), self.column("octets.body", OCTETS)
        return lambda row: row[header] + row[body]

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

        self.items[b"%b %d" % (answer, partial[1] if partial else 0)] = item

    def _reader(self, section: Section) -> Callable[[Row], bytes | None]:
        """Return what takes a section out of a row; None where the message has no such part."""
        if section.path:
            whole = self.octets()
            return lambda row: part_of(whole(row), section)
        if section.what == b"TEXT":
            body = self.column("octets.body", OCTETS)
            return lambda row: bytes(row[body])
        header = self.column("octets.header", OCTETS)
        if section.what == b"HEADER":
            return lambda row: bytes(row[header])
        if section.what:
            choose = header_fields(section)
            return lambda row: choose(row[header])
        return self.octets()

    def _binary(self, path: list[int], size: bool, partial: tuple[int, int] | None) -> None:
        """BINARY and BINARY.SIZE: a part without its Content-Transfer-Encoding (RFC 3516)."""
        answer = b"%b[%b]" % (b"BINARY.SIZE" if size else b"BINARY", b".".join(b"%d" % number for number in path))
        if partial:
            answer += b"<%d>" % partial[0]
        whole = self.octets()

        def item(row: Row) -> bytes:
            octets = decoded_part(whole(row), path)
            if size:
                return b"%b %d" % (answer, len(octets or b""))
            if octets is None:
                return answer + b" NIL"
            if partial:
                octets = octets[partial[0] : partial[0] + partial[1]]
            # A literal8 only where a literal will not do.
            return b"%b %b{%d}\r\n%b" % (answer, b"~" if b"\0" in octets else b"", len(octets), octets)

        self.items[b"%b %d" % (answer, partial[1] if partial else 0)] = item

    # Doing it

    def run(self, numbers: SequenceSet) -> None:
        """Answer for the messages of a set."""
        selected, write = self.selected, self.session.connection.write
        ranges = selected.ranges(numbers, self.by_uid)
        if self.vanished:
            self._tell_vanished(selected.past_ranges(numbers))
        if self.changed_since is not None:
            rows = selected.rows(ranges, "message.modseq")
            ranges = merged([(uid, uid) for _, uid, modseq in rows if modseq > self.changed_since])
        if self.partial:
            ranges = self._take_partial(ranges)
        seen = set()
        if self.sets_seen and not selected.read_only:
            seen = self._set_seen(ranges)
            # A change of flags is told as everywhere else.
            told = [b"FLAGS"] + [b"UID"] * (QRESYNC in self.session.enabled)
            told += [b"MODSEQ"] * (CONDSTORE in self.session.enabled)
            changed = [ITEMS[name](self) for name in told if name not in self.items]
        flags = self.column("message.flags") if seen else 0
        items = list(self.items.values())
        columns = ", ".join(self.columns or ["NULL"])
        for row in selected.rows(ranges, columns, " ".join(self.tables)):
            parts = [item(row) for item in items]
            if row[1] in seen:
                parts += [item(row) for item in changed]
                selected.told[row[1]] = row[flags]
            write(b"* %d FETCH (%b)\r\n" % (row[0], b" ".join(parts)))

    def _take_partial(self, ranges: Ranges) -> Ranges:
        assert self.partial
        uids = [uid for _, uid, _ in self.selected.rows(ranges, "NULL")]
        return merged([(uid, uid) for uid in cut(uids, self.partial)])

    def _tell_vanished(self, ranges: Ranges) -> None:
        """VANISHED (EARLIER) for what is gone since, of what was asked for (RFC 7162 section 3.2.6)."""
        gone = vanished_since(self.session, self.selected.key, self.changed_since or 0, ranges)
        if gone:
            self.session.untagged(b"VANISHED (EARLIER) " + uid_set(gone))

    def _set_seen(self, ranges: Ranges) -> set[int]:
        r"""Set \Seen on those of the messages that lack it; return their UIDs."""
        rows = self.selected.rows(ranges, "message.id, message.flags")
        unseen = {uid: message_id for _, uid, message_id, flags in rows if "\\Seen" not in flags.split()}
        self.session.change_messages([{"do": "add-flags", "flags": ["\\Seen"]}], list(unseen.values()))
        return set(unseen)


# Each makes, for a FETCH, what answers the item for a row.


def _ready(name: bytes, column: str, table: str = "") -> Callable[[Fetch], Item]:
    """An item whose octets lie in the database as they are sent."""

    def make(fetch: Fetch) -> Item:
        place = fetch.column(column, table)
        return lambda row: b"%b %b" % (name, row[place])

    return make


def _number(form: bytes, column: str, table: str = "") -> Callable[[Fetch], Item]:
    def make(fetch: Fetch) -> Item:
        place = fetch.column(column, table)
        return lambda row: form % row[place]

    return make


def _flags(fetch: Fetch) -> Item:
    place, selected = fetch.column("message.flags"), fetch.selected
    ready: dict[tuple[bool, str], bytes] = {}  # few messages have flags that no other has

    def item(row: Row) -> bytes:
        flags = row[place]
        known = ready.get((row[1] in selected.recent, flags))
        return known or ready.setdefault((row[1] in selected.recent, flags), b"FLAGS " + selected.flags(row[1], flags))

    return item


def _date(name: bytes, column: str) -> Callable[[Fetch], Item]:
    def make(fetch: Fetch) -> Item:
        place = fetch.column(column)
        return lambda row: b"%b %b" % (name, date_time(row[place]))

    return make


def _body(fetch: Fetch) -> Item:
    whole = fetch.octets()

    def item(row: Row) -> bytes:
        octets = whole(row)
        return b"BODY " + envelope.structure(octets, message.parse(octets), extended=False)

    return item


ITEMS: dict[bytes, Callable[[Fetch], Item]] = {
    b"UID": lambda fetch: lambda row: b"UID %d" % row[1],
    b"FLAGS": _flags,
    b"INTERNALDATE": _date(b"INTERNALDATE", "message.date"),
    b"SAVEDATE": _date(b"SAVEDATE", "message.saved"),  # RFC 8514
    b"MODSEQ": _number(b"MODSEQ (%d)", "message.modseq"),  # RFC 7162
    b"RFC822.SIZE": _number(b"RFC822.SIZE %d", "content.size", CONTENT),
    b"ENVELOPE": _ready(b"ENVELOPE", "content.envelope", CONTENT),
    b"BODYSTRUCTURE": _ready(b"BODYSTRUCTURE", "content.structure", CONTENT),
    b"PREVIEW": _ready(b"PREVIEW", "content.preview", CONTENT),  # RFC 8970
    b"BODY": _body,
    b"EMAILID": _ready(b"EMAILID", "CAST('(M' || lower(hex(content.id)) || ')' AS BLOB)", CONTENT),  # RFC 8474
    b"THREADID": lambda fetch: lambda row: b"THREADID NIL",
}


def cut(found: list[T], partial: tuple[int, int]) -> list[T]:
    """Return the part of a result that PARTIAL asks for: counted from 1, or from the end; either end first."""
    first, last = min(partial), max(partial)
    if first < 0:
        first, last = len(found) + first + 1, len(found) + last + 1
    return found[max(0, first - 1) : max(0, last)]


def vanished_since(session: Session, mailbox: int, modseq: int, ranges: Ranges) -> list[int]:
    """Return the UIDs in these ranges that have been expunged since."""
    query = "SELECT uid FROM vanished WHERE mailbox = ? AND modseq > ?"
    return within(sorted(uid for (uid,) in session.db.execute(query, (mailbox, modseq))), ranges)


def date_time(seconds: int) -> bytes:
    """Return a date-time in the zone of this machine (RFC 3501 section 9)."""
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
    names = frozenset(name.lower() for name in section.names)
    chosen = section.what == b"HEADER.FIELDS"

    def wanted(name: bytes) -> bool:
        if name.startswith((b" ", b"\t")) or b"\n" in name:
            return False  # no field: a line without a colon, or what goes on from nothing
        return (name.rstrip(b" \t").lower() in names) is chosen

    remembered = lru_cache(1000)(wanted)  # headers are full of the same names, none of them long

    def choose(header: bytes) -> bytes:
        kept = []
        for field in _BETWEEN_FIELDS.split(header):
            name, colon, _ = field.partition(b":")
            if colon and (remembered if len(name) < 80 else wanted)(name):
                kept.append(field)
        found = b"\n".join(kept)
        # A message may end within its header, and without a line end.
        return found + (b"\n\r\n" if found.endswith(b"\r") else b"\r\n\r\n" if found else b"\r\n")

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


def decoded_part(octets: bytes, path: list[int]) -> bytes | None:
    """Return a part without its transfer encoding; None where there is no such part. Raises No."""
    if not path:
        return octets
    part = message.parse(octets).find(path)
    if part is None:
        return None
    if part.encoding not in (b"7bit", b"8bit", b"binary", b"base64", b"quoted-printable"):
        raise No("[UNKNOWN-CTE] Unknown Content-Transfer-Encoding")
    return text.decoded(octets, part)

"""FETCH: the items as one query, and one function for each item (RFC 9051 section 6.4.5).

The database has ENVELOPE, BODYSTRUCTURE and PREVIEW as they are sent. A
message is parsed only for BODY, and for sections that name a part.
"""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeVar

from ..mail import envelope, message, transfer
from .grammar import (
    CONDSTORE,
    MONTHS,
    QRESYNC,
    BadCommand,
    No,
    Parser,
    Partial,
    PartialRange,
    Section,
    SequenceSet,
)
from .pieces import Found, Span
from .selected import Selected
from .session import Session
from .sets import Ranges, merged, uid_set

MACROS = {
    b"FAST": [b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE"],
    b"ALL": [b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE"],
    b"FULL": [b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"ENVELOPE", b"BODY"],
}

CONTENT = "JOIN content ON content.key = message.content"
OCTETS = "JOIN octets ON octets.content = message.content"

_BETWEEN_FIELDS = re.compile(rb"\n(?![ \t])")

T = TypeVar("T")
Row = tuple[Any, ...]  # sequence number, UID, and the columns that `Fetch.column` was asked for
Item = Callable[[Row], bytes]  # returns the item of a message as it is sent, with its name


class Fetch:
    r"""One FETCH command: its items, its modifiers, and whether it sets \Seen. To run it needs a selected mailbox."""

    def __init__(self, session: Session, by_uid: bool) -> None:
        self.session = session
        self.by_uid = by_uid
        self.columns: list[str] = []
        self.tables: list[str] = []  # joins that the columns need
        self.items: dict[bytes, Item] = {}  # by what tells items apart: each is sent once
        self.sets_seen = False
        self.may_fail = False  # a part may be in an encoding that cannot be decoded
        self.changed_since: int | None = None  # MODSEQ
        self.vanished = False
        self.partial_range: PartialRange | None = None
        if by_uid:
            self.add(b"UID")

    @property
    def selected(self) -> Selected:
        """Return the selected mailbox, whichever that is now."""
        return self.session.selection()

    def parse(self, parser: Parser) -> None:
        """Read the items and modifiers of the command. Raises BadCommand."""
        if parser.peek() == b"(":
            self.parse_items(parser)
        else:
            self._item(parser, macros=True)
        if parser.at(b" "):
            parser.parenthesized(lambda: self._modifier(parser))
        if self.vanished and not (self.by_uid and self.changed_since is not None and QRESYNC in self.session.enabled):
            raise BadCommand("VANISHED needs UID FETCH, CHANGEDSINCE and QRESYNC")

    def parse_items(self, parser: Parser) -> None:
        """Read the items in parentheses. Raises BadCommand."""
        if not parser.parenthesized(lambda: self._item(parser)):
            raise BadCommand("Nothing to fetch")

    def _modifier(self, parser: Parser) -> None:
        name = parser.atom()
        if name == b"CHANGEDSINCE":
            parser.space()
            self.changed_since = parser.modseq()
            self.session.enable_condstore()
            self.add(b"MODSEQ")
        elif name == b"VANISHED":
            self.vanished = True
        elif name == b"PARTIAL" and self.by_uid:
            parser.space()
            self.partial_range = parser.partial_range()
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
                self.may_fail = True
                self.sets_seen |= name == b"BINARY["
                return
        name = parser.atom()
        for one in MACROS.get(name, [name]) if macros else [name]:
            self.add(one)
        if name == b"PREVIEW":
            parser.at(b" (LAZY)")  # RFC 8970 section 4.1; the preview is always ready
        self.sets_seen |= name in (b"RFC822", b"RFC822.TEXT")

    def add(self, name: bytes) -> None:
        """Add an item by its name, unless it has a section. Raises BadCommand."""
        if name in (b"RFC822", b"RFC822.HEADER", b"RFC822.TEXT"):
            what = name.partition(b".")[2]
            self._section(Section([], what, [], what), None, name)
            return
        make = ITEMS.get(name)
        if not make:
            raise BadCommand("Unknown FETCH item")
        self.items[name] = make(self)
        if name == b"MODSEQ":
            self.session.enable_condstore()

    def column(self, column: str, table: str = "") -> int:
        """Add a column to the query, with the join that it needs; return its index in a Row."""
        if table and table not in self.tables:
            self.tables.append(table)
        if column not in self.columns:
            self.columns.append(column)
        return self.columns.index(column) + 2

    def octets(self) -> Callable[[Row], bytes]:
        """Return a function that takes the whole message out of a row."""
        header, body = self.column("octets.header", OCTETS), self.column("octets.body", OCTETS)
        return lambda row: row[header] + row[body]

    def _section(self, section: Section, partial: Partial | None, name: bytes = b"") -> None:
        """Add a section, or part of it; `name` is how it is answered, if not as BODY[...]."""
        answer = name or b"BODY[%b]" % section.raw
        read = self._reader(section)
        if partial:
            read = self._piece(answer, partial, lambda octets: find(octets, section))
            answer += b"<%d>" % partial.start

        def item(row: Row) -> bytes:
            octets = read(row)
            if octets is None:
                return answer + b" NIL"
            return b"%b {%d}\r\n%b" % (answer, len(octets), octets)

        self.items[b"%b %d" % (answer, partial.length if partial else 0)] = item

    def _piece(self, name: bytes, partial: Partial, find: Callable[[bytes], Found]) -> Callable[[Row], bytes | None]:
        """Return a function that takes a piece of a section, which `find` finds in a message, out of a row."""
        content, pieces = self.column("message.content"), self.session.pieces
        return lambda row: pieces.read(row[content], name, partial, find)

    def _reader(self, section: Section) -> Callable[[Row], bytes | None]:
        """Return a function that takes a section out of a row, None if the message has no such part."""
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

    def _binary(self, path: list[int], size: bool, partial: Partial | None) -> None:
        """Add BINARY, or BINARY.SIZE: a part without its Content-Transfer-Encoding (RFC 3516 section 4.2)."""
        answer = b"%b[%b]" % (b"BINARY.SIZE" if size else b"BINARY", b".".join(b"%d" % number for number in path))
        if partial:
            read = self._piece(
                answer, partial, lambda octets: decoded_part(octets, path) if path else Span(0, len(octets))
            )
            answer += b"<%d>" % partial.start
        else:
            whole = self.octets()
            read = lambda row: decoded_part(whole(row), path)  # noqa: E731

        def item(row: Row) -> bytes:
            octets = read(row)
            if size:
                return b"%b %d" % (answer, len(octets or b""))
            if octets is None:
                return answer + b" NIL"
            # A literal8 only for NUL, which a literal cannot hold (RFC 3516 section 4.3).
            return b"%b %b{%d}\r\n%b" % (answer, b"~" if b"\0" in octets else b"", len(octets), octets)

        self.items[b"%b %d" % (answer, partial.length if partial else 0)] = item

    # Answering

    def run(self, numbers: SequenceSet) -> bool:
        """Send the answers for the messages of a set. Raises BadCommand and No.

        Return whether all are there: of those that another session has
        expunged, and the client has not been told so, only the UID is known.
        """
        selected, write = self.selected, self.session.connection.write
        if CONDSTORE in self.session.enabled and b"FLAGS" in self.items:
            self.add(b"MODSEQ")
        ranges = selected.ranges(numbers, self.by_uid)
        if self.vanished:
            self._tell_vanished(selected.past_ranges(numbers))
        if self.changed_since is not None:
            rows = selected.rows(ranges, "message.modseq")
            ranges = merged([(uid, uid) for _, uid, modseq in rows if modseq > self.changed_since])
        if self.partial_range:
            uids = [uid for _, uid, _ in selected.rows(ranges, "NULL")]
            ranges = merged([(uid, uid) for uid in page(uids, self.partial_range)])
        seen = set()
        if self.sets_seen and not selected.read_only:
            seen = self._set_seen(self._before_failure(ranges) if self.may_fail else ranges)
            # Changed flags are sent with the items that Selected.flags_answer would send.
            names = [b"FLAGS"] + [b"UID"] * (QRESYNC in self.session.enabled)
            names += [b"MODSEQ"] * (CONDSTORE in self.session.enabled)
            changed = [ITEMS[name](self) for name in names if name not in self.items]
        flags = self.column("message.flags") if seen else 0
        items = list(self.items.values())
        known = selected.numbers(ranges)
        if self.items.keys() == {b"UID"}:
            for number in known:
                write(b"* %d FETCH (UID %d)\r\n" % (number, selected.uids[number - 1]))
            return True
        columns, count = ", ".join(self.columns or ["NULL"]), 0
        for row in selected.rows(ranges, columns, " ".join(self.tables)):
            parts = [item(row) for item in items]
            if row[1] in seen:
                parts += [item(row) for item in changed]
                selected.told[row[1]] = row[flags]
            write(b"* %d FETCH (%b)\r\n" % (row[0], b" ".join(parts)))
            count += 1
        return count == len(known)

    def _before_failure(self, ranges: Ranges) -> Ranges:
        """Return the UIDs of the messages that can be sent, up to the first that cannot."""
        items, sent = list(self.items.values()), []
        rows = self.selected.rows(ranges, ", ".join(self.columns or ["NULL"]), " ".join(self.tables))
        with suppress(No):
            for row in rows:
                for item in items:
                    item(row)
                sent.append((row[1], row[1]))
        return merged(sent)

    def _tell_vanished(self, ranges: Ranges) -> None:
        """Send VANISHED (EARLIER) for the UIDs asked for that have been expunged since (RFC 7162 section 3.2.6)."""
        gone = self.selected.gone_since(self.changed_since or 0, ranges)
        if gone:
            self.session.untagged(b"VANISHED (EARLIER) " + uid_set(gone))

    def _set_seen(self, ranges: Ranges) -> set[int]:
        r"""Set \Seen on the messages that lack it; return their UIDs."""
        rows = self.selected.rows(ranges, "message.id, message.flags")
        unseen = {uid: message_id for _, uid, message_id, flags in rows if "\\Seen" not in flags.split()}
        self.session.change_messages([{"do": "add-flags", "flags": ["\\Seen"]}], list(unseen.values()))
        return set(unseen)


# Items, for ITEMS: each function adds the columns that it needs to a Fetch, and returns the Item.


def _ready(name: bytes, column: str, table: str = "") -> Callable[[Fetch], Item]:
    """Return the function for an item that the database has as it is sent."""

    def make(fetch: Fetch) -> Item:
        index = fetch.column(column, table)
        return lambda row: b"%b %b" % (name, row[index])

    return make


def _number(form: bytes, column: str, table: str = "") -> Callable[[Fetch], Item]:
    def make(fetch: Fetch) -> Item:
        index = fetch.column(column, table)
        return lambda row: form % row[index]

    return make


def _flags(fetch: Fetch) -> Item:
    index = fetch.column("message.flags")
    ready: dict[tuple[bool, str], bytes] = {}  # a cache: most messages share their flags with others

    def item(row: Row) -> bytes:
        flags, selected = row[index], fetch.selected
        known = ready.get((row[1] in selected.recent, flags))
        return known or ready.setdefault((row[1] in selected.recent, flags), b"FLAGS " + selected.flags(row[1], flags))

    return item


def _date(name: bytes, column: str) -> Callable[[Fetch], Item]:
    def make(fetch: Fetch) -> Item:
        index = fetch.column(column)
        return lambda row: b"%b %b" % (name, date_time(row[index]))

    return make


def _body(fetch: Fetch) -> Item:
    whole = fetch.octets()

    def item(row: Row) -> bytes:
        octets = whole(row)
        return b"BODY " + envelope.structure(message.parse(octets), extended=False)

    return item


def _thread_id(fetch: Fetch) -> Item:
    """RFC 8474 section 5.2: the first message that this one refers to, or itself."""
    own = fetch.column("content.id", CONTENT)
    thread = fetch.column("ordering.thread", "JOIN ordering ON ordering.content = message.content")
    return lambda row: b"THREADID (T%b)" % (row[thread] or row[own]).hex().encode()


# Items without a section, by name.
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
    b"THREADID": _thread_id,
}


def page(results: list[T], partial_range: PartialRange) -> list[T]:
    """Return the results that PARTIAL asks for, as many of them as there are (RFC 9394 section 3.1)."""
    first, last = min(partial_range), max(partial_range)
    if first < 0:
        first, last = len(results) + first + 1, len(results) + last + 1
    return results[max(0, first - 1) : max(0, last)]


def date_time(seconds: int) -> bytes:
    """Return seconds since 1970 as a quoted date-time in the time zone of this machine (RFC 3501 section 9)."""
    date = time.localtime(seconds)
    sign, minutes = "-" if date.tm_gmtoff < 0 else "+", abs(date.tm_gmtoff) // 60
    month = MONTHS[date.tm_mon - 1].decode().capitalize()
    return (
        f'"{date.tm_mday:2}-{month}-{date.tm_year:04} {date.tm_hour:02}:{date.tm_min:02}:{date.tm_sec:02}'
        f' {sign}{minutes // 60:02}{minutes % 60:02}"'
    ).encode()


def header_fields(section: Section) -> Callable[[bytes], bytes]:
    """Return a function that picks the fields of HEADER.FIELDS or HEADER.FIELDS.NOT out of a header.

    What it returns always ends with the empty line (RFC 3501 section 6.4.5).
    """
    names = frozenset(name.lower() for name in section.names)
    chosen = section.what == b"HEADER.FIELDS"

    def wanted(name: bytes) -> bool:
        if name.startswith((b" ", b"\t")) or b"\n" in name:
            return False  # not a field: its first line has no colon, or continues a field that is not there
        return (name.rstrip(b" \t").lower() in names) is chosen

    remembered = lru_cache(1000)(wanted)  # the same names come again and again; only short ones are kept

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
    """Return a section that names a part, out of the octets of a message; None if there is no such part."""
    found = find(octets, section)
    return octets[found.start : found.end] if isinstance(found, Span) else found


def find(octets: bytes, section: Section) -> Found:
    """Return where a section is in the octets of a message."""
    part = message.parse(octets).find(section.path) if section.path else message.Part(octets, 0, len(octets))
    if part is None:
        return None
    start, end = (part.start, part.body) if section.what == b"MIME" else (part.body, part.end)
    if section.what != b"MIME" and (section.what or not section.path):
        inner = part.message if section.path else part
        if inner is None:
            return None
        if section.what not in (b"", b"TEXT", b"HEADER"):
            return header_fields(section)(inner.header)
        part, start, end = inner, inner.start, inner.end
        if section.what == b"TEXT":
            start = inner.body
        elif section.what == b"HEADER":
            end = inner.body
    return Span(start, end) if part.octets is octets else part.octets[start:end]


def decoded_part(octets: bytes, path: list[int]) -> bytes | None:
    """Return a part without its transfer encoding; the whole message, as it is, if `path` is empty.

    Return None if there is no such part. Raises No for an unknown encoding,
    and for one that is damaged: what is decoded would not be the whole part.
    """
    if not path:
        return octets
    part = message.parse(octets).find(path)
    if part is None:
        return None
    if part.encoding not in transfer.KNOWN:
        raise No("[UNKNOWN-CTE] Unknown Content-Transfer-Encoding")
    decoded = transfer.decode(part.content, part.encoding)
    if not decoded.is_whole:
        raise No("[PARSE] The part is not in its Content-Transfer-Encoding")
    return decoded.octets

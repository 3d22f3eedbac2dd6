"""Parse a client's command, from left to right: the grammar of RFC 3501 and RFC 9051, section 9.

A command is a list of pieces: a line, and after each line that ends with {n}
a literal of n octets and the next line.
"""

import re
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from ..form import DATE_MAX
from ..mail import utf7

_ATOM = re.compile(rb'[^\x00-\x20(){%*"\\\]\x7f-\xff]+')
_ASTRING = re.compile(rb'[^\x00-\x20(){%*"\\\x7f-\xff]+')
_LIST_MAILBOX = re.compile(rb'[^\x00-\x20(){"\\\x7f-\xff]+')
_TAG = re.compile(rb'[^\x00-\x20(){%*"\\\]\x7f-\xff+]+')
_QUOTED = re.compile(rb'"((?:[^\r\n"\\]|\\["\\])*)"')
_ESCAPE = re.compile(rb'\\(["\\])')
_MODSEQ = re.compile(rb"[0-9]{1,19}")
_NUMBER = re.compile(rb"[0-9]{1,10}")
_SET = re.compile(
    rb"(?:[1-9][0-9]{0,9}|\*)(?::(?:[1-9][0-9]{0,9}|\*))?(?:,(?:[1-9][0-9]{0,9}|\*)(?::(?:[1-9][0-9]{0,9}|\*))?)*"
)
_FLAG = re.compile(rb'\\?[^\x00-\x20(){%*"\\\]\x7f-\xff]+')
_DATE = re.compile(rb"(\d\d?)-([A-Za-z]{3})-(\d{4})")
_DATE_TIME = re.compile(rb'"( ?\d|\d\d)-([A-Za-z]{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)"')
LITERAL = re.compile(rb"(~?)\{(\d{1,19})(\+?)\}\Z")  # with the marks of RFC 3516 and RFC 7888

MONTHS = [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"]
NUMBER_MAX = 2**32 - 1  # RFC 3501 section 9, number
MODSEQ_MAX = 2**63 - 1  # RFC 7162 section 7

# The ranges of a sequence set, with None for "*"; or None for "$", the saved result (RFC 5182).
SequenceSet = list[tuple[int | None, int | None]] | None

T = TypeVar("T")

# The extensions that ENABLE can enable (RFC 5161). Other commands enable CONDSTORE too (RFC 7162 section 3.1).
CONDSTORE, QRESYNC, UTF8, METADATA, REV2 = "CONDSTORE", "QRESYNC", "UTF8=ACCEPT", "METADATA", "IMAP4REV2"


class No(Exception):
    """The command fails; the text is for the NO answer."""


class BadCommand(Exception):
    """The command does not follow the grammar; the text is for the BAD answer."""


class Section(NamedTuple):
    """A section of BODY[...] (RFC 3501 section 6.4.5): a part, and what of that part."""

    path: list[int]  # part numbers; empty for the whole message
    what: bytes  # b"", HEADER, HEADER.FIELDS, HEADER.FIELDS.NOT, TEXT or MIME
    names: list[bytes]  # of HEADER.FIELDS and HEADER.FIELDS.NOT, as the client wrote them
    raw: bytes  # the section as the answer repeats it


class Partial(NamedTuple):
    """The <start.length> after a section (RFC 3501 section 6.4.5), in octets."""

    start: int
    length: int


class PartialRange(NamedTuple):
    """The range of PARTIAL (RFC 9394 section 3.1), in the client's order: 1 is the first result, -1 the last."""

    first: int
    last: int


class Parser:
    """Reads a command piece by piece. Each method consumes what it returns, or raises BadCommand."""

    def __init__(self, pieces: list[bytes], utf8: bool = False) -> None:
        self.pieces = pieces  # lines at even indexes, literals at odd ones
        self.utf8 = utf8  # mailbox names are UTF-8 (RFC 6855, RFC 9051)
        self.line = pieces[0]
        self.piece = 0  # index of `line`
        self.offset = 0  # octets of `line` that have been consumed

    # Basics

    def mark(self) -> tuple[int, int]:
        """Return where the parser is, for `rewind`."""
        return self.piece, self.offset

    def rewind(self, mark: tuple[int, int]) -> None:
        """Read again from here on."""
        self.piece, self.offset = mark
        self.line = self.pieces[self.piece]

    def at(self, octets: bytes) -> bool:
        """Return whether these octets come next, in any case, and consume them if so. `octets` is in upper case."""
        end = self.offset + len(octets)
        if self.line[self.offset : end].upper() != octets:
            return False
        self.offset = end
        return True

    def peek(self, count: int = 1) -> bytes:
        """Return the next octets of the line without consuming them; fewer at the end of the line."""
        return self.line[self.offset : self.offset + count]

    def expect(self, octets: bytes) -> None:
        """Consume these octets as `at` does; raise BadCommand if others come next."""
        if not self.at(octets):
            raise BadCommand(f"Expected {octets.decode()!r}")

    def space(self) -> None:
        """Consume one space."""
        self.expect(b" ")

    def end(self) -> None:
        """Raise BadCommand unless the command ends here."""
        # Some clients send a space too many.
        if self.line[self.offset :].strip(b" ") or self.piece < len(self.pieces) - 1:
            raise BadCommand("Too many arguments")

    def _match(self, pattern: re.Pattern[bytes], what: str) -> re.Match[bytes]:
        found = pattern.match(self.line, self.offset)
        if not found:
            raise BadCommand(f"Expected {what}")
        self.offset = found.end()
        return found

    def parenthesized(self, item: Callable[[], T]) -> list[T]:
        """Return the items of a list in parentheses, each read by `item`. The list may be empty."""
        self.expect(b"(")
        found: list[T] = []
        while not self.at(b")"):
            if found:
                self.space()
            found.append(item())
        return found

    # Words

    def tag(self) -> bytes:
        """Return a tag."""
        return self._match(_TAG, "a tag")[0]

    def atom(self) -> bytes:
        """Return an atom, in upper case."""
        return self._match(_ATOM, "an atom")[0].upper()

    def number(self) -> int:
        """Return a number from 0 to NUMBER_MAX."""
        number = int(self._match(_NUMBER, "a number")[0])
        if number > NUMBER_MAX:
            raise BadCommand("Number too large")
        return number

    def modseq(self) -> int:
        """Return a mod-sequence, from 0 to MODSEQ_MAX (RFC 7162 section 7, mod-sequence-valzer)."""
        number = int(self._match(_MODSEQ, "a mod-sequence")[0])
        if number > MODSEQ_MAX:
            raise BadCommand("Number too large")
        return number

    def signed(self) -> int:
        """Return a number that may be negative and is not 0 (RFC 9394 section 4)."""
        negative = self.at(b"-")
        number = self.number()
        if not number:
            raise BadCommand("Numbers here start at 1")
        return -number if negative else number

    def string(self) -> bytes:
        """Return a quoted string or a literal."""
        if self.peek() == b'"':
            return _ESCAPE.sub(rb"\1", self._match(_QUOTED, "the end of a quoted string")[1])
        if not LITERAL.match(self.line, self.offset):  # a literal may hold any octet here, literal8 or not
            raise BadCommand("Expected a string")
        literal = self.pieces[self.piece + 1]
        self.piece += 2
        self.line, self.offset = self.pieces[self.piece], 0
        return literal

    def astring(self) -> bytes:
        """Return a string, or an atom, in which "]" is allowed."""
        if self.peek() in (b'"', b"{"):
            return self.string()
        return self._match(_ASTRING, "a string")[0]

    def mailbox(self) -> str:
        """Return the name of a mailbox, decoded (RFC 3501 section 5.1). Raises No if it cannot be."""
        return self._mailbox(self.astring())

    def nil_or_string(self) -> bytes | None:
        """Return a string, or None for NIL."""
        return None if self.at(b"NIL") else self.string()

    def list_mailbox(self) -> str:
        """Return a mailbox pattern, decoded: a name that may contain the wildcards * and %. Raises No as `mailbox`."""
        if self.peek() in (b'"', b"{"):
            return self._mailbox(self.string())
        return self._mailbox(self._match(_LIST_MAILBOX, "a mailbox pattern")[0])

    def _mailbox(self, name: bytes) -> str:
        try:
            return name.decode("utf-8") if self.utf8 else utf7.decode(name)
        except ValueError:
            raise No("[CANNOT] Mailbox name is not in " + ("UTF-8" if self.utf8 else "modified UTF-7")) from None

    # Sets, flags, dates

    def sequence_set(self) -> SequenceSet:
        """Return a sequence set; the ends of its ranges are in the client's order."""
        if self.at(b"$"):
            return None
        ranges: list[tuple[int | None, int | None]] = []
        for part in self._match(_SET, "a sequence set")[0].split(b","):
            first, _, last = part.partition(b":")
            low, high = self._set_number(first), self._set_number(last or first)
            ranges.append((low, high))
        return ranges

    @staticmethod
    def _set_number(number: bytes) -> int | None:
        if number == b"*":
            return None
        if int(number) > NUMBER_MAX:
            raise BadCommand("Number too large")
        return int(number)

    def flag(self) -> str:
        """Return a flag as the client spelled it, also one that cannot be set."""
        return self._match(_FLAG, "a flag")[0].decode("ascii")

    def flags(self) -> list[str]:
        """Return flags in parentheses, or without them, as STORE allows."""
        if self.peek() == b"(":
            return self.parenthesized(self.flag)
        found = [self.flag()]
        while self.at(b" "):
            found.append(self.flag())
        return found

    def date(self) -> int:
        """Return a date, quoted or not, as days since 1970-01-01."""
        quoted = self.at(b'"')
        day, month, year = self._match(_DATE, "a date").groups()
        if quoted:
            self.expect(b'"')
        return _days(int(day), month, int(year))

    def date_time(self) -> int:
        """Return a date-time as seconds since 1970; one outside 0 to DATE_MAX becomes the nearest end."""
        found = self._match(_DATE_TIME, "a date and time")
        day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = found.groups()
        if int(hour) > 23 or int(minute) > 59 or int(second) > 60 or int(zone_hours) > 23 or int(zone_minutes) > 59:
            raise BadCommand("No such time")
        zone = int(zone_hours) * 3600 + int(zone_minutes) * 60
        seconds = _days(int(day), month, int(year)) * 86400
        seconds += int(hour) * 3600 + int(minute) * 60 + int(second)
        return min(max(0, seconds - zone if sign == b"+" else seconds + zone), DATE_MAX)

    # FETCH

    def part_number(self) -> int:
        """Return the number of a part, which is not 0."""
        number = self.number()
        if not number:
            raise BadCommand("No part has the number 0")
        return number

    def section(self) -> Section:
        """Return a section; its "[" has been consumed."""
        start, path = self.offset, []
        what: bytes = b""
        fields: list[bytes] = []
        while self.peek().isdigit():
            path.append(self.part_number())
            if not self.at(b"."):
                break
        else:
            if self.peek() != b"]":
                what = self._match(_ATOM, "a section")[0].upper()
            elif path:
                raise BadCommand("Expected a section")
        if what not in (b"", b"HEADER", b"HEADER.FIELDS", b"HEADER.FIELDS.NOT", b"TEXT", b"MIME"):
            raise BadCommand("Unknown section")
        if what == b"MIME" and not path:
            raise BadCommand("MIME needs a part number")
        raw = self.line[start : self.offset].upper()
        if what.startswith(b"HEADER.FIELDS"):
            self.expect(b" (")
            while not fields or self.at(b" "):
                fields.append(self.astring())
            self.expect(b")")
            raw += b" (%b)" % b" ".join(map(astring, fields))
        self.expect(b"]")
        return Section(path, what, fields, raw)

    def partial(self) -> Partial | None:
        """Return <start.length>, or None if it does not come next."""
        if not self.at(b"<"):
            return None
        start = self.number()
        self.expect(b".")
        length = self.number()
        self.expect(b">")
        if not length:
            raise BadCommand("A partial fetch needs a length")
        return Partial(start, length)

    def binary_section(self) -> list[int]:
        """Return the part numbers of BINARY[...] (RFC 3516 section 7, section-binary); its "[" has been consumed."""
        path = []
        if self.peek() != b"]":
            path.append(self.part_number())
            while self.at(b"."):
                path.append(self.part_number())
        self.expect(b"]")
        return path

    def partial_range(self) -> PartialRange:
        """Return the range of PARTIAL (RFC 9394 section 4, partial-range)."""
        first = self.signed()
        self.expect(b":")
        last = self.signed()
        if (first < 0) != (last < 0):
            raise BadCommand("A range has one sign")
        return PartialRange(first, last)


def astring(name: bytes) -> bytes:
    """Return a name as an answer repeats it: an atom if possible."""
    from ..mail.envelope import string

    return name if _ASTRING.fullmatch(name) else string(name)


def _days(day: int, month: bytes, year: int) -> int:
    import datetime

    try:
        date = datetime.date(year, MONTHS.index(month.lower()) + 1, day)
    except ValueError:
        raise BadCommand("No such date") from None
    return date.toordinal() - datetime.date(1970, 1, 1).toordinal()

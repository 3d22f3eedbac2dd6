"""Messages as octets: header fields and the tree of MIME parts (RFC 5322, RFC 2045, RFC 2046, RFC 2231).

Nothing here changes a message. A part is a range of its octets, so that every
BODY[...] section is a slice; only a message that is enclosed in an encoding has
octets of its own. Hostile messages cost no more than long ones: nesting, the
number of parts and what is decoded are limited, and the last part within a
limit holds the rest.
"""

import re
from collections.abc import Iterator
from itertools import islice

from ..octets import with_crlf
from . import transfer

DEPTH_MAX = 100  # multiparts and messages inside each other
PARTS_MAX = 1000  # parts in a message
PARAMETERS_MAX = 100  # of a field
DECODED = 4  # times the octets of a message that enclosed messages may have before they are decoded

_TYPE = re.compile(rb"\s*([^\s/;()]+)\s*(?:/\s*([^\s;()/]+))?")
# The closing quote is optional, so that a missing one does not make matching quadratic.
_PARAMETER = re.compile(rb';\s*([^\s=;]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|([^\s;]*))', re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_BOUNDARY = re.compile(rb'boundary\*?0?\*?[ \t]*=[ \t]*"?([^"\r\n;]{1,200})', re.IGNORECASE)
_SECTION = re.compile(rb"([^*]+)\*(\d{1,3})(\*?)")  # name of a parameter that is continued (RFC 2231 section 3)
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_COMMENT_MARK = re.compile(rb'[()"\\]')


def header_end(octets: bytes, start: int, end: int) -> int:
    """Return the offset after the header that begins at `start` and its empty line; `end` if it has none."""
    if octets.startswith(b"\r\n", start, end):
        return start + 2
    found = octets.find(b"\r\n\r\n", start, end)
    return end if found < 0 else found + 4


def unfolded(header: bytes) -> bytes:
    """Return a header with each field in one line (RFC 5322 section 2.2.3)."""
    return header.replace(b"\r\n ", b" ").replace(b"\r\n\t", b"\t")


def fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name (in lower case) and the unfolded value of each field, in order; skip lines without a colon."""
    for line in unfolded(header).split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            yield name.rstrip().lower(), value.strip()


# Several fields of these names are one list (RFC 5322 section 4.5.3; senders write several From and Reply-To, too).
LISTS = frozenset(b"from reply-to to cc bcc".split())
# The fields that ENVELOPE and BODYSTRUCTURE (RFC 9051 section 7.5.2) and THREAD use.
USED = frozenset(
    b"date subject from sender reply-to to cc bcc in-reply-to message-id references content-type content-id"
    b" content-description content-transfer-encoding content-md5 content-disposition content-language"
    b" content-location".split()
)

MESSAGES = ((b"message", b"rfc822"), (b"message", b"global"))

Parameters = list[tuple[bytes, bytes]]


class Part:
    """A message or a part of one: octets[start:body] is its header, octets[body:end] its body.

    `type` and `subtype` are in lower case. `fields` has the first value of
    each field in USED, of those in LISTS all of them. `children` are the parts
    of a multipart; `message` is the message in a message/rfc822 or
    message/global part.
    """

    __slots__ = ("body", "children", "end", "fields", "message", "octets", "parameters", "start", "subtype", "type")

    def __init__(self, octets: bytes, start: int, end: int, default: bytes = b"text/plain") -> None:
        self.octets = octets
        self.start = start
        self.body = header_end(octets, start, end)
        self.end = end
        self.fields: dict[bytes, bytes] = {}
        more: dict[bytes, list[bytes]] = {}
        for name, value in fields(octets[start : self.body]):
            if name not in self.fields:
                if name in USED:
                    self.fields[name] = value
            elif name in LISTS:
                more.setdefault(name, [self.fields[name]]).append(value)
        for name, values in more.items():
            self.fields[name] = b", ".join(filter(None, values))
        kind = self.fields.get(b"content-type") or default
        self.type, self.subtype, self.parameters = parse_type(kind)
        self.children: list[Part] = []
        self.message: Part | None = None

    @property
    def header(self) -> bytes:
        """The octets of the header, with its empty line."""
        return self.octets[self.start : self.body]

    @property
    def content(self) -> bytes:
        """The octets of the body, in their encoding."""
        return self.octets[self.body : self.end]

    def parameter(self, name: bytes) -> bytes | None:
        """Return the value of a parameter of Content-Type, or None; `name` is in lower case."""
        for key, value in self.parameters:
            if key.lower() == name:
                return value
            if key.lower() == name + b"*":
                return extended(value)[1]
        return None

    @property
    def encoding(self) -> bytes:
        """The Content-Transfer-Encoding in lower case; 7bit if there is none."""
        value = without_comments(self.fields.get(b"content-transfer-encoding", b""))
        words = value.replace(b";", b" ").replace(b'"', b" ").split()
        return words[0].lower() if words else b"7bit"

    def find(self, path: list[int]) -> "Part | None":
        """Return the part of a message with this number ([2, 1] for 2.1), or None if there is none.

        RFC 9051 section 6.4.5: the body of a message that is not a multipart is
        part 1. The parts of an enclosed message are numbered below its own.
        """
        around, found = self, None
        for number in path:
            if found is not None:
                around = found.message or found
                if not (found.message or found.children):
                    return None
            if around.children:
                if not 0 < number <= len(around.children):
                    return None
                found = around.children[number - 1]
            elif number == 1:
                found = around
            else:
                return None
        return found


def parse(octets: bytes) -> Part:
    """Return the tree of the parts of a message, which has CRLF line ends. Never fails."""
    root = Part(octets, 0, len(octets))
    count = 1
    declared: dict[int, set[bytes]] = {}  # boundaries, by the octets that declare them
    encoded = DECODED * len(octets)  # octets of enclosed messages that may still be decoded
    # A list in place of recursion: nesting must not exhaust the stack.
    waiting = [(root, 1)]
    while waiting:
        part, depth = waiting.pop()
        is_message = (part.type, part.subtype) in MESSAGES
        beyond = depth >= DEPTH_MAX or count >= PARTS_MAX
        if part.type == b"multipart" and not beyond:
            default = b"message/rfc822" if part.subtype == b"digest" else b"text/plain"
            # A multipart has parts, even one that is cut off before the first.
            spans = _split(part, PARTS_MAX - count, declared) or [(part.end, part.end)]
            part.children = [Part(part.octets, start, end, default) for start, end in spans]
        elif is_message and not beyond and part.encoding not in (b"base64", b"quoted-printable"):
            part.message = Part(part.octets, part.body, part.end)
        elif is_message and not beyond and part.end - part.body <= encoded:
            # RFC 2046 section 5.2.1 forbids it, RFC 6532 section 3.7 does not, and some senders do it.
            encoded -= part.end - part.body
            inside = with_crlf(transfer.decode(part.content, part.encoding).octets)
            part.message = Part(inside, 0, len(inside))
        elif part.type == b"multipart" or is_message:
            part.type, part.subtype = b"application", b"octet-stream"
        inner = [part.message] if part.message else part.children
        count += len(inner)
        waiting += [(one, depth + 1) for one in inner]
    return root


def _split(part: Part, most: int, declared: dict[int, set[bytes]]) -> list[tuple[int, int]]:
    """Return start and end of each part of a multipart (RFC 2046 section 5.1.1); the last of `most` has the rest.

    `declared` remembers the boundaries that octets declare.
    """
    boundary = part.parameter(b"boundary")
    spans: list[tuple[int, int]] = []
    if not boundary:
        return spans
    octets = part.octets
    delimiter = b"\r\n--" + boundary
    # The line end before a delimiter belongs to it, and may be the last one of the header.
    offset = max(part.start, part.body - 2)
    start = None
    while len(spans) < most:
        found = octets.find(delimiter, offset, part.end)
        if found < 0:
            break
        offset = found + len(delimiter)
        line_end = octets.find(b"\r\n", offset, part.end)
        after = octets[offset : part.end if line_end < 0 else line_end].strip(b" \t")
        if after not in (b"", b"--"):
            # What stands behind it does not count, unless it makes another boundary, which begins like this one.
            if id(octets) not in declared:
                declared[id(octets)] = {value.strip() for value in _BOUNDARY.findall(octets)}
            longer = boundary + after
            if {longer, longer.removesuffix(b"--")} & declared[id(octets)]:
                continue
        closing = after.startswith(b"--")
        if start is not None:
            spans.append((min(start, found), found))
        if closing:
            return spans
        start = part.end if line_end < 0 else line_end + 2
        # Two delimiters may share one line end.
        offset = max(found + len(delimiter), start - 2)
    if len(spans) == most:
        spans[-1] = (spans[-1][0], part.end)
    elif start is not None:
        spans.append((start, part.end))
    return spans


def parse_type(value: bytes) -> tuple[bytes, bytes, Parameters]:
    """Return type and subtype (in lower case) and parameters of a Content-Type.

    Without a type it is text/plain. Without a subtype it is text/plain if the
    type is text, else application/octet-stream.
    """
    value = without_comments(value)
    found = _TYPE.match(value)
    if not found:
        return b"text", b"plain", []
    kind, subtype = found[1].lower(), found[2]
    if subtype is None:
        kind, subtype = (b"text", b"plain") if kind == b"text" else (b"application", b"octet-stream")
    return kind, subtype.lower(), parse_parameters(value)


def parse_parameters(value: bytes) -> Parameters:
    """Return the parameters of a field (RFC 2045 section 5.1) in order, unchanged except for quotes.

    One that is continued is put together, as IMAP wants it (RFC 2231 section 6).
    """
    found = []
    for match in islice(_PARAMETER.finditer(value), PARAMETERS_MAX):
        name, quoted, token = match[1], match[2] or b"", match[3] or b""
        found.append((name, _ESCAPE.sub(rb"\1", quoted) if quoted else token))
    return _joined(found) if b"*" in value else found


def _joined(parameters: Parameters) -> Parameters:
    """Put the sections of continued parameters together: "name*", if one of them is extended."""
    sections: dict[bytes, dict[int, tuple[bytes, bool]]] = {}
    found: list[tuple[bytes, bytes | None]] = []
    for name, value in parameters:
        section = _SECTION.fullmatch(name)
        if not section:
            found.append((name, value))
            continue
        if section[1] not in sections:
            found.append((section[1], None))  # here it will stand
        sections.setdefault(section[1], {}).setdefault(int(section[2]), (value, bool(section[3])))
    joined = []
    for name, plain in found:
        if plain is not None:
            joined.append((name, plain))
            continue
        pieces = [sections[name][number] for number in sorted(sections[name])]
        if any(is_extended for _, is_extended in pieces):
            whole = b"".join(one if is_extended else one.replace(b"%", b"%25") for one, is_extended in pieces)
            joined.append((name + b"*", whole))
        else:
            joined.append((name, b"".join(one for one, _ in pieces)))
    return joined


def extended(value: bytes) -> tuple[bytes, bytes]:
    """Return the charset and the octets of an extended value: charset'language'text (RFC 2231 section 4)."""
    charset, quote, rest = value.partition(b"'")
    text = rest.partition(b"'")[2] if quote else value
    return charset if quote else b"", _PERCENT.sub(lambda found: bytes.fromhex(found[1].decode()), text)


def without_comments(value: bytes) -> bytes:
    """Return a structured field without its comments (RFC 5322 section 3.2.2)."""
    if b"(" not in value:
        return value
    kept, depth, quoted, start, skip = [], 0, False, 0, -1
    for mark in _COMMENT_MARK.finditer(value):
        offset, what = mark.start(), mark[0]
        if offset == skip:
            continue  # after a backslash
        if what == b"\\":
            skip = offset + 1
        elif what == b'"' and not depth:
            quoted = not quoted
        elif what == b"(" and not quoted:
            if not depth:
                kept.append(value[start:offset])
            depth += 1
        elif what == b")" and depth:
            depth -= 1
            start = offset + 1
    if not depth:
        kept.append(value[start:])
    return b" ".join(kept)

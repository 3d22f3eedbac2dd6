"""Messages as octets: header fields and the tree of MIME parts (RFC 5322, RFC 2045, RFC 2046).

Nothing here changes a message. A part is a range of its octets, so that every
BODY[...] section is a slice. Hostile messages cost no more than long ones:
nesting and the number of parts are limited, and the last part within a limit
holds the rest.
"""

import re
from collections.abc import Iterator
from itertools import islice

DEPTH_MAX = 100  # multiparts and messages inside each other
PARTS_MAX = 1000  # parts in a message
PARAMETERS_MAX = 100  # of a field

_FOLD = re.compile(rb"\r\n(?=[ \t])")
_TYPE = re.compile(rb"\s*([^\s/;()]+)\s*(?:/\s*([^\s;()/]+))?")
# The closing quote is optional, so that a missing one does not make matching quadratic.
_PARAMETER = re.compile(rb';\s*([^\s=;]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"?|([^\s;]*))', re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_COMMENT_MARK = re.compile(rb'[()"\\]')


def header_end(octets: bytes, start: int, end: int) -> int:
    """Return the offset after the header that begins at `start` and its empty line; `end` if it has none."""
    if octets.startswith(b"\r\n", start, end):
        return start + 2
    found = octets.find(b"\r\n\r\n", start, end)
    return end if found < 0 else found + 4


def fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the name (in lower case) and the unfolded value of each field, in order; skip lines without a colon."""
    for line in _FOLD.sub(b"", header).split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            yield name.rstrip().lower(), value.strip()


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
    each field in USED. `children` are the parts of a multipart; `message` is
    the message in a message/rfc822 or message/global part.
    """

    __slots__ = ("body", "children", "end", "fields", "message", "parameters", "start", "subtype", "type")

    def __init__(self, octets: bytes, start: int, end: int, default: bytes = b"text/plain") -> None:
        self.start = start
        self.body = header_end(octets, start, end)
        self.end = end
        self.fields: dict[bytes, bytes] = {}
        for name, value in fields(octets[start : self.body]):
            if name in USED:
                self.fields.setdefault(name, value)
        kind = self.fields.get(b"content-type") or default
        self.type, self.subtype, self.parameters = parse_type(kind)
        self.children: list[Part] = []
        self.message: Part | None = None

    def holds_message(self) -> bool:
        """Return whether the body is a message and is not encoded (RFC 2046 section 5.2.1 requires that)."""
        return (self.type, self.subtype) in MESSAGES and self.encoding not in (b"base64", b"quoted-printable")

    def parameter(self, name: bytes) -> bytes | None:
        """Return the value of a parameter of Content-Type, or None; `name` is in lower case."""
        for key, value in self.parameters:
            if key.lower() == name:
                return value
        return None

    @property
    def encoding(self) -> bytes:
        """The Content-Transfer-Encoding in lower case; 7bit if there is none."""
        words = without_comments(self.fields.get(b"content-transfer-encoding", b"")).split()
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
    # A list in place of recursion: nesting must not exhaust the stack.
    waiting = [(root, 1)]
    while waiting:
        part, depth = waiting.pop()
        beyond = depth >= DEPTH_MAX or count >= PARTS_MAX
        if part.type == b"multipart" and not beyond:
            default = b"message/rfc822" if part.subtype == b"digest" else b"text/plain"
            # A multipart has parts, even one that is cut off before the first.
            spans = _split(octets, part, PARTS_MAX - count) or [(part.end, part.end)]
            part.children = [Part(octets, start, end, default) for start, end in spans]
        elif part.holds_message() and not beyond:
            part.message = Part(octets, part.body, part.end)
        elif part.type == b"multipart" or (part.type, part.subtype) in MESSAGES:
            part.type, part.subtype = b"application", b"octet-stream"
        inside = [part.message] if part.message else part.children
        count += len(inside)
        waiting += [(one, depth + 1) for one in inside]
    return root


def _split(octets: bytes, part: Part, most: int) -> list[tuple[int, int]]:
    """Return start and end of each part of a multipart (RFC 2046 section 5.1.1); the last of `most` has the rest."""
    boundary = part.parameter(b"boundary")
    spans: list[tuple[int, int]] = []
    if not boundary:
        return spans
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
        after = octets[offset : part.end if line_end < 0 else line_end]
        closing = after.startswith(b"--")
        if after.strip(b" \t") and not (closing and not after[2:].strip(b" \t")):
            continue  # a longer boundary that begins like this one
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
    """Return the parameters of a field (RFC 2045 section 5.1) in order, unchanged except for quotes."""
    found = []
    for match in islice(_PARAMETER.finditer(value), PARAMETERS_MAX):
        name, quoted, token = match[1], match[2] or b"", match[3] or b""
        found.append((name, _ESCAPE.sub(rb"\1", quoted) if quoted else token))
    return found


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

"""ENVELOPE and BODYSTRUCTURE of a message, as the octets that IMAP sends (RFC 9051 section 7.5.2).

They are made once, when a message arrives, and then only copied. Each is
syntactically correct for every message. Header values are passed on
unchanged, with their encoded words; only NUL is removed, which an IMAP string
cannot contain.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from .message import Parameters, Part, parse_parameters, without_comments

NIL = b"NIL"

_QUOTABLE = re.compile(rb"[\x01-\x09\x0b\x0c\x0e-\x7f]*")  # QUOTED-CHAR, and what a backslash can quote


def string(value: bytes) -> bytes:
    """Return `value` as a quoted string, or as a literal if it has octets that a quoted string cannot have."""
    if b"\0" in value:
        value = value.replace(b"\0", b"")
    if _QUOTABLE.fullmatch(value):
        return b'"' + value.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
    return b"{%d}\r\n%b" % (len(value), value)


def nstring(value: bytes | None) -> bytes:
    """Return `value` as a string, or NIL for None."""
    return NIL if value is None else string(value)


# ENVELOPE

ADDRESS_FIELDS = (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc")


# Limits, so that what is computed of a message is a small multiple of its size: a group of two octets takes 33 here.
ADDRESSES_MAX = 2000  # in a field; the rest is left out
FIELD_MAX = 1 << 18  # octets of a field in which addresses are looked for
GROUPS_MAX = 50  # in a field; the members of others stand alone
FROM_MAX = 20  # addresses of From that stand for a missing Sender and Reply-To too
ENCLOSED_MAX = 500  # enclosed messages whose addresses are shown


Lists = dict[bytes, list["Address"]]


def address_lists(fields: dict[bytes, bytes]) -> Lists:
    """Return the addresses in these fields, by the names of the fields that have addresses."""
    return {name: addresses(fields.get(name, b"")) for name in ADDRESS_FIELDS}


def envelope(fields: dict[bytes, bytes], found: Lists) -> bytes:
    """Return the ENVELOPE of a message with these fields and addresses.

    A missing Sender or Reply-To is taken from From.
    """
    lists = {name: address_list(found[name]) for name in ADDRESS_FIELDS}
    for name in (b"sender", b"reply-to"):
        if lists[name] == NIL and len(found[b"from"]) <= FROM_MAX:
            lists[name] = lists[b"from"]
    return b"(%b)" % b" ".join(
        [nstring(fields.get(b"date")), nstring(fields.get(b"subject"))]
        + [lists[name] for name in ADDRESS_FIELDS]
        + [nstring(fields.get(b"in-reply-to")), nstring(fields.get(b"message-id"))]
    )


class Address(NamedTuple):
    """An address. One with only a mailbox begins the group of that name, and one with nothing ends it."""

    name: bytes | None
    route: bytes | None  # source route
    mailbox: bytes | None
    host: bytes | None


_END_OF_GROUP = Address(None, None, None, None)

# Most fields hold one address in one of these forms.
_SIMPLE = re.compile(
    rb'(?:(?:"([^"\\]*)"\s*|([^"<>,;:@()\[\]\\]*))<)?'
    rb'([^"<>,;:@()\[\]\\\s]+)@([^"<>,;:@()\[\]\\\s]+)(?(1)>|(?(2)>))'
)
_TOKEN = re.compile(rb'\s+|"(?:[^"\\]|\\.)*"?|\[[^\]]*\]?|[,;:<>@()\\]|[^\s"\[,;:<>@()\\]+', re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)


def address_list(found: list[Address]) -> bytes:
    """Return the addresses of a field as IMAP sends them, or NIL if it has none."""
    rows = [b"(%b %b %b %b)" % tuple(nstring(text) for text in address) for address in found]
    return b"(%b)" % b"".join(rows) if rows else NIL


def addresses(value: bytes) -> list[Address]:
    """Return the addresses in the first FIELD_MAX octets of a field in order, ADDRESSES_MAX at most. Never fails.

    RFC 5322 section 3.4, with its obsolete forms.
    """
    value = value[:FIELD_MAX]
    found = []
    for one in value.split(b",", ADDRESSES_MAX):  # a comma that separates nothing leaves a part that is not simple
        simple = _SIMPLE.fullmatch(one.strip())
        if not simple:
            return list(islice(_parse_addresses(value), ADDRESSES_MAX))
        quoted, plain, mailbox, host = simple.groups()
        name = quoted if quoted is not None else (plain or b"").strip()
        found.append(Address(name or None, None, mailbox, host))
    return found


def _parse_addresses(value: bytes) -> Iterator[Address]:
    words: list[bytes] = []  # tokens before "<", or of an address without "<"
    angle: list[bytes] | None = None  # tokens between "<" and ">"
    comment, in_group, closed, groups = b"", False, False, 0
    tokens = _TOKEN.finditer(value)
    for match in tokens:
        token = match[0]
        if token == b"(":
            comment = _comment(value, tokens)
        elif token == b"," and angle and angle[0] == b"@" and not closed:
            angle.append(token)  # a source route: <@one,@two:mailbox@host>
        elif token in (b",", b";"):
            yield from _address(words, angle, comment)
            words, angle, comment, closed = [], None, b"", False
            if token == b";" and in_group:
                in_group = False
                yield _END_OF_GROUP
        elif token == b":" and angle is None and not in_group:
            groups += 1
            if groups <= GROUPS_MAX:
                in_group = True
                yield Address(None, None, _phrase(words), None)
            words, comment = [], b""
        elif token == b"<" and angle is None:
            angle = []
        elif token == b">":
            closed = True
        elif not closed:
            (words if angle is None else angle).append(token)
    yield from _address(words, angle, comment)
    if in_group:
        yield _END_OF_GROUP


def _comment(value: bytes, tokens: Iterator[re.Match[bytes]]) -> bytes:
    """Consume the rest of a comment and those nested in it, after its "(", and return its text."""
    start = end = None
    depth, escaped = 1, False
    for match in tokens:
        start = match.start() if start is None else start
        token, end = match[0], match.start()
        if not escaped and token in (b"(", b")"):
            depth += 1 if token == b"(" else -1
            if not depth:
                break
        escaped = token == b"\\" and not escaped
        end = match.end()
    return _ESCAPE.sub(rb"\1", value[start:end]) if start is not None else b""


def _address(words: list[bytes], angle: list[bytes] | None, comment: bytes) -> Iterator[Address]:
    name = _phrase(words) if angle is not None else comment.strip()
    parts = [token for token in (words if angle is None else angle) if not token.isspace()]
    route = None
    if angle is not None and b":" in parts:
        colon = parts.index(b":")
        route, parts = b"".join(parts[:colon]), parts[colon + 1 :]
    if not parts:
        if name and angle is not None:
            yield Address(name, None, b"", b"")  # a name and an empty <>
        return
    if b"@" in parts:
        at = len(parts) - 1 - parts[::-1].index(b"@")
        mailbox, host = _join(parts[:at]), _join(parts[at + 1 :])
    else:
        # A host of NIL would begin a group, so a missing host is sent as an empty string.
        mailbox, host = _join(parts) if angle is not None else _phrase(words), b""
    yield Address(name or None, route, mailbox, host)


def _phrase(words: list[bytes]) -> bytes:
    """Return the text of a phrase: strings without their quotes, and each white space as one space."""
    return b"".join(b" " if word.isspace() else _unquote(word) for word in words).strip()


def _join(words: list[bytes]) -> bytes:
    return b"".join(_unquote(word) for word in words)


def _unquote(word: bytes) -> bytes:
    if not word.startswith(b'"'):
        return word
    return _ESCAPE.sub(rb"\1", word[1:-1] if len(word) > 1 and word.endswith(b'"') else word[1:])


# BODYSTRUCTURE


def structure(root: Part, extended: bool = True) -> bytes:
    """Return the BODYSTRUCTURE of a message, or its BODY if `extended` is false. `root` is what `parse` returned."""
    done: dict[int, bytes] = {}
    enclosed = sum(part.message is not None for part in _walk(root))
    # Inner parts come before the parts that hold them, so that deep nesting needs no recursion.
    for part in reversed(list(_walk(root))):
        done[id(part)] = _one(part, done, extended, enclosed <= ENCLOSED_MAX)
        enclosed -= part.message is not None
    return done[id(root)]


def _walk(root: Part) -> Iterator[Part]:
    waiting = [root]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += [part.message] if part.message else part.children


def _one(part: Part, done: dict[int, bytes], extended: bool, with_addresses: bool) -> bytes:
    if part.children:
        row = [b"".join(done.pop(id(child)) for child in part.children), string(part.subtype)]
        if extended:
            row += [_parameters(part.parameters), *_extension(part)]
        return b"(%b)" % b" ".join(row)
    parameters = part.parameters
    if part.type == b"text" and part.parameter(b"charset") is None:
        parameters = [(b"charset", b"us-ascii"), *parameters]  # RFC 2046 section 4.1.2
    row = [
        string(part.type),
        string(part.subtype),
        _parameters(parameters),
        nstring(part.fields.get(b"content-id")),
        nstring(part.fields.get(b"content-description")),
        string(part.encoding),
        b"%d" % (part.end - part.body),
    ]
    lines = b"%d" % part.octets.count(b"\n", part.body, part.end)
    if part.message:
        found = address_lists(part.message.fields if with_addresses else {})
        row += [envelope(part.message.fields, found), done.pop(id(part.message)), lines]
    elif part.type == b"text":
        row.append(lines)
    if extended:
        row += [nstring(part.fields.get(b"content-md5")), *_extension(part)]
    return b"(%b)" % b" ".join(row)


def _extension(part: Part) -> list[bytes]:
    """Return the extension fields of a part after its parameters or MD5: disposition, language and location."""
    disposition = part.fields.get(b"content-disposition")
    return [
        NIL if disposition is None else _disposition(without_comments(disposition)),
        _language(part.fields.get(b"content-language")),
        nstring(part.fields.get(b"content-location")),
    ]


def _disposition(value: bytes) -> bytes:
    kind = value.partition(b";")[0].strip().lower()
    return b"(%b %b)" % (string(kind), _parameters(parse_parameters(value))) if kind else NIL


def _language(value: bytes | None) -> bytes:
    tags = [tag.strip() for tag in without_comments(value or b"").split(b",") if tag.strip()]
    if len(tags) < 2:
        return string(tags[0]) if tags else NIL
    return b"(%b)" % b" ".join(map(string, tags))


def _parameters(parameters: Parameters) -> bytes:
    if not parameters:
        return NIL
    return b"(%b)" % b" ".join(b"%b %b" % (string(name), string(value)) for name, value in parameters)

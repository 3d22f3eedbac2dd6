"""Pieces of messages: what a partial FETCH reads costs its own size (RFC 9051 section 6.4.5).

Clients read a long part in pieces, one command for each. Only the first makes
us parse the message: where its sections are is remembered, and the octets are
read from there.
"""

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from .grammar import Partial

REMEMBERED = 100  # sections


class Span(NamedTuple):
    """A section that stands in a message: octets `start` to `end`."""

    start: int
    end: int


Found = Span | bytes | None  # where a section is, or its octets, if they stand so in no message; None: there is none


class Pieces:
    """The sections of which a session has read pieces."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._spans: dict[tuple[bytes, bytes], Span] = {}
        self._last: tuple[tuple[bytes, bytes], bytes | None] | None = None  # one whose octets are made, not read

    def read(self, content: int, name: bytes, partial: Partial, find: Callable[[bytes], Found]) -> bytes | None:
        """Return a piece of a section of a message, by the key of its content; None if it has no such section.

        `name` is that of the section, and `find` finds it in the octets of the
        message.
        """
        query = "SELECT id, length(header) FROM content JOIN octets ON content = key WHERE key = ?"
        message_id, header = self._db.execute(query, (content,)).fetchone()
        section = (message_id, name)
        span = self._spans.get(section)
        if not span:
            if self._last and self._last[0] == section:
                return self._last[1] and self._last[1][partial.start : partial.start + partial.length]
            found = find(self._octets(content, 0, None))
            if not isinstance(found, Span):
                self._last = (section, found)
                return found and found[partial.start : partial.start + partial.length]
            if len(self._spans) >= REMEMBERED:
                self._spans.clear()
            span = self._spans[section] = found
        start = min(span.start + partial.start, span.end)
        end = min(start + partial.length, span.end)
        if end <= header:
            return self._blob(content, "header", start, end)
        if start >= header:
            return self._blob(content, "body", start - header, end - header)
        return self._octets(content, start, end)

    def _octets(self, content: int, start: int, end: int | None) -> bytes:
        row = self._db.execute("SELECT header, body FROM octets WHERE content = ?", (content,)).fetchone()
        return bytes(b"".join(row)[start:end])

    def _blob(self, content: int, column: str, start: int, end: int) -> bytes:
        if start == end:
            return b""
        with self._db.blobopen("octets", column, content, readonly=True) as blob:
            blob.seek(start)
            return blob.read(end - start)

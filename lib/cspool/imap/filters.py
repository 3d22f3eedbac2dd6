"""Filters of mailboxes, as NOTIFY and ESEARCH name them (RFC 5465 section 6, RFC 7377 section 2.2)."""

from typing import NamedTuple

from ..form import canonical
from .grammar import BadCommand, Parser
from .listing import parents

SELECTED = (b"SELECTED", b"SELECTED-DELAYED")
EVERY = (b"INBOXES", b"PERSONAL")  # mail is delivered to any mailbox
NAMED = (b"SUBTREE", b"SUBTREE-ONE", b"MAILBOXES")


class Filter(NamedTuple):
    """Which mailboxes are meant, by one of the words of the grammar, and by names for NAMED."""

    word: bytes
    names: frozenset[str]

    def covers(self, name: str, subscribed: set[str]) -> bool:
        """Return whether a mailbox is meant by its name, not because it is selected."""
        if self.word == b"SUBSCRIBED":
            return name in subscribed
        if self.word == b"SUBTREE":
            return name in self.names or any(parent in self.names for parent in parents(name))
        if self.word == b"SUBTREE-ONE":
            return name in self.names or name.rpartition("/")[0] in self.names
        return self.word in EVERY or name in self.names


def parse(parser: Parser) -> Filter:
    """Read a filter. Raises BadCommand."""
    word = parser.atom()
    if word not in (*SELECTED, *EVERY, *NAMED, b"SUBSCRIBED"):
        raise BadCommand("Unknown filter of mailboxes")
    names = []
    if word in NAMED:
        parser.space()
        names = parser.parenthesized(parser.mailbox) if parser.peek() == b"(" else [parser.mailbox()]
        if not names:
            raise BadCommand("No mailbox is named")
    return Filter(word, frozenset(map(canonical, names)))

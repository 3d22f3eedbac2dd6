"""SORT (RFC 5256, RFC 5957): by keys that lie ready in the database."""

import sqlite3
from collections.abc import Callable

from .grammar import BadCommand, Parser
from .search import Candidate
from .session import Selected

KEYS = {
    b"ARRIVAL": lambda one, row: one.date,
    b"CC": lambda one, row: row["first_cc"],
    b"DATE": lambda one, row: row["sent"],
    b"DISPLAYFROM": lambda one, row: row["display_from"],
    b"DISPLAYTO": lambda one, row: row["display_to"],
    b"FROM": lambda one, row: row["first_from"],
    b"SIZE": lambda one, row: one.size,
    b"SUBJECT": lambda one, row: row["subject"],
    b"TO": lambda one, row: row["first_to"],
}

Criterion = tuple[bytes, bool]  # name, and whether it is reversed
Message = tuple[Candidate, sqlite3.Row]


def criterion(parser: Parser) -> Criterion:
    """Read one sort criterion. Raises BadCommand."""
    name = parser.atom()
    reverse = name == b"REVERSE"
    if reverse:
        parser.space()
        name = parser.atom()
    if name not in KEYS:
        raise BadCommand("Unknown sort key")
    return name, reverse


def sort(selected: Selected, found: list[Candidate], criteria: list[Criterion]) -> list[Candidate]:
    """Return messages, given in order of their numbers, sorted (section 3)."""
    messages = with_keys(selected, found)
    # The last criterion first: sorting is stable, reversed too, so ties keep their order.
    for name, reverse in reversed(criteria):
        messages.sort(key=_by(KEYS[name]), reverse=reverse)
    return [one for one, _ in messages]


def _by(key: Callable[[Candidate, sqlite3.Row], int | str]) -> Callable[[Message], int | str]:
    return lambda message: key(*message)


def with_keys(selected: Selected, found: list[Candidate]) -> list[Message]:
    """Return messages, given in order, with their rows of keys, read in the transaction in which they were found.

    A message without Date counts as sent when it arrived (section 2.2).
    """
    if not found:
        return []
    query = (
        "SELECT uid, coalesce(sent, date) AS sent, ordering.*"
        " FROM message JOIN content ON content.key = message.content JOIN ordering USING (content)"
        " WHERE mailbox = ? AND uid BETWEEN ? AND ?"
    )
    reader = selected.db.cursor()
    reader.row_factory = sqlite3.Row
    rows = {row["uid"]: row for row in reader.execute(query, (selected.key, found[0].uid, found[-1].uid))}
    return [(one, rows[one.uid]) for one in found]

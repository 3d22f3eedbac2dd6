"""SORT (RFC 5256, RFC 5957): by keys that lie ready in the database."""

from collections.abc import Iterator
from typing import Any

from .grammar import BadCommand, Parser
from .search import Found
from .selected import Selected

# Columns of message, content and ordering. One without Date counts as sent when it arrived (section 2.2).
SENT = "coalesce(sent, date)"
KEYS = {
    b"ARRIVAL": "date",
    b"CC": "first_cc",
    b"DATE": SENT,
    b"DISPLAYFROM": "display_from",
    b"DISPLAYTO": "display_to",
    b"FROM": "first_from",
    b"SIZE": "size",
    b"SUBJECT": "subject",
    b"TO": "first_to",
}

Criterion = tuple[bytes, bool]  # name, and whether it is reversed


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


def sort(selected: Selected, found: list[Found], criteria: list[Criterion]) -> list[Found]:
    """Return messages, given in order of their numbers, sorted (section 3)."""
    messages = list(zip(keys(selected, found, [KEYS[name] for name, _ in criteria]), found, strict=True))
    # The last criterion first: sorting is stable, reversed too, so ties keep their order.
    for place, (_, reverse) in reversed(list(enumerate(criteria, 1))):
        messages.sort(key=lambda message, place=place: message[0][place], reverse=reverse)  # type: ignore[misc]
    return [one for _, one in messages]


def keys(selected: Selected, found: list[Found], columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """Yield UID and these columns of messages given in order, read in the transaction in which they were found."""
    if not found:
        return
    query = (
        f"SELECT uid, {', '.join(columns)}"
        " FROM message JOIN content ON content.key = message.content JOIN ordering USING (content)"
        " WHERE mailbox = ? AND uid BETWEEN ? AND ? ORDER BY uid"
    )
    place = 0
    for row in selected.db.execute(query, (selected.key, found[0].uid, found[-1].uid)):
        if row[0] == found[place].uid:
            place += 1
            yield row

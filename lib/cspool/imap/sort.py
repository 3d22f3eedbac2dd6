"""SORT (RFC 5256, RFC 5957), by values that were computed when the message arrived."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from .grammar import BadCommand, Parser
from .search import Hit
from .selected import Selected

SENT = "coalesce(sent, date)"  # a message without Date counts as sent at its INTERNALDATE (section 2.2)

# Sort keys, as columns of message, content and ordering.
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


class Criterion(NamedTuple):
    """A sort key, a name in KEYS, and whether its order is reversed."""

    key: bytes
    reverse: bool


def criterion(parser: Parser) -> Criterion:
    """Read one sort criterion (section 5, sort-criterion). Raises BadCommand."""
    name = parser.atom()
    reverse = name == b"REVERSE"
    if reverse:
        parser.space()
        name = parser.atom()
    if name not in KEYS:
        raise BadCommand("Unknown sort key")
    return Criterion(name, reverse)


def sort(selected: Selected, found: list[Hit], criteria: list[Criterion]) -> list[Hit]:
    """Return these messages sorted (section 3). `found` is as for `keys`."""
    messages = list(zip(keys(selected, found, [KEYS[one.key] for one in criteria]), found, strict=True))
    # The last criterion first: Python's sort is stable, reversed too, so ties keep the order of sequence numbers.
    for index, (_, reverse) in reversed(list(enumerate(criteria, 1))):
        messages.sort(key=lambda message, index=index: message[0][index], reverse=reverse)  # type: ignore[misc]
    return [one for _, one in messages]


def keys(selected: Selected, found: list[Hit], columns: list[str]) -> Iterator[tuple[Any, ...]]:
    """Yield the UID and these columns of each message.

    `found` is in order of UIDs, and was found in the same transaction.
    """
    if not found:
        return
    query = (
        f"SELECT uid, {', '.join(columns)}"
        " FROM message JOIN content ON content.key = message.content JOIN ordering USING (content)"
        " WHERE mailbox = ? AND uid BETWEEN ? AND ? ORDER BY uid"
    )
    index = 0
    for row in selected.db.execute(query, (selected.key, found[0].uid, found[-1].uid)):
        if row[0] == found[index].uid:
            index += 1
            yield row

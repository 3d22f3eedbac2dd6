"""The verbs that search: SEARCH (RFC 9051 section 6.4.4), SORT and THREAD (RFC 5256), and what RETURN makes of them."""

from ..database import schema
from . import filters
from .fetch import page
from .filters import Filter
from .grammar import REV2, BadCommand, No, Parser, PartialRange
from .listing import Mailboxes
from .search import Hit, Search
from .selected import Selected
from .session import Session
from .sets import merged, uid_set
from .sort import criterion
from .sort import sort as sorted_by
from .thread import answer, ordered_subject, references
from .verbs import LOGGED_IN, numbered_verb, verb


@numbered_verb(expunges=False)
def search(session: Session, parser: Parser, by_uid: bool) -> str:
    """Section 6.4.4."""
    parser.space()
    query = Search(session, session.selection())
    with _Result(session, by_uid, "SEARCH") as result:
        if parser.at(b"RETURN "):
            result.parse(parser)
        key = query.program(parser)
        result.answer(query.run(key), query.with_modseq)
    return "SEARCH completed"


@verb(LOGGED_IN)
def esearch(session: Session, parser: Parser) -> str:
    """Search several mailboxes (RFC 7377)."""
    parser.space()
    sources = [Filter(b"SELECTED", frozenset())]
    if parser.at(b"IN "):
        sources = parser.parenthesized(lambda: filters.parse(parser))
        parser.space()
    alone = all(source.word == b"SELECTED" for source in sources)
    if any(source.word == b"SELECTED-DELAYED" for source in sources) or not sources:
        raise BadCommand("Not a filter of mailboxes to search")
    if alone and not session.selected:
        raise BadCommand("No mailbox is selected")
    with _Result(session, True, "SEARCH") as result:
        result.options = {b"ALL"}
        if parser.at(b"RETURN "):
            result.parse(parser)
        if b"SAVE" in result.options and not alone:
            raise BadCommand("SAVE is for the selected mailbox")
        mark = parser.mark()
        # Without any, the grammar is that of a search in INBOX.
        for name, key in _sources(session, sources) or [("", session.mailbox("INBOX"))]:
            parser.rewind(mark)
            selected = session.selected
            if not selected or selected.key != key:
                selected = Selected(session.db, session.enabled, key, read_only=True)
            query = Search(session, selected, alone)
            wanted = query.program(parser)
            hits = query.run(wanted) if name else []
            if not hits and b"SAVE" in result.options:
                selected.saved = []
            if hits:
                shown = session.mailbox_name(name).decode()
                result.where = f" MAILBOX {shown} UIDVALIDITY {selected.mailbox('uidvalidity')}"
                result.answer(hits, query.with_modseq)
    return "ESEARCH completed"


def _sources(session: Session, sources: list[Filter]) -> list[tuple[str, int]]:
    """Return the names and keys of the mailboxes that are meant, in the order of LIST."""
    subscribed, selected = Mailboxes(session).subscribed, session.selected
    rows = session.db.execute("SELECT name, key FROM mailbox WHERE name IS NOT NULL ORDER BY name != 'INBOX', name")
    return [
        (name, key)
        for name, key in rows
        if any(
            source.covers(name, subscribed) or (source.word == b"SELECTED" and selected and selected.key == key)
            for source in sources
        )
    ]


@numbered_verb(expunges=False)
def sort(session: Session, parser: Parser, by_uid: bool) -> str:
    """RFC 5256 section 3, BASE.6.4.SORT."""
    parser.space()
    query = Search(session, session.selection())
    with _Result(session, by_uid, "SORT") as result:
        if parser.at(b"RETURN "):  # RFC 5267
            result.parse(parser)
        criteria = parser.parenthesized(lambda: criterion(parser))
        parser.space()
        query.charset(parser)
        parser.space()
        key = query.keys(parser)
        parser.end()
        with schema.reading(session.db):
            hits = sorted_by(query.selected, query.run(key), criteria)
        result.answer(hits, query.with_modseq)
    return "SORT completed"


@numbered_verb(expunges=False)
def thread(session: Session, parser: Parser, by_uid: bool) -> str:
    """RFC 5256 section 3, BASE.6.4.THREAD."""
    parser.space()
    algorithm = {b"ORDEREDSUBJECT": ordered_subject, b"REFERENCES": references}.get(parser.atom())
    if not algorithm:
        raise BadCommand("Unknown thread algorithm")
    parser.space()
    query = Search(session, session.selection())
    query.charset(parser)
    parser.space()
    key = query.keys(parser)
    parser.end()
    with schema.reading(session.db):
        threads = algorithm(query.selected, query.run(key))
    session.untagged(f"THREAD {answer(threads, by_uid)}".rstrip().encode())
    return "THREAD completed"


class _Result:
    """The answer to SEARCH or SORT: plain, or as RETURN says (RFC 4731, RFC 5182, RFC 5267, RFC 9394).

    With SAVE, a NO inside its block empties the saved result (RFC 5182 section 2.1).
    """

    def __init__(self, session: Session, by_uid: bool, plain: str) -> None:
        self.session = session
        self.by_uid = by_uid
        self.plain = plain
        self.options: set[bytes] | None = None  # None for the plain answer
        self.where = ""  # the mailbox, if the answer is to say it
        self.partial_range = PartialRange(1, 1)
        if REV2 in session.enabled and plain == "SEARCH":
            self.options = {b"ALL"}  # RFC 9051 section 6.4.4

    def __enter__(self) -> "_Result":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is No and self.options and b"SAVE" in self.options:
            self.session.selection().saved = []

    def parse(self, parser: Parser) -> None:
        """Read the result options, in parentheses, and the space after them. Raises BadCommand."""
        options = parser.parenthesized(lambda: self._option(parser))
        parser.space()
        self.options = set(options) or {b"ALL"}
        if {b"ALL", b"PARTIAL"} <= self.options:
            raise BadCommand("ALL or PARTIAL")

    def _option(self, parser: Parser) -> bytes:
        name = parser.atom()
        if name == b"PARTIAL":
            parser.space()
            self.partial_range = parser.partial_range()
        elif name not in (b"MIN", b"MAX", b"ALL", b"COUNT", b"SAVE"):
            raise BadCommand("Unknown result option")
        return name

    def answer(self, hits: list[Hit], with_modseq: bool) -> None:
        """Send the result, and save it for "$" if SAVE asks for that. `with_modseq` adds the highest MODSEQ."""
        if self.options is None:
            parts = [self.plain, *(str(self._number(one)) for one in hits)]
            if with_modseq and hits:
                parts.append(f"(MODSEQ {max(one.modseq for one in hits)})")
            self.session.untagged(" ".join(parts).encode())
            return
        ends, shown = self._ends(hits), hits
        if b"PARTIAL" in self.options:
            shown = page(hits, self.partial_range)
        elif ends and not {b"ALL", b"COUNT"} & self.options:
            shown = list(ends.values())
        if b"SAVE" in self.options:
            self.session.selection().saved = merged([(one.uid, one.uid) for one in shown])
        if self.options != {b"SAVE"}:
            parts = [f'ESEARCH (TAG "{self.session.tag.decode()}"{self.where})'] + (["UID"] if self.by_uid else [])
            parts += [f"{name} {self._number(one)}" for name, one in ends.items()]
            parts += self._sets([self._number(one) for one in hits])
            if with_modseq and shown:
                parts.append(f"MODSEQ {max(one.modseq for one in shown)}")
            self.session.untagged(" ".join(parts).encode())

    def _number(self, one: Hit) -> int:
        number: int = one.uid if self.by_uid else one.number
        return number

    def _ends(self, hits: list[Hit]) -> dict[str, Hit]:
        """Return the hits for MIN and MAX: the first and the last, for SORT in its order (RFC 5267 section 3.1)."""
        assert self.options is not None
        indexes = {"MIN": 0, "MAX": -1}
        return {name: hits[index] for name, index in indexes.items() if name.encode() in self.options and hits}

    def _sets(self, numbers: list[int]) -> list[str]:
        """Return ALL, COUNT and PARTIAL of a result, those that were asked for."""
        assert self.options is not None
        parts = []
        if b"ALL" in self.options and numbers:
            parts.append(f"ALL {uid_set(numbers).decode()}")
        if b"COUNT" in self.options:
            parts.append(f"COUNT {len(numbers)}")
        if b"PARTIAL" in self.options:
            some = uid_set(page(numbers, self.partial_range)).decode() or "NIL"
            parts.append(f"PARTIAL ({self.partial_range.first}:{self.partial_range.last} {some})")
        return parts

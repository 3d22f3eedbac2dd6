"""LIST and LSUB: the answers for each mailbox (RFC 9051 section 6.3.9, RFC 5258, RFC 6154)."""

from collections.abc import Iterator
from typing import NamedTuple

from ..form import SPECIAL_USES, canonical
from ..mail import utf7
from .grammar import REV2, BadCommand, Parser
from .session import Session
from .status import parse_items


class ListAnswer(NamedTuple):
    """An untagged LIST answer, and the name and items of the STATUS that is to follow it (RFC 5819)."""

    answer: bytes
    name: str = ""
    status_items: list[bytes] | None = None  # None if no STATUS is to follow


class Mailboxes:
    """All names that LIST can show: mailboxes of the view, names above them, subscribed names."""

    def __init__(self, session: Session) -> None:
        self.session = session
        rows = session.db.execute("SELECT name, use FROM mailbox WHERE name IS NOT NULL")
        self.use: dict[str, str] = dict(rows.fetchall())
        self.subscribed = {name for (name,) in session.db.execute("SELECT name FROM subscription WHERE view")}
        self.subscribed |= session.special_names()  # as they will be once they are created, at first use
        used = {one for use in self.use.values() for one in use.split()}
        for name, use in SPECIAL_USES.items():
            if use not in used:  # to be created at first use, or created without a use, as by a delivery
                self.use[name] = use
        self.parents = {parent for name in self.use for parent in parents(name)}
        self.above_subscribed = {parent for name in self.subscribed for parent in parents(name)}

    def all(self) -> list[str]:
        """Return the names in the order of the answers: INBOX first."""
        every = self.use.keys() | self.parents | self.subscribed
        return sorted(every, key=lambda name: (name != "INBOX", name))

    def answer(self, name: str, subscribed: bool) -> bytes:
        r"""Return the LIST answer for a name (RFC 9051 section 7.3.1), with \Subscribed only if `subscribed`."""
        session, found = self.session, []
        if name not in self.use:
            # \NonExistent implies \Noselect, but IMAP4rev1 clients know only the latter.
            found += ["\\NonExistent"] if REV2 in session.enabled else ["\\NonExistent", "\\Noselect"]
        found.append("\\HasChildren" if name in self.parents else "\\HasNoChildren")
        if subscribed and name in self.subscribed:
            found.append("\\Subscribed")
        found += self.use.get(name, "").split()
        return b'LIST (%b) "/" %b' % (" ".join(found).encode(), session.mailbox_name(name))


def parents(name: str) -> Iterator[str]:
    for index, letter in enumerate(name):
        if letter == "/":
            yield name[:index]


def list_answers(session: Session, parser: Parser) -> Iterator[ListAnswer]:
    """Yield an answer for each name that LIST shows. Raises BadCommand before the first."""
    parser.space()
    extended = parser.peek() == b"("
    selection = _options(session, parser, {b"SUBSCRIBED", b"REMOTE", b"RECURSIVEMATCH", b"SPECIAL-USE"})
    if b"RECURSIVEMATCH" in selection and not {b"SUBSCRIBED", b"SPECIAL-USE"} & selection.keys():
        raise BadCommand("RECURSIVEMATCH needs another option")
    reference = parser.mailbox()
    parser.space()
    extended |= parser.peek() == b"("
    patterns = parser.parenthesized(parser.list_mailbox) if parser.peek() == b"(" else [parser.list_mailbox()]
    returns: dict[bytes, list[bytes]] = {}
    if parser.at(b" RETURN "):
        extended = True
        returns = _options(session, parser, {b"SUBSCRIBED", b"CHILDREN", b"SPECIAL-USE", b"STATUS"})
    parser.end()
    if patterns == [""] and not extended:
        # Only the hierarchy delimiter and the root are asked for (RFC 3501 section 6.3.8).
        yield ListAnswer(b'LIST (\\Noselect) "/" ""')
        return
    mailboxes = Mailboxes(session)
    patterns = [canonical(reference + pattern) for pattern in patterns if pattern]
    matching = [name for name in mailboxes.all() if any(utf7.matches(pattern, name) for pattern in patterns)]
    selected = [name for name in mailboxes.all() if _selected(mailboxes, name, selection)]
    shown_itself = set(matching) & set(selected)
    recursive = selected if b"RECURSIVEMATCH" in selection else []
    above = {parent for name in recursive for parent in parents(name)}
    above_hidden = {parent for name in recursive if name not in shown_itself for parent in parents(name)}
    for name in matching:
        # One that is not selected is shown only for what is below it and does not match (RFC 5258 section 3.3, 2B).
        children = name in (above if name in shown_itself else above_hidden)
        if name not in shown_itself and not children:
            continue
        answer = mailboxes.answer(name, bool({b"SUBSCRIBED"} & (selection.keys() | returns.keys())))
        if children:
            options = [b'"%b"' % option for option in (b"SUBSCRIBED", b"SPECIAL-USE") if option in selection]
            answer += b' ("CHILDINFO" (%b))' % b" ".join(options)
        yield ListAnswer(answer, name, returns.get(b"STATUS") if name in mailboxes.use else None)


def _selected(mailboxes: Mailboxes, name: str, selection: dict[bytes, list[bytes]]) -> bool:
    """Return whether the selection options of LIST select a name."""
    if b"SPECIAL-USE" in selection and not mailboxes.use.get(name):
        return False
    if b"SUBSCRIBED" in selection:
        return name in mailboxes.subscribed
    return name in mailboxes.use or name in mailboxes.parents


def _options(session: Session, parser: Parser, known: set[bytes]) -> dict[bytes, list[bytes]]:
    """Read selection or return options, if they come next; return each with its items, which only STATUS has."""
    found: dict[bytes, list[bytes]] = {}
    if parser.peek() != b"(":
        return found

    def option() -> None:
        name = parser.atom()
        if name not in known:
            raise BadCommand("Unknown LIST option")
        found[name] = []
        if name == b"STATUS":
            parser.space()
            found[name] = parse_items(session, parser)

    parser.parenthesized(option)
    parser.at(b" ")
    return found


def lsub_answers(session: Session, parser: Parser) -> Iterator[bytes]:
    """Yield an answer for each name that LSUB shows (RFC 3501 section 6.3.9). Raises BadCommand before the first."""
    parser.space()
    reference = parser.mailbox()
    parser.space()
    pattern = canonical(reference + parser.list_mailbox())
    parser.end()
    mailboxes = Mailboxes(session)
    shown = {name for name in mailboxes.subscribed if utf7.matches(pattern, name)}
    # With %, a name that is not subscribed is shown for subscribed names below it.
    above = {name for name in mailboxes.above_subscribed if "%" in pattern and utf7.matches(pattern, name)} - shown
    for name in sorted(shown | above):
        attributes = b"\\Noselect" if name in above else b""
        yield b'LSUB (%b) "/" %b' % (attributes, session.mailbox_name(name))

"""NOTIFY: what a client is told of, also between its commands, and of other mailboxes (RFC 5465)."""

from bisect import bisect_right
from contextlib import suppress
from typing import NamedTuple

from ..database import schema
from . import filters
from .entries import EntryChanges
from .fetch import Fetch
from .filters import Filter
from .grammar import CONDSTORE, BadCommand, No, Parser
from .listing import Mailboxes, parents
from .session import Session
from .status import count, status_answer
from .verbs import LOGGED_IN, verb

NEW, EXPUNGE, FLAGS = b"MESSAGENEW", b"MESSAGEEXPUNGE", b"FLAGCHANGE"
NAME, SUBSCRIPTION = b"MAILBOXNAME", b"SUBSCRIPTIONCHANGE"
MAILBOX_ENTRY, SERVER_ENTRY = b"MAILBOXMETADATACHANGE", b"SERVERMETADATACHANGE"
EVENTS = {
    NEW: "MessageNew",
    EXPUNGE: "MessageExpunge",
    FLAGS: "FlagChange",
    NAME: "MailboxName",
    SUBSCRIPTION: "SubscriptionChange",
    MAILBOX_ENTRY: "MailboxMetadataChange",
    SERVER_ENTRY: "ServerMetadataChange",
}
ABOUT_MESSAGES = {NEW, EXPUNGE, FLAGS}


class Group(NamedTuple):
    """Events, and of which mailboxes. `fetch` is sent of a new message in the selected mailbox."""

    where: Filter
    events: frozenset[bytes]
    fetch: Fetch | None


class Mailbox(NamedTuple):
    """A mailbox as the client has been told of it. Messages are counted only where the client listens to them."""

    name: str
    modseq: int
    counts: tuple[int, ...] = ()  # UIDNEXT and MESSAGES


@verb(LOGGED_IN)
def notify(session: Session, parser: Parser) -> str:
    """Section 3.1."""
    parser.space()
    groups, with_status = [], False
    if parser.at(b"SET"):
        with_status = parser.at(b" STATUS")
        parser.space()
        groups = [_group(session, parser)]
        while parser.at(b" ") and parser.peek():
            groups.append(_group(session, parser))
    else:
        parser.expect(b"NONE")
    parser.end()
    if sum(group.where.word in filters.SELECTED for group in groups) > 1:
        raise BadCommand("SELECTED and SELECTED-DELAYED are given once")
    session.tell_selected()
    session.notify = Notify(session, groups)
    if with_status:
        session.notify.tell_status()
    return "NOTIFY completed"


def _group(session: Session, parser: Parser) -> Group:
    parser.expect(b"(")
    where = filters.parse(parser)
    parser.space()
    fetch: Fetch | None = None

    def event() -> bytes:
        nonlocal fetch
        name = parser.atom()
        if name == NEW and parser.peek(2) == b" (":
            parser.space()
            fetch = Fetch(session, by_uid=False)
            fetch.parse_items(parser)
            fetch.add(b"UID")
        return name

    events = frozenset() if parser.at(b"NONE") else frozenset(parser.parenthesized(event))
    parser.expect(b")")
    is_selected = where.word in filters.SELECTED
    if not events <= EVENTS.keys():
        raise No(f"[BADEVENT ({' '.join(EVENTS.values())})] Unknown event")
    if (NEW in events) != (EXPUNGE in events) or (FLAGS in events and NEW not in events):
        raise BadCommand("MessageNew and MessageExpunge go together, and with FlagChange")
    if (is_selected and events - ABOUT_MESSAGES) or (fetch and not is_selected):
        raise BadCommand("Not for this filter of mailboxes")
    return Group(where, events, fetch)


class Notify:
    """What a client has asked to be told of, and what it has been told of other mailboxes."""

    def __init__(self, session: Session, groups: list[Group]) -> None:
        self.session = session
        self.selected = next((group for group in groups if group.where.word in filters.SELECTED), None)
        self.others = [group for group in groups if group is not self.selected and group.events]
        self._answers: list[bytes] = []  # still to be sent
        self._listed = Mailboxes(session)
        self._known = self._look()
        listens = any({MAILBOX_ENTRY, SERVER_ENTRY} & group.events for group in self.others)
        self._entries = EntryChanges(session.db, session.mailbox_name, self._covers_entry) if listens else None

    @property
    def is_active(self) -> bool:
        """Return whether the client is to be told of anything between its commands."""
        return bool(self.others or (self.selected and self.selected.events))

    def _covers_entry(self, name: str) -> bool:
        """Return whether the client listens to the metadata of a mailbox, or of the server ("")."""
        if not name:
            return any(SERVER_ENTRY in group.events for group in self.others)
        return MAILBOX_ENTRY in self._events(name)

    def tell_status(self) -> None:
        """Send a STATUS answer for each other mailbox whose messages the client listens to."""
        for mailbox in self._known.values():
            if mailbox.counts:
                with suppress(No):  # it has been deleted just now
                    self.session.untagged(self._status(mailbox.name))

    def tell(self, expunges: bool) -> None:
        """Send what has changed; its expunges only if `expunges`, or if they may come at any time."""
        self._tell_selected(expunges)
        self.collect()
        for answer in [*self._answers, *(self._entries.take() if self._entries else ())]:
            self.session.untagged(answer)
        self._answers.clear()

    def _tell_selected(self, expunges: bool) -> None:
        selected, group = self.session.selected, self.selected
        if not selected or not group or not group.events:
            return
        known = selected.known
        for answer in selected.updates(expunges or group.where.word == b"SELECTED", FLAGS in group.events):
            self.session.untagged(answer)
        if group.fetch:
            first = bisect_right(selected.uids, known)
            for index in range(first, len(selected.uids)):
                if selected.uids[index] not in selected.own:
                    with suppress(No):  # a part that cannot be decoded; the client has the number
                        group.fetch.run([(index + 1, index + 1)])

    def collect(self) -> None:
        """Note what has changed in other mailboxes, to be sent later."""
        if not self.others:
            return
        known, listed = self._known, self._listed
        with schema.reading(self.session.db):
            self._listed = Mailboxes(self.session)
            self._known = self._look()
            names = self._changed_names(self._tell_renames(known, set(listed.use)))
            for name in sorted(names | (listed.subscribed ^ self._listed.subscribed)):
                if (NAME if name in names else SUBSCRIPTION) in self._events(name):
                    self._answers.append(self._listed.answer(name, subscribed=True))
            for key, mailbox in self._known.items():
                if self._is_to_tell(mailbox, known.get(key), mailbox.name in listed.use):
                    self._answers.append(self._status(mailbox.name))
        if self._entries:
            self._entries.collect()

    def pass_over(self) -> None:
        """Take what has changed since `collect` as known to the client, which has done it."""
        if self.others:
            self._listed = Mailboxes(self.session)
            self._known = self._look()
        if self._entries:
            self._entries.pass_over()

    def _look(self) -> dict[int, Mailbox]:
        """Return the mailboxes as they are now, by key."""
        found, selected = {}, self.session.selected
        for key, name, modseq, uidnext in self.session.db.execute(
            "SELECT key, name, modseq, uidnext FROM mailbox WHERE name IS NOT NULL"
        ).fetchall():
            if selected and selected.key == key:
                found[key] = Mailbox(name, selected.modseq)
            elif ABOUT_MESSAGES & self._events(name):
                found[key] = Mailbox(name, modseq, (uidnext, count(self.session, key, b"MESSAGES")))
            else:
                found[key] = Mailbox(name, modseq)
        return found

    def _is_to_tell(self, now: Mailbox, before: Mailbox | None, is_known: bool) -> bool:
        """Return whether the client is to be told of the messages of a mailbox. `is_known` is whether its name is."""
        if not now.counts:
            return False
        if not before:
            return is_known or now.counts != (1, 0)
        if before.modseq == now.modseq:
            return False
        return before.counts != now.counts or FLAGS in self._events(now.name)

    def _tell_renames(self, known: dict[int, Mailbox], names: set[str]) -> set[str]:
        """Note the renames; return these names as the client has them then, who renames what is below along."""
        pairs = ((old.name, self._known[key].name) for key, old in known.items() if key in self._known)
        told: dict[str, str] = {}
        for old, new in sorted(pairs):
            goes_along = any(told.get(above, above) + old[len(above) :] == new for above in parents(old))
            if old != new and not goes_along and NAME in self._events(new) | self._events(old):
                told[old] = new
                old_name = b' ("OLDNAME" (%b))' % self.session.mailbox_name(old)
                self._answers.append(self._listed.answer(new, subscribed=True) + old_name)
                names = {new + one[len(old) :] if f"{one}/".startswith(f"{old}/") else one for one in names}
        return names

    def _changed_names(self, names: set[str]) -> set[str]:
        """Return the names that differ from these, which the client has, and the names directly above them."""
        changed = names ^ self._listed.use.keys()
        return changed | {name.rpartition("/")[0] for name in changed if "/" in name}

    def _events(self, name: str) -> set[bytes]:
        """Return the events of a mailbox of which the client is to be told."""
        subscribed = self._listed.subscribed
        return {event for group in self.others if group.where.covers(name, subscribed) for event in group.events}

    def _status(self, name: str) -> bytes:
        items = [b"MESSAGES", b"UIDNEXT", b"UIDVALIDITY"]
        if FLAGS in self._events(name):
            items.append(b"UNSEEN")
            items.append(b"HIGHESTMODSEQ")
        elif CONDSTORE in self.session.enabled:
            items.append(b"HIGHESTMODSEQ")
        return status_answer(self.session, name, items)

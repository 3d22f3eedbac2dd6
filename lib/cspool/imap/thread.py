"""THREAD (RFC 5256): by subject alone, or by References and then by subject.

A thread can be as deep as a mailbox has messages, so nothing here recurses.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .search import Hit
from .selected import Selected
from .sort import SENT, keys


class ThreadMessage(NamedTuple):
    """A message as THREAD compares it; texts and ids are those of mail/order.py."""

    number: int
    uid: int
    sent: int  # seconds since 1970
    subject: str
    reply: bool
    message_id: bytes
    references: bytes


class Thread:
    """A message, or a dummy for one that was not found, and the threads below it."""

    __slots__ = ("children", "message", "parent")

    def __init__(self, message: ThreadMessage | None = None) -> None:
        self.message = message
        self.parent: Thread | None = None
        self.children: list[Thread] = []

    def put_below(self, parent: "Thread") -> bool:
        """Move this below `parent`, and return True. If that would make a loop, do nothing, and return False."""
        if parent is self:
            return False
        above = parent.parent if self.children else None
        while above is not None:
            if above is self:
                return False
            above = above.parent
        self.take_out()
        self.parent = parent
        parent.children.append(self)
        return True

    def take_out(self) -> None:
        """Take this out of its parent, with all below it."""
        if self.parent is not None:
            self.parent.children.remove(self)
            self.parent = None

    def first(self) -> ThreadMessage:
        """Return the message, or for a dummy, which always has children, the first one below it."""
        one = self
        while one.message is None:
            one = one.children[0]
        return one.message


def ordered_subject(selected: Selected, found: list[Hit]) -> list[Thread]:
    """Return ORDEREDSUBJECT threads (section 3): for each base subject, the oldest message with all others below it."""
    subjects: dict[str, Thread] = {}
    for message in sorted(_messages(selected, found), key=_sent):
        thread = Thread(message)
        root = subjects.setdefault(message.subject, thread)
        if root is not thread:
            thread.put_below(root)
    return list(subjects.values())


def references(selected: Selected, found: list[Hit]) -> list[Thread]:
    """Return REFERENCES threads (section 3), in its steps 1 to 6."""
    threads = _linked(_messages(selected, found))  # 1
    roots = [thread for thread in threads if thread.parent is None]  # 2
    roots = _pruned(roots)  # 3
    _sort_below(roots)
    roots.sort(key=lambda thread: _sent(thread.first()))  # 4
    roots = _by_subject(roots)  # 5
    _sort_below(roots)  # 6
    return sorted(roots, key=lambda thread: _sent(thread.first()))


def _messages(selected: Selected, found: list[Hit]) -> list[ThreadMessage]:
    rows = keys(selected, found, [SENT, "subject", "reply", "message_id", "refs"])
    return [ThreadMessage(one.number, *row) for one, row in zip(found, rows, strict=True)]


def _sent(message: ThreadMessage) -> tuple[int, int]:
    return message.sent, message.number


def _linked(messages: list[ThreadMessage]) -> list[Thread]:
    """Return all messages, each below the last one that it names, and those it names below each other (step 1)."""
    threads: list[Thread] = []
    by_id: dict[bytes, Thread] = {}

    def named(message_id: bytes) -> Thread:
        if message_id not in by_id:
            by_id[message_id] = Thread()
            threads.append(by_id[message_id])
        return by_id[message_id]

    for message in messages:
        message_id = message.message_id
        if message_id and named(message_id).message is None:
            thread = named(message_id)
            thread.message = message
        else:  # without an id, or with one that another message has
            thread = Thread(message)
            threads.append(thread)
        above = None
        for reference in message.references.split():
            below = named(reference)
            if above is not None and below.parent is None:
                below.put_below(above)
            above = below
        # The references of a message itself outweigh what others said about it, even if they make a loop (step 1.B).
        if thread.parent is not above:
            thread.take_out()
            if above is not None:
                thread.put_below(above)
    return threads


def _walk(roots: Iterable[Thread]) -> Iterator[Thread]:
    """Yield all threads, each before those below it."""
    waiting = list(roots)
    while waiting:
        thread = waiting.pop()
        yield thread
        waiting += thread.children


def _pruned(roots: list[Thread]) -> list[Thread]:
    """Return the roots without needless dummies (step 3); the children of such a dummy take its place.

    Only a dummy at the root with more than one child is kept.
    """
    kept = []
    for thread in reversed(list(_walk(roots))):
        if thread.message is None:
            if thread.parent is not None:
                parent, children = thread.parent, thread.children
                index = parent.children.index(thread)
                parent.children[index : index + 1] = children
                for child in children:
                    child.parent = parent
                continue
            if not thread.children:
                continue
            if len(thread.children) == 1:
                thread.children[0].parent = None
                kept.append(thread.children[0])
                continue
        if thread.parent is None:
            kept.append(thread)
    return kept


def _sort_below(roots: list[Thread]) -> None:
    """Sort the children of all threads, from the bottom up: a dummy's date is that of its first child."""
    for thread in reversed(list(_walk(roots))):
        thread.children.sort(key=lambda child: _sent(child.first()))


def _by_subject(roots: list[Thread]) -> list[Thread]:
    """Join roots of one subject (step 5): a reply below a message, others side by side below a dummy."""
    subjects: dict[str, Thread] = {}
    for thread in roots:
        subject = thread.first().subject
        there = subjects.get(subject)
        if there is None or _better(thread, there):
            subjects[subject] = thread
    together = []
    for thread in roots:
        if thread.parent is not None:
            continue  # below another root already
        first = thread.first()
        there = subjects[first.subject]
        if not first.subject or there is thread:
            together.append(thread)
        elif there.message is None:
            for one in thread.children[:] if thread.message is None else [thread]:
                one.put_below(there)
        elif first.reply and not there.first().reply:
            thread.put_below(there)
        else:
            dummy = Thread()
            there.put_below(dummy)
            thread.put_below(dummy)
            subjects[first.subject] = dummy
    return [thread for thread in dict.fromkeys([*together, *subjects.values()]) if thread.parent is None]


def _better(thread: Thread, there: Thread) -> bool:
    """Return whether a thread should stand for its subject instead of `there` (step 5.B)."""
    if there.message is not None and thread.message is None:
        return True
    return bool(there.first().reply and not thread.first().reply)


def answer(threads: list[Thread], by_uid: bool) -> str:
    """Return threads as THREAD sends them, by UID or by sequence number (section 4, BASE.7.2.THREAD)."""
    parts: list[str] = []
    for thread in threads:
        parts.append("(")
        waiting: list[Thread | str] = [thread]
        while waiting:
            one = waiting.pop()
            if isinstance(one, str):
                parts.append(one)
                continue
            if one.message is not None:
                if parts[-1] != "(":
                    parts.append(" ")
                parts.append(str(one.message.uid if by_uid else one.message.number))
            if len(one.children) == 1:
                waiting.append(one.children[0])
            else:
                if one.children and parts[-1] != "(":
                    parts.append(" ")
                for child in reversed(one.children):
                    waiting += [")", child, "("]
        parts.append(")")
    return "".join(parts)

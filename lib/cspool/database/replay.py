"""Replaying a log into the message database: what cspool-apply does with a stream.

Each frame must continue the log that this database has applied, else the
replay stops. A frame is folded once the one behind it, or the head, has
confirmed its chain. Records are folded in large transactions, and the cursor
moves with them.
"""

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator

from .. import frame
from ..errors import Contradiction, DataError, Failure, TryAgain
from ..frame import Frame
from ..keys import SecretKey
from ..spool.files import Head
from . import aside, checkpoint, content, outbox, schema, seen, view
from .gates import Gates, Judge
from .loading import Loading
from .seen import Seen

TRANSACTION = 1.0  # seconds after which what was folded is committed


class Transactions:
    """Write transactions of about a second each; others can write between them."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self._due = 0.0

    def begin(self) -> bool:
        """Begin a transaction unless one is under way; return whether it is a new one."""
        if self.db.in_transaction:
            return False
        self.db.execute("BEGIN IMMEDIATE")
        self._due = time.monotonic() + TRANSACTION
        return True

    def is_due(self) -> bool:
        """Return whether the transaction has lasted long enough."""
        return time.monotonic() > self._due

    def refresh(self, folded: Iterable[bytes]) -> None:
        """Make the view again of the messages whose fold has changed."""
        view.refresh(self.db, folded)

    def commit(self) -> None:
        self.db.execute("COMMIT")

    def roll_back(self) -> None:
        schema.roll_back(self.db)

    def remember(self, log: Seen, contradiction: Contradiction, head: Head | None) -> None:
        """Keep a contradiction."""
        log.remember(contradiction, head)


class Replay:
    """One stream on its way into the database.

    `transactions` commits, and `judge` says what happens to a record that
    contradicts the log before it. After each commit `progress` is called with
    the number of the last record applied and that of the last one that is
    known of. When the two are one, or an error ends it, `complain` is called
    with a line for each record that has been set aside or is lost.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        own: list[SecretKey],
        progress: Callable[[int, int], None] = lambda number, end: None,
        complain: Callable[[str], None] = lambda text: None,
        transactions: Transactions | None = None,
        judge: Judge | None = None,
    ) -> None:
        self.db = db
        self.own = own  # the user's keys, newest first
        self.progress = progress
        self.complain = complain
        self.transactions = transactions or Transactions(db)
        self.judge = judge or Judge()
        self.seen = Seen(db)
        self.gates = Gates(db, own, self.seen, self.judge)
        self.head: Head | None = None
        self.waiting: Frame | None = None  # the last frame that was read, until its chain is confirmed
        self.loading: Loading | None = None
        self.with_checkpoint = True  # load the checkpoint of a log that it has dropped records from
        self.reported = self.seen.number
        # The stream begins where a load has got to: what contradicts there may be what that load was shown.
        self.resumed = seen.reached(db) > self.seen.number
        self.unproven_until = 0  # a checkpoint that was loaded counts only once it has come in its place

    def run(self, frames: Iterator[Frame]) -> None:
        """Apply all that is new in the stream. Raises what frame.read raises, and Contradiction.

        A head says how far the records behind it go; a stream that follows a
        spool has one for each batch. Before an error is raised, what came
        before it, without the last record, is applied and on disk; before a
        Contradiction, only what had been committed.
        """
        seen.user_key(self.db, self.own)
        try:
            for one in frames:
                if one.number == frame.HEAD_NUMBER:
                    self._end_batch()
                    self._begin_batch(Head.parse(one.record, "standard input"))
                else:
                    self._take(one, self._batch())
                if (self.waiting.number if self.waiting else self.seen.number) == self.seen.log_end:
                    self._end_batch()
                self.pause(False)
            self._batch()
            self._end_batch()
        except Failure as failure:
            self.waiting = None
            if isinstance(failure, Contradiction) or self.unproven_until:
                # The records of this transaction may be the wrong ones: none is used.
                self._abandon()
                if self.resumed and isinstance(failure, Contradiction):
                    self.commit()
                    raise TryAgain(f"{failure}; the checkpoint is loaded from its beginning") from None
            if isinstance(failure, Contradiction):
                self.transactions.remember(self.seen, failure, self.head)
            self.commit()
            self._report()
            raise
        except BaseException:
            self.transactions.roll_back()
            raise
        self.commit()

    def _abandon(self) -> None:
        """Undo this transaction, and forget how far a load has got: it may have been shown another log."""
        self.transactions.roll_back()
        self.gates.touched = {}
        self.loading, self.unproven_until = None, 0
        self._begin()
        self.db.execute("UPDATE cursor SET loading = NULL, loaded = 0, loaded_chain = NULL")

    def pause(self, waits: bool) -> None:
        """Commit before a wait for input, and when the transaction is old: no other process can write meanwhile."""
        if waits or self.transactions.is_due():
            self.commit()

    def commit(self) -> None:
        """Let others see what has been applied, once a checkpoint that it came from is proven."""
        if not self.db.in_transaction or self.seen.number < self.unproven_until:
            return
        self.unproven_until = 0
        self.seen.save()
        self.transactions.refresh(self.gates.touched)
        self.transactions.commit()
        self.gates.touched = {}
        self.progress(self.loading.reached if self.loading else self.seen.number, self.seen.log_end)
        if self.seen.number >= self.seen.log_end:
            self._report()

    def _begin(self) -> None:
        if not self.transactions.begin():
            return
        self.seen.load(self.own)
        if self.loading and self.seen.number >= self.loading.stated:
            self.loading.is_skipped = True  # another cspool-apply was faster
        if self.loading:
            self.loading.check_alone()

    def _report(self) -> None:
        """Complain of what is still set aside, and of what is lost. A trust may come long after a delivery."""
        lines = [(kind.first, aside.describe(kind)) for kind in aside.kinds(self.db, self.reported)]
        for gap in seen.lost(self.db, self.reported):
            what = "lost by the spool before it could be read"
            lines.append((gap.first, f"{frame.records(gap.first, gap.last)} {what}"))
        for number in content.reduced(self.db, self.reported):
            lines.append((number, f"record {number}: its message is shown without structure: it is too complicated"))
        for _, line in sorted(lines):
            self.complain(line)
        self.reported = max(self.reported, self.seen.number)

    # A batch: a head, and the frames that it speaks of

    def _batch(self) -> Head:
        if not self.head:
            raise DataError("standard input: not read from a spool (no head in front)")
        return self.head

    def _begin_batch(self, head: Head) -> None:
        self.head = head
        self._begin()
        self.seen.check_head(head)
        if self.seen.number + 1 < head.checkpoint_first:
            self.seen.save()
            # Another cspool-apply may have gone on since the stream was asked for, which has the checkpoint first.
            is_skipped = self.seen.number >= head.stated or not self.with_checkpoint
            self.loading = Loading(self.db, self.own, self.seen, head, is_skipped)

    def _take(self, one: Frame, head: Head) -> None:
        """Take in a frame: for the checkpoint that is loaded, or as the next one of the log."""
        self._begin()
        if one.number > self.seen.log_end and one.number < frame.DROPPED:
            raise Contradiction(f"record {one.number} stands behind the end of the log, {self.seen.log_end}")
        if self.loading and self.loading.wants(one):
            self.loading.take(one)
            if self.loading.complete:
                self._load()
            return
        self._load(one)
        if one.number >= frame.DROPPED:
            self._take_dropped(one)
        else:
            self._take_next(one, head)

    def _take_next(self, one: Frame, head: Head) -> None:
        """Check that a frame continues the log, and keep it until its own chain is confirmed."""
        if one == self.waiting:
            return  # came twice
        if self.waiting and one.number == self.waiting.number + 1:
            self._confirm(one.chain, f"record {one.number} does not follow the record before it")
        self._fold_waiting()
        if one.number <= self.seen.number:
            self.seen.check_applied(one)
            return
        if one.number > self.seen.number + 1:
            self._lose(one.number - 1, one.chain, head)
        if one.chain != self.seen.chain:
            raise Contradiction(f"record {one.number} does not continue the log that has been seen")
        self.waiting = one

    def _take_dropped(self, one: Frame) -> None:
        """Judge dropped records that no checkpoint stands for; go on after them if that is the judgement."""
        numbers = frame.covered(one.number, len(one.record))
        if self.waiting and numbers.start == self.waiting.number + 1:
            self._confirm(one.chain, f"record {numbers.start} does not follow the record before it")
        self._fold_waiting()
        last = numbers.stop - 1
        if last > self.seen.number:
            dropped = frame.records(numbers.start, last)
            self.judge.lacking(Contradiction(f"{dropped} dropped, and no checkpoint stands for them"))
            self.gates.lose()
            self.seen.give_up(last, frame.chain_behind(one))

    def _end_batch(self) -> None:
        """Fold the last frame behind a head; the head confirms it. Raises Contradiction when it does not."""
        if not self.head:
            return
        self._begin()
        self._load()
        end = self.seen.log_end
        if self.waiting and self.waiting.number == end:
            self._confirm(self.head.chain, f"the log up to record {end} is not the one that its head speaks of")
        self._fold_waiting()
        if self.seen.number < end:
            self._lose(end, self.head.chain, self.head)
        self.seen.check_end(self.head)
        if self.seen.number == end:
            self.gates.check_user_key()
            outbox.requeue_lost(self.db)
        self.seen.reach_end(self.head)

    def _confirm(self, chain: bytes, otherwise: str) -> None:
        """Check that the chain behind the frame that waits is this one."""
        if self.waiting and frame.chain_behind(self.waiting) != chain:
            raise Contradiction(otherwise)

    def _fold_waiting(self) -> None:
        one, self.waiting = self.waiting, None
        if not one or one.number <= self.seen.number:
            return  # another cspool-apply was faster
        if (one.number, one.chain) != (self.seen.number + 1, self.seen.chain):
            raise TryAgain("the log has been accepted anew by another cspool-apply: begin again")
        self.gates.fold(one)
        if one.number == self.unproven_until and checkpoint.last_record(self.db) != one.number:
            text = f"the checkpoint in record {one.number}, which was loaded, is none in its place: make another one"
            self.judge.state(Contradiction(text))

    def _lose(self, last: int, chain: bytes, head: Head) -> None:
        """Go on behind record `last` without those before it, if the head says that the spool has lost them.

        Raises TryAgain if the stream begins where a load has got to, but its
        head is older than that checkpoint.
        """
        if seen.reached(self.db) > self.seen.number:
            self.db.execute("UPDATE cursor SET loaded = 0, loaded_chain = NULL")
            raise TryAgain("the spool is older than the one whose checkpoint was loaded: begin again")
        if self.seen.number < self.unproven_until <= last:
            text = f"the checkpoint in record {self.unproven_until}, which was loaded, is missing in its place"
            self.judge.state(Contradiction(text))
        self.gates.lose()
        self.seen.lose(last, chain, head)

    def _load(self, next_: Frame | None = None) -> None:
        """Replace the fold by what the checkpoint states that has been read, if there is one.

        If it was skipped, and no record before it comes next, its frames have
        come in their place: the spool has lost those before it.
        """
        loading, self.loading = self.loading, None
        if not loading or loading.is_skipped:
            frames = loading.skipped if loading else []
            first = frame.covered(next_.number, len(next_.record)).start if next_ else self.seen.log_end + 1
            if frames and self.head and first > frames[-1].number:
                for one in frames:
                    self._take_next(one, self.head)
            return
        lacking = loading.lacking()
        if lacking:
            self.judge.lacking(lacking)
        for gap in loading.gaps:
            self.complain(f"{frame.records(gap.start, gap.stop - 1)} lost by the spool before it could be read")
        for changed in loading.replace():
            self.transactions.refresh(changed)
        self.unproven_until = loading.parts.stop
        self.seen.load(self.own)

"""Sending and fetching, once or for as long as it runs: what cspool-sync does with pipes of our tools."""

import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from . import home, keys, pipeline, tool
from .database import checkpoint, outbox, schema, seen
from .errors import Failure, NoInput
from .pipeline import Outcome, Pipe

LOOK = 0.3  # seconds between two looks at the outbox and at the tools that run
LOOK_QUICK = 0.02  # at a pipe that is waited for
LOOK_FOR_GARBAGE = 10.0  # seconds between two looks for garbage, if something has come
CHECKPOINT = 600.0  # seconds until the next look after a checkpoint
PUSH_AGAIN = 60.0  # seconds until the same changes are sent again
STABLE = 20.0  # seconds after which a connection was a good one
GARBAGE_MIN = 1 << 20  # octets of garbage that are not worth a checkpoint
DELAY_MAX = 300.0  # seconds until the next try to connect; from 1 it doubles

MAY_PASS = (os.EX_OK, os.EX_TEMPFAIL)

T = TypeVar("T")


class Sync:
    """The sync of one home.

    `quiet` keeps silent about failures that a later try may mend, for
    `patience` seconds without a good sync; the time of `lock_file` is when
    one was last reported. `with_checkpoint` has the log compacted when more
    than half of it is garbage.
    """

    def __init__(self, quiet: bool, patience: float, with_checkpoint: bool, lock_file: str) -> None:
        self.quiet = quiet
        self.patience = patience
        self.with_checkpoint = with_checkpoint
        self.lock_file = lock_file
        self.database = home.path("mail.db")
        self.passphrase: bytes | None = None
        self.reported = False  # a failure that may pass; once for a push and a pull is enough

    def ask_passphrase(self) -> None:
        """Ask once for the passphrase that all tools will need."""
        key = home.path("key")
        if keys.is_locked(key) and not os.environ.get("CSPOOL_PASSPHRASE_COMMAND"):
            self.passphrase = home.passphrase(key)

    def report(self, lines: list[str], code: int) -> None:
        """Say what went wrong, unless a later try may mend it and we are to be patient."""
        if not lines or (code == os.EX_TEMPFAIL and self.reported):
            return
        if code == os.EX_TEMPFAIL:
            if self.quiet and not self._is_overdue():
                return
            self.reported = True
            lines = lines[-1:]  # ssh says more than one
        for line in lines:
            tool.say(line)

    def _is_overdue(self) -> bool:
        """Return whether it is time to report that there has been no good sync; note that it is reported."""
        progress = self._ask(seen.progress)
        synced = progress and progress.synced
        if time.time() - max(synced or 0, os.stat(self.lock_file).st_mtime) < self.patience:
            return False
        os.utime(self.lock_file)
        return True

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T | None:
        """Return what the message database answers, None where there is none yet."""
        try:
            with schema.opened(self.database) as db:
                return question(db)
        except NoInput:
            return None

    # What there is to do

    def outbox_mark(self, since: int = 0) -> tuple[int, bytes] | None:
        """Return a value that changes whenever the outbox does; None when there is nothing to send."""
        return self._ask(lambda db: outbox.mark(db, since))

    def log_size(self, since: int) -> int | None:
        """Return how many octets the log has, None before a sync at `since` (seconds since 1970) or later."""
        progress = self._ask(seen.progress)
        return progress.log_size if progress and (progress.synced or 0) >= since else None

    def is_garbage(self) -> bool:
        """Return whether a checkpoint is wanted, and worth it."""
        sizes = self._ask(checkpoint.sizes) if self.with_checkpoint else None
        return bool(sizes and sizes.garbage > max(GARBAGE_MIN, sizes.needed))

    def is_known(self) -> bool:
        """Return whether the spool is the one that we know: in another, a change would be lost or do harm."""
        with suppress(Failure), schema.opened(self.database) as db:
            return seen.agrees(db, pipeline.head(home.spool(None)))
        return False  # the pull that follows says why

    # Once

    def once(self) -> int:
        """Push and pull; return the exit code."""
        code = self._push()
        code = self._pull() or code
        if code in (os.EX_OK, os.EX_DATAERR) and self.outbox_mark():
            # The spool was not known before, or the changes had to be issued again under a new device id.
            code = self._push() or self._pull() or code
        if code == os.EX_OK and self.is_garbage():
            code = self._run(self.compacting()) or self._pull()
        return code

    def _push(self) -> int:
        return self._run(self.pushing()) if self.outbox_mark() and self.is_known() else os.EX_OK

    def _pull(self) -> int:
        return self._run(self._pipe(["cspool-fetch"], ["cspool-apply"]))

    def pushing(self) -> Pipe:
        """Begin to send the outbox."""
        return self._pipe(["cspool-outbox"], ["cspool-append"])

    def compacting(self) -> Pipe:
        """Begin to have the log compacted."""
        return self._pipe(["cspool-checkpoint"], ["cspool-compact"])

    def _pipe(self, writer: list[str], reader: list[str]) -> Pipe:
        return Pipe(writer, reader, self.passphrase)

    def _run(self, pipe: Pipe) -> int:
        """Wait for a pipe, and report how it has ended; return its exit code."""
        with pipe:
            progress, is_shown = tool.Progress(), sys.stderr.isatty()
            while pipe.runs():
                time.sleep(LOOK if is_shown else LOOK_QUICK)
                log = self._ask(seen.progress) if is_shown else None
                if log:
                    progress(log.applied, log.log_end)
            return self.end(pipe.outcome())

    def end(self, outcome: Outcome) -> int:
        """Report how a pipe has ended; return its exit code."""
        self.report(outcome.lines, outcome.lines_code)
        return outcome.code

    # For as long as it runs

    def follow(self) -> int:
        """Stay connected; try again with growing delays. Return the code of a failure that no later try can mend."""
        delay = 1.0
        while True:
            begun = time.monotonic()
            code = self._follow_once()
            if code not in MAY_PASS:
                return code
            if time.monotonic() - begun > STABLE:
                delay = 1.0
            time.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - so that not all come back at once
            delay = min(2 * delay, DELAY_MAX)

    def _follow_once(self) -> int:
        """Follow the spool until the connection ends, and send meanwhile; return the exit code."""
        self.reported = False
        sender = Sender(self, int(time.time()))
        with self._pipe(["cspool-fetch", "--follow"], ["cspool-apply"]) as pull:
            try:
                while pull.runs():
                    time.sleep(LOOK)
                    for line in pull.reader_lines():
                        self.report([line], os.EX_DATAERR)
                    code = sender.look()
                    if code not in MAY_PASS:
                        return code
                return self.end(pull.outcome())
            finally:
                sender.close()


class Sender:
    """Sends what comes into the outbox, and checkpoints, while a spool is followed, one pipe at a time.

    Nothing is sent before a sync at `since` (seconds since 1970) or later.
    """

    def __init__(self, sync: Sync, since: int) -> None:
        self.sync = sync
        self.since = since
        self.pipe: Pipe | None = None
        self.compacting = False  # what the pipe does
        self.sent: tuple[int, bytes] | None = None  # the mark of the outbox that was sent last
        self.again = 0.0  # when the same is sent again
        self.next_look = 0.0  # for garbage
        self.log_size: int | None = None  # at the last look

    def look(self) -> int:
        """Begin what there is to send. Return the exit code of a pipe that has ended, EX_OK while there is none."""
        if self.pipe and self.pipe.runs():
            return os.EX_OK  # it is not waited for, as it may hang
        if self.pipe:
            code = self.sync.end(self.pipe.outcome())
            self.close()
            if code not in MAY_PASS:
                if not self.compacting:
                    return code
                self.sync.with_checkpoint = False  # mail comes without it
        waiting = self.sync.outbox_mark(self.since)
        if waiting and (waiting != self.sent or time.monotonic() > self.again):
            self.pipe, self.compacting = self.sync.pushing(), False
            self.sent, self.again = waiting, time.monotonic() + PUSH_AGAIN
        elif self.sync.with_checkpoint and time.monotonic() > self.next_look:
            self._look_for_garbage()
        return os.EX_OK

    def _look_for_garbage(self) -> None:
        self.next_look = time.monotonic() + LOOK_FOR_GARBAGE
        before, self.log_size = self.log_size, self.sync.log_size(self.since)
        if self.log_size and self.log_size != before and self.sync.is_garbage():
            self.next_look = time.monotonic() + CHECKPOINT
            self.pipe, self.compacting = self.sync.compacting(), True

    def close(self) -> None:
        """End the pipe that runs."""
        if self.pipe:
            self.pipe.close()
            self.pipe = None

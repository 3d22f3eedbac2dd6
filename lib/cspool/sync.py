"""Sending and fetching, once or continuously: what cspool-sync does, with pipes of our tools."""

import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from . import disk, home, keys, pipeline, tool
from .database import checkpoint, outbox, schema, seen
from .errors import Failure, NoInput
from .hook import Hook
from .pipeline import Outcome, Pipe

LOOK = 0.3  # seconds between two looks at the outbox and at the tools that run
LOOK_QUICK = 0.02  # seconds between two looks at a pipe, when there is no progress to show
LOOK_FOR_GARBAGE = 10.0  # seconds between two looks for garbage
CHECKPOINT = 600.0  # seconds from a checkpoint to the next look for garbage
PUSH_AGAIN = 60.0  # seconds until the same changes are sent again
STABLE = 20.0  # seconds after which a connection counts as a good one
GARBAGE_MIN = 1 << 20  # octets; no more garbage than this is not worth a checkpoint
DELAY_MAX = 300.0  # seconds between two attempts to connect; the delay begins at 1 and doubles

MAY_PASS = (os.EX_OK, os.EX_TEMPFAIL)

T = TypeVar("T")


class Sync:
    """The sync of one home.

    With `quiet`, a failure that a retry may mend is reported only if for
    `patience` seconds there was no successful sync and no such report. The
    modification time of `lock_file` is that of the last such report. With
    `with_checkpoint`, the log is compacted when more than half of it is garbage.
    While a spool is followed, `hook` looks whether mail has come.
    """

    def __init__(
        self, quiet: bool, patience: float, with_checkpoint: bool, lock_file: str, hook: Hook | None = None
    ) -> None:
        self.hook = hook
        self.quiet = quiet
        self.patience = patience
        self.with_checkpoint = with_checkpoint
        self.lock_file = lock_file
        self.database = home.path("mail.db")
        self.passphrase: bytes | None = None
        self.reported = False  # a failure that a retry may mend; one report for a push and a pull is enough
        self.begun = int(time.time())
        self.is_pushed = True  # no push has failed in a way that no retry can mend
        self.failed_file = home.path("sync.failed")
        self.last_line = ""  # of those that have been reported of a failure that no retry can mend

    def ask_passphrase(self) -> None:
        """Ask once for the passphrase that all tools will need, if the key is locked and no command prints it."""
        key = home.path("key")
        if keys.is_locked(key) and not os.environ.get("CSPOOL_PASSPHRASE_COMMAND"):
            self.passphrase = home.passphrase(key)

    def report(self, lines: list[str], code: int) -> None:
        """Report a failure. One that a retry may mend is reported only once, and with `quiet` only when that is due."""
        if not lines or (code == os.EX_TEMPFAIL and self.reported):
            return
        if code == os.EX_TEMPFAIL:
            if self.quiet and not self._is_overdue():
                return
            self.reported = True
            lines = lines[-1:]  # ssh writes several
        for line in lines:
            tool.say(line)
        if code != os.EX_TEMPFAIL:
            self.last_line = lines[-1]

    def remember(self, code: int) -> None:
        """Note for cspool-status how a sync has ended; one that a retry may mend leaves the last note as it is."""
        with suppress(OSError, Failure):  # a home that is missing has been reported
            # Records were set aside, and all else has been applied.
            is_whole = code == os.EX_DATAERR and self.is_pushed and self.log_size(self.begun) is not None
            if code == os.EX_OK or is_whole:
                with suppress(FileNotFoundError):
                    os.unlink(self.failed_file)
            elif code != os.EX_TEMPFAIL:
                text = tool.printable(f"{self.last_line or 'no reason given'} (status {code})")
                disk.replace_private(self.failed_file, f"{text}\n".encode())

    def _is_overdue(self) -> bool:
        """Return whether it is time to report that there was no successful sync; if so, note the time of the report."""
        progress = self._ask(seen.progress)
        # A time in the future, which a wrong clock has noted, counts as never.
        times = [(progress and progress.synced) or 0, os.stat(self.lock_file).st_mtime]
        last = max((one for one in times if one <= time.time()), default=0)
        if time.time() - last < self.patience:
            return False
        os.utime(self.lock_file)
        return True

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T | None:
        """Return the answer of the message database, or None if there is no database yet."""
        try:
            with schema.opened(self.database) as db:
                return question(db)
        except NoInput:
            return None

    # What there is to do

    def outbox_mark(self, since: int = 0) -> tuple[int, bytes] | None:
        """Return a value that changes whenever the outbox does, or None if nothing is ready to be sent.

        Nothing is before a sync at `since` (seconds since 1970) or later.
        """
        return self._ask(lambda db: outbox.mark(db, since))

    def log_size(self, since: int) -> int | None:
        """Return the size of the log in octets, or None if the last sync was before `since` (seconds since 1970)."""
        progress = self._ask(seen.progress)
        return progress.log_size if progress and (progress.synced or 0) >= since else None

    def is_garbage(self) -> bool:
        """Return whether checkpoints are wanted, and the garbage is worth one."""
        sizes = self._ask(checkpoint.sizes) if self.with_checkpoint else None
        return bool(sizes and sizes.garbage > max(GARBAGE_MIN, sizes.needed))

    def is_known(self) -> bool:
        """Return whether the spool is the one that we know. In another, a change would be lost or do harm."""
        with suppress(Failure), schema.opened(self.database) as db:
            return seen.agrees(db, pipeline.head(home.spool(None)))
        return False  # the pull that follows reports why

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
        code = self._run(self.pushing()) if self.outbox_mark() and self.is_known() else os.EX_OK
        self.is_pushed &= code in MAY_PASS
        return code

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

    # Continuously

    def follow(self) -> int:
        """Stay connected; connect again after growing delays. Return the code of a failure that no retry can mend."""
        delay = 1.0
        while True:
            begun = time.monotonic()
            code = self._follow_once()
            if code not in MAY_PASS:
                return code
            if time.monotonic() - begun > STABLE:
                delay = 1.0
            time.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - so that not all connect at once
            delay = min(2 * delay, DELAY_MAX)

    def _follow_once(self) -> int:
        """Follow the spool until the connection ends, and send meanwhile; return the exit code."""
        self.reported = False
        sender = Sender(self, int(time.time()))
        with self._pipe(["cspool-fetch", "--follow", "--until-eof"], ["cspool-apply"]) as pull:
            try:
                while pull.runs():
                    time.sleep(LOOK)
                    for line in pull.reader_lines():
                        self.report([line], os.EX_DATAERR)
                    if self.hook:
                        self.hook.look()
                    code = sender.look()
                    if code not in MAY_PASS:
                        return code
                    if os.path.exists(self.failed_file) and self.log_size(sender.since) is not None:
                        self.remember(os.EX_OK)
                return self.end(pull.outcome())
            finally:
                sender.close()


class Sender:
    """Sends changes and checkpoints while a spool is followed, by one pipe at a time.

    It sends nothing until there has been a sync at `since` (seconds since 1970)
    or later.
    """

    def __init__(self, sync: Sync, since: int) -> None:
        self.sync = sync
        self.since = since
        self.pipe: Pipe | None = None
        self.compacting = False  # whether the pipe compacts; else it pushes
        self.sent: tuple[int, bytes] | None = None  # the mark of the outbox when it was last sent
        self.again = 0.0  # when the same changes are sent again (time.monotonic)
        self.next_look = 0.0  # when to look for garbage (time.monotonic)
        self.log_size: int | None = None  # at the last look for garbage

    def look(self) -> int:
        """Begin a push or a compaction if one is due. Return the code of a push that no retry can mend, else EX_OK."""
        if self.pipe and self.pipe.runs():
            return os.EX_OK  # do not wait for it: it may hang
        if self.pipe:
            code = self.sync.end(self.pipe.outcome())
            self.close()
            if code not in MAY_PASS:
                if not self.compacting:
                    self.sync.is_pushed = False
                    return code
                self.sync.with_checkpoint = False  # mail arrives without it
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
        """End the pipe, if there is one."""
        if self.pipe:
            self.pipe.close()
            self.pipe = None

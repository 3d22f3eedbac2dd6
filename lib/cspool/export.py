"""Moving out: writing the mail of the message database as Maildir or mbox, with LF line ends."""

import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from .archive import maildir
from .database import content, view
from .errors import NoInput, TryAgain
from .mail.lines import with_lf

OURS = re.compile(r"\d+\.([0-9a-f]{32})\.cspool(:2,\w*)?")  # names of the files that we write
BATCH = 1000  # files synced together
FROM = re.compile(rb"^(>*From )", re.MULTILINE)
PARTS = ("tmp", "new", "cur")


def octets_of(db: sqlite3.Connection, key: int) -> bytes:
    """Return the octets of a content, with LF line ends where it is text."""
    return with_lf(content.octets_of(db, key))


def mbox(db: sqlite3.Connection, name: str) -> Iterator[bytes]:
    """Yield the messages of a mailbox as parts of an mbox (mboxrd). Raises NoInput if no mailbox has this name."""
    if name not in view.names(db):
        raise NoInput(f"{name}: no such mailbox")
    for one in view.messages(db, name):
        octets = FROM.sub(rb">\1", octets_of(db, one.content))
        when = time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime(one.date)).encode()
        end = b"\n" if octets.endswith(b"\n") else b"\n\n"
        yield b"From MAILER-DAEMON " + when + b"\n" + octets + end


class MaildirExport:
    """Makes the directory `path` a copy of the message database. Files in it that are not ours are left alone."""

    def __init__(
        self,
        db: sqlite3.Connection,
        path: str,
        dotted: bool = False,
        progress: Callable[[int], None] = lambda done: None,
    ) -> None:
        """Prepare; `dotted` is for the names of Maildir++. `progress` is called with the count of messages done."""
        self.db = db
        self.path = path
        self.name_of = maildir.dotted_name if dotted else maildir.folder_name
        self.progress = progress
        self.done = 0
        self.written: list[tuple[str, str]] = []  # (file in tmp, the name that it will get)

    def write(self) -> None:
        """Write what has changed since the last run. Raises TryAgain if another export is at work here, and OSError."""
        os.makedirs(self.path, 0o700, exist_ok=True)
        lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TryAgain(f"{self.path}: another cspool-export is at work") from None
        folders = {os.path.normpath(os.path.join(self.path, self.name_of(name))): name for name in view.names(self.db)}
        for folder in reversed(maildir.folders(self.path)):
            if maildir.is_maildir(folder):
                self._clear(folder, os.path.normpath(folder) in folders)
        for folder, name in folders.items():
            for part in PARTS:
                os.makedirs(os.path.join(folder, part), 0o700, exist_ok=True)
            self._write_folder(folder, name)
        # This also syncs what an earlier run wrote before it was killed.
        os.sync()

    def _clear(self, folder: str, keep: bool) -> None:
        """Remove what a killed run left in tmp; unless `keep`, all our files, and the folder if it is then empty."""
        ours = self._ours(folder, ("tmp",) if keep else PARTS)
        for path in ours.values():
            _remove(path)
        parts = [os.path.join(folder, part) for part in PARTS]
        if ours and not keep and not any(os.path.isdir(part) and os.listdir(part) for part in parts):
            with suppress(OSError):  # other files in it are the user's
                _remove(os.path.join(folder, maildir.KEYWORDS))
                for path in [*parts, folder]:
                    os.rmdir(path)

    def _ours(self, folder: str, parts: tuple[str, ...] = ("cur", "new")) -> dict[str, str]:
        """Return the paths of our files in these parts of a folder, by message id in hex."""
        return {
            found[1]: os.path.join(folder, part, name)
            for part in parts
            if os.path.isdir(os.path.join(folder, part))
            for name in os.listdir(os.path.join(folder, part))
            if (found := OURS.fullmatch(name))
        }

    def _write_folder(self, folder: str, name: str) -> None:
        before = self._ours(folder)
        keywords = maildir.Keywords(folder)
        for one in view.messages(self.db, name):
            self.done += 1
            self.progress(self.done)
            file = f"{one.date}.{one.id.hex()}.cspool:2,{keywords.letters(one.flags)}"
            path, old = os.path.join(folder, "cur", file), before.pop(one.id.hex(), None)
            if old is None:
                self._add(os.path.join(folder, "tmp", file), path, octets_of(self.db, one.content), one.date)
            elif old != path:
                with suppress(FileNotFoundError):  # a mail client has just renamed it
                    os.rename(old, path)
        self._publish()
        for path in before.values():
            _remove(path)
        keywords.save()

    def _add(self, temporary: str, path: str, octets: bytes, date: int) -> None:
        with open(temporary, "wb") as file:
            file.write(octets)
        os.utime(temporary, (date, date))
        self.written.append((temporary, path))
        if len(self.written) >= BATCH:
            self._publish()

    def _publish(self) -> None:
        """Sync the files and then rename them, so that after a power cut a file in cur is whole."""
        if self.written:
            os.sync()
        for temporary, path in self.written:
            os.rename(temporary, path)
        self.written = []


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)

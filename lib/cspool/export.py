"""Moving out: the mail of the message database as Maildir or mbox. Lines end with LF there."""

import fcntl
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress

from . import maildir
from .database import content, view
from .errors import NoInput, TryAgain

OURS = re.compile(r"\d+\.([0-9a-f]{32})\.cspool(:2,\w*)?")  # names of files that we have written
BATCH = 1000  # files that are synced together
FROM = re.compile(rb"^(>*From )", re.MULTILINE)
PARTS = ("tmp", "new", "cur")


def octets_of(db: sqlite3.Connection, key: int) -> bytes:
    """Return the octets of a content, with LF line ends."""
    return content.octets_of(db, key).replace(b"\r\n", b"\n")


def mbox(db: sqlite3.Connection, name: str) -> Iterator[bytes]:
    """Yield the messages of a mailbox as an mbox (mboxrd). Raises NoInput when there is none of this name."""
    if name not in view.names(db):
        raise NoInput(f"{name}: no such mailbox")
    for one in view.messages(db, name):
        octets = FROM.sub(rb">\1", octets_of(db, one.content))
        when = time.strftime("%a %b %d %H:%M:%S %Y", time.gmtime(one.date)).encode()
        end = b"\n" if octets.endswith(b"\n") else b"\n\n"
        yield b"From MAILER-DAEMON " + when + b"\n" + octets + end


class MaildirExport:
    """A directory that is made what the message database is. Files in it that we have not written are left alone."""

    def __init__(self, db: sqlite3.Connection, path: str) -> None:
        self.db = db
        self.path = path
        self.written: list[tuple[str, str]] = []  # files in tmp, and the names that they are to get

    def write(self) -> None:
        """Write what has changed since the last time. Raises TryAgain while another export is at work, and OSError."""
        os.makedirs(self.path, 0o700, exist_ok=True)
        lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TryAgain(f"{self.path}: another cspool-export is at work") from None
        folders = {os.path.join(self.path, maildir.folder_name(name)): name for name in view.names(self.db)}
        for folder in reversed(maildir.folders(self.path)):
            if maildir.is_maildir(folder):
                self._clear(folder, folder in folders)
        for folder, name in folders.items():
            for part in PARTS:
                os.makedirs(os.path.join(folder, part), 0o700, exist_ok=True)
            self._write_folder(folder, name)
        # This covers what a run before this one, which was killed, has written, too.
        os.sync()

    def _clear(self, folder: str, keep: bool) -> None:
        """Remove what a run that was killed has left in tmp, and all of ours in the folder of a deleted mailbox."""
        ours = self._ours(folder, ("tmp",) if keep else PARTS)
        for path in ours.values():
            _remove(path)
        parts = [os.path.join(folder, part) for part in PARTS]
        if ours and not keep and not any(os.path.isdir(part) and os.listdir(part) for part in parts):
            with suppress(OSError):  # what else is in there is the user's
                _remove(os.path.join(folder, maildir.KEYWORDS))
                for path in [*parts, folder]:
                    os.rmdir(path)

    def _ours(self, folder: str, parts: tuple[str, ...] = ("cur", "new")) -> dict[str, str]:
        """Return the paths of the files in a folder that we have written, by message id."""
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
        """Give files their names once they are on disk, so that a file with a name is whole after a power cut."""
        if self.written:
            os.sync()
        for temporary, path in self.written:
            os.rename(temporary, path)
        self.written = []


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)

"""What may be wrong with a machine, and what to do: the things that cspool-doctor looks at."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from . import frame, home, keys, pipeline
from .database import aside, fold, outbox, schema, seen, view
from .errors import BadConfig, Failure

WELL, NOTE, BAD = range(3)  # grades; a note is for the user to judge
DAY = 86400
CRON_PATH = "/usr/bin:/bin"
_RUNS_SYNC = re.compile(r"^[^#]*?(\S*cspool[- ]sync)(?=\s|$)(?<!\.log)")  # in a line of a crontab
PYNACL = (1, 4)  # the oldest that has all we use


class Finding(NamedTuple):
    """One thing that was looked at. If it is not well, `remedy` says what to do, and `page` where more is said."""

    grade: int
    subject: str
    text: str
    remedy: str = ""
    page: str = ""


def machine(offline: bool) -> Iterator[Finding]:
    """Look at this machine: one of the user's, or a mail host, which has a recipient."""
    yield _versions()
    directory = home.path("")[:-1]
    if not os.path.isdir(directory):
        yield Finding(BAD, "home", f"{directory}: missing", "cspool-setup SPOOL", "cspool-setup(1)")
        return
    yield _home(directory)
    yield _key()
    is_host = os.path.exists(home.path("recipient")) and not os.path.exists(home.path("mail.db"))
    if is_host:
        yield _recipient()
        if not offline:
            yield _append()
        return
    yield _spool(offline)
    yield from _database()
    yield _schedule()
    yield _disk(directory)


def _versions() -> Finding:
    import sqlite3

    import nacl

    python = ".".join(map(str, sys.version_info[:3]))
    text = f"Python {python}, PyNaCl {nacl.__version__}, SQLite {sqlite3.sqlite_version}"
    if tuple(map(int, re.findall(r"\d+", nacl.__version__)[:2])) < PYNACL:
        return Finding(BAD, "versions", text, "install PyNaCl 1.4 or newer", "README")
    return Finding(WELL, "versions", text)


def _home(directory: str) -> Finding:
    if os.stat(directory).st_mode & 0o077:
        return Finding(BAD, "home", f"{directory}: accessible to others", f"chmod 700 {directory}", "cspool-home(5)")
    return Finding(WELL, "home", directory)


def _key() -> Finding:
    file = home.path("key")
    try:
        is_locked = keys.is_locked(file)
        if not os.path.exists(home.path("key.pub")):
            return Finding(
                BAD, "key", f"{home.path('key.pub')}: missing", "cspool-setup SPOOL writes it", "cspool-setup(1)"
            )
        public = keys.read_public(home.path("key.pub"))
        if not is_locked and keys.read_secret(file, home.passphrase).public != public:
            raise BadConfig(f"{home.path('key.pub')}: the public half of another key")
    except Failure as failure:
        remedy = "copy it from your backup, or from another machine of yours"
        text, _, what = str(failure).rpartition(": ")
        if what.startswith("chmod"):
            return Finding(BAD, "key", text, what, "cspool-home(5)")
        return Finding(BAD, "key", str(failure), remedy, "cspool-recovery(7)")
    if is_locked and not os.environ.get("CSPOOL_PASSPHRASE_COMMAND"):
        remedy = "set CSPOOL_PASSPHRASE_COMMAND where cspool-sync runs by itself"
        return Finding(NOTE, "key", f"{keys.short(public.sign)}, locked with a passphrase", remedy, "cspool-sync(1)")
    return Finding(WELL, "key", keys.short(public.sign))


def _recipient() -> Finding:
    file = home.path("recipient")
    try:
        recipient, own = keys.read_public(file), keys.read_public(home.path("key.pub"))
    except Failure as failure:
        return Finding(BAD, "recipient", str(failure), "put the user's key.pub there", "cspool-home(5)")
    if recipient == own:
        text = f"{file}: the key of this host, so that only this host could read the mail"
        return Finding(BAD, "recipient", text, "put the user's key.pub there", "cspool-home(5)")
    return Finding(WELL, "recipient", keys.short(recipient.sign))


def _append() -> Finding:
    """Append a stream of no records, as a mail host appends mail."""
    done = pipeline.run(["cspool-append"], input=frame.encode_end(0), capture_output=True)
    if done.returncode:
        return Finding(BAD, "append", pipeline.last_line(done.stderr, "cspool-append"), *_ABOUT_SPOOL)
    return Finding(WELL, "append", home.spool_to_append(None))


_ABOUT_SPOOL = ("look this message up under DIAGNOSTICS", "cspool(7)")


def _spool(offline: bool) -> Finding:
    try:
        spool = home.spool(None)
        if offline:
            return Finding(WELL, "spool", f"{spool}, which was not asked")
        head = pipeline.head(spool)
    except Failure as failure:
        return Finding(BAD, "spool", str(failure), *_ABOUT_SPOOL)
    if os.path.exists(home.path("mail.db")):
        with suppress(Failure), schema.opened(home.path("mail.db")) as db:  # what is wrong with it is said below
            if not seen.agrees(db, head) or seen.contradictions(db):
                text = f"{spool}: it contradicts what has been seen"
                return Finding(BAD, "spool", text, "find out which of the two is right", "cspool-recovery(7)")
    return Finding(WELL, "spool", f"{spool}, {head.next - 1:,} records")


def _database() -> Iterator[Finding]:
    path = home.path("mail.db")
    try:
        with schema.opened(path) as db:
            messages = sum(one.messages for one in view.mailboxes(db))
            yield Finding(WELL, "mail", f"{messages:,} messages in {len(view.mailboxes(db)):,} mailboxes")
            hosts, untrusted = fold.trusted(db), sum(aside.untrusted(db).values())
            if untrusted or not hosts:
                text = (
                    f"{untrusted:,} records of hosts that are not trusted" if untrusted else "no mail host is trusted"
                )
                yield Finding(BAD if untrusted else NOTE, "trust", text, "cspool-trust --list", "cspool-trust(1)")
            else:
                yield Finding(WELL, "trust", ", ".join(hosts.values()))
            yield _sync(seen.progress(db).synced, outbox.waiting(db).oldest)
            (sealed,) = db.execute("SELECT sealed FROM cursor").fetchone()
            yield _clock(sealed or 0)
    except Failure as failure:
        remedy = "cspool-sync makes it from the spool"
        if os.path.exists(path):
            remedy = f"keep it as {path}.old, with what it has not sent; then {remedy}"
        yield Finding(BAD, "mail", str(failure), remedy, "cspool-recovery(7)")


def _sync(synced: int | None, oldest: int | None) -> Finding:
    try:
        with open(home.path("sync.failed"), errors="replace") as file:
            return Finding(BAD, "sync", f"the last one failed: {file.readline().strip()}", *_ABOUT_SPOOL)
    except OSError:
        pass
    if synced is None or time.time() - synced > DAY:
        return Finding(BAD, "sync", "there has been no good one for a day", "cspool-sync", "cspool-sync(1)")
    if oldest is not None and time.time() - oldest > DAY:
        return Finding(BAD, "sync", "a change has waited for a day to be sent", "cspool-sync", "cspool-sync(1)")
    return Finding(WELL, "sync", f"{int(time.time() - synced):,} seconds ago")


def _clock(sealed: int) -> Finding:
    """Compare the clock with the time at which the latest mail was sealed, by the clock of its host."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S %z")
    if sealed > time.time() + 3600:
        text = f"{shown}, but mail has come that was sealed {int(sealed - time.time()) // 3600:,} hours later"
        return Finding(BAD, "clock", text, "set it, here or on the mail host", "cspool-recovery(7)")
    return Finding(WELL, "clock", shown)


def _schedule() -> Finding:
    """Find what runs cspool-sync: a crontab, a unit of systemd, launchd, or a process."""
    for command in (["systemctl", "--user", "is-active", "cspool-sync"], ["launchctl", "list", "org.cspool.sync"]):
        if shutil.which(command[0]) and not subprocess.run(command, capture_output=True, check=False).returncode:
            return Finding(WELL, "schedule", f"cspool-sync runs by {command[0]}")
    lines = []
    if shutil.which("crontab"):
        done = subprocess.run(["crontab", "-l"], capture_output=True, check=False, text=True, errors="replace")
        lines = [line for line in done.stdout.splitlines() if _RUNS_SYNC.search(line)]
        path = re.findall(r"^PATH\s*=\s*(\S+)", done.stdout, re.MULTILINE)
        for line in lines:
            program = _RUNS_SYNC.findall(line)[0].strip("\"'")
            program = os.path.expanduser(os.path.expandvars(program))
            if not shutil.which(program, path=path[-1].strip("\"'") if path else CRON_PATH):
                text = f"crontab: {program}: not in the PATH of cron"
                return Finding(BAD, "schedule", text, f"write {pipeline.path('cspool-sync')}", "cspool-setup(1)")
    if lines:
        return Finding(WELL, "schedule", f"crontab: {lines[0]}")
    try:
        with suppress(FileNotFoundError, PermissionError), open(home.path("sync.lock"), "rb") as file:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return Finding(WELL, "schedule", "cspool-sync is running")
    line = f"*/5 * * * * {pipeline.path('cspool-sync')} --quiet"
    return Finding(NOTE, "schedule", "nothing runs cspool-sync by itself", f"crontab -e: {line}", "cspool-sync(1)")


def _disk(directory: str) -> Finding:
    is_encrypted, free = _is_encrypted(directory), shutil.disk_usage(directory).free
    size = f"{free / 1e9:,.1f} GB free"
    if free < 100_000_000:
        return Finding(BAD, "disk", size, "make room", "cspool-recovery(7)")
    if is_encrypted is None:
        return Finding(
            NOTE, "disk", f"{size}; whether it is encrypted cannot be seen", "see to it", "cspool-security(7)"
        )
    if not is_encrypted:
        text = f"{size}; it is not encrypted, and mail.db holds mail in the clear"
        return Finding(NOTE, "disk", text, "encrypt the disk", "cspool-security(7)")
    return Finding(WELL, "disk", f"{size}, encrypted")


def _is_encrypted(directory: str) -> bool | None:
    """Return whether a directory is on an encrypted block device; None if that cannot be told."""
    if sys.platform == "darwin":
        done = subprocess.run(["fdesetup", "isactive"], capture_output=True, check=False)
        return done.returncode == 0
    device = os.stat(directory).st_dev
    waiting = [f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"]
    if not os.path.exists(waiting[0]):
        return None  # no block device: a file system over the network, or in several layers
    while waiting:
        block = waiting.pop()
        try:
            with open(f"{block}/dm/uuid") as file:
                if file.read().startswith("CRYPT-"):
                    return True
        except OSError:
            pass
        if os.path.isdir(f"{block}/slaves"):
            waiting += [f"{block}/slaves/{name}" for name in os.listdir(f"{block}/slaves")]
    return False


# A backup


def backup(directory: str) -> Iterator[Finding]:
    """Restore a backup into a scratch database, as one would on the bad day, and say what came of it."""
    key = os.path.join(directory, "key")
    with tempfile.TemporaryDirectory(prefix="cspool-doctor.") as scratch:
        copy = os.path.join(scratch, "key")
        try:
            # The medium may have no modes.
            with open(key, "rb") as file, open(os.open(copy, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as out:
                out.write(file.read(keys.FILE_MAX + 1))
            is_locked = keys.is_locked(copy)
            if not is_locked:
                keys.read_ring(copy, home.passphrase)
        except OSError:
            yield Finding(
                BAD, "key", f"{key}: missing: nothing can be read without it", "copy it", "cspool-recovery(7)"
            )
            return
        except Failure as failure:
            text = str(failure).replace(copy, key)
            yield Finding(BAD, "key", text, "copy it again", "cspool-recovery(7)")
            return
        yield Finding(WELL, "key", f"{key}{', locked: you need the passphrase too' * is_locked}")
        yield from _restore(directory, copy, os.path.join(scratch, "mail.db"))


def _restore(directory: str, key: str, path: str) -> Iterator[Finding]:
    source = _source(directory)
    if not source:
        text = f"{directory}: neither a spool nor a stream of cspool-fetch is in it"
        yield Finding(BAD, "spool", text, "cspool-fetch --after=0 > backup", "cspool-recovery(7)")
        return
    is_spool = os.path.isdir(source)
    command = [pipeline.path("cspool-fetch"), "--after=0", source] if is_spool else ["cat", source]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as fetch:
        apply = pipeline.run(["cspool-apply", f"--db={path}", f"--key={key}"], stdin=fetch.stdout)
    if fetch.returncode or apply.returncode not in (os.EX_OK, os.EX_DATAERR):
        text = f"{source}: not all of it could be read"
        yield Finding(BAD, "spool", text, "make a new backup", "cspool-recovery(7)")
        return
    with schema.opened(path) as db:
        messages, records = sum(one.messages for one in view.mailboxes(db)), seen.progress(db).applied
        opens_nothing = records and len(aside.numbers_of(db, None)) == records
    if opens_nothing:
        text = f"{os.path.join(directory, 'key')}: opens nothing in {source}"
        yield Finding(BAD, "spool", text, "copy the key of this spool", "cspool-recovery(7)")
        return
    yield _compared(source, messages, records)


def _compared(source: str, messages: int, records: int) -> Finding:
    text = f"{source}: {messages:,} messages in {records:,} records can be read"
    if not os.path.exists(home.path("mail.db")):
        return Finding(WELL, "spool", text)
    with schema.opened(home.path("mail.db")) as db:
        behind = seen.progress(db).applied - records
    if behind > 0:
        return Finding(NOTE, "spool", f"{text}; {behind:,} have come since", "make it again", "cspool-recovery(7)")
    return Finding(WELL, "spool", text)


def _source(directory: str) -> str | None:
    """Return the spool in a directory, or else the newest regular file there that is no key; None for neither."""
    for entry in (directory, *(one.path for one in os.scandir(directory) if one.is_dir())):
        if os.path.exists(os.path.join(entry, "head")):
            return entry
    files = [one for one in os.scandir(directory) if one.is_file() and one.name not in ("key", "key.pub")]
    files.sort(key=lambda one: one.stat().st_mtime)
    return files[-1].path if files else None

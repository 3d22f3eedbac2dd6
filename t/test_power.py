"""At every step of an append the power fails, or the disk is full or broken: acknowledged records are there, once.

The functions of `os` that change files are wrapped, and record what they do. A
disk may have kept any part of what was not synced. So each crash is tried with
all of it, none of it, zeros in its place, and half of it.
"""

import errno
import io
import os
import shutil

import pytest
from cspool import frame
from cspool.spool.append import Spool, create

APPENDS = [[b"a" * 100], [b"b" * 3000, b"c" * 50], [b"d" * 700] * 4, [b"e"], [b"f" * 5000], [b"g" * 20]]
ROTATE = 2500


class Disk:
    """A directory, and the steps that have changed it, in order."""

    def __init__(self, directory, monkeypatch):
        self.directory = str(directory)
        self.steps = []  # (what, values)
        self.fail_at, self.error = None, 0
        self.open = {}  # by descriptor: the file, as a number that it keeps when it is renamed
        self.names = {}
        for name in ("open", "write", "fdatasync", "fsync", "rename", "unlink", "mkdir", "close"):
            monkeypatch.setattr(os, name, self.wrapped(name, getattr(os, name)))

    def wrapped(self, name, function):
        def call(*args, **keywords):
            if self.fail_at == len(self.steps) and name in ("open", "write", "fdatasync", "fsync", "rename"):
                failing, self.fail_at = name != "open" or args[1] & os.O_CREAT, None
                if failing:
                    raise OSError(self.error, os.strerror(self.error))
            result = function(*args, **keywords)
            getattr(self, f"after_{name}")(result, *args)
            return result

        return call

    def own(self, path):
        return os.path.basename(path) if os.path.dirname(os.path.abspath(path)) == self.directory else None

    def after_open(self, fd, path, flags, *_):
        name = self.own(path) if isinstance(path, str) else None
        if path == self.directory:
            self.open[fd] = "directory"
        elif name:
            if name not in self.names:
                self.names[name] = len(self.steps)
                self.steps.append(("create", name, self.names[name]))
            elif flags & os.O_TRUNC:
                self.steps.append(("truncate", self.names[name]))
            self.open[fd] = self.names[name]

    def after_close(self, _, fd):
        self.open.pop(fd, None)

    def after_write(self, count, fd, octets):
        if fd in self.open:
            self.steps.append(("write", self.open[fd], bytes(octets[:count])))

    def after_fdatasync(self, _, fd):
        if fd in self.open:
            self.steps.append(("sync", self.open[fd]))

    after_fsync = after_fdatasync

    def after_rename(self, _, old, new):
        self.names[self.own(new)] = self.names.pop(self.own(old))
        self.steps.append(("rename", self.own(old), self.own(new)))

    def after_unlink(self, _, path):
        del self.names[self.own(path)]
        self.steps.append(("unlink", self.own(path)))

    def after_mkdir(self, *_):
        pass


def after_crash(steps, kept):
    """Return the octets of the files, by name, if these steps are followed by a crash.

    `kept` says how much remains of the octets and names that were not synced.
    """
    octets, synced, names, pending = {}, {}, {}, []
    for what, *values in steps:
        if what == "create":
            octets[values[1]], synced[values[1]] = b"", b""
            pending.append((what, *values))
        elif what == "truncate":
            octets[values[0]] = b""
        elif what == "write":
            octets[values[0]] += values[1]
        elif what == "sync" and values[0] == "directory":
            names, pending = changed(names, pending), []
        elif what == "sync":
            synced[values[0]] = octets[values[0]]
        else:
            pending.append((what, *values))
    if kept == "all":
        return {name: octets[file] for name, file in changed(names, pending).items()}
    if kept == "nothing":
        return {name: synced[file] for name, file in names.items()}
    # All names are kept, and the unsynced octets become zeros, or half of them are cut off.
    part = {file: synced[file] + bytes(len(octets[file]) - len(synced[file])) for file in octets}
    if kept == "cut":
        part = {file: octets[file][: (len(synced[file]) + len(octets[file])) // 2] for file in octets}
    return {name: part[file] for name, file in changed(names, pending).items()}


def changed(names, changes):
    names = dict(names)
    for what, name, *value in changes:
        if what == "create":
            names[name] = value[0]
        elif what == "rename":
            names[value[0]] = names.pop(name)
        else:
            del names[name]
    return names


def records(path):
    reader = Spool(path).reader
    stream = b"".join(reader.frames(0)[1])
    found = list(frame.read(io.BytesIO(stream + frame.encode_end(reader.count))))
    chain = frame.first_chain(bytes.fromhex(Spool(path).files.id))
    for number, one in enumerate(found, 1):
        assert (one.number, one.chain) == (number, chain)
        chain = frame.next_chain(chain, number, one.record)
    return [one.record for one in found]


@pytest.fixture
def done(tmp_path, monkeypatch):
    """Return the steps of creating a spool and appending to it, and (steps so far, records acknowledged) pairs."""
    path = tmp_path / "spool"
    with monkeypatch.context() as patch:
        disk = Disk(path, patch)
        create(str(path))
        acknowledged = [(len(disk.steps), 0)]
        for some in APPENDS:
            Spool(str(path)).append(some, rotate=ROTATE)
            acknowledged.append((len(disk.steps), acknowledged[-1][1] + len(some)))
    assert len(list(path.glob("*.log"))) > 3
    return disk.steps, acknowledged


@pytest.mark.parametrize("kept", ["all", "nothing", "zeros", "cut"])
def test_the_power_fails(tmp_path, done, kept):
    steps, acknowledged = done
    everything = [record for some in APPENDS for record in some]
    made = acknowledged[0][0]
    visible = {}  # records that a reader sees after so many steps
    for end in range(made, len(steps) + 1):
        live = tmp_path / "live"
        live.mkdir()
        for name, octets in after_crash(steps[:end], "all").items():
            (live / name).write_bytes(octets)
        visible[end] = len(records(str(live)))
        shutil.rmtree(live)
        path = tmp_path / f"after-{end}"
        path.mkdir()
        for name, octets in after_crash(steps[:end], kept).items():
            (path / name).write_bytes(octets)
        (path / "lock").touch()
        least = max(count for step, count in acknowledged if step <= end)
        most = min((count for step, count in acknowledged if step >= end), default=len(everything))
        found = records(str(path))
        assert found in (everything[:least], everything[:most])
        # Another append succeeds, and goes on from all that a reader may have seen before the crash.
        Spool(str(path)).append([b"again"], rotate=ROTATE)
        *after, last = records(str(path))
        assert last == b"again"
        assert after in (everything[:least], everything[:most])
        assert len(after) >= max(len(found), visible[end])


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
def test_the_disk_is_full_or_broken(tmp_path, monkeypatch, error):
    """An append fails at each of its steps. The log is as before it or as after it, and the next append succeeds."""
    for number, fail_at in enumerate(range(60)):
        path = str(tmp_path / f"spool-{number}")
        with monkeypatch.context() as patch:
            disk = Disk(path, patch)
            create(path)
            expected = []
            disk.fail_at, disk.error = len(disk.steps) + fail_at, error
            for some in APPENDS:
                try:
                    Spool(path).append(some, rotate=ROTATE)
                except OSError as failure:
                    assert failure.errno == error
                    found = records(path)
                    assert found in (expected, expected + some)
                    Spool(path).append(some, rotate=ROTATE)  # as a mail server does
                    # The next append may find that the failed one was on disk.
                    assert records(path) in (found + some, expected + some + some)
                    expected = records(path)[: -len(some)]
                expected = expected + some
                assert records(path) == expected

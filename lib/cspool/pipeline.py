"""Running other tools from the directory of the one that runs: one alone, or two in a pipe."""

import io
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import Any, NamedTuple

from . import frame, record
from .errors import DataError, TryAgain
from .keys import SecretKey
from .spool.files import Head

DIRECTORY = os.path.dirname(os.path.realpath(sys.argv[0]))


def path(name: str) -> str:
    """Return the path of a tool."""
    return os.path.join(DIRECTORY, name)


def head(spool: str) -> Head:
    """Return the head of a spool, which cspool-fetch reads. Raises TryAgain."""
    command = [path("cspool-fetch"), f"--after={2**62}", spool]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise TryAgain(last_line(done.stderr, "cspool-fetch"))
    return Head.parse(next(frame.read(io.BytesIO(done.stdout), spool)).record, spool)


def run(command: list[str], **files: Any) -> "subprocess.CompletedProcess[bytes]":
    """Run a command, one of our tools or another, and wait for it. `files` are arguments of subprocess.run."""
    ours = path(command[0])
    return subprocess.run([ours if os.path.exists(ours) else command[0], *command[1:]], check=False, **files)


def opens_something(spool: str, own: list[SecretKey]) -> bool:
    """Return whether one of these keys opens a record of a spool, or the spool is empty. Raises TryAgain."""
    command = [path("cspool-fetch"), "--after=0", spool]
    fetch = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert fetch.stdout
    is_empty = True
    with fetch.stdout as stream:
        try:
            for one in frame.read(stream, spool):
                if frame.has_record(one):
                    is_empty = False
                    with suppress(DataError):
                        record.open_with(own, one.record)
                        return True
        except TryAgain:
            raise TryAgain(f"{spool}: cannot be read") from None
        finally:
            fetch.terminate()
            fetch.wait()
    return is_empty


def last_line(said: bytes, name: str) -> str:
    """Return the last line that a tool wrote to standard error, without the tool's name."""
    lines = said.decode("utf-8", "replace").splitlines()
    return lines[-1].removeprefix(f"{name}: ") if lines else f"{name} failed"


class Outcome(NamedTuple):
    """How a pipe has ended."""

    code: int
    lines: list[str]  # that report the failure, without those that have already been read
    lines_code: int  # the exit code of the tool that wrote them


class Pipe:
    """Two of our tools, a writer and a reader, in a pipe. As a context manager, it ends both.

    Their standard error is kept, so that of two failures only the cause is
    reported. `passphrase`, if there is one, unlocks the key for both.
    """

    def __init__(self, writer: list[str], reader: list[str], passphrase: bytes | None = None) -> None:
        self._passphrase = passphrase
        self._logs = [tempfile.TemporaryFile("w+", errors="replace") for _ in range(2)]
        self._read = [0, 0]  # offset up to which each log has been read
        # A writer that stays learns by the end of its input that we are gone.
        source = subprocess.PIPE if "--until-eof" in writer else subprocess.DEVNULL
        self._stages: list[subprocess.Popen[bytes]] = []
        try:
            first = self._start(writer, 0, stdin=source, stdout=subprocess.PIPE)
            assert first.stdout
            self._start(reader, 1, stdin=first.stdout)
            first.stdout.close()
        except BaseException:  # also a signal that ends us
            self.close()
            raise

    def _start(self, command: list[str], stage: int, **files: Any) -> "subprocess.Popen[bytes]":
        environment = dict(os.environ)
        passed: list[int] = []
        if self._passphrase is not None:
            # Each tool gets it through a pipe of its own, which no other process can read.
            out, into = os.pipe()
            os.write(into, self._passphrase + b"\n")
            os.close(into)
            # A shell redirects one digit only, and FreeBSD has no more than three files in /dev/fd.
            environment["CSPOOL_PASSPHRASE_COMMAND"] = f"cat <&{out}" if out < 10 else f"cat /dev/fd/{out}"
            passed = [out]
        words = [path(command[0]), *command[1:]]
        child = subprocess.Popen(words, env=environment, pass_fds=passed, stderr=self._logs[stage], **files)
        self._stages.append(child)
        for fd in passed:
            os.close(fd)
        return child

    def __enter__(self) -> "Pipe":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the tools that still run."""
        for stage in self._stages:
            if stage.poll() is None:
                stage.terminate()
            stage.wait()
            if stage.stdin:
                stage.stdin.close()
        for log in self._logs:
            log.close()

    def runs(self) -> bool:
        """Return whether one of the tools runs. When one has ended, the other notices and ends too."""
        return any(stage.poll() is None for stage in self._stages)

    def reader_lines(self) -> list[str]:
        """Return the reader's lines since the last call, except those about its input: the writer reports the cause."""
        return [line for line in self._lines(1) if not line.startswith("cspool-apply: standard input: ")]

    def _lines(self, stage: int) -> list[str]:
        log = self._logs[stage]
        log.seek(self._read[stage])
        text = log.read()
        self._read[stage] = log.tell()
        return text.splitlines()

    def outcome(self) -> Outcome:
        """Return how the pipe has ended, after both tools have; if both have failed, with the first failure."""
        codes = [os.EX_TEMPFAIL if stage.returncode < 0 else stage.returncode for stage in self._stages]
        lines = [self._lines(stage) for stage in range(2)]
        # A failure that a retry cannot mend is the cause of one that it can. Otherwise the writer's is the cause.
        causes = sorted(range(2), key=lambda stage: codes[stage] == os.EX_TEMPFAIL)
        failed = [stage for stage in causes if codes[stage]]
        for stage in failed:
            if lines[stage]:
                return Outcome(codes[failed[0]], lines[stage], codes[stage])
        return Outcome(codes[failed[0]] if failed else os.EX_OK, [], os.EX_OK)

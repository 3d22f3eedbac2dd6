"""Octets to and from a client, on two file descriptors: lines and literals in, answers out.

Both directions can be deflated (RFC 4978), within TLS.
"""

import os
import select
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .tls import Tls

LINE_MAX = 65536  # octets; RFC 7162 section 4 wants 8192, clients with long sets send more
BUFFER = 1 << 16  # octets
LOOK = 1.0  # seconds
PIPE = select.PIPE_BUF  # octets that a pipe takes without blocking once select says it is ready (POSIX)


class Closed(Exception):
    """The client is gone, was silent for too long, or sent what cannot be read. The text is for its BYE."""


class Connection:
    """A client on two file descriptors. Each read and each write may take `timeout` seconds.

    With a `deadline`, a time by the monotonic clock, no read and no write goes
    on beyond it. `check` is called whenever something is read or sent, and each
    LOOK seconds while we wait; it may raise Closed. Writes are collected until
    `flush`, or until they exceed BUFFER.
    """

    def __init__(self, read_fd: int, write_fd: int, timeout: float) -> None:
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.timeout = timeout
        self.deadline: float | None = None
        self.check: Callable[[], None] | None = None
        self._ending = False
        self._waiting = False
        self._tls: Tls | None = None
        self._input = b""
        self._output: list[bytes] = []
        self._size = 0
        self._inflater: zlib._Decompress | None = None
        self._deflater: zlib._Compress | None = None

    def begin_tls(self, tls: "Tls") -> None:
        """Do the handshake; all that follows is within TLS. Raises Closed."""
        try:
            while not tls.handshake(self._receive()):
                self._send(tls.to_send())
        except OSError:  # as in _within_tls
            self._send(tls.to_send())  # an alert
            raise Closed("No TLS") from None
        self._send(tls.to_send())
        self._tls = tls
        self._take(b"")

    def end(self, *_: object) -> None:
        """End the connection, as a signal handler: what waits for the client raises Closed, now or the next time."""
        self._ending = not self._waiting
        if self._waiting:
            self._waiting = False
            raise Closed("The server ends")

    def hurry(self) -> None:
        """Wait no longer than LOOK seconds for the client from here on: only last words follow."""
        self.timeout = min(self.timeout, LOOK)

    def close(self) -> None:
        """Say that nothing follows, if there is TLS to say it (RFC 8446 section 6.1)."""
        self.hurry()
        if self._tls:
            with suppress(Closed):
                self._send(self._tls.close())

    def sleep(self, seconds: float) -> None:
        """Sleep, but not when the connection is to end. Raises Closed."""
        with self._interruptible():
            time.sleep(seconds)

    @property
    def compressed(self) -> bool:
        """Return whether both directions are deflated."""
        return self._deflater is not None

    def compress(self) -> None:
        """Deflate both directions from here on. Input already read counts as deflated."""
        self.flush()
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        raw, self._input = self._input, b""
        self._inflate(raw)

    def read_line(self) -> bytes:
        """Return the next line without its line end, LF or CRLF.

        Raises Closed, also for a line longer than LINE_MAX: its end could
        announce a literal, which must not be read as commands.
        """
        if self.check:
            self.check()
        end = self._input.find(b"\n")
        while end < 0 and len(self._input) <= LINE_MAX:
            searched = len(self._input)
            self._fill()
            end = self._input.find(b"\n", searched)
        if not 0 <= end <= LINE_MAX:
            raise Closed("Line too long")
        line, self._input = self._input[:end], self._input[end + 1 :]
        return line.removesuffix(b"\r")

    def read(self, length: int) -> bytes:
        """Return exactly this many octets. Raises Closed."""
        if length <= len(self._input):
            octets, self._input = self._input[:length], self._input[length:]
            return octets
        # It grows in place: to add to one string again and again would be quadratic, and many pieces leave holes.
        found = bytearray()
        while len(found) < length:
            if not self._input:
                self._fill()
            missing = length - len(found)
            found += self._input[:missing]
            self._input = self._input[missing:]
        return bytes(found)

    def skip(self, length: int) -> None:
        """Read and discard this many octets. Raises Closed."""
        while length > 0:
            length -= len(self.read(min(length, BUFFER)))

    def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for input; return whether there is any. Its end counts as input."""
        return bool(self._input) or self._rest() or self._select([self.read_fd], [], timeout)

    def write(self, octets: bytes) -> None:
        """Send octets, at the next flush at the latest. Raises Closed."""
        self._output.append(octets)
        self._size += len(octets)
        if self._size > BUFFER:
            self.flush()

    def flush(self) -> None:
        """Send what has been written. Raises Closed if the client is gone, or reads nothing for `timeout` seconds."""
        if not self._output:
            return
        octets = b"".join(self._output)
        self._output, self._size = [], 0
        if self.check:
            self.check()  # what it does not let pass is not sent with the BYE either
        if self._deflater:
            octets = self._deflater.compress(octets) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        self._send(self._within_tls(self._tls.encode, octets) if self._tls else octets)

    def _send(self, octets: bytes) -> None:
        view = memoryview(octets)
        while view:
            if not self._select([], [self.write_fd], self.timeout):
                raise Closed("The client does not read the answers")
            try:
                view = view[os.write(self.write_fd, view[:PIPE]) :]
            except OSError:
                raise Closed("Connection lost") from None

    def _receive(self) -> bytes:
        """Return octets of the client as they are received. Raises Closed."""
        if not self._select([self.read_fd], [], self.timeout):
            raise Closed("Idle for too long")
        try:
            octets = os.read(self.read_fd, BUFFER)
        except OSError:
            octets = b""
        if not octets:
            raise Closed("End of input")
        return octets

    def _select(self, reads: list[int], writes: list[int], timeout: float) -> bool:
        """Wait until a descriptor is ready, up to `timeout` seconds; return whether one is. Raises Closed."""
        if writes and select.select([], writes, [], 0)[1]:
            return True  # what is being sent goes on to its end
        ends = time.monotonic() + timeout
        while True:
            if self.deadline is not None and time.monotonic() > self.deadline:
                raise Closed("Too long without a login")
            left = ends - time.monotonic()
            with self._interruptible():
                is_ready = any(select.select(reads, writes, [], max(0.0, min(left, LOOK))))
            if self.check:
                self.check()
            if is_ready or left <= LOOK:
                return is_ready

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let a signal end what the block waits for. Raises Closed."""
        self._waiting = True
        try:
            if self._ending:
                self.end()
            yield
        finally:
            self._waiting = False

    def _rest(self) -> bool:
        """Return whether octets that have been read are still to be inflated."""
        return bool(self._inflater and self._inflater.unconsumed_tail)

    def _take(self, octets: bytes) -> None:
        """Add received octets to the input. Raises Closed."""
        self._inflate(self._within_tls(self._tls.decode, octets) if self._tls else octets)

    @staticmethod
    def _within_tls(do: Callable[[bytes], bytes], octets: bytes) -> bytes:
        try:
            return do(octets)
        except OSError:  # ssl.SSLError is one; importing ssl takes time
            raise Closed("TLS is broken") from None

    def _inflate(self, octets: bytes) -> None:
        if self._inflater:
            try:
                octets = self._inflater.decompress(self._inflater.unconsumed_tail + octets, BUFFER)
            except zlib.error:
                raise Closed("Not deflated") from None
            if self._inflater.eof:  # what follows would only be collected
                raise Closed("The deflated stream has ended")
        self._input += octets

    def _fill(self) -> None:
        if self._rest():
            self._inflate(b"")
        else:
            self._take(self._receive())

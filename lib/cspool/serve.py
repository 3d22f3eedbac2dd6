"""Serving the connections of a socket that listens: each in a thread, or each in a process of its own."""

import gc
import os
import select
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from . import tool
from .errors import Failure
from .listen import Address, network, peer

SPARE = 2  # processes that wait for the next connections: a client is not kept waiting for a fork
QUIET = 0.001  # seconds in which nothing has to be done, before they are made
PATIENCE = 10.0  # seconds for what is in progress when the server is told to end
SIGNALS = (signal.SIGTERM, signal.SIGINT)  # which end it

# Serves a connection until it ends; the address is that of the peer.
Serve = Callable[[socket.socket, Address | None], object]


class Server:
    """Accepts connections, until SIGTERM or SIGINT. How they are served is for the classes that stand on it."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener

    def run(self) -> None:
        """Serve until a signal ends it; then finish what is in progress."""
        for signum in SIGNALS:
            signal.signal(signum, lambda *_: sys.exit())
        try:
            while True:
                self.step()
        except SystemExit:
            for signum in SIGNALS:
                signal.signal(signum, signal.SIG_DFL)
            self.listener.close()
            self.end(time.monotonic() + PATIENCE)

    def accept(self) -> socket.socket | None:
        """Wait for a connection and return it, or None if there is none after all."""
        try:
            connection, _ = self.listener.accept()
            connection.setblocking(True)
            return connection
        except BlockingIOError:
            return None
        except OSError as error:  # the peer has already left, or no descriptor is free
            tool.complain(tool.os_error(error))
            time.sleep(0.1)
            return None

    def step(self) -> None:
        """Wait for a connection and begin to serve it."""
        raise NotImplementedError

    def end(self, deadline: float) -> None:
        """Finish what is in progress, until `deadline` by the monotonic clock at the latest."""
        raise NotImplementedError


class Places:
    """Places for connections that are served at a time. A connection that only waits may give up its place."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = threading.Semaphore(count)
        self._wanted = threading.Event()

    def take(self) -> None:
        """Take a place; wait for one if all are taken."""
        if not self._free.acquire(blocking=False):
            self._wanted.set()
            self._free.acquire()
            self._wanted.clear()

    def release(self) -> None:
        """Give back a place."""
        self._free.release()

    def is_wanted(self) -> bool:
        """Return True to the first that asks while a connection waits for a place."""
        if not self._wanted.is_set():
            return False
        self._wanted.clear()
        return True


class Threads(Server):
    """Serves each connection in a thread, as many at a time as there are `places`; others wait.

    At its end it sets `stopping`, and waits for the requests that have arrived.
    """

    def __init__(self, serve: Serve, listener: socket.socket, places: Places, stopping: threading.Event) -> None:
        super().__init__(listener)
        self.serve = serve
        self.places = places
        self.stopping = stopping
        self.threads: set[threading.Thread] = set()

    def step(self) -> None:
        connection = self.accept()
        if not connection:
            return
        self.places.take()
        thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
        try:
            self.threads.add(thread)
            thread.start()
        except RuntimeError:  # no more threads
            self.threads.discard(thread)
            connection.close()
            self.places.release()

    def _serve(self, connection: socket.socket) -> None:
        try:
            self.serve(connection, peer(connection))
        except OSError:
            pass  # the peer has left
        except Exception as error:
            tool.complain(tool.bug(error))
        finally:
            connection.close()
            self.threads.discard(threading.current_thread())
            self.places.release()

    def end(self, deadline: float) -> None:
        self.stopping.set()
        for thread in [one for one in self.threads.copy() if one.ident]:
            thread.join(max(0.0, deadline - time.monotonic()))


ADMITTED, FAILED = b"+", b"!"  # how the lines of a child begin


@dataclass
class _Child:
    pid: int
    network: str
    admitted: bool = False


@dataclass
class _Spare:
    pid: int
    channel: socket.socket  # on which it gets its connection


class Processes(Server):
    """Serves each connection in a process of its own, forked with all that has been loaded.

    `serve` gets the connection, the address of its peer, and a function to call
    when the client has logged in, with a line (of less than PIPE_BUF octets)
    that `learn` then gets here, so that all processes that begin later have it.
    `most` connections are served at a time. When there are so many, one that
    has not logged in gives way to a new one: the oldest of the network that has
    most of these. If all have logged in, others wait.
    """

    def __init__(
        self,
        serve: Callable[[socket.socket, Address | None, Callable[[bytes], None]], int | None],
        listener: socket.socket,
        most: int,
        learn: Callable[[bytes], None],
    ) -> None:
        super().__init__(listener)
        self.serve = serve
        self.most = most
        self.learn = learn
        self.children: dict[int, _Child] = {}  # the oldest first, by a pipe on which it speaks, and which ends with it
        self.spares: dict[int, _Spare] = {}  # by pipe, too
        self.lacks_spares = True
        self.reported = b""  # the last line of a child that failed

    def run(self) -> None:
        self.listener.setblocking(False)
        gc.freeze()  # else each child would write to all objects to count them, and so have a copy
        super().run()

    def step(self) -> None:
        """Wait for something, and see to it: logins and ends first, then a connection, and spare processes last."""
        fds = [*self.children, *self.spares, *([self.listener.fileno()] if self._has_room() else [])]
        ready = self._ready(fds, QUIET if self.lacks_spares else None)
        for pipe in self.children.keys() & ready:
            self._hear(pipe)
        for pipe in self.spares.keys() & ready:
            self._dismiss(pipe)  # it has ended
        if self.listener.fileno() in ready and self._has_room():
            self._begin()
        elif not ready:
            self._prepare()

    def _has_room(self) -> bool:
        return len(self.children) < self.most or any(not child.admitted for child in self.children.values())

    @staticmethod
    def _ready(fds: list[int], seconds: float | None = None) -> set[int]:
        """Wait until some of these descriptors can be read, for ever or for some seconds; return them."""
        poll = select.poll()
        for fd in fds:
            poll.register(fd, select.POLLIN)
        return {fd for fd, _ in poll.poll(None if seconds is None else seconds * 1000)}

    def _end_one(self) -> None:
        """End the connection that is the first to give way."""
        waiting = [(pipe, child) for pipe, child in self.children.items() if not child.admitted]
        counts = Counter(child.network for _, child in waiting)
        pipe, child = max(waiting, key=lambda one: counts[one[1].network])
        os.kill(child.pid, signal.SIGKILL)
        self._forget(pipe)

    def _hear(self, pipe: int) -> None:
        said = os.read(pipe, 2 * select.PIPE_BUF)
        if not said:
            self._forget(pipe)
        for line in said.splitlines():
            if line[:1] == ADMITTED:
                self.children[pipe].admitted = True
                if line[1:]:
                    self.learn(line[1:])
                    for spare in [*self.spares]:  # which does not know it
                        self._dismiss(spare)
            elif line != self.reported:  # a stranger could have it printed for each connection
                tool.say(line[1:].decode(errors="replace"))
                self.reported = line

    def _forget(self, pipe: int) -> None:
        self._reap(pipe, self.children.pop(pipe).pid)

    @staticmethod
    def _reap(pipe: int, pid: int) -> None:
        os.close(pipe)
        os.waitpid(pid, 0)

    def _begin(self) -> None:
        connection = self.accept()
        if not connection:
            return
        if len(self.children) >= self.most:
            self._end_one()
        with connection:
            try:
                address = peer(connection)
            except OSError:  # the peer has left
                return
            with self._signals_wait():
                pipe, pid = self._give(connection) or self._fork(lambda: connection)
                self.children[pipe] = _Child(pid, network(address))

    def _give(self, connection: socket.socket) -> tuple[int, int] | None:
        """Give a connection to a spare process; return its pipe and its number, or None if there is none."""
        self.lacks_spares = True
        while self.spares:
            pipe, spare = self.spares.popitem()
            with spare.channel, suppress(OSError):
                socket.send_fds(spare.channel, [b"+"], [connection.fileno()])
                return pipe, spare.pid
            self._reap(pipe, spare.pid)  # it has ended
        return None

    def _prepare(self) -> None:
        """Fork a process that waits for a connection."""
        ours, theirs = socket.socketpair()

        def wait() -> socket.socket | None:
            ours.close()
            with theirs:
                _, fds, _, _ = socket.recv_fds(theirs, 1, 1)
            return socket.socket(fileno=fds[0]) if fds else None  # the server has ended, or needs us no more

        self.lacks_spares = False  # if there can be none now, the next connection tries it again
        with theirs, self._signals_wait():
            pipe, pid = self._fork(wait)
            self.spares[pipe] = _Spare(pid, ours)
            self.lacks_spares = len(self.spares) < SPARE

    def _dismiss(self, pipe: int) -> None:
        """End a spare process."""
        self.lacks_spares = True
        spare = self.spares.pop(pipe)
        spare.channel.close()
        self._reap(pipe, spare.pid)

    @contextmanager
    def _signals_wait(self) -> Iterator[None]:
        """Hold signals back until a child is known, and does not act as we do; report why there is none."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            yield
        except OSError as error:  # there are too many processes, or open files
            tool.complain(tool.os_error(error))
            time.sleep(0.1)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _fork(self, take: Callable[[], socket.socket | None]) -> tuple[int, int]:
        """Fork a process that serves the connection that `take` returns there; return its pipe and its number."""
        reader, writer = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(reader)
            os.close(writer)
            raise
        if pid:
            os.close(writer)
            return reader, pid

        def say(line: bytes) -> None:
            with suppress(OSError):  # the server has ended
                os.write(writer, line + b"\n")

        def work() -> int | None:
            try:
                connection = take()
                if not connection:
                    return None
                address = peer(connection)
            except OSError:  # the peer has left
                return None
            try:
                return self.serve(connection, address, lambda line: say(ADMITTED + line))
            except Failure as failure:
                line = tool.printable(f"{tool.name()}: {failure}").encode(errors="replace")
                say(FAILED + line[: select.PIPE_BUF - 2])
                return failure.code

        for fd in (reader, *self.children, *self.spares, self.listener.fileno()):
            os.close(fd)
        for spare in self.spares.values():
            spare.channel.close()
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return tool.end(work)

    def end(self, deadline: float) -> None:
        for pipe in [*self.spares]:
            self._dismiss(pipe)
        for child in self.children.values():
            os.kill(child.pid, signal.SIGTERM)
        while self.children and (left := deadline - time.monotonic()) > 0:
            for pipe in self._ready([*self.children], left):
                self._hear(pipe)
        for child in self.children.values():
            os.kill(child.pid, signal.SIGKILL)

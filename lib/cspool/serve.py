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
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from . import tool
from .errors import Failure
from .listen import Address, network, peer

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
        self.reported = b""  # the last line of a child that failed

    def run(self) -> None:
        self.listener.setblocking(False)
        gc.freeze()  # else each child would write to all objects to count them, and so have a copy
        super().run()

    def step(self) -> None:
        """Wait for something, and see to it: logins and ends first, then a connection."""
        ready = self._ready([*self.children, *([self.listener.fileno()] if self._has_room() else [])])
        for pipe in self.children.keys() & ready:
            self._hear(pipe)
        if self.listener.fileno() in ready and self._has_room():
            self._begin()

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
            elif line != self.reported:  # a stranger could have it printed for each connection
                tool.say(line[1:].decode(errors="replace"))
                self.reported = line

    def _forget(self, pipe: int) -> None:
        child = self.children.pop(pipe)
        os.close(pipe)
        os.waitpid(child.pid, 0)

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
            signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the child is known, and does not act as we do
            try:
                self._fork(connection, address)
            except OSError as error:  # there are too many processes, or open files
                tool.complain(tool.os_error(error))
                time.sleep(0.1)
            finally:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def _fork(self, connection: socket.socket, address: Address | None) -> None:
        reader, writer = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(reader)
            os.close(writer)
            raise
        if pid:
            os.close(writer)
            self.children[reader] = _Child(pid, network(address))
            return

        def say(line: bytes) -> None:
            with suppress(OSError):  # the server has ended
                os.write(writer, line + b"\n")

        def work() -> int | None:
            try:
                return self.serve(connection, address, lambda line: say(ADMITTED + line))
            except Failure as failure:
                line = tool.printable(f"{tool.name()}: {failure}").encode(errors="replace")
                say(FAILED + line[: select.PIPE_BUF - 2])
                return failure.code

        for fd in (reader, *self.children, self.listener.fileno()):
            os.close(fd)
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        tool.end(work)

    def end(self, deadline: float) -> None:
        for child in self.children.values():
            os.kill(child.pid, signal.SIGTERM)
        while self.children and (left := deadline - time.monotonic()) > 0:
            for pipe in self._ready([*self.children], left):
                self._hear(pipe)
        for child in self.children.values():
            os.kill(child.pid, signal.SIGKILL)

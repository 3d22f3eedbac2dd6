"""Serving the connections of a socket that listens: each in a thread, or each in a process of its own."""

import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

from . import tool
from .listen import Address, peer

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
            return self.listener.accept()[0]
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

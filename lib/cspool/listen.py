"""Accepting connections for a server: one on standard input from inetd, or many on a socket from systemd or its own."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

from . import tool
from .errors import TryAgain, UsageError, reason

PATIENCE = 10.0  # seconds for the requests in progress when the server is told to end

Serve = Callable[[socket.socket, str], object]  # serves a connection until it ends; the text is the address of its peer


def inetd_connection() -> socket.socket | None:
    """Return the connection on standard input, as inetd(8) or systemd with Accept=yes passes it, or None."""
    try:
        connection = socket.socket(fileno=os.dup(0))
        connection.getpeername()
        return connection
    except OSError:
        return None


def systemd_listener() -> socket.socket | None:
    """Return the socket that systemd listens on for us (sd_listen_fds(3)), or None."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        return None
    listener = socket.socket(fileno=3)
    listener.setblocking(True)
    return listener


def listen(address: str) -> socket.socket:
    """Return a socket that listens on host:port or [host]:port. Raises UsageError for a bad address, and TryAgain."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family, *_, name = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(name[0]), int(name[1])), family=family, backlog=128)
    except (ValueError, OverflowError, socket.gaierror):
        raise UsageError(f"--listen={address}: no such address") from None
    except OSError as error:
        raise TryAgain(f"--listen={address}: {reason(error)}") from None


def peer(connection: socket.socket) -> str:
    """Return the address at the other end, or "-" for a Unix socket, which has none."""
    name = connection.getpeername()
    return str(name[0]) if isinstance(name, tuple) else "-"


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


class Server:
    """Serves each connection in a thread, as many at a time as there are `places`; others wait.

    SIGTERM and SIGINT end it: it accepts no more connections, sets `stopping`,
    and waits up to PATIENCE seconds for the requests in progress.
    """

    def __init__(self, serve: Serve, listener: socket.socket, places: Places, stopping: threading.Event) -> None:
        self.serve = serve
        self.listener = listener
        self.places = places
        self.stopping = stopping
        self.threads: set[threading.Thread] = set()

    def run(self) -> None:
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, lambda *_: sys.exit())
        try:
            while True:
                self._accept()
        except SystemExit:
            self._end()

    def _accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError as error:  # the peer has already left, or no descriptor is free
            tool.complain(tool.os_error(error))
            time.sleep(0.1)
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

    def _end(self) -> None:
        """Close the listener, and wait for the threads, which answer the requests that have arrived."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, signal.SIG_DFL)
        self.listener.close()
        self.stopping.set()
        end = time.monotonic() + PATIENCE
        for thread in [one for one in self.threads.copy() if one.ident]:
            thread.join(max(0.0, end - time.monotonic()))

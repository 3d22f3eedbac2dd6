"""One HTTP connection to the spools of a directory: what cspool-httpd(8) says to it (RFC 9110, RFC 9112).

GET and HEAD give the files of a spool, POST appends a stream to it. Each
request carries a token as the password of Basic authentication (RFC 7617),
which is what clients send of ~/.netrc.
"""

import base64
import binascii
import hashlib
import io
import os
import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import IO, Any, NamedTuple

from .. import __version__, disk, tool
from ..errors import Failure, OverQuota, reason
from .append import Spool
from .batch import Records
from .tokens import Tokens

NAME = re.compile(r"/([A-Za-z0-9_@+][A-Za-z0-9._@+-]*)/(?:(head|format|segments\.\d{1,19}|\d{20}\.\d{1,9}\.log))?")
QUIET = 60.0  # seconds: without a whole request, or without taking a piece of an answer
LINGER = 5.0  # seconds for a client to read the last answer
SLOW = 10_000  # octets a second: a request slower than that is cut off
WAIT_MAX = 60.0  # seconds that a request may wait for news
LOOK = 0.2  # seconds between two looks for news
PIECE = 1 << 18  # octets of an answer sent at a time


class Service(NamedTuple):
    """What all connections have in common."""

    root: str
    tokens: Tokens
    stream_max: int  # octets of a request's body
    spool_max: int | None  # octets of a log
    log: IO[str] | None
    stopping: threading.Event


class Refusal(Exception):
    """An answer that is no success: its status and one line of text."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


class HttpConnection(BaseHTTPRequestHandler):
    """Serves one connection until it ends; `client_address` is for the log."""

    protocol_version = "HTTP/1.1"
    server_version = f"cspool/{__version__}"
    sys_version = ""
    error_message_format = "%(message)s\n"
    error_content_type = "text/plain"
    wbufsize = PIECE

    def __init__(self, service: Service, connection: socket.socket, peer: str) -> None:
        self.service = service
        self.idle = True
        super().__init__(connection, (peer, 0), service)  # type: ignore[arg-type]

    def setup(self) -> None:
        super().setup()
        self.deadline = 0.0
        self.rfile = io.BufferedReader(_Timed(self))

    # A request

    def handle_one_request(self) -> None:
        self.idle, self.deadline = True, time.monotonic() + QUIET
        self.status, self.sent, self.requestline = 0, 0, ""
        self.body: _Body | None = None
        try:
            super().handle_one_request()
        except OSError:  # whoever was there is gone, or too slow
            self.close_connection = True
        if self.status and self.service.log:
            line = "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in self.requestline)
            stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z")
            text = f'{self.client_address[0]} - - [{stamp}] "{line}" {self.status} {self.sent}\n'
            self.service.log.write(text)
            self.service.log.flush()
        self.close_connection |= self.service.stopping.is_set()

    def log_message(self, *_: Any) -> None:
        """Nothing: a line is written when a request has been answered, with its size."""

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        if code != 100:
            self.status = int(code)

    def flush_headers(self) -> None:
        self.connection.settimeout(QUIET)  # for what is sent from here on
        super().flush_headers()

    def handle_expect_100(self) -> bool:
        return True  # not before it is clear that the body is wanted: see _append

    def do_GET(self) -> None:
        with self._refusals():
            self._give(*self._allowed("fetch"))

    do_HEAD = do_GET

    def do_POST(self) -> None:
        with self._refusals():
            self._append(*self._allowed("append"))

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        self.idle = False
        try:
            yield
        except Refusal as refusal:
            self._answer(refusal.status, f"{refusal}\n".encode(), refusal.headers)

    def _allowed(self, right: str) -> tuple[str, str]:
        """Return the directory of a spool and the name of a file in it ("" for none)."""
        path = NAME.fullmatch(self.path if self.path.endswith("/") or right == "fetch" else self.path + "/")
        kind, _, coded = self.headers.get("Authorization", "").partition(" ")
        try:
            token = base64.b64decode(coded, validate=True).partition(b":")[2] if kind.lower() == "basic" else b""
        except (binascii.Error, ValueError):
            token = b""
        try:
            rights = self.service.tokens.rights(path[1] if path else "", token)
        except OSError:
            raise Refusal(503, "the tokens cannot be read") from None
        if not rights:
            # The same for a spool that there is not.
            raise Refusal(401, "no token for this spool", WWW_Authenticate='Basic realm="spool"')
        if right not in rights:
            raise Refusal(403, f"this token does not allow to {right}")
        assert path
        if bool(path[2]) != (right == "fetch"):
            raise Refusal(404, "no such file")
        return os.path.join(self.service.root, path[1]), path[2] or ""

    # Answers

    def _answer(self, status: int, text: bytes, headers: dict[str, str]) -> None:
        """Send an answer of one line; what is still to come of the request is not read."""
        if self._is_body_left():
            self.close_connection = True
        self._begin(status, len(text), {"Content-Type": "text/plain", **headers})
        self._send(text)

    def _begin(self, status: int, length: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(length))
        if self.close_connection or self.service.stopping.is_set():
            self.send_header("Connection", "close")
        self.end_headers()

    def _send(self, octets: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(octets)
            self.sent += len(octets)

    # GET

    def _give(self, directory: str, name: str) -> None:
        """Give a file, a range of it, or 304; for `head`, when there is news if the client would rather wait."""
        end = time.monotonic() + self._wait() if name == "head" else 0.0
        while True:
            with _open_file(directory, name) as file:
                status = os.fstat(file.fileno())
                if name.endswith(".log"):  # which only grows
                    tag = f'"{status.st_ino:x}-{status.st_size:x}"'
                else:  # may be replaced more often than a clock ticks
                    tag = f'"{hashlib.blake2b(file.read(), digest_size=16).hexdigest()}"'
                if tag not in self.headers.get("If-None-Match", ""):
                    self._give_open_file(file, status.st_size, tag)
                    return
            if time.monotonic() >= end or self._is_alone():
                waited = {"Preference-Applied": "wait"} if end else {}
                self.send_response(304)
                for header, value in {"ETag": tag, **waited}.items():
                    self.send_header(header, value)
                self.end_headers()
                return

    def _give_open_file(self, file: IO[bytes], size: int, tag: str) -> None:
        start, end, headers = 0, size, {"ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": "no-cache"}
        given = self.headers.get("Range", "")
        if given and self.headers.get("If-Range", tag) == tag:
            span = re.fullmatch(r"bytes=(\d{1,19})-(\d{1,19})?|bytes=-(\d{1,19})", given.strip())
            if span:  # all else, like several ranges, may be passed over (RFC 9110 section 14.2)
                start = int(span[1]) if span[1] else max(0, size - int(span[3]))
                end = min(size, int(span[2]) + 1) if span[2] else size
                if start >= end:
                    raise Refusal(416, "no such range", Content_Range=f"bytes */{size}")
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        kind = {"Content-Type": "application/octet-stream"}
        self._begin(206 if "Content-Range" in headers else 200, end - start, {**kind, **headers})
        file.seek(start)
        while start < end and self.command != "HEAD":
            piece = file.read(min(PIECE, end - start))
            if not piece:  # cut off, which no log ever is
                self.close_connection = True
                return
            self._send(piece)
            start += len(piece)

    def _wait(self) -> float:
        """Return the seconds that the client would rather wait than hear of no news (RFC 7240 section 4.3)."""
        found = re.search(r"(?:^|[,;\s])wait=(\d{1,9})", self.headers.get("Prefer", ""))
        return min(float(found[1]), WAIT_MAX) if found else 0.0

    def _is_alone(self) -> bool:
        """Wait for the time between two looks; tell whether the client is gone, or we are to go."""
        readable = select.select([self.connection], [], [], LOOK)[0]
        # A request that does not wait for this answer ends it, as a connection that is closed does.
        return bool(readable) or self.service.stopping.is_set()

    # POST

    def _append(self, directory: str, _: str) -> None:
        length = re.fullmatch(r"\d{1,18}", self.headers.get("Content-Length", ""))
        if not length or "Transfer-Encoding" in self.headers:
            raise Refusal(411, "a Content-Length is needed")
        if int(length[0]) > self.service.stream_max:
            raise Refusal(413, f"{length[0]} octets, more than the limit of {self.service.stream_max}")
        if os.path.islink(directory):  # as for GET
            raise Refusal(403, "a link to a spool")
        with self._trouble():
            spool = Spool(directory)
            records, digest = self._records(int(length[0]))
            spool.append(records, records.size, self.service.spool_max)
        # What no other server would say, whatever it answers to a POST.
        self._answer(200, f"cspool-appended {records.count} {digest}\n".encode(), {})

    def _records(self, length: int) -> tuple[Records, str]:
        """Return the records in a body of this length, and its digest."""
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
            self.wfile.flush()
        self.deadline = time.monotonic() + QUIET + length / SLOW
        self.body = body = _Body(self.rfile, length)
        try:
            return Records(body, "the request"), body.digest.hexdigest()
        except Failure as error:
            raise Refusal(400, str(error)) from None

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        """Say what is wrong here, but not where the spools are."""
        try:
            yield
        except (TimeoutError, ConnectionError):
            raise  # there is nobody to tell
        except (Failure, OSError) as error:
            failure = tool.os_error(error) if isinstance(error, OSError) else error
            text = str(failure).replace(self.service.root.rstrip("/") + "/", "")
            raise Refusal(507 if isinstance(failure, OverQuota) else 503, text) from None

    def _is_body_left(self) -> bool:
        if self.command != "POST":
            return bool(self.headers and ("Content-Length" in self.headers or "Transfer-Encoding" in self.headers))
        return self.body is None or self.body.left > 0

    def finish(self) -> None:
        """Close without losing the last answer, which a client may not have read before it has sent all."""
        with suppress(OSError):
            super().finish()
            self.connection.shutdown(socket.SHUT_WR)
            self.deadline = time.monotonic() + LINGER
            while self.rfile.raw.readinto(bytearray(PIECE)):  # type: ignore[attr-defined]
                pass


class _Timed(io.RawIOBase):
    """What a connection receives, for as long as its deadline allows. Raises TimeoutError."""

    def __init__(self, handler: HttpConnection) -> None:
        self.handler = handler

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        handler = self.handler
        while (left := handler.deadline - time.monotonic()) > 0:
            handler.connection.settimeout(min(left, LOOK))
            try:
                return int(handler.connection.recv_into(buffer))
            except TimeoutError:
                if handler.idle and handler.service.stopping.is_set():
                    return 0
        raise TimeoutError


class _Body:
    """The body of a request, and its BLAKE2b-256 as far as it has been read."""

    def __init__(self, stream: io.BufferedIOBase, length: int) -> None:
        self.stream = stream
        self.left = length
        self.digest = hashlib.blake2b(digest_size=32)

    def read(self, length: int) -> bytes:
        octets = self.stream.read(min(length, self.left))
        self.left -= len(octets)
        self.digest.update(octets)
        return octets


def _open_file(directory: str, name: str) -> IO[bytes]:
    """Open a file of a spool; no link leads out of it. Raises Refusal."""
    try:
        spool = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            return disk.open_plain(name, spool)
        finally:
            os.close(spool)
    except FileNotFoundError:
        raise Refusal(404, "no such file") from None
    except OSError as error:
        raise Refusal(403, f"{name}: {reason(error)}") from None

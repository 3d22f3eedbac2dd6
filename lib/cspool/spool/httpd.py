"""An HTTP connection to the spools in a directory, as cspool-httpd(8) serves it (RFC 9110, RFC 9112).

GET and HEAD return the files of a spool; POST appends a stream to it. Each
request has a token as the password of Basic authentication (RFC 7617), which
clients read from ~/.netrc.
"""

import base64
import binascii
import hashlib
import io
import math
import os
import re
import select
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import IO, Any, NamedTuple

from .. import __version__, disk, tool
from ..errors import Failure, OverQuota, reason
from ..listen import Address
from ..serve import Places
from .append import Spool
from .batch import Digesting, Records, Room, acknowledgement
from .tokens import Tokens

NAME = re.compile(r"/([A-Za-z0-9_@+][A-Za-z0-9._@+-]*)/(?:(head|format|segments\.\d{1,19}|\d{20}\.\d{1,9}\.log))?")
# RFC 9112 sections 3 and 5, to the letter: nothing before a colon, no folded lines, no CR but before LF.
REQUEST = re.compile(rb"[A-Z]{1,20} [!-~]+ HTTP/1\.[0-9]\r?\n")
FIELD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r?\n")
QUIET = 60.0  # seconds in which a client must send a whole header, or read a piece of an answer
FIRST = 2.0  # seconds in which a connection must send something to keep a place that is wanted
LINGER = 5.0  # seconds for a client to read the last answer
SLOW = 10_000  # octets a second that a body must have; it may fall QUIET seconds behind
WAIT_MAX = 60.0  # seconds that a request may wait for a change of `head`
LOOK = 0.2  # seconds between two looks at `head`, or at `Service.stopping`
PIECE = 1 << 18  # octets of an answer sent at a time
IN_MEMORY = 1 << 20  # octets of a request; the rest waits in a temporary file
PARSING = threading.Lock()  # a record may have 64 MiB: one at a time


class Service(NamedTuple):
    """What all connections share."""

    root: str  # the directory of the spools
    tokens: Tokens
    stream_max: int  # octets in the body of a request
    spool_max: int | None  # octets in a log; None for no limit
    log: IO[str] | None
    stopping: threading.Event  # set when the server ends
    places: Places

    def token_max(self) -> int:
        """Return how many requests with one token are served at a time, so that it cannot take all places."""
        return max(4, self.places.count // 4)


class Refusal(Exception):
    """An answer other than success: its status, one line of text, and headers (with _ for -)."""

    def __init__(self, status: int, text: str, **headers: str) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


class HttpConnection(BaseHTTPRequestHandler):
    """Serves one connection until it ends. `peer` is the address of the client, for the log."""

    protocol_version = "HTTP/1.1"
    server_version = f"cspool/{__version__}"
    sys_version = ""
    error_message_format = "%(message)s\n"
    error_content_type = "text/plain"
    wbufsize = PIECE
    raw_requestline: bytes

    def __init__(self, service: Service, connection: socket.socket, peer: Address | None) -> None:
        self.service = service
        self.idle = True  # no whole request has arrived
        self.spare_from = time.monotonic() + FIRST  # from then on it is spare, until octets arrive
        self.gave_way = False
        super().__init__(connection, (str(peer or "-"), 0), service)  # type: ignore[arg-type]

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
        except OSError:  # the client is gone, or too slow
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)  # so that nothing waits for it again
        if self.status and self.service.log:
            line = "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in self.requestline)
            stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z")
            text = f'{self.client_address[0]} - - [{stamp}] "{line}" {self.status} {self.sent}\n'
            self.service.log.write(text)
            self.service.log.flush()
        self.close_connection |= self.service.stopping.is_set()
        self.spare_from = 0.0

    def parse_request(self) -> bool:
        """Parse a request strictly: a proxy before us must not see another request in the same octets."""
        if self.raw_requestline in (b"\r\n", b"\n"):  # RFC 9112 section 2.2
            self.raw_requestline = self.rfile.readline(65537)
        stream, lines = self.rfile, _HeaderLines(self.rfile)
        self.rfile = lines  # type: ignore[assignment]
        try:
            if not self.raw_requestline.endswith(b"\n") or not super().parse_request():
                return False
        finally:
            self.rfile = stream
        if not lines.is_whole:  # cut off
            self.close_connection = True
            return False
        reason = self._malformed(lines.are_good)
        if reason:
            self.close_connection = True
            self.send_error(400, f"Bad request: {reason}")
        else:
            self.path = re.sub(r"(?i)\Ahttps?://[^/]*", "", self.path)  # RFC 9112 section 3.2.2
        return not reason

    def _malformed(self, are_lines_good: bool) -> str | None:
        """Return what is wrong with the header of a request."""
        hosts = self.headers.get_all("Host", [])
        lengths = [length.strip() for length in self.headers.get_all("Content-Length", [])]
        is_chunked = "Transfer-Encoding" in self.headers
        if not are_lines_good or not REQUEST.fullmatch(self.raw_requestline):
            return "a malformed header"
        if len(hosts) > 1 or (self.request_version != "HTTP/1.0" and not hosts):
            return "not one Host"
        if len(lengths) > 1 or (lengths and (is_chunked or not re.fullmatch(r"[0-9]+", lengths[0]))):
            return "a wrong Content-Length"
        if self.command != "POST" and (is_chunked or (any(lengths) and lengths[0].strip("0"))):
            return f"a body with {self.command}"
        return None

    def log_message(self, *_: Any) -> None:
        """Log nothing: handle_one_request writes a line after the answer, whose size it then knows."""

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        if code != 100:
            self.status = int(code)

    def flush_headers(self) -> None:
        self.connection.settimeout(QUIET)  # for all that is sent after this
        super().flush_headers()

    def handle_expect_100(self) -> bool:
        return True  # not yet: _records asks for the body once it is wanted

    def do_GET(self) -> None:
        with self._refusals(), self._share(*self._allowed("fetch")) as (directory, name):
            self._send_file(directory, name)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        with self._refusals(), self._share(*self._allowed("append")) as (directory, _):
            self._append(directory)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        self.idle = False
        try:
            yield
        except Refusal as refusal:
            self._answer(refusal.status, f"{refusal}\n".encode(), refusal.headers)

    def _allowed(self, right: str) -> tuple[str, str, bytes]:
        """Return the name of the spool, that of the file in it ("" for none), and the token. Raises Refusal."""
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
            # The same answer if there is no such spool.
            raise Refusal(401, "no token for this spool", WWW_Authenticate='Basic realm="spool"')
        if right not in rights:
            raise Refusal(403, f"this token does not allow to {right}")
        assert path
        if bool(path[2]) != (right == "fetch"):
            raise Refusal(404, "no such file")
        return path[1], path[2] or "", token

    @contextmanager
    def _share(self, spool: str, name: str, token: bytes) -> Iterator[tuple[str, str]]:
        """Yield the directory of the spool and `name`, within the share of a token that is known. Raises Refusal."""
        free = self.service.tokens.in_use.setdefault((spool, token), threading.Semaphore(self.service.token_max()))
        # A request that waits gives way when its place is wanted, and so counts for nothing.
        counts = not (name == "head" and self._wait())
        if counts and not free.acquire(blocking=False):
            raise Refusal(503, "too many requests with this token at a time", Retry_After="10")
        try:
            yield os.path.join(self.service.root, spool), name
        finally:
            if counts:
                free.release()

    # Answers

    def _answer(self, status: int, text: bytes, headers: dict[str, str]) -> None:
        """Send an answer of one line. If the body has not been read, the connection then closes."""
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

    def _send_file(self, directory: str, name: str) -> None:
        """Send a file, a range of it, or 304. For `head`, wait until it has changed if the client prefers that."""
        end = time.monotonic() + self._wait() if name == "head" else 0.0
        while True:
            with _open_file(directory, name) as file:
                status = os.fstat(file.fileno())
                if name.endswith(".log"):  # which only grows
                    tag = f'"{status.st_ino:x}-{status.st_size:x}"'
                else:  # may be replaced twice within a tick of the clock
                    tag = f'"{hashlib.blake2b(file.read(), digest_size=16).hexdigest()}"'
                if tag not in (known := self.headers.get("If-None-Match", "").strip()) and known != "*":
                    self._send_open_file(file, status.st_size, tag)
                    return
            if time.monotonic() >= end or self._wait_is_over():
                waited = {"Preference-Applied": "wait"} if end else {}
                waited |= {"Connection": "close"} if self.close_connection else {}
                self.send_response(304)
                for header, value in {"ETag": tag, **waited}.items():
                    self.send_header(header, value)
                self.end_headers()
                return

    def _send_open_file(self, file: IO[bytes], size: int, tag: str) -> None:
        start, end, headers = 0, size, {"ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": "no-cache"}
        given = self.headers.get("Range", "")
        if given and self.command == "GET" and self.headers.get("If-Range", tag) == tag:
            span = re.fullmatch(r"bytes=(\d{1,19})-(\d{1,19})?|bytes=-(\d{1,19})", given.strip())
            if span and not (
                span[2] and int(span[2]) < int(span[1])
            ):  # anything else, such as several ranges, may be ignored (RFC 9110 section 14.2)
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
            if not piece:  # the file has been truncated, which no tool does
                self.close_connection = True
                return
            self._send(piece)
            start += len(piece)

    def _wait(self) -> float:
        """Return the seconds that the client prefers to wait for a change (RFC 7240 section 4.3), 0 for none."""
        found = re.search(r"(?:^|[,;\s])wait=(\d{1,9})", self.headers.get("Prefer", ""))
        return min(float(found[1]), WAIT_MAX) if found else 0.0

    def _wait_is_over(self) -> bool:
        """Wait up to LOOK seconds; return True if the client is gone or sends another request, or must give way."""
        watched = select.poll()
        watched.register(self.connection, select.POLLIN)
        readable = watched.poll(LOOK * 1000)
        if self.service.places.is_wanted():
            self.close_connection = True
        return bool(readable) or self.service.stopping.is_set() or self.close_connection

    # POST

    def _append(self, directory: str) -> None:
        given = self.headers.get("Content-Length", "").strip().lstrip("0")
        if "Content-Length" not in self.headers:
            raise Refusal(411, "a Content-Length is needed")
        if len(given) > 18 or int(given or "0") > self.service.stream_max:
            raise Refusal(413, f"{given[:30]} octets, more than the limit of {self.service.stream_max}")
        if os.path.islink(directory):  # as for GET
            raise Refusal(403, "a link to a spool")
        with self._trouble():
            spool = Spool(directory)
            records, digest = self._records(int(given or "0"), spool.room(self.service.spool_max))
            spool.append(records, records.size, self.service.spool_max)
        self._answer(200, acknowledgement(records.count, digest), {})

    def _records(self, length: int, room: Room) -> tuple[Records, bytes]:
        """Read a body of `length` octets; return its records, and its BLAKE2b-256.

        It is read whole before any of it is parsed, so that no unfinished
        frame takes memory. Raises Refusal, and the refusal of `room`.
        """
        if length > room.size + IN_MEMORY:
            raise room.refusal
        if self.headers.get("Expect", "").strip().lower() == "100-continue" and self.request_version != "HTTP/1.0":
            self.send_response_only(100)
            self.end_headers()
            self.wfile.flush()
        self.deadline = time.monotonic() + QUIET
        self.body = _Body(self.rfile, length)
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
            while piece := self.body.read(PIECE):
                file.write(piece)
            file.seek(0)
            stream = Digesting(file)
            try:
                with PARSING:
                    records = Records(stream, "the request", room=room, in_memory=IN_MEMORY)
                return records, stream.digest.digest()
            except Failure as error:
                if error is room.refusal:
                    raise
                raise Refusal(400, str(error)) from None

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        """Raise Refusal for a failure in the block, with its text but without the path of the spools."""
        try:
            yield
        except (TimeoutError, ConnectionError):
            raise  # the client is gone
        except (Failure, OSError) as error:
            failure = tool.os_error(error) if isinstance(error, OSError) else error
            text = str(failure).replace(self.service.root.rstrip("/") + "/", "")
            raise Refusal(507 if isinstance(failure, OverQuota) else 503, text) from None

    def _is_body_left(self) -> bool:
        return self.command == "POST" and (self.body is None or self.body.left > 0)

    def finish(self) -> None:
        """Close the connection, but first let the client read the last answer: it may still be sending its request."""
        self.body = None
        with suppress(OSError):
            super().finish()
            if self.gave_way:
                return  # no answer is on its way
            self.connection.shutdown(socket.SHUT_WR)
            self.deadline = time.monotonic() + LINGER
            while self.rfile.raw.readinto(bytearray(PIECE)):  # type: ignore[attr-defined]
                pass


class _Timed(io.RawIOBase):
    """The octets that a connection receives before its deadline. Raises TimeoutError after it."""

    def __init__(self, handler: HttpConnection) -> None:
        self.handler = handler

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        handler = self.handler
        while (left := handler.deadline - time.monotonic()) > 0:
            handler.connection.settimeout(min(left, LOOK))
            try:
                count = int(handler.connection.recv_into(buffer))
            except TimeoutError:
                service, is_spare = handler.service, time.monotonic() > handler.spare_from
                if handler.idle and (service.stopping.is_set() or (is_spare and service.places.is_wanted())):
                    handler.gave_way = True
                    return 0
                continue
            handler.spare_from = math.inf
            if handler.body:
                handler.deadline = min(handler.deadline + count / SLOW, time.monotonic() + QUIET)
            return count
        raise TimeoutError


class _HeaderLines:
    """The lines of a header as they are read, and whether each is a field, up to an empty line."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self.stream = stream
        self.are_good = True
        self.is_whole = False  # the empty line has come

    def readline(self, most: int) -> bytes:
        line = self.stream.readline(most)
        self.is_whole = line in (b"\r\n", b"\n")
        self.are_good = self.are_good and (self.is_whole or bool(FIELD.fullmatch(line)))
        return line


class _Body:
    """The body of a request; `left` octets of it have not been read."""

    def __init__(self, stream: io.BufferedIOBase, length: int) -> None:
        self.stream = stream
        self.left = length

    def read(self, length: int, /) -> bytes:
        octets = self.stream.read(min(length, self.left))
        self.left -= len(octets)
        return octets


def _open_file(directory: str, name: str) -> IO[bytes]:
    """Open a file of a spool, without following any link. Raises Refusal."""
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

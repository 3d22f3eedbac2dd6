"""A spool on a web server: cspool-httpd(8), or any that serves files with ranges (RFC 9110 sections 13 and 14).

All requests use one connection. A file that has not changed costs one small
request. Passwords are those of ~/.netrc. Certificates are checked.
"""

import base64
import hashlib
import http.client
import os
import re
import ssl
import urllib.parse
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

from .. import __version__, frame
from ..errors import BadConfig, DataError, TryAgain, UsageError, reason
from .batch import Records, acknowledgement

TIMEOUT = 60  # seconds without an octet
_PATH = re.compile(r"[!-~]*")  # all other characters must be %-encoded
PIECE = 1 << 20  # octets read at a time
SMALL_MAX = 16 << 20  # octets of `head` or of a list of segments
SAID_MAX = 1000  # octets read of a server's answer to an append


class Web:
    """The spool at a URL. Raises UsageError for a bad URL, BadConfig for a bad ~/.netrc.

    Later failures raise TryAgain: they pass, or the operator can repair them.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urllib.parse.urlsplit(url)
            host, port = parts.hostname, parts.port
            (host or "").encode("idna")
        except ValueError:
            host = None
        if not host or not _PATH.fullmatch(parts.path) or parts.query or parts.fragment or parts.username:
            raise UsageError(f"{url}: not the URL of a spool")
        self.where = url.rstrip("/")
        self._path = parts.path.rstrip("/")
        self._headers = {"User-Agent": f"cspool/{__version__}", "Cache-Control": "no-cache", **_authorization(host)}
        self._connection: http.client.HTTPConnection = (
            http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=ssl.create_default_context())
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        )
        self._known: dict[str, tuple[dict[str, str], bytes]] = {}  # the file read last: its If-None-Match and octets

    def read(self, name: str, wait: int = 0) -> bytes:
        """Return the contents of a file; `wait` is as in `Files.read`. Raises FileNotFoundError, TryAgain."""
        conditions, text = self._known.get(name, ({}, b""))
        if conditions and wait:
            conditions = {**conditions, "Prefer": f"wait={wait}"}  # RFC 7240; most servers ignore it
        answer = self._get(name, conditions)
        if answer.status not in (200, 304):
            raise self._refused(name, answer)
        try:
            given = answer.read(SMALL_MAX)
            rest = answer.read(1)
        except (OSError, http.client.HTTPException) as error:
            raise self._failed(name, error) from None
        if answer.headers.get("Age", "0") != "0":
            raise TryAgain(f"{self.where}/{name}: an old copy from a cache, which must ask the server each time")
        if answer.status == 304:
            return text
        if rest:
            self._connection.close()
            raise TryAgain(f"{self.where}/{name}: longer than such a file can be")
        self._known = {name: ({"If-None-Match": answer.headers["ETag"]}, given)} if _is_settled(answer) else {}
        return given

    def pieces(self, name: str, start: int, end: int) -> Iterator[bytes]:
        """Yield the octets of a file from `start` to `end`. After a cut connection, ask for the rest.

        Raises TryAgain, also when the server has twice sent nothing, and FileNotFoundError.
        """
        failures = 0
        while start < end:
            answer = self._get(name, {"Range": f"bytes={start}-{end - 1}"})
            if answer.status == 200:
                raise TryAgain(f"{self.where}/{name}: the server does not serve ranges")
            if answer.status != 206:
                raise self._refused(name, answer)
            given = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("Content-Range", ""))
            if not given or int(given[1]) != start or int(given[2]) != end - 1:
                raise TryAgain(f"{self.where}/{name}: the server gave another range, or the spool is damaged")
            before = start
            try:
                while start < end and (piece := answer.read(min(PIECE, end - start))):
                    start += len(piece)
                    yield piece
            except (OSError, http.client.HTTPException) as error:
                failure = self._failed(name, error)
            else:
                failure = TryAgain(f"{self.where}/{name}: cut off")
            failures = 0 if start > before else failures + 1
            if start < end:
                self._connection.close()
                if failures > 1:
                    raise failure

    def append(self, records: Records) -> None:
        """Append records, and return when they are on the server's disk. Raises DataError if it refuses them as bad."""
        digest, length = hashlib.blake2b(digest_size=32), records.size + frame.HEADER_SIZE

        def body() -> Iterator[bytes]:
            for octets in records.stream():
                digest.update(octets)
                yield octets

        try:
            try:
                headers = {**self._headers, "Content-Type": "application/octet-stream", "Content-Length": str(length)}
                self._connection.request("POST", f"{self._path}/", body(), headers)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the server has refused the body early, and may have sent the reason
            answer = self._connection.getresponse()
            said = answer.read(SAID_MAX)
        except (OSError, http.client.HTTPException) as error:
            raise self._failed("", error) from None
        text = answer.reason
        if answer.headers.get_content_type() == "text/plain":
            text = said.decode("ascii", "replace").split("\n")[0]
        if answer.status == 200 and said == acknowledgement(records.count, digest.digest()):
            return
        if answer.status == 400:
            raise DataError(f"{self.where}: the server refuses the stream: {text}")
        if answer.status == 401 or 300 <= answer.status < 400:
            raise self._refused("", answer)
        raise TryAgain(f"{self.where}: the server answers {answer.status}: {text}")

    def _get(self, name: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Send a request, and return the answer. Send it again if the server had closed the idle connection."""
        for again in (True, False):
            fresh = self._connection.sock is None
            try:
                self._connection.request("GET", f"{self._path}/{name}", headers={**self._headers, **headers})
                return self._connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                self._connection.close()
                if fresh or not again:
                    raise self._failed(name, error) from None
        raise AssertionError

    def _failed(self, name: str, error: Exception) -> TryAgain:
        self._connection.close()
        why = reason(error)
        if isinstance(error, ssl.SSLCertVerificationError):
            why = f"its certificate is not good: {error.verify_message.lower()}"
        return TryAgain(f"{self.where}/{name}: {why}")

    def _refused(self, name: str, answer: http.client.HTTPResponse) -> Exception:
        """Return the error for an answer without the file."""
        self._connection.close()  # rather than read the rest of the answer
        if answer.status in (404, 410):
            return FileNotFoundError(name)
        if 300 <= answer.status < 400:
            return TryAgain(f"{self.where}/{name}: the server sends us elsewhere ({answer.headers.get('Location')})")
        if answer.status in (401, 403):
            return TryAgain(f"{self.where}/{name}: the server refuses us ({answer.status}): see ~/.netrc")
        return TryAgain(f"{self.where}/{name}: the server answers {answer.status} {answer.reason}")


def _is_settled(answer: http.client.HTTPResponse) -> bool:
    """Return whether the ETag of a file changes whenever its octets do.

    Servers that send Last-Modified make the ETag from the size and a time in
    seconds, but `head` can be replaced many times in a second (RFC 9110
    section 8.8.1). It counts only if the file is more than a second old.
    """
    if "ETag" not in answer.headers or "Last-Modified" not in answer.headers:
        return "ETag" in answer.headers
    try:
        date, modified = (parsedate_to_datetime(answer.headers[name]) for name in ("Date", "Last-Modified"))
        return (date - modified).total_seconds() > 1
    except (TypeError, ValueError, OverflowError):
        return False


def _authorization(host: str) -> dict[str, str]:
    """Return the header with the login and password that ~/.netrc has for a host, if any. Raises BadConfig."""
    import netrc

    if not os.path.exists(os.path.expanduser("~/.netrc")):
        return {}
    try:
        found = netrc.netrc().authenticators(host)
    except netrc.NetrcParseError as error:  # whose text may contain a password
        raise BadConfig(f"~/.netrc: not understood at line {error.lineno}") from None
    except (OSError, UnicodeDecodeError):
        raise BadConfig("~/.netrc: cannot be read") from None
    if not found:
        return {}
    login, _, password = found
    return {"Authorization": "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()}

"""TLS from the first octet (RFC 8314), for octets that a Connection reads and writes."""

import ssl
from contextlib import suppress

from ..errors import BadConfig, NoInput, reason


def context(pem: str) -> ssl.SSLContext:
    """Return what a server needs for TLS, from a file with a private key and the chain of its certificate.

    Raises NoInput if the file cannot be read, BadConfig if that is not in it.
    """
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.minimum_version = ssl.TLSVersion.TLSv1_2
    found.num_tickets = 0  # each connection has a process of its own, which could not use a ticket of another
    try:
        found.load_cert_chain(pem, password=lambda: "")
    except ssl.SSLError:
        raise BadConfig(f"{pem}: not a certificate and its private key, without a passphrase") from None
    except OSError as error:
        raise NoInput(f"{pem}: {reason(error)}") from None
    return found


class Tls:
    """The server's end of a TLS connection. All methods raise ssl.SSLError when the connection is not sound."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_side=True)

    def handshake(self, octets: bytes) -> bool:
        """Take octets of the client; return whether the handshake is done. Call `to_send` after this."""
        self._received.write(octets)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def to_send(self) -> bytes:
        """Return the octets that the client is to get now: those of a handshake, or an alert."""
        return self._to_send.read()

    def decode(self, octets: bytes) -> bytes:
        """Return the text of received octets, as far as it is whole."""
        self._received.write(octets)
        pieces = []
        try:
            while piece := self._tls.read(1 << 16):
                pieces.append(piece)
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):  # the client has closed it: the end of input follows
            pass
        return b"".join(pieces)

    def encode(self, octets: bytes) -> bytes:
        """Return what to send for these octets of text."""
        self._tls.write(octets)
        return self._to_send.read()

    def close(self) -> bytes:
        """Return what to send at the end: a close_notify. Raises nothing: a connection that is broken has none."""
        with suppress(OSError):
            self._tls.unwrap()  # which then waits for that of the client
        return self._to_send.read()

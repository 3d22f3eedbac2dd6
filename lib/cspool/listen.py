"""Where the connections of a server come from: one on standard input, or many on a socket from systemd or its own."""

import ipaddress
import os
import socket

from .errors import TryAgain, UsageError, reason

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


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
    """Return a socket that listens on host:port or [host]:port; without a host, on all addresses.

    Raises UsageError for a bad address, and TryAgain.
    """
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if colon and not host:
        host = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - that is what was asked for
    try:
        family, *_, name = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        both = name[0] == "::" and socket.has_dualstack_ipv6()
        return socket.create_server((str(name[0]), int(name[1])), family=family, backlog=128, dualstack_ipv6=both)
    except (ValueError, OverflowError, socket.gaierror):
        raise UsageError(f"--listen={address}: no such address") from None
    except OSError as error:
        raise TryAgain(f"--listen={address}: {reason(error)}") from None


def peer(connection: socket.socket) -> Address | None:
    """Return the address at the other end, or None for a Unix socket, which has none. Raises OSError."""
    return _address(connection.getpeername())


def own(listener: socket.socket) -> Address | None:
    """Return the address on which a socket listens, or None for a Unix socket."""
    return _address(listener.getsockname())


def _address(name: object) -> Address | None:
    if not isinstance(name, tuple):
        return None
    address = ipaddress.ip_address(name[0].partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def network(address: Address | None) -> str:
    """Return what stands for one stranger: an IPv4 address, or the 64 bits of an IPv6 address that its user has all of.

    A Unix socket is "local".
    """
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, 64), strict=False))
    return str(address or "local")

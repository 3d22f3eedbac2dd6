"""A connection to cspool-httpd, and its answers to bad requests."""

import base64
import socket
import threading
import time

import pytest
from cspool import frame
from cspool.spool import append, httpd, tokens
from hypothesis import given
from hypothesis import strategies as st

STREAM = frame.encode(b"x" * 100) + frame.encode_end(1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    directory = tmp_path_factory.mktemp("root")
    append.create(str(directory / "alice"))
    return directory


@pytest.fixture(scope="module")
def keys(root):
    return {right: tokens.add(str(root / "tokens"), "alice", right) for right in tokens.RIGHTS}


@pytest.fixture
def service(root):
    return httpd.Service(str(root), tokens.Tokens(str(root / "tokens")), 1 << 20, None, None, threading.Event())


class Client:
    """A connection, and the thread that serves it."""

    def __init__(self, service):
        self.socket, theirs = socket.socketpair()
        self.socket.settimeout(10)
        self.thread = threading.Thread(target=self.serve, args=(theirs, service), daemon=True)
        self.failure = None
        self.thread.start()

    def serve(self, theirs, service):
        try:
            httpd.HttpConnection(service, theirs, "-")
        except Exception as error:
            self.failure = error
        theirs.close()

    def send(self, octets):
        self.socket.sendall(octets)
        return self

    def rest(self, closed=True):
        """Return all octets up to the end of the connection; `closed` closes our side first."""
        if closed:
            self.socket.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := self.socket.recv(1 << 20):
            answer += piece
        self.thread.join(10)
        assert not self.thread.is_alive()
        assert not self.failure
        return answer


def request(key, line, body=b"", **headers):
    headers.setdefault("Authorization", "Basic " + base64.b64encode(f"x:{key}".encode()).decode())
    if body:
        headers.setdefault("Content_Length", str(len(body)))
    lines = [f"{line} HTTP/1.1", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def statuses(answer):
    return [int(line.split()[1]) for line in answer.split(b"\n") if line.startswith(b"HTTP/1.1 ")]


def test_several_requests_on_one_connection(service, keys):
    client = Client(service)
    client.send(request(keys["append"], "POST /alice/", STREAM) + request(keys["fetch"], "GET /alice/head"))
    assert statuses(client.rest()) == [200, 200]


def test_a_refused_body_is_not_taken_for_requests(service, keys):
    hidden = request(keys["fetch"], "GET /alice/head")
    for line, headers in (
        ("POST /alice/", {"Authorization": "Basic x"}),
        ("POST /alice/", {"Transfer_Encoding": "chunked"}),
        ("POST /alice/", {"Content_Length": "9" * 30}),
        ("POST /alice/head", {}),
        ("GET /alice/nothing", {}),
    ):
        client = Client(service).send(request(keys["append"], line, hidden, **headers))
        assert len(statuses(client.rest())) == 1, line


def test_a_body_is_asked_for_once_it_is_wanted(service, keys):
    client = Client(service).send(
        request(keys["append"], "POST /alice/", Content_Length=str(len(STREAM)), Expect="100-continue")
    )
    assert client.socket.recv(1000).startswith(b"HTTP/1.1 100 ")
    assert statuses(client.send(STREAM).rest()) == [200]
    client = Client(service).send(
        request("wrong", "POST /alice/", Content_Length=str(len(STREAM)), Expect="100-continue")
    )
    assert statuses(client.rest()) == [401]


def test_a_body_that_is_cut_off_changes_nothing(service, keys, root):
    before = (root / "alice" / "head").read_bytes()
    for end in range(0, len(STREAM), 17):
        octets = request(keys["append"], "POST /alice/", STREAM[:end], Content_Length=str(len(STREAM)))
        assert statuses(Client(service).send(octets).rest()) == [400]
    assert (root / "alice" / "head").read_bytes() == before


def test_who_sends_slowly_is_cut_off(service, keys, monkeypatch):
    monkeypatch.setattr(httpd, "QUIET", 0.3)
    monkeypatch.setattr(httpd, "LINGER", 0.3)
    client = Client(service)
    begun = time.monotonic()
    with pytest.raises(OSError):
        while time.monotonic() < begun + 10:
            client.send(b"GET / HTTP/1.1\r\n"[:1])
            time.sleep(0.05)
    assert time.monotonic() - begun < 8


def test_who_waits_for_news_hears_of_it(service, keys, root):
    client = Client(service).send(request(keys["fetch"], "GET /alice/head"))
    tag = client.socket.recv(10000).split(b'ETag: "')[1].split(b'"')[0].decode()
    client.send(request(keys["fetch"], "GET /alice/head", If_None_Match=f'"{tag}"', Prefer="wait=30"))
    append.Spool(str(root / "alice")).append([b"news" * 100])
    assert client.socket.recv(10000).startswith(b"HTTP/1.1 200 ")
    client.rest()


def test_nobody_waits_for_those_who_have_left_or_for_ever(service, keys, monkeypatch):
    monkeypatch.setattr(httpd, "LINGER", 0.3)
    client = Client(service).send(request(keys["fetch"], "GET /alice/head"))
    tag = client.socket.recv(10000).split(b'ETag: "')[1].split(b'"')[0].decode()
    waiting = request(keys["fetch"], "GET /alice/head", If_None_Match=f'"{tag}"', Prefer="wait=30")
    assert statuses(client.send(waiting).rest()) in ([], [304])
    client = Client(service).send(waiting)
    service.stopping.set()
    assert statuses(client.rest(closed=False)) in ([], [304])


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET " + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431),
        (b"DELETE /alice/head HTTP/1.1\r\n\r\n", 501),
    ],
)
def test_no_request(service, octets, status):
    answer = Client(service).send(octets).rest()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()) or (status == 400 and answer.startswith(b"Bad request"))


LINES = ["GET /alice/head", "HEAD /alice/format", "POST /alice", "GET /alice/../tokens", "PUT /alice/head"]
HEADERS = ["Range", "If-None-Match", "If-Range", "Prefer", "Expect", "Content-Length", "Transfer-Encoding", "Host", "X"]
VALUES = [
    "bytes=0-",
    "bytes=5-2",
    "bytes=-0",
    "bytes=-99999999999999999999",
    "*",
    '"',
    "wait=0",
    "100-continue",
    "7",
    "-1",
]


@given(
    st.sampled_from(LINES),
    st.lists(st.tuples(st.sampled_from(HEADERS), st.sampled_from(VALUES) | st.text(st.characters(max_codepoint=255)))),
    st.binary(max_size=300),
    st.sampled_from(sorted(tokens.RIGHTS)),
)
def test_whatever_is_asked_is_answered_or_refused(root, keys, line, headers, body, right):
    service = httpd.Service(str(root), tokens.Tokens(str(root / "tokens")), 1 << 20, None, None, threading.Event())
    password = base64.b64encode(f"x:{keys[right]}".encode())
    lines = [f"{line} HTTP/1.1".encode(), b"Authorization: Basic " + password]
    lines += [f"{name}: {value}".encode("latin-1") for name, value in headers]
    answer = Client(service).send(b"\r\n".join([*lines, b"", b""]) + body).rest()
    assert not answer or answer.startswith(b"HTTP/1.")
    assert 500 not in statuses(answer)


def test_tokens_survive_a_torn_line(tmp_path):
    path = tmp_path / "tokens"
    path.write_text("alice fetch 00")
    token = tokens.add(str(path), "alice", "append")
    found = tokens.Tokens(str(path))
    assert found.rights("alice", token.encode()) == {"append"}
    assert found.rights("bob", token.encode()) == set()
    assert found.rights("alice", b"") == set()
    path.unlink()
    assert found.rights("alice", token.encode()) == set()

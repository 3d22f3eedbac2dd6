"""A connection to cspool-httpd, and its answers to bad requests."""

import base64
import hashlib
import socket
import threading
import time

import pytest
from cspool import frame
from cspool.serve import Places
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
    return new_service(root)


def new_service(root, places=8):
    known = tokens.Tokens(str(root / "tokens"))
    return httpd.Service(str(root), known, 1 << 20, None, None, threading.Event(), Places(places))


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
            httpd.HttpConnection(service, theirs, None)
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
    headers.setdefault("Host", "spool.example.org")
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
        (b"DELETE /alice/head HTTP/1.1\r\nHost: x\r\n\r\n", 501),
    ],
)
def test_no_request(service, octets, status):
    answer = Client(service).send(octets).rest()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()) or (status == 400 and answer.startswith(b"Bad request"))


FIELDS = [
    "Host: x\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\nContent-Length: 0\r\n",
    "Content-Length: +0\r\n",
    "Content-Length : 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "X: a\r\n b\r\n",
    " X: a\r\n",
    "X: a\rContent-Length: 5\r\n",
    "X: \0\r\n",
    "X Y: a\r\n",
    "nonsense\r\n",
    ": a\r\n",
]


@pytest.mark.parametrize("fields", FIELDS)
def test_a_header_that_a_proxy_may_read_otherwise(service, keys, fields):
    """One answer, and the connection ends: what follows is not taken for another request."""
    good = request(keys["fetch"], "GET /alice/head")
    octets = good[:-2] + fields.encode() + b"\r\n" + good
    assert statuses(Client(service).send(octets).rest()) == [400]


@pytest.mark.parametrize("line", ["GET  /alice/head HTTP/1.1", "GET /alice/head", "GET /alice/head HTTP/2.0"])
def test_a_request_line_of_another_form(service, line):
    answer = Client(service).send(f"{line}\r\nHost: x\r\n\r\n".encode()).rest()
    assert b"200" not in answer.split(b"\n")[0]


def test_a_host_is_needed_and_may_be_in_the_target(service, keys):
    password = base64.b64encode(f"x:{keys['fetch']}".encode()).decode()
    tail = f"Authorization: Basic {password}\r\n\r\n"
    assert statuses(Client(service).send(f"GET /alice/head HTTP/1.1\r\n{tail}".encode()).rest()) == [400]
    assert statuses(Client(service).send(f"GET /alice/head HTTP/1.0\r\n{tail}".encode()).rest()) == [200]
    target = f"GET http://x/alice/head HTTP/1.1\r\nHost: x\r\n{tail}"
    assert statuses(Client(service).send(target.encode()).rest()) == [200]


def test_a_body_that_stops_coming_is_cut_off(service, keys, monkeypatch):
    """However long it is to become, and however much of it has come at once."""
    monkeypatch.setattr(httpd, "QUIET", 0.3)
    monkeypatch.setattr(httpd, "LINGER", 0.3)
    length = str(1 << 20)
    client = Client(service).send(request(keys["append"], "POST /alice/", STREAM * 1000, Content_Length=length))
    assert statuses(client.rest(closed=False)) == []


def test_who_waits_gives_way(root, keys, monkeypatch):
    monkeypatch.setattr(httpd, "LINGER", 0.3)
    service = new_service(root, places=1)
    service.places.take()
    client = Client(service).send(request(keys["fetch"], "GET /alice/head"))
    tag = client.socket.recv(10000).split(b'ETag: "')[1].split(b'"')[0].decode()
    client.send(request(keys["fetch"], "GET /alice/head", If_None_Match=f'"{tag}"', Prefer="wait=50"))
    another = threading.Thread(target=service.places.take, daemon=True)
    another.start()
    answer = client.rest(closed=False)
    assert statuses(answer) == [304] and b"Connection: close" in answer
    service.places.release()
    another.join(10)
    assert not another.is_alive()


def test_one_token_does_not_take_all_places(service, keys, root):
    """Requests that only wait do not count."""
    tag = hashlib.blake2b((root / "alice" / "head").read_bytes(), digest_size=16).hexdigest()
    wait = request(keys["append"], "GET /alice/head", If_None_Match=f'"{tag}"', Prefer="wait=50")
    begun = request(keys["append"], "POST /alice/", Content_Length="1000")
    clients = [Client(service).send(octets) for octets in [wait] * 9 + [begun] * service.token_max()]
    while sum(one._value for one in service.tokens.in_use.values()) or not service.tokens.in_use:
        time.sleep(0.01)
    assert statuses(Client(service).send(begun).rest()) == [503]
    for client in clients[9:]:
        assert statuses(client.rest()) == [400]
    assert statuses(Client(service).send(request(keys["append"], "POST /alice/", STREAM)).rest()) == [200]
    service.stopping.set()
    for client in clients[:9]:
        client.rest()


def test_a_header_that_is_cut_off_is_no_request(service, keys):
    octets = request(keys["fetch"], "GET /alice/head")
    for end in (3, 10, 40, len(octets) - 1):
        assert Client(service).send(octets[:end]).rest() == b""
    assert statuses(Client(service).send(b"\r\n" + octets).rest()) == [200]


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
    service = new_service(root)
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

"""Web servers that misbehave, or whose connections are cut."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cspool.errors import TryAgain
from cspool.spool.web import SMALL_MAX, Web

FILE = bytes(range(256)) * 100


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append(self.headers.get("Range") or self.path)
        self.server.answer(self)

    def log_message(self, *_):
        pass

    def give(self, status, octets, length=None, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(octets) if length is None else length))
        self.end_headers()
        self.wfile.write(octets)

    def give_range(self, most=None):
        """Serve the requested range, but cut the connection after `most` octets of it."""
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        octets = FILE[int(first) : int(last) + 1]
        self.give(206, octets[:most], len(octets), Content_Range=f"bytes {first}-{last}/{len(FILE)}")
        self.close_connection = most is not None


@pytest.fixture
def serve():
    servers = []

    def start(answer):
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.answer, server.requests = answer, []
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return Web(f"http://127.0.0.1:{server.server_port}/spool"), server.requests

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_what_a_cut_has_interrupted_goes_on_from_there(serve):
    web, requests = serve(lambda handler: handler.give_range(10_000))
    assert b"".join(web.pieces("log", 0, len(FILE))) == FILE
    assert requests == ["bytes=0-25599", "bytes=10000-25599", "bytes=20000-25599"]


def test_a_server_that_gives_nothing_is_not_asked_for_ever(serve):
    web, requests = serve(lambda handler: handler.give_range(0))
    with pytest.raises(TryAgain):
        list(web.pieces("log", 0, len(FILE)))
    assert len(requests) == 2


def test_another_range_than_was_asked_for(serve):
    web, _ = serve(lambda handler: handler.give(206, b"x" * 10, Content_Range="bytes 5-14/25600"))
    with pytest.raises(TryAgain, match="another range"):
        list(web.pieces("log", 0, 10))


def test_a_head_without_end(serve):
    web, _ = serve(lambda handler: handler.give(200, b"x" * (SMALL_MAX + 2)))
    with pytest.raises(TryAgain, match="longer than"):
        web.read("head")


def test_no_server_of_http(serve):
    web, _ = serve(lambda handler: handler.wfile.write(b"+OK POP3 ready\r\n" * 3))
    with pytest.raises(TryAgain):
        web.read("head")


def test_an_etag_counts_only_when_the_file_has_been_left_alone(serve):
    ages, given = ["10:00:00", "10:00:09"], []

    def answer(handler):
        given.append(handler.headers.get("If-None-Match"))
        if given[-1]:
            handler.send_response(304)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response_only(200)
        for name, value in (
            ("Date", f"Wed, 25 Nov 2026 {ages[min(len(given), 2) - 1]} GMT"),
            ("Last-Modified", "Wed, 25 Nov 2026 10:00:00 GMT"),
            ("ETag", '"x"'),
            ("Content-Length", "4"),
        ):
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(b"head")

    web, _ = serve(answer)
    assert [web.read("head") for _ in range(3)] == [b"head"] * 3
    assert given == [None, None, '"x"']

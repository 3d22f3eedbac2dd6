"""cspool-imapd for many clients: TLS, a password for each device, and strangers who want neither."""

import base64
import contextlib
import ipaddress
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest
from conftest import Home
from cspool import keys
from cspool.errors import TryAgain
from cspool.imap import guesses, passwords
from cspool.imap.connection import Closed, Connection
from cspool.imap.server import Server
from cspool.imap.session import Session
from cspool.serve import SPARE
from imap import Mailboxes, mail
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError, LoginError

# Starts it as systemd does.
START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execvp("cspool-imapd", ["cspool-imapd", *sys.argv[2:]])
"""


class Service:
    """A listening cspool-imapd, and clients of it."""

    def __init__(self, home, options, family=socket.AF_INET):
        self.home = home
        listener = socket.socket(family)
        with listener:
            listener.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(home.path / "socket"))
            listener.listen(100)
            self.address = listener.getsockname()
            self.process = subprocess.Popen(
                [sys.executable, "-c", START, str(listener.fileno()), *options],
                env=home.environment, pass_fds=[listener.fileno()], stderr=subprocess.PIPE,
            )  # fmt: skip
        self.trusted = ssl.create_default_context(cafile=home.path / "tls.pem")

    def connect(self, password=None):
        """Return a client over TLS, which has logged in if a password is given."""
        client = IMAPClient(*self.address, ssl_context=self.trusted, timeout=30)
        if password:
            client.login("alice", password)
        return client

    def plain(self):
        connection = socket.socket(socket.AF_INET if isinstance(self.address, tuple) else socket.AF_UNIX)
        connection.settimeout(30)
        connection.connect(self.address)
        return connection

    def stop(self):
        """End it; return what it has printed."""
        self.process.terminate()
        _, errors = self.process.communicate(timeout=30)
        return errors.decode()


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path)
    (tmp_path / "home").mkdir()
    boxes = Mailboxes(tmp_path / "mail.db")
    boxes.create("INBOX")
    boxes.append(mail("one"))
    for device in ("phone", "tablet"):
        home.pipe(f"echo {device}-secret | cspool-imapd --set-password --device={device}")
    certificate(tmp_path / "tls.pem")
    return home


def certificate(path):
    """Make a key and a certificate for 127.0.0.1, in one file."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", f"{path}.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    with path.open("a") as file:
        file.write(Path(f"{path}.crt").read_text())


@pytest.fixture
def serve(home):
    """A function that starts a server with options; all end with the test, and have printed nothing."""
    started = []

    def start(*options, **more):
        started.append(Service(home, options, **more))
        return started[-1]

    yield start
    assert [service.stop() for service in started] == ["" for _ in started]


def tls(home):
    return f"--tls={home.path}/tls.pem"


def test_two_devices_over_tls(home, serve):
    service = serve(tls(home))
    phone, tablet = service.connect("phone-secret"), service.connect("tablet-secret")
    assert phone.select_folder("INBOX")[b"EXISTS"] == 1
    tablet.select_folder("INBOX")
    tablet.append("INBOX", mail("two", "x" * 300_000))
    phone.noop()
    assert len(phone.fetch([1, 2], ["BODY.PEEK[]"])[2][b"BODY[]"]) > 300_000
    for client in (phone, tablet):
        assert client.socket().version() in ("TLSv1.2", "TLSv1.3")
        client.logout()


def test_a_device_that_is_forgotten_is_out_at_once(home, serve):
    service = serve(tls(home))
    phone, idling, tablet = (service.connect(f"{name}-secret") for name in ("phone", "phone", "tablet"))
    for client in (phone, idling, tablet):
        client.select_folder("INBOX")
    idling.idle()
    home.pipe("cspool-imapd --forget-password=phone")
    with pytest.raises(IMAPClientError, match="has been changed"):
        phone.fetch([1], ["FLAGS"])
    assert b"BYE" in [answer[0] for answer in idling.idle_check(30)]
    with pytest.raises(LoginError):
        service.connect("phone-secret")
    tablet.noop()


def test_a_new_password_ends_what_was_begun_with_the_old(home, serve):
    service = serve(tls(home))
    phone = service.connect("phone-secret")
    home.pipe("echo other | cspool-imapd --set-password --device=phone")
    with pytest.raises(IMAPClientError, match="has been changed"):
        phone.list_folders()
    service.connect("other").noop()


def test_a_password_is_that_of_one_device(home):
    home.pipe("echo tablet-secret | cspool-imapd --set-password --device=phone", status=78)
    home.pipe("echo x | cspool-imapd --set-password --device='a phone'", status=64)
    home.pipe("cspool-imapd --forget-password=laptop", status=66)
    lines = (home.path / "imap.passwd").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["phone", "tablet"]
    home.pipe("cspool-imapd --forget-password=phone && cspool-imapd --forget-password=tablet")
    assert b"LOGINDISABLED" in home.pipe("cspool-imapd </dev/null")


def test_a_failed_login_makes_the_next_wait(home, serve):
    service = serve(tls(home))
    first, second = service.connect(), service.connect()
    with pytest.raises(LoginError):
        first.login("alice", "wrong")
    network, count, _ = (home.path / "imap.failures").read_text().split()
    assert (network, count) == ("127.0.0.1", "1")
    begun = time.monotonic()
    second.login("alice", "phone-secret")
    assert time.monotonic() - begun > 1
    assert (home.path / "imap.failures").read_text() == ""


class Clock:
    """Stands for the module time in guesses.py; `waited` are the sleeps."""

    def __init__(self):
        self.now = 1795507200.0
        self.waited = []

    def time(self):
        return self.now

    monotonic = time

    def sleep(self, seconds):
        self.waited.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(guesses, "time", Clock())
    return guesses.time


def test_delays_grow_and_end(tmp_path, clock):
    file, address = tmp_path / "failures", ipaddress.ip_address("192.0.2.1")
    waits = []
    for _ in range(7):
        clock.waited = []
        assert guesses.take_turn(file, address, lambda: None, guesses.time.sleep) is None
        waits.append(sum(clock.waited))
    assert waits == [0, 2, 4, 8, 16, 32, 32]
    clock.waited = []
    other = ipaddress.ip_address("192.0.2.2")
    assert guesses.take_turn(file, other, lambda: "login", guesses.time.sleep) == "login"  # no other address waits
    assert clock.waited == []
    clock.now += guesses.COUNT_MAX * guesses.DECAY
    assert guesses.take_turn(file, address, lambda: None, guesses.time.sleep) is None  # this one is forgotten
    assert clock.waited == []
    clock.now -= 1e9  # a clock that was wrong delays nobody for ever
    assert guesses.take_turn(file, address, lambda: "login", guesses.time.sleep) == "login"
    assert sum(clock.waited) <= 4


def test_a_network_of_ipv6_is_one_stranger(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(guesses, "NETWORKS_MAX", 20)
    file, network = tmp_path / "failures", int(ipaddress.ip_address("2001:db8::"))
    for number in range(200):  # addresses of few networks, then of many
        step = 1 << (16 if number < 100 else 64)
        guesses.take_turn(file, ipaddress.ip_address(network + number * step), lambda: None, guesses.time.sleep)
    lines = file.read_text().splitlines()
    assert len(lines) == 20
    assert all(line.split()[0].endswith("::/64") for line in lines)
    assert sum(clock.waited) > 90 * 2**guesses.COUNT_MAX


def test_a_turn_that_others_take_is_not_awaited_for_ever(tmp_path, clock):
    file = tmp_path / "failures"
    for _ in range(6):
        guesses.take_turn(file, None, lambda: None, guesses.time.sleep)

    def sleep(seconds):  # another comes first
        clock.now += seconds
        file.write_text(f"local 9 {clock.now:.0f}\n")

    clock.sleep = sleep
    with pytest.raises(TryAgain, match="too many wrong passwords"):
        guesses.take_turn(file, None, lambda: "login", guesses.time.sleep)
    file.write_bytes(os.urandom(1000) + b"\nlocal x\nlocal 99999999999999999999 1\n")  # is no reason to fail
    assert guesses.take_turn(file, None, lambda: "login", guesses.time.sleep) == "login"


def test_the_slow_hash_is_computed_once_for_a_device(home, monkeypatch):
    """What a process has learned, the next one knows; and it is worth nothing once the password has changed."""
    path, failures = str(home.path / "imap.passwd"), str(home.path / "imap.failures")
    recent = passwords.Recent()
    login = passwords.Passwords(path, failures, None, recent).log_in(b"phone-secret", time.sleep)
    assert b"phone-secret" not in login.record
    recent.learn(login.record)
    next_one = passwords.Passwords(path, failures, None, recent)
    with monkeypatch.context() as patch:
        patch.setattr(keys, "check_password", lambda *_: pytest.fail("computed again"))
        assert next_one.log_in(b"phone-secret", time.sleep)[:2] == login[:2]
    assert next_one.log_in(b"phone-secret ", time.sleep) is None
    home.pipe("cspool-imapd --forget-password=phone")
    monkeypatch.setattr(guesses, "time", Clock())
    assert next_one.log_in(b"phone-secret", time.sleep) is None


def test_a_session_has_three_tries(home, serve):
    (home.path / "imap.failures").mkdir()  # a file that cannot be written: no delay, but no lock-out either
    with serve().plain() as connection, connection.makefile("rw", newline="\r\n") as client:
        client.readline()
        for number in range(4):
            client.write(f"{number} LOGIN alice wrong\n")
        client.flush()
        answers = client.readlines()
        assert [line.split()[1] for line in answers] == ["NO"] * 3


def test_who_does_not_log_in_gives_way(home, serve):
    service = serve("--connections=3")
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(IMAPClient(*service.address, ssl=False))
        reader.login("alice", "phone-secret")
        silent = []
        for _ in range(4):
            silent.append(stack.enter_context(service.plain()))
            assert silent[-1].recv(1000).startswith(b"* OK")
        assert [one.recv(1000) for one in silent[:2]] == [b"", b""]  # the oldest are ended
        reader.noop()
        for one in silent[2:]:
            one.sendall(b"a LOGIN alice tablet-secret\r\n")
            assert one.recv(1000).startswith(b"a OK")
        late = stack.enter_context(service.plain())
        late.settimeout(0.5)
        with pytest.raises(TimeoutError):
            late.recv(1000)  # all are logged in: it waits
        late.settimeout(30)
        reader.logout()
        assert late.recv(1000).startswith(b"* OK")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # for what should be refused
def test_strangers_at_the_port_of_tls_leave_no_trace(home, serve):
    service = serve(tls(home))
    for octets in (
        b"",
        b"\x16\x03\x01",
        b"GET / HTTP/1.0\r\n\r\n",
        os.urandom(70_000),
        b"a LOGIN alice phone-secret\r\n",
    ):
        with service.plain() as connection, contextlib.suppress(OSError):
            connection.sendall(octets)
            connection.shutdown(socket.SHUT_WR)
            while answer := connection.recv(1000):
                assert answer[:1] == b"\x15"  # an alert, RFC 8446 section 5.1
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with service.plain() as connection, pytest.raises(OSError):
        old.wrap_socket(connection)
    service.connect("phone-secret").noop()


def test_a_certificate_is_read_for_each_connection(home, serve):
    service = serve(tls(home))
    service.connect("phone-secret").noop()
    certificate(home.path / "new.pem")
    os.replace(home.path / "new.pem", home.path / "tls.pem")
    with pytest.raises(ssl.SSLCertVerificationError):
        service.connect()
    service.trusted = ssl.create_default_context(cafile=home.path / "tls.pem")
    service.connect("phone-secret").noop()


def test_the_end_is_said(home, serve):
    service = serve("--preauth", family=socket.AF_UNIX)
    with service.plain() as connection, connection.makefile("rb") as client:
        assert client.readline().startswith(b"* PREAUTH")
        service.process.send_signal(signal.SIGTERM)
        assert client.read() == b"* BYE The server ends\r\n"


ATTACHMENT = base64.encodebytes(random.Random(1).randbytes(27 << 20)).replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    ("kind", "encoding", "body"),
    [
        ("application/octet-stream", "base64", ATTACHMENT),
        ("text/plain", "8bit", ATTACHMENT),
        ("text/plain; charset=utf-8", "8bit", "Grüße ".encode() * (9 << 19)),
    ],
    ids=["attachment", "text", "one line"],
)
def test_a_large_append_takes_few_times_its_size(home, kind, encoding, body):
    """Three times at most are in memory, though it is decoded and made searchable."""
    octets = mail(Content_Type=kind, Content_Transfer_Encoding=encoding) + body
    with subprocess.Popen(
        ["cspool-imapd", "--preauth"], env=home.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:

        def do(*pieces):
            process.stdin.writelines([b"a ", *pieces, b"\r\n"])
            process.stdin.flush()
            while not (answer := process.stdout.readline()).startswith(b"a "):
                pass
            status = Path(f"/proc/{process.pid}/status").read_text()
            return answer, int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10

        _, before = do(b"APPEND INBOX {%d+}\r\n" % len(mail()), mail())
        answer, peak = do(b"APPEND INBOX {%d+}\r\n" % len(octets), octets)
        process.stdin.close()
    assert answer.startswith(b"a OK")
    assert peak - before < 3 * len(octets)


def test_what_is_announced_takes_no_memory():
    """A literal costs what has come of it."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            theirs.sendall(b"abc")
        tracemalloc.start()
        with pytest.raises(Closed, match="End of input"):
            Connection(ours.fileno(), ours.fileno(), 10).read(40_000_000)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("options", "status", "line"),
    [
        ("--listen=127.0.0.1:0 --preauth", 77, "--preauth: anyone could use an internet socket"),
        ("--listen=0.0.0.0:0", 77, "without --tls only this machine is served"),
        ("--listen=127.0.0.1:0 --tls=none.pem", 66, "none.pem: no such file or directory"),
        ("--listen=127.0.0.1:0 --tls=mail.db", 78, "mail.db: not a certificate and its private key"),
        ("--listen=127.0.0.1:0 --db=none.db", 66, "none.db: no message database"),
        ("--listen=x", 64, "--listen=x: no such address"),
        ("--listen=127.0.0.1:0 --connections=x", 64, "--connections=x: not a number"),
    ],
)
def test_what_cannot_be_served_is_said_at_the_start(home, options, status, line):
    done = subprocess.run(
        ["/bin/sh", "-c", f"cd {home.path} && exec cspool-imapd {options}"],
        env=home.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, line in done.stderr, done.stderr.count("\n")) == (status, True, 1), done.stderr


def test_nothing_is_read_once_a_device_is_forgotten(home, serve):
    """Not by a command that has begun, nor in IDLE, nor by a session that is silent."""
    service = serve()
    boxes = Mailboxes(home.path / "mail.db")
    boxes.append(mail("large", "x" * 4_000_000))
    sessions = []
    for begin in (
        [b"x FETCH 1 (BODY.PEEK[HEADER.FIELDS ({7}\r\n"],
        [b"x NOTIFY SET (SELECTED (MessageNew (BODY.PEEK[TEXT]) MessageExpunge))\r\n", b"y IDLE\r\n", b"D"],
        [b"x UID FETCH 2 (BODY.PEEK[])\r\n"],
        [b"x APPEND INBOX {20}\r\n"],
        [],
    ):
        connection = service.plain()
        stream = connection.makefile("rb")
        for line in (b"a LOGIN alice phone-secret\r\n", b"b SELECT INBOX\r\n"):
            connection.sendall(line)
            while not stream.readline().startswith(line[:2]):
                pass
        for piece in begin:
            connection.sendall(piece)
            if not piece.startswith((b"x UID", b"D")):
                stream.readline()
        sessions.append((connection, stream))
    home.pipe("cspool-imapd --forget-password=phone")
    boxes.append(mail("later", "SECRET"))
    ends = [b"subject)])\r\n", b"ONE\r\n", b"", b"Subject: x\r\n\r\nabcdef\r\n", b""]
    for (connection, stream), end in zip(sessions, ends, strict=True):
        with connection, stream, contextlib.suppress(OSError):
            connection.sendall(end)
            read = stream.read()
            assert b"SECRET" not in read and b"Subject: one" not in read
            assert b"x OK" not in read
            assert len(read) < 4_000_000
    (count,) = boxes.db.execute("SELECT count(*) FROM message").fetchone()
    assert count == 3


def children(service):
    found = subprocess.run(["pgrep", "-P", str(service.process.pid)], capture_output=True, text=True, check=False)
    return found.stdout.split()


def test_last_words_wait_for_nobody():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                ours.send(b"x" * 65536)
        ours.setblocking(True)
        connection = Connection(ours.fileno(), ours.fileno(), 120)
        begun = time.monotonic()
        Server(Session(lambda: None, connection, None))._bye("Enough")
        assert time.monotonic() - begun < 60


def test_no_more_are_served_than_may_be(home, serve):
    service = serve("--connections=4")
    silent = [service.plain() for _ in range(60)]
    for connection in silent:
        with contextlib.suppress(OSError):
            connection.recv(1)
    assert len(children(service)) <= 4 + SPARE
    for connection in silent:
        connection.close()


def wait_for_the_end(pids):
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            while Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
                time.sleep(0.01)


def test_processes_that_wait_for_a_connection(home, serve):
    """They may be killed, and end with the server, also when it is killed; a client notices nothing."""
    service = serve()
    for _ in range(3):
        waiting = children(service)
        for pid in waiting:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        wait_for_the_end(waiting)
        for _ in range(SPARE + 2):
            with service.plain() as connection:
                assert connection.recv(4) == b"* OK"
    waiting = children(service)
    service.process.kill()
    wait_for_the_end(waiting)


def test_a_stranger_does_not_hear_of_our_files(home, serve, capfd):
    service = serve()
    (home.path / "imap.passwd").write_text("rubbish\n")
    said = []
    for _ in range(5):
        with service.plain() as connection, connection.makefile("rb") as stream:
            said.append(stream.read())
    assert set(said) == {b"* BYE [UNAVAILABLE] The server cannot serve now\r\n"}
    (home.path / "imap.passwd").unlink()
    errors = service.stop()
    assert errors.count("\n") == 1 and "imap.passwd:1: not a device and an argon2id hash" in errors
    service.stop = lambda: ""


def test_a_deflated_stream_ends_once(home, serve):
    service = serve()
    with service.plain() as connection, connection.makefile("rb") as stream:
        connection.sendall(b"a LOGIN alice phone-secret\r\nb COMPRESS DEFLATE\r\n")
        while not stream.readline().startswith(b"b OK"):
            pass
        deflater = zlib.compressobj(wbits=-15)
        connection.sendall(deflater.compress(b"c NOOP\r\n") + deflater.flush(zlib.Z_FINISH))
        assert b"BYE" in zlib.decompressobj(wbits=-15).decompress(stream.read())


def test_the_end_waits_for_nobody(home, serve):
    """Neither for one that has to wait after wrong passwords, nor for one that does not read."""
    boxes = Mailboxes(home.path / "mail.db")
    boxes.append(mail("large", "x" * 8_000_000))
    service = serve()
    guesser, reader = service.plain(), service.plain()
    guesser.sendall(b"a LOGIN alice wrong\r\n" * 2)
    reader.sendall(b"a LOGIN alice phone-secret\r\nb SELECT INBOX\r\nc FETCH 2 BODY.PEEK[]\r\n")
    reader.recv(1)
    while b"NO" not in guesser.recv(10_000):
        pass
    begun = time.monotonic()
    service.stop()
    assert time.monotonic() - begun < 8
    guesser.close()
    reader.close()


def test_saved_results_of_esearch(home):
    answers = home.pipe(
        "printf 'a SELECT INBOX\\r\\nb SEARCH RETURN (SAVE) ALL\\r\\n"
        "c ESEARCH IN (selected) RETURN (SAVE COUNT) SUBJECT none\\r\\nd FETCH $ (UID)\\r\\n' | cspool-imapd --preauth"
    )
    assert b"* 1 FETCH" not in answers and b"d OK" in answers


def test_what_the_check_stops_is_not_sent_later():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours.fileno(), ours.fileno(), 10)

        def check():
            connection.check = None
            raise Closed("no")

        connection.write(b"mail")
        connection.check = check
        with pytest.raises(Closed):
            connection.flush()
        connection.write(b"BYE")
        connection.flush()
        assert theirs.recv(100) == b"BYE"

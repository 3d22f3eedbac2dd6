"""Signed mail is verified after the whole way: sealed, imported or appended, checkpoint, another machine, export."""

import io
import shutil
import subprocess

import pytest
from cspool.database import content, schema
from cspool.export import octets_of
from test_corpus import PipeClient

COUNT = 40
FIELDS = "From: alice@example.org\nTo: bob@example.org\nSubject: {}\nDate: Fri, 27 Nov 2026 10:00:00 +0000\n"
BODIES = [
    "Plain.\n",
    "From here on\n>From there\n\nFrom the end\n",
    "Blanks at the end   \n\t\n\n\n",
    "No line end",
    "8 bit: grüße 会議\n",
    ".\n..\n.\n",
    "A line of a thousand: " + "x" * 1000 + "\n",
    "-- \nA signature\n--\n--x\n",
]


def run(*command, octets=b"", **more):
    done = subprocess.run([str(word) for word in command], input=octets, capture_output=True, check=False, **more)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """Return the messages, with LF line ends, and the function that verifies one."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    directory = tmp_path_factory.mktemp("signer")
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    subject = ["-subj", "/CN=alice@example.org", "-days", "30"]
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *subject)

    def sign(number):
        kind = ["text/plain; charset=utf-8", "text/html", "application/octet-stream"][number % 3]
        body = f"Content-Type: {kind}\n\n{number}\n{BODIES[number % len(BODIES)]}"
        made = run("openssl", "smime", "-sign", "-signer", certificate, "-inkey", key, octets=body.encode())
        return FIELDS.format(number).encode() + made.replace(b"\r\n", b"\n")

    def verify(octets):
        run("openssl", "smime", "-verify", "-noverify", "-CAfile", certificate, octets=octets)

    return [sign(number) for number in range(COUNT)], verify


def test_signatures(tmp_path, signed, monkeypatch):
    messages, verify = signed
    for octets in messages:
        verify(octets)
    with pytest.raises(AssertionError):
        verify(messages[0].replace(b"Plain", b"plain"))
    home = tmp_path / "home"
    home.mkdir()
    spool, key = tmp_path / "spool", home / "key"
    monkeypatch.setenv("CSPOOL_HOME", str(home))
    run("cspool-keygen", key)
    run("cspool-mkspool", spool)
    (home / "spool").write_text(f"{spool}\n")
    seal = ["cspool-seal", f"--from={key}", f"--to={key}.pub"]
    box = io.BytesIO()
    for octets in messages[:20]:
        quoted = b"".join(
            b">" * line.lstrip(b">").startswith(b"From ") + line for line in octets.splitlines(keepends=True)
        )
        box.write(b"From alice@example.org Fri Nov 27 10:00:00 2026\n" + quoted + b"\n")
    streams = [run(*seal, "--mbox", octets=box.getvalue())] + [run(*seal, octets=octets) for octets in messages[20:30]]
    for stream in streams:
        run("cspool-append", octets=stream)
    run("cspool-sync", "--quiet")
    client = PipeClient("cspool-imapd --preauth", ssl=False, stream=True)
    for octets in messages[30:]:
        client.append("INBOX", octets.replace(b"\n", b"\r\n"))
    client.logout()
    run("cspool-sync", "--quiet")
    run("cspool-compact", octets=run("cspool-checkpoint"))
    run("cspool-apply", f"--db={home}/new.db", octets=run("cspool-fetch", "--after=0"))
    with schema.opened(str(home / "new.db")) as db:
        keys = [one for (one,) in db.execute("SELECT content FROM message ORDER BY key")]
        found = [content.octets_of(db, one) for one in keys]
        assert sorted(octets.replace(b"\r\n", b"\n") for octets in found) == sorted(messages)
        assert sorted(octets_of(db, one) for one in keys) == sorted(messages)
    for octets in found:
        verify(octets)
    run("cspool-export", f"--db={home}/new.db", f"--maildir={tmp_path}/exported")
    files = [path for path in (tmp_path / "exported").rglob("*") if path.parent.name in ("new", "cur")]
    assert len(files) == COUNT
    for path in files:
        verify(path.read_bytes())

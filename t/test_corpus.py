"""Real mail goes through the whole pipeline to two clients, unchanged."""

import contextlib

import pytest
from cspool import frame
from cspool.mail.lines import canonical
from cspool.octets import without_envelope
from imapclient import IMAPClient
from imapclient.response_types import BodyData


class PipeClient(IMAPClient):
    def _set_read_timeout(self):
        """Do nothing: a pipe has no timeout."""


@contextlib.contextmanager
def imap(home, mailbox="INBOX"):
    """An independent IMAP client, which starts cspool-imapd, and ends it with the connection."""
    client = PipeClient(f"env CSPOOL_HOME={home.path} cspool-imapd --preauth", ssl=False, stream=True)
    try:
        client.select_folder(mailbox)
        yield client
    finally:
        client.logout()


def bodies(client):
    fetched = client.fetch(client.search(), ["BODY.PEEK[]", "RFC822.SIZE"])
    return {uid: (one[b"BODY[]"], one[b"RFC822.SIZE"]) for uid, one in fetched.items()}


@pytest.fixture
def delivered(homes, corpus):
    """The corpus, delivered: five messages one by one, as a mail server does it, and the rest as one stream."""
    host = homes["mailhost"]
    for file in corpus[:5]:
        host.pipe("cspool-seal | cspool-append", file.read_bytes())
    seal_in_bulk(host, corpus[5:])
    return corpus


def seal_in_bulk(host, files):
    """Do as cspool-seal does, without a process for each message."""
    from cspool import command, keys, record

    sender = keys.read_secret(f"{host.path}/key", None)
    recipient = keys.read_public(f"{host.path}/recipient")
    frames = [
        frame.encode(record.seal(command.deliver(without_envelope(file.read_bytes()), 0), sender, recipient))
        for file in files
    ]
    host.pipe("cspool-append", b"".join(frames) + frame.encode_end(len(frames)))


def test_every_message_comes_back_octet_for_octet(homes, delivered):
    expected = {canonical(without_envelope(file.read_bytes())) for file in delivered}
    for name in ("laptop", "desktop"):
        homes[name].pipe("cspool-fetch | cspool-apply")
        with imap(homes[name]) as client:
            got = bodies(client)
            assert {octets for octets, _ in got.values()} == expected
            assert all(len(octets) == size for octets, size in got.values())
            assert len(got) == len(expected)
            # An independent parser understands the answers about each message.
            parsed = client.fetch(client.search(), ["ENVELOPE", "BODYSTRUCTURE", "BODY", "INTERNALDATE"])
            assert len(parsed) == len(got)
            assert all(one[b"ENVELOPE"] and one[b"BODYSTRUCTURE"] and one[b"BODY"] for one in parsed.values())


def test_every_part_is_where_bodystructure_says(homes, delivered):
    homes["laptop"].pipe("cspool-fetch | cspool-apply")
    with imap(homes["laptop"]) as client:
        structures = client.fetch(client.search(), ["BODYSTRUCTURE"])
        for uid, one in structures.items():
            for number, size in leaves(one[b"BODYSTRUCTURE"], ""):
                section = f"BODY[{number}]".encode()
                fetched = client.fetch([uid], [f"BODY.PEEK[{number}]"])[uid][section]
                assert len(fetched or b"") == size, (uid, number)


def leaves(structure, number):
    """Yield the number and the size in octets of each part that has no parts of its own."""
    if isinstance(structure[0], list):
        for place, part in enumerate(structure[0], 1):
            yield from leaves(part, f"{number}.{place}" if number else f"{place}")
    elif structure[0].lower() == b"message" and structure[1].lower() == b"rfc822":
        yield number or "1", structure[6]
        inner = BodyData.create(structure[8])
        own = number or "1"
        yield from leaves(inner, own if isinstance(inner[0], list) else f"{own}.1")
    else:
        yield number or "1", structure[6]


def test_a_flag_set_in_one_client_shows_up_in_another(homes, delivered):
    for name in ("laptop", "desktop"):
        homes[name].pipe("cspool-fetch | cspool-apply")
    with imap(homes["laptop"]) as client:
        client.add_flags([*range(1, 11)], [b"\\Flagged", b"$Important"])
        client.delete_messages([11])
        client.expunge()
    homes["laptop"].pipe("cspool-outbox | cspool-append && cspool-fetch | cspool-apply")
    homes["desktop"].pipe("cspool-fetch | cspool-apply")
    told = []
    for name in ("laptop", "desktop"):
        with imap(homes[name]) as client:
            flags = client.fetch(client.search(), ["FLAGS"])
            told.append([set(one[b"FLAGS"]) - {b"\\Recent"} for one in flags.values()])
    assert told[0] == told[1]
    assert told[0][:10] == [{b"\\Flagged", b"$Important"}] * 10
    assert len(told[0]) == len({canonical(without_envelope(f.read_bytes())) for f in delivered}) - 1

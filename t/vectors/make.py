"""Make the test vectors in this directory anew (README says what they are).

Sealing is random, so every run gives other records: run it only when a format
changes, and read what changed.
"""

import io
import shutil
import struct
import sys
import tempfile
from pathlib import Path

here = Path(__file__).resolve().parent
sys.path.insert(0, str(here.parent.parent / "lib"))

from cspool import command, frame, keys, record
from cspool.database import checkpoint, digest, outbox, schema, seen, view
from cspool.database.replay import Replay
from cspool.spool import append
from cspool.spool.batch import Records
from cspool.spool.compact import Compaction, Keep

PASSPHRASE = b"correct horse battery staple"
SPOOL = bytes(15) + b"\1"
MESSAGE = b"From: bob@example.org\r\nSubject: vector\r\n\r\nThe quick brown fox.\r\n"

alice = keys.SecretKey(bytes(range(32)), "alice@laptop")
host = keys.SecretKey(bytes(range(32, 64)), "mail@example.org")
stranger = keys.SecretKey(bytes(range(64, 96)))


def write(name: str, octets: bytes) -> None:
    path = here / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(octets)


def make_keys() -> None:
    write("keys/alice", (keys.secret_line(bytes(range(32)), "alice@laptop") + "\n").encode())
    write("keys/alice.pub", (alice.public.line() + "\n").encode())
    write("keys/alice-locked", (keys.secret_line(bytes(range(32)), "alice@laptop", PASSPHRASE) + "\n").encode())
    write("keys/host", (keys.secret_line(bytes(range(32, 64)), "mail@example.org") + "\n").encode())
    write("keys/host.pub", (host.public.line() + "\n").encode())
    line = alice.public.line()
    write("keys/mistyped.pub", line.replace(line[20], "A" if line[20] != "A" else "B", 1).encode())


def sealed(plaintext: bytes, version: int = record.VERSION) -> bytes:
    return bytes([version]) + alice.public.seal(plaintext + bytes(record.padded(len(plaintext)) - len(plaintext)))


def make_records() -> None:
    deliver = command.deliver(MESSAGE, 1795507200)
    long = command.deliver(MESSAGE + b"The lazy dog.\r\n" * 500, 1795507200, "Lists/Ünïcode")
    change = command.encode(
        {
            "command": "change",
            "spool": "00" * 15 + "01",
            "device": "d0" * 16,
            "counter": 1,
            "previous": "00" * 32,
            "number": 1,
            "chain": "cc" * 32,
            "digest": "dd" * 32,
            "changes": [
                {"do": "add-flags", "flags": ["\\Seen", "$Forwarded"], "ids": "1d" * 16 + "2d" * 16},
                {"do": "append", "mailbox": "00" * 16, "flags": [], "date": 1795507200, "size": len(MESSAGE),
                 "nonce": "0e" * 16},
            ],
        },
        MESSAGE,
    )  # fmt: skip
    for name, body, sender in (("deliver", deliver, host), ("deflated", long, host), ("change", change, alice)):
        write(f"records/{name}.body", body)
        write(f"records/{name}", record.seal(body, sender, alice.public))
    plaintext = alice.open((here / "records/deliver").read_bytes()[1:])
    write("records/bad-version", sealed(plaintext, 2))
    write("records/bad-box", (here / "records/deliver").read_bytes()[:-1] + b"\0")
    write("records/bad-recipient", record.seal(deliver, host, stranger.public))
    write("records/bad-signature", sealed(alice.public.sign + plaintext[32:]))
    write("records/bad-flags", sealed(plaintext[:96] + b"\2" + plaintext[97:]))
    write("records/bad-length", sealed(plaintext[:97] + struct.pack(">I", 5000) + plaintext[101:]))
    write("records/bad-deflate", sealed(plaintext[:96] + b"\1" + plaintext[97:]))
    forwarded = stranger.open((here / "records/bad-recipient").read_bytes()[1:])
    write("records/bad-forwarded", sealed(forwarded))


def make_commands() -> None:
    """Bodies, and what a reader does with each in the spool 00...01, after a change that trusts the host.

    A name that begins with host- is for one that the host has signed; all
    others are the user's.
    """
    shutil.rmtree(here / "commands", ignore_errors=True)
    device = (
        '"spool":"'
        + SPOOL.hex()
        + '","device":"'
        + "d0" * 16
        + '","counter":1,"previous":"'
        + "00" * 32
        + '","number":0,'
        '"chain":"' + frame.first_chain(SPOOL).hex() + '"'
    )
    inbox, nonce, key, user = "00" * 16, "0e" * 16, host.public.sign.hex(), alice.public

    def deliver(fields: str, octets: bytes = MESSAGE) -> bytes:
        return ('{"command":"deliver"' + fields + "}\n").encode("utf-8", "surrogatepass") + octets

    def change(*rows: str, octets: bytes = b"") -> bytes:
        return ('{"command":"change",' + device + ',"changes":[' + ",".join(rows) + "]}\n").encode() + octets

    def append(size: int, flags: str = "") -> str:
        return f'{{"do":"append","mailbox":"{inbox}","flags":[{flags}],"date":1,"size":{size},"nonce":"{nonce}"}}'

    beginning = digest.of(
        [
            digest.row("user", user.sign),
            digest.row("mailbox", bytes(16), "INBOX", "", None),
            digest.row("subscribed", "INBOX"),
        ]
    ).hex()

    def with_digest(value: str) -> bytes:
        return change().replace(b',"changes"', f',"digest":{value},"changes"'.encode())

    taken = {
        "change-digest": with_digest(f'"{beginning}"'),
        "deliver": deliver(',"date":1'),
        "deliver-sealed": deliver(',"date":1,"sealed":253402128000'),
        "deliver-last-date": deliver(',"date":253402128000'),
        "deliver-other-order": b'{"date":1,"command":"deliver"}\n' + MESSAGE,
        "deliver-mailbox": deliver(',"date":1,"mailbox":"inBOX/\u2028ä","flags":["\\\\Seen","$x"]'),
        "host-deliver": deliver(',"date":1,"flags":["\\\\Seen"]'),
        "change-of-nothing": change(),
        "append": change(append(1), octets=b"x"),
        "append-two": change(append(2), append(1), octets=b"xyz"),
        "create-use": change(f'{{"do":"create","name":"Old","nonce":"{nonce}","use":"\\\\Archive \\\\Sent"}}'),
        "create-decomposed": change(f'{{"do":"create","name":"Entwu\u0308rfe","nonce":"{nonce}"}}'),
        "expunge-none": change('{"do":"expunge","ids":""}'),
        "expunge-unknown": change(f'{{"do":"expunge","ids":"{nonce}"}}'),
        "rename-inbox": change(f'{{"do":"rename","mailbox":"{inbox}","name":"x"}}'),
        "metadata": change(f'{{"do":"set-metadata","mailbox":"{inbox}","entry":"/shared/a b","value":"00ff"}}'),
        "metadata-empty": change('{"do":"set-metadata","entry":"/private/comment","value":""}'),
        "metadata-none": change(f'{{"do":"set-metadata","mailbox":"{nonce}","entry":"/private/comment"}}'),
        "metadata-longest": change('{"do":"set-metadata","entry":"/private/x","value":"' + "00" * 65536 + '"}'),
        "trust-again": change(f'{{"do":"trust","key":"{key}","comment":""}}'),
        "user-key-same": change(f'{{"do":"user-key","sign":"{user.sign.hex()}","box":"{user.box.hex()}"}}'),
        "discard-itself": change('{"do":"discard","numbers":[2,9223372036854775807]}'),
        "checkpoint-part": ('{"command":"checkpoint-part","spool":"' + SPOOL.hex() + '"}\nx').encode(),
        "counter-0": change().replace(b'"counter":1', b'"counter":0'),
    }
    aside = {
        "no-line": MESSAGE[:5],
        "no-object": b"[]\n",
        "no-command": b"{}\n",
        "byte-order-mark": "\ufeff".encode() + deliver(',"date":1'),
        "space": deliver(', "date":1'),
        "escape": deliver(',"date":1,"mailbox":"\\u0041"'),
        "escape-slash": deliver(',"date":1,"mailbox":"a\\/b"'),
        "surrogate": deliver(',"date":1,"mailbox":"\\ud800"'),
        "surrogate-in-utf-8": deliver(',"date":1,"mailbox":"\ud800"'),
        "float": deliver(',"date":1.0'),
        "exponent": deliver(',"date":1e3'),
        "negative": deliver(',"date":-0'),
        "leading-zero": deliver(',"date":01'),
        "too-large": deliver(',"date":9223372036854775808'),
        "nan": deliver(',"date":1,"x":NaN'),
        "field-twice": deliver(',"date":1,"date":1'),
        "too-deep": b'{"command":"future","x":[[[[]]]]}\n',
        "unknown-field": deliver(',"date":1,"x":1'),
        "null": deliver(',"date":1,"mailbox":null'),
        "true": deliver(',"date":true'),
        "deliver-no-date": deliver(""),
        "deliver-sealed-null": deliver(',"date":1,"sealed":null'),
        "deliver-no-octets": deliver(',"date":1', b""),
        "deliver-late": deliver(',"date":253402128001'),
        "deliver-long-line": deliver(',"date":1,"flags":[' + ",".join(['"a"'] * 20000) + "]"),
        "deliver-no-name": deliver(',"date":1,"mailbox":""'),
        "deliver-empty-level": deliver(',"date":1,"mailbox":"a//b"'),
        "deliver-dots": deliver(',"date":1,"mailbox":"a/.."'),
        "deliver-control": deliver(',"date":1,"mailbox":"a\x85"'),
        "deliver-long-name": deliver(',"date":1,"mailbox":"' + "ä" * 501 + '"'),
        "flag-case": deliver(',"date":1,"flags":["\\\\seen"]'),
        "flag-recent": deliver(',"date":1,"flags":["\\\\Recent"]'),
        "flag-bracket": deliver(',"date":1,"flags":["a]"]'),
        "flag-long": deliver(',"date":1,"flags":["' + "a" * 101 + '"]'),
        "host-flag-case": deliver(',"date":1,"flags":["\\\\seen"]'),
        "host-change": change(),
        "host-unknown-command": b'{"command":"future"}\n',
        "other-spool": change().replace(SPOOL.hex().encode(), b"ff" * 16),
        "upper-case-hex": change(f'{{"do":"expunge","ids":"{nonce.upper()}"}}'),
        "odd-ids": change('{"do":"expunge","ids":"00"}'),
        "octets-left-over": change(octets=b"x"),
        "octets-missing": change(append(2), octets=b"x"),
        "append-of-nothing": change(append(0)),
        "append-no-nonce": change(append(1).replace(f',"nonce":"{nonce}"', ""), octets=b"x"),
        "add-flags-no-flags": change('{"do":"add-flags","ids":""}'),
        "use-twice": change(f'{{"do":"create","name":"Old","nonce":"{nonce}","use":"\\\\Sent \\\\Sent"}}'),
        "use-two-spaces": change(f'{{"do":"create","name":"Old","nonce":"{nonce}","use":"\\\\Sent  \\\\Junk"}}'),
        "use-none": change(f'{{"do":"create","name":"Old","nonce":"{nonce}","use":""}}'),
        "metadata-entry": change('{"do":"set-metadata","entry":"/other/comment","value":""}'),
        "metadata-entry-case": change('{"do":"set-metadata","entry":"/private/Comment","value":""}'),
        "metadata-entry-end": change('{"do":"set-metadata","entry":"/private/comment/","value":""}'),
        "metadata-entry-short": change('{"do":"set-metadata","entry":"/private","value":""}'),
        "metadata-entry-star": change('{"do":"set-metadata","entry":"/private/*","value":""}'),
        "metadata-null": change('{"do":"set-metadata","entry":"/private/comment","value":null}'),
        "metadata-long": change('{"do":"set-metadata","entry":"/private/x","value":"' + "00" * 65537 + '"}'),
        "trust-no-comment": change(f'{{"do":"trust","key":"{key}"}}'),
        "user-key-two-keys": change(f'{{"do":"user-key","sign":"{user.sign.hex()}","box":"{host.public.box.hex()}"}}'),
        "digest-null": with_digest("null"),
        "digest-short": with_digest(f'"{beginning[:-2]}"'),
        "one-of-two-wrong": change('{"do":"subscribe","name":"x"}', '{"do":"subscribe"}'),
        "counter-skipped": change().replace(b'"counter":1', b'"counter":2'),
        "other-previous": change().replace(b'"previous":"00', b'"previous":"01'),
        "part-no-octets": ('{"command":"checkpoint-part","spool":"' + SPOOL.hex() + '"}\n').encode(),
    }
    stops = {
        "unknown-command": b'{"command":"future"}\n',
        "unknown-change": change('{"do":"future","x":[1]}'),
        "other-chain": change().replace(frame.first_chain(SPOOL).hex().encode(), b"00" * 32),
        "other-digest": with_digest('"' + "00" * 32 + '"'),
        "number-of-the-future": change().replace(b'"number":0', b'"number":2'),
        "user-key-unknown": change(f'{{"do":"user-key","sign":"{key}","box":"{host.public.box.hex()}"}}'),
    }
    for verdict, bodies in (("taken", taken), ("aside", aside), ("stops", stops)):
        for name, body in bodies.items():
            write(f"commands/{verdict}/{name}", body)


def make_streams() -> None:
    one = frame.encode(b"record one")
    write("streams/empty", frame.encode_end(0))
    write("streams/two", one + frame.encode(b"record two") + frame.encode_end(2))
    write("streams/cut-in-header", one[:20])
    write("streams/cut-in-record", one[:-1])
    write("streams/cut-before-end", one)
    write("streams/nothing", b"")
    write("streams/bad-crc", one[:-1] + b"X" + frame.encode_end(1))
    write("streams/bad-count", one + frame.encode_end(2))
    write("streams/bad-tail", one + frame.encode_end(1) + b"\n")
    write("streams/bad-length", struct.pack(">IIQ32s", frame.LIMIT + 1, 0, 0, bytes(32)))


def make_spool() -> None:
    path = here / "spool"
    shutil.rmtree(path, ignore_errors=True)
    append.create(str(path))
    made = append.Spool(str(path))
    deliver = command.deliver(MESSAGE, 1795507200)
    made.append([record.seal(deliver, host, alice.public), b"junk"])
    made.append([record.seal(command.deliver(MESSAGE, 0, "Drafts"), alice, alice.public)], rotate=1)
    head, frames = made.reader.frames(0)
    count = head.next
    write("streams/fetched", frame.encode_head(head.text()) + b"".join(frames) + frame.encode_end(count))
    chain, lines = frame.first_chain(head.spool), []
    for one in frame.read((here / "streams/fetched").open("rb")):
        if one.number != frame.HEAD_NUMBER:
            lines.append(f"{one.number} {one.chain.hex()}\n")
            chain = frame.next_chain(one.chain, one.number, one.record)
    write("spool-chain", "".join([*lines, f"{count} {chain.hex()}\n"]).encode())


def make_checkpoint() -> None:
    """A log with something of each kind in it, its state, the checkpoint, and what a new machine is given."""
    with tempfile.TemporaryDirectory() as directory:
        path = f"{directory}/spool"
        append.create(path)
        spool = append.Spool(path)
        db = schema.open_database(f"{directory}/mail.db", create=True)

        def log() -> bytes:
            head, octets = (reader := append.Spool(path).reader).frames(0)
            frames = b"".join(octets)
            return frame.encode_head(head.text()) + frames + frame.encode_end(reader.count + 1)

        def change(*rows: command.Fields, octets: bytes = b"") -> None:
            with schema.writing(db):
                view.change(db, list(rows), octets)
            spool.append([record.seal(body, alice, alice.public) for body in outbox.bodies(db)])
            fetch()

        def fetch() -> None:
            Replay(db, [alice]).run(frame.read(io.BytesIO(log())))

        fetch()
        change({"do": "trust", "key": host.public.sign.hex(), "comment": "mail@example.org"})
        for number in range(1, 4):
            deliver = command.deliver(
                MESSAGE + b"%d\r\n" % number, 1795507200, "Lists/Ünïcode" if number == 3 else None
            )
            spool.append([record.seal(deliver, host, alice.public)])
        spool.append([record.seal(command.deliver(MESSAGE, 0), stranger, alice.public), b"junk"])
        fetch()
        one, two = (command.delivery_id("INBOX", MESSAGE + b"%d\r\n" % number) for number in (1, 2))
        work, other = (command.create_id(bytes([n]) * 16, "Work") for n in (1, 2))
        change({"do": "create", "name": "Work", "nonce": "01" * 16, "use": "\\Archive"})
        change({"do": "create", "name": "Work", "nonce": "02" * 16})
        change({"do": "add-flags", "flags": ["\\Seen", "$Forwarded"], "ids": (one + two).hex()})
        change({"do": "copy", "ids": two.hex(), "mailbox": other.hex(), "nonce": "03" * 16})
        change({"do": "expunge", "ids": one.hex()})
        row = {"do": "append", "mailbox": work.hex(), "flags": [], "date": 1795507200, "size": len(MESSAGE)}
        change({**row, "nonce": "04" * 16}, {**row, "nonce": "05" * 16}, octets=MESSAGE * 2)
        change({"do": "subscribe", "name": "Work"})
        change({"do": "subscribe", "name": "Entwu\u0308rfe"})
        change({"do": "set-metadata", "mailbox": other.hex(), "entry": "/private/comment", "value": b"mine".hex()})
        change({"do": "set-metadata", "entry": "/shared/vendor/x", "value": ""})
        change({"do": "trust", "key": stranger.public.sign.hex(), "comment": "relay"})
        change({"do": "distrust", "key": stranger.public.sign.hex()})
        write("checkpoint/log", log())
        cursor = seen.cursor(db)
        write("checkpoint/state", b"".join(row + b"\n" for row in digest.state(db)))
        history = db.execute("SELECT number, digest FROM history ORDER BY number")
        write("checkpoint/digests", "".join(f"{number} {one.hex()}\n" for number, one in history).encode())
        assert cursor.spool and cursor.chain
        keep = Keep.of(cursor.spool, cursor.number, cursor.chain, checkpoint.kept(db))
        write("checkpoint/keep", keep.text())
        sealed = [frame.encode(record.seal(body, alice, alice.public)) for body in checkpoint.bodies(db)]
        stream = frame.encode_keep(keep.text()) + b"".join(sealed) + frame.encode_end(1 + len(sealed))
        write("checkpoint/stream", stream)
        spool.append([record.seal(command.deliver(MESSAGE + b"late\r\n", 1795507200), host, alice.public)])
        Compaction(path, keep, Records(io.BytesIO(stream), with_keep=True), 0).run()
        write("checkpoint/fetched", log())
        db.close()


if __name__ == "__main__":
    make_keys()
    make_records()
    make_commands()
    make_streams()
    make_spool()
    make_checkpoint()

"""Keys and records: only the right key opens a record, and a record cannot be changed, forwarded or forged."""

import struct
import zlib

import pytest
from cspool import disk, keys, record
from cspool.errors import BadConfig, DataError
from hypothesis import given
from hypothesis import strategies as st


@given(st.binary(max_size=5000))
def test_a_record_opens_to_what_was_sealed(body):
    alice, host = keys.SecretKey(b"a" * 32), keys.SecretKey(b"h" * 32)
    opened = record.open_with([alice], record.seal(body, host, alice.public))
    assert opened == (host.public.sign, body)


@given(st.integers(1, 2000), st.booleans())
def test_text_is_deflated_and_noise_is_not(words, text):
    body = (b"word " * words) if text else bytes(range(256)) * 8
    alice = keys.SecretKey(b"a" * 32)
    assert record.open_with([alice], record.seal(body, alice, alice.public)).body == body


def test_nobody_else_opens_it(alice, host):
    sealed = record.seal(b"body", host, alice.public)
    # The host has its own key and the record, but not the ephemeral secret key, which was thrown away.
    with pytest.raises(DataError, match="does not open"):
        record.open_with([host], sealed)


def test_a_record_cannot_be_forwarded(alice, host):
    """Alice opens a record and seals its plaintext to Bob. Bob sees that it was not for him."""
    bob = keys.SecretKey(b"b" * 32)
    plaintext = alice.open(record.seal(b"body", host, alice.public)[1:])
    forwarded = bytes([record.VERSION]) + bob.public.seal(plaintext)
    with pytest.raises(DataError, match="signature"):
        record.open_with([bob], forwarded)


def test_a_claimed_sender_is_not_believed(alice, host):
    plaintext = alice.open(record.seal(b"body", host, alice.public)[1:])
    forged = bytes([1]) + alice.public.seal(alice.public.sign + plaintext[32:])
    with pytest.raises(DataError, match="signature"):
        record.open_with([alice], forged)


@given(st.data())
def test_a_changed_octet_is_seen(data):
    alice = keys.SecretKey(b"a" * 32)
    sealed = bytearray(record.seal(b"body", alice, alice.public))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(DataError):
        record.open_with([alice], bytes(sealed))


@given(st.binary(max_size=200))
def test_garbage_inside_is_refused(plaintext):
    alice = keys.SecretKey(b"a" * 32)
    with pytest.raises(DataError):
        record.open_with([alice], bytes([1]) + alice.public.seal(plaintext))


def test_a_bomb_does_not_go_off(alice):
    bomb = zlib.compress(bytes(2 << 20))
    plaintext = struct.pack(">32s64sBI", alice.public.sign, bytes(64), 1, len(bomb)) + bomb
    box = record.open_box([alice], bytes([1]) + alice.public.seal(plaintext))
    with pytest.raises(DataError, match="longer than the 1048576 octets"):
        record.body_of(box, 1 << 20)


@pytest.mark.parametrize("sealed", [b"", b"\1", b"\2" + bytes(2000), b"\1" + bytes(2000)])
def test_what_is_no_record(alice, sealed):
    with pytest.raises(DataError):
        record.open_with([alice], sealed)


@given(st.integers(0, 1 << 26))
def test_padding_is_small_and_coarse(length):
    padded = record.padded(length)
    assert padded >= max(length, 1024)
    assert padded <= max(1024, length * 1.12)
    assert record.padded(padded) == padded


def test_few_lengths_are_left():
    assert len({record.padded(length) for length in range(100_000)}) < 150


# Key files


@given(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")))
def test_a_public_key_file_is_read_as_it_was_written(tmp_path_factory, comment):
    path = tmp_path_factory.mktemp("key") / "key.pub"
    key = keys.SecretKey(b"a" * 32, " ".join(comment.split())).public
    path.write_text(key.line() + "\n", encoding="utf-8")
    assert keys.read_public(str(path)) == key


@given(st.binary(max_size=300))
def test_garbage_is_no_key(tmp_path_factory, octets):
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_bytes(octets)
    path.chmod(0o600)
    with pytest.raises(BadConfig):
        keys.read_public(str(path))
    with pytest.raises(BadConfig):
        keys.read_secret(str(path), lambda _: b"")


def test_a_mistyped_key_is_no_key(tmp_path, alice):
    line = alice.public.line()
    for place in range(len("cspool-key-1 "), line.rindex(" ") - 1):
        typo = line[:place] + ("A" if line[place] != "A" else "B") + line[place + 1 :]
        (tmp_path / "key").write_text(typo)
        with pytest.raises(BadConfig):
            keys.read_public(str(tmp_path / "key"))


def test_a_locked_key(tmp_path):
    path = tmp_path / "key"
    disk.create(str(path), keys.secret_line(b"s" * 32, "x", b"passphrase").encode(), 0o600)
    assert keys.read_secret(str(path), lambda _: b"passphrase").public == keys.SecretKey(b"s" * 32, "x").public
    with pytest.raises(BadConfig, match="wrong passphrase"):
        keys.read_secret(str(path), lambda _: b"Passphrase")


def test_passwords():
    hashed = keys.hash_password(b"secret")
    assert keys.check_password(hashed, b"secret")
    assert not keys.check_password(hashed, b"Secret")
    assert not keys.check_password("nonsense", b"secret")

"""An attack that opened the mail of the first cspool, with the mail host's secret key and a copy of the spool.

That version sealed with a static key at both ends, so either of the two secret
keys could open the mail. The attack below opens such mail, but no record.
"""

import hashlib

import pytest
from cspool import command, keys, record
from nacl.bindings import crypto_box_beforenm, crypto_scalarmult
from nacl.exceptions import CryptoError
from nacl.public import Box, PrivateKey, PublicKey, SealedBox
from nacl.secret import SecretBox

SEED = b"h" * 32
SECRET = b"Subject: nobody else's business\n\n"


def secrets_of_the_host(seed):
    """Return the seed in the host's key file and the secret keys that cspool derives from it."""
    persons = (b"cspool x25519", b"cspool ed25519")
    return [seed, *(hashlib.blake2b(seed, digest_size=32, person=person).digest() for person in persons)]


def attack(sealed, secrets, recipient):
    """Try all ways to open a box with these secrets and the recipient's public key; return all that they open."""
    found = []
    for secret in secrets:
        mine = PrivateKey(secret)
        shared = crypto_box_beforenm(recipient, secret)
        openers = [
            SealedBox(mine).decrypt,
            Box(mine, PublicKey(recipient)).decrypt,
            Box(mine, mine.public_key).decrypt,
            SecretBox(secret).decrypt,
            SecretBox(shared).decrypt,
            SecretBox(crypto_scalarmult(secret, recipient)).decrypt,
            Box(mine, PublicKey(sealed[:32])).decrypt,  # a sealed box begins with a public key
        ]
        for opener in openers:
            for octets in (sealed, sealed[32:], sealed[24:], bytes(24) + sealed):
                try:
                    found.append(opener(octets))
                except (CryptoError, ValueError, TypeError):
                    continue
    return b"".join(found)


@pytest.fixture
def host():
    return keys.SecretKey(SEED)


def test_the_attack_opens_what_the_first_cspool_sealed(alice, host):
    box = secrets_of_the_host(SEED)[1]
    assert bytes(PrivateKey(box).public_key) == host.public.box
    sealed = Box(PrivateKey(box), PublicKey(alice.public.box)).encrypt(SECRET)
    assert SECRET in attack(sealed, secrets_of_the_host(SEED), alice.public.box)


def test_it_opens_no_record(alice, host):
    sealed = record.seal(command.encode({"command": "deliver", "date": 0}, SECRET), host, alice.public)
    assert attack(sealed[1:], secrets_of_the_host(SEED), alice.public.box) == b""
    assert SECRET in record.open_with([alice], sealed).body


def test_nor_does_it_sign_as_the_user(alice, host):
    """The attacker can sign with the host's key only, and the fold distinguishes it from the user's."""
    sealed = record.seal(command.encode({"command": "deliver", "date": 0}, b"x"), host, alice.public)
    assert record.open_with([alice], sealed).sender == host.public.sign != alice.public.sign

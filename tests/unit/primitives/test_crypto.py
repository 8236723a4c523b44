"""Ed25519 against the vectors of RFC 8032 section 7.1, and digests that cannot be confused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.primitives.crypto import Ed25519Signer, Ed25519Verifier, digest
from consensus.primitives.errors import SignatureError

# RFC 8032, section 7.1: secret, public, message, signature
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_signatures_match_the_published_vectors(secret, public, message, signature):
    signer = Ed25519Signer(bytes.fromhex(secret))
    assert signer.public_key.hex() == public
    assert signer.sign(bytes.fromhex(message)).hex() == signature
    Ed25519Verifier().verify(bytes.fromhex(public), bytes.fromhex(message), bytes.fromhex(signature))


@given(st.integers(0, 511), st.binary(max_size=40))
def test_one_changed_bit_breaks_a_signature(bit, message):
    signer = Ed25519Signer(bytes(range(32)))
    signature = bytearray(signer.sign(message))
    signature[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(SignatureError):
        Ed25519Verifier().verify(signer.public_key, message, bytes(signature))


@pytest.mark.parametrize(
    ("key", "signature"), [(b"", bytes(64)), (bytes(32), b""), (bytes(33), bytes(64)), (bytes(32), bytes(64))]
)
def test_malformed_keys_and_signatures_are_refused(key, signature):
    with pytest.raises(SignatureError):
        Ed25519Verifier().verify(key, b"message", signature)


@given(st.lists(st.binary(max_size=5), max_size=4), st.lists(st.binary(max_size=5), max_size=4))
def test_two_lists_of_parts_share_a_digest_only_if_equal(left, right):
    assert (digest("test", *left) == digest("test", *right)) == (left == right)


def test_domains_separate():
    assert digest("a", b"x") != digest("b", b"x") != digest("bb", b"x")

"""Domain-separated digests and Ed25519 signatures.

Signers and verifiers are protocols, so that the simulator can swap in a cheap keyed hash and a
node can swap in a verifier that remembers what its worker threads already checked.
"""

from typing import Protocol

from blake3 import blake3
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from consensus.primitives.errors import SignatureError

DIGEST_SIZE = 32
PUBLIC_KEY_SIZE = 32
SIGNATURE_SIZE = 64
ZERO_DIGEST = bytes(DIGEST_SIZE)


def digest(domain: str, *parts: bytes | memoryview) -> bytes:
    """Return the 32-byte blake3 digest of `parts` under `domain`.

    Every part is preceded by its length, so no two lists of parts share an input.
    """
    name = domain.encode()
    pieces: list[bytes | memoryview] = [len(name).to_bytes(1, "little"), name]
    for part in parts:
        pieces += (len(part).to_bytes(8, "little"), part)
    # Joined first: a copy is cheap, and blake3 hashes one long input twice as fast as uneven pieces.
    return blake3(b"".join(pieces)).digest()


class Signer(Protocol):
    """Holds one private key."""

    @property
    def public_key(self) -> bytes: ...

    def sign(self, message: bytes) -> bytes: ...


class Verifier(Protocol):
    """Checks signatures; raises `SignatureError`, so a forgotten result cannot pass a bad one."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None: ...


class Ed25519Signer:
    """RFC 8032 Ed25519 by libsodium. `seed` is 32 secret bytes."""

    def __init__(self, seed: bytes) -> None:
        self._key = SigningKey(seed)
        self._public_key = bytes(self._key.verify_key)

    @property
    def public_key(self) -> bytes:
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        return self._key.sign(message).signature


class Ed25519Verifier:
    """RFC 8032 Ed25519 by libsodium; releases the GIL while it computes."""

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        if len(public_key) != PUBLIC_KEY_SIZE or len(signature) != SIGNATURE_SIZE:
            raise SignatureError(
                f"key of {len(public_key)} and signature of {len(signature)} bytes; need 32 and 64"
            )
        try:
            VerifyKey(public_key).verify(message, signature)
        except (BadSignatureError, ValueError, TypeError) as error:
            raise SignatureError(f"signature by {public_key.hex()[:16]} does not match") from error

"""Cheap stand-ins for Ed25519: a keyed hash, unforgeable by whoever holds only other keys.

The registry of secrets plays the part of mathematics: a verifier may look a secret up, a signer
holds just its own. About forty times faster than libsodium, which is what lets one core simulate
minutes of a cluster in a second.
"""

from functools import lru_cache
from hashlib import blake2b

from consensus.primitives.crypto import SIGNATURE_SIZE, digest
from consensus.primitives.errors import SignatureError


@lru_cache(maxsize=1 << 14)  # made once, checked by every replica
def _sign(secret: bytes, message: bytes) -> bytes:
    return blake2b(message, key=secret, digest_size=SIGNATURE_SIZE).digest()


class SimSigner:
    """Holds one secret of 32 bytes."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._public_key = digest("kontor.sim-key", secret)

    @property
    def public_key(self) -> bytes:
        return self._public_key

    def sign(self, message: bytes) -> bytes:
        return _sign(self._secret, message)

    def sign_vote(self, kind: str, epoch: int, view: int, seq: int, body: bytes, message: bytes) -> bytes:
        """Sign whatever is asked: the signer of a liar, or of a replica whose own log is under test."""
        return self.sign(message)


class SimKeyring:
    """Makes every replica's key from the run's seed; is the verifier of all of them."""

    def __init__(self, seed: int, count: int) -> None:
        self._secrets: dict[bytes, bytes] = {}
        self.signers: list[SimSigner] = []
        for index in range(count):
            secret = digest("kontor.sim-secret", seed.to_bytes(8, "little"), index.to_bytes(8, "little"))
            signer = SimSigner(secret)
            self._secrets[signer.public_key] = secret
            self.signers.append(signer)

    @property
    def public_keys(self) -> tuple[bytes, ...]:
        return tuple(signer.public_key for signer in self.signers)

    def verify(self, public_key: bytes, message: bytes, signature: bytes) -> None:
        """Raise `SignatureError` unless the owner of `public_key` signed exactly `message`."""
        secret = self._secrets.get(public_key)
        if secret is None or _sign(secret, message) != signature:
            raise SignatureError(f"signature by {public_key.hex()[:16]} does not match")

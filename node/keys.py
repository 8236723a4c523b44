"""A node's keys on disk, and other secret seeds.

A node has two identities: an Ed25519 seed that signs votes, and a TLS key with a self-signed
certificate that others pin. Both are written once with mode 0600 and never overwritten: a
validator that lost its key is a new validator, and one that runs with the key of another would
sign conflicting votes.
"""

import datetime
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from consensus.primitives.crypto import Ed25519Signer
from consensus.primitives.errors import ConfigError

SEED_SIZE = 32
# RFC 5280, section 4.1.2.5: a certificate without a well-defined end. It is pinned, so what ends
# its use is a new network file, and no link may die on a date nobody remembers.
_NO_EXPIRY = datetime.datetime(9999, 12, 31, 23, 59, 59)
_NOT_BEFORE = datetime.datetime(2020, 1, 1)
_LOST = "restore it from a backup; without one, `kontor recover` makes this node a new validator"


def new_seed() -> bytes:
    """32 fresh secret bytes from the operating system."""
    return os.urandom(SEED_SIZE)


def new_signer() -> tuple[bytes, bytes]:
    """A fresh seed, and its public key."""
    seed = new_seed()
    return seed, Ed25519Signer(seed).public_key


def write_seed(path: Path, seed: bytes) -> None:
    """Write a secret seed as hex with mode 0600. Refuses to overwrite."""
    _write_new(path, seed.hex().encode() + b"\n", 0o600)


def load_signer(path: Path) -> Ed25519Signer:
    """Load the seed at `path`. Raises `ConfigError` if it is missing, damaged, or readable by others."""
    text = _read_secret(path).strip()
    try:
        seed = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        seed = b""
    if len(seed) != SEED_SIZE:
        raise ConfigError(f"{path} is not a seed of {2 * SEED_SIZE} hex digits: restore it from a backup")
    return Ed25519Signer(seed)


@dataclass(frozen=True)
class TlsIdentity:
    """A TLS key and its self-signed certificate, not on disk yet. The key is secret."""

    key_pem: bytes = field(repr=False)
    certificate_pem: bytes
    certificate: bytes  # DER

    def write(self, key_path: Path, certificate_path: Path) -> None:
        """Write both. Refuses to overwrite."""
        _write_new(key_path, self.key_pem, 0o600)
        _write_new(certificate_path, self.certificate_pem, 0o644)


def new_tls_identity(name: str) -> TlsIdentity:
    """Make a TLS key and its self-signed certificate for `name`."""
    key = Ed25519PrivateKey.generate()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NO_EXPIRY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, None)
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return TlsIdentity(
        pem,
        certificate.public_bytes(serialization.Encoding.PEM),
        certificate.public_bytes(serialization.Encoding.DER),
    )


def write_tls_identity(key_path: Path, certificate_path: Path, name: str) -> bytes:
    """Make a TLS identity for `name` and write it; return the certificate as DER."""
    identity = new_tls_identity(name)
    identity.write(key_path, certificate_path)
    return identity.certificate


def load_certificate(path: Path) -> bytes:
    """Load a PEM certificate and return it as DER."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist: {_LOST}") from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} is not a readable PEM certificate ({error}): restore it from a backup"
        ) from error
    return certificate.public_bytes(serialization.Encoding.DER)


def check_secret(path: Path) -> None:
    """Raise `ConfigError` unless the secret at `path` exists and only its owner may read it."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise ConfigError(f"{path} does not exist: {_LOST}") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): run as its owner") from error
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise ConfigError(
            f"{path} has mode {stat.S_IMODE(mode):04o}, so others can read it: chmod 600 {path}"
        )


def _read_secret(path: Path) -> bytes:
    check_secret(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): run as its owner") from error


def _write_new(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise ConfigError(
            f"{path} exists and keys are never overwritten: choose another directory"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written ({error.strerror}): check the directory's owner"
        ) from error
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

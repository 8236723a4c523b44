"""TLS contexts: version 1.3 only, and every certificate pinned to what the ledger says of its validator.

There is no certificate authority and no host name to trust. Links between nodes are mutually
authenticated: each side shows its own certificate, and `peer_id` says whose it is. Client links
authenticate the node only; clients prove themselves by signing their envelopes.
"""

import ssl
from collections.abc import Iterable, Mapping

from consensus.primitives.errors import ConfigError, ProtocolError
from node.config import Home
from node.keys import check_secret


def peer_context(home: Home, certificates: Iterable[bytes], server_side: bool) -> ssl.SSLContext:
    """Context for links between validators that show these certificates (DER), dialled or accepted."""
    context = _context(server_side, certificates)
    context.verify_mode = ssl.CERT_REQUIRED
    _load_identity(context, home)
    return context


def ingress_context(home: Home) -> ssl.SSLContext:
    """Context for the port that clients connect to."""
    context = _context(True, ())
    _load_identity(context, home)
    return context


def client_context(certificate: bytes) -> ssl.SSLContext:
    """Context for a client that trusts one node's certificate (DER) alone; the link compares it, too. Without
    one, for a link to anybody, of whom only what proves itself is believed."""
    context = _context(False, (certificate,) if certificate else ())
    if not certificate:
        context.verify_mode = ssl.CERT_NONE
    return context


def peer_id(certificate: bytes | None, certificates: Mapping[int, bytes]) -> int:
    """Which validator shows this certificate. Raises `ProtocolError` for nobody's."""
    for validator, known in certificates.items():
        if certificate == known:
            return validator
    raise ProtocolError("the certificate belongs to no present validator")


def _context(server_side: bool, trusted: Iterable[bytes]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    # Each certificate is trusted for itself: one that bears another's name must not stand in its way.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for certificate in trusted:
        context.load_verify_locations(cadata=certificate)
    if server_side:
        context.num_tickets = 0  # no session resumption: every link proves its certificate anew
    return context


def _load_identity(context: ssl.SSLContext, home: Home) -> None:
    check_secret(home.tls_key)
    try:
        context.load_cert_chain(home.tls_certificate, home.tls_key)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(
            f"{home.tls_certificate} and {home.tls_key} do not fit together ({error}):"
            " restore both from a backup"
        ) from error

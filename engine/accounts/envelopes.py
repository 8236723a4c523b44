"""Whether an envelope counts."""

from consensus.primitives.crypto import Verifier
from engine.accounts.nonces import check_nonce
from engine.envelope import Envelope
from engine.layout import NONE
from engine.records import Code
from engine.state import State


def check_envelope(
    state: State, envelope: Envelope, chain_id: bytes, time_ms: int, verdict: bool | None, verifier: Verifier
) -> Code:
    """Say whether an envelope counts; writes nothing. Cheap refusals come before the signature.

    `verdict` is what a worker thread found about the signature; None means nobody looked yet.
    """
    if envelope.chain_id != chain_id:
        return Code.WRONG_CHAIN
    if time_ms >= envelope.expiry_ms:
        return Code.ENVELOPE_EXPIRED
    key = state.key_rows.get(envelope.public_key)
    if key is None:
        return Code.UNKNOWN_KEY
    grant = state.grant_row(key, envelope.account)
    if grant == NONE or state.grants.columns["scopes"].item(grant) == 0:
        return Code.NOT_AUTHORISED
    if time_ms >= state.grants.columns["expiry_ms"].item(grant):
        return Code.KEY_EXPIRED
    code = check_nonce(state, key, envelope.nonce)
    if code:
        return code
    is_signed = envelope.is_signed(verifier) if verdict is None else verdict
    return Code.OK if is_signed else Code.BAD_SIGNATURE

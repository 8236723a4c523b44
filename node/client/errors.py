"""What can go wrong for a client. Every error says whether the request may still take effect.

ClientError
├── Refused          no effect: nodes refused it at the door; `code` is stable
├── Rejected         no effect: the ledger itself refused it, and the receipt proves it
├── OutcomeUnknown   it may have been executed, or may be until it expires
├── NotFound         nodes know of no such envelope, or of no such balance
├── NotConnected     no node could be reached; nothing was sent
└── UnitError        a price, quantity or amount that the ledger cannot express; nothing was sent
"""

from consensus.primitives.errors import LedgerError
from engine.records import Code
from node.receipts import Outcome


class ClientError(LedgerError):
    """Root of what the SDK raises."""


class Refused(ClientError):
    """Nodes refused the request before ordering it. `code` is one of `node.wire.Refused` or, for what a
    node can foresee, the name of an `engine.records.Code`.

    This is what f+1 nodes say (all of them, if they are only busy), not a proof: a lying node among them
    can still have a submitted envelope executed until it expires, and `receipt` then shows it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Rejected(ClientError):
    """The ledger refused the envelope, or the one operation in it: `code` says why, `outcome` proves it.

    An envelope refused as a whole for its key (UNKNOWN_KEY, NOT_AUTHORISED, KEY_EXPIRED) used no nonce:
    should the key be granted before the envelope expires, the same envelope can still be executed."""

    def __init__(self, code: Code, outcome: Outcome, what: str) -> None:
        super().__init__(f"{code.name}: the ledger refused {what} at height {outcome.height}")
        self.code = code
        self.outcome = outcome


class OutcomeUnknown(ClientError):
    """No node answered in time. The envelope can be executed at most once, until `expiry_ms`: ask
    `receipt(envelope_digest)` later, or submit the very same envelope again."""

    def __init__(self, envelope_digest: bytes, expiry_ms: int, last: str) -> None:
        super().__init__(
            f"envelope {envelope_digest.hex()[:16]} was sent, but its outcome is not known ({last}):"
            " ask receipt(envelope_digest), or submit the same envelope again; do not sign a new one"
        )
        self.envelope_digest = envelope_digest
        self.expiry_ms = expiry_ms


class NotFound(ClientError):
    """f+1 nodes know of no such envelope, which may still be executed until it expires; or of no such
    balance."""


class NotConnected(ClientError):
    """No node of the network could be reached; the message says what was tried."""


class UnitError(ClientError):
    """A price, quantity or amount is not a whole number of the ledger's units."""


class LinkLost(ClientError):
    """A connection ended with requests under way. The client turns to another node; seen by users only
    through the errors above."""

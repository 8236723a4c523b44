"""The error tree and `ensure`.

LedgerError
├── ProtocolError       a peer broke the protocol: drop the message, count it
│   └── SignatureError  a signature does not match its signer and digest
├── InputError          a client's input is refused; carries a stable code
├── ConfigError         an operator must change a setting; the message names it
├── StorageError        the disk is full, locked or damaged: stop before voting
└── InvariantViolation  our own state is wrong: stop before signing anything
"""


class LedgerError(Exception):
    """Root of every error raised here."""


class ProtocolError(LedgerError):
    """A peer broke the protocol: drop the message, keep the evidence."""


class SignatureError(ProtocolError):
    """A signature does not match its signer and digest."""


class InputError(LedgerError):
    """A client's input is refused. `code` is stable and machine-readable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class ConfigError(LedgerError):
    """An operator must change a setting; the message names it."""


class StorageError(LedgerError):
    """The disk is full, locked or damaged; the message says which and what to do."""


class InvariantViolation(LedgerError):
    """Our own state is wrong: stop before signing anything."""


def ensure(condition: bool, message: str) -> None:
    """Raise `InvariantViolation` unless `condition` holds. Survives `python -O`."""
    if not condition:
        raise InvariantViolation(message)

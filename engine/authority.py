"""Which key may do what: the one question that every plugin asks, of the grant table."""

from engine.genesis import VENUE_ACCOUNT
from engine.layout import NONE, Scope
from engine.state import State

_ADMIN = int(Scope.ADMIN)
_GUARD = int(Scope.GUARD)


def has_scope(state: State, key: int, account: int, scope: int, time_ms: int) -> bool:
    """Whether a key row may act for an account in `scope` at a block's time."""
    row = state.grant_row(key, account)
    if row == NONE:
        return False
    columns = state.grants.columns
    return bool(columns["scopes"].item(row) & scope) and time_ms < columns["expiry_ms"].item(row)


def is_venue(state: State, key: int, time_ms: int) -> bool:
    """Whether a key row administers the venue."""
    return has_scope(state, key, VENUE_ACCOUNT, _ADMIN, time_ms)


def is_guardian(state: State, key: int, time_ms: int) -> bool:
    """Whether a key row may trip breakers and cancel changes that wait."""
    return has_scope(state, key, VENUE_ACCOUNT, _GUARD, time_ms)


def is_issuer(state: State, key: int, asset: int, time_ms: int) -> bool:
    """Whether a key row may create and destroy an asset: as the venue, or as its issuer."""
    if is_venue(state, key, time_ms):
        return True
    return has_scope(state, key, state.assets.columns["issuer"].item(asset), _ADMIN, time_ms)

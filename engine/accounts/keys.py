"""Opening accounts; granting and revoking keys."""

from engine.authority import has_scope, is_venue
from engine.commands import EXPIRY_NEVER, GrantKey, OpenAccount, RevokeKey
from engine.layout import NONE, SCOPES_ALL, Scope
from engine.plugin import Context, Entry
from engine.records import Code
from engine.state import State

GRANTS_PER_ACCOUNT_MAX = 256
_ADMIN = int(Scope.ADMIN)


def validate_open_account(state: State, command: OpenAccount, context: Context) -> Code:
    """The venue opens accounts, while there is room."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    if not (state.has_room(state.accounts) and _has_room_for_grant(state, command.root_key)):
        return Code.LIMIT_REACHED
    return Code.OK


def apply_open_account(state: State, command: OpenAccount, context: Context) -> Entry:
    """Append the account and give its root key every scope."""
    account = open_account(state, command.root_key)
    return Entry(account=account, detail=account)


def open_account(state: State, root_key: bytes) -> int:
    """Append an account whose root key holds every scope; return its id."""
    account = state.add_account(root_key)
    state.add_grant(state.add_key(root_key), account, SCOPES_ALL, EXPIRY_NEVER)
    return account


def validate_grant_key(state: State, command: GrantKey, context: Context) -> Code:
    """An ADMIN key grants keys other than the owner's, up to a number of keys per account."""
    code = _check_admin(state, command.account, command.public_key, context)
    if code:
        return code
    key = state.key_rows.get(command.public_key)
    if key is not None:
        row = state.grant_row(key, command.account)
        if row != NONE:
            columns = state.grants.columns
            same = (columns["scopes"].item(row), columns["expiry_ms"].item(row)) == command[2:]
            return Code.KEY_ALREADY_GRANTED if same else Code.OK
    if state.accounts.columns["grants"].item(command.account) >= GRANTS_PER_ACCOUNT_MAX:
        return Code.LIMIT_REACHED
    return Code.OK if _has_room_for_grant(state, command.public_key) else Code.LIMIT_REACHED


def apply_grant_key(state: State, command: GrantKey, context: Context) -> Entry:
    """Write the grant, new or changed."""
    key = state.add_key(command.public_key)
    row = state.set_grant(key, command.account, command.scopes, command.expiry_ms)
    return Entry(account=command.account, qty=command.scopes, detail=row)


def validate_revoke_key(state: State, command: RevokeKey, context: Context) -> Code:
    """An ADMIN key revokes a grant that exists and is not the owner's."""
    code = _check_admin(state, command.account, command.public_key, context)
    if code:
        return code
    key = state.key_rows.get(command.public_key)
    row = NONE if key is None else state.grant_row(key, command.account)
    return Code.UNKNOWN_KEY if row == NONE or state.grants.columns["scopes"].item(row) == 0 else Code.OK


def apply_revoke_key(state: State, command: RevokeKey, context: Context) -> Entry:
    """Empty the grant; its row stays."""
    row = state.set_grant(state.key_rows[command.public_key], command.account, 0, 0)
    return Entry(account=command.account, detail=row)


def _check_admin(state: State, account: int, public_key: bytes, context: Context) -> Code:
    if account >= state.count["accounts"]:
        return Code.UNKNOWN_ACCOUNT
    if not has_scope(state, context.key, account, _ADMIN, context.time_ms):
        return Code.NOT_AUTHORISED
    # Whoever steals an ADMIN key can be thrown out again, because the root key cannot.
    return Code.BAD_ARGUMENT if public_key == state.owner(account) else Code.OK


def _has_room_for_grant(state: State, public_key: bytes) -> bool:
    return state.has_room(state.grants) and (public_key in state.key_rows or state.has_room(state.keys))

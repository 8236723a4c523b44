"""The accounts plugin: its commands in one table."""

from collections.abc import Sequence

from engine.accounts import funds, keys, limits
from engine.commands import (
    Deposit,
    GrantKey,
    OpenAccount,
    RegisterAsset,
    RevokeKey,
    SetAccountGroup,
    SetAccountLimits,
    Transfer,
    Withdraw,
)
from engine.invariants import check_conservation, check_no_negative_balance
from engine.plugin import Handler, Plugin
from engine.state import State


class AccountsPlugin(Plugin):
    """Assets, accounts, keys, funds."""

    name = "accounts"
    handlers: Sequence[Handler] = (
        Handler(OpenAccount, keys.validate_open_account, keys.apply_open_account),
        Handler(GrantKey, keys.validate_grant_key, keys.apply_grant_key),
        Handler(RevokeKey, keys.validate_revoke_key, keys.apply_revoke_key),
        Handler(SetAccountLimits, limits.validate_set_account_limits, limits.apply_set_account_limits),
        Handler(SetAccountGroup, limits.validate_set_account_group, limits.apply_set_account_group),
        Handler(RegisterAsset, funds.validate_register_asset, funds.apply_register_asset),
        Handler(Deposit, funds.validate_deposit, funds.apply_deposit),
        Handler(Withdraw, funds.validate_withdraw, funds.apply_withdraw),
        Handler(Transfer, funds.validate_transfer, funds.apply_transfer),
    )

    def check_invariants(self, state: State) -> None:
        """Value is conserved and nobody owes."""
        check_conservation(state)
        check_no_negative_balance(state)

"""The perpetuals plugin: its commands in one table, and the pass at the end of a block."""

from collections.abc import Sequence

from engine.perpetuals import accounts, listing, risk
from engine.perpetuals.audit import check_perpetuals
from engine.perpetuals.commands import (
    AddCollateral,
    AttestScore,
    ListPerpetual,
    RegisterCollateral,
    RegisterScorer,
    RemoveCollateral,
    SetDefaultAddon,
    SetFunding,
    SetIsolation,
    SetMarginMode,
    SetMarginTier,
    SetPositionLimits,
)
from engine.perpetuals.sweep import VISITS_PER_BLOCK, end_block
from engine.perpetuals.tables import SCORERS_SPEC
from engine.plugin import Context, Handler, Plugin
from engine.state import State
from engine.tables.table import TableSpec
from engine.timelock.queue import delay_of_rules


class PerpetualsPlugin(Plugin):
    """Perpetual markets, positions, margin, funding."""

    name = "perpetuals"
    tables: Sequence[TableSpec] = (SCORERS_SPEC,)
    handlers: Sequence[Handler] = (
        Handler(ListPerpetual, listing.validate_list_perpetual, listing.apply_list_perpetual),
        Handler(
            SetMarginTier, listing.validate_set_margin_tier, listing.apply_set_margin_tier, delay_of_rules
        ),
        Handler(
            SetPositionLimits,
            listing.validate_set_position_limits,
            listing.apply_set_position_limits,
            delay_of_rules,
        ),
        Handler(SetFunding, listing.validate_set_funding, listing.apply_set_funding, delay_of_rules),
        Handler(
            RegisterCollateral,
            risk.validate_register_collateral,
            risk.apply_register_collateral,
            delay_of_rules,
        ),
        Handler(SetMarginMode, accounts.validate_set_margin_mode, accounts.apply_set_margin_mode),
        Handler(SetIsolation, accounts.validate_set_isolation, accounts.apply_set_isolation),
        Handler(AddCollateral, accounts.validate_add_collateral, accounts.apply_add_collateral),
        Handler(RemoveCollateral, accounts.validate_remove_collateral, accounts.apply_remove_collateral),
        Handler(RegisterScorer, risk.validate_register_scorer, risk.apply_register_scorer),
        Handler(AttestScore, risk.validate_attest_score, risk.apply_attest_score),
        Handler(
            SetDefaultAddon, risk.validate_set_default_addon, risk.apply_set_default_addon, delay_of_rules
        ),
    )

    def on_block_end(self, state: State, context: Context) -> None:
        """Premiums, funding, and the next visits to positions."""
        count = state.count["perpetuals"]
        if count:
            lines = context.events.room(count + VISITS_PER_BLOCK)
            context.events.took(end_block(state.core(), lines))

    def check_invariants(self, state: State) -> None:
        """Positions, pools and open interest add up."""
        check_perpetuals(state)

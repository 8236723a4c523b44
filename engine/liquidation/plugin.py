"""The liquidation plugin: its commands, and its turn at the end of a block."""

from collections.abc import Sequence

from consensus.primitives.errors import ensure
from engine.layout import AssetAlarm
from engine.liquidation import settings, waterfall
from engine.liquidation.commands import RegisterBackstop, SetLiquidation
from engine.liquidation.tables import TABLES
from engine.plugin import Context, Handler, Plugin
from engine.state import State
from engine.tables.table import TableSpec
from engine.timelock.queue import delay_of_rules


class LiquidationPlugin(Plugin):
    """Liquidation, backstops, the insurance fund, deleveraging."""

    name = "liquidation"
    tables: Sequence[TableSpec] = TABLES
    handlers: Sequence[Handler] = (
        Handler(
            SetLiquidation,
            settings.validate_set_liquidation,
            settings.apply_set_liquidation,
            delay_of_rules,
        ),
        Handler(
            RegisterBackstop,
            settings.validate_register_backstop,
            settings.apply_register_backstop,
            delay_of_rules,
        ),
    )

    def on_block_end(self, state: State, context: Context) -> None:
        """Close what is below maintenance margin."""
        if state.count["pools"]:
            waterfall.end_block(state, context)

    def check_invariants(self, state: State) -> None:
        """Withdrawals of an asset wait exactly while there is a deficit in it."""
        rules = state.table("liquidation_rules")
        for pool in range(state.used(rules)):
            deficit = int(rules.columns["deficit"][pool])
            alarms = int(state.assets.columns["alarms"][int(state.pools.columns["asset"][pool])])
            ensure(deficit >= 0, f"pool {pool}: a deficit of {deficit}")
            ensure(
                (deficit > 0) == bool(alarms & AssetAlarm.DEFICIT), f"pool {pool}: its deficit is not told"
            )

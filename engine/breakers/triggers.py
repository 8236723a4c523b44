"""How others feed the breakers.

Kernels write the columns themselves; Python code calls these. What is written is looked at when the breakers
get their turn, at the end of the same block.

    MARKET.liquidated          += quote units, by whoever liquidates; never above AMOUNT_MAX
    COUNTERS.solvency_alarms   += 1, by whoever finds that claims exceed what backs them
"""

from engine.records import AMOUNT_MAX
from engine.state import State


def add_liquidated(state: State, market: int, quote_units: int) -> None:
    """Note a liquidation of so many quote units, 0..AMOUNT_MAX. Sums stop at AMOUNT_MAX."""
    columns = state.markets.columns
    columns["liquidated"][market] = min(columns["liquidated"].item(market) + quote_units, AMOUNT_MAX)
    state.markets.mark(market)


def raise_solvency_alarm(state: State) -> None:
    """Stop every market and pause all withdrawals, at the end of this block."""
    state.count["solvency_alarms"] += 1

"""The round of visits: every position is looked at in turn, so many a block.

A visit charges funding, moves cash that is due, and frees a row with nothing in it. While winners wait for
cash, it also realises what a position has lost at the mark price, so that cash comes in although the loser
does not close: variation margin, called from whoever has it. A round begins when a market's funding is due or
a pool has less than is claimed from it; no market funds again before the round is over, so a
position never owes for more than one interval.
"""

import numpy as np

from engine.compiled import inlined, kernel, outlined, widen
from engine.layout import POOL_PAGE, POSITION_PAGE, Core, PositionFlag, PriceStatus
from engine.margin.account import unrealised_pnl
from engine.perpetuals.cash import book_pnl, pay_venue, settle_cash
from engine.perpetuals.funding import charge_funding, fund, give_residue_to_venue, sample_premium
from engine.perpetuals.positions import free_position, is_empty
from engine.records import Kind

VISITS_PER_BLOCK = 256


@kernel
def end_block(core: Core, lines: np.ndarray) -> int:
    """Sample premiums, fund what is due, visit the next positions. Returns the lines written.

    lines (≥ perpetuals + VISITS_PER_BLOCK,) JOURNAL, all zero.
    """
    counters = core.counters.rows[0]
    used = 0
    is_due = False
    for row in range(counters.perpetuals):
        sample_premium(core, row)
    if counters.sweep_next == counters.sweep_end:
        for row in range(counters.perpetuals):
            perpetual = core.perpetuals.rows[row]
            if counters.time_ms >= perpetual.funding_next_ms:
                _write_funding(core, perpetual, fund(core, row), lines[used])
                used += 1
                is_due = True
        if is_due or _is_cash_wanted(core):
            counters.sweep_next = 0
            counters.sweep_end = counters.positions_used
            core.counters.dirty[0] = 1
    if counters.sweep_next < counters.sweep_end:
        used = _visit_next(core, lines, used)
        if counters.sweep_next == counters.sweep_end:
            _end_round(core)
    return used


@inlined
def _is_cash_wanted(core: Core) -> bool:
    for row in range(core.counters.rows[0].pools):
        if core.pools.rows[row].claims > 0 or core.pools.rows[row].fees_due > 0:
            return True
    return False


@inlined
def _visit_next(core: Core, lines: np.ndarray, used: int) -> int:
    counters = core.counters.rows[0]
    first = counters.sweep_next
    end = min(counters.sweep_end, first + VISITS_PER_BLOCK)
    for row in range(first, end):
        if core.positions.rows[row]["flags"] & PositionFlag.LIVE:
            used = _visit(core, row, lines, used)
    counters.sweep_next = end
    core.counters.dirty[0] = 1
    return used


@outlined
def _visit(core: Core, row: int, lines: np.ndarray, used: int) -> int:
    position = core.positions.rows[row]
    market = core.markets.rows[position.market]
    perpetual = core.perpetuals.rows[market.perpetual]
    charged = charge_funding(core, perpetual, row)
    pool = core.pools.rows[perpetual.pool]
    is_short = pool.claims > core.balances.rows[pool.balance_row].available
    if is_short and market.price_status == PriceStatus.VALID:
        _realise_loss(core, perpetual, row)
    moved = settle_cash(core, widen(perpetual.pool), row)
    if charged != 0 or moved != 0:
        _write_visit(position, moved, charged, lines[used])
        used += 1
    if is_empty(position):
        free_position(core, row)
    return used


@inlined
def _realise_loss(core: Core, perpetual: np.record, row: int) -> None:
    """What the position has lost at the mark price becomes due; its lots now cost what they are worth."""
    position = core.positions.rows[row]
    lost = -unrealised_pnl(core, position)
    if lost > 0:
        position.entry -= lost
        book_pnl(core.pools.rows[perpetual.pool], position, -lost)
        core.pools.dirty[perpetual.pool >> POOL_PAGE] = 1
        core.positions.dirty[row >> POSITION_PAGE] = 1


@outlined
def _end_round(core: Core) -> None:
    for row in range(core.counters.rows[0].perpetuals):
        give_residue_to_venue(core, row)
    for row in range(core.counters.rows[0].pools):
        pay_venue(core, row)


@inlined
def _write_funding(core: Core, perpetual: np.record, rate_ppm: int, line: np.record) -> None:
    line.kind = Kind.FUNDING
    line.market = perpetual.market
    line.price = core.markets.rows[perpetual.market].index_price
    line.qty = rate_ppm


@inlined
def _write_visit(position: np.record, moved: int, charged: int, line: np.record) -> None:
    line.kind = Kind.POSITION
    line.market = position.market
    line.account = position.account
    line.qty = moved
    line.fee = charged
    line.detail = position.unsettled

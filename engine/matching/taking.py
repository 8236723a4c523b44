"""An incoming order meets the book: best price first, oldest first, always at the maker's price."""

import numpy as np

from engine.clearing.holds import compute_hold, release_hold
from engine.clearing.settle import credit, settle_maker
from engine.compiled import inlined, outlined
from engine.fees.rates import find_maker_rate, find_taker_rate
from engine.fixed_point import fee_rounded_up, share_rounded_down
from engine.layout import MARKET_PAGE, Core, MarketKind, OrderFlag
from engine.matching.admit import FILLS_PER_ORDER_MAX, crosses, is_left_behind, limit_at_band, self_trade_mode
from engine.matching.book import find_level, is_same_owner, remove_order, shrink_order
from engine.matching.iceberg import open_lots, refill, take_hidden
from engine.matching.records import write_cancelled, write_fill
from engine.matching.waiting import widen_trades
from engine.perpetuals.orders import lots_to_take, reducible, settle_fill, take_order_off
from engine.records import Code, SelfTrade, Side


@inlined
def take(
    core: Core, market: np.record, op: np.record, side: int, events: np.ndarray, used: int
) -> tuple[int, int, int, int, int, int]:
    """Trade `op` against the other side as far as its price allows.

    Returns (code, filled lots, leaves, paid, received, events used). Makers and the venue are settled
    here; what the taker paid and received (after its fee) is left to the caller, who
    settles it once. Positions of a perpetual market are settled here, both sides: paid and received are 0.
    Any code but OK means that the rest is to be cancelled.
    """
    code = Code.OK.value
    filled, leaves, paid, received = 0, int(op.qty), 0, 0
    fees_paid, fees_received = 0, 0  # in the assets that the taker pays, receives
    steps, fills, first_price, last_price = 0, 0, 0, 0
    group = core.accounts.rows[op.account].group
    has_tiers = market.fee_schedule != 0
    taker_rate = find_taker_rate(core, market, op.account)
    limit = limit_at_band(market, side, op.price)
    if is_left_behind(market, side, market.best_ask if side == Side.BUY else market.best_bid):
        steps, used = _drop_left_behind(core, market, op, side, limit, events, used)
    is_perpetual = market.kind == MarketKind.PERPETUAL
    if is_perpetual:
        leaves = lots_to_take(core, op, side)
    while leaves > 0 and crosses(market, side, limit):
        if steps == FILLS_PER_ORDER_MAX:
            code = Code.FILL_LIMIT.value
            break
        steps += 1
        price = market.best_ask if side == Side.BUY else market.best_bid
        row = core.levels.rows[find_level(market, 1 - side, price)].head - 1
        maker = core.orders.rows[row]
        if is_same_owner(core, op.account, group, maker.account):
            leaves, used = _prevent_self_trade(core, op, row, leaves, events, used)
            if leaves == 0:
                code = Code.SELF_TRADE.value
            continue
        qty = min(leaves, maker.leaves)
        rebate = 0
        if is_perpetual:
            qty = reducible(core, maker, qty)
            if qty == 0:
                used = _drop_maker(core, op, row, events, used)
                continue
            fee, maker_fee = settle_fill(core, op, side, maker, qty)
        else:
            quote, base = price * qty * market.quote_per_lot_tick, qty * market.base_per_lot
            given, gained = (quote, base) if side == Side.BUY else (base, quote)
            fee = fee_rounded_up(gained, taker_rate)
            maker_fee = fee_rounded_up(given, market.maker_fee_e6)
            if has_tiers:
                maker_fee, rebate = _charge_maker_by_tier(core, market, maker, side, given, gained)
            if side == Side.BUY:
                settle_maker(core.balances, maker.base_row, gained, maker.quote_row, given - maker_fee)
            else:
                settle_maker(core.balances, maker.quote_row, gained, maker.base_row, given - maker_fee)
            paid += given
            received += gained - fee
            fees_paid += maker_fee
            fees_received += fee - rebate
        write_fill(events[used], op, side, maker, qty, fee, maker_fee - rebate)
        used += 1
        maker.filled += qty
        if qty < maker.leaves:
            shrink_order(core, row, qty)
        elif maker["flags"] & OrderFlag.HAS_TERMS == 0 or not refill(core, row):
            remove_order(core, row)
        if fills == 0:
            first_price = price
        fills += 1
        last_price = price
        leaves -= qty
        filled += qty
    if leaves > 0 and limit != op.price and code == Code.OK:
        code = Code.OUTSIDE_BAND.value
    if filled > 0:
        core.counters.rows[0].fills += fills
        market.last_price = last_price
        widen_trades(market, first_price)
        widen_trades(market, last_price)
        core.markets.dirty[op.market >> MARKET_PAGE] = 1
        _credit_fees(core, market, side, fees_paid, fees_received)
    return code, filled, leaves, paid, received, used


@outlined
def _charge_maker_by_tier(
    core: Core, market: np.record, maker: np.record, side: int, given: int, gained: int
) -> tuple[int, int]:
    """(fee, rebate) of a maker that gets `given` for `gained`. The rebate, in what it pays, is credited here.

    It is at most the taker's fee: SetFeeRates compared all rates of the schedule.
    """
    rate = find_maker_rate(core, market, maker.account)
    if rate >= 0:
        return fee_rounded_up(given, rate), 0
    rebate = share_rounded_down(gained, -rate)
    credit(core.balances, maker.base_row if side == Side.BUY else maker.quote_row, rebate)
    return 0, rebate


@outlined
def _drop_left_behind(
    core: Core, market: np.record, op: np.record, side: int, limit: int, events: np.ndarray, used: int
) -> tuple[int, int]:
    """Take off the makers that `op` would meet at prices which the band has left. Returns (steps, used)."""
    steps = 0
    while steps < FILLS_PER_ORDER_MAX and crosses(market, side, limit):
        price = market.best_ask if side == Side.BUY else market.best_bid
        if not is_left_behind(market, side, price):
            break
        steps += 1
        row = core.levels.rows[find_level(market, 1 - side, price)].head - 1
        opened = open_lots(core, row)
        write_cancelled(events[used], op, Code.OUTSIDE_BAND, core.orders.rows[row], opened, 0)
        used += 1
        take_off(core, row, opened)
    return steps, used


@outlined
def _prevent_self_trade(
    core: Core, op: np.record, row: int, leaves: int, events: np.ndarray, used: int
) -> tuple[int, int]:
    """The next maker is of the taker's owner: take off what the taker's mode says. Returns (leaves, used)."""
    mode = self_trade_mode(op)
    order = core.orders.rows[row]
    opened = open_lots(core, row)
    overlap = min(leaves, opened)
    taker_loses, maker_loses = leaves, 0  # CANCEL_TAKER
    if mode == SelfTrade.CANCEL_MAKER:
        taker_loses, maker_loses = 0, opened
    elif mode == SelfTrade.CANCEL_BOTH:
        maker_loses = opened
    elif mode == SelfTrade.DECREMENT:
        taker_loses, maker_loses = overlap, overlap
    if maker_loses > 0:
        write_cancelled(events[used], op, Code.SELF_TRADE, order, maker_loses, opened - maker_loses)
        used += 1
        take_off(core, row, maker_loses)
    return leaves - taker_loses, used


@outlined
def _drop_maker(core: Core, op: np.record, row: int, events: np.ndarray, used: int) -> int:
    """A reduce-only order that would reduce no more leaves the book. Returns the events used."""
    order, opened = core.orders.rows[row], open_lots(core, row)
    write_cancelled(events[used], op, Code.WOULD_NOT_REDUCE, order, opened, 0)
    take_off(core, row, opened)
    return used + 1


@inlined
def take_off(core: Core, row: int, qty: int) -> None:
    """Take `qty` of an order's open lots off the book, hidden ones first, and release their hold."""
    order = core.orders.rows[row]
    market = core.markets.rows[order.market]
    if market.kind == MarketKind.PERPETUAL:
        take_order_off(core, order, qty)
    else:
        pay_row = order.quote_row if order.side == Side.BUY else order.base_row
        release_hold(core.balances, pay_row, compute_hold(order.side, order.price, qty, market))
    if order["flags"] & OrderFlag.HAS_TERMS:
        qty -= take_hidden(core, row, qty)
    if qty == 0:
        return
    if qty == order.leaves:
        remove_order(core, row)
    else:
        shrink_order(core, row, qty)


@inlined
def _credit_fees(core: Core, market: np.record, side: int, fees_paid: int, fees_received: int) -> None:
    """Book one order's fees to the venue: the makers' in what the taker paid, the taker's in the other."""
    if side == Side.BUY:
        credit(core.balances, market.fee_quote_row, fees_paid)
        credit(core.balances, market.fee_base_row, fees_received)
    else:
        credit(core.balances, market.fee_base_row, fees_paid)
        credit(core.balances, market.fee_quote_row, fees_received)

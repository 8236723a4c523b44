"""Auctions once more, in plain Python integers: every price is tried, and orders are sorted lists."""

from engine.records import AUCTION_FILL, Code, Kind, Side
from tests.helpers.slow_book import Line, Resting, SlowVenue


def find_cross(venue: SlowVenue, market: int, reference: int) -> tuple[int, int, int]:
    """(price, volume, surplus) of a crossed book, zeros if it is not: try all prices, take the best."""
    orders = [order for order in venue.orders.values() if order.market == market]
    bids = [(order.price, order.leaves + order.hidden) for order in orders if order.side == Side.BUY]
    asks = [(order.price, order.leaves + order.hidden) for order in orders if order.side == Side.SELL]
    if not bids or not asks or max(bids)[0] < min(asks)[0]:
        return 0, 0, 0
    low, high = min(asks)[0], max(bids)[0]
    wanted = reference or (low + high) // 2

    def key(price: int) -> tuple[int, int, int, int]:
        demand = sum(lots for at, lots in bids if at >= price)
        supply = sum(lots for at, lots in asks if at <= price)
        return -min(demand, supply), abs(demand - supply), abs(price - wanted), price

    price = min(range(low, high + 1), key=key)
    demand = sum(lots for at, lots in bids if at >= price)
    supply = sum(lots for at, lots in asks if at <= price)
    return price, min(demand, supply), demand - supply


def uncross(venue: SlowVenue, market: int, price: int, volume: int) -> list[Line]:
    """Let up to `volume` lots trade at `price`; returns the lines of it."""
    lines = []
    while volume:
        bids = [o for o in venue.orders.values() if o.market == market and o.side == Side.BUY]
        asks = [o for o in venue.orders.values() if o.market == market and o.side == Side.SELL]
        bids = sorted((o for o in bids if o.price >= price), key=lambda o: (-o.price, o.arrival))
        asks = sorted((o for o in asks if o.price <= price), key=lambda o: (o.price, o.arrival))
        if not bids or not asks:
            break
        buy, sell = bids[0], asks[0]
        qty = min(buy.leaves, sell.leaves, volume)
        volume -= qty
        if venue.owners[buy.account] == venue.owners[sell.account]:
            for order in (buy, sell):
                left = order.leaves + order.hidden - qty
                lines.append(_line(Kind.CANCELLED, Code.SELF_TRADE, order, order, order.price, qty, 0, left))
                venue._take_off(order, qty)
            continue
        lines.append(_trade(venue, buy, sell, price, qty))
    return lines


def _trade(venue: SlowVenue, buy: Resting, sell: Resting, price: int, qty: int) -> Line:
    market = venue.markets[buy.market]
    base, quote = qty * market.base_per_lot, price * qty * market.quote_per_lot_tick
    buy_fee = -(-base * max(venue.fee_rates(buy.market, buy.account)[0], 0) // 10**6)
    sell_fee = -(-quote * max(venue.fee_rates(sell.market, sell.account)[0], 0) // 10**6)
    held = buy.price * qty * market.quote_per_lot_tick
    venue._add(venue.held, buy.account, market.quote_asset, -held)
    venue._add(venue.available, buy.account, market.quote_asset, held - quote)
    venue._add(venue.available, buy.account, market.base_asset, base - buy_fee)
    venue._add(venue.held, sell.account, market.base_asset, -base)
    venue._add(venue.available, sell.account, market.quote_asset, quote - sell_fee)
    venue._add(venue.available, 0, market.base_asset, buy_fee)
    venue._add(venue.available, 0, market.quote_asset, sell_fee)
    line = _line(Kind.FILL, Code.OK, buy, sell, price, qty, buy_fee, sell_fee)
    for order in (buy, sell):
        order.leaves -= qty
        order.filled += qty
        if order.leaves == 0:
            venue._show_next(order)
    return line


def _line(
    kind: int, code: int, order: Resting, other: Resting, price: int, qty: int, fee: int, detail: int
) -> Line:
    flags = AUCTION_FILL if kind == Kind.FILL else 0
    ids = (order.account, other.account, order.client_order_id, other.client_order_id)
    return Line(kind, code, order.side, flags, order.market, 0, *ids, price, qty, fee, detail)

"""Order builders: flags stand where the ledger looks for them."""

import pytest

from engine.envelope import orders_array
from engine.records import EVERY_MARKET, REDUCE_ONLY, Op, SelfTrade, Side, TimeInForce
from node.client import orders
from node.client.errors import UnitError
from tests.helpers.venue import flags


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("tif", list(TimeInForce))
@pytest.mark.parametrize("self_trade", list(SelfTrade))
def test_a_new_order_says_what_was_asked(side, tif, self_trade):
    order = orders.new(3, 7, 11, side, 100, 5, tif, self_trade)
    assert order == (Op.NEW, flags(side, tif, self_trade), 3, 7, 11, 100, 5)


def test_an_order_may_be_reduce_only():
    order = orders.new(3, 7, 11, Side.SELL, 100, 5, reduce_only=True)
    assert order[1] == flags(Side.SELL) | REDUCE_ONLY


def test_other_operations_fill_only_their_own_fields():
    array = orders_array(
        [
            orders.cancel(3, 7, 11),
            orders.cancel_all(7),
            orders.cancel_all(7, 3),
            orders.reduce(3, 7, 11, 2),
            orders.replace(3, 7, 11, 101, 4),
        ]
    )
    assert array["op"].tolist() == [Op.CANCEL, Op.CANCEL_ALL, Op.CANCEL_ALL, Op.REDUCE, Op.REPLACE]
    assert array["market"].tolist() == [3, EVERY_MARKET, 3, 3, 3]
    assert array["qty"].tolist() == [0, 0, 0, 2, 4]
    assert array["price"].tolist() == [0, 0, 0, 0, 101]


def test_words_are_read_and_unknown_ones_name_the_choices():
    assert orders.read_side("sell") is Side.SELL
    assert orders.read_tif("post_only") is TimeInForce.POST_ONLY
    assert orders.read_self_trade("decrement") is SelfTrade.DECREMENT
    with pytest.raises(UnitError, match="side is 'long'; use buy, sell"):
        orders.read_side("long")

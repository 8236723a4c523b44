"""Explanations: equal roots, the values that were compared, and a sentence for every code."""

import string

import pytest

from engine.explain.explain import Explained, Explainer, Wanted, to_text
from engine.explain.look import Look
from engine.explain.sentences import SENTENCES
from engine.fees.commands import SetFeeRates, SetMarketSchedule
from engine.machine import Machine
from engine.records import Code, Op, SelfTrade, Side, Term, TimeInForce
from tests.helpers.random_blocks import RandomBlocks
from tests.helpers.venue import START_MS, Venue, cancel, new

BUY, SELL = Side.BUY, Side.SELL


@pytest.fixture
def venue():
    venue = Venue()
    venue.keys = venue.open_market(traders=3)
    return venue


def explain(venue: Venue, wanted: Wanted | None = None) -> list[Explained]:
    """The explanations of all blocks so far, from genesis."""
    machine = Machine(venue.genesis)
    explainer, found = Explainer(machine, wanted), []
    for applied in venue.applied:
        found += explainer.apply(*applied)[1]
    assert machine.journal_root == venue.machine.journal_root
    assert machine.state_root() == venue.machine.state_root()
    return found


def one(venue: Venue, account: int, *ops: tuple) -> Explained:
    """What is said of the last of these operations of one account."""
    venue.orders(venue.keys[account - 1], account, list(ops))
    venue.block()
    said = explain(venue, Wanted(account, ops[-1][4]))
    return [item for item in said if item.height == venue.machine.height][-1]


def test_every_code_has_a_sentence_and_every_value_in_it_is_filled_in(venue):
    assert set(SENTENCES) == set(Code)
    ops = [new(0, 1, 1, BUY, 100, 5), new(77, 1, 1, BUY, 100, 5), new(0, 99, 1, BUY, 100, 5), (9,) + (0,) * 6]
    from engine.envelope import orders_array

    for op in orders_array(ops):
        values = Look(venue.machine.state, op).values() | {"nonce": 1}
        for code, sentence in SENTENCES.items():
            names = {name for _, name, _, _ in string.Formatter().parse(sentence) if name}
            assert names <= values.keys(), code
            assert sentence.format_map(values)


@pytest.mark.parametrize("seed", range(400, 404))
@pytest.mark.parametrize("wanted", [Wanted(), Wanted(account=2), Wanted(account=3, order=7)])
def test_explaining_changes_no_byte_of_what_happened(seed, wanted):
    blocks = RandomBlocks(seed)
    for _ in range(12):
        blocks.block()
    found = explain(blocks.venue, wanted)
    assert found
    for item in found:
        assert wanted.account in (None, item.account)
        assert item.why or item.trades
        assert to_text(item) and item.as_json()


def test_every_operation_is_explained_once_when_everybody_is_wanted(venue):
    venue.orders(venue.keys[0], 1, [new(0, 1, 1, SELL, 100, 5), cancel(0, 1, 9)])
    venue.orders(venue.keys[1], 2, [new(0, 2, 1, BUY, 100, 7)])
    venue.block()
    said = [(item.account, item.order, item.outcome) for item in explain(venue)]
    assert said == [
        (1, 1, "resting"),
        (1, 9, "rejected"),
        (2, 1, "partly filled, the rest stays"),
        (1, 1, "filled"),
    ]


def test_funds_needed_and_available_are_named(venue):
    said = one(venue, 1, new(0, 1, 1, BUY, 10_000, 1_000_000))
    assert (said.outcome, said.code) == ("rejected", "INSUFFICIENT_FUNDS")
    assert said.why == ["it needed 10,000 USD, and 1,000 USD was available"]


def test_a_resting_order_is_told_its_place(venue):
    one(venue, 1, new(0, 1, 1, SELL, 100, 5), new(0, 1, 2, SELL, 100, 3))
    said = one(venue, 2, new(0, 2, 1, SELL, 100, 4))
    assert said.why == ["4 lots rest at 100, behind 2 orders with 8 lots shown"]


def test_a_taker_learns_whom_it_met_and_how_its_fee_was_rounded(venue):
    one(venue, 1, new(0, 1, 1, SELL, 100, 5))
    said = one(venue, 2, new(0, 2, 8, BUY, 101, 9, TimeInForce.IOC))
    assert said.outcome == "filled"
    [trade] = said.trades
    assert (trade.counter_account, trade.counter_order, trade.price, trade.qty) == (1, 1, 100, 5)
    assert "number 1 in the queue" in trade.place
    assert trade.fee == (
        "0.00000001 BTC: 500 millionths of 0.0000005 BTC received, rounded up from 0.025000 base units"
    )
    assert said.why == ["the other 4 lots found nobody at 101 or better"]


def test_a_maker_learns_who_came_even_if_only_the_maker_is_asked_about(venue):
    one(venue, 1, new(0, 1, 1, SELL, 100, 5))
    one(venue, 2, new(0, 2, 8, BUY, 101, 2))
    said = explain(venue, Wanted(1, 1))
    assert [(item.outcome, item.height) for item in said] == [("resting", 2), ("filled", 3)]
    assert said[1].why == ["account 2's order 8 came in and met it"]
    assert said[1].trades[0].fee.startswith("0.000001 USD: 100 millionths of 0.0002 USD")


@pytest.mark.parametrize(
    ("op", "words"),
    [
        (new(0, 2, 2, BUY, 100, 5, TimeInForce.POST_ONLY), "would have met the best offer, 100"),
        (new(0, 2, 2, BUY, 99, 5, TimeInForce.IOC), "nobody offered at 99 or better (best offer: 100)"),
        (new(0, 2, 2, BUY, 100, 6, TimeInForce.FOK), "not all of its 6 lots"),
        (new(0, 2, 2, BUY, 10_001, 6), "outside 1 to 10000 ticks"),
        (new(9, 2, 2, BUY, 100, 6), "markets 0 to 0"),
        (cancel(0, 2, 2), "no live order 2"),
        (new(0, 1, 2, BUY, 100, 6), "may not trade for account 1"),
    ],
)
def test_refusals_name_what_was_compared(venue, op, words):
    one(venue, 1, new(0, 1, 1, SELL, 100, 5))
    venue.orders(venue.keys[1], 2, [op])
    venue.block()
    said = [item for item in explain(venue) if item.height == 3]
    assert words in " ".join(said[0].why)
    assert said[0].outcome == "rejected"


def test_a_self_trade_says_what_it_took_off(venue):
    one(venue, 1, new(0, 1, 1, SELL, 100, 5))
    said = one(venue, 1, new(0, 1, 2, BUY, 100, 7, stp=SelfTrade.CANCEL_BOTH))
    assert (said.code, said.outcome) == ("SELF_TRADE", "cancelled")
    assert (
        "CANCEL_BOTH" in said.why[0] and "5 lots of account 1's order 1 at 100 were taken off" in said.why[1]
    )


def test_what_a_rule_took_off_is_explained_to_its_owner(venue):
    expiring = (Op.TERMS, Term.EXPIRE, 0, 1, 1, START_MS + 5000, 0)
    one(venue, 1, expiring, new(0, 1, 1, SELL, 100, 5))
    venue.block(time_ms=START_MS + 6000)
    said = explain(venue, Wanted(1))[-1]
    assert (said.outcome, said.code, said.order) == ("cancelled", "EXPIRED", 1)


def test_a_refused_envelope_is_explained(venue):
    envelope = venue.orders(venue.keys[0], 1, [new(0, 1, 1, SELL, 100, 5)])
    venue.block()
    venue.block(envelope)
    said = explain(venue, Wanted(1))[-1]
    assert (said.code, said.outcome) == ("NONCE_USED", "rejected")


def test_a_rebate_is_told_in_the_asset_that_the_taker_received(venue):
    venue.commands(SetFeeRates(1, 0, -200, 500), SetMarketSchedule(0, 1, 1))
    assert venue.block().counts.rejected == 0
    one(venue, 1, new(0, 1, 1, SELL, 100, 5000))
    one(venue, 2, new(0, 2, 8, BUY, 100, 5000))
    [taker, maker] = [item.trades[0] for item in explain(venue) if item.trades]
    assert taker.fee == "0.00000025 BTC: 500 millionths of 0.0005 BTC received, exactly"
    assert maker.fee == "none: a rebate of 0.0000001 BTC"

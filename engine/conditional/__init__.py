"""Conditional orders: what waits for a price becomes an order when the price is there.

    plugin      its turn at a block's end
    triggering  which order is due, and what it becomes
    audit       the queues of those who wait

How they wait is a part of the book: `engine.matching.stops`, `engine.matching.waiting`.

Decisions
---------
2026-11-24 A block is one moment. At its end, stops on the last price see every price at which the market
traded in the block, also before they came, and the last price before it; stops on the mark or the index see
its present value. A buy stop is due at its trigger or above, a sell stop at its trigger or below; so one
that comes too late to wait is due at the end of its own block.
2026-11-24 Those due enter by reference (last, mark, index), buyers before sellers, the trigger that the
price reached first before the others, then the oldest: an order is settled before the next enters. What
their own trades touch is seen at the end of the next block, so that others can answer a cascade between two
of its steps.
2026-11-24 TRIGGERS_PER_BLOCK_MAX orders in a block, over all markets, of which another one comes first in
every block. What is due beyond that stays due, whatever the price does meanwhile.
2026-11-24 Where the market does not allow Action.TRIGGER nobody is triggered, and no touch is forgotten:
who was touched before a halt enters when it is over. Marks and indexes count where their status allows
PriceAction.TRIGGER.
2026-11-24 A stop holds the funds of the order that it becomes, from the beginning; nothing can be missing
when it is due. The collar is that of the day on which it enters: a price beyond becomes the collar's end,
since to refuse a stop loss is the worst answer to a fall. Everything else that an order must satisfy is
asked again, and what is refused then is cancelled with that code. Terms beside the trigger (iceberg,
expiry) stay with it.
2026-11-24 REPLACE changes price and quantity of an order that waits and leaves its trigger and its time in
force.
"""

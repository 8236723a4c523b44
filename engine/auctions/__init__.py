"""Call auctions: orders gather, then trade at one price.

    plugin    calls by command, by schedule, and after a halt; what happens at a block's end
    price     the one price of a crossed book
    uncross   the trades at that price, so many a block

A call is the market status AUCTION (or PRE_OPEN, without an end): GTC orders rest, nothing matches, the
book may cross, and each block tells the price and volume that an uncrossing would have now.

Decisions
---------
2026-11-24 The price trades the most lots; among those prices, the one that leaves the fewest over; among
those, the nearest to the reference, and the lower of two equally near. Every integer price counts, not
only those of orders: between two levels any price trades the same. The reference is the mark price
while it is valid, else the last trade, else the middle of the crossed range.
2026-11-24 Both sides pay the maker's fee: in a call nobody takes liquidity.
2026-11-24 An owner who would trade with themselves loses the overlap on both sides, without a trade: which
self-trade mode an order had is not kept, and this is the mode that treats both sides alike.
2026-11-24 Trades of one uncrossing may take several blocks (UNCROSSING), in which no order enters. Cancels
are taken even then, as always; should they leave a crossed book behind, what is left gets a price of
its own before the market opens.
2026-11-24 Hidden lots of icebergs take part: a book without them would still be crossed afterwards.
"""

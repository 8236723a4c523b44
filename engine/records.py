"""What goes into the state machine and what comes out: fixed layouts, little-endian.

`ORDER_OP` is one order operation inside an envelope (32 bytes, so an envelope's orders are one
array). `JOURNAL` is one line of the journal (64 bytes). Codes are the wire's numbers: append only.
"""

from enum import IntEnum

import numpy as np

AMOUNT_MAX = 2**62 - 1  # every amount, notional and supply stays at or below this


class Op(IntEnum):
    """Order operations."""

    NEW = 1
    CANCEL = 2
    REDUCE = 3  # qty is how many lots to take away; keeps priority
    REPLACE = 4  # new price and new open qty; keeps its place if only the quantity shrinks
    CANCEL_ALL = 5  # market 65535: every market; qty: CancelSides; ids client_order_id..price, 0..0: every id
    TERMS = 6  # one term of the NEW that follows: flags hold its Term, price and qty its arguments


class Side(IntEnum):
    BUY = 0
    SELL = 1


class TimeInForce(IntEnum):
    """How long an order may rest. MARKET is IOC whose `price` is the protection price."""

    GTC = 0
    IOC = 1
    FOK = 2
    POST_ONLY = 3
    MARKET = 4


class SelfTrade(IntEnum):
    """What happens when an account would trade with itself."""

    CANCEL_TAKER = 0
    CANCEL_MAKER = 1
    CANCEL_BOTH = 2
    DECREMENT = 3  # both lose the overlap; whoever is left with nothing is cancelled


class Term(IntEnum):
    """What a TERMS operation says about its order: the next operation that is no TERMS, which must be a NEW
    of the same account, market and client order id. Each at most once an order."""

    DISPLAY = 1  # iceberg: qty lots are shown at a time
    EXPIRE = 2  # GTD: off the book from ledger time `price` on, in milliseconds
    STOP = 3  # it waits until a price, the Reference `qty`, comes to `price` ticks


TERMS_MAX = 6  # of one order


class Reference(IntEnum):
    """Which price triggers."""

    LAST = 0  # any at which the market traded
    MARK = 1
    INDEX = 2


class CancelSides(IntEnum):
    """`qty` of CANCEL_ALL: whose orders it takes."""

    BOTH = 0
    BIDS = 1
    ASKS = 2


# flags of an order operation: side in bit 0, time in force in bits 1–3, self-trade mode in bits 4–5,
# REDUCE_ONLY in bit 6, SLIDE in bit 7
SIDE_MASK = 1
TIF_SHIFT = 1
TIF_MASK = 7
STP_SHIFT = 4
STP_MASK = 3
REDUCE_ONLY = 64  # perpetual markets: never add to a position
SLIDE = 128  # post-only: a price that would cross becomes the best that does not
EVERY_MARKET = 65535

ORDER_OP = np.dtype(
    [
        ("op", "u1"),
        ("flags", "u1"),
        ("market", "<u2"),
        ("account", "<u4"),
        ("client_order_id", "<i8"),
        ("price", "<i8"),  # ticks
        ("qty", "<i8"),  # lots
    ]
)


class Kind(IntEnum):
    """Journal lines: sections of envelopes, results, commands; then the others as they happen."""

    ENVELOPE = 1  # one per envelope, in listing order
    RESULT = 2  # one per order operation, in listing order
    COMMAND = 3  # one per command or accepted evidence, in listing order
    FILL = 4  # one per trade, in execution order, mixed with CANCELLED
    CANCELLED = 5  # an order left the book by another's hand: self-trade, cancel-all
    TRIGGERED = 7  # an order waits no more: it entered with this code; price: its limit; qty: lots filled at
    # once; detail: lots left open; counter_order_id: its trigger in ticks. Its fills follow.
    AUCTION = (
        8  # indicative or final: price, qty lots that trade at it, detail lots left over (bids positive);
    )
    # code 0: indicative, 1: the price is fixed
    STATUS = 9  # a market's status changed by itself: detail is the new one
    PRICE = 10  # prices by consensus; see PriceLine
    HALT = 11  # breakers; see HaltLine
    FUNDING = 12  # of a market: price: index price; qty: rate in ppm, positive if longs pay
    POSITION = (
        13  # a visit to one. qty: cash moved to it; fee: funding charged; detail: what it is owed still
    )
    LIQUIDATION = 14  # a stage of closing a position under water; see engine.liquidation.tables.Stage
    FEE = 15  # what a trade's fee became afterwards; see FeeLine
    SETTLEMENT = 17  # obligations; see SettlementLine
    APPLIED = 18  # a change that waited is in force, or was dropped with this code; detail is its number
    FOREIGN = 255  # a line of a plugin from elsewhere: its fields mean what that plugin says


class PriceLine(IntEnum):
    """What a PRICE line tells, in its `op`."""

    MARKET = 0  # flags: PriceStatus; price: index; qty: mark price
    FEED = 1  # market: feed; flags: PriceStatus; price: value; qty: confidence; detail: epoch; fee: reports
    EQUIVOCATION = 2  # market: feed; account: reporter; price, qty: its two values; detail: epoch
    BAND = 3  # price, qty: its low and high end; detail: reference price; fee: its half width in ppm


class FeeLine(IntEnum):
    """What a FEE line tells, in its `op`. `market` is the asset of qty."""

    CONVERTED = 1  # account paid qty instead of `fee` units of asset `detail`, which it got back
    REFERRAL = 2  # account got qty of the fee that counter_account paid


class SettlementLine(IntEnum):
    """What a SETTLEMENT line tells, in its `op`. `market` is the asset.

    Of an obligation: account owed qty to counter_account; client_order_id: instruction; counter_order_id:
    agent; detail: number."""

    SETTLED = 1
    CANCELLED = 2
    CYCLE = 3  # detail obligations of qty units in all settled, which moved `fee` units; price: others wait


class HaltLine(IntEnum):
    """What a HALT line tells, in its `op`. `flags` is the HaltReason."""

    HALTED = 1  # price: reference; qty: until this ledger time, 0 if by command; detail: escalation level
    REOPENING = 2  # the call that reopens it may begin
    LIMIT_BEGINS = 3  # price: index; detail: reference
    LIMIT_ENDS = 4
    PEG_LOST = 5  # market: asset; price: value; qty: anchor
    PEG_REGAINED = 6
    OUTFLOW_EXHAUSTED = 7  # market: asset; qty: base units left
    WITHDRAWALS_PAUSED = 8  # market: asset, or EVERY_MARKET
    WITHDRAWALS_RESUMED = 9


class Code(IntEnum):
    """Why something was refused, or that it was not. Recorded alike by every replica."""

    OK = 0
    # envelopes
    BAD_SIGNATURE = 1
    WRONG_CHAIN = 2
    UNKNOWN_KEY = 3
    KEY_EXPIRED = 4
    ENVELOPE_EXPIRED = 5
    NONCE_USED = 6
    NONCE_TOO_OLD = 7
    MALFORMED = 8
    BAD_EVIDENCE = 9
    ALREADY_REPORTED = 10
    # orders
    BAD_OP = 20
    UNKNOWN_MARKET = 21
    UNKNOWN_ACCOUNT = 22
    NOT_AUTHORISED = 23
    MARKET_CLOSED = 24
    PRICE_OUT_OF_RANGE = 25
    QTY_OUT_OF_RANGE = 26
    NOTIONAL_TOO_SMALL = 27
    NOTIONAL_TOO_LARGE = 28
    DUPLICATE_ORDER_ID = 29
    UNKNOWN_ORDER = 30
    INSUFFICIENT_FUNDS = 31
    WOULD_CROSS = 32  # post-only
    NOT_FILLABLE = 33  # FOK
    NO_LIQUIDITY = 34  # IOC or market order that met nobody
    SELF_TRADE = 35
    FILL_LIMIT = 36  # the rest was cancelled after FILLS_PER_ORDER_MAX trades
    WORK_LIMIT = 37  # CANCEL_ALL looked at CANCELS_PER_OPERATION_MAX orders and left others: send it again
    BAD_TERMS = 38  # an order's terms are unknown, given twice, out of bounds, or contradict one another
    EXPIRED = 39  # the order's time is over, or was before it came
    TOO_MANY_ORDERS = 40  # open orders of this account
    TOO_FAST = 41  # operations a second of this account
    DEAD_MAN = 42  # the account did not set its switch again in time
    BEYOND_COLLAR = 43  # too far from the reference price
    NOT_IN_A_CALL = 50  # while orders gather for an auction, only GTC orders may be placed
    BOOK_CROSSED = 51  # only an auction may open this market
    OUTSIDE_BAND = 52  # it would have to trade where the price band ends; what is left was cancelled
    WITHDRAWALS_PAUSED = 53
    MARGIN_TOO_LOW = 55  # equity would not cover initial margin
    WOULD_NOT_REDUCE = 56  # reduce-only, and there is nothing that it would reduce
    POSITION_LIMIT = 57
    NO_MARK_PRICE = 58  # or none to rely on: only orders that reduce are taken
    # commands
    UNKNOWN_COMMAND = 60
    BAD_ARGUMENT = 61
    UNKNOWN_ASSET = 62
    NAME_TAKEN = 63
    LIMIT_REACHED = 64
    KEY_ALREADY_GRANTED = 65
    SUPPLY_OVERFLOW = 66
    CHANGE_PENDING = 67  # one change of validators at a time: wait until it is in force
    UNKNOWN_VALIDATOR = 68  # or one that does not vote
    KEY_USED = 69  # the key is or was a validator's
    ENDPOINT_TAKEN = 70  # another validator has this certificate or address
    TOO_FEW_VALIDATORS = 71
    TOO_MANY_VALIDATORS = 72
    HEIGHT_OUT_OF_RANGE = 73
    UNKNOWN_FEED = 80
    UNKNOWN_REPORTER = 81  # or one that does not report on this feed
    REPORT_LATE = 82  # its epoch is over
    REPORT_EARLY = 83  # its epoch has not begun
    REPORT_REPEATED = 84  # it was counted before
    REPORTER_EXCLUDED = 85  # for this epoch: it said two different things
    UNKNOWN_CHANGE = 86
    HALTED = 87  # a breaker holds the market: only breakers change its status
    NOTHING_TO_DO = 88  # it is so already
    OUTFLOW_LIMIT = 89  # so much of the asset may not leave now
    OPEN_INTEREST_LIMIT = 90  # orders too
    FAR_FROM_MARK = 91  # orders too: worse than the mark price by more than the collar
    NOT_PERPETUAL = 92
    UNKNOWN_SCORER = 93
    POSITION_OPEN = 94  # only a flat position without orders changes between cross and isolated
    ASSET_BACKS_ANOTHER = 95  # an asset backs positions in one settlement asset only
    DEFICIT_OPEN = 100  # losses in this asset are not covered yet: nothing is paid out
    REBATE_TOO_HIGH = 110  # above the lowest taker's fee of its schedule, which would have to pay it
    UNKNOWN_SCHEDULE = 111
    UNKNOWN_FEE_ASSET = 112
    UNKNOWN_AGENT = 113  # or one that may not submit any more
    NO_CONSENT = 114  # the debtor did not allow this agent
    INSTRUCTION_REPEATED = 115  # it counts already
    INSTRUCTION_CHANGED = 116  # the id stands for something else already
    INSTRUCTION_TOO_OLD = 117  # it may count already; nobody remembers
    UNKNOWN_OBLIGATION = 118  # it is settled, cancelled or somebody else's
    QUEUE_FULL = 119  # too many obligations wait: in all, of this agent or of this debtor


# An ENVELOPE line names its envelope: client_order_id is the nonce, counter_order_id and price are the first
# and second eight bytes of its digest (sign bits cleared). qty counts its RESULT or COMMAND lines, of
# which the first stands at `detail`, and fee those that are OK; all three are 0 if it was refused.
# A COMMAND line has amounts in qty and ids of new rows in detail; see the command's handler.
JOURNAL = np.dtype(
    [
        ("kind", "u1"),
        ("code", "u1"),
        ("side", "u1"),  # FILL: the taker's
        ("flags", "u1"),
        ("market", "<u2"),  # COMMAND about funds: the asset
        (
            "op",
            "<u2",
        ),  # RESULT: the operation's Op; FILL, CANCELLED: that of the operation behind it, 0: a rule;
        # ENVELOPE: its kind; COMMAND: its number
        ("account", "<u4"),  # FILL: the taker
        ("counter_account", "<u4"),  # FILL: the maker; CANCELLED: who caused it
        ("client_order_id", "<i8"),  # FILL: the taker's
        ("counter_order_id", "<i8"),  # FILL: the maker's; CANCELLED: that of the cause
        ("price", "<i8"),  # FILL: the maker's price, always
        ("qty", "<i8"),  # FILL: lots; CANCELLED: lots released; RESULT: lots filled at once, or lots
        # that CANCEL and REDUCE took off, or for CANCEL_ALL the number of orders it cancelled
        ("fee", "<i8"),  # FILL: taker's fee, in the asset the taker receives
        # FILL: maker's fee, in the asset the maker receives; negative: a rebate out of the taker's fee, in
        # the asset that the taker receives; RESULT: lots left open
        ("detail", "<i8"),
    ]
)
AUCTION_FILL = 1  # flags of a FILL at an auction's price: two resting orders met, and the buyer stands first
assert ORDER_OP.itemsize == 32 and JOURNAL.itemsize == 64

"""Rows of the hot tables, and `Core`, the bundle every compiled kernel gets.

A table is one array of fixed records with stable row ids; `dirty` holds one byte per page of
`PAGE_SIZE` bytes, and whoever writes a row marks its page. A record fits one cache line, so
a fill touches one line per order. Amounts are base units, prices ticks, quantities lots: int64.
Row references are int32, and NONE (−1) means no row. Nothing is unsigned that meets arithmetic
with signed numbers: numba would turn the pair into a float.
"""

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from consensus.primitives import trees

LAYOUT_VERSION = 4  # part of the state root; raise it when any row here changes
PAGE_SIZE = trees.PAGE_SIZE
NONE = -1
PLUGIN_TABLES_MAX = 48


class MarketKind(IntEnum):
    """What is traded."""

    SPOT = 0  # base against quote asset, settled at once
    PERPETUAL = 1  # positions in a linear contract, margined and settled in the quote asset


class PriceStatus(IntEnum):
    """How far a market's oracle prices may be relied on, best first."""

    VALID = 0
    STALE = 1
    UNCERTAIN = 2  # sources disagree
    VOLATILE = 3  # it moved more than it may in one step
    NONPOSITIVE = 4
    NONE = 5  # there is no oracle for this market


ACCOUNT = np.dtype(
    [
        ("first_order", "<i4"),  # head of the account's live orders, or NONE
        ("last_order", "<i4"),  # its tail, or NONE
        ("open_orders", "<i4"),
        ("open_orders_max", "<i4"),
        ("group", "<i4"),  # the account after which its owner's accounts are named; NONE: it stands alone
        ("rate_max", "<i4"),  # NEW and REPLACE operations a second; 0: any number
        ("rate_tokens", "<i8"),  # thousandths of an operation that may follow at once
        ("rate_ms", "<i8"),  # when they were counted last
        ("alarm", "<i4"),  # place of its deadline in ALARM, plus one; 0: none
        ("first_position", "<i4"),  # head of the account's positions, or NONE
        ("positions", "<i2"),  # how many
        ("margin_mode", "<i2"),  # MarginMode
        ("fee_tier", "<i4"),  # 0..FEE_TIERS - 1, by traded volume
        ("reserved", "u1", (8,)),
        ("owner", "u1", (32,)),  # root authority: Ed25519 public key
        ("grants", "<i8"),  # keys that ever held a grant on this account
        ("addon_bps", "<i4"),  # raises initial margin, as of `addon_ms`; see engine.margin.scores
        ("score_bps", "<i4"),  # where the last attested score wants it
        ("score_expiry", "<i8"),  # the height after which that score is stale; 0: never scored
        ("addon_ms", "<i8"),  # ledger time
    ]
)  # 128 bytes; row = account id. What the order path reads stands in the first 64.

ASSET = np.dtype(
    [
        ("name", "u1", (16,)),  # ASCII, padded with zero bytes
        ("decimals", "<i4"),
        ("issuer", "<i4"),  # the account whose ADMIN keys may deposit and withdraw, beside the venue's
        ("deposited", "<i8"),  # deposited - withdrawn is the supply; both are rebased long before
        ("withdrawn", "<i8"),  # they could overflow
        ("alarms", "<i4"),  # bits of AssetAlarm, set by breakers
        ("peg_haircut_ppm", "<i4"),  # collateral counts for so much less while it is DEPEGGED
        ("outflow_left", "<i8"),  # OUTFLOW_LIMITED: base units that may leave until breakers refill it
        ("reserved", "u1", (8,)),
    ]
)  # 64 bytes; row = asset id


class AssetAlarm(IntEnum):
    """Bits of ASSET.alarms."""

    DEPEGGED = 1  # off its anchor: less collateral, nothing new borrowed against it or of it
    OUTFLOW_LIMITED = 2  # `outflow_left` counts
    WITHDRAWALS_PAUSED = 4
    DEFICIT = 8  # positions settled in it lost more than their accounts had, and nobody has paid yet


BALANCE = np.dtype(
    [
        ("account", "<i4"),
        ("asset", "<i4"),
        ("available", "<i8"),
        ("held", "<i8"),  # by open orders
        ("reserved", "<i8"),
    ]
)  # 32 bytes; rows are never freed

MARKET = np.dtype(
    [
        ("name", "u1", (16,)),  # ASCII, padded with zero bytes
        ("base_asset", "<i4"),
        ("quote_asset", "<i4"),
        ("base_per_lot", "<i8"),  # base units in one lot
        ("quote_per_lot_tick", "<i8"),  # quote units of one lot at a price of one tick
        ("price_max", "<i8"),  # ticks; the ladder has price_max + 1 levels
        ("qty_max", "<i8"),  # lots
        ("notional_min", "<i8"),  # quote units
        ("maker_fee_e6", "<i8"),  # millionths of what the maker receives, rounded up
        ("taker_fee_e6", "<i8"),
        ("status", "<i4"),  # engine.markets.states.MarketStatus
        ("fee_base_row", "<i4"),  # balance rows of the venue's fee account
        ("fee_quote_row", "<i4"),
        ("open_orders", "<i4"),
        ("bid_start", "<i8"),  # first row of its bids in the level table
        ("ask_start", "<i8"),  # and of its asks
        ("best_bid", "<i8"),  # 0: none
        ("best_ask", "<i8"),  # price_max + 1: none
        ("last_price", "<i8"),  # of the last trade; 0: none yet
        ("kind", "<i4"),  # MarketKind
        ("price_status", "<i4"),  # of the oracle's prices: PriceStatus
        ("index_price", "<i8"),  # ticks, by the oracle; 0: unknown
        ("mark_price", "<i8"),  # ticks, what clearing values positions at; 0: unknown
        ("band_low", "<i8"),  # no trade happens below; 0: no bound
        ("band_high", "<i8"),  # nor above; 0: no bound
        ("collar_low", "<i8"),  # in this block no seller may ask for less,
        ("collar_high", "<i8"),  # and no buyer offer more
        ("collar_bps", "<i4"),  # how far from the reference price that is; 0: any price
        ("halt_reason", "<i4"),  # HaltReason; while there is one, only a breaker changes the status
        ("reopen_ms", "<i8"),  # while halted: when the call that reopens it begins; 0: nobody said
        ("grace_until_ms", "<i8"),  # clearing forces nobody out before this ledger time: margin was called
        ("liquidated", "<i8"),  # quote units liquidated in this block, for breakers, who take them away
        ("perpetual", "<i4"),  # PERPETUAL: row of its contract's terms
        ("fee_schedule", "<i4"),  # from 1: rates by fee tier instead of the two above; 0: none
        ("trade_low", "<i8"),  # of the trades that conditional orders have not seen; price_max + 1: none
        ("trade_high", "<i8"),  # 0: none
        ("reserved", "u1", (8,)),
    ]
)  # 256 bytes; row = market id


class HaltReason(IntEnum):
    """What stopped a market."""

    NONE = 0
    PRICE_MOVED = 1  # the consensus price left the band
    LIQUIDATIONS = 2  # too many in too short a time
    NO_PRICE = 3  # nothing can be traded at such a price
    SWITCHED_OFF = 4  # by a guardian, this market
    ALL_SWITCHED_OFF = 5  # by a guardian, every market
    SOLVENCY = 6  # somebody's books do not add up
    LIFTED = 7  # it was switched off, and waits for a price to reopen at


LEVEL = np.dtype(
    [
        ("head", "<i4"),  # oldest order
        ("tail", "<i4"),
        ("qty", "<i8"),  # open lots, shown and hidden
    ]
)  # 16 bytes; row = bid_start or ask_start + price. Row ids are stored plus one, so zero pages mean empty.

ORDER = np.dtype(
    [
        ("account", "<i4"),
        ("market", "<i2"),
        ("side", "i1"),
        ("flags", "i1"),  # bits of OrderFlag
        ("client_order_id", "<i8"),
        ("price", "<i8"),
        ("leaves", "<i8"),  # open lots that the book shows
        ("filled", "<i8"),
        ("prev", "<i4"),  # towards the head of the level; also links the free list
        ("next", "<i4"),
        ("prev_own", "<i4"),  # the account's live orders
        ("next_own", "<i4"),
        ("base_row", "<i4"),  # the account's balance rows; PERPETUAL: both are of the settlement asset
        ("quote_row", "<i4"),
    ]
)  # 64 bytes


class OrderFlag(IntEnum):
    """Bits of ORDER.flags."""

    LIVE = 1
    HAS_TERMS = 2  # the row of the same number in TERMS counts
    WAITING = 4  # for its trigger: it is on no price level, and its lots are all in `leaves`
    REDUCE_ONLY = 64  # PERPETUAL: trades only what makes its account's position smaller


TERMS = np.dtype(
    [
        ("hidden", "<i8"),  # open lots that the book does not show
        ("display", "<i8"),  # lots shown at a time; 0: all
        ("expiry_ms", "<i8"),  # ledger time from which it is off the book; 0: never
        ("alarm", "<i4"),  # place of its expiry in ALARM, plus one; 0: none
        ("reference", "i1"),  # engine.records.Reference of its trigger
        ("becomes", "u1"),  # flags of the NEW that it becomes when it is triggered
        ("reserved_pair", "u1", (2,)),
        ("trigger", "<i8"),  # ticks; 0: it waits for nothing
        ("reserved", "u1", (24,)),
    ]
)  # 64 bytes; row = row of its order. Stale where the order has no terms.

TRIGGER = np.dtype(
    [
        ("head", "<i4"),  # the order that waits longest
        ("tail", "<i4"),
    ]
)  # 8 bytes; see engine.matching.waiting for the row. Row ids are stored plus one, so zero pages mean empty.

ALARM = np.dtype(
    [
        ("time_ms", "<i8"),  # of the ledger
        ("who", "<i4"),  # an order row, or ~account
        ("reserved", "<i4"),
    ]
)  # 16 bytes; a binary heap, see engine.tables.alarms


class MarginMode(IntEnum):
    """How the positions of an account are margined together."""

    STANDARD = 0  # each market by itself
    PORTFOLIO = 1  # long and short of one underlying count against each other


class PositionFlag(IntEnum):
    """Bits of POSITION.flags."""

    LIVE = 1
    ISOLATED = 2  # backed by its own collateral alone


POSITION = np.dtype(
    [
        ("account", "<i4"),
        ("market", "<i4"),
        ("qty", "<i8"),  # lots; negative is short
        ("entry", "<i8"),  # quote units that the open lots were bought for; negative: sold for
        ("unsettled", "<i8"),  # quote units realised and not yet moved in cash; negative: owed
        ("funding_whole", "<i8"),  # the market's funding index when last charged
        ("funding_part", "<i4"),
        ("flags", "<i4"),  # bits of PositionFlag
        ("open_buy", "<i8"),  # lots of the account's resting orders that may add to the position
        ("open_sell", "<i8"),
        ("buy_notional", "<i8"),  # quote units of those lots at their own prices
        ("sell_notional", "<i8"),
        ("collateral", "<i8"),  # ISOLATED: quote units set aside for it
        ("quote_row", "<i4"),  # the account's balance row in the settlement asset
        ("prev_own", "<i4"),  # the account's positions; also links the free list
        ("next_own", "<i4"),
        ("reserved_word", "<i4"),
        ("cooldown_ms", "<i8"),  # ledger time before which no further part of it is liquidated
        ("reserved", "u1", (16,)),
    ]
)  # 128 bytes

PERPETUAL = np.dtype(
    [
        ("market", "<i4"),
        ("pool", "<i4"),  # row of its settlement asset's pool
        ("group", "<i4"),  # markets of one underlying share one; 0: none
        ("offset_ppm", "<i4"),  # PORTFOLIO: how much of what offsets within the group counts
        ("scan_ppm", "<i4"),  # price move that scenario margin covers
        ("collar_ppm", "<i4"),  # no order may be worse than the mark price by more
        ("tier_start", "<i4"),  # first row in the tier table
        ("tiers", "<i4"),
        ("position_max", "<i8"),  # lots of one account, open orders included
        ("open_interest_max", "<i8"),
        ("open_interest", "<i8"),  # lots that are long, so also lots that are short
        ("funding_interval_ms", "<i8"),
        ("funding_next_ms", "<i8"),  # ledger time
        ("premium_sum", "<i8"),  # ppm × ms since the last funding
        ("premium_ms", "<i8"),  # how long it was sampled
        ("sampled_ms", "<i8"),  # ledger time of the last sample
        ("funding_cap_ppm", "<i4"),  # of one interval
        ("funding_part", "<i4"),  # the index: millionths of a quote unit per lot, 0..10^6 − 1,
        ("funding_whole", "<i8"),  # and whole ones
        ("funding_net", "<i8"),  # quote units charged less paid, ever, and not yet the venue's
        ("funding_residue", "<i8"),  # millionths of a quote unit that rounding took, of those
        ("premium_ppm", "<i8"),  # the last sample
        ("reserved", "u1", (120,)),
    ]
)  # 256 bytes; row = MARKET.perpetual

TIERS_MAX = 8  # of one market

TIER = np.dtype(
    [
        ("notional_from", "<i8"),  # quote units; margin of the part of a position above it
        ("initial_base", "<i8"),  # quote units: margin of a position of `notional_from`
        ("maintenance_base", "<i8"),
        ("initial_ppm", "<i4"),
        ("maintenance_ppm", "<i4"),
    ]
)  # 32 bytes; row = PERPETUAL.tier_start + number

POOL = np.dtype(
    [
        ("asset", "<i4"),  # what positions are settled in
        ("balance_row", "<i4"),  # clearing's own balance: cash of PnL available, isolated collateral held
        ("fee_row", "<i4"),  # the venue's balance
        ("reserved_word", "<i4"),
        ("claims", "<i8"),  # quote units of profit realised and not yet paid out
        ("fees_due", "<i8"),  # what the venue has earned and not yet got
        ("reserved", "u1", (32,)),
    ]
)  # 64 bytes

COLLATERAL = np.dtype(
    [
        ("asset", "<i4"),
        ("pool", "<i4"),  # the one settlement asset that it backs
        ("market", "<i4"),  # spot market whose index price values it
        ("haircut_ppm", "<i4"),  # taken off its value
        ("cap", "<i8"),  # base units of one account that count
        ("reserved", "<i8"),
    ]
)  # 32 bytes

FEE_TIERS = 16
FEE_SCHEDULES = 64

FEE_RATE = np.dtype(
    [
        ("maker_fee_e6", "<i4"),  # negative: a rebate, millionths of what the taker receives, rounded down
        ("taker_fee_e6", "<i4"),
    ]
)  # 8 bytes; row = schedule × FEE_TIERS + tier. In a schedule no rebate is above any taker's fee.

KEY = np.dtype(
    [
        ("public_key", "u1", (32,)),  # Ed25519
        ("nonce_highest", "<i8"),
        ("envelopes", "<i8"),  # accepted, ever
        ("reserved", "u1", (16,)),
    ]
)  # 64 bytes; row = key id, never freed

NONCE_WINDOW = 1024  # how far behind the highest nonce a key may still use one

NONCES = np.dtype([("bits", "u1", (NONCE_WINDOW // 8,))])
# 128 bytes; row = key id. Bit n % NONCE_WINDOW says that nonce n was used. Apart from KEY, so that
# keys which never signed cost only zero pages.


class Scope(IntEnum):
    """What a grant lets a key do for an account; bits of GRANT.scopes."""

    TRADE = 1
    TRANSFER = 2
    ADMIN = 4  # grant and revoke keys; on the venue's account 0: list, fund, set rules
    GUARD = 8  # on the venue's account 0: trip breakers, cancel changes that wait
    REPORT = 16  # report prices, if the account is a reporter


SCOPES_ALL = 31

GRANT = np.dtype(
    [
        ("key", "<i4"),
        ("account", "<i4"),
        ("scopes", "<i8"),  # 0: revoked
        ("expiry_ms", "<i8"),  # the grant counts while block time < expiry_ms
        ("reserved", "<i8"),
    ]
)  # 32 bytes; one row per (key, account), never freed


class ValidatorStatus(IntEnum):
    """Where a validator stands. It votes while ACTIVE or LEAVING."""

    JOINING = 1  # from the next epoch on
    ACTIVE = 2
    LEAVING = 3  # until the present epoch's end
    REMOVED = 4


CERTIFICATE_BYTES_MAX = 1536
ADDRESS_BYTES_MAX = 192

_ENDPOINT: list[Any] = [  # how a validator is reached; all zero: as the network file says
    ("certificate_bytes", "<i4"),  # of `certificate` in use
    ("certificate", "u1", (CERTIFICATE_BYTES_MAX,)),  # X.509, DER, padded with zero bytes
    ("peer_address", "u1", (ADDRESS_BYTES_MAX,)),  # ASCII, padded with zero bytes
    ("client_address", "u1", (ADDRESS_BYTES_MAX,)),
]

VALIDATOR = np.dtype(
    [
        ("status", "<i4"),  # ValidatorStatus
        *_ENDPOINT,
        ("key", "<i4"),  # row of its present consensus key in VALIDATOR_KEY
        ("first_epoch", "<i8"),
        ("last_epoch", "<i8"),  # NONE: not known yet
        ("convictions", "<i8"),  # rows in EVIDENCE
        ("reserved", "u1", (92,)),
    ]
)  # 2048 bytes; row = validator id, never freed

VALIDATOR_KEY = np.dtype(
    [
        ("public_key", "u1", (32,)),  # Ed25519
        ("validator", "<i4"),
        ("reserved_word", "<i4"),
        ("first_epoch", "<i8"),  # it signs for its validator from here
        ("last_epoch", "<i8"),  # to here; NONE: not known yet
        ("reserved", "u1", (8,)),
    ]
)  # 64 bytes; one row per key that ever was a validator's


class ChangeKind(IntEnum):
    """What happens at the pending boundary."""

    NONE = 0
    ADD = 1
    REMOVE = 2
    REPLACE = 3
    ROTATE = 4
    MOVE = 5
    WEDGE = 6


CHANGE = np.dtype(
    [
        ("kind", "<i4"),  # ChangeKind; all else is zero while there is NONE
        *_ENDPOINT,  # MOVE: where the validator will be
        ("validator", "<i4"),  # who leaves or changes; of ADD, who joins
        ("newcomer", "<i4"),  # REPLACE: who joins
        ("key", "<i4"),  # ROTATE: row of the next key
        ("height", "<i8"),  # of the block that scheduled it
        ("boundary", "<i8"),  # the last block of the epoch that it ends
        ("reserved", "u1", (92,)),
    ]
)  # 2048 bytes; one row


class ExclusionRule(IntEnum):
    """What happens to a validator that evidence convicts."""

    MANUAL = 0  # it is shown as convicted
    AUTOMATIC = 1  # and its removal is scheduled, while four others remain


EVIDENCE = np.dtype(
    [
        ("validator", "<i4"),
        ("kind", "<i4"),  # index in consensus.evidence.KINDS
        ("epoch", "<i8"),
        ("view", "<i8"),
        ("seq", "<i8"),
        ("height", "<i8"),  # of the block that brought it
        ("first_digest", "u1", (32,)),
        ("first_signature", "u1", (64,)),
        ("second_digest", "u1", (32,)),
        ("second_signature", "u1", (64,)),
        ("reserved", "u1", (24,)),
    ]
)  # 256 bytes; one row per conviction, with all that proves it

COUNTERS = np.dtype(
    [
        ("height", "<i8"),
        ("time_ms", "<i8"),
        ("accounts", "<i8"),  # rows in use, per append-only table
        ("assets", "<i8"),
        ("balances", "<i8"),
        ("markets", "<i8"),
        ("levels", "<i8"),
        ("orders_used", "<i8"),  # high-water mark of the order table
        ("orders_free", "<i8"),  # head of its free list, or NONE
        ("orders_live", "<i8"),
        ("keys", "<i8"),
        ("grants", "<i8"),
        ("fills", "<i8"),  # ever
        ("journal_root", "u1", (32,)),  # chained, of the last block
        ("validators", "<i8"),
        ("validator_keys", "<i8"),
        ("evidence", "<i8"),
        ("epoch", "<i8"),  # of the next block
        ("epoch_first", "<i8"),  # its first block
        ("wedged_at", "<i8"),  # the block at which the ledger stopped last; 0: it never did
        ("exclusion_rule", "<i8"),  # ExclusionRule
        ("changes_waiting", "<i8"),  # in the timelock's queue
        ("halt_reason", "<i8"),  # HaltReason for which every market is halted
        ("solvency_alarms", "<i8"),  # ever raised; one more halts every market
        ("alarms", "<i8"),  # entries of the heap
        ("positions_used", "<i8"),  # high-water mark of the position table
        ("positions_free", "<i8"),  # its free list: row plus one, or 0
        ("perpetuals", "<i8"),
        ("tiers", "<i8"),
        ("pools", "<i8"),
        ("collaterals", "<i8"),
        ("sweep_next", "<i8"),  # the round of visits to all positions: the next row,
        ("sweep_end", "<i8"),  # and where it ends; equal: no round is under way
        ("addon_default_bps", "<i8"),  # margin add-on of accounts without a fresh score
        ("fee_rates", "<i8"),
        ("triggers", "<i8"),  # rows in use
        ("orders_waiting", "<i8"),  # for their triggers
        ("reserved", "u1", (320,)),
        ("plugin_rows", "<i8", (PLUGIN_TABLES_MAX,)),  # rows in use of each table that a plugin owns
    ]
)  # 1024 bytes; one row


def page_shift(dtype: np.dtype) -> int:
    """The s for which `row >> s` is the page that holds a row of `dtype`."""
    return (PAGE_SIZE // dtype.itemsize).bit_length() - 1


ACCOUNT_PAGE = page_shift(ACCOUNT)
BALANCE_PAGE = page_shift(BALANCE)
MARKET_PAGE = page_shift(MARKET)
LEVEL_PAGE = page_shift(LEVEL)
ORDER_PAGE = page_shift(ORDER)
TERMS_PAGE = page_shift(TERMS)
ALARM_PAGE = page_shift(ALARM)
POSITION_PAGE = page_shift(POSITION)
PERPETUAL_PAGE = page_shift(PERPETUAL)
POOL_PAGE = page_shift(POOL)
TRIGGER_PAGE = page_shift(TRIGGER)


class Rows(NamedTuple):
    """One table as kernels see it: records, and one dirty byte per page."""

    rows: np.ndarray
    dirty: np.ndarray


class Core(NamedTuple):
    """All tables of the compiled path. The five at the end are derived: they are rebuilt from the
    others after a restore and are not part of the state root.

    Order operations come with `keys`, one int32 each: the row of the key that signed it. A key may
    trade for an account if their grant has `Scope.TRADE` and `counters.time_ms < expiry_ms`.
    Before a call the caller reserves what the operations may need (`State.reserve_for_orders`). A
    kernel that still finds no free order row (`orders_used` at the table's length and the free list
    empty), or no room for a balance row, has reached the genesis limit and refuses with
    `LIMIT_REACHED`.
    """

    counters: Rows
    accounts: Rows
    assets: Rows
    balances: Rows
    markets: Rows
    levels: Rows
    orders: Rows
    terms: Rows
    triggers: Rows
    alarms: Rows
    grants: Rows
    positions: Rows
    perpetuals: Rows
    tiers: Rows
    pools: Rows
    collaterals: Rows
    fee_rates: Rows
    order_index: np.ndarray  # open addressing: (hash32 << 32) | (row + 1); power-of-two length, int64
    balance_index: np.ndarray  # the same for (account, asset)
    grant_index: np.ndarray  # the same for (key, account)
    position_index: np.ndarray  # the same for (account, market)
    ladder_bits: np.ndarray  # occupied levels, 64 a word; see matching
    trigger_bits: np.ndarray  # prices at which orders wait, the same way

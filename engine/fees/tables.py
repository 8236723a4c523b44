"""Rows of the fee plugin's tables, and its bounds. Rates by schedule and tier are a core table (`layout`)."""

from typing import NamedTuple

import numpy as np

from engine.genesis import Genesis
from engine.layout import FEE_TIERS, Rows, page_shift
from engine.tables.table import TableSpec

DAYS = 30  # of the window, today included
DAY_SLOTS = 32  # rows of an account in `fee_volumes`; DAYS of them in use
DAY_MS = 86_400_000
FILL_UNITS_MAX = 2**40  # that one trade can count for
DAY_UNITS_MAX = 2**50  # that one day can count for; DAYS of them fit 2^55
SWEEP_ROWS_MAX = 4096  # accounts that one block looks at after the day has changed
FEE_ASSETS_MAX = 16
REFERRAL_SHARE_E6_MAX = 500_000
DISCOUNT_E6_MAX = 900_000

FEE_ACCOUNT = np.dtype(
    [
        ("volume", "<i8"),  # units traded in the DAYS days up to `day`
        ("day", "<i4"),  # ledger day of the last trade that counted, or of the last sweep
        ("referrer", "<i4"),  # account plus one; 0: none
        ("fee_asset", "<i4"),  # row in `fee_assets` plus one; 0: fees are paid as they come
        ("reserved", "u1", (12,)),
    ]
)  # 32 bytes; row = account id

FEE_VOLUME = np.dtype([("units", "<i8")])  # row = account id × DAY_SLOTS + ledger day % DAYS

FEE_TIER = np.dtype([("volume_from", "<i8")])  # row = tier; 0 above tier 0: nobody is in it

FEE_MARKET = np.dtype([("quote_per_unit", "<i8")])  # quote units in one unit of volume; row = market id

FEE_ASSET = np.dtype(
    [
        ("market", "<i4"),  # spot market whose base asset this is, and whose index values it
        ("discount_e6", "<i4"),
    ]
)  # 8 bytes

FEE_SETTINGS = np.dtype(
    [
        ("referral_share_e6", "<i8"),
        ("day", "<i8"),  # ledger day of the present sweep
        ("sweep_next", "<i8"),  # the first account that it has not looked at
        ("choices", "<i8"),  # accounts that ever chose a fee asset or a referrer: 0 spares the work
        ("reserved", "u1", (32,)),
    ]
)  # 64 bytes; one row

FEE_ACCOUNT_PAGE = page_shift(FEE_ACCOUNT)
FEE_VOLUME_PAGE = page_shift(FEE_VOLUME)


class FeeTables(NamedTuple):
    """What the fee kernels see beside `Core`."""

    accounts: Rows
    volumes: Rows
    tiers: Rows
    markets: Rows
    assets: Rows
    settings: Rows


def make_specs(genesis: Genesis) -> tuple[TableSpec, ...]:
    """The fee plugin's tables under one genesis, in the order of FeeTables."""
    accounts = genesis.capacity.accounts
    return (
        TableSpec("fee_accounts", FEE_ACCOUNT, accounts),
        TableSpec("fee_volumes", FEE_VOLUME, min(accounts * DAY_SLOTS, 2**31 - 1)),
        TableSpec("fee_tiers", FEE_TIER, FEE_TIERS),
        TableSpec("fee_markets", FEE_MARKET, genesis.capacity.markets),
        TableSpec("fee_assets", FEE_ASSET, FEE_ASSETS_MAX),
        TableSpec("fee_settings", FEE_SETTINGS, 1),
    )

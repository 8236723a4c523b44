"""Where recorded market data lies, if it is there at all."""

from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
BITSTAMP = "bitstamp_btcusd_l3_20260502_orders.csv.gz"


def recording(name: str) -> Path:
    """Path of a recording; skips the test where there is none."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"recorded market data is absent: {path}")
    return path

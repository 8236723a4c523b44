"""Between what people write (exact decimals) and what the ledger counts (whole units).

A price is in quote per base, a quantity in base; both are exact or refused, never rounded.
"""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction

from node.client.errors import UnitError
from node.views import AssetView, MarketView

Number = int | str | Decimal  # no floats: 0.1 is not a tenth


@dataclass(frozen=True)
class Listing:
    """The assets and markets of a network."""

    assets: tuple[AssetView, ...]
    markets: tuple[MarketView, ...]

    def asset(self, name: str | int) -> AssetView:
        """An asset by name or id."""
        for item in self.assets:
            if name in (item.name, item.id):
                return item
        known = ", ".join(item.name for item in self.assets[:20]) or "none yet"
        raise UnitError(f"no asset {name!r}; listed: {known}")

    def market(self, name: str | int) -> MarketView:
        """A market by name or id."""
        for item in self.markets:
            if name in (item.name, item.id):
                return item
        known = ", ".join(item.name for item in self.markets[:20]) or "none yet"
        raise UnitError(f"no market {name!r}; listed: {known}")

    def ticks(self, market: MarketView, price: Number) -> int:
        """A price (quote per base) in ticks."""
        return _whole(read_number(price, "price"), self._tick(market), f"price {price}", "tick", market.name)

    def lots(self, market: MarketView, qty: Number) -> int:
        """A quantity (base) in lots."""
        return _whole(read_number(qty, "quantity"), self._lot(market), f"quantity {qty}", "lot", market.name)

    def price(self, market: MarketView, ticks: int) -> Decimal:
        """Ticks as a price."""
        return _decimal(ticks * self._tick(market))

    def qty(self, market: MarketView, lots: int) -> Decimal:
        """Lots as a quantity."""
        return _decimal(lots * self._lot(market))

    def _lot(self, market: MarketView) -> Fraction:
        """One lot, in whole base."""
        return Fraction(market.base_per_lot, 10 ** self.asset(market.base_asset).decimals)

    def _tick(self, market: MarketView) -> Fraction:
        """One tick, in whole quote per whole base."""
        per_lot = Fraction(market.quote_per_lot_tick, 10 ** self.asset(market.quote_asset).decimals)
        return per_lot / self._lot(market)


def base_units(asset: AssetView, amount: Number) -> int:
    """An amount in the asset's base units."""
    unit = Fraction(1, 10**asset.decimals)
    return _whole(read_number(amount, "amount"), unit, f"amount {amount}", "unit", asset.name)


def whole_amount(asset: AssetView, units: int) -> Decimal:
    """Base units as an amount."""
    return Decimal(units).scaleb(-asset.decimals)


def read_number(value: Number, what: str) -> Fraction:
    """An exact positive number. Floats are refused, since they are not what was typed."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        raise UnitError(f"{what} is {value!r}; write a string such as '0.1', a Decimal or an int")
    try:
        number = Fraction(Decimal(value))
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise UnitError(f"{what} is {value!r}; write a number such as '0.1'") from error
    if number <= 0:
        raise UnitError(f"{what} is {value}; it must be above 0")
    return number


def _whole(number: Fraction, unit: Fraction, what: str, unit_name: str, where: str) -> int:
    count = number / unit
    if count.denominator != 1:
        raise UnitError(f"{what} is not a multiple of the {unit_name} {_decimal(unit)} of {where}")
    return count.numerator


def _decimal(number: Fraction) -> Decimal:
    return Decimal(number.numerator) / Decimal(number.denominator)

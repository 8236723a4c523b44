"""Where a replay must wait, so that every way of cutting it into blocks gives the same fills.

Inside one block, cancels and reductions of orders that rest when the block starts run before
everything else. A replay that sends operations back to back cannot know where blocks begin, so such
a cancel may run before any earlier operation since the last fence. A fence in front of the
cancel forbids that, at the price of a round trip; so it is put only where the outcome would change:

1. the order was hit or replaced, or refused a second order of its id, since the last fence: cancelled
   early, it would not have been;
2. the order helped to refuse a post-only order since the last fence, and all others that refused it
   are being cancelled since then as well: cancelled early, they would have let it in;
3. an order id is used again since the last fence: the later cancel could meet the earlier order.

Everything else commutes: a cancel of an order that nobody met changes no fill and no refusal.
"""

from dataclasses import dataclass

from engine.records import Op, Side
from testnet.book_model import BookModel, Outcome, Resting


@dataclass(frozen=True)
class _Refusal:
    """A post-only order that was refused since the last fence."""

    side: Side
    price: int
    position: int


class FencePlanner:
    """Fed every operation in order, before and after it runs; collects fences.

    To see when a refused order loses the last of those that refused it, each refusal watches one of
    them that still rests, and looks for another only when that one is cancelled.
    """

    def __init__(self) -> None:
        self.fences: list[int] = []
        self._forget()

    def before(self, position: int, op: int, key: int, book: BookModel, removes: bool) -> None:
        """Decide whether the operation at `position` needs a fence.

        `book` is what the operation finds; `removes` says whether a cancel or reduction takes its order
        off that book.
        """
        resting = book.orders.get(key)
        if op == Op.NEW:
            if key in self._named:
                self._fence(position)
            if resting:
                self._touched.add(key)  # refused as a duplicate, unless the order were cancelled early
        elif op in (Op.CANCEL, Op.REDUCE) and (
            key in self._touched or (resting and removes and self._lets_refused_in(resting, book))
        ):
            self._fence(position)

    def after(self, position: int, op: int, key: int, side: Side, price: int, outcome: Outcome) -> None:
        """Note what the operation at `position` did. `price` is its own."""
        self._named.add(key)
        if op in (Op.NEW, Op.REPLACE) and outcome.accepted:
            self._entered[key] = position
        self._touched.update(maker for maker, _, _ in outcome.fills)
        if op == Op.REPLACE:
            self._touched.add(key)
        if outcome.refused_by is not None:
            self._watched.setdefault(outcome.refused_by, []).append(_Refusal(side, price, position))

    def _lets_refused_in(self, order: Resting, book: BookModel) -> bool:
        """Whether some refused order stands in nobody's way once `order` is gone as well."""
        for refusal in self._watched.pop(order.key, ()):
            witness = self._find_witness(refusal, book, order.key)
            if witness is None:
                return True
            self._watched.setdefault(witness, []).append(refusal)
        return False

    def _find_witness(self, refusal: _Refusal, book: BookModel, leaving: int) -> int | None:
        """Another order that refused it and still rests."""
        for order in book.crossing(refusal.side, refusal.price):
            if order.key != leaving and self._entered.get(order.key, -1) < refusal.position:
                return order.key
        return None

    def _fence(self, position: int) -> None:
        if position > 0:
            self.fences.append(position)
        self._forget()

    def _forget(self) -> None:
        self._named: set[int] = set()
        self._touched: set[int] = set()
        self._entered: dict[int, int] = {}  # since the last fence; those before it count as −1
        self._watched: dict[int, list[_Refusal]] = {}  # by the key of an order that refused them

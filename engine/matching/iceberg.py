"""Icebergs: an order that shows `display` lots at a time and keeps the rest hidden.

A slice that is filled is followed by the next one, behind everybody at its price. Whoever takes lots off
the order takes hidden ones first, so what is shown keeps its place. Funds are held for all of it.
"""

from engine.compiled import inlined, outlined
from engine.layout import NONE, ORDER_PAGE, TERMS_PAGE, Core, OrderFlag
from engine.matching.book import is_same_owner, show_again, shrink_level


@inlined
def open_lots(core: Core, row: int) -> int:
    """Open lots of an order, shown and hidden."""
    order = core.orders.rows[row]
    leaves = order.leaves
    if order["flags"] & OrderFlag.HAS_TERMS:
        leaves += core.terms.rows[row].hidden
    return leaves


@inlined
def hide(core: Core, row: int, display: int) -> None:
    """Show `display` lots of an order that has just come to rest, and hide the others; 0: show all."""
    order, terms = core.orders.rows[row], core.terms.rows[row]
    hidden = max(order.leaves - display, 0) if display > 0 else 0
    terms.display = display
    terms.hidden = hidden
    order.leaves -= hidden
    core.orders.dirty[row >> ORDER_PAGE] = 1


@outlined
def refill(core: Core, row: int) -> bool:
    """The shown lots are gone: show the next ones. False if none are left."""
    terms = core.terms.rows[row]
    qty = min(terms.hidden, terms.display)
    if qty == 0:
        return False
    terms.hidden -= qty
    core.terms.dirty[row >> TERMS_PAGE] = 1
    show_again(core, row, qty)
    return True


@outlined
def take_hidden(core: Core, row: int, qty: int) -> int:
    """Take up to `qty` hidden lots off an order; return how many there were."""
    terms = core.terms.rows[row]
    taken = min(qty, terms.hidden)
    terms.hidden -= taken
    core.terms.dirty[row >> TERMS_PAGE] = 1
    shrink_level(core, core.orders.rows[row], taken)
    return taken


@outlined
def count_hidden(core: Core, head: int, wanted: int, account: int, group: int) -> tuple[int, int]:
    """Hidden lots of others than `account` and its group on the level that begins at order `head`, and in how
    many meetings at most they would give `wanted` lots. Returns (meetings, lots)."""
    meetings, lots = 0, 0
    row = head
    while row != NONE:
        order = core.orders.rows[row]
        if order["flags"] & OrderFlag.HAS_TERMS and not is_same_owner(core, account, group, order.account):
            terms = core.terms.rows[row]
            if terms.hidden > 0:
                lots += terms.hidden
                meetings += (min(terms.hidden, wanted) + terms.display - 1) // terms.display
        row = order.next
    return meetings, lots

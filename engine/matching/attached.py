"""The terms that a live order keeps: written when it comes to rest or to wait, read when it is replaced."""

from typing import NamedTuple

from engine.compiled import inlined, outlined, widen
from engine.layout import TERMS_PAGE, Core, OrderFlag
from engine.matching.iceberg import hide
from engine.records import Code
from engine.tables.alarms import set_alarm


class Terms(NamedTuple):
    """What the TERMS of one order say; 0 where they say nothing."""

    code: int  # why they are refused, or OK
    terms: int  # how many there are
    display: int
    expiry_ms: int
    trigger: int  # ticks
    reference: int  # Reference of the trigger
    becomes: int  # flags of the NEW


@inlined
def no_terms(code: int) -> Terms:
    """A plain order's, or none because of `code`."""
    return Terms(code, 0, 0, 0, 0, 0, 0)


@outlined
def attach(core: Core, row: int, terms: Terms) -> None:
    """Give these terms to an order that has just come to rest."""
    hide(core, row, terms.display)
    write_terms(core, row, terms)


@outlined
def write_terms(core: Core, row: int, terms: Terms) -> None:
    """Write the terms of an order, all of whose lots are shown or hidden already, and set its alarm."""
    core.orders.rows[row]["flags"] |= OrderFlag.HAS_TERMS
    kept = core.terms.rows[row]
    kept.display = terms.display
    kept.expiry_ms = terms.expiry_ms
    kept.trigger = terms.trigger
    kept.reference = terms.reference
    kept.becomes = terms.becomes
    core.terms.dirty[row >> TERMS_PAGE] = 1
    if terms.expiry_ms > 0:
        set_alarm(core, row, terms.expiry_ms)


@inlined
def terms_of(core: Core, row: int) -> Terms:
    """The terms of a live order."""
    if core.orders.rows[row]["flags"] & OrderFlag.HAS_TERMS == 0:
        return no_terms(Code.OK.value)
    kept = core.terms.rows[row]
    return Terms(
        Code.OK.value,
        1,
        kept.display,
        kept.expiry_ms,
        kept.trigger,
        widen(kept.reference),
        widen(kept.becomes),
    )

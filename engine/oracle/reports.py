"""Reports of prices, and reporters who contradict themselves.

One report counts per reporter, feed and epoch. A second one that says something else is equivocation: it
proves itself, since both were signed. It is recorded once (a row, a line), and neither report counts in
that epoch. The reporter may report again in the next; whether it stays is for the venue to decide.
A report for an epoch that is over is refused as late, contradiction or not: its slot may hold another by now.
"""

from collections.abc import Sequence

import numpy as np

from engine.authority import has_scope
from engine.layout import NONE, Scope
from engine.oracle.aggregate import SCRATCH_LENGTH, take_report
from engine.oracle.commands import ReportPrice
from engine.oracle.feeds import find_slot, is_reporter
from engine.oracle.tables import EQUIVOCATIONS_PER_REPORTER_MAX
from engine.plugin import Context, Entry, Handler
from engine.records import Code, Kind, PriceLine
from engine.state import State

_REPORT = int(Scope.REPORT)


def validate_report_price(state: State, command: ReportPrice, context: Context) -> Code:
    """A reporter of this feed reports on the epoch that is open now, once."""
    reporter, feed, epoch, value, confidence = command
    feeds, reports = state.table("feeds").columns, state.table("reports").columns
    if feed >= state.used(state.table("feeds")):
        return Code.UNKNOWN_FEED
    if not is_reporter(state, reporter):
        return Code.UNKNOWN_REPORTER
    account = state.table("reporters").columns["account"].item(reporter)
    if not has_scope(state, context.key, account, _REPORT, context.time_ms):
        return Code.NOT_AUTHORISED
    row = find_slot(state, feed, reporter)
    if row == NONE:
        return Code.UNKNOWN_REPORTER
    now = context.time_ms // feeds["epoch_ms"].item(feed)
    if epoch != now:
        return Code.REPORT_LATE if epoch < now else Code.REPORT_EARLY
    if reports["excluded_epoch"].item(row) == epoch:
        return Code.REPORTER_EXCLUDED
    if reports["epoch"].item(row) == epoch:
        said = (reports["value"].item(row), reports["confidence"].item(row))
        return Code.REPORT_REPEATED if said == (value, confidence) else Code.OK
    # Complete, and closed early: who joined the feed since then begins with the next epoch.
    return Code.REPORT_LATE if feeds["closed_epoch"].item(feed) == epoch else Code.OK


def apply_report_price(state: State, command: ReportPrice, context: Context) -> Entry:
    """Count it, or record the contradiction."""
    reporter, feed, epoch, value, confidence = command
    feeds, reports, reporters = (state.table(name) for name in ("feeds", "reports", "reporters"))
    row = find_slot(state, feed, reporter)
    account = reporters.columns["account"].item(reporter)
    reporters.mark(reporter)
    if reports.columns["epoch"].item(row) == epoch:
        _record_equivocation(state, command, row, context)
        return Entry(subject=feed, account=account, qty=epoch, detail=reporter)
    reporters.columns["reports"][reporter] += 1
    scratch = np.zeros(SCRATCH_LENGTH, dtype=np.int64)
    take_report(feeds.view(), reports.view(), row, epoch, value, confidence, context.time_ms, scratch)
    return Entry(subject=feed, account=account, qty=epoch, detail=reporter)


def _record_equivocation(state: State, command: ReportPrice, row: int, context: Context) -> None:
    reporter, feed, epoch, value, confidence = command
    reports, reporters = state.table("reports"), state.table("reporters")
    reports.columns["excluded_epoch"][row] = epoch
    reports.mark(row)
    count = reporters.columns["equivocations"].item(reporter) + 1
    reporters.columns["equivocations"][reporter] = count
    first = (reports.columns["value"].item(row), reports.columns["confidence"].item(row))
    context.events.add(
        Kind.PRICE,
        op=PriceLine.EQUIVOCATION,
        market=feed,
        account=reporters.columns["account"].item(reporter),
        price=first[0],
        qty=value,
        detail=epoch,
    )
    table = state.table("equivocations")
    if count > EQUIVOCATIONS_PER_REPORTER_MAX or not state.has_room(table):
        return
    added = state.add_rows(table)
    names = ("reporter", "feed", "epoch", "height", "first_value", "first_confidence")
    values = (reporter, feed, epoch, context.height, *first, value, confidence)
    for name, number in zip((*names, "second_value", "second_confidence"), values, strict=True):
        table.columns[name][added] = number
    table.mark(added)


HANDLERS: Sequence[Handler] = (Handler(ReportPrice, validate_report_price, apply_report_price),)

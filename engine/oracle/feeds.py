"""Reporters, feeds, and who reports on what."""

from collections.abc import Sequence

import numpy as np

from engine.authority import is_venue
from engine.layout import NONE, PriceStatus
from engine.oracle.commands import AddFeed, AddReporter, RemoveReporter, SetFeed, SetFeedReporter
from engine.oracle.tables import REPORT, REPORTERS_PER_FEED_MAX
from engine.plugin import Context, Entry, Handler
from engine.records import Code
from engine.state import State, pack_name
from engine.timelock.queue import delay_of_rules


def find_slot(state: State, feed: int, reporter: int) -> int:
    """Row in `reports` of a reporter's slot on a feed, or NONE."""
    first = feed * REPORTERS_PER_FEED_MAX
    slots = state.table("reports").columns["reporter"][first : first + REPORTERS_PER_FEED_MAX]
    places = np.flatnonzero(slots == reporter + 1)
    return first + int(places[0]) if places.shape[0] else NONE


def validate_add_reporter(state: State, command: AddReporter, context: Context) -> Code:
    """The venue takes on reporters, an account once at a time."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    if command.account >= state.count["accounts"]:
        return Code.UNKNOWN_ACCOUNT
    table = state.table("reporters")
    columns = {name: column[: state.used(table)] for name, column in table.columns.items()}
    if np.any((columns["account"] == command.account) & (columns["is_active"] == 1)):
        return Code.NOTHING_TO_DO
    return Code.OK if state.has_room(table) else Code.LIMIT_REACHED


def apply_add_reporter(state: State, command: AddReporter, context: Context) -> Entry:
    """Append the reporter."""
    table = state.table("reporters")
    row = state.add_rows(table)
    table.columns["account"][row] = command.account
    table.columns["is_active"][row] = 1
    table.mark(row)
    return Entry(account=command.account, detail=row)


def validate_remove_reporter(state: State, command: RemoveReporter, context: Context) -> Code:
    """The venue lets reporters go."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    return Code.OK if is_reporter(state, command.reporter) else Code.UNKNOWN_REPORTER


def apply_remove_reporter(state: State, command: RemoveReporter, context: Context) -> Entry:
    """Free all its slots. What it said in epochs that are still open is forgotten."""
    table, reports = state.table("reporters"), state.table("reports")
    table.columns["is_active"][command.reporter] = 0
    table.mark(command.reporter)
    slots = reports.columns["reporter"][: state.used(reports)]
    for row in np.flatnonzero(slots == command.reporter + 1).tolist():
        _free_slot(state, row)
    return Entry(account=table.columns["account"].item(command.reporter), detail=command.reporter)


def validate_add_feed(state: State, command: AddFeed, context: Context) -> Code:
    """The venue adds feeds, each name once."""
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    table = state.table("feeds")
    if pack_name(command.name) in table.columns["name"][: state.used(table)].tolist():
        return Code.NAME_TAKEN
    if command.stale_ms < command.epoch_ms:
        return Code.BAD_ARGUMENT
    return Code.OK if state.has_room(table) else Code.LIMIT_REACHED


def apply_add_feed(state: State, command: AddFeed, context: Context) -> Entry:
    """Append the feed and its empty slots."""
    table = state.table("feeds")
    row = state.add_rows(table)
    state.add_rows(state.table("reports"), REPORTERS_PER_FEED_MAX)
    columns = table.columns
    columns["name"][row] = pack_name(command.name)
    columns["status"][row] = columns["told"][row] = PriceStatus.STALE
    for name in ("decimals", "epoch_ms", "stale_ms", "confidence_max_ppm", "step_max_ppm"):
        columns[name][row] = getattr(command, name)
    table.mark(row)
    return Entry(subject=row, detail=row)


def validate_set_feed(state: State, command: SetFeed, context: Context) -> Code:
    """The venue changes the rules of feeds."""
    code = _check_venue_and_feed(state, command.feed, context)
    if code:
        return code
    is_short = command.stale_ms < state.table("feeds").columns["epoch_ms"].item(command.feed)
    return Code.BAD_ARGUMENT if is_short else Code.OK


def apply_set_feed(state: State, command: SetFeed, context: Context) -> Entry:
    """From the next aggregate on."""
    table = state.table("feeds")
    for name in ("stale_ms", "confidence_max_ppm", "step_max_ppm"):
        table.columns[name][command.feed] = getattr(command, name)
    table.mark(command.feed)
    return Entry(subject=command.feed)


def validate_set_feed_reporter(state: State, command: SetFeedReporter, context: Context) -> Code:
    """The venue says who reports on what."""
    code = _check_venue_and_feed(state, command.feed, context)
    if code:
        return code
    if not is_reporter(state, command.reporter):
        return Code.UNKNOWN_REPORTER
    is_on = find_slot(state, command.feed, command.reporter) != NONE
    if is_on == command.is_on:
        return Code.NOTHING_TO_DO
    is_full = state.table("feeds").columns["reporters"].item(command.feed) == REPORTERS_PER_FEED_MAX
    return Code.LIMIT_REACHED if command.is_on and is_full else Code.OK


def apply_set_feed_reporter(state: State, command: SetFeedReporter, context: Context) -> Entry:
    """Take or free a slot."""
    feed, reporter, is_on = command
    if is_on:
        table, reports = state.table("feeds"), state.table("reports")
        row = find_slot(state, feed, NONE)  # a free one
        reports.columns["reporter"][row] = reporter + 1
        reports.mark(row)
        table.columns["reporters"][feed] += 1
        table.mark(feed)
    else:
        _free_slot(state, find_slot(state, feed, reporter))
    return Entry(subject=feed, qty=is_on, detail=reporter)


def is_reporter(state: State, reporter: int) -> bool:
    """Whether this is one, still."""
    table = state.table("reporters")
    return reporter < state.used(table) and table.columns["is_active"].item(reporter) == 1


def _free_slot(state: State, row: int) -> None:
    table, reports = state.table("feeds"), state.table("reports")
    feed = row // REPORTERS_PER_FEED_MAX
    if reports.columns["epoch"].item(row) == table.columns["epoch"].item(feed) > 0:
        table.columns["answers"][feed] -= 1
    reports.data[row] = np.zeros((), dtype=REPORT)
    reports.mark(row)
    table.columns["reporters"][feed] -= 1
    table.mark(feed)


def _check_venue_and_feed(state: State, feed: int, context: Context) -> Code:
    if not is_venue(state, context.key, context.time_ms):
        return Code.NOT_AUTHORISED
    return Code.OK if feed < state.used(state.table("feeds")) else Code.UNKNOWN_FEED


HANDLERS: Sequence[Handler] = (
    Handler(AddReporter, validate_add_reporter, apply_add_reporter),
    Handler(RemoveReporter, validate_remove_reporter, apply_remove_reporter, delay_of_rules),
    Handler(AddFeed, validate_add_feed, apply_add_feed),
    Handler(SetFeed, validate_set_feed, apply_set_feed, delay_of_rules),
    Handler(SetFeedReporter, validate_set_feed_reporter, apply_set_feed_reporter, delay_of_rules),
)

"""Laying out one block's journal: envelopes, results, commands, then fills and cancellations.

The compiled order loop writes its results and events straight into the journal's buffer, so that
a block of 64,000 orders is not copied once more.
"""

from typing import NamedTuple

import numpy as np

from engine.envelope import Envelope
from engine.journal import EnvelopeResult
from engine.layout import Core
from engine.matching.admit import FILLS_PER_ORDER_MAX
from engine.matching.kernels import execute_orders
from engine.matching.progress import PROGRESS_LENGTH, Progress
from engine.plugin import Outcome
from engine.records import JOURNAL, ORDER_OP, Code, Kind
from engine.tables.table import kernel_view

_COMMAND_FIELDS = ("code", "op", "market", "account", "counter_account", "qty", "detail")
_INT63 = 2**63 - 1


class Verdict(NamedTuple):
    """What became of one envelope, in listing order: a code, and how many lines it has from where on."""

    code: int
    first: int = 0  # among the block's operations or commands
    lines: int = 0


class Orders(NamedTuple):
    """The accepted order operations of a block, in listing order."""

    ops: np.ndarray  # (n,) ORDER_OP
    keys: np.ndarray  # (n,) int64: the key row that signed each


def gather_orders(payloads: list[memoryview], keys: list[int]) -> Orders:
    """One array out of each accepted envelope's payload and key row."""
    # Bytes are joined, not arrays: numpy compares struct types field by field for every array it joins.
    ops = np.frombuffer(bytearray().join(payloads), dtype=ORDER_OP)
    counts = [len(payload) // ORDER_OP.itemsize for payload in payloads]
    return Orders(ops, np.repeat(np.array(keys, dtype=np.int64), counts))


def execute_into_journal(
    core: Core,
    ops: np.ndarray,
    codes: np.ndarray,
    head_count: int,
    command_count: int,
    earlier: np.ndarray,
) -> np.ndarray:
    """Run the order loop. Returns the journal with its envelope and command lines still to be filled.

    Layout: `head_count` envelope lines, n results, `command_count` command lines, events: first the
    `earlier` ones, which commands caused.
    """
    count = ops.shape[0]
    commands_end = head_count + count + command_count
    fixed = commands_end + earlier.shape[0]
    if count == 0:
        journal = np.zeros(fixed, dtype=JOURNAL)
        journal[commands_end:] = earlier
        return journal
    progress = np.zeros(PROGRESS_LENGTH, dtype=np.int64)
    journal = np.empty(fixed + count + FILLS_PER_ORDER_MAX, dtype=JOURNAL)
    journal[commands_end:fixed] = earlier
    while not execute_orders(
        core,
        kernel_view(ops),
        codes,
        kernel_view(journal[head_count : head_count + count]),
        kernel_view(journal[fixed:]),
        progress,
    ):
        needed = fixed + int(progress[Progress.EVENTS]) + int(progress[Progress.EVENTS_NEEDED])
        longer = np.empty(max(2 * journal.shape[0], needed), dtype=JOURNAL)
        longer[: journal.shape[0]] = journal
        journal = longer
    return journal[: fixed + int(progress[Progress.EVENTS])]


def write_envelope_lines(
    journal: np.ndarray, envelopes: list[Envelope], verdicts: list[Verdict], first_lines: list[int]
) -> list[EnvelopeResult]:
    """Fill the envelope section. `first_lines` are journal indexes, 0 where there are no lines."""
    lines = journal[: len(envelopes)]
    lines.view(np.uint8)[:] = 0
    lines["kind"] = Kind.ENVELOPE
    lines["code"] = [verdict.code for verdict in verdicts]
    lines["op"] = [envelope.kind for envelope in envelopes]
    lines["account"] = [envelope.account for envelope in envelopes]
    lines["client_order_id"] = [envelope.nonce for envelope in envelopes]
    lines["counter_order_id"] = [_int63(envelope.digest[:8]) for envelope in envelopes]
    lines["price"] = [_int63(envelope.digest[8:16]) for envelope in envelopes]
    counts = np.array([verdict.lines for verdict in verdicts], dtype=np.int64)
    firsts = np.array(first_lines, dtype=np.int64)
    lines["qty"] = counts
    lines["detail"] = firsts
    accepted = np.concatenate(([0], np.cumsum(journal["code"] == Code.OK)))
    lines["fee"] = accepted[firsts + counts] - accepted[firsts]
    return [
        EnvelopeResult(envelope.digest, index, first, verdict.lines)
        for index, (envelope, verdict, first) in enumerate(zip(envelopes, verdicts, first_lines, strict=True))
    ]


def write_command_lines(lines: np.ndarray, outcomes: list[Outcome]) -> None:
    """Fill the command section (len(outcomes),)."""
    lines.view(np.uint8)[:] = 0
    if not outcomes:
        return
    lines["kind"] = Kind.COMMAND
    for name, column in zip(_COMMAND_FIELDS, zip(*outcomes, strict=True), strict=True):
        lines[name] = column


def _int63(data: bytes) -> int:
    return int.from_bytes(data, "little") & _INT63

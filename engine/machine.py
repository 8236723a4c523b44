"""The state machine: applies agreed blocks, one after the other.

    decode → commands (authorise, execute) → orders (authorise, one compiled call) → journal → roots

Commands come first and take effect at once, so a key that a block grants may trade in it. Equal
genesis and equal blocks give equal bytes, whoever checked signatures first and however often the
machine was stopped and restored in between.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol, Self

import numpy as np

from consensus.primitives.crypto import Ed25519Verifier, Verifier
from consensus.primitives.errors import ProtocolError, ensure
from consensus.primitives.merkle import compute_root
from consensus.primitives.trees import compute_journal_root
from consensus.proofs import Epoch, StateSummary
from engine import block, commands
from engine.accounts.envelopes import check_envelope
from engine.accounts.kernels import authorise_orders
from engine.accounts.keys import open_account
from engine.accounts.nonces import use_nonce
from engine.batch import decode_batch
from engine.block import Verdict
from engine.commands import EXPIRY_NEVER
from engine.conservation import ConservationCheck
from engine.envelope import Envelope, EnvelopeKind
from engine.events import Events
from engine.genesis import VENUE_ACCOUNT, Genesis
from engine.journal import BlockResult, Counts, EnvelopeResult, hash_chunks
from engine.layout import NONE, SCOPES_ALL
from engine.plugin import Context, Outcome, Registry
from engine.plugins import make_plugins, new_state
from engine.records import ORDER_OP, Code, Kind
from engine.state import State
from engine.tables.root import StateTree, compute_full_root, put_pages, snapshot, take_pages
from engine.tables.table import kernel_view
from engine.validators.boundary import next_boundary
from engine.validators.convictions import execute_evidence
from engine.validators.members import add_founders, current_epoch

Pages = list[tuple[int, int, bytes]]  # (table number, page number, PAGE_SIZE bytes)


class SignatureVerdicts(Protocol):
    """What worker threads found out about signatures, by envelope digest; None: nobody looked."""

    def get(self, envelope_digest: bytes, /) -> bool | None: ...


class Machine:
    """The replicated state and the rules that change it.

    `index_seed` (0..2^62 − 1) should be a secret of the process: it keeps clients from choosing ids
    that collide in its lookups, and changes no result.
    """

    def __init__(self, genesis: Genesis, verifier: Verifier | None = None, index_seed: int = 0) -> None:
        self._set_up(genesis, verifier, new_state(genesis, index_seed))
        # Admin keys are the owners of the venue's account: the first is its root key.
        open_account(self.state, genesis.admin_keys[0])
        for key in genesis.admin_keys[1:]:
            self.state.add_grant(self.state.add_key(key), VENUE_ACCOUNT, SCOPES_ALL, EXPIRY_NEVER)
        add_founders(self.state, genesis.epoch)
        self._tree = StateTree(self.state)
        self._conservation = ConservationCheck(self.state)

    @classmethod
    def restore(
        cls,
        genesis: Genesis,
        pages: Iterable[tuple[int, int, bytes]],
        expected_root: bytes | None = None,
        verifier: Verifier | None = None,
        index_seed: int = 0,
    ) -> Self:
        """The machine whose pages these are, each in its last version; `ProtocolError` on a wrong root."""
        machine = cls.__new__(cls)
        machine._set_up(genesis, verifier, new_state(genesis, index_seed))
        machine._tree = put_pages(machine.state, pages, expected_root)
        machine._conservation = ConservationCheck(machine.state)
        return machine

    def _set_up(self, genesis: Genesis, verifier: Verifier | None, state: State) -> None:
        self.genesis = genesis
        self.state = state
        self._verifier: Verifier = verifier or Ed25519Verifier()
        self._registry = Registry(make_plugins(genesis))
        self.order_loop = block.execute_into_journal  # `engine.explain` puts a slower one in its place

    @property
    def height(self) -> int:
        """Of the last block applied; 0 at genesis."""
        return self.state.count["height"]

    @property
    def time_ms(self) -> int:
        """Of the last block applied."""
        return self.state.count["time_ms"]

    @property
    def journal_root(self) -> bytes:
        """Chained root after the last block; zeros at genesis."""
        return self.state.counters.columns["journal_root"][0].tobytes()

    def apply(
        self,
        height: int,
        block_digest: bytes,
        time_ms: int,
        batches: Sequence[bytes],
        verdicts: SignatureVerdicts | None = None,
    ) -> BlockResult:
        """Execute the block after the last one. Raises `ProtocolError`, changing nothing, on a malformed
        batch: replicas vouch for a batch's form before they vote for it."""
        ensure(height == self.height + 1, f"block {height} cannot follow block {self.height}")
        envelopes = [envelope for batch in batches for envelope in decode_batch(batch)]
        return _Block(
            self, height, block_digest, time_ms, envelopes, {} if verdicts is None else verdicts
        ).execute()

    def state_root(self) -> bytes:
        """Root over all tables; hashes only pages that changed."""
        return self._tree.root()

    def table_roots(self) -> dict[str, bytes]:
        """Root of each table, in the order in which the state root covers them."""
        return self._tree.table_roots()

    def epoch(self) -> Epoch:
        """The validators for the next block."""
        return current_epoch(self.state)

    def boundary(self) -> int:
        """The block at which the pending change takes effect; 0: none is pending."""
        return next_boundary(self.state)

    def summary(self) -> StateSummary:
        """What a checkpoint says of the state. Hashes what changed."""
        parts = tuple(self.table_roots().values())
        return StateSummary(self.state_root(), parts, self.epoch().digest, next_boundary(self.state))

    def full_state_root(self) -> bytes:
        """The state root, computed from nothing but the pages."""
        return compute_full_root(self.state)

    def take_pages(self) -> Pages:
        """Pages changed since the last call, to be stored beside earlier ones."""
        return take_pages(self.state, self._tree)

    def snapshot(self) -> Pages:
        """Every page that was ever written: with genesis, the whole machine."""
        return snapshot(self.state, self._tree)

    def check_conservation(self) -> None:
        """Raise `InvariantViolation` unless every plugin's laws hold. Slow: exact, over all rows."""
        self._registry.check_invariants(self.state)


class _Block:
    """One block on its way through the machine."""

    def __init__(
        self,
        machine: Machine,
        height: int,
        block_digest: bytes,
        time_ms: int,
        envelopes: list[Envelope],
        verdicts: SignatureVerdicts,
    ) -> None:
        self._machine = machine
        self._state = machine.state
        self._height = height
        self._digest = block_digest
        self._time_ms = max(machine.time_ms, time_ms)
        self._envelopes = envelopes
        self._signatures = verdicts
        self._verdicts = [Verdict(Code.MALFORMED)] * len(envelopes)
        self._outcomes: list[Outcome] = []
        self._before, self._after = Events(), Events()  # lines of commands, and of the end of the block

    def execute(self) -> BlockResult:
        state, previous_root = self._state, self._machine.journal_root
        state.count["height"] = self._height
        state.count["time_ms"] = self._time_ms
        self._machine._registry.on_block_start(
            state, Context(NONE, self._time_ms, self._height, self._before)
        )
        self._run_commands()
        journal, op_count = self._run_orders()
        done = journal[len(self._envelopes) + op_count + len(self._outcomes) :]
        self._machine._registry.on_block_end(
            state, Context(NONE, self._time_ms, self._height, self._after, done)
        )
        self._machine._conservation.check()
        journal = self._after.append_to(journal)
        results = self._write_lines(journal, op_count)
        chunks = hash_chunks(journal)
        root = compute_journal_root(
            previous_root, self._height, self._digest, self._time_ms, journal.shape[0], compute_root(chunks)
        )
        state.counters.columns["journal_root"][0] = root
        counts = self._count(journal, op_count)
        return BlockResult(
            self._height, self._time_ms, self._digest, previous_root, journal, chunks, root, results, counts
        )

    def _admit(self, envelope: Envelope) -> Code:
        machine = self._machine
        verdict = self._signatures.get(envelope.digest)
        return check_envelope(
            self._state, envelope, machine.genesis.chain_id, self._time_ms, verdict, machine._verifier
        )

    def _run_commands(self) -> None:
        """Commands and evidence, in listing order; each sees what those before it did."""
        state, execute = self._state, self._machine._registry.execute
        for index, envelope in enumerate(self._envelopes):
            if envelope.kind == EnvelopeKind.EVIDENCE:
                self._run_evidence(index, envelope)
            if envelope.kind != EnvelopeKind.COMMANDS:
                continue
            code = self._admit(envelope)
            if code:
                self._verdicts[index] = Verdict(code)
                continue
            try:
                raw = commands.decode(envelope.payload)
            except ProtocolError:
                continue  # stays MALFORMED, and the nonce stays free
            key = state.key_rows[envelope.public_key]
            use_nonce(state, key, envelope.nonce)
            context = Context(key, self._time_ms, self._height, self._before)
            self._verdicts[index] = Verdict(Code.OK, len(self._outcomes), len(raw))
            self._outcomes += [execute(state, item, context) for item in raw]

    def _run_evidence(self, index: int, envelope: Envelope) -> None:
        machine, verdict = self._machine, self._signatures.get(envelope.digest)
        chain_id = machine.genesis.chain_id
        code, outcome = execute_evidence(self._state, envelope, chain_id, verdict, machine._verifier)
        if outcome is None:
            self._verdicts[index] = Verdict(code)
        else:
            self._verdicts[index] = Verdict(Code.OK, len(self._outcomes), 1)
            self._outcomes.append(outcome)

    def _run_orders(self) -> tuple[np.ndarray, int]:
        """Orders of all envelopes in one compiled call. Returns the journal and the number of operations."""
        state = self._state
        payloads: list[memoryview] = []
        keys: list[int] = []
        first = 0
        for index, envelope in enumerate(self._envelopes):
            if envelope.kind != EnvelopeKind.ORDERS:
                continue
            code = self._admit(envelope)
            if code:
                self._verdicts[index] = Verdict(code)
                continue
            key = state.key_rows[envelope.public_key]
            use_nonce(state, key, envelope.nonce)
            payloads.append(envelope.payload)
            keys.append(key)
            count = len(envelope.payload) // ORDER_OP.itemsize
            self._verdicts[index] = Verdict(Code.OK, first, count)
            first += count
        ops, key_rows = block.gather_orders(payloads, keys)
        codes = np.zeros(first, dtype=np.uint8)
        if first:
            state.reserve_for_orders(first)
            authorise_orders(state.core(), kernel_view(ops), key_rows, codes)
        journal = self._machine.order_loop(
            state.core(), ops, codes, len(self._envelopes), len(self._outcomes), self._before.lines
        )
        return journal, first

    def _write_lines(self, journal: np.ndarray, op_count: int) -> list[EnvelopeResult]:
        head = len(self._envelopes)
        command_start = head + op_count
        block.write_command_lines(
            journal[command_start : command_start + len(self._outcomes)], self._outcomes
        )
        starts = dict.fromkeys(EnvelopeKind, command_start) | {EnvelopeKind.ORDERS: head}
        first_lines = [
            starts[EnvelopeKind(envelope.kind)] + verdict.first if verdict.lines else 0
            for envelope, verdict in zip(self._envelopes, self._verdicts, strict=True)
        ]
        return block.write_envelope_lines(journal, self._envelopes, self._verdicts, first_lines)

    def _count(self, journal: np.ndarray, op_count: int) -> Counts:
        head, lines = len(self._envelopes), op_count + len(self._outcomes)
        codes = journal["code"]
        return Counts(
            envelopes=head,
            refused_envelopes=int(np.count_nonzero(codes[:head])),
            orders=op_count,
            commands=len(self._outcomes),
            fills=int(np.count_nonzero(journal["kind"][head + lines :] == Kind.FILL)),
            rejected=int(np.count_nonzero(codes[head : head + lines])),
        )

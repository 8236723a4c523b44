"""The registry: one handler a command, every plugin in its turn."""

import pytest

from consensus.primitives.errors import InvariantViolation
from engine.accounts.plugin import AccountsPlugin
from engine.commands import Deposit
from engine.events import Events
from engine.genesis import Capacity, Genesis
from engine.markets.plugin import MarketsPlugin
from engine.plugin import Context, Entry, Handler, Plugin, Registry
from engine.plugins import make_plugins
from engine.records import Code
from engine.state import State
from tests.helpers.venue import CHAIN_ID, signer


class Recorder(Plugin):
    """A plugin that notes when it is called."""

    def __init__(self, name, calls, code=Code.OK):
        self.name = name
        self.calls = calls
        self.handlers = (Handler(Deposit, lambda *_: code, self.apply),) if name == "handler" else ()

    def apply(self, state, command, context):
        self.calls.append(command)
        return Entry(subject=command.asset, account=command.account, qty=command.amount)

    def on_block_start(self, state, context):
        self.calls.append((self.name, "start"))

    def on_block_end(self, state, context):
        self.calls.append((self.name, context.height, context.time_ms))

    def check_invariants(self, state):
        self.calls.append(self.name)


@pytest.fixture(scope="module")
def state():
    return State(Capacity())


def test_two_plugins_may_not_handle_one_command():
    with pytest.raises(InvariantViolation, match="deposit"):
        Registry([AccountsPlugin(), Recorder("handler", [])])


def test_plugins_get_their_turn_in_registry_order(state):
    calls = []
    registry = Registry([Recorder("b", calls), Recorder("a", calls)])
    registry.on_block_start(state, Context(0, 99, 7, Events()))
    registry.on_block_end(state, Context(0, 99, 7, Events()))
    registry.check_invariants(state)
    assert calls == [("b", "start"), ("a", "start"), ("b", 7, 99), ("a", 7, 99), "b", "a"]


def test_a_validated_command_is_applied_and_its_entry_kept(state):
    calls = []
    registry = Registry([Recorder("handler", calls)])
    outcome = registry.execute(state, ["deposit", 1, 2, 3], Context(0, 0, 0, Events()))
    assert calls == [Deposit(1, 2, 3)]
    assert outcome == (Code.OK, 6, 2, 1, 0, 3, 0)


def test_a_refused_command_is_not_applied(state):
    calls = []
    registry = Registry([Recorder("handler", calls, Code.NOT_AUTHORISED)])
    assert registry.execute(state, ["deposit", 1, 2, 3], Context(0, 0, 0, Events()))[0] == Code.NOT_AUTHORISED
    assert registry.execute(state, ["deposit", 1, 2], Context(0, 0, 0, Events()))[0] == Code.BAD_ARGUMENT
    assert (
        registry.execute(state, ["withdraw", 1, 2, 3], Context(0, 0, 0, Events()))[0] == Code.UNKNOWN_COMMAND
    )
    assert calls == []


def test_the_rulebook_begins_with_accounts_and_markets_and_ends_with_validators():
    names = [plugin.name for plugin in make_plugins(Genesis(CHAIN_ID, (signer("admin").public_key,)))]
    assert (names[:2], names[-1]) == ([AccountsPlugin.name, MarketsPlugin.name], "validators")
    assert len(set(names)) == len(names)

"""Which plugins a ledger has: this package's own, and those of other packages that genesis names."""

import importlib

from consensus.primitives.errors import ConfigError
from engine.accounts.plugin import AccountsPlugin
from engine.auctions.plugin import AuctionsPlugin
from engine.breakers.plugin import BreakersPlugin
from engine.conditional.plugin import ConditionalPlugin
from engine.fees.plugin import FeesPlugin
from engine.genesis import Genesis
from engine.lifetimes.plugin import LifetimesPlugin
from engine.liquidation.plugin import LiquidationPlugin
from engine.markets.plugin import MarketsPlugin
from engine.oracle.plugin import OraclePlugin
from engine.perpetuals.plugin import PerpetualsPlugin
from engine.plugin import Plugin
from engine.settlement.plugin import SettlementPlugin
from engine.state import State
from engine.timelock.plugin import TimelockPlugin
from engine.validators.plugin import ValidatorsPlugin


def make_plugins(genesis: Genesis) -> tuple[Plugin, ...]:
    """The rulebook of a ledger, in registry order. `ConfigError` names a plugin that is not to be had."""
    own: tuple[Plugin, ...] = (
        AccountsPlugin(),
        MarketsPlugin(),
        TimelockPlugin(),
        OraclePlugin(genesis),
        BreakersPlugin(genesis),
        LifetimesPlugin(),
        AuctionsPlugin(genesis),
        ConditionalPlugin(),
        PerpetualsPlugin(),
        LiquidationPlugin(),
        FeesPlugin(genesis),
        SettlementPlugin(genesis),
        ValidatorsPlugin(genesis),
    )
    return own + tuple(_load(name, genesis) for name in genesis.plugins)


def new_state(genesis: Genesis, index_seed: int = 0) -> State:
    """An empty state with the tables of the core and of every plugin."""
    specs = [spec for plugin in make_plugins(genesis) for spec in plugin.tables]
    return State(genesis.capacity, index_seed, specs)


def _load(name: str, genesis: Genesis) -> Plugin:
    module, _, factory = name.partition(":")
    try:
        made: Plugin = getattr(importlib.import_module(module), factory)(genesis)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"plugin {name} is not to be had ({error}): install its package on this machine"
        ) from error
    return made
